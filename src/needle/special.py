"""Special functions under the names of `torch.special`."""

from __future__ import annotations

import math

from .autograd import Tensor
from .ops import (
    digamma,
    erf,
    erfc,
    erfinv,
    exp2,
    expm1,
    lgamma,
    log,
    log1p,
    log_softmax,
    logit,
    logsumexp,
    polygamma,
    round,
    sigmoid,
    sinc,
    softmax,
    where,
    xlogy,
)

expit = sigmoid
gammaln = lgamma
psi = digamma


def entr(x: Tensor) -> Tensor:
    """-x·log x: 0 at 0, and minus infinity below.

    Parameters
    ----------
    x : Tensor
        Of any shape.

    Returns
    -------
    Tensor
        The shape of `x`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.special.entr(ndl.tensor([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return where(x < 0, -math.inf, 0.0 - xlogy(x, where(x < 0, 1.0, x)))


def xlog1py(x: Tensor, y: Tensor) -> Tensor:
    """x·log(1 + y): 0 where x is 0, unless y is NaN.

    Parameters
    ----------
    x, y : Tensor
        They broadcast.

    Returns
    -------
    Tensor
        The broadcast shape.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.special.xlog1py(ndl.tensor([0.0]), ndl.tensor([-1.0])).item()
    0.0
    """
    is_zero = (x == 0) & (y == y)
    return where(is_zero, 0.0, x * log1p(where(is_zero, 0.0, y)))


def ndtr(x: Tensor) -> Tensor:
    """The distribution function of the standard normal distribution.

    Parameters
    ----------
    x : Tensor
        Of any shape.

    Returns
    -------
    Tensor
        The shape of `x`, from 0 to 1.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.special.ndtr(ndl.tensor([0.0])).item()
    0.5
    """
    return erfc(x * -math.sqrt(0.5)) * 0.5


def ndtri(p: Tensor) -> Tensor:
    """The quantiles of the standard normal distribution: the inverse of `ndtr`.

    Parameters
    ----------
    p : Tensor
        Probabilities.

    Returns
    -------
    Tensor
        The shape of `p`; infinite at 0 and 1.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.special.ndtri(ndl.tensor([0.5])).item()
    0.0
    """
    return erfinv(p * 2.0 - 1.0) * math.sqrt(2.0)


def log_ndtr(x: Tensor) -> Tensor:
    """The logarithm of `ndtr`, exact where that is 0 or 1, too.

    Parameters
    ----------
    x : Tensor
        Of any shape.

    Returns
    -------
    Tensor
        The shape of `x`.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.special.log_ndtr(ndl.tensor([-20.0])).item(), 3)
    -203.917
    """
    # Below -5 the continued fraction of Mills' ratio Φ(x) = φ(x)·K, by Laplace (1805).
    far = x < -5.0
    t = where(far, -x, 5.0)
    fraction = t
    for k in range(60, 0, -1):
        fraction = t + float(k) / fraction
    tail = t * t * -0.5 - 0.5 * math.log(2 * math.pi) - log(fraction)
    is_positive = x > 0.0  # the probability is 1 but for a little, which `ndtr(-x)` is
    above = log1p(-ndtr(where(is_positive, -x, 0.0)))
    return where(far, tail, where(is_positive, above, log(ndtr(where(far, 0.0, x)))))


def multigammaln(x: Tensor, p: int) -> Tensor:
    """The logarithm of the gamma function of p dimensions: `torch.mvlgamma`.

    Parameters
    ----------
    x : Tensor
        Of any shape, greater than (p - 1) / 2.
    p : int
        The number of dimensions.

    Returns
    -------
    Tensor
        The shape of `x`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.special.multigammaln(ndl.tensor([3.0]), 1).item() == ndl.lgamma(ndl.tensor(3.0)).item()
    True
    """
    total = lgamma(x) + 0.25 * p * (p - 1) * math.log(math.pi)
    for i in range(1, p):
        total = total + lgamma(x - 0.5 * i)
    return total


__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p",
    "log_ndtr", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma",
    "psi", "round", "sinc", "softmax", "xlog1py", "xlogy",
]  # fmt: skip
