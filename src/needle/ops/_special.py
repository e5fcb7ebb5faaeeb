"""Special functions: the gamma family, and the inverse of the error function.

Compositions of simpler ops, computed in float64 and rounded at the end, so that their float32
results are right to the last digit or nearly so. Their gradients are ops of the same family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..autograd import Tensor, TensorOp, no_grad
from ..backend_ndarray import NDArray
from ..backend_ndarray.layout import whole
from ._common import rounds_once
from ._comparison import logical_and, where
from ._elementwise import abs, erf, exp, floor, log, log1p, round, sin, sqrt
from ._transcendental import erfc

# B₂ … B₂₀, Bernoulli's numbers of even index.
_BERNOULLI = (
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798,
    -174611 / 330,
)  # fmt: skip
_EULER = 0.57721566490153286061


def _zeta_less_1(n: int) -> float:
    """ζ(n) - 1 for n ≥ 2, by Euler and Maclaurin's formula."""
    last = 20
    total: float = sum(k**-n for k in range(last - 1, 1, -1))
    total += last ** (1 - n) / (n - 1) + last**-n / 2
    factor = n * float(last) ** (-n - 1)
    for j, bernoulli in enumerate(_BERNOULLI[:6], 1):
        total += bernoulli / math.factorial(2 * j) * factor
        factor *= (n + 2 * j - 1) * (n + 2 * j) / last**2
    return total


# log Γ(2 + z) = z·(1 - γ) + Σ (-1)^k·(ζ(k) - 1)·z^k / k; |z| ≤ 1/2 leaves 2⁻⁵⁵ after 28 terms.
_AROUND_2 = (0.0, 1 - _EULER, *((-1) ** k * _zeta_less_1(k) / k for k in range(2, 30)))


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Σ coefficients[k]·x^k by Horner's rule."""
    total = x * 0.0 + coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


class _Special(TensorOp):
    """An op whose `formula` is computed in float64 on constants."""

    saves_values = True

    def formula(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def compute(self, x: NDArray) -> NDArray:
        with no_grad():
            wide = Tensor.make_const(x.astype("float64"))
            result: NDArray = self.formula(wide).realize_cached_data()
        return result.astype(x.dtype)


# ---- gamma --------------------------------------------------------------------------------------


def _sin_pi(x: Tensor) -> Tensor:
    """sin(πx) without the error of π·x: of the distance to the nearest integer."""
    nearest = round(x)
    odd = nearest - 2.0 * floor(nearest * 0.5)
    return sin(math.pi * (x - nearest)) * (1.0 - 2.0 * odd)


def _cos_pi(x: Tensor) -> Tensor:
    return _sin_pi(x + 0.5)


def _stirling(x: Tensor) -> Tensor:
    """log Γ(x) for x ≥ 8."""
    inverse = 1.0 / (x * x)
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI[:8], 1)]
    series = _polynomial(inverse, terms) / x
    return (x - 0.5) * log(x) - x + 0.5 * math.log(2 * math.pi) + series


class LogGamma(_Special):
    """log |Γ(x)|. Its derivative is digamma."""

    def formula(self, x: Tensor) -> Tensor:
        positive = self._positive(where(x > 0, x, 1.0 - x))
        reflected = math.log(math.pi) - log(abs(_sin_pi(x))) - positive
        return where(x > 0, positive, reflected)

    def _positive(self, x: Tensor) -> Tensor:
        # Around 1 and 2, where log Γ is 0, the series keeps the relative error small.
        center = where(x < 0.5, 0.0, where(x < 1.5, 1.0, 2.0))
        z = where(x < 2.5, x - center, 0.0)
        near = _polynomial(z, _AROUND_2)
        near = where(x < 1.5, near - log1p(z), near)
        near = where(x < 0.5, near - log(x), near)
        shifted = where(x < 8, x, 1.0)
        product = shifted
        for k in range(1, 8):
            product = product * (shifted + float(k))
        far = _stirling(where(x < 8, x + 8.0, x)) - log(where(x < 8, product, 1.0))
        return where(x < 2.5, near, where(x == math.inf, math.inf, far))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * digamma(node.inputs[0])


class Digamma(_Special):
    """The derivative of log Γ: by recurrence from the asymptotic series (Bernardo, 1976)."""

    def formula(self, x: Tensor) -> Tensor:
        y = where(x > 0, x, 1.0 - x)
        total = 1.0 / y
        for k in range(1, 8):
            total = total + 1.0 / (y + float(k))
        far = y + 8.0
        inverse = 1.0 / (far * far)
        series = _polynomial(inverse, [b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)])
        positive = log(far) - 0.5 / far - series * inverse - total
        reflected = positive - math.pi * _cos_pi(x) / _sin_pi(x)
        pole = logical_and(x < 0, x == floor(x))
        result = where(x > 0, positive, where(pole, math.nan, reflected))
        return where(x == 0, -1.0 / x, result)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * Polygamma(1)(node.inputs[0])


