"""`needle runs`, `needle plot` and `needle watch`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from run_folders import hold_lock, make_run

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from rich.console import Console
from typer.testing import CliRunner

from needle.cli.app import app
from needle.cli.braille import chart
from needle.cli.facts import ago, duration
from needle.cli.watch import frame
from needle.train import RunFolder
from needle.train.records import read_record


def needle(*arguments: object):
    return CliRunner().invoke(
        app, list(map(str, arguments)), env={"COLUMNS": "120", "TERM": "dumb"}
    )


def test_runs_are_listed_with_their_states(tmp_path):
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", state="running")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "metrics.jsonl").write_text("not a row\n")
    done = needle("runs", tmp_path)
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert done.exit_code == 0
    assert lines["name"].split() == ["name", "state", "step", "loss", "best", "when", "time"]
    assert lines["a"].split()[1:4] == ["finished", "100/100", "0.1495"]
    assert "1 min ago  0:05" in lines["a"]
    assert "killed" in lines["b"]
    assert lines["c"].split()[1] == "new"
    assert "c: metrics.jsonl: lines that are no rows and are left out: 1" in done.output
    assert "needle train" in needle("runs", tmp_path / "a" / "checkpoints").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs", "nowhere"], "there is no folder 'nowhere'"),
        (["plot", "nowhere"], "'nowhere' is no run"),
        (["watch", "nowhere"], "'nowhere' is no run"),
        (["watch"], "there is no run in 'runs'"),
        (["dashboard", "nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = needle(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert done.output.count("\n") == 1


def test_runs_are_compared_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs"), "a")
    make_run(Path("runs"), "text", metric="perplexity", classes=None)
    done = needle("plot", "a", "runs/text", "--x", "seconds", "--out", "c.png")
    assert done.exit_code == 0, done.output
    header, a, text, wrote = done.output.splitlines()
    assert header.split() == [
        "name",
        "state",
        "step",
        "loss",
        "accuracy",
        "perplexity",
        "best",
        "time",
    ]
    assert a.split()[4:6] == ["0.9377", "–"]
    assert text.split()[4:6] == ["–", "1.161"]
    assert wrote == "wrote c.png"
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    assert "the newest runs are" in needle("plot", "b").output


def test_a_taken_port_is_one_line(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = needle("dashboard", tmp_path, "--port", taken.getsockname()[1])
    assert done.exit_code == 1
    assert "is taken; choose another with --port" in done.output


def test_watch_tells_what_is_new_and_ends_with_the_run(tmp_path):
    folder = make_run(tmp_path, state="running")
    run, status = RunFolder(folder), RunFolder(folder).status()

    def train():
        for step in (101, 102):
            time.sleep(0.15)
            run.append({"step": step, "split": "train", "loss": 0.5})
            run.write_status(status | {"state": "running", "step": step})
        time.sleep(0.15)
        run.write_status(status | {"state": "finished", "step": 103})

    with hold_lock(folder):
        thread = threading.Thread(target=train)
        thread.start()
        done = needle("watch", folder, "--every", "0.05")
        thread.join()
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["digits: running"] * 3 + [
        "digits: finished"
    ]
    assert "step 102/100" in lines[2]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 12)])
@pytest.mark.parametrize("kind", ["usual", "empty", "NaN", "long name"])
def test_frames_of_watch_fit_the_terminal(tmp_path, size, kind):
    name = "a" * 200 if kind == "long name" else "digits"
    folder = make_run(tmp_path, name, bad=(0, 1, 2, 3, 4) if kind == "NaN" else ())
    if kind == "empty":
        (folder / "metrics.jsonl").unlink()
    console = Console(width=size[0], height=size[1], record=True)
    with console.capture() as shown:
        console.print(frame(read_record(folder), size[0], size[1] - 1))
    lines = shown.get().splitlines()
    assert len(lines) < size[1]
    assert max(map(len, lines)) <= size[0]
    assert ("no values yet" in shown.get()) == (kind in ("empty", "NaN"))


def test_charts_follow_their_values():
    x = np.arange(5.0)
    lines = chart([(x, np.array([1.0, 2, 3, 4, 5]), "red")], "loss", 30, 10).plain.splitlines()
    assert len(lines) == 10
    assert lines[1].split("│")[0].strip() == "5"
    drawn = [line.partition("│")[2] for line in lines[1:-2]]
    firsts = [len(line) - len(line.lstrip()) for line in drawn]
    assert firsts == sorted(firsts, reverse=True)  # a straight line upwards
    log = chart([(x, 10.0**x, "red")], "loss", 30, 10).plain.splitlines()
    assert log[4].split("│")[0].strip() == "100"
    one = chart([(x[:1], x[:1], "red"), (x, x * np.nan, "blue")], "loss", 30, 10).plain
    assert sum(c > "\u2800" for c in one) == 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal is needed")
def test_ctrl_c_ends_watch_without_a_word(tmp_path):
    folder = make_run(tmp_path, state="running")
    terminal, other = os.openpty()
    with hold_lock(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "needle", "watch", str(folder), "--every", "0.05"],
            stdin=other, stdout=other, stderr=other, env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
        os.close(other)
        shown = b""
        while b"(step)" not in shown:
            shown += os.read(terminal, 65536)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        assert process.wait(10) == 0
    os.close(terminal)
    assert b"Traceback" not in shown
    assert b"Aborted" not in shown


def test_times_in_words():
    assert [duration(s) for s in (None, 7, 754.9, 3723, float("nan"))] == [
        "–", "0:07", "12:34", "1:02:03", "–"
    ]  # fmt: skip
    now = time.time()
    assert [ago(now - s) for s in (-5, 5, 300, 7300)] == [
        "0 s ago",
        "5 s ago",
        "5 min ago",
        "2 h ago",
    ]
    assert ago(now - 10 * 86400).startswith("20")
