"""Several runs in one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..records import Record
from .canvas import choose_scale, draw_line, give_title, new_figure, plain, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LineStyle = Literal["-", "--", ":", "-."]

MOST_PANELS, MOST_NAMED = 4, 24
LABELS = {"step": "step", "epoch": "epoch", "seconds": "seconds of training"}


def save_comparison(
    path: str | os.PathLike[str], records: Sequence[Record], x: str = "step"
) -> None:
    """Draw the loss and the metrics of several runs over each other.

    Validation is drawn where a run has it, else training.

    Parameters
    ----------
    path : path
        The PNG to write.
    records : sequence of Record
        The runs, see `needle.train.records.read_record`.
    x : {"step", "epoch", "seconds"}

    Raises
    ------
    ValueError
        If there are no runs, or `x` is another.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from needle.train.records import read_record
    >>> runs = [read_record(Path("runs") / name) for name in ("a", "b")]  # doctest: +SKIP
    >>> save_comparison("comparison.png", runs, x="seconds")  # doctest: +SKIP
    """
    if not records or x not in LABELS:
        raise ValueError(
            f"[save_comparison] needs runs and one of {', '.join(LABELS)}, "
            f"got {len(records)} runs and {x!r}"
        )
    keys = ["loss", *dict.fromkeys(name for record in records for name in record.metrics())]
    keys = keys[:MOST_PANELS]
    styles = _styles(len(records))
    named = records[:MOST_NAMED]
    columns = max(1, 2 * len(keys) - 1)
    figure = new_figure(max(6.0, 4.8 * len(keys)), 4.2 + 0.22 * -(-len(named) // columns))
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for key, axes in zip(keys, panels, strict=True):
        drawn = [np.empty(0)]
        for record, look in zip(records, styles, strict=True):
            places, values = record.curve(record.measured_on(key), key, x)
            draw_line(axes, places, values, look[0], "", look[1])
            drawn.append(values)
        choose_scale(axes, key, np.concatenate(drawn))
        style(axes, plain(key.replace("_", " ").capitalize(), 40), LABELS[x])
    _name_runs(figure, named, styles, columns, len(records) - len(named))
    titles = dict.fromkeys(record.title for record in records)
    give_title(figure, "; ".join(titles), 11)
    save(figure, path)


def _styles(count: int) -> list[tuple[str, LineStyle]]:
    """(color, line style) of each run; the ten colors come again in other line styles."""
    lines: tuple[LineStyle, ...] = ("-", "--", ":", "-.")
    return [(f"C{i % 10}", lines[i // 10 % len(lines)]) for i in range(count)]


def _name_runs(
    figure: Figure,
    records: Sequence[Record],
    styles: Sequence[tuple[str, LineStyle]],
    columns: int,
    more: int,
) -> None:
    """A legend under the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linestyle=line, label=plain(record.name, 36))
        for record, (color, line) in zip(records, styles, strict=False)
    ]
    if more:
        handles.append(Line2D([], [], color="none", label=f"and {more} more"))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
