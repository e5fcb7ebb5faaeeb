"""`needle data`: data sets, what there is, fetch it, check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import data
from .errors import one_line_errors
from .printing import say, show_table
from .progress import download_progress

data_app = typer.Typer(help="Data sets: what there is, fetch it, check it.", no_args_is_help=True)
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data set's files.", file_okay=False),
]


@data_app.command("list")
def list_data() -> None:
    """The data sets, and which are here."""
    with one_line_errors():
        entries = data.list_datasets()
    show_table(
        [(e.name, e.summary, "yes" if e.present else "no", e.folder) for e in entries],
        ("name", "what", "here", "folder"),
    )


@data_app.command("get")
def get_data(name: str, data_dir: DataDir = None) -> None:
    """Download a data set's files and check them."""
    with one_line_errors(), download_progress() as report:
        folder = data.get(name, data_dir, report)
    say(f"{name} is in {folder}")


@data_app.command("verify")
def verify_data(name: str, data_dir: DataDir = None) -> None:
    """Check a data set's files against their SHA-256."""
    with one_line_errors():
        problems = data.verify(name, data_dir)
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)
    say(f"{name}: all files are right")
