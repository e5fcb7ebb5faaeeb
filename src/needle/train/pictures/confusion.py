"""Confusion matrices whose small errors can be seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..records import Confusion
from .canvas import give_title, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COUNTS = 20  # classes up to which each cell shows its count
MOST_NAMES = 60  # classes up to which each is named
NAME_WIDTH = 16


def save_confusion(path: str | os.PathLike[str], confusion: Confusion, title: str) -> None:
    """Write a confusion matrix as PNG.

    Parameters
    ----------
    path : path
        The file to write.
    confusion : Confusion
        Counts (classes, classes), rows are the true classes.
    title : str
        Says which model and data it is of.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from needle.train.records import Confusion
    >>> confusion = Confusion(("cat", "dog"), np.array([[9, 1], [2, 8]]), None, "20 images")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_confusion(folder + "/confusion.png", confusion, "cats and dogs")
    """
    side = figure_side(len(confusion.classes))
    figure = new_figure(side + 1, side)
    give_title(figure, title, 11)
    draw_confusion(figure.subplots(), confusion)
    save(figure, path)


def figure_side(classes: int) -> float:
    """Inches of a square in which a matrix of that many classes can be read."""
    return min(14.0, max(5.0, 1.5 + 0.42 * min(classes, MOST_COUNTS), 1.5 + 0.17 * classes))


def draw_confusion(axes: Axes, confusion: Confusion) -> None:
    """Draw the matrix. A cell's colour is its share of its row's true class: blue for what is
    right, red for errors, whose scale ends at the most frequent error."""
    matrix, count = confusion.matrix, len(confusion.classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    right = np.eye(count, dtype=bool)
    errors = np.ma.array(share, mask=right | (matrix == 0))
    worst = float(errors.max()) if errors.count() else 1.0
    axes.imshow(np.ma.array(share, mask=~right), cmap="Blues", vmin=0, vmax=1.2)
    # The square root lifts the rare errors; 1.3 leaves the darkest red readable under a number.
    axes.imshow(np.sqrt(errors), cmap="Reds", vmin=-0.1, vmax=1.3 * np.sqrt(worst))
    if count <= MOST_COUNTS:
        _write_counts(axes, matrix, share, worst)
    _name_classes(axes, confusion.classes)
    where = f" ({plain(confusion.data, 40)})" if confusion.data else ""
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusions{where}")


def _write_counts(axes: Axes, matrix: np.ndarray, share: np.ndarray, worst: float) -> None:
    size = 9 if len(matrix) <= 12 else 7
    for (i, j), count in np.ndenumerate(matrix):
        dark = share[i, j] > 0.6 if i == j else share[i, j] > 0.6 * worst
        if count:
            axes.text(
                j, i, str(count), ha="center", va="center",
                fontsize=size if count < 1000 else size - 2, color="white" if dark else "black",
            )  # fmt: skip


def _name_classes(axes: Axes, classes: tuple[str, ...]) -> None:
    count = len(classes)
    ticks = np.arange(0, count, 1 if count <= MOST_NAMES else 20)
    names = [plain(classes[i] if count <= MOST_NAMES else i, NAME_WIDTH) for i in ticks]
    turned = max(map(len, names), default=0) > 2
    size = 9 if count <= MOST_COUNTS else 7
    axes.set_xticks(ticks, names, rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)


def worst_confusions(confusion: Confusion, most: int = 5) -> list[tuple[str, str, int]]:
    """(true class, predicted class, count) of the most frequent errors."""
    errors = confusion.matrix * ~np.eye(len(confusion.matrix), dtype=bool)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [
        (confusion.classes[i], confusion.classes[j], int(errors[i, j]))
        for i, j in pairs
        if errors[i, j]
    ]
