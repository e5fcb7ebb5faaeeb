"""Transforms of one image, an array H×W×C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend_ndarray.layout import whole

_local = threading.local()


def random_state() -> Any:
    """Return what transforms draw from.

    Returns
    -------
    numpy.random or numpy.random.RandomState
        NumPy's global generator, or in a loader's worker a generator of its own.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.random_state().__name__
    'numpy.random'
    """
    return getattr(_local, "state", np.random)


@contextmanager
def use_random_state(state: np.random.RandomState) -> Iterator[None]:
    """Make `state` what transforms of this thread draw from."""
    _local.state = state
    try:
        yield
    finally:
        del _local.state


class Transform:
    """Base class of transforms: a function of one image, H×W×C.

    A subclass defines `__call__`.

    Examples
    --------
    >>> import needle as ndl
    >>> class Negative(ndl.data.Transform):
    ...     def __call__(self, x): return 1 - x
    >>> Negative()(0.25)
    0.75
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


class Compose(Transform):
    """Transforms one after the other.

    Parameters
    ----------
    transforms : sequence of callable
        The transforms in the order in which they are applied.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.Compose([abs, abs])(-2)
    2
    """

    def __init__(self, transforms: Sequence[Callable[[np.ndarray], np.ndarray]]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            x = transform(x)
        return x


class RandomFlipHorizontal(Transform):
    """Mirror an image H×W×C along its W axis with a probability.

    It draws one `rand()`.

    Parameters
    ----------
    p : float, default 0.5
        The probability.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1].

    Examples
    --------
    >>> import needle as ndl
    >>> image = ndl.ones(1, 2, 1).numpy()
    >>> ndl.data.RandomFlipHorizontal(1.0)(image).shape
    (1, 2, 1)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"[RandomFlipHorizontal] p must lie in [0, 1], got {p}")
        self.p = p

    def __call__(self, img: np.ndarray) -> np.ndarray:
        _check_image(img, "RandomFlipHorizontal")
        return img[:, ::-1, :] if random_state().rand() < self.p else img


class RandomCrop(Transform):
    """Shift an image H×W×C by a random number of pixels; zeros come in.

    It draws (shift_x, shift_y) = `randint(low=-padding, high=padding + 1, size=2)`; the result at
    [i, j] is the zero-padded image at [i + shift_x, j + shift_y].

    Parameters
    ----------
    padding : int, default 3
        The largest shift, in both directions.

    Raises
    ------
    TypeError
        If `padding` is not an int.
    ValueError
        If `padding` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> image = ndl.ones(4, 4, 1).numpy()
    >>> ndl.data.RandomCrop(2)(image).shape
    (4, 4, 1)
    """

    def __init__(self, padding: int = 3) -> None:
        padding = whole(padding, "RandomCrop", "padding")
        if padding < 0:
            raise ValueError(f"[RandomCrop] padding must not be negative, got {padding}")
        self.padding = padding

    def __call__(self, img: np.ndarray) -> np.ndarray:
        _check_image(img, "RandomCrop")
        p = self.padding
        shift_x, shift_y = random_state().randint(low=-p, high=p + 1, size=2)
        out = np.zeros_like(img)
        height, width = img.shape[:2]
        rows, columns = _shifted(height, int(shift_x)), _shifted(width, int(shift_y))
        out[rows[0], columns[0]] = img[rows[1], columns[1]]
        return out


class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, for every channel.

    Parameters
    ----------
    mean : float or sequence of float
        The mean of each channel, the last axis.
    std : float or sequence of float
        The standard deviation of each channel.

    Raises
    ------
    ValueError
        If `std` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.Normalize(0.5, 0.5)(ndl.ones(1, 1, 1).numpy()).item()
    1.0
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = np.asarray(mean, dtype=np.float32)
        self.std = np.asarray(std, dtype=np.float32)
        if not (self.std > 0).all():
            raise ValueError(f"[Normalize] std must be positive, got {std}")

    def __call__(self, img: np.ndarray) -> np.ndarray:
        return (np.asarray(img, dtype=np.float32) - self.mean) / self.std


def _shifted(n: int, shift: int) -> tuple[slice, slice]:
    """(where to, where from) for n pixels read `shift` places further."""
    shift = max(-n, min(n, shift))
    return slice(max(-shift, 0), n - max(shift, 0)), slice(max(shift, 0), n - max(-shift, 0))


def _check_image(img: np.ndarray, what: str) -> None:
    if np.ndim(img) != 3:
        raise ValueError(f"[{what}] needs an image H×W×C, got an array of shape {np.shape(img)}")
