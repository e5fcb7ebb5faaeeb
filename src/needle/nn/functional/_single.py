"""Inputs without an axis of examples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ... import ops
from ...autograd import Tensor

_Function = TypeVar("_Function", bound=Callable[..., Any])


def takes_single(axes: int | None, method: bool = False) -> Callable[[_Function], _Function]:
    """Let a function of (N, C, …) take one example (C, …), too; its results have no axis N then.

    `axes` is the number of axes after C; None reads it from `self.axes`. The input is the first
    argument, or the first after `self` of a layer's method. An input whose first axis is not the
    layer's number of channels goes to the method as it is: its error names the shape that came.
    """
    at = int(method)

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            x = args[at] if len(args) > at else options.get("input")
            ndim = (args[0].axes if axes is None else axes) + 1
            if not isinstance(x, Tensor) or x.ndim != ndim:
                return function(*args, **options)
            if method and x.shape[0] != args[0].in_channels:
                return function(*args, **options)
            batch = ops.unsqueeze(x, 0)
            if len(args) > at:
                found = function(*args[:at], batch, *args[at + 1 :], **options)
            else:
                found = function(*args, **{**options, "input": batch})
            return tuple(y[0] for y in found) if isinstance(found, tuple) else found[0]

        return call  # type: ignore[return-value]

    return decorate
