"""States of generators of random numbers, of NumPy and of Python's `random`."""

from __future__ import annotations

import random
from typing import Any, TypeAlias

import numpy as np

from ... import random as needle_random

NUMPY = (np.random.Generator, np.random.RandomState)
# What it is depends on the kind of generator.
State: TypeAlias = Any

# The generators behind `numpy.random.rand()` and `random.random()`.
GLOBAL_GENERATORS: tuple[object, object] = (
    np.random.mtrand._rand,
    random.seed.__self__,  # type: ignore[attr-defined]
)


def state_of(generator: object) -> State:
    """The state of a generator; None for another object."""
    if isinstance(generator, NUMPY):
        return needle_random.state_of(generator)
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return generator.getstate()
    return None


def set_state(generator: object, state: State) -> None:
    """Set the state of a generator, as `state_of` has given it."""
    if isinstance(generator, NUMPY):
        needle_random.set_state_of(generator, state)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)


def describe(generator: object) -> str:
    """What a message calls a generator."""
    names = dict(zip(map(id, GLOBAL_GENERATORS), ("numpy.random", "random"), strict=True))
    return names.get(id(generator), f"a {type(generator).__name__}")
