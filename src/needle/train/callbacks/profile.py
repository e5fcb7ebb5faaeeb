"""Profile: where the time of some steps goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ... import profiler
from ...files import written_whole
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class Profile(Callback):
    """Records some steps with `needle.profiler`, and writes a timeline and a table.

    `trace.json` is for https://ui.perfetto.dev, `profile.txt` is the table. Only these steps take
    longer.

    Parameters
    ----------
    steps : int, default 10
        How many steps are recorded.
    after : int, default 5
        How many steps are not recorded before them; the first ones compile.
    folder : str or path, optional
        Where the files are written; the run's folder by default.
    kernels : bool, default False
        Whether the kernels of compiled steps are shown, on `cpu()`; it takes some seconds more.

    Attributes
    ----------
    profile : needle.profiler.profile or None
        The recording, once it is complete.

    Raises
    ------
    ValueError
        If `steps` is not positive, `after` negative, or there is neither a run nor a folder.

    Examples
    --------
    >>> from needle.train.callbacks import Profile
    >>> Profile(steps=20).after
    5
    """

    def __init__(
        self,
        steps: int = 10,
        after: int = 5,
        *,
        folder: str | os.PathLike[str] | None = None,
        kernels: bool = False,
    ) -> None:
        if steps < 1 or after < 0:
            raise ValueError(
                f"[Profile] steps must be positive and after not negative, got {steps} and {after}"
            )
        self.steps, self.after, self.folder, self.kernels = steps, after, folder, kernels
        self.profile: profiler.profile | None = None
        self._running: profiler.profile | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Begin to count steps."""
        if self.folder is None and trainer.run is None:
            raise ValueError("[Profile] the trainer has no run: say where to write, in folder=")
        folder = Path(self.folder) if self.folder is not None else trainer.run.path  # type: ignore[union-attr]
        self._running = profiler.profile(
            schedule=profiler.schedule(wait=self.after, warmup=0, active=self.steps, repeat=1),
            on_trace_ready=lambda prof: self._write(prof, folder),
            kernels=self.kernels,
        )
        self._running.start()

    def on_step_end(self, trainer: Trainer) -> None:
        """Count the step."""
        if self._running is not None:
            self._running.step()

    def on_fit_end(self, trainer: Trainer) -> None:
        """End a recording that has fewer steps; it shows what came before an error."""
        if self._running is not None:
            self._running.stop()
        self._running = None

    def _write(self, prof: profiler.profile, folder: Path) -> None:
        self.profile, self._running = prof, None
        prof.export_chrome_trace(folder / "trace.json")
        with written_whole(folder / "profile.txt") as file:
            file.write(f"{prof.table()}\n".encode())
