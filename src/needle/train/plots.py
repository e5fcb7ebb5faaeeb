"""Pictures of a training run (matplotlib, part of the extra `needle-dl[cli]`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import written_whole
from .loop import History

MOST_CLASSES = 20  # in a confusion matrix that can be read


def save_report(path: Path, history: History, confusion: np.ndarray, title: str) -> None:
    """Write a PNG with the curves of loss and accuracy and, for few classes, the confusions."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    readable = len(confusion) <= MOST_CLASSES
    figure, panels = plt.subplots(
        1, 3 if readable else 2, figsize=(14 if readable else 9, 4.2), layout="constrained"
    )
    loss, accuracy = panels[:2]
    figure.suptitle(title)
    epochs = np.arange(1, len(history.train) + 1)
    for name, results in (("training", history.train), ("test", history.test)):
        loss.plot(epochs, [r.loss for r in results], label=name)
        accuracy.plot(epochs, [100 * r.accuracy for r in results], label=name)
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Loss", yscale="log")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    if readable:
        _draw_confusion(panels[2], confusion)
    try:
        with written_whole(path) as file:
            figure.savefig(file, format="png", dpi=110)
    finally:
        plt.close(figure)


def _draw_confusion(axes: object, confusion: np.ndarray) -> None:
    """Counts on a colour that shows the share of each true class, so that rare errors are seen."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # type: ignore[attr-defined]
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            axes.text(  # type: ignore[attr-defined]
                j, i, str(count), ha="center", va="center", fontsize=8,
                color="white" if share[i, j] > 0.4 else "black",
            )  # fmt: skip
    ticks = np.arange(len(confusion))
    axes.set(  # type: ignore[attr-defined]
        xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="true", title="Confusion (test)"
    )
