"""Whole training steps: compiled needle against PyTorch, torch.compile, JAX and the roofline.

    python benchmarks/steps.py [--quick] [two-layer mlp-resnet resnet9 wide-mlp lstm …]

Each contender has a process of its own (`worker.py`), with the same weights and batches. Their
first losses must agree before anything is timed; then they take turns. The machine's peak and copy
take turns too, because the clock changes with the load.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cases
import roofline
from cases import Case
from rows import Row, Target, print_rows
from worker import (
    NEEDLE,
    Contender,
    ContenderError,
    contenders,
    installed,
    median_by_name,
    take_turns,
)

SECTION = "steps"
PEERS = ("PyTorch", "torch.compile", "JAX")


@dataclass(frozen=True)
class Workload:
    """A case, and the most that compiled needle may take over the fastest peer and the roofline.

    A `big` one is timed over few steps, beside eager PyTorch alone; `memory.py` has its memory.
    """

    title: str
    case: str
    over_peer: float
    over_roofline: float | None = None
    big: bool = False
    peers: Sequence[str] = PEERS

    def make(self) -> Case:
        """The case, with a model of its own."""
        return getattr(cases, self.case)()

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of the time."""
        found = (Target("<=", self.over_peer),)
        return found + ((Target("<=", self.over_roofline, "roofline"),) * bool(self.over_roofline))


IMAGES = ("PyTorch", "PyTorch, channels last", "torch.compile", "JAX")
WORKLOADS = {
    "two-layer": Workload("two-layer, batch 100", "two_layer", 0.4),
    "mlp-resnet": Workload("MLPResNet, batch 100", "mlp_resnet", 0.3),
    "resnet9": Workload("ResNet9, batch 128", "resnet9", 0.2, peers=IMAGES),
    "wide-mlp": Workload("MLP 784-1024-1024-10, batch 256", "wide_mlp", 0.8, 1.10),
    "lstm": Workload("LSTM, vocabulary 10,000, hidden 100", "lstm", 0.5, 1.25),
    "lstm-large": Workload("LSTM, 2 layers of 512", "lstm_large", 0.75, 1.12),
    "gpt": Workload("GPT, 4 layers of 128, batch 12", "gpt", 0.5, 1.3),
    "gpt2": Workload(
        "GPT-2 small's shape, 2×256 tokens", "gpt2_short", 0.65, 1.15, big=True, peers=("PyTorch",)
    ),
}


def rows(quick: bool = False, names: Iterable[str] = ()) -> list[Row]:
    """Rows of the workloads of these names (all by default), eager needle's without targets."""
    return [row for name in names or WORKLOADS for row in measure(WORKLOADS[name], quick)]


def measure(workload: Workload, quick: bool = False) -> list[Row]:
    """Check that the losses agree, let the contenders take turns, and make rows of it."""
    rounds, seconds = (2 if workload.big else 5 if quick else 11), (0 if workload.big else 0.05)
    with contenders(installed([*NEEDLE, *workload.peers])) as started:
        ready, facts, notes = prepare(started, workload)
        copy_rate = roofline.copier(facts["bytes"])
        machine = {"peak": roofline.peak_flops, "copy": copy_rate}
        turns = {who: lambda c=c: c.ask("turn", seconds=seconds) for who, c in ready.items()}
        found = median_by_name(take_turns({**turns, **machine}, rounds))
    bound = 1e3 * max(facts["flops"] / found.pop("peak"), facts["bytes"] / found.pop("copy"))
    ms = {who: 1e3 * seconds for who, seconds in found.items()}
    peers = {who: value for who, value in ms.items() if who not in NEEDLE}
    note = "; ".join(notes)
    made = []
    if "needle jit" in ms:
        made.append(
            Row(SECTION, workload.title, ms["needle jit"], "ms", peers, bound,
                workload.targets, note)
        )  # fmt: skip
    made.append(Row(SECTION, f"{workload.title}, eager", ms["needle eager"], "ms", peers, bound))
    return made


def prepare(
    started: Mapping[str, Contender], workload: Workload
) -> tuple[dict[str, Contender], dict[str, Any], list[str]]:
    """The contenders whose first losses were checked, facts of the case, and who did not run why.

    A big workload is prepared by one contender at a time, because compilers need memory as well.
    """
    ready: dict[str, Contender] = {}
    losses: dict[str, list[float]] = {}
    notes: list[str] = []
    facts: dict[str, Any] = {}
    count = 2 if workload.big else 8
    for who, contender in started.items():
        try:
            facts = contender.ask("load", case=workload.case, sizes={})
            losses[who] = contender.ask("losses", limit=240, count=count)["losses"]
            ready[who] = contender
        except ContenderError as error:
            if who == "needle eager":
                raise
            notes.append(str(error))
    check_losses(workload.title, losses, facts["tolerance"])
    return ready, facts, notes


def check_losses(title: str, losses: Mapping[str, Sequence[float]], tolerance: float) -> None:
    """Exit where the first losses of a contender differ from eager needle's."""
    for who, values in losses.items():
        gap = max(abs(a - b) for a, b in zip(values, losses["needle eager"], strict=True))
        if not gap <= tolerance:
            sys.exit(f"{title}: losses of needle and {who} differ by {gap:.2e}: {dict(losses)}")


def main(arguments: Sequence[str]) -> None:
    """Print the rows of the workloads that the arguments name."""
    print_rows(rows("--quick" in arguments, [a for a in arguments if a != "--quick"]))


if __name__ == "__main__":
    main(sys.argv[1:])
