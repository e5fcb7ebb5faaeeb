"""Activations that change their argument, with a trailing underscore as in PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd import Tensor
from . import _activation


def _in_place(function: Callable[..., Any]) -> Callable[..., Tensor]:
    name = f"{function.__name__}_"

    @functools.wraps(function)
    def call(input: Tensor, *args: Any, **options: Any) -> Tensor:
        return input._changed_by(name, function, args, options)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{name[:-1]}` that changes the Tensor itself, and returns it."
    return call


relu_ = _in_place(_activation.relu)
elu_ = _in_place(_activation.elu)
selu_ = _in_place(_activation.selu)
celu_ = _in_place(_activation.celu)
leaky_relu_ = _in_place(_activation.leaky_relu)
hardtanh_ = _in_place(_activation.hardtanh)
threshold_ = _in_place(_activation.threshold)
rrelu_ = _in_place(_activation.rrelu)
