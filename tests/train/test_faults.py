"""What goes wrong in long runs: signals, disks, damaged files, another model."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.train import (
    Callback,
    Checkpoint,
    CheckpointWarning,
    Interrupted,
    RunFolder,
    Terminated,
    Trainer,
    callbacks,
    checkpoints,
    find_checkpoint,
    read_checkpoint,
)
from needle.train import run as run_module
from needle.train.metrics import Confusion

BATCHES = [(ndl.tensor([[1.0, 2.0]]), ndl.tensor([[1.0]]))] * 4


class At(Callback):
    """Does something at a step."""

    def __init__(self, step: int, do: Callable[[], object]) -> None:
        self.step, self.do = step, do

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            self.do()


def trainer(run: Any = None, width: int = 2, **options: Any) -> Trainer:
    model = nn.Linear(width, 1)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    return Trainer(model, optimizer, nn.MSELoss(), run=run, compiled=False, **options)


def finish_writing(mine: Trainer) -> None:
    next(c for c in mine.callbacks if isinstance(c, Checkpoint)).finish(mine)


def kill(name: str) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [("SIGINT", Interrupted, 130), ("SIGTERM", Terminated, 143), ("SIGHUP", Terminated, 129)],
)
def test_a_signal_ends_the_step_and_saves(
    tmp_path: Path, name: str, error: type[Any], code: int
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mine = trainer(tmp_path / "run", callbacks=[At(6, kill(name))])
    with pytest.raises(error, match=r"stopped at step 6; go on with resume\('.*run'\)") as caught:
        mine.fit(BATCHES, epochs=9)
    assert caught.value.code == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert read_checkpoint(tmp_path / "run")["progress"]["step"] == 6
    status = RunFolder(tmp_path / "run").status()
    assert (status["state"], status["message"]) == ("interrupted", f"{name} at step 6")


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        kill("SIGINT")()
        kill("SIGINT")()
        raise AssertionError("it went on")

    mine = trainer(tmp_path / "run", callbacks=[At(6, twice)])
    with pytest.raises(KeyboardInterrupt) as caught:
        mine.fit(BATCHES, epochs=9)
    assert not isinstance(caught.value, Interrupted)
    assert RunFolder(tmp_path / "run").state() == "interrupted"


def test_sigusr1_saves_and_goes_on(tmp_path: Path) -> None:
    saved: list[str] = []

    class Saved(Callback):
        def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
            saved.append(path.name)

    never = Checkpoint(every_seconds=None, every_epochs=None)
    mine = trainer(tmp_path / "run", callbacks=[At(6, kill("SIGUSR1")), Saved(), never])
    mine.fit(BATCHES, epochs=9)
    assert saved == ["step-6.safetensors", "step-36.safetensors"]


def test_other_threads_train_without_signals() -> None:
    mine = trainer()
    thread = threading.Thread(target=lambda: mine.fit(BATCHES, epochs=2))
    thread.start()
    thread.join(30)
    assert mine.progress.step == 8


def test_the_newest_few_and_the_best_are_kept(tmp_path: Path) -> None:
    mine = trainer(tmp_path / "run", callbacks=[Checkpoint(keep=2)])
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    mine.evaluate = lambda batches: {"loss": next(losses)}  # type: ignore[method-assign]
    mine.fit(BATCHES, BATCHES, epochs=5)
    run = RunFolder(tmp_path / "run")
    steps = [path.name for path in run.checkpoint_files()]
    assert steps == ["step-8.safetensors", "step-16.safetensors", "step-20.safetensors"]
    assert os.readlink(run.last) == "checkpoints/step-20.safetensors"
    assert os.readlink(run.best) == "checkpoints/step-8.safetensors"
    assert run.status()["best"] == {"metric": "validation/loss", "value": 1.0, "step": 8}


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    for name in ("run", "run-2"):
        mine = trainer(tmp_path / "run")
        mine.fit(BATCHES, epochs=1)
        assert mine.run is not None
        assert mine.run.name == name
    with pytest.raises(ValueError, match="holds a run already"):
        trainer(RunFolder(tmp_path / "run")).fit(BATCHES, epochs=2)


def test_two_trainers_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LOCK_SECONDS", 0.05)
    run = RunFolder.create("run", tmp_path)
    other = trainer(run)

    def second() -> None:
        with pytest.raises(ndl.train.RunInUse, match="is training in"):
            other.fit(BATCHES, epochs=1)

    trainer(run, callbacks=[At(2, second)]).fit(BATCHES, epochs=1)


# ---- disks --------------------------------------------------------------------------------------


def failing(error: int) -> Callable[..., None]:
    def fsync(file: int) -> None:
        raise OSError(error, os.strerror(error))

    return fsync


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_disk_is_a_warning_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    run = tmp_path / "run"
    saving = Checkpoint()

    def fill() -> None:
        saving.finish(mine)
        monkeypatch.setattr(os, "fsync", failing(error))

    mine = trainer(run, callbacks=[At(5, fill), saving])
    with pytest.warns(CheckpointWarning, match=rf"{os.strerror(error)}.*training goes on") as told:
        mine.fit(BATCHES, epochs=4)
    assert mine.progress.epoch == 4
    assert all("\n" not in str(w.message) for w in told)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-4.safetensors"]
    assert find_checkpoint(run).name == "step-4.safetensors"


def test_a_run_that_was_complete_in_an_epoch_is_made_longer(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit(BATCHES, steps=6)
    for steps in (6, 9):  # the first one trains nothing, and saves again
        mine = trainer()
        mine.resume(tmp_path / "run")
        mine.fit(BATCHES, steps=steps)
    assert (mine.progress.step, mine.progress.batch) == (9, 1)


def test_training_does_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, is_fast, was_fast = os.fsync, threading.Event(), set()

    def slow(file: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            was_fast.add(is_fast.wait(5))
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    mine = trainer(tmp_path / "run", callbacks=[At(30, is_fast.set), Checkpoint(best=None)])
    mine.fit(BATCHES, epochs=10)
    assert was_fast == {True}
    files = [path.name for path in RunFolder(tmp_path / "run").checkpoint_files()]
    assert files == ["step-32.safetensors", "step-36.safetensors", "step-40.safetensors"]


def test_what_could_not_be_written_is_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    saving = Checkpoint(best="train/loss", keep=1)

    def fill() -> None:
        saving.finish(mine)
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))

    def free() -> None:  # and from now on the loss grows
        saving.finish(mine)
        monkeypatch.undo()
        mine.optimizer.lr = 100.0

    ndl.manual_seed(0)
    mine = trainer(run.path, callbacks=[At(5, fill), At(9, free), saving])
    with pytest.warns(CheckpointWarning):
        mine.fit(BATCHES, epochs=5)
    losses = {row["step"]: row["loss"] for row in mine.history.train}
    assert min(losses, key=lambda step: losses[step]) == 8
    assert saving.step == 4
    assert run.best.resolve() == run.checkpoint(4)
    assert [path.name for path in run.checkpoint_files()] == [
        "step-4.safetensors", "step-20.safetensors"
    ]  # fmt: skip


def test_on_error_stop_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = At(5, lambda: monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC)))
    mine = trainer(tmp_path / "run", callbacks=[fill, Checkpoint(on_error="stop")])
    with pytest.raises(OSError, match="No space left"):
        mine.fit(BATCHES, epochs=9)
    assert 8 <= mine.progress.step < 36


def test_a_folder_that_vanished_is_made_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    mine = trainer(run, callbacks=[At(6, lambda: run.rename(tmp_path / "gone"))], log_every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        mine.fit(BATCHES, epochs=4)
    assert RunFolder(run).rows() == mine.history.rows
    assert RunFolder(run).config()["run"]["name"] == "run"
    assert read_checkpoint(run)["progress"]["step"] == 16


def test_a_file_in_the_folders_place_is_a_warning(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def replace() -> None:
        finish_writing(mine)
        run.rename(tmp_path / "gone")
        run.write_text("in the way")

    mine = trainer(run, callbacks=[At(6, replace)], log_every=1)
    with pytest.warns(CheckpointWarning, match="training goes on"):
        mine.fit(BATCHES, epochs=2)
    assert mine.progress.step == 8


@pytest.mark.parametrize("comes_back", [True, False])
def test_files_for_looking_at_a_run_never_end_it(tmp_path: Path, comes_back: bool) -> None:
    run = RunFolder(tmp_path / "run")

    def replace() -> None:
        finish_writing(mine)
        run.path.rename(tmp_path / "gone")
        run.path.write_text("in the way")

    logs = [
        At(6, replace), At(10, run.path.unlink if comes_back else lambda: None),
        callbacks.GradientStatistics(0.0), callbacks.CSVLog(), callbacks.TensorBoard(),
        callbacks.ConfusionFile(),
    ]  # fmt: skip
    model = nn.Linear(2, 2)
    mine = Trainer(
        model, optim.Adam(model.parameters(), lr=0.1), nn.SoftmaxLoss(), run=run.path,
        callbacks=logs, log_every=1, metrics={"confusion": Confusion(2)}, compiled=False,
    )  # fmt: skip
    batches = [(ndl.tensor([[1.0, 2.0]]), ndl.tensor([0]))] * 4
    with pytest.warns(CheckpointWarning) as told:
        mine.fit(batches, batches, epochs=4)
    assert mine.progress.step == 16
    subjects = [str(warning.message).partition("]")[0] for warning in told]
    assert all(subjects.count(name) == 1 for name in ("[CSVLog", "[TensorBoard", "[ConfusionFile"))
    if comes_back:
        with run.metrics_csv.open() as file:
            assert [int(row["step"]) for row in csv.DictReader(file)] == [
                row["step"] for row in mine.history.rows
            ]
        assert len(list(run.tensorboard.iterdir())) == 1
        assert run.confusion.exists()


# ---- files --------------------------------------------------------------------------------------


def test_damaged_checkpoints_are_passed_over_with_one_warning(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit(BATCHES, epochs=3)
    files = RunFolder(tmp_path / "run").checkpoint_files()
    files[-1].write_bytes(files[-1].read_bytes()[:-10])
    content = bytearray(files[-2].read_bytes())
    content[-3] ^= 1
    files[-2].write_bytes(content)
    with pytest.warns(CheckpointWarning) as told:
        found = find_checkpoint(tmp_path / "run")
    assert found == files[0]
    assert len(told) == 1
    assert str(files[-1]) in str(told[0].message)
    assert "checksum" in str(told[0].message)
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(files[-2])
    resumed = trainer()
    with pytest.warns(CheckpointWarning):
        resumed.resume(tmp_path / "run")
    resumed.fit(BATCHES, epochs=3)
    assert read_checkpoint(tmp_path / "run")["progress"]["step"] == 12
    files[0].write_bytes(b"")
    for file in RunFolder(tmp_path / "run").checkpoint_files():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of .* is whole"):
        find_checkpoint(tmp_path / "run")


def test_a_run_that_went_on_from_an_earlier_checkpoint_never_returns_to_a_later_one(
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path / "run")
    trainer(run.path, callbacks=[Checkpoint(keep=5)]).fit(BATCHES, epochs=3)

    def killed() -> None:
        shutil.copytree(run.path, tmp_path / "killed", symlinks=True)

    again = trainer(callbacks=[At(6, killed)])
    again.resume(run.checkpoint(4))
    again.fit(BATCHES, epochs=3)
    resumed = trainer()
    resumed.resume(tmp_path / "killed")
    assert resumed.progress.step == 4
    assert [row["step"] for row in resumed.history.train] == [4]


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    ndl.save({"a": 1}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors' is no checkpoint"):
        read_checkpoint(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="there is none in"):
        trainer(tmp_path).resume()
    with pytest.raises(ValueError, match=r"resume.* needs a run"):
        trainer().resume()


def test_another_model_is_an_error_that_lists_the_differences(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit(BATCHES, epochs=1)
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    mine = Trainer(other, optim.Adam(other.parameters(), lr=0.1), nn.MSELoss())
    before = other.state_dict()
    with pytest.raises(ValueError, match="the model is another one") as caught:
        mine.resume(tmp_path / "run")
    for part in ("0.weight is missing in the checkpoint", "bias is unexpected"):
        assert part in str(caught.value)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy())
    with pytest.raises(ValueError, match=r"weight has shape \(2, 1\) in the checkpoint"):
        trainer(width=3).resume(tmp_path / "run")
    plain = trainer()
    plain.schedule = optim.StepLR(plain.optimizer, 2)
    with pytest.raises(ValueError, match="a run with no schedule, this trainer has a schedule"):
        plain.resume(tmp_path / "run")
    plain.schedule = None
    plain.optimizer = optim.NAdam(plain.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"optimizer is another one: Adam in .*, here NAdam"):
        plain.resume(tmp_path / "run")


def test_old_formats_are_migrated_and_newer_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path / "run").fit(BATCHES, epochs=1)
    state = read_checkpoint(tmp_path / "run")
    old = {**state, "format": 0, "where": state["progress"]}
    del old["progress"]
    ndl.save(old, tmp_path / "old.safetensors")
    monkeypatch.setitem(
        checkpoints.MIGRATIONS, 0, lambda state: {**state, "progress": state["where"]}
    )
    assert read_checkpoint(tmp_path / "old.safetensors")["progress"] == state["progress"]
    ndl.save({**state, "format": 2, "needle": "9.0"}, tmp_path / "new.safetensors")
    with pytest.raises(ValueError, match=r"of format 2, which needle 9\.0 wrote"):
        read_checkpoint(tmp_path / "new.safetensors")


def test_the_clock_set_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr(time, "time", lambda: 1000.0)
    mine = trainer(tmp_path / "run", callbacks=[Checkpoint(every_seconds=0.0)], log_every=1)
    back = At(5, lambda: monkeypatch.setattr(time, "time", lambda: 10.0))
    mine.callbacks.insert(0, back)
    mine.fit(BATCHES, epochs=3)
    seconds = [row["seconds"] for row in mine.history]
    assert seconds == sorted(seconds)
    assert find_checkpoint(tmp_path / "run").name == "step-12.safetensors"


# ---- elsewhere ----------------------------------------------------------------------------------


def test_a_checkpoint_of_another_device_resumes(tmp_path: Path) -> None:
    there = trainer(tmp_path / "run", device=ndl.cpu_numpy())
    there.fit([(x.to(ndl.cpu_numpy()), y.to(ndl.cpu_numpy())) for x, y in BATCHES], epochs=2)
    here = trainer()
    here.resume(tmp_path / "run")
    assert here.model.weight.device == ndl.cpu()
    np.testing.assert_array_equal(here.model.weight.numpy(), there.model.weight.numpy())
    here.fit(BATCHES, epochs=3)
    there.fit([(x.to(ndl.cpu_numpy()), y.to(ndl.cpu_numpy())) for x, y in BATCHES], epochs=3)
    np.testing.assert_allclose(here.model.weight.numpy(), there.model.weight.numpy(), rtol=1e-5)


SAVED = Path(__file__).parent / "saved"


def of_format_1(run: RunFolder | None = None) -> Trainer:
    """The trainer whose checkpoint `saved/format-1.safetensors` is."""
    ndl.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.2), nn.Linear(3, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = optim.OneCycleLR(optimizer, max_lr=0.05, total_steps=20)
    return Trainer(
        model, optimizer, nn.MSELoss(), schedule=schedule, amp="float16", compiled=False, run=run,
        state={"noise": ndl.Generator(3)},
    )  # fmt: skip


def train_format_1(trainer: Trainer, epochs: int) -> None:
    rng = np.random.default_rng(0)
    data = [(row[:2], row[2:]) for row in rng.normal(size=(20, 3)).astype("float32")]
    loader = ndl.data.DataLoader(data, 4, shuffle=True)
    trainer.fit(loader, loader, epochs=epochs)


def test_the_file_that_an_earlier_version_wrote_resumes() -> None:
    resumed = of_format_1()
    resumed.resume(SAVED / "format-1.safetensors")
    assert (resumed.progress.step, resumed.progress.epoch) == (10, 2)
    train_format_1(resumed, 4)
    end = ndl.load(SAVED / "format-1-end.safetensors")
    for name, value in resumed.model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), end[name].numpy(), rtol=1e-3, atol=1e-5)


def test_a_resume_with_another_number_of_threads_and_lower_simd(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_faults as t, needle as ndl;"
        "ndl.set_num_threads(1); r = t.of_format_1();"
        "r.resume(t.SAVED / 'format-1.safetensors'); t.train_format_1(r, 4);"
        "print(r.progress.step, ndl.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, Path(__file__).parent],
        env={**os.environ, "NEEDLE_SIMD": "avx2"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "20 1\n", done.stderr


if __name__ == "__main__":  # writes the files of this version
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = of_format_1(RunFolder.create("format-1", folder))
        train_format_1(made, 2)
        SAVED.mkdir(exist_ok=True)
        shutil.copy(find_checkpoint(Path(folder) / "format-1"), SAVED / "format-1.safetensors")
        train_format_1(made, 4)
        ndl.save(made.model.state_dict(), SAVED / "format-1-end.safetensors")
