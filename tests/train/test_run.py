"""The folder of a run: fresh names, one trainer at a time, measurements and status for readers."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from needle.train import RunFolder, RunInUse
from needle.train import run as run_module
from needle.train.toml import dumps


def test_names_are_fresh_also_when_several_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunFolder.create("digits", tmp_path), range(20)))
    assert {run.name for run in runs} == {"digits", *(f"digits-{i}" for i in range(2, 21))}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_name_is_that_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name must be the name of a folder"):
        RunFolder.create(name, tmp_path)


def test_a_second_process_gets_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LOCK_SECONDS", 0.1)
    run = RunFolder.create("digits", tmp_path)
    code = (
        "import sys; from needle.train import RunFolder\n"
        "with RunFolder(sys.argv[1]).locked(): print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        run.write_status({"state": "running"})
        assert run.state() == "running"
        with (
            pytest.raises(RunInUse, match=f"process {holder.pid} on .* is training in"),
            run.locked(),
        ):
            pass
        holder.kill()
        holder.wait()
        assert run.state() == "killed"
        with run.locked():
            assert run.is_locked()
        assert not run.is_locked()
    finally:
        holder.kill()
        holder.communicate()


def test_the_lock_ends_with_its_block_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    run = RunFolder.create("digits", tmp_path)
    context = multiprocessing.get_context("fork")
    event = context.Event()
    with run.locked():
        child = context.Process(target=event.wait, args=(30,))
        child.start()
    try:
        assert not run.is_locked()
    finally:
        event.set()
        child.join()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    run = RunFolder.create("digits", tmp_path)
    run.checkpoints.mkdir()
    parts = [run.path / "status.json.part", run.checkpoints / "step-3.safetensors.0a1b2c3d.part"]
    for part in parts:
        part.write_bytes(b"half")
    with run.locked():
        assert not any(part.exists() for part in parts)


def test_rows_come_back_and_an_unfinished_line_is_left_out(tmp_path: Path) -> None:
    run = RunFolder.create("digits", tmp_path)
    run.append({"step": 1, "loss": 0.1 + 0.2})
    run.append({"step": 2, "loss": math.nan})
    with open(run.metrics, "a") as file:
        file.write('{"step": 3, "lo')
    run.write_status({"state": "finished", "row": {"loss": math.inf}})
    rows = run.rows()
    assert rows == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None}]
    assert run.state() == "finished"
    assert run.status()["row"] == {"loss": None}
    run.keep_rows(rows[:1])
    assert run.rows() == rows[:1]


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[run\n")
    with pytest.raises(ValueError, match=r"config\.toml"):
        RunFolder(tmp_path).config()


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.checkpoint_files() == []
    run.checkpoints.mkdir()
    for step in (100, 20, 3):
        run.checkpoint(step).touch()
    (run.checkpoints / "step-4.safetensors.12345678.part").touch()
    assert [p.name for p in run.checkpoint_files()] == [
        "step-3.safetensors", "step-20.safetensors", "step-100.safetensors"
    ]  # fmt: skip


def test_settings_are_toml_that_python_reads(tmp_path: Path) -> None:
    config = {
        "run": {"name": 'a "quoted" näme\n\x7f\\ 😀', "seed": 3, "resumed": False},
        "model": {"widths": [1, 2], "p": 1e-5, "big": float("inf"), "options": {"a b": "c"}},
        "empty": {},
    }
    assert tomllib.loads(dumps(config)) == config
    run = RunFolder(tmp_path)
    run.write_config({**config, "absent": None})
    assert run.config() == config
    with pytest.raises(TypeError, match=r"model\.act is a function, which TOML cannot hold"):
        dumps({"model": {"act": print.__class__ and dumps}})