class Polygamma(_Special):
    """The derivative of digamma of order n ≥ 1: (-1)^(n+1)·n!·ζ(n + 1, x)."""

    def __init__(self, n: int) -> None:
        self.n = n

    def formula(self, x: Tensor) -> Tensor:
        scale = (-1) ** (self.n + 1) * float(math.factorial(self.n))
        if self.n > 1:
            return where(x > 0, scale * _zeta(self.n + 1, where(x > 0, x, 1.0)), math.nan)
        positive = _zeta(2, where(x > 0, x, 1.0 - x))
        reflected = (math.pi / _sin_pi(x)) ** 2 - positive
        return where(x > 0, positive, reflected)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * Polygamma(self.n + 1)(node.inputs[0])


def _zeta(s: int, x: Tensor) -> Tensor:
    """Hurwitz' ζ(s, x) = Σ (x + k)^-s for x > 0, by Euler and Maclaurin's formula."""
    terms = 9 + s
    total = x ** float(-s)
    for k in range(1, terms):
        total = total + (x + float(k)) ** float(-s)
    far = x + float(terms)
    power = far ** float(-s)
    total = total + power * far / (s - 1) + 0.5 * power
    inverse = 1.0 / (far * far)
    coefficients, factor = [], float(s)
    for j, bernoulli in enumerate(_BERNOULLI, 1):
        coefficients.append(bernoulli / math.factorial(2 * j) * factor)
        factor *= (s + 2 * j - 1) * (s + 2 * j)
    return total + power / far * _polynomial(inverse, coefficients)


# ---- inverse error function ---------------------------------------------------------------------

# The first guess: Giles, "Approximating the erfinv Function", 2010, in single precision.
_CENTRAL = (
    1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06,
    -3.5233877e-06, 3.43273939e-07, 2.81022636e-08,
)  # fmt: skip
_TAILS = (
    2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844,
    0.00134934322, 0.000100950558, -0.000200214257,
)  # fmt: skip


class ErfInv(_Special):
    """The inverse of erf on [-1, 1]. Its derivative is √π/2·exp(erfinv(x)²)."""

    def formula(self, x: Tensor) -> Tensor:
        size = abs(x)
        inside = where(size < 1, size, 0.5)
        w = -log((1.0 - inside) * (1.0 + inside))
        central = _polynomial(where(w < 5, w, 5.0) - 2.5, _CENTRAL)
        tails = _polynomial(sqrt(where(w < 5, 5.0, w)) - 3.0, _TAILS)
        y = where(w < 5, central, tails) * inside
        rest = 1.0 - inside
        for _ in range(4):
            # Newton's steps on erf(y) = x, in the tail on log erfc(y) = log(1 - x).
            slope = exp(y * y) * (math.sqrt(math.pi) / 2)
            complement = erfc(y)
            in_tail = complement * log(complement / rest)
            y = y + slope * where(y < 0.5, inside - erf(y), in_tail)
        y = where(x < 0, -y, y)
        edge = where(size == 1, x * math.inf, math.nan)
        return where(size < 1, y, edge)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * (exp(node * node) * (math.sqrt(math.pi) / 2))


# ---- functions ----------------------------------------------------------------------------------


def _unary(op: Callable[[], _Special], x: Tensor) -> Tensor:
    result: Tensor = rounds_once(lambda x: op()(x))(x)
    return result


def lgamma(x: Tensor) -> Tensor:
    """Compute log |Γ(x)| of each element.

    Parameters
    ----------
    x : Tensor
        Any shape. Integers give float32.

    Returns
    -------
    Tensor, the shape of `x`
        inf at 0 and the negative integers.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.ops.lgamma(ndl.Tensor([5.0])).item(), 4)  # log 4!
    3.1781
    """
    return _unary(LogGamma, x)


def digamma(x: Tensor) -> Tensor:
    """Compute ψ(x), the derivative of log Γ, of each element.

    Parameters
    ----------
    x : Tensor
        Any shape. Integers give float32.

    Returns
    -------
    Tensor, the shape of `x`
        NaN at the negative integers.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.ops.digamma(ndl.Tensor([1.0])).item(), 4)
    -0.5772
    """
    return _unary(Digamma, x)


def polygamma(n: int, x: Tensor) -> Tensor:
    """Compute the n-th derivative of digamma of each element.

    Parameters
    ----------
    n : int
        The order; 0 is digamma.
    x : Tensor
        Any shape. For n ≥ 2 a number that is not positive gives NaN.

    Returns
    -------
    Tensor, the shape of `x`

    Raises
    ------
    ValueError
        If `n` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.ops.polygamma(1, ndl.Tensor([1.0])).item(), 4)  # π²/6
    1.6449
    """
    n = whole(n, "polygamma", "n")
    if n < 0:
        raise ValueError(f"[polygamma] n must not be negative, got {n}")
    return digamma(x) if n == 0 else _unary(lambda: Polygamma(n), x)


def erfinv(x: Tensor) -> Tensor:
    """Compute the inverse of the error function of each element.

    Parameters
    ----------
    x : Tensor
        Any shape. -1 and 1 give infinities, numbers beyond NaN.

    Returns
    -------
    Tensor, the shape of `x`

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.ops.erfinv(ndl.Tensor([0.5])).item(), 4)
    0.4769
    """
    return _unary(ErfInv, x)


__all__ = ["Digamma", "ErfInv",  "LogGamma", "Polygamma", "digamma",  "erfinv",
           "lgamma", "polygamma"]  # fmt: skip
