"""What comes from outside is printed as it is: in a pipe, in a terminal, in every message."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

import numpy as np
from rich.console import Console
from typer.testing import CliRunner

from needle import data, train
from needle.cli import app as commands
from needle.cli import printing, training
from needle.cli.app import app
from needle.cli.progress import download_progress, training_progress
from needle.train import EpochResult

NASTY = (
    "[read_idx]", "my[bold]run", "[/x]", "a[/]b", "[red", "back\\[slash]", ":smile:",
    "[link=x]y[/link]", "{task.description}", "%s%n", "\x1b[31mred", "bell\x07", "\x9b1m",
    "\udcff", "\u202egnp.exe", "nul\x7f", "naïve \N{SNOWMAN}",
)  # fmt: skip


def shown(name: str) -> str:
    """How a message shows a name."""
    return printing.visible(name)


def needle(*arguments: str, **environment: str):
    return CliRunner().invoke(
        app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb", **environment}
    )


def plain(text: str) -> str:
    """Without the colours that needle itself prints."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(params=["pipe", "terminal"])
def screen(request, monkeypatch):
    """What `say` and the others have printed, in a pipe or in a terminal with colours."""
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=request.param == "terminal", width=80, legacy_windows=False,
        color_system="truecolor" if request.param == "terminal" else None,
    )  # fmt: skip
    monkeypatch.setattr(printing, "console", console)
    monkeypatch.setattr("needle.cli.progress.console", console)
    return lambda: plain(stream.getvalue())


def test_visible():
    assert printing.visible("a\tb\nc é\N{SNOWMAN} [x]") == "a\tb\nc é\N{SNOWMAN} [x]"
    assert printing.visible("\x1b[0m\x00\x9b\udcff\u202e\r") == (
        "\\x1b[0m\\x00\\x9b\\udcff\\u202e\\r"
    )
    assert printing.visible(Path("x")) == "x"
    assert printing.visible(3) == "3"


@pytest.mark.parametrize("name", NASTY)
def test_lines_and_tables(name, screen):
    printing.say(name, 3, style="red")
    printing.show_table([(name, name), (1, None)], ("head", "[b]"))
    printing.show_table([(Path(name), 2)])
    long = "x" * 200
    printing.show_table([(long, "a\nb", 1)])
    out = screen()
    assert f"{long}  a\\nb  1\n" in out, "nothing is cut off or broken"
    assert f"{shown(name)} 3\n" in out
    assert out.count(shown(name)) == 4


@pytest.mark.parametrize("name", NASTY)
def test_progress(name, screen):
    with download_progress() as report:
        report(name, 10, 100)
        report(name, 100, 100)
    with training_progress(2, 10, name) as report:
        report(0, EpochResult(0.5, 0.9, 1000.0))
    out = screen()
    assert shown(name) in out or "\x1b" in name  # the bars themselves steer the terminal


@pytest.mark.parametrize("name", NASTY)
def test_every_message_that_names_something(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    where = os.path.join(str(tmp_path), shown(name))
    done = needle("eval", str(path))
    assert (done.exit_code, shown(repr(str(path))) in done.output) == (1, True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"damaged")
    for command in (("eval",), ("generate",)):
        done = needle(*command, str(path))
        assert (done.exit_code, shown(repr(str(path))) in done.output) == (1, True)
    done = needle("train", "digits", "--out", str(path / "below"))  # below a file
    assert done.exit_code == 1
    assert shown(name) in done.output or repr(name)[1:-1] in done.output
    done = needle("train", "digits", "--model", name)
    assert (done.exit_code, shown(repr(name)) in done.output) == (1, True)
    path.unlink()
    done = needle("data", "verify", "mnist", "--data-dir", str(path))
    assert (done.exit_code, f"{where}/train-images" in done.output) == (1, True)
    for command in ("get", "verify"):
        done = needle("data", command, name)
        assert (done.exit_code, shown(repr(name)) in done.output) == (1, True)
    out = needle("data", "list", NEEDLE_DATA=str(path)).output
    assert f"{where}/mnist" in out
    out = needle("cache", "info", NEEDLE_CACHE=str(path)).output
    assert where in out
    assert needle("cache", "clear", NEEDLE_CACHE=str(path)).exit_code == 0
    limit = needle("cache", "info", NEEDLE_CACHE_LIMIT=name.replace("\x00", ""))
    assert (limit.exit_code, shown(repr(name)) in limit.output) == (1, True)


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError, FloatingPointError, ImportError])
def test_every_error(kind, name, monkeypatch):
    def fail(*arguments):
        raise kind(f"[read_idx] {name}")

    monkeypatch.setattr(commands, "train_recipe", fail)
    done = needle("train", "digits")
    assert done.exit_code == 1
    assert f"needle: [read_idx] {shown(name)}" in done.output


