"""What metrics of classification share: where the classes are, and which class is predicted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ... import init, ops
from ...autograd import Tensor
from ...given import shown


class Scores(NamedTuple):
    """A batch of n samples, whose targets are all within the classes.

    Attributes
    ----------
    logits : Tensor, shape (n, classes), float32
    target : Tensor, shape (n,), int64
    counted : Tensor, shape (n,), float32
        1 for samples that count, 0 for those whose target is to be ignored.
    """

    logits: Tensor
    target: Tensor
    counted: Tensor


class Labels(NamedTuple):
    """Predicted and true classes of n samples; `counted` as in `Scores`."""

    predicted: Tensor
    target: Tensor
    counted: Tensor


def class_axis(name: str, output: Tensor, target: Tensor, axis: int | None) -> int:
    """The axis of `output` that holds the classes.

    Raises ValueError, in the name of a metric, where the shapes do not fit or two axes do.
    """
    fits = [i for i in range(output.ndim) if without(output.shape, i) == target.shape]
    if axis is not None:
        fits = [i for i in fits if i == axis % output.ndim]
    fits = [i for i in fits if axis is not None or i in (1, output.ndim - 1)]
    if not fits:
        raise ValueError(
            f"[{name}] an output of shape {output.shape} needs a target of its shape without the "
            f"axis of the classes, got {target.shape}"
        )
    if len(fits) > 1:
        raise ValueError(
            f"[{name}] axes {fits[0]} and {fits[1]} of an output of shape {output.shape} may both "
            f"hold the classes: pass axis={fits[0]} or axis={fits[1]}"
        )
    return fits[0]


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape without an axis."""
    return shape[:axis] + shape[axis + 1 :]


def scores(
    name: str, output: Tensor, target: Tensor, axis: int | None, ignore: int | None
) -> Scores:
    """The logits and targets of a batch as n samples."""
    axis = class_axis(name, output, target, axis)
    classes = output.shape[axis]
    logits = ops.moveaxis(output.astype("float32"), axis, -1).reshape((-1, classes))
    return Scores(logits, *_counted(target.reshape((-1,)).astype("int64"), ignore))


def labels(
    name: str, output: Tensor, target: Tensor, axis: int | None, ignore: int | None
) -> Labels:
    """The predicted and the true class of each sample.

    An output of the target's shape, or of one class, holds logits of class 1 of the two classes
    0 and 1.
    """
    is_binary = output.shape == target.shape
    if not is_binary:
        is_binary = output.shape[class_axis(name, output, target, axis)] == 1
    if is_binary:
        predicted = (output.reshape((-1,)) > 0).astype("int64")
        return Labels(predicted, *_counted(target.reshape((-1,)).astype("int64"), ignore))
    found = scores(name, output, target, axis, ignore)
    return Labels(ops.argmax(found.logits, 1).astype("int64"), found.target, found.counted)


def _counted(target: Tensor, ignore: int | None) -> tuple[Tensor, Tensor]:
    """Targets, 0 in place of those to be ignored, and which samples count."""
    if ignore is None:
        return target, init.ones_like(target, dtype="float32")
    is_counted = target != ignore
    return ops.where(is_counted, target, init.zeros_like(target)), is_counted.astype("float32")


def number_of_classes(name: str, classes: int) -> int:
    """`classes`, checked. Raises ValueError where there are less than two."""
    if not isinstance(classes, (int, np.integer)) or classes < 2:
        raise ValueError(
            f"[{name}] classes must be a whole number of at least 2, got {shown(classes)}"
        )
    return int(classes)
