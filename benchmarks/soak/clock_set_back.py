"""The clock is set back by a day while a run trains, and the cache has files from the future.

python benchmarks/soak/clock_set_back.py [--short]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from soak import Trained, main, samples

import needle as ndl
from needle import data
from needle.train import Callback, Checkpoint, RunFolder, Trainer, read_checkpoint

DAY = 86_400.0


class SetClockBack(Callback):
    """Sets the clock of this process back by a day, once, in the middle."""

    def __init__(self, step: int) -> None:
        self.step, self._time = step, time.time
        self.saved: list[float] = []  # when a checkpoint was complete, by the steady clock

    def on_step_end(self, trainer: Trainer) -> None:
        """Set the clock."""
        if trainer.progress.step == self.step:
            time.time = lambda: self._time() - DAY

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Note the time."""
        self.saved.append(time.monotonic())

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put the clock right."""
        time.time = self._time


def test(short: bool) -> Iterator[str]:
    """A run in a folder, then the cache."""
    steps = 400 if short else 5_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = Trained()
        clock = SetClockBack(steps // 2)
        loader = data.DataLoader(samples(640), 32, shuffle=True, num_workers=1, timeout=20)
        save = Checkpoint(every_seconds=0.1, every_epochs=None, best=None)
        trainer = Trainer(
            trained.model, trained.optimizer, trained.loss, schedule=trained.schedule,
            compiled=False, run=folder / "run", callbacks=[save, clock],
        )  # fmt: skip
        trainer.fit(loader, steps=steps)
        seconds = [row["seconds"] for row in trainer.history.rows]
        assert seconds == sorted(seconds), "the seconds of the rows go back"
        assert 0 < seconds[-1] < 600, f"training took {seconds[-1]} s"
        assert len(clock.saved) >= 3, f"there are {len(clock.saved)} checkpoints"
        assert RunFolder(folder / "run").state() == "finished"
        assert read_checkpoint(folder / "run")["progress"]["step"] == steps
        yield (
            f"{steps:,} steps, the clock set back half-way: {len(clock.saved)} checkpoints, "
            f"{len(seconds)} rows in order, {seconds[-1]:.1f} s"
        )

        os.environ["NEEDLE_CACHE"], os.environ["NEEDLE_CACHE_LIMIT"] = str(folder / "cache"), "1"
        x = ndl.tensor(np.ones(100, "float32"))
        for i in range(1 if short else 20):
            factor = 2.0 + i

            def function(x: ndl.Tensor, factor: float = factor) -> ndl.Tensor:
                return (x * factor).sum()

            for _ in range(2):  # compiled, then read from the cache
                assert ndl.jit(function)(x).item() == 100 * factor
            for file in (folder / "cache").iterdir():
                os.utime(file, (time.time() + DAY, time.time() + DAY))
        count = len([*(folder / "cache").glob("*.so")])
        yield f"a cache with files from the future gives right programs; it holds {count}"


if __name__ == "__main__":
    main("clock set back", test)
