"""Progress bars (rich)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from ..train import EpochResult
from .printing import console, text_column, visible


@contextmanager
def training_progress(
    epochs: int, steps: int, unit: str
) -> Iterator[Callable[[int, EpochResult], None]]:
    """A bar over all steps with the epoch's running loss, accuracy and units/s."""
    columns = (
        text_column("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        text_column("loss {task.fields[loss]}  acc {task.fields[accuracy]}  {task.fields[rate]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            "", total=epochs * steps, epoch=f"1/{epochs}", loss="-", accuracy="-", rate=""
        )

        def report(epoch: int, running: EpochResult) -> None:
            progress.update(
                task,
                advance=1,
                epoch=f"{epoch + 1}/{epochs}",
                loss=f"{running.loss:.4f}",
                accuracy=f"{100 * running.accuracy:.2f} %",
                rate=f"{running.samples_per_second:,.0f} {unit}/s",
            )

        yield report


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
