"""Where a pass over a loader is, so that another loader can go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..typing import Json
from .ahead import Ahead
from .fetch import Order

KEYS = {"given", "asked", "start", "now"}


class Position:
    """A pass: an iterator that counts the batches it gives out.

    It knows the random states it began with (`start`), and by `ahead` what workers were asked for.
    """

    def __init__(self, start: Json, batches: Iterator[Any], given: int) -> None:
        self.start, self.given = start, given
        self.has_ended = False
        self._batches = batches

    @property
    def asked(self) -> list[tuple[Order, int]]:
        """What workers fetch ahead, with the seeds."""
        return self._batches.asked if isinstance(self._batches, Ahead) else []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self.has_ended = True
            raise
        self.given += 1
        return batch


@dataclass(frozen=True)
class Saved:
    """A position to go on from; `state` is a loader's `state_dict`."""

    given: int
    start: Json
    now: Json
    asked: list[tuple[Order, int]] = field(default_factory=list)


def saved(state: Mapping[str, Any]) -> Saved:
    """What a loader's state says. Raises ValueError for what is none."""
    if not isinstance(state, Mapping) or state.keys() != KEYS:
        found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"[DataLoader] a state must have {', '.join(sorted(KEYS))}, got {found}")
    asked = [(order, int(seed)) for order, seed in state["asked"]]
    return Saved(int(state["given"]), state["start"], state["now"], asked)


def generators_of(loader: Any) -> dict[str, Any]:
    """What a loader and its samplers draw from: generators by name, and NumPy's global one."""
    found: dict[str, Any] = {}
    if loader.generator is None:
        found["numpy"] = np.random
    for path in ("generator", "sampler.generator", "batch_sampler.generator"):
        found[path] = _at(loader, path)
    found["batch_sampler.sampler.generator"] = _at(loader, "batch_sampler.sampler.generator")
    return {name: g for name, g in found.items() if hasattr(g, "bit_generator") or _has_state(g)}


def _at(loader: Any, path: str) -> Any:
    value = loader
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _has_state(generator: Any) -> bool:
    return hasattr(generator, "get_state") and hasattr(generator, "set_state")