def test_memory_errors_and_closed_pipes(monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(commands, "train_recipe", fail)
    assert "needle: out of memory" in needle("train", "digits").output
    code = "from needle.cli import main; main()"
    done = subprocess.run(
        f"{sys.executable} -c '{code}' data list | true", shell=True, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [NASTY[0], NASTY[2], "\x1b[31m\udcff"])
def test_a_run_in_a_folder_of_any_name(name, tmp_path, monkeypatch):
    result = EpochResult(0.5, 0.9, 1000.0)
    history = train.History([result], [result], 1.0)
    monkeypatch.setattr(training, "fit", lambda *_: (history, np.eye(10, dtype=int)))
    out = needle("train", "digits", "--epochs", "1", "--out", str(tmp_path / name)).output
    assert f"checkpoint: {tmp_path}/{shown(name)}/digits.safetensors\n" in out
    assert f"picture:    {tmp_path}/{shown(name)}/digits.png\n" in out
    out = needle("eval", str(tmp_path / name / "digits.safetensors")).output
    assert f"{tmp_path}/{shown(name)}/digits.safetensors: accuracy" in out


def test_an_out_folder_that_cannot_be_used_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("it trained"))
    (tmp_path / "digits.png").mkdir()
    done = needle("train", "digits", "--out", str(tmp_path))
    assert (done.exit_code, "digits.png" in done.output) == (1, True)
    assert not list(tmp_path.glob("*.part"))


def test_text_of_a_model_is_exact_in_a_pipe(tmp_path):
    tokenizer = data.CharTokenizer.from_text("[/]\t\x1b\r\n")
    options = {"vocabulary": len(tokenizer), "length": 8, "width": 8, "num_layers": 1,
               "num_heads": 1}  # fmt: skip
    np.random.seed(0)
    model = train.build_model("gpt", options)
    path, recipe = tmp_path / "m.safetensors", train.RECIPES["shakespeare"]
    train.save_model(path, recipe, "gpt", options, model, tokenizer.state(), {})
    run = [sys.executable, "-m", "needle", "generate", str(path), "--seed", "1", "--length", "60"]
    out = subprocess.run([*run, "--prompt", "[/]\t"], capture_output=True, check=True).stdout
    assert out.startswith(b"[/]\t")
    assert len(out) == 4 + 60 + 1
    assert set(out) <= set(b"[/]\t\x1b\r\n")
    if os.name != "nt":
        assert b"\x1b" not in in_a_terminal(*run)


def test_eval_on_other_text(tmp_path):
    (tmp_path / "input.txt").write_text("abcdefgh" * 400)
    tokenizer = data.CharTokenizer.from_text("ABCDEFGH")
    options = {"vocabulary": 8, "length": 128, "width": 8, "num_layers": 1, "num_heads": 1}
    model = train.build_model("gpt", options)
    path = tmp_path / "m"
    train.save_model(
        path, train.RECIPES["shakespeare"], "gpt", options, model, tokenizer.state(), {}
    )
    done = needle("eval", str(path), "--data-dir", str(tmp_path))
    assert (done.exit_code, "other data" in done.output) == (1, True)


def in_a_terminal(*command: str, **environment: str) -> bytes:
    """What a command writes to a pseudo-terminal."""
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(follower)
    out = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # how Linux says that nobody writes any more
            chunk = b""
        if not chunk:
            break
        out += chunk
    os.close(leader)
    process.wait()
    return out


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_in_a_terminal(tmp_path):
    name = "/[/x]my[bold]run\x1b[2J"
    out = in_a_terminal(sys.executable, "-m", "needle", "eval", f"{tmp_path}{name}").decode()
    assert "\x1b[31mneedle:" in out
    assert "[/x]my[bold]run\\x1b[2J" in plain(out).replace("\r\n", "").replace("\\\\", "\\")
    assert "\x1b[2J" not in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_of_any_encoding(encoding):
    for command in (["data", "list"], ["data", "get", "\udcff[/x]é"]):
        done = subprocess.run(
            [sys.executable, "-m", "needle", *command], capture_output=True, check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        assert done.returncode == (command[-1] == "\udcff[/x]é")


def test_all_printing_goes_through_one_file():
    folder = Path(commands.__file__).parent
    for file in folder.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if file.name == "printing.py":
            continue
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"print", "Console", "Table", "TextColumn", "rprint"}, file
        assert not attributes & {"print", "echo", "secho", "log"}, file
