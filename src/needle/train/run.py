"""The folder of a run: its name, its lock, its measurements and its status.

runs/NAME/
  config.toml       what was asked for, and every default that applied
  metrics.jsonl     one row of measurements a line
  metrics.csv       the same as a table
  status.json       where the run is; replaced at most once a second
  run.lock          locked by the process that trains
  checkpoints/      step-N.safetensors
  last, best        links to two of them
  confusion.json, samples/, report.png, tb/
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ..files import written_whole
from ..typing import Json
from . import toml
from .rows import finite

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # of run folders
RUNS = "runs"  # the folder of all runs, by default
LOCK_SECONDS = 2.0  # how long a lock is waited for: worker processes outlive a killed run by a bit
STATES = ("new", "running", "finished", "interrupted", "failed", "killed")
_CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")


class RunInUse(RuntimeError):
    """Another process trains in a run's folder."""


class RunFolder:
    """A run's folder: where its files are, and how they are written.

    Parameters
    ----------
    path : str or path
        The folder; it need not be there yet.

    Examples
    --------
    >>> from needle.train import RunFolder
    >>> RunFolder("runs/digits").name
    'digits'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.fsdecode(path))

    @classmethod
    def create(cls, name: str = "run", parent: str | os.PathLike[str] = RUNS) -> RunFolder:
        """A new folder `parent/name`; `name-2`, `name-3`, … where the name is taken.

        Two processes never get the same one. Raises ValueError for a name that is none, OSError
        where no folder can be made.
        """
        if not name or Path(name).name != name or name in (".", ".."):
            raise ValueError(f"[RunFolder] name must be the name of a folder, got {name!r}")
        folder = Path(os.fsdecode(parent))
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = folder / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            return cls(path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.absolute().name

    @property
    def config_file(self) -> Path:
        """`config.toml`."""
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def metrics_csv(self) -> Path:
        """`metrics.csv`."""
        return self.path / "metrics.csv"

    @property
    def status_file(self) -> Path:
        """`status.json`."""
        return self.path / "status.json"

    @property
    def lock_file(self) -> Path:
        """`run.lock`."""
        return self.path / "run.lock"

    @property
    def checkpoints(self) -> Path:
        """The folder `checkpoints`."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The link to the newest checkpoint."""
        return self.path / "last"

    @property
    def best(self) -> Path:
        """The link to the best checkpoint."""
        return self.path / "best"

    @property
    def confusion(self) -> Path:
        """`confusion.json`."""
        return self.path / "confusion.json"

    @property
    def samples(self) -> Path:
        """The folder `samples`."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """`report.png`."""
        return self.path / "report.png"

    @property
    def tensorboard(self) -> Path:
        """The folder `tb`."""
        return self.path / "tb"

    def checkpoint(self, step: int) -> Path:
        """The file of a step's checkpoint."""
        return self.checkpoints / f"step-{step}.safetensors"

    def checkpoint_files(self) -> list[Path]:
        """The checkpoints that are there, in the order of their steps."""
        try:
            found = [(p, _CHECKPOINT.fullmatch(p.name)) for p in self.checkpoints.iterdir()]
        except OSError:
            return []
        steps = [(int(match[1]), path) for path, match in found if match]
        return [path for _, path in sorted(steps)]

    # ---- settings -------------------------------------------------------------------------------

    def config(self) -> Json:
        """What `config.toml` says, {} where there is none. Raises ValueError for a damaged one."""
        try:
            return tomllib.loads(self.config_file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"[RunFolder] {str(self.config_file)!r}: {error}") from None

    def write_config(self, config: Json) -> None:
        """Write `config.toml`. Raises TypeError for what TOML cannot hold."""
        text = toml.dumps(config)
        with written_whole(self.config_file) as file:
            file.write(text.encode("utf-8", "replace"))

    # ---- measurements ---------------------------------------------------------------------------

    def append(self, row: Json) -> None:
        """Add a row of measurements to `metrics.jsonl`; NaN and infinity become null."""
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(_line(row))

    def rows(self) -> list[Json]:
        """The rows of `metrics.jsonl`; a line that was not finished is left out."""
        return list(_rows(self.metrics))

    def keep_rows(self, rows: Iterable[Json]) -> None:
        """Replace the rows by these."""
        with written_whole(self.metrics) as file:
            file.writelines(_line(row).encode() for row in rows)

    # ---- status ---------------------------------------------------------------------------------

    def write_status(self, status: Json) -> None:
        """Replace `status.json`; who writes and when is added."""
        who = {"pid": os.getpid(), "host": socket.gethostname(), "updated": time.time()}
        part = self.status_file.with_name("status.json.part")
        part.write_text(json.dumps(finite({**status, **who})), "utf-8")
        os.replace(part, self.status_file)

    def status(self) -> Json:
        """What `status.json` says; empty where there is none or it is damaged."""
        try:
            found = json.loads(self.status_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def state(self) -> str:
        """One of "new", "running", "finished", "interrupted", "failed" and "killed"."""
        state = self.status().get("state")
        if state not in STATES:
            return "new"
        return "killed" if state == "running" and not self.is_locked() else str(state)

    # ---- the lock -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process can train in this folder.

        Raises RunInUse where another one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.lock_file, "a+b") as file:
            if not _take(file, LOCK_SECONDS):
                file.seek(0)
                holder = file.read(100).decode("utf-8", "replace") or "another process"
                raise RunInUse(
                    f"[RunFolder] {holder} is training in {str(self.path)!r}: wait for it, or "
                    "start a run of another name"
                )
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            file.flush()
            self._remove_parts()
            try:
                yield
            finally:
                if fcntl is not None:  # a forked child has the open file, too
                    fcntl.flock(file, fcntl.LOCK_UN)

    def is_locked(self) -> bool:
        """Whether a process trains in this folder."""
        try:
            with open(self.lock_file, "rb") as file:
                return not _take(file, 0.0, shared=True)
        except OSError:
            return False

    def _remove_parts(self) -> None:
        """Remove what a killed process left half written."""
        for folder in (self.path, self.checkpoints):
            for part in folder.glob("*.part"):
                part.unlink(missing_ok=True)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is that of a run."""
    run = RunFolder(path)
    return any(file.is_file() for file in (run.status_file, run.metrics, run.config_file))


def _take(file: IO[bytes], seconds: float, shared: bool = False) -> bool:
    """Lock an open file; whether that was possible within some seconds."""
    if fcntl is None:
        return True
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return True


def _rows(path: Path) -> Iterator[Json]:
    try:
        with open(path, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield row
    except FileNotFoundError:
        return


def _line(row: Json) -> str:
    return json.dumps(finite(row)) + "\n"
