"""The disk is full, while compiled code, checkpoints and traces are written: old files stay whole.

python benchmarks/soak/disk_full.py [--short]

A file system of some MiB is mounted in a namespace of its own where the system lets users do so.
Elsewhere a limit of the size of files takes its place, whose error is another one.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from soak import Trained, main

import needle as ndl
from needle.profiler import profile
from needle.train import Callback, Checkpoint, Trainer, read_checkpoint

INSIDE = "NEEDLE_SOAK_FOLDER"  # the small file system, in the process that has it
MIB = 1 << 20


def enter() -> None:
    """Start this program again with a small file system, and exit with its code."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
        can = shutil.which("unshare") and not subprocess.run(mount, capture_output=True).returncode
        env = {**os.environ, INSIDE: folder}
        again = [sys.executable, *sys.argv]
        if can:
            script = f'mount -t tmpfs -o size=2m tmpfs "{folder}" && exec "$@"'
            again = ["unshare", "-rm", "sh", "-c", script, "sh", *again]
        sys.exit(subprocess.run(again, env=env).returncode)


def fill(folder: Path) -> None:
    """Fill the disk, or limit the size of files where it has too much room."""
    if shutil.disk_usage(folder).total > 4 * MIB:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, resource.RLIM_INFINITY))
        return
    block = 1 << 16
    with open(folder / "filler", "ab", buffering=0) as file:
        while block:
            try:
                file.write(bytes(block))
            except OSError:
                block //= 2


def empty(folder: Path) -> None:
    """Make room again."""
    (folder / "filler").unlink(missing_ok=True)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def refused(what: str, path: Path, write: Callable[[], object]) -> str:
    """A write that fails names the file and the reason, and leaves the old file and no other."""
    before = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    error = None
    try:
        write()
    except OSError as caught:
        error = caught
    assert error is not None, f"{what} was written although the disk is full"
    assert error.errno in (errno.ENOSPC, errno.EFBIG), f"{what}: another error: {error!r}"
    assert str(path) in str(error), f"{what}: the error does not name the file: {error}"
    after = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    assert after == before, f"{what}: files were left or changed"
    return f"{what}: {error.strerror}; the old file is whole"


def step_of(trainer: Trainer) -> int:
    """The step of the newest whole checkpoint."""
    return read_checkpoint(trainer.run.path)["progress"]["step"]


class FillAndEmpty(Callback):
    """Fills the disk after a step, and makes room after another."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, full: int, room: int) -> None:
        self.folder, self.checkpoint, self.full, self.room = folder, checkpoint, full, room

    def on_step_end(self, trainer: Trainer) -> None:
        """Fill the disk, or make room."""
        if trainer.progress.step in (self.full, self.room):
            self.checkpoint.finish(trainer)  # what is being written beside training
        if trainer.progress.step == self.full:
            self.before = step_of(trainer)
            fill(self.folder)
        if trainer.progress.step == self.room:
            assert step_of(trainer) >= self.before, "the checkpoint is gone"
            empty(self.folder)


def train(folder: Path, steps: int) -> str:
    """A run on a disk that is full in its middle trains on, and saves again with room."""
    parts = Trained()
    checkpoint = Checkpoint()
    callback = FillAndEmpty(folder, checkpoint, steps // 3 + 1, 2 * steps // 3 + 1)
    trainer = Trainer(
        parts.model, parts.optimizer, parts.loss, compiled=False, run=folder / "run",
        log_every=5, callbacks=[callback, checkpoint],
    )  # fmt: skip
    batch = (ndl.tensor(np.ones((8, 16), "float32")), ndl.tensor(np.arange(8) % 4))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.fit([batch] * 10, steps=steps)
    texts = [str(warning.message) for warning in told]
    assert any("No space" in text or "too large" in text for text in texts), f"told: {texts}"
    assert read_checkpoint(folder / "run")["progress"]["step"] == steps
    assert not [*(folder / "run").rglob("*.part")], "unfinished files were left"
    return f"run: {steps} steps, {len(texts)} warnings, the last step is saved; {texts[0][:120]}"


def test(short: bool) -> Iterator[str]:
    """Each of them in turn, then again with room."""
    folder = Path(os.environ[INSIDE])
    yield train(folder, 60 if short else 600)
    shutil.rmtree(folder / "run")
    trained = Trained(width=256)
    x, y = ndl.tensor(np.ones((8, 16), "float32")), ndl.tensor(np.arange(8) % 4)
    trained.step(x, y)
    checkpoint, trace = folder / "model.safetensors", folder / "trace.json"
    state = {"model": trained.model.state_dict(), "optimizer": trained.optimizer.state_dict()}
    with profile() as prof:
        for _ in range(20):
            trained.step(x, y)
    for _ in range(1 if short else 50):
        ndl.save(state, checkpoint)
        prof.export_chrome_trace(trace)
        fill(folder)
        lines = [
            refused("checkpoint", checkpoint, lambda: ndl.save(state, checkpoint)),
            refused("profile", trace, lambda: prof.export_chrome_trace(trace)),
        ]
        empty(folder)
        loaded = ndl.load(checkpoint)["model"]
        assert all(np.array_equal(loaded[k].numpy(), v.numpy()) for k, v in state["model"].items())
    yield from lines

    os.environ["NEEDLE_CACHE"] = str(folder / "cache")
    fill(folder)
    function = ndl.jit(lambda x: ndl.tanh(x * 3).sum())
    expected = ndl.tanh(x * 3).sum().item()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert abs(function(x).item() - expected) < 1e-3
    assert told, "nothing was said of the cache"
    yield f"compiled function: right; {' '.join(str(told[0].message).split())[:150]}"
    empty(folder)
    again = ndl.jit(lambda x: ndl.tanh(x * 3).sum())
    assert abs(again(x).item() - expected) < 1e-3
    assert again.compilations == 1, "it does not compile with room on the disk"
    yield "with room again it compiles"


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter()
    main("disk full", test)
