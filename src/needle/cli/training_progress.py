"""What `needle train` shows while it trains: a bar, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from ..train import Callback, Trainer
from ..train.limits import part_done
from ..train.rows import finite, measures
from ..typing import Json
from .facts import duration
from .printing import console, say, visible, write

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

LINE_SECONDS = 10.0  # between plain lines, where there is no validation sooner
PERCENT = ("accuracy", "top", "f1")


class Facts:
    """What a trainer's rows say, in words that fit a line.

    Parameters
    ----------
    unit : str
        What is counted: "images".
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.train: Json = {}
        self.validation: Json = {}

    def add(self, row: Json) -> None:
        """Note a row."""
        if row["split"] == "validation":
            self.validation = row
        else:
            self.train = row

    def measures(self, row: Json) -> list[str]:
        """The loss and the metrics of a row: ["loss 0.4123", "accuracy 97.31 %"]."""
        return [f"{name} {measure(name, row[name])}" for name in measures(row)]

    def speed(self) -> str:
        """ "8,123 images/s" or ""."""
        rate = self.train.get("samples_per_second")
        return f"{compact(rate)} {self.unit}/s" if rate else ""

    def rate(self) -> str:
        """ "lr 0.001" or ""."""
        lr = self.train.get("lr")
        return "" if lr is None else f"lr {lr:.2g}"

    def memory(self) -> str:
        """ "210 MB" or ""."""
        held = self.train.get("memory")
        return f"{held / 2**20:,.0f} MiB" if held else ""


def measure(name: str, value: float) -> str:
    """A loss or metric in the digits that matter."""
    if name.startswith(PERCENT) and 0 <= value <= 1:
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def compact(count: float) -> str:
    """A count in few characters: 950, 8,123, 81.2k, 1.24M."""
    if count < 10_000:
        return f"{count:,.0f}"
    return f"{count / 1e3:,.1f}k" if count < 1e6 else f"{count / 1e6:,.2f}M"


class TrainingCallback(Callback):
    """Base of what reports a training: knows how far it is and how long it will take.

    Parameters
    ----------
    unit : str
        What is counted: "images".
    seconds : float
        How long it may take; 0 for no limit.
    """

    def __init__(self, unit: str, seconds: float = 0.0) -> None:
        self.facts, self.seconds = Facts(unit), seconds
        self._marks: deque[tuple[float, int]] = deque(maxlen=30)  # when the latest rows came

    def part_done(self, trainer: Trainer) -> float | None:
        """In [0, 1]; None where the end is not known."""
        progress = trainer.progress
        return part_done(progress.step, trainer.total_steps, progress.seconds, self.seconds)

    def remaining(self, trainer: Trainer) -> str:
        """ "ETA 1:02", or "" while it is not known."""
        limit, total = self.seconds, trainer.total_steps
        left = [limit - trainer.progress.seconds] if limit else []
        step, now = trainer.progress.step, time.monotonic()
        began, first = self._marks[0] if self._marks else (now, step)
        if total and step > first:
            left.append((now - began) / (step - first) * (total - step))
        return f"ETA {duration(max(0.0, min(left)))}" if left else ""

    def note(self, trainer: Trainer, row: Json) -> None:
        """Note a row, and when it came."""
        self.facts.add(row)
        self._marks.append((time.monotonic(), trainer.progress.step))

    def steps(self, trainer: Trainer) -> str:
        """ "step 120/4,200"."""
        total = f"/{trainer.total_steps:,}" if trainer.total_steps else ""
        return f"step {trainer.progress.step:,}{total}"

    def epochs(self, trainer: Trainer) -> str:
        """ "epoch 3/30"."""
        total = trainer.total_epochs
        shown = math.ceil(trainer.epochs_done() - 1e-9) or 1
        return f"epoch {shown}/{total}" if total else f"epoch {shown}"

    def line(self, trainer: Trainer, validated: bool) -> str:
        """All facts in one line."""
        facts = self.facts
        parts = [self.epochs(trainer), self.steps(trainer), *facts.measures(facts.train)]
        if validated:
            parts += ["| validation", *facts.measures(facts.validation), "|"]
        parts += [facts.speed(), facts.rate(), facts.memory(), self.remaining(trainer)]
        return "  ".join(part for part in parts if part)


