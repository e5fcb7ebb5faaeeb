"""A model measured sample by sample: metrics, confusions, and what it gets most wrong."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .. import ops
from ..autograd import Tensor, no_grad
from ..files import written_whole
from ..nn import Module
from .loaders import Batches
from .metrics import Metric
from .run import RunFolder

MOST_CONFUSED = 1000  # classes of a matrix that is counted


@dataclass(frozen=True)
class Mistake:
    """A sample with a large loss.

    Attributes
    ----------
    loss : float
        Of a text the mean over its tokens, of a number the distance to the target.
    place : int
        Which sample it is, counted from 0.
    inputs : numpy.ndarray
    target, output : numpy.ndarray
        The target, and the probabilities of the classes or the numbers that the model gave.
    losses : numpy.ndarray, shape (T,), or None
        Of a text the loss of each token.
    """

    loss: float
    place: int
    inputs: np.ndarray
    target: np.ndarray
    output: np.ndarray
    losses: np.ndarray | None = None


@dataclass
class Evaluation:
    """What `evaluate_samples` found.

    Attributes
    ----------
    values : dict of str to float
        The loss, the mean over samples, and the metrics.
    confusion : numpy.ndarray, shape (C, C), or None
        Counts of classes; None for texts, numbers and more than a thousand classes.
    worst : list of Mistake
        Those with the largest losses first; of images and rows only the ones that are wrong.
    samples : int
    """

    values: dict[str, float] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    worst: list[Mistake] = field(default_factory=list)
    samples: int = 0


def evaluate_samples(
    model: Module,
    batches: Batches,
    loss: Callable[[Tensor, Tensor], Tensor],
    metrics: Mapping[str, Metric],
    *,
    most: int = 24,
) -> Evaluation:
    """Measure a model and keep the samples that it gets most wrong.

    Parameters
    ----------
    model : Module
        It is put in eval mode.
    batches : iterable of (inputs, target)
        Inputs (B, …). Targets are classes (B,), tokens (B·T,) of inputs (B, T), or numbers.
    loss : callable
        loss(output, target) gives a scalar, the mean over the batch.
    metrics : mapping of str to Metric
    most : int
        How many mistakes are kept.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If there is no batch.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import Accuracy
    >>> scores, labels = ndl.tensor([[2.0, 0.0], [3.0, 0.0]]), ndl.tensor([0, 1])
    >>> found = evaluate_samples(
    ...     ndl.nn.Identity(), [(scores, labels)], ndl.nn.SoftmaxLoss(), {"accuracy": Accuracy()}
    ... )
    >>> found.values["accuracy"], found.confusion.tolist(), [m.place for m in found.worst]
    (0.5, [[1, 0], [1, 0]], [1])
    """
    model.eval()
    found, total = Evaluation(), 0.0
    kept: list[tuple[float, int, Mistake]] = []
    for metric in metrics.values():
        metric.reset()
    for inputs, target in batches:
        with no_grad():
            output = model(inputs)
            count = target.shape[0]
            total += float(loss(output, target).numpy()) * count
            for metric in metrics.values():
                metric.update(output, target)
        batch = _Batch(inputs.numpy(), output.numpy(), target.numpy())
        found.confusion = batch.confused(found.confusion)
        for mistake in batch.mistakes(found.samples, most):
            heapq.heappush(kept, (mistake.loss, -mistake.place, mistake))
            if len(kept) > most:
                heapq.heappop(kept)
        found.samples += count
    if not found.samples:
        raise ValueError("[evaluate_samples] batches gave no batch")
    found.worst = [mistake for *_, mistake in sorted(kept, reverse=True)]
    computed = {name: metric.compute() for name, metric in metrics.items()}
    found.values = {"loss": total / found.samples} | {
        name: float(value) for name, value in computed.items() if np.ndim(value) == 0
    }
    return found


class _Batch:
    """One batch on the host, with a loss for each sample."""

    def __init__(self, inputs: np.ndarray, output: np.ndarray, target: np.ndarray) -> None:
        self.inputs, self.output, self.target = inputs, output, target
        self.is_classified = output.ndim == target.ndim + 1 and target.dtype.kind in "iu"
        self.windows = len(inputs) if self.is_classified and len(target) > len(inputs) else 0
        if self.is_classified:
            logs = _log_softmax(output)
            self.output = np.exp(logs)
            self.losses = -logs[np.arange(len(target)), target]
        else:
            self.losses = np.abs(output - target).reshape(len(target), -1).mean(1)

    def confused(self, matrix: np.ndarray | None) -> np.ndarray | None:
        """The matrix with this batch counted in."""
        if not self.is_classified or self.windows or self.output.shape[1] > MOST_CONFUSED:
            return None
        classes = self.output.shape[1]
        matrix = np.zeros((classes, classes), np.int64) if matrix is None else matrix
        np.add.at(matrix, (self.target, self.output.argmax(1)), 1)
        return matrix

    def mistakes(self, before: int, most: int) -> list[Mistake]:
        """The samples with the largest losses; `before` is how many samples came before."""
        if self.windows:
            return self._windows(before, most)
        losses = np.nan_to_num(self.losses, nan=np.inf)
        wrong = np.arange(len(losses))
        if self.is_classified:
            wrong = np.flatnonzero(self.output.argmax(1) != self.target)
        order = wrong[np.argsort(-losses[wrong], kind="stable")[:most]]
        return [
            Mistake(
                float(losses[i]), before + int(i), self.inputs[i], self.target[i], self.output[i]
            )
            for i in order
        ]

    def _windows(self, before: int, most: int) -> list[Mistake]:
        losses = np.nan_to_num(self.losses, nan=np.inf).reshape(self.windows, -1)
        targets = self.target.reshape(self.windows, -1)
        guesses = self.output.argmax(1).reshape(self.windows, -1)
        means = losses.mean(1)
        return [
            Mistake(
                float(means[i]), before // losses.shape[1] + int(i), self.inputs[i], targets[i],
                guesses[i], losses[i],
            )
            for i in np.argsort(-means, kind="stable")[:most]
        ]  # fmt: skip


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of scores (n, C)."""
    chances: np.ndarray = np.exp(_log_softmax(scores))
    return chances


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    return ops.log_softmax(Tensor(scores, requires_grad=False), axis=1).numpy()


def write_confusion(
    run: RunFolder, matrix: np.ndarray, classes: Iterable[str] | None, step: int, data: str
) -> None:
    """Write `confusion.json` into a run's folder, from which pictures and the dashboard draw.

    Raises OSError.
    """
    names = None if classes is None else list(classes)
    facts = {"classes": names, "matrix": matrix.tolist(), "step": step, "data": data}
    with written_whole(run.confusion) as file:
        file.write(json.dumps(facts).encode())
