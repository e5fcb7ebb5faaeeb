"""Adafactor: second moments of matrices as a row and a column."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ..backend_ndarray import HostNumber, NDArray
from ..typing import Shape
from ._update import decayed
from .host_numbers import of_host
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable


class Adafactor(Optimizer):
    """Adafactor: second moments of matrices kept as one average for each row and each column.

    The decay of the averages is 1 - step^beta2_decay; v is the outer product of both, over its
    mean; the update g / √v is divided by its root mean square over `d` where that is above 1; its
    size is the parameter's root mean square times min(lr, 1 / √step).

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The largest relative step.
    beta2_decay : float, default -0.8
        The power of the decay of second moments; not positive.
    eps : pair of float, default (None, 1e-3)
        The least second moment, None for the precision of the dtype, and the least root mean square
        of a parameter.
    d : float, default 1.0
        The largest root mean square of an update; at least 1.
    weight_decay : float, default 0.0
        The part of a parameter that a learning rate of 1 would take away.
    maximize : bool, default False
        Whether to go up the gradient instead of down.
    foreach, capturable, differentiable : bool, optional
        PyTorch's hints about its implementations; they change nothing. `differentiable=True` is a
        ValueError.

    Raises
    ------
    TypeError
        If a parameter is not a floating-point Tensor or a hyperparameter is not a number.
    ValueError
        If a hyperparameter is out of range or there are no parameters.

    References
    ----------
    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Adafactor([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "beta2_decay": "(-inf, 0]",
        "d": "[1, inf)",
        "weight_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse_differentiable("Adafactor", differentiable)
        super().__init__(
            params,
            lr=lr,
            beta2_decay=beta2_decay,
            eps=tuple(eps),
            d=d,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def _state_shape(self, name: str, shape: Shape) -> Shape:
        if name == "row_average":
            return (*shape[:-1], 1)
        return (*shape[:-2], 1, shape[-1]) if name == "column_average" else shape

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        new = of_host(lambda step: step ** group["beta2_decay"], batch.step)
        rate = of_host(lambda lr, step: min(lr, 1 / math.sqrt(step)), group["lr"], batch.step)
        least, least_size = group["eps"]
        params, grads = decayed(batch, group, decoupled=True)
        updated = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            eps = float(np.finfo(p.dtype).eps) if least is None else least
            moments = self._moments(batch.part(i), g, new, eps)
            update = g / moments.maximum(eps * eps).sqrt()
            size = _root_mean_square(batch.data[i]).maximum(least_size)
            excess = (_root_mean_square(update) / group["d"]).maximum(1.0)
            updated.append(p - (rate * size) / excess * update)
        return updated

    def _moments(self, one: Batch, g: NDArray, new: float | HostNumber, eps: float) -> NDArray:
        """The estimate of the averages of g²; `new` is the weight of the present g."""
        squares = g * g
        if g.ndim < 2:
            (average,) = one.moments("square_average")
            average = average + new * (squares - average)
            one.set_moments("square_average", [average])
            return average
        estimates = []
        for name, axis in (("row_average", -1), ("column_average", -2)):
            (average,) = one.moments(name, shape=self._state_shape(name, g.shape))
            average = average + new * (squares.mean(axis, keepdims=True) - average)
            one.set_moments(name, [average])
            estimates.append(average)
        rows, columns = estimates
        return rows * columns / rows.mean(-2, keepdims=True).maximum(eps)


def _root_mean_square(x: NDArray) -> NDArray:
    return ((x * x).sum() / max(x.size, 1)).sqrt()
