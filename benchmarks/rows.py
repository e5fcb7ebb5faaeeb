"""One measured number beside its peers, its roofline and its targets, and how rows are printed.

Every section of the report (see `report.py`) gives rows:

    Row("steps", "two-layer, b100", 0.28, "ms", {"PyTorch": 0.58, "JAX": 0.59}, roofline=0.08,
        targets=(Target("<=", 0.4), Target("<=", 3.0, "roofline")))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import print_table

AGAINST = ("fastest peer", "roofline", "absolute")
HEADERS = ("what", "needle", "fastest peer", "ratio", "roofline", "ratio", "target", "note")


class Unavailable(Exception):
    """What a section raises when a library or instruction set that it needs is not here."""


@dataclass(frozen=True)
class Target:
    """A bound on needle's value over the fastest peer's, over the roofline, or by itself.

    `over` may also name one peer ("PyTorch"), whose value then counts, fastest or not.
    `direction` says which way is better: "<=" for times and memory, ">=" for rates.
    """

    direction: str
    bound: float
    over: str = "fastest peer"

    def __post_init__(self) -> None:
        if self.direction not in ("<=", ">="):
            raise ValueError(
                f"[Target] direction: got {self.direction!r}, expected '<=' or '>='; '<=' is for "
                "times and memory, '>=' for rates"
            )


@dataclass(frozen=True)
class Row:
    """A line of the report; `value`, `peers` and `roofline` are all in `unit`.

    `bigger_is_better` is for rows without a target; where there is one, its direction decides.
    """

    section: str
    name: str
    value: float
    unit: str
    peers: Mapping[str, float] = field(default_factory=dict)
    roofline: float | None = None
    targets: tuple[Target, ...] = ()
    note: str = ""
    bigger_is_better: bool = False

    @property
    def fastest_peer(self) -> str | None:
        """The peer of the best value, or None where there is none."""
        rates = self.targets[0].direction == ">=" if self.targets else self.bigger_is_better
        best = max if rates else min
        return best(self.peers, key=self.peers.__getitem__) if self.peers else None

    def measured(self, target: Target) -> float | None:
        """What the target bounds: the value or its ratio; None where the other side is missing."""
        if target.over == "absolute":
            return self.value
        if target.over == "roofline":
            return self.over_roofline
        if target.over == "fastest peer":
            return self.over_peer
        other = self.peers.get(target.over)
        return self.value / other if other else None

    def met(self, target: Target) -> bool | None:
        """Whether the target is met, or None where what it compares with was not measured."""
        found = self.measured(target)
        if found is None:
            return None
        return found <= target.bound if target.direction == "<=" else found >= target.bound

    @property
    def over_peer(self) -> float | None:
        """The value over the fastest peer's."""
        other = self.peers[self.fastest_peer] if self.fastest_peer else None
        return self.value / other if other else None

    @property
    def over_roofline(self) -> float | None:
        """The value over the roofline's."""
        return self.value / self.roofline if self.roofline else None

    def as_json(self) -> dict[str, Any]:
        """The row with its ratios and what became of its targets, as JSON can hold them."""
        targets = [
            {**dataclasses.asdict(t), "measured": self.measured(t), "met": self.met(t)}
            for t in self.targets
        ]
        return {
            **dataclasses.asdict(self),
            "targets": targets,
            "fastest_peer": self.fastest_peer,
            "over_peer": self.over_peer,
            "over_roofline": self.over_roofline,
        }

    def cells(self) -> list[str]:
        """The row under `HEADERS`."""
        peer = self.fastest_peer
        return [
            self.name,
            f"{number(self.value)} {self.unit}",
            f"{number(self.peers[peer])} ({peer})" if peer else "",
            number(self.over_peer),
            number(self.roofline),
            number(self.over_roofline),
            "; ".join(self._outcome(t) for t in self.targets),
            self.note,
        ]

    def _outcome(self, target: Target) -> str:
        unit = self.unit if target.over == "absolute" else f"× {target.over}"
        result = {True: "met", False: "**missed**", None: "not measured"}[self.met(target)]
        return f"{target.direction} {number(target.bound)} {unit}: {result}"


def number(value: float | None) -> str:
    """Three digits that mean something; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def print_rows(rows: Sequence[Row]) -> None:
    """Print the rows as one table of Markdown."""
    print_table(HEADERS, [row.cells() for row in rows])


def summary(rows: Sequence[Row]) -> str:
    """How many targets were met, missed and not measured, in words."""
    outcomes = [row.met(target) for row in rows for target in row.targets]
    met, missed = outcomes.count(True), outcomes.count(False)
    return f"{met} targets met, {missed} missed, {outcomes.count(None)} not measured"
