"""What the trainer asks of the batches that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..typing import Json
from .state import random_states, set_random_states, storable

Batches = Iterable[Any]


def is_one_pass(batches: object) -> bool:
    """Whether batches come once only, as those of a Python generator."""
    return isinstance(batches, Iterator) and not hasattr(batches, "__len__")


def length(batches: object) -> int | None:
    """The number of batches, if that is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


class Position:
    """Where training is in its data: the random numbers of the epoch's start, and batches since.

    A pass is taken up again by beginning it with the same random numbers and passing over the
    batches that were trained on. A loader with `state_dict` and `load_state_dict`, as DataLoader,
    passes over them without loading them; of others they are taken and dropped.
    """

    def __init__(self, batches: Batches, generators: Mapping[str, Any]) -> None:
        self.batches, self._generators = batches, generators
        self._start: Json | None = None
        self._saved: tuple[Json, Json] | None = None

    @property
    def _is_stateful(self) -> bool:
        return hasattr(self.batches, "state_dict") and hasattr(self.batches, "load_state_dict")

    def begin(self, skip: int) -> Iterator[Any]:
        """The batches of an epoch, without the first `skip` ones if it is taken up again."""
        if not skip or self._saved is None:
            self._saved = None
            self._start = random_states(self._generators)
            return iter(self.batches)
        (data, now), self._saved = self._saved, None
        self._start = data["start"]
        set_random_states(data["start"], self._generators)
        if self._is_stateful and data["loader"] is not None:
            self.batches.load_state_dict(data["loader"])  # type: ignore[attr-defined]
            iterator = iter(self.batches)
        else:
            iterator = iter(self.batches)
            for _ in range(skip):
                if next(iterator, self) is self:
                    raise ValueError(
                        f"[resume] train ends before batch {skip}, where the run was stopped"
                    )
        set_random_states(now, self._generators)
        return iterator

    def goes_on_from(self, before: Position | None) -> bool:
        """Take up the pass of another position, with the present random numbers.

        Returns False where that is over other batches.
        """
        if before is None or before.batches is not self.batches:
            return False
        if not is_one_pass(self.batches):  # which go on by themselves
            self._saved = before.state_dict(), random_states(self._generators)
        return True

    def state_dict(self) -> Json:
        """The random numbers of the epoch's start, and the loader's own position."""
        if self._saved is not None:  # nothing was trained since
            return self._saved[0]
        batches: Any = self.batches
        loader = batches.state_dict() if self._is_stateful else None
        return {"start": None if self._start is None else storable(self._start), "loader": loader}

    def load_state_dict(self, data: Json, now: Json) -> None:
        """Take the epoch up again at the next `begin`; `now` are the random states from then on."""
        self._saved = data, now
