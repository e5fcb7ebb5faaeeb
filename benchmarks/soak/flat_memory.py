"""Memory stays flat over 10,000 steps of training: eager, compiled, and by a Trainer with a run.

python benchmarks/soak/flat_memory.py [--short]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from soak import Memory, Trained, main, samples

import needle as ndl
from needle import data
from needle.train import Callback, Checkpoint, Trainer

GROWTH = 1024  # KiB: pages that the system's allocator has not reused
OBJECTS = 200  # of Python's own caches


def loader() -> data.DataLoader:
    """A loader with threads, which live on between epochs."""
    return data.DataLoader(samples(640), 32, shuffle=True, num_workers=2, persistent_workers=True)


def trained(
    step: Callable[[ndl.Tensor, ndl.Tensor], ndl.Tensor], schedule: object, steps: int
) -> str:
    """Take steps; the memory after a fifth of them and at the end is the same."""
    batches, done, before = loader(), 0, None
    while done < steps:
        for x, y in batches:
            loss = step(x, y)
            schedule.step()
            done += 1
        if before is None and done >= steps // 5:
            before = Memory.now()
    assert 0 < loss.item() < 2, f"the loss is {loss.item()}"
    assert before is not None
    return Memory.now().check_flat(before, GROWTH, OBJECTS)


class Watch(Callback):
    """Measures after a fifth of the steps."""

    def __init__(self, step: int) -> None:
        self.step, self.before = step, None

    def on_step_end(self, trainer: Trainer) -> None:
        """Measure, once."""
        if trainer.progress.step == self.step:
            trainer.save()
            self.before = Memory.now()


def trained_by_a_trainer(steps: int) -> str:
    """Compiled steps, with rows of measurements and a checkpoint every second."""
    parts, watch = Trained(), Watch(steps // 5)
    with tempfile.TemporaryDirectory() as folder:
        save = Checkpoint(every_seconds=1, every_epochs=50)
        trainer = Trainer(
            parts.model, parts.optimizer, parts.loss, schedule=parts.schedule,
            run=Path(folder) / "run", callbacks=[save, watch],
        )  # fmt: skip
        trainer.fit(loader(), loader(), steps=steps, validate_every=steps // 10)
    assert watch.before is not None
    # The history keeps its rows: some 25 objects of each.
    rows = 30 * len(trainer.history)
    return Memory.now().check_flat(watch.before, 2 * GROWTH, OBJECTS + rows)


def test(short: bool) -> Iterator[str]:
    """Eager steps, then compiled ones, then a Trainer's."""
    steps = 400 if short else 10_000
    eager = Trained()
    yield f"{steps:,} eager steps: {trained(eager.step, eager.schedule, steps)}"
    other = Trained()
    compiled = ndl.jit(other.step)
    yield f"{steps:,} compiled steps: {trained(compiled, other.schedule, steps)}"
    assert compiled.compilations == 1, f"it was compiled {compiled.compilations} times"
    if not short:
        yield f"{steps:,} steps of a Trainer: {trained_by_a_trainer(steps)}"


if __name__ == "__main__":
    main("flat memory", test)
