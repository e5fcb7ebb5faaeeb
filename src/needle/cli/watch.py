"""`needle watch`: a run's curves in the terminal while it trains."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ..train.records import Record, read_record
from .braille import Series, chart
from .errors import one_line_errors
from .facts import STYLES, ago, best, duration, find_run, number, steps
from .printing import console, say, visible

CURVES = {"train": "cyan", "validation": "yellow"}


def watch(
    run: Annotated[
        Path | None, typer.Argument(help="The run, by folder or name; the newest by default.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Watch a run: a live chart of its loss and metrics in the terminal.

    Ends when the run ends; Ctrl-C stops looking and leaves the run alone.
    """
    with one_line_errors():
        record = read_record(find_run(run))
        try:
            if console.is_terminal:
                _watch_live(record, every)
            else:
                _watch_in_lines(record, every)
        except KeyboardInterrupt:
            pass


def _goes_on(record: Record) -> bool:
    return record.state == "running" or (record.state == "new" and record.run.is_locked())


def _watch_live(record: Record, every: float) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(frame(record, console.width, console.height - 1), refresh=True)
            if not _goes_on(record):
                return
            time.sleep(every)
            record = record.updated()


def _watch_in_lines(record: Record, every: float) -> None:
    """Where the output is no terminal: a line whenever the run has moved."""
    told = ""
    while True:
        line = f"{record.name}: {_facts(record)}"
        if line != told:
            say(line)
        told = line
        if not _goes_on(record):
            return
        time.sleep(every)
        record = record.updated()


def _facts(record: Record) -> str:
    values = [f"{name} {number(record.last(name))}" for name in ("loss", *record.metrics()[:2])]
    facts = [
        record.state, f"step {steps(record)}", duration(record.progress("seconds")), *values,
        f"best {best(record)}",
    ]  # fmt: skip
    return " · ".join(facts)


def frame(record: Record, width: int, height: int) -> Group:
    """All that is shown at one moment, in `height` lines of `width` columns."""
    head = Text.assemble(
        (visible(record.name), "bold"), " ", (record.state, STYLES[record.state]),
        f"  {visible(record.title)}",
    )  # fmt: skip
    facts = Text(_facts(record).partition(" · ")[2])
    legend = Text.assemble(
        ("━ training  ", CURVES["train"]), ("━ validation  ", CURVES["validation"]),
        (f"{ago(record.progress('updated'))}  Ctrl-C stops looking", "dim"),
    )  # fmt: skip
    lines = [head, facts, legend]
    if record.problems:
        lines.append(Text(visible(record.problems[0]), "yellow"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    room = height - len(lines)
    keys = ["loss", *record.metrics()][: 2 if width >= 72 else 1]
    part = width // len(keys)
    drawn = [chart(_series(record, key), visible(key), part - 1, max(6, room)) for key in keys]
    return Group(*lines, Columns(drawn, padding=(0, 1, 0, 0)))


def _series(record: Record, key: str) -> list[Series]:
    return [(*record.curve(split, key), style) for split, style in CURVES.items()]
