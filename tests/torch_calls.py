"""Calls as people type them: the same line runs with `torch` and with `needle`.

A row is a function's name and its arguments. Arrays stand for Tensors. The tests run it as a
function, as a method of the first Tensor where PyTorch has one, as the form with an underscore
where PyTorch has that, and compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
Y = RNG.normal(size=(3, 4))
POSITIVE = RNG.uniform(0.5, 2, size=(3, 4))
UNIT = RNG.uniform(0.05, 0.95, size=(3, 4))
CUBE = RNG.normal(size=(2, 3, 4))
SQUARE = RNG.normal(size=(4, 4))
V = RNG.normal(size=5)
W = RNG.normal(size=3)
BATCH = RNG.normal(size=(2, 4, 3))
LEFT = np.array([[2, 0, 3, 1], [1, 3, 0, 2], [0, 0, 3, 3]])
INDEX = np.array([2, 0, 2])
UNIQUE = np.array([1, 0, 3])
ZEROS = np.zeros((3, 4))
MASK = X > 0
INTEGERS = np.array([[7, -7, 3], [2, 5, -1]])
OTHERS = np.array([[2, 2, -2], [3, 1, 4]])
NAN = np.array([[1.0, np.nan, -2.0], [np.inf, 0.0, -np.inf]])


class Constant(np.ndarray):
    """An array of floats that stands for a Tensor which requires no gradient."""


@dataclass(frozen=True)
class Call:
    """`torch.name(*args, **options)`."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    is_method: bool = True
    is_function: bool = True
    compiles: bool = True  # False where the result's shape depends on values

    def __str__(self) -> str:
        parts = [_short(x) for x in self.args]
        parts += [f"{key}={_short(value)}" for key, value in self.options.items()]
        return f"{self.name}({', '.join(parts)})"


def _short(x: Any) -> str:
    return "x".join(map(str, x.shape)) or "0-d" if isinstance(x, np.ndarray) else repr(x)


def call(name: str, *args: Any, **options: Any) -> Call:
    return Call(name, args, options)


def by_value(name: str, *args: Any, **options: Any) -> Call:
    """A call whose result has a shape that depends on values."""
    return Call(name, args, options, compiles=False)


def function(name: str, *args: Any, **options: Any) -> Call:
    """A call that is not tried as a method."""
    return Call(name, args, options, is_method=False)


def method(name: str, *args: Any, **options: Any) -> Call:
    """A call that is not tried as a function."""
    return Call(name, args, options, is_function=False)


ARITHMETIC = [
    call("add", X, Y), call("add", X, Y, alpha=2), call("add", X, 2.5),
    call("sub", X, Y), call("sub", X, Y, alpha=3), call("subtract", X, Y),
    call("mul", X, Y), call("multiply", X, 2.0), call("div", X, POSITIVE),
    call("div", X, POSITIVE, rounding_mode="floor"), call("div", X, 0.3, rounding_mode="trunc"),
    call("true_divide", X, 2), call("divide", X, POSITIVE), call("floor_divide", X, POSITIVE),
    call("remainder", X, POSITIVE), call("remainder", INTEGERS, OTHERS),
    call("fmod", X, POSITIVE), call("fmod", INTEGERS, OTHERS), call("pow", POSITIVE, 2.5),
    call("pow", POSITIVE, Y), call("float_power", POSITIVE, 2), call("neg", X),
    call("negative", X), call("positive", X), call("square", X), call("reciprocal", POSITIVE),
    call("div", np.array([[np.inf, -7.0]]), 0.3, rounding_mode="trunc"),
    call("div", INTEGERS, 0.3, rounding_mode="trunc"), call("fmod", ZEROS, POSITIVE),
    call("copysign", INTEGERS, W), call("copysign", MASK, -1.0),
    call("lerp", X, Y, 0.3), call("lerp", X, Y, UNIT), call("addcmul", X, Y, POSITIVE, value=2),
    call("addcdiv", X, Y, POSITIVE, value=0.5), call("addcdiv", X, Y, POSITIVE),
    call("maximum", X, Y), call("minimum", X, Y), call("hypot", X, Y), call("copysign", X, Y),
    call("clamp", X, -0.5, 0.5), call("clamp", X, min=0.1), call("clamp", X, max=0.1),
    call("clamp", X, min=Y), call("clip", X, -0.3, 0.3), call("clamp_min", X, 0.2),
    call("clamp_max", X, 0.2), call("heaviside", X, np.array(0.5)), call("rsub", X, 1.5),
]  # fmt: skip

