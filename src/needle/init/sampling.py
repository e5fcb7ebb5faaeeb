"""Random numbers of several distributions, under PyTorch's names.

All draw from NumPy's global generator, as `rand` does, or from a `needle.Generator` that is given.
Those that look at probabilities in a Tensor run on its device, and in a compiled function.
"""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor, no_grad
from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..ops import argsort, cumsum, less_equal, log1p, minimum, summation, topk, unsqueeze
from ..random import Generator, manual_seed
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike, ShapeLike
from .basic import rand, randn


def _shape(size: ShapeLike) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def normal(
    mean: float | Tensor,
    std: float | Tensor = 1.0,
    size: ShapeLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers of a mean and a standard deviation, numbers or Tensors that broadcast.

    `size` is needed where both are numbers.

    Parameters
    ----------
    mean : float or Tensor
        The mean.
    std : float or Tensor, default 1
        The standard deviation.
    size : int or sequence of int, optional
        The shape.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape `size`, or the broadcast one.

    Raises
    ------
    ValueError
        For a negative number `std`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.normal(0.0, 1.0, (2, 3)).shape
    (2, 3)
    """
    if not isinstance(std, Tensor) and std < 0:
        raise ValueError(f"[normal] std must not be negative, got {std}")
    given = [x for x in (mean, std) if isinstance(x, Tensor)]
    if given:
        like = given[0]
        shape = np.broadcast_shapes(*(x.shape for x in given)) if size is None else _shape(size)
        drawn = randn(
            *shape, dtype=dtype or like.dtype, device=device or like.device, generator=generator
        )
        return drawn * std + mean
    if size is None:
        raise ValueError("[normal] needs a size where mean and std are numbers")
    return randn(
        *_shape(size),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
        dtype=dtype or "float32",
        device=device,
        generator=generator,
    )


def randint(
    low: int,
    high: int | ShapeLike | None = None,
    size: ShapeLike | None = None,
    *,
    dtype: DTypeLike = "int64",
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Draw whole numbers, all equally likely.

    Parameters
    ----------
    low : int
        The smallest; with `high` and `size` following. `randint(high, size)` begins at 0.
    high : int
        Above the largest.
    size : int or sequence of int
        The shape of the result.
    dtype : dtype, default "int64"
        The dtype of the result.
    device : Device or str, optional
        The default device.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor, shape `size`

    Raises
    ------
    ValueError
        Unless low < high.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.randint(5, 6, (2, 2)).tolist()
    [[5, 5], [5, 5]]
    """
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise TypeError("[randint] needs a size: randint(high, size) or randint(low, high, size)")
    first, end = whole(low, "randint", "low"), whole(high, "randint", "high")
    if first >= end:
        raise ValueError(f"[randint] low must be below high, got {first} and {end}")
    drawn = rand(*_shape(size), dtype="float64", device=device, generator=generator)
    return (drawn * float(end - first)).astype("int64").astype(dtype) + first


def randperm(
    n: int,
    *,
    dtype: DTypeLike = "int64",
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The numbers 0 … n - 1 in random order.

    Parameters
    ----------
    n : int
        The height; how many numbers.
    dtype : dtype, default "int64"
        Of the result.
    device : Device or str, optional
        The default device.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        (n,).

    Examples
    --------
    >>> import needle as ndl
    >>> sorted(ndl.randperm(3).tolist())
    [0, 1, 2]
    """
    drawn = rand(whole(n, "randperm", "n"), dtype="float64", device=device, generator=generator)
    return argsort(drawn).astype(dtype)


@accepts_synonyms
def rand_like(
    a: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1), in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        That of `a` by default.
    requires_grad : bool, default False
        Whether gradients are computed for it.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.rand_like(ndl.ones(2)).shape
    (2,)
    """
    return rand(
        *a.shape,
        dtype=dtype or a.dtype,
        device=a.device if device is None else device,
        requires_grad=requires_grad,
        generator=generator,
    )


@accepts_synonyms
def randn_like(
    a: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal numbers, in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        That of `a` by default.
    requires_grad : bool, default False
        Whether gradients are computed for it.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.randn_like(ndl.ones(2)).shape
    (2,)
    """
    return randn(
        *a.shape,
        dtype=dtype or a.dtype,
        device=a.device if device is None else device,
        requires_grad=requires_grad,
        generator=generator,
    )


@accepts_synonyms
def randint_like(
    a: Tensor,
    low: int,
    high: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Whole numbers in [low, high), or [0, low), in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    low : int
        The smallest number; the end where `high` is not given.
    high : int, optional
        Above the largest.
    dtype : dtype, optional
        It follows from the values by default.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.randint_like(ndl.ones(2), 3, 4)
    needle.Tensor([3. 3.])
    """
    first, end = (0, low) if high is None else (low, high)
    return randint(
        first, end, a.shape, dtype=dtype or a.dtype, device=a.device, generator=generator
    )


def bernoulli(probability: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with each probability, else 0, in the shape and dtype of `probability`.

    Parameters
    ----------
    probability : Tensor
        In [0, 1].
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape and dtype of `probability`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bernoulli(ndl.Tensor([0, 1]))
    needle.Tensor([0. 1.])
    """
    with no_grad():
        drawn = rand(*probability.shape, device=probability.device, generator=generator)
        return (drawn < probability.detach()).astype(probability.dtype)


def exponential_like(a: Tensor, rate: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Exponentially distributed numbers, in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    rate : float, default 1
        1 over the mean.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.exponential_like(ndl.ones(2)).shape
    (2,)
    """
    drawn = rand(*a.shape, dtype=a.dtype, device=a.device, generator=generator)
    return -log1p(-drawn) / rate


def multinomial(
    weights: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Draw positions with probabilities in proportion to weights.

    Without replacement the positions with the largest weight / exponential number are taken
    (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir").

    Parameters
    ----------
    weights : Tensor, shape (n,) or (rows, n)
        Not negative; they need not add up to 1.
    num_samples : int
        How many are drawn in each row.
    replacement : bool, default False
        Whether a position can be drawn again.
    generator : Generator, optional
        Draws instead of NumPy's.

    Returns
    -------
    Tensor, shape (num_samples,) or (rows, num_samples), int64

    Raises
    ------
    ValueError
        If more are to be drawn than there are, or for another number of axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.multinomial(ndl.Tensor([0, 1, 0]), 2, replacement=True)
    needle.Tensor([1 1])
    """
    count = whole(num_samples, "multinomial", "num_samples")
    if weights.ndim not in (1, 2):
        raise ValueError(f"[multinomial] weights must be (n,) or (rows, n), got {weights.shape}")
    n = weights.shape[-1]
    if count < 1 or (not replacement and count > n):
        raise ValueError(f"[multinomial] cannot draw {count} of {n} without replacement")
    with no_grad():
        wide = weights.detach().astype("float64")
        if not replacement:
            return topk(wide / exponential_like(wide, generator=generator), count, -1)[1]
        shape = (*weights.shape[:-1], count)
        steps = cumsum(wide, -1)
        drawn = rand(*shape, dtype="float64", device=weights.device, generator=generator)
        target = drawn * steps[..., -1:]
        found = summation(less_equal(unsqueeze(steps, -2), unsqueeze(target, -1)), -1)
        return minimum(found, n - 1)


__all__ = [
    "bernoulli", "exponential_like", "manual_seed", "multinomial", "normal", "rand_like", "randint",
    "randint_like", "randn_like", "randperm",
]  # fmt: skip
