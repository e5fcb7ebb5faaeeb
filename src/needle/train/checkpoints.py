"""Checkpoints: files that appear whole or not at all, written beside training.

A checkpoint is a file of `needle.save`, whose checksum is looked at when it is read. Its structure
has the number FORMAT. `MIGRATIONS[n]` turns a structure of format n into one of format n + 1.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import io
from ..tree import tensors
from ..typing import Json
from .run import RunFolder

FORMAT = 1
MOST_WAITING = 2**28  # bytes of snapshots that wait to be written
MIGRATIONS: dict[int, Callable[[Json], Json]] = {}
PARTS = (
    "config", "model", "optimizer", "schedule", "scaler", "callbacks", "objects", "data", "random",
    "progress", "metrics", "history",
)  # fmt: skip


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written or read; training goes on."""


def write_checkpoint(path: str | os.PathLike[str], state: Json) -> None:
    """Write the state of a trainer to a file, which appears whole or not at all.

    Raises OSError where it cannot be written, TypeError for what no file can hold.
    """
    from .. import __version__

    io.save({"format": FORMAT, "needle": __version__, **state}, path)


def read_checkpoint(path: str | os.PathLike[str]) -> Json:
    """What a checkpoint holds, in the present format; Tensors are on the host.

    Parameters
    ----------
    path : str or path
        A file, a link to one, or the folder of a run, which stands for its newest whole checkpoint.

    Returns
    -------
    dict
        "format", "needle" (the version that wrote it), "config", "model", "optimizer", "schedule",
        "kinds" (the classes of these two), "scaler", "callbacks", "objects", "data", "random",
        "progress", "metrics" and "history".

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the file is damaged, no checkpoint, or of a newer format.
    """
    return newest(path)[1]


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a run goes on from: the newest whole one, or the file itself.

    Damaged files are passed over with one warning. Raises as `read_checkpoint`.
    """
    return newest(path)[0]


def newest(path: str | os.PathLike[str]) -> tuple[Path, Json]:
    """The newest whole checkpoint of a run, or the one in a file, and what it holds."""
    where = Path(os.fsdecode(path))
    if not where.is_dir():
        return where, _read(where)
    files = RunFolder(where).checkpoint_files()
    damaged: list[str] = []
    for file in reversed(files):
        try:
            state = _read(file)
        except (ValueError, OSError) as error:
            damaged.append(str(error))
            continue
        if damaged:
            warnings.warn(
                f"[checkpoint] goes on from {str(file)!r}; passed over: {'; '.join(damaged)}",
                CheckpointWarning,
                stacklevel=3,
            )
        return file, state
    if damaged:
        raise ValueError(f"[checkpoint] none of {str(where)!r} is whole: {'; '.join(damaged)}")
    raise FileNotFoundError(f"[checkpoint] there is none in {str(where)!r}")


def _read(path: Path) -> Json:
    if not path.exists():
        raise FileNotFoundError(f"[checkpoint] there is no file {str(path)!r}")
    state = io.load(path, map_location="cpu")
    if not isinstance(state, dict) or type(state.get("format")) is not int:
        raise ValueError(f"[checkpoint] {str(path)!r} is no checkpoint of a training run")
    version = state["format"]
    if version > FORMAT:
        raise ValueError(
            f"[checkpoint] {str(path)!r} is of format {version}, which needle "
            f"{state.get('needle')} wrote; this version reads formats up to {FORMAT}"
        )
    for number in range(version, FORMAT):
        state = {**MIGRATIONS[number](state), "format": number + 1}
    missing = [name for name in PARTS if name not in state]
    if missing:
        raise ValueError(f"[checkpoint] {str(path)!r} lacks {', '.join(missing)}")
    return state


@dataclass(frozen=True)
class Snapshot:
    """A state that waits to be written, and the step of the best one at that time."""

    step: int
    state: Json
    best: int | None


class Writer:
    """Writes checkpoints of a run in a thread, in order; keeps links and removes old files.

    Where snapshots come faster than the disk takes them, those that would be removed at once are
    not written.
    """

    def __init__(self, run: RunFolder, keep: int) -> None:
        self.run, self.keep = run, keep
        self._after: int | None = None  # the step that the run went on from: later files are stale
        self._waiting: list[Snapshot] = []
        self._outcomes: list[tuple[int, Path | Exception]] = []
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None

    @property
    def has_news(self) -> bool:
        """Whether `outcomes` tells something."""
        return bool(self._outcomes)

    def write(self, step: int, state: Json, best: int | None) -> None:
        """Write a checkpoint in the background; `best` is the step of the best one, to be kept."""
        with self._changed:
            waiting = [snapshot for snapshot in self._waiting if snapshot.step != step]
            waiting.append(Snapshot(step, state, best))
            newest = waiting[-self.keep :]
            self._waiting = [s for s in waiting if s in newest or s.step == best]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work,
                    name="needle-checkpoint",
                    daemon=True,  # a second signal does not wait for the disk
                )
                self._thread.start()

    def make_room(self) -> None:
        """Wait until what waits to be written takes little memory."""
        with self._changed:
            self._changed.wait_for(lambda: sum(map(_bytes, self._waiting)) <= MOST_WAITING)

    def wait(self) -> None:
        """Wait until nothing is being written."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)

    def outcomes(self) -> list[tuple[int, Path | Exception]]:
        """What became of the checkpoints since the last call: steps, with paths or errors."""
        with self._changed:
            found, self._outcomes = self._outcomes, []
        return found

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.notify_all()
                if not self._waiting:
                    self._thread = None
                    return
                snapshot = self._waiting.pop(0)
            outcome: Path | Exception
            try:
                outcome = self._write(snapshot)
            except Exception as error:
                outcome = error
            with self._changed:
                self._outcomes.append((snapshot.step, outcome))

    def go_on_after(self, step: int | None) -> None:
        """Remove the checkpoints after the step that the run goes on from.

        If that checkpoint is in another folder, they stay until the first new one is written.
        """
        if step is not None and self.run.checkpoint(step).exists():
            self._remove_stale(step)
        else:
            self._after = step

    def _write(self, snapshot: Snapshot) -> Path:
        path = self.run.checkpoint(snapshot.step)
        write_checkpoint(path, snapshot.state)
        _link(self.run.last, path)
        if snapshot.best is not None and self.run.checkpoint(snapshot.best).exists():
            _link(self.run.best, self.run.checkpoint(snapshot.best))
        self._remove_old(snapshot)
        return path

    def _remove_stale(self, after: int, new: int | None = None) -> None:
        for path in self.run.checkpoint_files():
            if step_of(path) > after and step_of(path) != new:
                path.unlink(missing_ok=True)

    def _remove_old(self, snapshot: Snapshot) -> None:
        if self._after is not None:
            self._remove_stale(self._after, snapshot.step)
            self._after = None
        best = self.run.best.resolve()  # stays until a better one is written
        files = [path for path in self.run.checkpoint_files() if step_of(path) <= snapshot.step]
        for path in files[: -self.keep]:
            if path.resolve() != best and step_of(path) != snapshot.best:
                path.unlink(missing_ok=True)


def _bytes(snapshot: Snapshot) -> int:
    return sum(tensor.nbytes for tensor in tensors(snapshot.state))


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    return int(path.stem.removeprefix("step-"))


def _link(link: Path, target: Path) -> None:
    """Make `link` a relative link to `target`, at once; a file system without links has none."""
    part = link.with_name(f"{link.name}.part")
    with contextlib.suppress(NotImplementedError, PermissionError):
        part.unlink(missing_ok=True)
        part.symlink_to(os.path.relpath(target, link.parent))
        os.replace(part, link)