FUNCTIONS = [
    *(call(name, X) for name in (
        "abs", "absolute", "sign", "sgn", "signbit", "exp", "exp2", "expm1", "sin", "cos", "tanh",
        "erf", "sigmoid", "relu", "floor", "ceil", "round", "trunc", "fix", "frac", "sinc",
        "deg2rad", "rad2deg",
    )),
    *(call(name, POSITIVE) for name in (
        "sqrt", "rsqrt", "log", "log2", "log10", "log1p",
    )),
    call("logit", UNIT), call("logit", UNIT, eps=0.3), call("logaddexp", X, Y),
    call("logaddexp", X, X), call("xlogy", X, POSITIVE), call("xlogy", ZEROS, POSITIVE),
    call("xlogy", ZEROS.view(Constant), np.array(np.inf).view(Constant)),
    call("nan_to_num", NAN), call("nan_to_num", NAN, 1.0, 2.0, -3.0),
    call("round", X, decimals=1), call("round", np.array([1e4, 1.26], np.float16), decimals=1),
]  # fmt: skip

COMPARISONS = [
    *(call(name, X, Y) for name in (
        "eq", "ne", "lt", "le", "gt", "ge", "less", "less_equal", "greater", "greater_equal",
        "not_equal", "isclose",
    )),
    call("eq", X, 0.5), call("ge", X, 0),
    *(call(name, NAN) for name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf")),
    call("isclose", X, X + 1e-9, rtol=1e-12, atol=1e-8),
    by_value("allclose", X, X + 1e-12), by_value("allclose", X, Y), call("isclose", MASK, X > 1),
    call("logical_and", MASK, Y), call("logical_or", MASK, Y > 0), call("logical_not", MASK),
    call("logical_xor", MASK, Y > 0), call("bitwise_and", INTEGERS, OTHERS),
    call("bitwise_or", INTEGERS, OTHERS), call("bitwise_xor", INTEGERS, OTHERS),
    call("bitwise_not", INTEGERS), function("isin", INDEX, UNIQUE),
]  # fmt: skip

REDUCTIONS = [
    *(call(name, CUBE, **options) for name in ("sum", "mean", "amax", "amin", "std", "var",
                                               "logsumexp", "nansum", "nanmean", "norm")
      for options in ({"dim": 1}, {"dim": (0, 2), "keepdim": True})),
    *(call(name, CUBE) for name in ("sum", "mean", "prod", "std", "var", "max", "min", "argmax",
                                    "argmin", "median", "norm", "any", "all", "nansum", "nanmean")),
    call("sum", X, 0), call("sum", X, dim=0, dtype="float32"), call("mean", X, 1, True),
    call("prod", X, 1), call("prod", X, dim=1, keepdim=True), call("std", X, 1, unbiased=False),
    call("var", X, dim=1, correction=0), call("argmax", X, 1),
    call("argmin", X, dim=0, keepdim=True),
    call("all", X, 1), call("any", MASK, dim=0), call("count_nonzero", X, dim=1),
    call("aminmax", X, dim=1), call("std_mean", X, 1), call("var_mean", X, dim=0, keepdim=True),
    *(call(name, X, *args, **options) for name in ("max", "min", "median")
      for args, options in (((1,), {}), ((-1, True), {}), ((), {"dim": 0, "keepdim": True}))),
    call("max", LEFT, 1), call("min", LEFT, dim=0), call("max", NAN, 1), call("min", NAN, 1),
    call("max", X, Y), call("min", X, Y), call("mode", LEFT, 0), call("mode", X),
    call("mode", LEFT, dim=1, keepdim=True), call("mode", V[:1]), call("kthvalue", X, 2, 1),
    *(call("norm", X, *args, **options) for args, options in (
        ((1,), {}), ((2, 1), {}), ((2.0, 0, True), {}), ((1,), {"dim": 0}),
        ((), {"p": 3, "dim": 1}),
        ((float("inf"),), {"dim": 1}), ((float("-inf"),), {}), ((0,), {"dim": 1}), (("fro",), {}),
    )),
    call("quantile", X, 0.3), call("quantile", X, 0.3, dim=1), call("cov", X), call("corrcoef", X),
    by_value("quantile", X, np.array([0.25, 0.9]).view(Constant), dim=1, keepdim=True),
    call("quantile", X, 0.4, interpolation="nearest"), by_value("histc", X, 5),
    call("histc", X, bins=4, min=-1, max=1),
]  # fmt: skip

ALONG = [
    call("cumsum", X, 1), call("cumsum", X, dim=0), call("cumprod", CUBE, 1), call("cummax", X, 1),
    call("cummin", X, dim=0), call("logcumsumexp", X, 1), call("diff", X), call("diff", X, 2, 0),
    call("sort", X, 1), call("sort", X, dim=0, descending=True), call("argsort", X),
    call("argsort", X, dim=0, descending=True), call("topk", X, 2), call("topk", X, 2, dim=0),
    call("topk", X, 2, 1, largest=False), call("topk", X, 3, 1, True, True),
    call("topk", NAN, 2), call("topk", NAN, 2, largest=False), call("sort", NAN, descending=True),
    call("sort", LEFT, dim=1, stable=True), call("argsort", LEFT, dim=1, stable=True),
    call("norm", CUBE, 3.0, (0, 2)), call("norm", X, "fro"), call("trapezoid", CUBE, dim=1),
    function("trapezoid", X, dx=0.5), function("trapezoid", X, np.sort(V[:4])),
    function("trapezoid", CUBE, np.cumsum(POSITIVE, 0), dim=1),
    call("msort", X), call("softmax", X, dim=1),
    call("softmax", X, -1), call("log_softmax", X, dim=-1),
    by_value("unique", INDEX), by_value("unique", INDEX, return_inverse=True, return_counts=True),
    by_value("unique_consecutive", INDEX), by_value("unique_consecutive", INDEX[:1]),
    by_value("bincount", INDEX),
    call("bincount", INDEX, minlength=6), call("nonzero_static", X, size=5),
    call("nonzero_static", MASK, size=20, fill_value=7),
]  # fmt: skip

SHAPES = [
    call("reshape", CUBE, (6, 4)), call("reshape", CUBE, (-1,)), call("flatten", CUBE),
    call("flatten", CUBE, 1), call("flatten", CUBE, start_dim=0, end_dim=1),
    call("unflatten", X, 1, (2, -1)), call("ravel", CUBE), call("movedim", CUBE, 0, -1),
    call("moveaxis", CUBE, (0, 1), (2, 0)), call("swapaxes", CUBE, 0, 2),
    call("swapaxes", CUBE, -1, 2),
    call("swapdims", CUBE, 0, 1), call("t", X), call("adjoint", CUBE), call("squeeze", X[:, :1]),
    call("squeeze", X[:, :1], 1), call("squeeze", X[:1, :1], (0, 1)), call("unsqueeze", X, 1),
    call("transpose", CUBE, 0, 2), call("permute", CUBE, (2, 0, 1)), call("tile", X, (2, 1)),
    call("broadcast_to", W, (2, 3)), call("repeat_interleave", X, 2),
    call("repeat_interleave", X, 3, dim=1),
    by_value("repeat_interleave", X, np.array([1, 0, 2]), dim=0),
    call("repeat_interleave", X, np.array([1, 0, 2]), dim=0, output_size=3),
    call("roll", X, 1), call("roll", X, (1, -2), (0, 1)), call("roll", X, shifts=1, dims=1),
    call("flip", CUBE, (0, 2)), call("flip", CUBE, dims=[1]), call("fliplr", X), call("flipud", X),
    call("rot90", X), call("rot90", CUBE, 3, (1, 2)), call("unbind", X), call("unbind", X, dim=1),
    call("chunk", V, 2), call("chunk", X, 2, dim=1), call("narrow", X, 1, 1, 2),
    call("select", X, 1, -1), method("split", V, 2), call("split", X, [1, 3], dim=1),
    call("split_with_sizes", X, (1, 3), 1), call("tensor_split", X, 3, dim=1),
    call("tensor_split", X, (1, 3), dim=1), call("diagonal", X, 1), call("diagonal", CUBE, 0, 1, 2),
    call("diag", V), call("diag", X, 1), call("diag_embed", X), call("trace", X), call("tril", X),
    call("tril", CUBE, 1), call("triu", X, diagonal=-1), function("cartesian_prod", V, W),
    function("meshgrid", V, W, indexing="ij"), function("meshgrid", V, W, indexing="xy"),
    function("atleast_1d", V), function("atleast_2d", V), function("atleast_3d", X),
    method("repeat", X, 2, 1, 1),
    method("unfold", CUBE, 2, 3, 1), method("unfold", CUBE, dimension=0, size=1, step=2),
    function("as_strided", CUBE, (2, 3), (7, 2), 3),
    function("broadcast_tensors", X, V[:4]), function("block_diag", X, SQUARE),
]  # fmt: skip

JOINS = [
    *(function(name, [X, Y]) for name in (
        "cat", "concat", "concatenate", "stack", "hstack", "vstack", "row_stack", "dstack",
        "column_stack")),
    function("cat", [X, Y], 1), function("cat", [X, Y], dim=-1), function("stack", [X, Y], dim=1),
    function("hstack", [V, W]), function("column_stack", [V, V]),
]  # fmt: skip

SELECTIONS = [
    call("gather", X, 1, LEFT), call("gather", X, dim=0, index=LEFT[:2] % 3),
    call("index_select", X, 1, INDEX), call("index_select", X, dim=0, index=UNIQUE[:2]),
    call("index_add", X, 0, INDEX, Y), call("index_add", X, dim=0, index=INDEX, source=Y, alpha=2),
    call("index_copy", X, 1, UNIQUE, Y[:, :3]), call("index_fill", X, 1, UNIQUE, 7.0),
    call("index_put", X, (np.array([0, 1]), np.array([2, 2])), V[:2]),
    call("index_put", X, (np.array([0, 0]), np.array([2, 2])), V[:2], accumulate=True),
    call("scatter", X, 1, LEFT[:2, :1], Y[:2, :1]), call("scatter", X, 0, LEFT[:1] % 3, 5.0),
    call("scatter", X, 1, LEFT[:2], 2.0),
    call("scatter_add", X, 1, LEFT, Y), call("scatter_add", X, 0, LEFT[:2, :2] % 3, Y[:2, :2]),
    *(call("scatter_reduce", X, 1, LEFT[:, :3], Y[:, :3], reduce, include_self=own)
      for reduce in ("sum", "prod", "mean", "amax", "amin") for own in (True, False)),
    call("take_along_dim", X, LEFT[:, :2], 1), call("masked_fill", X, MASK, -1.0),
    call("masked_fill", X, MASK[0], float("-inf")), by_value("masked_select", X, MASK),
    by_value("masked_scatter", X, MASK, Y), by_value("nonzero", INDEX), by_value("argwhere", MASK),
    by_value("nonzero", X, as_tuple=True), function("where", MASK, X, Y),
    function("where", MASK, X, 0.0), function("where", MASK, 1, 0),
    function("where", MASK, True, False), function("where", MASK, 1, True),
    Call("where", (MASK,), compiles=False, is_method=False),
    function("searchsorted", np.sort(V), X),
    function("bucketize", X, np.sort(V)),
]  # fmt: skip

PRODUCTS = [
    call("matmul", X, SQUARE), call("mm", X, SQUARE), call("bmm", CUBE, BATCH),
    call("mv", X, V[:4]), call("dot", V, V[::-1]), call("inner", CUBE, X), call("outer", V, W),
    call("ger", V, W), call("addmm", X, Y, SQUARE),
    call("addmm", X, Y, SQUARE, beta=0.5, alpha=2.0),
    call("addmv", W, X, V[:4]), call("addr", X, W, V[:4]),
    call("baddbmm", CUBE[..., :3], CUBE, BATCH),
    call("addbmm", CUBE[0, :, :3], CUBE, BATCH), call("kron", X, V),
    function("tensordot", CUBE, BATCH, dims=([1, 2], [2, 1])), function("tensordot", X, SQUARE, 1),
    call("cross", X[:, :3], Y[:, :3], dim=1), function("einsum", "bij,bjk->bik", CUBE, BATCH),
    function("einsum", X, [0, 1], Y, [2, 1], [2, 0]), function("einsum", CUBE, [..., 3, 30]),
    function("einsum", SQUARE, [0, 0], [0]), function("einsum", CUBE, [..., 1], V[:4], [1], [...]),
    *(function("cdist", CUBE, CUBE[:, :2] + Y[:2], p=p) for p in (1.0, 2.0, 3.0)),
    function("cosine_similarity", X, Y), function("pairwise_distance", X, Y),
]  # fmt: skip

GROUPS = {
    "arithmetic": ARITHMETIC, "functions": FUNCTIONS, "comparisons": COMPARISONS,
    "reductions": REDUCTIONS, "along": ALONG, "shapes": SHAPES, "joins": JOINS,
    "selections": SELECTIONS, "products": PRODUCTS,
}  # fmt: skip
CALLS = [c for calls in GROUPS.values() for c in calls]
