"""What is read of a run's folder, whole or damaged."""

from __future__ import annotations

import numpy as np
import pytest
from run_folders import TITLE, hold_lock, make_run

from needle.train import RunFolder
from needle.train.records import find_runs, read_record


def test_a_whole_run(tmp_path):
    run = read_record(make_run(tmp_path))
    assert (run.name, run.state, run.title, run.problems) == ("digits", "finished", TITLE, [])
    assert run.metrics() == ["accuracy"]
    steps, losses = run.curve("validation", "loss")
    assert steps.tolist() == [20, 40, 60, 80, 100]
    assert run.last("loss") == losses[-1]
    assert run.best() == ("validation/loss", losses.min(), 20 + 20 * losses.argmin())
    assert run.confusion.matrix.shape == (10, 10)


def test_a_running_run_without_its_lock_was_killed(tmp_path):
    folder = make_run(tmp_path, state="running")
    with hold_lock(folder):
        assert read_record(folder).state == "running"
    assert read_record(folder).state == "killed"
    (folder / "run.lock").unlink()
    assert read_record(folder).state == "killed"


BROKEN_LINES = [
    b"{", b"null", b"[]", b'{"step": "a", "split": "train"}', b'{"step": 1}', b"\xff\xfe",
    b'{"step": NaN, "split": "train"}', b"[" * 100_000,
    b'{"step": 1' + b"0" * 400 + b', "split": "train"}',
]  # fmt: skip


def test_lines_that_are_no_rows_are_left_out_and_counted(tmp_path):
    folder = make_run(tmp_path)
    whole = (folder / "metrics.jsonl").read_bytes()
    middle = whole.index(b"\n", len(whole) // 2) + 1
    broken = b"".join(line + b"\n" for line in BROKEN_LINES)
    (folder / "metrics.jsonl").write_bytes(
        whole[:middle] + broken + whole[middle:] + b'{"step": 104, "split": "tr'
    )
    run = read_record(folder)
    assert len(run.rows) == whole.count(b"\n")
    assert run.problems == [
        f"metrics.jsonl: lines that are no rows and are left out: {len(BROKEN_LINES)}"
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("status.json", b"{", "status.json cannot be read"),
        ("status.json", b"[1]", "status.json cannot be read"),
        ("config.toml", b"= =", "config.toml cannot be read"),
        ("config.toml", b"\xff", "config.toml cannot be read"),
        ("config.toml", b"[run]\nformat = 9", "config.toml has format 9"),
        ("confusion.json", b'{"matrix": [[1, 2]]}', "no square matrix"),
        ("confusion.json", b'{"matrix": {"a": 1}}', "no square matrix"),
        ("confusion.json", b"[]", "no square matrix"),
        ("confusion.json", b'{"matrix": [[1e300]]}', "no square matrix"),
        ("confusion.json", b'{"matrix": [[1' + b"0" * 400 + b"]]}", "no square matrix"),
        ("confusion.json", b'{"matrix": [[-1]]}', "no square matrix"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, problem):
    folder = make_run(tmp_path)
    (folder / name).write_bytes(content)
    assert any(problem in p for p in read_record(folder).problems)


def test_values_of_other_types(tmp_path):
    folder = make_run(tmp_path)
    (folder / "status.json").write_text('{"state": 7, "best": {"metric": 1, "value": "x"}}')
    (folder / "confusion.json").write_text('{"classes": ["a"], "matrix": [[1, 0], [0, 1]]}')

    (folder / "config.toml").write_text("run = 3\n[data]\ntitle = 5")
    run = read_record(folder)
    assert (run.state, run.title, run.best()[0]) == ("new", "digits", "validation/loss")
    assert run.confusion.classes == ("0", "1")


@pytest.mark.parametrize("value", ["1e999", "NaN", "1" + "0" * 400, "-1", "null", "true", "[]"])
def test_no_number_in_the_status_stops_what_looks_at_it(tmp_path, value):
    pytest.importorskip("typer")
    from needle.cli import facts

    folder = make_run(tmp_path)
    keys = ("step", "steps", "seconds", "updated", "epoch")
    numbers = ", ".join(f'"{key}": {value}' for key in keys)
    best = f'{{"metric": "validation/loss", "value": {value}, "step": {value}}}'
    (folder / "status.json").write_text(f'{{"state": "finished", {numbers}, "best": {best}}}')
    run = read_record(folder)
    for word in (facts.steps(run), facts.best(run), facts.ago(run.progress("updated")),
                 facts.duration(run.progress("seconds"))):  # fmt: skip
        assert 0 < len(word) < 40


def test_nan_is_kept_and_is_never_the_best(tmp_path):
    run = read_record(make_run(tmp_path, bad=(4,)))
    assert np.isnan(run.last("loss"))
    assert run.best()[2] == 80
    assert read_record(make_run(tmp_path, "all", bad=(0, 1, 2, 3, 4))).best() is None


def test_runs_in_a_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match="needle train"):
        find_runs(tmp_path / "nowhere")
    assert find_runs(tmp_path) == []
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    (tmp_path / "other").mkdir()
    assert sorted(find_runs(tmp_path)) == [a, b]
    assert find_runs(a) == [a]
    with pytest.raises(FileNotFoundError, match="is no run"):
        read_record(tmp_path / "other")


def test_what_is_new_is_read_on(tmp_path):
    folder = make_run(tmp_path)
    metrics, run = folder / "metrics.jsonl", read_record(folder)
    count = len(run.rows)
    with open(metrics, "a") as file:
        file.write('{"step": 104, "split": "train", "loss": 0.5, "new": 3}\n{"step": 108, "spl')
    run = run.updated()
    assert (len(run.rows), run.curve("train", "loss")[1][-1]) == (count + 1, 0.5)
    assert [c.tolist() for c in run.curve("train", "new")] == [[104], [3]]
    with open(metrics, "a") as file:
        file.write('it": "train", "loss": null}\n')
    run = run.updated()
    assert (len(run.rows), run.problems) == (count + 2, [])
    assert np.isnan(run.curve("train", "loss")[1][-1])
    # A resumed run takes its rows back to the checkpoint's step and goes on from there.
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:10]) + '{"step": 50, "split": "train", "loss": 1}\n' * 40)
    assert len(run.updated().rows) == 50
    metrics.unlink()
    assert len(run.updated().rows) == 0


def test_the_end_alone_is_read_where_that_is_enough(tmp_path):
    folder = make_run(tmp_path)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    last = len(b"".join(lines[-3:])) + 5  # in the middle of a line
    run = read_record(folder, last)
    assert (len(run.rows), run.rows.broken, run.progress("step")) == (3, 0, 100)
    RunFolder(folder).append({"step": 104, "split": "train", "loss": 0.5})
    assert len(run.updated().rows) == 4
    assert len(read_record(folder, 10**6).rows) == len(lines) + 1
