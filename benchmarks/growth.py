"""How the time and the memory of a training step grow with its sizes, beside PyTorch and JAX.

    python benchmarks/growth.py [--quick] [batch width depth sequence vocabulary threads busy]

Along an axis one size grows and the others stay. Each contender has one process an axis, which
goes from the smallest point to the largest; its memory is what a step needs over the process
before any data. A contender leaves an axis where a point would pass the limits below.

A knee is a point where the exponent of needle's growth, d log(time) / d log(size), jumps from one
interval to the next.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rows import Row, Target, Unavailable, print_rows
from worker import Contender, ContenderError, contenders, installed, median_by_name, take_turns

SECTION = "growth"
CONTENDERS = ("needle jit", "PyTorch", "JAX")
STEP_LIMIT = 4.0  # seconds a step
START_LIMIT = 45.0  # seconds of the first call
MEMORY_LIMIT = 4000.0  # MiB
KNEE = 0.5  # jump of the exponent
MEMORY_FLOOR = 16.0  # MiB; below it the allocator's granules and the compiler's leftovers rule


@dataclass(frozen=True)
class Axis:
    """A case, the size of it that grows through `points`, and the sizes that stay."""

    case: str
    size: str
    points: Sequence[int]
    others: dict[str, Any] = field(default_factory=dict)

    def chosen(self, quick: bool) -> Sequence[int]:
        """All points, or the first, the last and every second between them."""
        return sorted({*self.points[::2], self.points[-1]}) if quick else self.points


GPT = dict(vocabulary=65, width=64, layers=1, heads=2, batch=1)
LSTM = dict(embedding=32, hidden=64, length=16, batch=4)
AXES = {
    "batch": Axis("mlp", "batch", [2**i for i in range(13)], {"width": 256}),
    "width": Axis("mlp", "width", [2**i for i in range(6, 13)], {"batch": 64}),
    "depth": Axis("mlp", "depth", [2, 4, 8, 16, 32, 64, 96], {"width": 128}),
    "sequence": Axis("gpt", "length", [2**i for i in range(6, 14)], GPT),
    "vocabulary": Axis(
        "lstm", "vocabulary", [i * 10**e for e in (3, 4, 5) for i in (1, 2, 5)][:8], LSTM
    ),
}
MACHINE_SIZES = {"width": 1024, "batch": 256}  # of the step of `threads` and `busy`


def rows(quick: bool = False, names: Iterable[str] = ()) -> list[Row]:
    """Two rows a point, its time and its memory; one for each number of threads and busy cores."""
    chosen = list(names) or [*AXES, "threads", "busy"]
    found = [row for name in chosen if name in AXES for row in along(name, quick)]
    return found + machine_rows([name for name in chosen if name not in AXES])


def along(name: str, quick: bool) -> list[Row]:
    """The rows of an axis; its knees and who left it are in their notes."""
    axis = AXES[name]
    times: dict[int, dict[str, float]] = {}
    sizes: dict[int, dict[str, float]] = {}
    notes: dict[int, list[str]] = {}
    with contenders(installed(CONTENDERS)) as started:
        left = dict(started)
        for point in axis.chosen(quick):
            notes[point] = []
            for who in list(left):
                reason = load(left[who], axis, point)
                if reason:
                    notes[point].append(f"{who} stops here: {reason}")
                    del left[who]
            turns = {who: lambda c=c: c.ask("turn", seconds=0.03) for who, c in left.items()}
            times[point] = median_by_name(take_turns(turns, rounds=3 if quick else 5))
            sizes[point] = {who: max(c.ask("memory"), 0.1) for who, c in left.items()}
            for who in list(left):
                if times[point][who] > STEP_LIMIT or sizes[point][who] > MEMORY_LIMIT:
                    notes[point].append(f"{who}: larger points skipped, past the limits")
                    del left[who]
            if not left:
                break
    made = []
    for what, values, unit in (("time", times, "ms"), ("memory", sizes, "MiB")):
        factor = 1e3 if what == "time" else 1.0
        jumps = knees(
            {p: v["needle jit"] for p, v in values.items() if "needle jit" in v},
            MEMORY_FLOOR if what == "memory" else 0.0,
        )
        for point, by_name in values.items():
            peers = {who: factor * v for who, v in by_name.items()}
            if (ours := peers.pop("needle jit", None)) is not None:
                note = "; ".join([*notes[point], *jumps.get(point, [])])
                title = f"{name} {point:,}, {what}"
                made.append(Row(SECTION, title, ours, unit, peers, note=note))
    return made


def load(contender: Contender, axis: Axis, point: int) -> str:
    """Bring a contender to a point and run its first step; why it could not, or nothing."""
    sizes = {**axis.others, axis.size: point}
    try:
        contender.ask("load", START_LIMIT, case=axis.case, sizes=sizes)
        contender.ask("losses", START_LIMIT, count=2)
    except ContenderError as error:
        return str(error)
    return ""


def knees(values: dict[int, float], floor: float = 0.0) -> dict[int, list[str]]:
    """A note for each point at which the local exponent jumps by more than `KNEE`."""
    points = [p for p in values if values[p] >= floor]
    exponents = [math.log(values[b] / values[a]) / math.log(b / a) for a, b in pairwise(points)]
    return {
        point: [f"knee: exponent {before:.2f}, then {after:.2f}"]
        for point, before, after in zip(points[1:], exponents, exponents[1:], strict=False)
        if abs(after - before) > KNEE
    }


# ---- threads, and company on the machine --------------------------------------------------------


def machine_rows(names: Sequence[str]) -> list[Row]:
    """The wide network's step on one core and on all, and with another process busy."""
    made = []
    for name in names:
        if name == "threads":
            made += [machine_row(f"threads {n}", threads=n) for n in (1, 2)]
        elif name == "busy":
            made.append(machine_row("busy: one other process computes", busy=True))
        else:
            raise Unavailable(f"no axis {name!r}; there are {[*AXES, 'threads', 'busy']}")
    return made


