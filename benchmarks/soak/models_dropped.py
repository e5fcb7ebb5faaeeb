"""2,000 models are made, trained for a few steps, eager and compiled, and dropped: nothing stays.

python benchmarks/soak/models_dropped.py [--short]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from soak import Memory, Trained, main

import needle as ndl

GROWTH = 2048  # KiB
OBJECTS = 300


def one_model(x: ndl.Tensor, y: ndl.Tensor, compiled: bool) -> None:
    """A model with its optimizer, its schedule and its compiled step."""
    trained = Trained()
    step = ndl.jit(trained.step) if compiled else trained.step
    for _ in range(2):
        step(x, y)
    state = trained.model.state_dict()
    trained.model.load_state_dict(state)


def test(short: bool) -> Iterator[str]:
    """Half of the models are compiled: tracing one costs most of the time."""
    count = 40 if short else 2_000
    x = ndl.tensor(np.random.default_rng(0).normal(size=(32, 16)).astype("float32"))
    y = ndl.tensor(np.arange(32) % 4)
    for kind in ("eager", "compiled"):
        for _ in range(count // 8):
            one_model(x, y, kind == "compiled")
        before = Memory.now()
        for _ in range(count // 2):
            one_model(x, y, kind == "compiled")
        yield f"{count // 2:,} {kind} models: {Memory.now().check_flat(before, GROWTH, OBJECTS)}"


if __name__ == "__main__":
    main("models dropped", test)
