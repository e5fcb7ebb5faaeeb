"""The functions that Tensors have as methods, and as methods that change them.

A method is the function itself: `x.flip(0)` is `flip(x, 0)`. A form with an
underscore, `x.add_(y)`, is made from the function by `Tensor._changed_by`. The signatures that type
checkers see are in `autograd/methods.pyi`, which `tools/method_stubs.py` writes from these tables.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from ..autograd import Tensor
from ..autograd.methods import Methods
from . import _aliases

METHODS: tuple[str, ...] = (
    # arithmetic
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "power",
    "float_power", "negate", "positive", "square", "reciprocal", "lerp", "addcmul", "addcdiv",
    "maximum", "minimum", "clip", "clamp", "clamp_min", "clamp_max", "hypot", "copysign",
    "heaviside", "rsub",
    # functions of one number
    "abs", "sign", "sgn", "signbit", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2",
    "log10", "log1p", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
    "acosh", "atanh", "erfc", "atan2", "logaddexp", "logit", "xlogy", "sin", "cos", "sinc",
    "tanh", "erf", "erfinv", "lgamma", "digamma", "deg2rad",
    "rad2deg", "sigmoid", "relu", "floor", "ceil", "round", "trunc", "frac", "nan_to_num",
    # comparisons and bits
    "eq", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isinf",
    "isfinite", "isposinf", "isneginf", "isclose", "allclose", "logical_and", "logical_or",
    "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "isin",
    # reductions
    "summation", "mean", "prod", "var", "std", "max", "min", "amax", "amin", "aminmax", "argmax",
    "argmin", "norm", "logsumexp", "all", "any", "count_nonzero", "nansum", "nanmean", "median",
    "mode", "quantile", "std_mean", "var_mean", "kthvalue", "cov", "corrcoef", "histc",
    # along an axis
    "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff", "sort", "argsort", "topk",
    "msort", "softmax", "log_softmax", "unique", "unique_consecutive", "bincount",
    # shapes and parts
    "expand", "expand_as", "view_as", "flatten", "unflatten", "ravel", "movedim", "swapaxes", "t",
    "adjoint", "squeeze", "unsqueeze",
    "transpose", "broadcast_to", "tile", "repeat", "repeat_interleave",
    "roll", "flip", "fliplr", "flipud", "rot90", "unbind", "chunk", "narrow", "select",
    "split_with_sizes", "tensor_split", "diagonal", "diag", "diag_embed", "trace", "tril", "triu",
    "unfold", "as_strided",
    # indices and masks
    "gather", "take", "take_along_dim", "index_select", "index_add", "index_copy", "index_fill",
    "index_put", "scatter", "scatter_add", "scatter_reduce", "masked_fill", "masked_select",
    "masked_scatter", "nonzero", "nonzero_static", "argwhere",
    # products
    "matmul", "mm", "bmm", "mv", "dot", "inner", "outer", "addmm", "addmv", "addr", "addbmm",
    "baddbmm", "cross", "kron",
)  # fmt: skip

# Those that have a form which changes the Tensor, as in PyTorch.
IN_PLACE: tuple[str, ...] = (
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "power",
    "float_power", "negate", "square", "reciprocal", "lerp", "addcmul", "addcdiv", "clip", "clamp",
    "clamp_min", "clamp_max", "hypot", "copysign", "heaviside", "abs", "sign", "sgn", "sqrt",
    "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "atan2", "logit", "xlogy", "sin",
    "cos", "sinc", "tanh", "erf", "erfinv", "lgamma",
    "digamma", "fill_diagonal", "deg2rad", "rad2deg", "sigmoid", "relu", "floor", "ceil",
    "round", "trunc", "frac", "nan_to_num", "eq", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and",
    "bitwise_or", "bitwise_xor", "bitwise_not", "cumsum", "cumprod", "tril", "triu", "index_add",
    "index_copy", "index_fill", "index_put", "scatter", "scatter_add", "scatter_reduce",
    "masked_fill", "masked_scatter", "addmm", "addmv", "addr", "addbmm", "baddbmm",
)  # fmt: skip


def names_of(name: str) -> list[str]:
    """A function's name and its other names."""
    return [name, *_others().get(getattr(_aliases, name, None), ())]


@functools.cache
def _others() -> dict[object, list[str]]:
    """The other names of each function that has some."""
    found: dict[object, list[str]] = {}
    for other in _aliases.__all__:
        found.setdefault(getattr(_aliases, other), []).append(other)
    return found


def install(functions: Mapping[str, Callable[..., object]]) -> None:
    """Give Tensor the methods of the tables."""
    for name in METHODS:
        for each in names_of(name):
            setattr(Methods, each, functions[name])
    for name in IN_PLACE:
        for each in names_of(name):
            setattr(Methods, each + "_", in_place(functions[name], each + "_"))


def in_place(function: Callable[..., object], name: str) -> Callable[..., Tensor]:
    """The form of `function` that changes its first argument, under its own name."""

    @functools.wraps(function)
    def call(input: Tensor, *args: object, **options: object) -> Tensor:
        return input._changed_by(name, function, args, options)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{name[:-1]}` that changes the Tensor itself, and returns it."
    return call
