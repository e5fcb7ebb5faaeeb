"""Line charts of braille characters, each of which has 4×2 dots, in color.

plotext, which draws such charts, changed its whole interface in version 6; rich already knows the
colors of the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.text import Text

LABELS = 9  # columns for the numbers beside the axis
# The bit of each dot in the code of a braille character, by row and column.
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])

Series = tuple[np.ndarray, np.ndarray, str]  # x, y, style of rich


def chart(series: Sequence[Series], title: str, width: int, height: int, x: str = "step") -> Text:
    """Curves with their axes, `height` lines of `width` columns; the last curve is on top.

    The y axis is logarithmic where all values are positive and reach over a factor of ten. Values
    that are not finite are left out.
    """
    columns, lines = max(8, width - LABELS - 1), max(2, height - 3)
    ys = np.concatenate([np.empty(0), *(y for _, y, _ in series)])
    xs = np.concatenate([np.empty(0), *(x for x, _, _ in series)])
    xs, ys = xs[np.isfinite(ys)], ys[np.isfinite(ys)]
    text = Text().append(title[:width].center(width) + "\n", "bold")
    if not len(ys):
        return text.append("no values yet".center(width) + "\n" * (height - 2), "dim")
    log = ys.min() > 0 and ys.max() > 10 * ys.min()
    scale = np.log10 if log else np.asarray
    x_ends, y_ends = _ends(xs), _ends(scale(ys))
    codes = np.zeros((lines, columns), np.int64)
    styles = np.zeros((lines, columns), np.int64)
    for i, (place, value, _) in enumerate(series):
        kept = np.isfinite(value)
        drawn = _dots(place[kept], scale(value[kept]), x_ends, y_ends, columns, lines)
        codes |= drawn
        styles[drawn > 0] = i
    for line in range(lines):
        share = 1 - line / (lines - 1)
        tick = y_ends[0] + share * (y_ends[1] - y_ends[0])
        named = line == lines - 1 or (line % 3 == 0 and line < lines - 2)
        label = f"{10**tick if log else tick:.3g}" if named else ""
        text.append(label.rjust(LABELS) + "│", "dim")
        for code, style in zip(codes[line], styles[line], strict=True):
            text.append(chr(0x2800 + code) if code else " ", series[style][2] if code else "")
        text.append("\n")
    left, right = f"{xs.min():g}", f"{xs.max():g} ({x})"
    text.append(" " * LABELS + "└" + "─" * columns + "\n", "dim")
    return text.append(" " * (LABELS + 1) + left + right.rjust(columns - len(left)), "dim")


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.0 if high > low else abs(high) * 0.1 or 0.5
    return low - margin, high + margin


def _dots(
    x: np.ndarray,
    y: np.ndarray,
    x_ends: tuple[float, float],
    y_ends: tuple[float, float],
    columns: int,
    lines: int,
) -> np.ndarray:
    """The codes (lines, columns) of the characters that show the curve."""
    dots = np.zeros((4 * lines, 2 * columns), bool)
    if len(x):
        right = (x - x_ends[0]) / (x_ends[1] - x_ends[0]) * (2 * columns - 1)
        down = (y_ends[1] - y) / (y_ends[1] - y_ends[0]) * (4 * lines - 1)
        ways = np.maximum(np.abs(np.diff(right)), np.abs(np.diff(down)))
        along = np.concatenate([[0.0], np.cumsum(np.ceil(ways))])  # a dot at least every one
        at = np.arange(along[-1] + 1)
        dots[np.interp(at, along, down).round().astype(int),
             np.interp(at, along, right).round().astype(int)] = True  # fmt: skip
    cells = dots.reshape(lines, 4, columns, 2).transpose(0, 2, 1, 3)
    codes: np.ndarray = (cells * BITS).sum((2, 3))
    return codes
