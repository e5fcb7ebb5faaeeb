"""Runs in words: which one is meant, how far it is, how it does."""

from __future__ import annotations

import time
from pathlib import Path

from ..train.records import Record, find_runs
from ..train.rows import is_number
from ..train.run import RUNS, is_run

STYLES = {
    "running": "cyan", "finished": "green", "failed": "red", "killed": "red",
    "interrupted": "yellow", "new": "yellow",
}  # fmt: skip


def find_run(run: Path | None) -> Path:
    """The folder of a run that is given by its path, by its name in `runs`, or as the newest.

    Raises FileNotFoundError where there is none.
    """
    if run is None:
        found = find_runs(Path(RUNS)) if Path(RUNS).is_dir() else []
        if not found:
            raise FileNotFoundError(f"there is no run in {RUNS!r}; `needle train` makes one")
        return found[0]
    for folder in (run, Path(RUNS) / run):
        if is_run(folder):
            return folder
    if run.is_file():
        raise FileNotFoundError(f"{str(run)!r} is a file; what is wanted is the folder of a run")
    names = [path.name for path in find_runs(Path(RUNS))[:5]] if Path(RUNS).is_dir() else []
    known = f"; the newest runs are {', '.join(names)}" if names else ""
    raise FileNotFoundError(f"{str(run)!r} is no run, nor is there one of that name{known}")


def number(value: float | None) -> str:
    """A loss or a metric in a few digits."""
    return "–" if value is None else f"{value:.4g}"


def steps(record: Record) -> str:
    """The step, and of how many where that is known."""
    done, total = record.progress("step"), record.status.get("steps")
    if done is None:
        return "–"
    return f"{done:,.0f}/{total:,.0f}" if is_number(total) else f"{done:,.0f}"


def best(record: Record) -> str:
    """The best value with its step; names the metric where that is not the validation loss."""
    found = record.best()
    if found is None:
        return "–"
    metric, value, step = found
    named = "" if metric == "validation/loss" else f"{metric.removeprefix('validation/')} "
    return f"{named}{number(value)} at {step:,}"


def counted(count: int, what: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def duration(seconds: float | None) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    if seconds is None or not 0 <= seconds < 1e9:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(moment: float | None) -> str:
    """When something happened, a Unix time, in words: "5 min ago"."""
    if moment is None or not 0 < moment < 1e11:
        return "–"
    seconds = time.time() - moment
    for unit, length, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < length * most:
            return f"{max(0, int(seconds / length))} {unit} ago"
    return time.strftime("%Y-%m-%d", time.localtime(moment))
