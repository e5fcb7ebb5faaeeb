"""What all pictures share: figures without a window, axes that can be read, short names."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from ...files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING, VALIDATION, BEST = "tab:blue", "tab:orange", "tab:green"
MOST_POINTS = 1500  # of a line; there are no more pixels
SMOOTHED_FROM = 200  # points: longer lines get a smoothed one on top


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches that lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all."""
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=110)


def plain(text: object, width: int = 80) -> str:
    """The text in one line of at most `width` characters that matplotlib takes literally."""
    line = _one_line(text)
    return _literal(line if len(line) <= width else line[: width - 1] + "…")


def give_title(figure: Figure, text: str, size: int = 12) -> None:
    """A title in as many lines as it needs, up to three."""
    width = int(figure.get_figwidth() * 132 / size)  # characters of the default font
    lines = textwrap.wrap(_one_line(text), width, max_lines=3, placeholder="…")
    figure.suptitle("\n".join(map(_literal, lines)), fontsize=size)


def _one_line(text: object) -> str:
    return "".join(c if c.isprintable() else "·" for c in " ".join(str(text).split()))


def _literal(line: str) -> str:
    return line.replace("$", r"\$")


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `MOST_POINTS` points: of each group of neighbours the means, without NaN."""
    group = -(-len(x) // MOST_POINTS)
    if group <= 1:
        return x, y
    starts = np.arange(0, len(x), group)
    known = np.add.reduceat(np.isfinite(y).astype(float), starts)
    total = np.add.reduceat(np.where(np.isfinite(y), y, 0.0), starts)
    means = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return np.add.reduceat(x, starts) / np.diff([*starts, len(x)]), means


def smoothed(y: np.ndarray) -> np.ndarray:
    """The mean over a centred window of 3 % of the points, without NaN."""
    window = max(3, int(len(y) * 0.03)) | 1
    known, kernel = np.isfinite(y), np.ones(window)
    total = np.convolve(np.where(known, y, 0.0), kernel, "same")
    count = np.convolve(known, kernel, "same")
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def draw_line(
    axes: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str, line: str = "-"
) -> None:
    """A curve; points that are not finite are marked at the bottom instead of disappearing."""
    lost = ~np.isfinite(y)
    shown = np.where(lost, np.nan, y)
    few = len(x) <= 30
    if len(x) >= SMOOTHED_FROM:
        places, means = thinned(x, shown)
        axes.plot(places, means, color=color, alpha=0.25, linewidth=1)
        axes.plot(places, smoothed(means), line, color=color, label=label)
    else:
        marker = "o" if few else None
        axes.plot(x, shown, line, color=color, label=label, marker=marker, markersize=3)
    if lost.any():
        marked = x[lost][:: max(1, int(lost.sum()) // 200)]
        axes.plot(
            marked, np.full(len(marked), 0.02), "x", color=color, clip_on=False,
            transform=axes.get_xaxis_transform(), label=label and f"{label}: not finite",
        )  # fmt: skip


def choose_scale(axes: Axes, key: str, values: np.ndarray) -> None:
    """A logarithmic y axis with plain numbers, where the values reach over more than a factor 4.

    Its ticks are at 1, 2 and 5 times the powers of ten, or only at these where there are many.
    Shares, such as the accuracy, keep the linear axis.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0 or values.max() < 4 * values.min():
        return
    if key != "loss" and values.max() <= 1:
        return
    axes.set_yscale("log")
    decades = np.log10(values.max() / values.min())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def style(axes: Axes, title: str, xlabel: str = "") -> None:
    """A grid, a title, and a legend where there is something to tell apart."""
    axes.grid(alpha=0.3)
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
