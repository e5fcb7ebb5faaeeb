"""`needle train` as a user meets it: what it prints, what it leaves, how it goes on."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest

pytest.importorskip("typer")

from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from needle.cli import printing, training_progress
from needle.cli.app import app
from needle.cli.durations import seconds_of
from needle.train import RunFolder, read_checkpoint

FAST = ("--eager", "--no-picture")


def needle(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder is a new one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_has_everything_in_its_folder(here):
    pytest.importorskip("matplotlib")
    done = needle("train", "digits", "--epochs", "2", "--eager")
    assert done.exit_code == 0, done.output
    for words in ("1,438 training and 359 validation images", "epoch 2/2  step 28/28", "lr ",
                  "images/s", "MiB", "needle eval runs/digits", "best: accuracy"):  # fmt: skip
        assert words in done.output
    run = here / "runs" / "digits"
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["training"]["epochs"] == 2
    assert config["run"]["name"] == "digits"
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    again = needle("train", "--config", str(run / "config.toml"), *FAST)
    assert "run: runs/digits-2" in again.output
    losses = [re.findall(r"validation  loss (\S+)", out.output) for out in (done, again)]
    assert losses[0] == losses[1], "the seed and the settings make the run"


def test_going_on(here):
    first = needle("train", "digits", "--epochs", "2", *FAST)
    assert first.exit_code == 0, first.output
    for arguments in (["--resume"], ["digits", "--resume"], ["--resume", "digits"],
                      ["--resume", "runs/digits", "--epochs", "2"]):  # fmt: skip
        done = needle("train", *arguments, *FAST)
        assert (done.exit_code, "is complete" in done.output) == (0, True), done.output
    done = needle("train", "--resume", "--epochs", "3", *FAST)
    assert "goes on at step 28" in done.output
    assert "epoch 3/3  step 42/42" in done.output
    done = needle("train", "--resume", "--steps", "45", *FAST)
    assert "step 45/45" in done.output, done.output
    assert not (here / "runs" / "digits-2").exists()
    done = needle("train", "--resume", "--lr", "0.5", "--set", "model.hidden_dim=3")
    assert (done.exit_code, "keeps model.hidden_dim, training.lr" in done.output) == (1, True)


def test_a_run_that_never_saved_begins_again(here):
    assert needle("train", "digits", "--steps", "2", *FAST).exit_code == 0
    run = here / "runs" / "digits"
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    done = needle("train", "--resume", *FAST)
    assert (done.exit_code, "step 2/2" in done.output) == (0, True), done.output
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_a_run_that_is_still_training(here, monkeypatch):
    assert needle("train", "digits", "--steps", "2", *FAST).exit_code == 0
    monkeypatch.setattr("needle.train.run.LOCK_SECONDS", 0.1)
    with RunFolder("runs/digits").locked():
        done = needle("train", "--resume", "--steps", "3", *FAST)
    assert (done.exit_code, "is training in" in done.output) == (1, True), done.output


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(here, number):
    options = ["--epochs", "5000", "--eager"] + ["--no-picture"] * (number == signal.SIGTERM)
    command = [sys.executable, "-m", "needle", "train", "digits", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = here / "runs" / "digits" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "")
    assert (here / "runs" / "digits" / "report.png").exists() == (number == signal.SIGINT)
    step = re.search(r"stopped at step ([\d,]+) of 70,000; go on with: needle train --resume "
                     r"runs/digits\n$", out)  # fmt: skip
    assert step, out
    assert read_checkpoint(here / "runs" / "digits")["progress"]["step"] == int(
        step[1].replace(",", "")
    )


def test_lines_of_json(here):
    done = needle("train", "digits", "--epochs", "1", "--json", *FAST)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == ["start", "row", "row", "end"]
    assert events[0]["config"]["training"]["epochs"] == 1
    assert events[2]["split"] == "validation"
    assert events[3]["run"] == "runs/digits"
    assert 0 <= events[3]["accuracy"] <= 1


def test_quiet(here):
    done = needle("train", "digits", "--steps", "1", "-q", *FAST)
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("extra", [[], ["--eager"]])
def test_a_dry_run_trains_nothing(here, extra):
    done = needle("train", "digits", "--dry-run", *extra)
    assert done.exit_code == 0, done.output
    for words in ("[training]", "lr = 0.01", "BatchNorm1d", "38,860", "420 (14 an epoch)",
                  "the whole training"):  # fmt: skip
        assert words in done.output
    assert ("GFLOP" in done.output) == (not extra)
    assert not (here / "runs").exists()


def test_a_table_and_settings_from_a_file(here):
    rows = "\n".join(f"{i},{'ab'[i % 2]}" for i in range(60))
    (here / "t.csv").write_text(f"x,kind\n{rows}\n")
    (here / "c.toml").write_text(
        '[run]\ntask = "csv"\n[data]\npaths = ["t.csv"]\n[training]\nsteps = 3\nbatch_size = 8\n'
    )
    done = needle("train", "--config", "c.toml", "--target", "kind", "--steps", "2", *FAST)
    assert done.exit_code == 0, done.output
    assert "tabular on kind of t.csv" in done.output
    assert "step 2/2" in done.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400),
     ("1d", 86400)],
)  # fmt: skip
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


class Shown:
    """What a Bar needs of a trainer."""

    class progress:
        step, epoch, seconds = 123_456, 12, 4000.0

    total_steps, total_epochs, compiled = 1_234_567, 120, True

    def epochs_done(self):
        return 12.3


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_fits(width, monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, legacy_windows=False)
    monkeypatch.setattr(printing, "console", console)
    bar = training_progress.Bar("characters")
    trainer = Shown()
    bar._trainer, bar._doing = trainer, "compiling…"
    row = {"step": 1, "epoch": 0.1, "seconds": 1.0, "split": "train", "loss": 1.23456,
           "accuracy": 0.987654, "perplexity": 4.5678, "lr": 0.00098765,
           "samples_per_second": 123456.7, "memory": 2**31}  # fmt: skip

    def shown():
        stream.seek(0)
        stream.truncate()
        console.print(bar)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())

    assert "compiling…" in shown()
    bar._doing = ""
    bar.note(trainer, row)
    bar._marks.appendleft((time.monotonic() - 10, 123_400))
    text = shown()
    assert max(map(cell_len, text.splitlines())) <= width
    assert len(text.splitlines()) == 2
    for words in ("123,456/1,234,567", "epoch 13/120", "loss 1.2346", "accuracy 98.77 %", "10 %"):
        assert words in text
    if width >= 80:
        assert "ETA" in text
        assert "123.5k characters/s" in text
    if width == 120:
        for words in ("lr 0.00099", "2,048 MiB"):
            assert words in text


@pytest.mark.parametrize("shown", [[], ["--json"]])
def test_a_training_outlives_its_readers(here, shown):
    """`needle train … | head -1`: nobody reads any more, and the run comes to its end."""
    command = [
        sys.executable,
        "-m",
        "needle.cli",
        "train",
        "digits",
        "--epochs",
        "3",
        *FAST,
        *shown,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert (process.returncode, said) == (0, "")
    status = json.loads((here / "runs" / "digits" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 42)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {}['x']", "KeyError: 'x' (own_models.py, line 2)"),
        ("syntax error", "SyntaxError: invalid syntax (own_models.py, line 2)"),
        ("import needle.nn as nn; return nn.Linear(64, 10)", "[linear]"),
        ("import needle.nn as nn; return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
         "must have the shape (359, 10), a score for each class, got (359, 7)"),
    ],
)  # fmt: skip
def test_mistakes_in_a_model_are_told_before_there_is_a_run(here, monkeypatch, body, words):
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    monkeypatch.syspath_prepend(str(here))
    (here / "own_models.py").write_text(f"def net(num_classes):\n    {body}\n")
    done = needle("train", "digits", "--model", "own_models:net", *FAST)
    assert (done.exit_code, words in done.output) == (1, True), done.output
    assert len(done.output.splitlines()) == 1
    assert not list((here / "runs").glob("*"))


def test_few_data_get_smaller_batches(here):
    rows = "\n".join(f"{i},{2 * i}" for i in range(50))
    (here / "few.csv").write_text(f"a,b\n{rows}\n")
    done = needle("train", "csv", "few.csv", "--target", "b", "--epochs", "1", *FAST)
    assert (done.exit_code, "step 5/5" in done.output) == (0, True), done.output
    done = needle("train", "csv", "few.csv", "--target", "b", "--batch-size", "64", *FAST)
    assert (done.exit_code, "give a smaller --batch-size" in done.output) == (1, True)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="has no pseudo-terminals")
def test_a_closed_terminal_ends_a_run_that_can_go_on(here):
    """SIGHUP comes, and nothing can be written any more."""
    terminal, side = os.openpty()
    command = [sys.executable, "-m", "needle.cli", "train", "digits", "--epochs", "9999", *FAST]
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(side)
    shown = b""
    while shown.count(b"validation loss") < 1:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (129, b"")
    status = json.loads((here / "runs" / "digits" / "status.json").read_text())
    assert status["state"] == "interrupted"
