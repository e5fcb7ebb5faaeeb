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

from rich.console import Console
from typer import Exit
from typer.testing import CliRunner

from needle.cli import app as commands
from needle.cli import printing
from needle.cli import train as train_command
from needle.cli.app import app
from needle.cli.errors import one_line_errors
from needle.cli.progress import download_progress

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
    out = screen()
    assert shown(name) in out or "\x1b" in name  # the bars themselves steer the terminal


@pytest.mark.parametrize("name", NASTY)
def test_every_message_that_names_something(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    where = os.path.join(str(tmp_path), shown(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"damaged")
    done = needle("generate", str(path))
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
    def fail(*arguments, **options):
        raise kind(f"[read_idx] {name}")

    monkeypatch.setattr(train_command, "resolve", fail)
    done = needle("train", "digits")
    assert done.exit_code == 1
    assert f"needle: [read_idx] {shown(name)}" in done.output


def test_a_missing_library_is_named_with_its_extra(capsys):
    with pytest.raises(Exit), one_line_errors():
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
    assert "No module named 'PIL'; run: pip install 'needle-dl[images]'" in capsys.readouterr().err


def test_memory_errors_and_closed_pipes(monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(train_command, "resolve", fail)
    assert "needle: out of memory" in needle("train", "digits").output
    code = "from needle.cli import main; main()"
    done = subprocess.run(
        f"{sys.executable} -c '{code}' data list | true", shell=True, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [NASTY[0], NASTY[2], "\x1b[31m\udcff"])
def test_a_run_in_a_folder_of_any_name(name, tmp_path):
    done = needle("train", "digits", "--steps", "1", "--eager", "--no-picture", "--out",
                  str(tmp_path / name))  # fmt: skip
    assert f"run: {tmp_path}/{shown(name)}/digits\n" in done.output
    assert f"needle eval {tmp_path}/{shown(name)}/digits" in done.output


def test_an_out_folder_that_cannot_be_used_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "make_trainer", lambda *_: pytest.fail("it trained"))
    (tmp_path / "runs").write_text("a file")
    done = needle("train", "digits", "--out", str(tmp_path / "runs"))
    assert done.exit_code != 0
    assert "runs" in done.output


def test_text_of_a_model_is_exact_in_a_pipe(tmp_path):
    (tmp_path / "text").write_bytes(b"[/]\t\x1b\r\n" * 100)
    done = needle(
        "train", "text", str(tmp_path / "text"), "--steps", "1", "--eager", "--no-picture", "--out",
        str(tmp_path), "--set", "data.length=8", "--set", "model.width=8", "--set",
        "model.num_layers=1", "--set", "model.num_heads=1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    run = [sys.executable, "-m", "needle", "generate", str(tmp_path / "text-2"), "--seed", "1",
           "--length", "60"]  # fmt: skip
    out = subprocess.run([*run, "--prompt", "[/]\t"], capture_output=True, check=True).stdout
    assert out.startswith(b"[/]\t")
    assert len(out) == 4 + 60 + 1
    assert set(out) <= set(b"[/]\t\x1b\r\n")
    if os.name != "nt":
        assert b"\x1b" not in in_a_terminal(*run)


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
    out = in_a_terminal(sys.executable, "-m", "needle", "generate", f"{tmp_path}{name}").decode()
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
