"""`needle runs` and `needle plot`: several runs side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..train.records import Record, find_runs, read_record
from ..train.run import RUNS
from .errors import one_line_errors
from .facts import ago, best, duration, find_run, number, steps
from .printing import complain, say, show_table

LAST = 65536  # bytes of the measurements that a list reads: those of days take seconds
Axis = StrEnum("Axis", ["step", "epoch", "seconds"])


def list_runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path(RUNS),
) -> None:
    """List the runs in a folder, the newest first.

    A run is "killed" where its process ended without a word; `needle train --resume` takes it up.
    """
    with one_line_errors():
        records = [read_record(run, LAST) for run in find_runs(folder)]
    if not records:
        say(f"there is no run in {folder}; `needle train digits` makes one")
        return
    show_table(
        [
            (
                record.name, record.state, steps(record), number(record.last("loss")),
                best(record), ago(record.progress("updated")), duration(record.progress("seconds")),
            )
            for record in records
        ],
        ("name", "state", "step", "loss", "best", "when", "time"),
    )  # fmt: skip
    tell_problems(records)


def plot_runs(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or their names in runs/.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("comparison.png"),
    x: Annotated[Axis, typer.Option(help="What runs from left to right.")] = Axis.step,
) -> None:
    """Compare runs: curves in one picture, last values in a table.

    Examples:

      needle plot digits digits-2

      needle plot runs/gpt* --x seconds --out gpt.png
    """
    with one_line_errors():
        from ..train.pictures import save_comparison

        records = [read_record(find_run(run)) for run in runs]
        save_comparison(out, records, x.value)
    names = list(dict.fromkeys(name for record in records for name in record.metrics()))
    show_table(
        [
            (
                record.name, record.state, steps(record), number(record.last("loss")),
                *(number(record.last(name)) for name in names),
                best(record), duration(record.progress("seconds")),
            )
            for record in records
        ],
        ("name", "state", "step", "loss", *names, "best", "time"),
    )  # fmt: skip
    tell_problems(records)
    say(f"wrote {out}")


def tell_problems(records: list[Record]) -> None:
    """What of the runs could not be read, a line each, on stderr."""
    for record in records:
        for problem in record.problems:
            complain(f"{record.name}: {problem}")