class Lines(TrainingCallback):
    """A line for each validation, and every few seconds where there is none."""

    def __init__(self, unit: str, seconds: float = 0.0) -> None:
        super().__init__(unit, seconds)
        self._next_line = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Say that the first step takes its time."""
        self._next_line = time.monotonic() + LINE_SECONDS
        if trainer.compiled:
            say("compiling the training step…")

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Say what the row says, if it is time."""
        self.note(trainer, row)
        if row["split"] == "validation" or time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            say(self.line(trainer, row["split"] == "validation"))


class JsonLines(TrainingCallback):
    """Every row as a line of JSON."""

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Write the row."""
        event({"event": "row", **row})


def event(found: Json) -> None:
    """One line of JSON; NaN and infinities, which JSON lacks, are null."""
    write(json.dumps(finite(found), default=str) + "\n")


class Bar(TrainingCallback):
    """Two lines at the foot of the terminal: how far it is, and how it goes.

    Validations are said above them, so that they stay.
    """

    def __init__(self, unit: str, seconds: float = 0.0) -> None:
        super().__init__(unit, seconds)
        self._trainer: Trainer | None = None
        self._doing = ""
        self._live = Live(self, console=console, transient=True, refresh_per_second=8)

    def on_fit_start(self, trainer: Trainer) -> None:
        """Show the bar."""
        self._trainer = trainer
        self._doing = "compiling…" if trainer.compiled else "starting…"
        self._live.start()

    def on_step_end(self, trainer: Trainer) -> None:
        """The first step is done: nothing compiles any more."""
        self._doing = ""

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Note a row; a validation is said."""
        self.note(trainer, row)
        if row["split"] == "validation":
            self._doing = ""
            say(self._validated(trainer))

    def on_validation_start(self, trainer: Trainer) -> None:
        """Say so: a large validation takes a while."""
        self._doing = "validating…"

    def on_fit_end(self, trainer: Trainer) -> None:
        """Take the bar away."""
        self._live.stop()

    def _validated(self, trainer: Trainer) -> str:
        found = self.facts.measures(self.facts.validation)
        trained = [f"train {part}" for part in self.facts.measures(self.facts.train)[:1]]
        parts = [self.epochs(trainer), f"validation {found[0]}", *found[1:], *trained]
        return fitting([*parts, self.steps(trainer)], console.width)

    def __rich_console__(self, console: object, options: ConsoleOptions) -> RenderResult:
        trainer = self._trainer
        if trainer is None:
            return
        yield from self._lines(trainer, options.max_width)

    def _lines(self, trainer: Trainer, width: int) -> Iterator[Text | Grid]:
        part, facts = self.part_done(trainer), self.facts
        before = "  ".join([self.epochs(trainer), self.steps(trainer)])
        after = "" if part is None else f"{100 * part:3.0f} %"
        after = "  ".join(text for text in (after, self.remaining(trainer)) if text)
        room = width - cell_len(before) - cell_len(after) - 4
        grid = Grid.grid(padding=(0, 2, 0, 0))
        if room >= 8:
            bar = ProgressBar(total=1.0, completed=part or 0.0, width=min(room, 40))
            grid.add_row(Text(before, no_wrap=True), bar, Text(after, no_wrap=True))
        else:
            grid.add_row(Text(f"{before}  {after}", no_wrap=True))
        yield grid
        parts = [self._doing, *facts.measures(facts.train), facts.speed(), facts.rate(),
                 facts.memory()]  # fmt: skip
        yield Text(visible(fitting(parts, width)), no_wrap=True)


def fitting(parts: list[str], width: int) -> str:
    """As many of the parts as fit into a line, the first ones first."""
    line = ""
    for part in filter(None, parts):
        longer = f"{line}  {part}" if line else part
        if cell_len(longer) > width:
            break
        line = longer
    return line


def reporter(unit: str, seconds: float, as_json: bool, quiet: bool) -> TrainingCallback:
    """What reports a training, as asked for and as the output allows."""
    if as_json:
        return JsonLines(unit, seconds)
    if quiet:
        return TrainingCallback(unit, seconds)
    in_terminal = console.is_terminal and not console.is_dumb_terminal
    return Bar(unit, seconds) if in_terminal else Lines(unit, seconds)
