"""Batches whose samples are mixed with one another, labels and all."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...autograd.tracing import Untraceable, current_trace
from ...backend_ndarray import is_float
from ...random import host_generator
from ...typing import HostGenerator
from ..transforms import random_state
from .images import Pixels

Array = TypeVar("Array", Tensor, Pixels)


def mixup(
    images: Array,
    labels: Array,
    num_classes: int | None = None,
    *,
    alpha: float = 1.0,
    generator: HostGenerator | None = None,
) -> tuple[Array, Array]:
    """Mix each sample with the one before it in the batch (Zhang et al. 2018).

    One number λ is drawn by `beta(alpha, alpha)` for the batch: a sample becomes λ times itself
    plus 1 - λ times the other, and so do the labels.

    Parameters
    ----------
    images : Tensor or array, shape (N, ...)
        Of a floating dtype.
    labels : Tensor or array, shape (N,) or (N, K)
        Class numbers, or probabilities of the classes.
    num_classes : int, optional
        K, needed for class numbers.
    alpha : float
        Positive; the smaller it is, the less is mixed.
    generator : numpy.random.Generator or RandomState, optional
        `needle.data.random_state()` by default.

    Returns
    -------
    images, labels
        Of the kind that was given; the labels have shape (N, K).

    Raises
    ------
    ValueError
        If `alpha` is not positive, or `num_classes` is missing.
    RuntimeError
        Inside a compiled function, where the number would be drawn once and for all.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> x, y = vision.mixup(np.ones((4, 3, 8, 8)), np.arange(4), 10)
    >>> x.shape, y.shape
    ((4, 3, 8, 8), (4, 10))
    """
    _check(images, alpha, "mixup")
    weight = float(_state(generator, "mixup").beta(alpha, alpha))
    soft = _probabilities(labels, num_classes, images, "mixup")
    return _mixed(images, weight), _mixed(soft, weight)


def cutmix(
    images: Array,
    labels: Array,
    num_classes: int | None = None,
    *,
    alpha: float = 1.0,
    generator: HostGenerator | None = None,
) -> tuple[Array, Array]:
    """Paste a rectangle of the sample before it into each sample of a batch (Yun et al. 2019).

    The rectangle is the same for the whole batch. Its area is 1 - λ of the image's, with λ drawn by
    `beta(alpha, alpha)`, and less where it meets the border; `randint` draws its middle. The labels
    are mixed by the area.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W), or array, shape (N, H, W, C)
    labels : Tensor or array, shape (N,) or (N, K)
        Class numbers, or probabilities of the classes.
    num_classes : int, optional
        K, needed for class numbers.
    alpha : float
        Positive.
    generator : numpy.random.Generator or RandomState, optional
        `needle.data.random_state()` by default.

    Returns
    -------
    images, labels
        Of the kind that was given; the labels have shape (N, K).

    Raises
    ------
    ValueError
        If `alpha` is not positive, `num_classes` is missing or the images have no four axes.
    RuntimeError
        Inside a compiled function, where the numbers would be drawn once and for all.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> x, y = vision.cutmix(np.ones((4, 8, 8, 3)), np.arange(4), 10)
    >>> bool(np.allclose(y.sum(1), 1))
    True
    """
    _check(images, alpha, "cutmix")
    if images.ndim != 4:
        raise ValueError(f"[cutmix] needs a batch of images, four axes, got shape {images.shape}")
    is_tensor = isinstance(images, Tensor)
    height, width = images.shape[2:] if is_tensor else images.shape[1:3]
    rows, columns = _rectangle(height, width, alpha, _state(generator, "cutmix"))
    inside = np.zeros((height, width), bool)
    inside[rows, columns] = True
    weight = 1 - float(inside.mean())
    soft = _probabilities(labels, num_classes, images, "cutmix")
    if isinstance(images, Tensor):
        mask = Tensor(inside, device=images.device, requires_grad=False)
        return ops.where(mask, _rolled(images), images), _mixed(soft, weight)
    return np.where(inside[:, :, None], _rolled(images), images), _mixed(soft, weight)


def _rectangle(
    height: int, width: int, alpha: float, state: np.random.RandomState
) -> tuple[slice, slice]:
    half = 0.5 * math.sqrt(1 - float(state.beta(alpha, alpha)))
    whole_number = getattr(state, "integers", None) or state.randint
    middles = int(whole_number(height)), int(whole_number(width))
    halves = int(half * height), int(half * width)
    rows, columns = (
        slice(max(middle - h, 0), middle + h) for middle, h in zip(middles, halves, strict=True)
    )
    return rows, columns


def _check(images: Tensor | Pixels, alpha: float, what: str) -> None:
    if current_trace() is not None:
        raise Untraceable(f"[{what}] draws on the host: mix the batch before the compiled function")
    if not alpha > 0:
        raise ValueError(f"[{what}] alpha must be positive, got {alpha}")
    if not is_float(images.dtype):
        raise ValueError(f"[{what}] needs images of a floating dtype, got {images.dtype}")


def _state(generator: HostGenerator | None, what: str) -> np.random.RandomState:
    state: np.random.RandomState
    state = random_state() if generator is None else host_generator(generator, what)
    return state


def _probabilities(labels: Array, classes: int | None, images: Array, what: str) -> Array:
    """Labels (N, K) of the images' dtype."""
    if labels.ndim == 2:
        return labels
    if classes is None:
        raise ValueError(f"[{what}] num_classes is needed for labels that are class numbers")
    if isinstance(labels, Tensor):
        return ops.one_hot(labels, classes).astype(images.dtype)
    return np.eye(classes, dtype=images.dtype)[labels]


def _rolled(x: Array) -> Array:
    """Each sample in the place of the next one."""
    if isinstance(x, Tensor):
        return ops.concatenate([x[-1:], x[:-1]], 0)
    return np.roll(x, 1, 0)


def _mixed(x: Array, weight: float) -> Array:
    return x * weight + _rolled(x) * (1 - weight)
