"""NumPy's functions called on Tensors: `np.exp(t)`, `array * t`, `np.concatenate([t, u])`.

NumPy hands such a call to the Tensor, by the protocols `__array_ufunc__` (NEP 13) and
`__array_function__` (NEP 18). needle's function of the same meaning runs, and gradients flow. Two
tables say which: `_ufuncs` for functions of numbers, `_functions` for all others. A function that
stands in neither runs on the host and gives NumPy's arrays, unless it would lose a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.methods import Methods
from ._calls import call
from ._functions import find
from ._ufuncs import FUNCTIONS, of_method


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """`ufunc(*inputs)`, or the result of one of its methods."""
    if method == "__call__" and not options:  # also every operator with an array on the left
        function = FUNCTIONS[ufunc]
        if function is not None:
            return function(*inputs)
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    return call(name, of_method(ufunc, method), getattr(ufunc, method), inputs, options, self)


def array_function(
    self: Tensor,
    function: Callable[..., Any],
    types: Iterable[type],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
) -> Any:
    """`function(*args, **options)` for a function of NumPy that is no ufunc."""
    if not all(issubclass(kind, (Tensor, np.ndarray)) for kind in types):
        return NotImplemented
    name = f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
    return call(name, find(function), function, args, options, self)


for _name, _function in (
    ("__array_ufunc__", array_ufunc), ("__array_function__", array_function)
):  # fmt: skip
    setattr(Methods, _name, _function)
