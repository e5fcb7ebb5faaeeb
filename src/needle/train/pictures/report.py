"""The report of a run: loss over learning rate, metrics, confusions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..records import Record, read_record
from .canvas import (
    BEST,
    TRAINING,
    VALIDATION,
    choose_scale,
    draw_line,
    give_title,
    new_figure,
    plain,
    style,
)
from .canvas import save as save_figure
from .confusion import draw_confusion, figure_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPLITS = {"train": ("training", TRAINING), "validation": ("validation", VALIDATION)}
MOST_METRICS = 3


def save_report(run: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write a picture of a run: its curves, its learning rate and its confusions.

    Parameters
    ----------
    run : path
        The run's folder.
    path : path, optional
        The PNG to write; `report.png` in the run's folder by default.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    FileNotFoundError
        If `run` is no folder of a run.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> save_report("runs/digits")  # doctest: +SKIP
    PosixPath('runs/digits/report.png')
    """
    record = read_record(Path(run))
    names = record.metrics()[:MOST_METRICS]
    heights, side = 4.8, 0.0
    if record.confusion is not None:
        side = min(8.0, figure_side(len(record.confusion.classes)))
    widths = [5.0] + [4.2] * bool(names) + [side + 0.4] * bool(side)
    figure = new_figure(sum(widths), max(heights, side, 2.2 * len(names)))
    give_title(figure, f"{record.name}: {record.title}")
    parts = list(figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0])
    x, label = _horizontal(record)
    loss, rate = parts.pop(0).subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_curves(loss, record, "loss", x)
    style(loss, "Loss")
    _draw_rate(rate, record, x, label)
    if names:
        panels = parts.pop(0).subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for name, axes in zip(names, panels, strict=True):
            _draw_curves(axes, record, name, x)
            style(axes, plain(name.replace("_", " ").capitalize(), 40))
        panels[-1].set_xlabel(label)
    if record.confusion is not None:
        draw_confusion(parts.pop(0).subplots(), record.confusion)
    target = record.run.report if path is None else Path(path)
    save_figure(figure, target)
    return target


def _horizontal(record: Record) -> tuple[str, str]:
    """(key, label) of the x axis: epochs where there are at least two, else steps."""
    epochs = record.progress("epoch")
    return ("epoch", "epoch") if epochs is not None and epochs >= 2 else ("step", "step")


def _draw_curves(axes: Axes, record: Record, key: str, x: str) -> None:
    drawn = []
    for split, (label, color) in SPLITS.items():
        places, values = record.curve(split, key, x)
        if len(values):
            draw_line(axes, places, values, color, label)
            drawn.append(values)
    if not drawn:
        axes.text(0.5, 0.5, "no rows yet", ha="center", va="center", transform=axes.transAxes)
        return
    choose_scale(axes, key, np.concatenate(drawn))
    _mark_best(axes, record, key, x)


def _mark_best(axes: Axes, record: Record, key: str, x: str) -> None:
    """A line at the best validation, and its value in the curve of its metric."""
    best = record.best()
    if best is None:
        return
    metric, value, step = best
    steps, places = record.curve("validation", x)
    place = places[steps == step]
    if not len(place):
        return
    named = metric.removeprefix("validation/") == key
    unit = f"{x} {place[0]:g}"
    axes.axvline(
        place[0], color=BEST, linestyle=":", linewidth=1.2,
        label=f"best: {value:.4g} at {unit}" if named else None,
    )  # fmt: skip
    if named:
        axes.plot(place[0], value, "*", color=BEST, markersize=11)


def _draw_rate(axes: Axes, record: Record, x: str, label: str) -> None:
    places, rates = record.curve("train", "lr", x)
    axes.plot(places, rates, color="tab:gray", marker="o" if len(places) == 1 else None)
    axes.grid(alpha=0.3)
    axes.set_xlabel(label)
    axes.set_ylabel("learning rate", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(bottom=0)
