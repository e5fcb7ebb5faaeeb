"""Batch and layer normalization as single ops, each with a definition in simpler ops."""

from __future__ import annotations

from ..autograd import Tensor, Value, is_grad_enabled
from ..backend_ndarray import NDArray
from ._common import FusedOp
from ._elementwise import rsqrt
from ._reduction import mean, var
from ._shape import reshape


def _like(x: NDArray, shape: tuple[int, ...] | None = None) -> NDArray:
    return NDArray._empty(x._shape if shape is None else shape, x._device, x._dtype)


class _Normalization(FusedOp):
    """x (n, c) normalized along one axis, then scaled by weight (c,) and shifted by bias (c,).

    The forward pass keeps the two statistics that the gradient's kernel needs.
    """

    axis: int

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.statistics: tuple[NDArray, NDArray] | None = None

    def decompose(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        centre = mean(x, self.axis, keepdims=True)
        variance = var(x, self.axis, keepdims=True, correction=0)
        return (x - centre) * rsqrt(variance + self.eps) * weight + bias

    def compute(self, x: NDArray, weight: NDArray, bias: NDArray) -> NDArray:
        kernel = self.fused(x)
        if kernel is None or not x.size:
            return self.compute_by_parts(x, weight, bias)
        out, count = _like(x), x._shape[1 - self.axis]
        self.statistics = _like(x, (count,)), _like(x, (count,))
        kernel(x.compact(), weight.compact(), bias.compact(), self.eps, out, *self.statistics)
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        if self.statistics is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        g, x, weight = (v.realize_cached_data().compact() for v in (out_grad, *node.inputs[:2]))
        results = _like(x), _like(weight), _like(weight)
        kernel = x._device.fused(self.kernel + "_grad")
        assert kernel is not None  # as its forward kernel is there
        kernel(g, x, weight, *self._saved(), *results)
        return tuple(map(Tensor.make_const, results))

    def _saved(self) -> tuple[NDArray | float, ...]:
        assert self.statistics is not None
        return self.statistics


class BatchNorm(_Normalization):
    """Every column of x (n, c) to mean 0 and biased variance 1 (Ioffe & Szegedy, 2015)."""

    kernel = "batch_norm"
    axis = 0

    def _saved(self) -> tuple[NDArray | float, ...]:
        return (*super()._saved(), self.eps)


class LayerNorm(_Normalization):
    """Every row of x (n, c) to mean 0 and biased variance 1 (Ba, Kiros & Hinton, 2016)."""

    kernel = "layer_norm"
    axis = 1


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, NDArray, NDArray]:
    """Normalize each feature over the batch to mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : Tensor, shape (n, c)
        The batch.
    weight, bias : Tensor, shape (c,)
        The scale and the shift of each feature.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    (Tensor, NDArray, NDArray)
        The result (n, c), and the means and biased variances (c,), through which no gradient flows.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> y, mean, variance = ndl.batch_norm(ndl.Tensor([[1], [3]]), ndl.ones(1), ndl.zeros(1))
    >>> mean.numpy(), variance.numpy()
    (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    _check(x, weight, bias, "batch_norm")
    op = BatchNorm(eps)
    out = op(x, weight, bias)
    if op.statistics is None:
        data = x.realize_cached_data()
        centre = data.mean(0)
        deviation = data - centre
        return out, centre, (deviation * deviation).mean(0)
    return out, *op.statistics


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalize the last axis to mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : Tensor, shape (..., c)
        The input.
    weight, bias : Tensor, shape (c,)
        The scale and the shift of each feature.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    Tensor, the shape of `x`

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.layer_norm(ndl.Tensor([[1, 3]]), ndl.ones(2), ndl.zeros(2), eps=0).tolist()
    [[-1.0, 1.0]]
    """
    if x.ndim < 1:
        raise ValueError(f"[layer_norm] needs at least one axis, got shape {x.shape}")
    rows = x if x.ndim == 2 else reshape(x, (x.size // max(x.shape[-1], 1), x.shape[-1]))
    _check(rows, weight, bias, "layer_norm")
    out = LayerNorm(eps)(rows, weight, bias)
    return out if x.ndim == 2 else reshape(out, x.shape)


def _check(x: Tensor, weight: Tensor, bias: Tensor, what: str) -> None:
    if x.ndim != 2 or weight.shape != (x.shape[1],) or bias.shape != weight.shape:
        raise ValueError(
            f"[{what}] x of shape {x.shape} does not fit a weight of shape {weight.shape} and a "
            f"bias of shape {bias.shape}; both must be (features,)"
        )
    if not x.dtype is weight.dtype is bias.dtype:
        raise TypeError(
            f"[{what}] x, weight and bias must have one dtype, got {x.dtype}, {weight.dtype} and "
            f"{bias.dtype}"
        )


__all__ = ["BatchNorm", "LayerNorm", "batch_norm", "layer_norm"]
