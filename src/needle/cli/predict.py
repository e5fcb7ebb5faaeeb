"""`needle predict`: what a trained model says of files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from ..files import written_whole
from ..train import load_run
from ..train.prediction import predict_files
from ..train.rows import finite
from ..typing import Json
from .errors import one_line_errors
from .facts import find_run
from .printing import write

Format = StrEnum("Format", ["csv", "json"])


def predict(
    run: Annotated[Path, typer.Argument(help="A run, by folder or name, or a checkpoint.")],
    files: Annotated[
        list[Path], typer.Argument(help="Images or folders of them, texts, or CSV files.")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes are named.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The file to write, .csv or .json; else it is printed.")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="CSV by default.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Your own model's package.module:function.")
    ] = None,
) -> None:
    """Say what a trained model makes of files, as CSV or JSON.

    Of images the classes, of rows of a table the classes or numbers, of texts the loss a token.

    Examples:

      needle predict digits eight.png --top 3

      needle predict csv customers.csv --out predictions.csv
    """
    with one_line_errors():
        loaded = load_run(run if run.exists() else find_run(run), model)
        rows = list(predict_files(loaded, files, top))
        suffix = out.suffix.lower() if out else ""
        kind = format or (Format.json if suffix == ".json" else Format.csv)
        text = as_json(rows) if kind is Format.json else as_csv(rows)
        if out is None:
            write(text)
        else:
            with written_whole(out) as file:
                file.write(text.encode())


def as_csv(rows: Iterable[Json]) -> str:
    """Rows under a header of all their keys."""
    rows = list(rows)
    text = StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(rows: Iterable[Json]) -> str:
    """Rows as a list of objects, null where a number is not finite."""
    return json.dumps(finite(list(rows)), indent=1, ensure_ascii=False) + "\n"