def machine_row(title: str, threads: int | None = None, busy: bool = False) -> Row:
    """The time of a step of the wide network."""
    with contenders(installed(CONTENDERS), threads) as started:
        for contender in started.values():
            contender.ask("load", case="mlp", sizes=MACHINE_SIZES)
            contender.ask("losses", count=2)
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            time.sleep(0.5)
            turns = {who: lambda c=c: c.ask("turn", seconds=0.2) for who, c in started.items()}
            peers = {w: 1e3 * s for w, s in median_by_name(take_turns(turns, rounds=7)).items()}
        finally:
            if other is not None:
                other.kill()
                other.wait()
    ours = peers.pop("needle jit")
    return Row(SECTION, f"{title}, time", ours, "ms", peers, targets=(Target("<=", 1.0),))


# ---- pictures -----------------------------------------------------------------------------------


def draw(found: Sequence[Row], folder: Path) -> list[Path]:
    """A picture of each axis: time and memory over the size, on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pictures = []
    for name in AXES:
        mine = [row for row in found if row.name.startswith(name + " ")]
        if not mine:
            continue
        figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
        for axes, what in zip(panels, ("time", "memory"), strict=True):
            curves: dict[str, list[tuple[int, float]]] = {who: [] for who in CONTENDERS}
            for row in mine:
                if row.name.endswith(what):
                    point = int(row.name.split()[1].replace(",", ""))
                    for who, value in {"needle jit": row.value, **row.peers}.items():
                        curves[who].append((point, value))
                    if "knee" in row.note:
                        axes.plot(point, row.value, "o", color="red", fillstyle="none", ms=11)
                    unit = row.unit
            for who, curve in curves.items():
                axes.loglog(*zip(*curve, strict=True), marker=".", label=who) if curve else None
            axes.set_xlabel(name)
            axes.set_ylabel(f"{what}, {unit}")
            axes.grid(which="both", alpha=0.3)
        panels[0].legend()
        figure.suptitle(f"A training step over {name} (red: knees of needle's curve)")
        pictures.append(folder / f"growth-{name}.png")
        figure.savefig(pictures[-1], dpi=90)
        pyplot.close(figure)
    return pictures


def main(arguments: Sequence[str]) -> None:
    """Print the rows of the axes that the arguments name."""
    print_rows(rows("--quick" in arguments, [a for a in arguments if a != "--quick"]))


if __name__ == "__main__":
    main(sys.argv[1:])
