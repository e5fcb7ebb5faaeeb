"""Progress bars (rich)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TransferSpeedColumn,
)

from .printing import console, text_column, visible


@contextmanager
def download_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for every file that is fetched."""
    columns = (text_column("{task.description}"), BarColumn(), DownloadColumn(),
               TransferSpeedColumn())  # fmt: skip
    progress = Progress(*columns, console=console)
    tasks: dict[str, TaskID] = {}

    def report(name: str, done: int, total: int) -> None:
        if not tasks:  # where nothing is fetched nothing is drawn
            progress.start()
        if name not in tasks:
            tasks[name] = progress.add_task(visible(name), total=total or None)
        progress.update(tasks[name], completed=done)

    try:
        yield report
    finally:
        if tasks:
            progress.stop()
