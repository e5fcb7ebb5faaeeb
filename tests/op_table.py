"""The table of operators: one line each, which every test of operators walks through.

`needle` takes Tensors, `numpy` float64 arrays; `torch` PyTorch tensors where PyTorch has the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import needle as ndl
from needle import ops

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """An operator, its reference, and the shapes of its inputs (one tuple of shapes a run)."""

    name: str
    needle: Callable[..., Any]
    numpy: Callable[..., Any]
    shapes: tuple[tuple[Shape, ...], ...]
    torch: Callable[..., Any] | None = None
    sample: str = "normal"
    grad: bool = True

    def inputs(self, shapes: tuple[Shape, ...]) -> list[np.ndarray]:
        """Float64 inputs of these shapes, the same every time."""
        rng = np.random.RandomState(zlib.crc32(self.name.encode()) % 2**31)
        return [SAMPLES[self.sample](rng, shape) for shape in shapes]


def value_and_gradients(case: Case, inputs: list[ndl.Tensor]) -> list[ndl.Tensor]:
    """The result and its gradients against weights that differ from element to element."""
    result = case.needle(*inputs)
    if not case.grad or not result.requires_grad:
        return [result]
    weights = np.cos(np.arange(result.size)).reshape(result.shape)
    seed = ndl.Tensor(weights, device=result.device, dtype=result.dtype, requires_grad=False)
    return [result, *(g for g in ndl.grad(result, inputs, seed) if g is not None)]


def _away_from_kinks(rng: np.random.RandomState, shape: Shape) -> np.ndarray:
    x = rng.randn(*shape)
    return np.asarray(np.where(np.abs(x) < 0.1, 0.3, x))


def _distinct(rng: np.random.RandomState, shape: Shape) -> np.ndarray:
    n = int(np.prod(shape))
    return rng.permutation(n).reshape(shape) * 0.37 - 0.2 * n


SAMPLES: dict[str, Callable[[np.random.RandomState, Shape], np.ndarray]] = {
    "normal": lambda rng, shape: np.asarray(rng.randn(*shape)),
    "positive": lambda rng, shape: np.asarray(rng.uniform(0.5, 2.0, shape)),
    "within 1": lambda rng, shape: np.asarray(rng.uniform(-0.9, 0.9, shape)),
    "above 1": lambda rng, shape: np.asarray(rng.uniform(1.2, 3.0, shape)),
    "no kinks": _away_from_kinks,
    "distinct": _distinct,
}

UNARY: tuple[tuple[Shape, ...], ...] = (((3, 4),), ((),), ((2, 1, 5),), ((0, 3),))
BINARY: tuple[tuple[Shape, ...], ...] = (
    ((3, 4), (3, 4)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3, 4), (4,)), ((0, 3), (1, 3)),
)  # fmt: skip
CUBE: tuple[tuple[Shape, ...], ...] = (((2, 3, 4),),)
SQUARE: tuple[tuple[Shape, ...], ...] = (((3, 4),),)
MASK = np.array([[True, False, True, False]])
ROWS = np.array([[2, 0, 2, 1]])
LABELS = np.array([1, 0, 3])

erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    scale = 1 / np.sqrt(x.var(axis, keepdims=True) + 1e-5)
    return (x - x.mean(axis, keepdims=True)) * scale * w + b


def _dilate(x: np.ndarray, axis: int, dilation: int) -> np.ndarray:
    shape = list(x.shape)
    shape[axis] *= dilation + 1
    out = np.zeros(shape)
    out[(slice(None),) * axis + (slice(None, None, dilation + 1),)] = x
    return out


def _scatter_add(a: np.ndarray, src: np.ndarray) -> np.ndarray:
    out = a.copy()
    np.add.at(out, (ROWS, np.arange(4)), src)
    return out


def _cross_entropy(x: np.ndarray, smoothing: float = 0.0, ignore: int = -100) -> np.ndarray:
    log_p = _log_softmax(x)
    targets = np.full(x.shape, smoothing / x.shape[1])
    targets[np.arange(3), LABELS] += 1 - smoothing
    losses = -(targets * log_p).sum(1)
    return losses[ignore != LABELS].mean()


def _conv(
    x: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """Convolution by its definition: a product at each position of the kernel."""
    (sh, sw), ((top, bottom), (left, right)) = stride, padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw, c, o = w.shape
    oh = (x.shape[1] - dilation * (kh - 1) - 1) // sh + 1
    ow = (x.shape[2] - dilation * (kw - 1) - 1) // sw + 1
    out = np.zeros((x.shape[0], oh, ow, o))
    for g in range(groups):
        own = slice(g * o // groups, (g + 1) * o // groups)
        for i in range(oh):
            for j in range(ow):
                rows = slice(i * sh, i * sh + dilation * (kh - 1) + 1, dilation)
                columns = slice(j * sw, j * sw + dilation * (kw - 1) + 1, dilation)
                window = x[:, rows, columns, g * c : (g + 1) * c]
                out[:, i, j, own] = np.einsum("nhwc,hwco->no", window, w[..., own])
    return out


def _torch_conv(**options: Any) -> Callable[..., Any]:
    def run(x: Any, w: Any) -> Any:
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), **options)
        return y.permute(0, 2, 3, 1)

    return run


def _torch_conv_transpose(**options: Any) -> Callable[..., Any]:
    def run(x: Any, w: Any) -> Any:
        y = torch.nn.functional.conv_transpose2d(
            x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), **options
        )
        return y.permute(0, 2, 3, 1)

    return run


def _conv_transpose(
    x: np.ndarray, w: np.ndarray, stride: int, padding: int, extra: int
) -> np.ndarray:
    n, oh, ow, _ = x.shape
    kh, kw, o, _ = w.shape
    full = np.zeros((n, (oh - 1) * stride + kh + extra, (ow - 1) * stride + kw + extra, o))
    for i in range(oh):
        for j in range(ow):
            spread = np.einsum("nc,hwoc->nhwo", x[:, i, j], w)
            full[:, i * stride : i * stride + kh, j * stride : j * stride + kw] += spread
    return full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]


def _windows(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """(N, OH, OW, C, K, K)."""
    view = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
    return view[:, ::stride, ::stride]


def _lstm(x, h, c, w_ih, w_hh, b):  # type: ignore[no-untyped-def]
    outputs = []
    for step in x:
        i, f, g, o = np.split(step @ w_ih + h @ w_hh + b, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.concatenate([np.ravel(outputs), c.ravel()])


def _joined(*parts: Any) -> Any:
    return ndl.concatenate([p.flatten() for p in parts])


def _torch_lstm(x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b: Any) -> Any:
    zero = torch.zeros_like(b)
    output, _, c = torch._VF.lstm(
        x, (h[None], c[None]), [w_ih.T, w_hh.T, b, zero], True, 1, 0.0, False, False, False
    )
    return torch.cat([output.flatten(), c.flatten()])


def _rnn(x, h, w_ih, w_hh, b, relu=False):  # type: ignore[no-untyped-def]
    outputs = []
    for step in x:
        z = step @ w_ih + h @ w_hh + b
        h = np.maximum(z, 0) if relu else np.tanh(z)
        outputs.append(h)
    return np.array(outputs)


def _gru(x, h, w_ih, w_hh, b_ih, b_hh):  # type: ignore[no-untyped-def]
    outputs = []
    for step in x:
        xr, xz, xn = np.split(step @ w_ih + b_ih, 3, axis=1)
        hr, hz, hn = np.split(h @ w_hh + b_hh, 3, axis=1)
        r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + r * hn) + z * h
        outputs.append(h)
    return np.array(outputs)


def _attention(q, k, v, mask=None, causal=False):  # type: ignore[no-untyped-def]
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + (np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    sees = (scores > -np.inf).any(-1, keepdims=True)
    scores = np.where(sees, scores, 0.0)
    return np.exp(_log_softmax(scores)) * sees @ v


def _self_attention(x: np.ndarray, heads: int) -> np.ndarray:
    b, t, width = x.shape
    q, k, v = x.reshape(b, t, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)
    return _attention(q, k, v, causal=True).transpose(0, 2, 1, 3).reshape(b, t, width // 3)


SEEN = np.array([[True, True, False], [False, True, True], [True, True, True], [False] * 3])


def _reductions() -> list[Case]:
    """Each reduction over no, one, several and all axes, with and without keepdims."""
    table: list[tuple[str, Any, Any, Any, str]] = [
        ("sum", ops.summation, np.sum, "sum", "normal"),
        ("mean", ops.mean, np.mean, "mean", "normal"),
        ("max", ops.max, np.max, "amax", "distinct"),
        ("min", ops.min, np.min, "amin", "distinct"),
    ]
    cases = []
    for axes in (None, 0, -1, (0, 2), (-1, 0, 1)):
        for keep in (False, True):

            def bind(f: Any, name: str, axes: Any = axes, keep: bool = keep) -> Any:
                return lambda x: f(x, **{name: axes}, keepdims=keep)

            suffix = f"({axes}, keepdims={keep})"
            for name, op, reference, peer, sample in table:

                def torch_peer(
                    x: Any, peer: str = peer, axes: Any = axes, keep: bool = keep
                ) -> Any:
                    all_axes = tuple(range(x.ndim)) if axes is None else axes
                    return getattr(x, peer)(all_axes, keepdim=keep)

                cases.append(
                    Case(
                        name + suffix,
                        bind(op, "axes"),
                        bind(reference, "axis"),
                        CUBE,
                        torch_peer,
                        sample,
                    )
                )
            cases += [
                Case("prod" + suffix, bind(ops.prod, "axes"), bind(np.prod, "axis"), CUBE),
                Case("var" + suffix, bind(ops.var, "axes"),
                     lambda x, a=axes, k=keep: np.var(x, axis=a, keepdims=k, ddof=1), CUBE),
                Case("std" + suffix, bind(ops.std, "axes"),
                     lambda x, a=axes, k=keep: np.std(x, axis=a, keepdims=k, ddof=1), CUBE),
                Case("norm" + suffix, bind(ops.norm, "axes"),
                     lambda x, a=axes, k=keep: np.sqrt((x * x).sum(axis=a, keepdims=k)), CUBE),
                Case("logsumexp" + suffix, bind(ops.logsumexp, "axes"),
                     lambda x, a=axes, k=keep: np.log(np.exp(x).sum(axis=a, keepdims=k)), CUBE),
            ]  # fmt: skip
    return cases


def _lazy_torch() -> Any:
    """PyTorch, imported when a case first asks for it."""

    class Module:
        def __getattr__(self, name: str) -> Any:
            import torch

            return getattr(torch, name)

    return Module()


torch = _lazy_torch()

ARITHMETIC = [
    Case("add", ndl.add, np.add, BINARY, lambda a, b: a + b),
    Case("subtract", lambda a, b: a - b, np.subtract, BINARY, lambda a, b: a - b),
    Case("multiply", ndl.multiply, np.multiply, BINARY, lambda a, b: a * b),
    Case("divide", ndl.divide, np.divide, BINARY, lambda a, b: a / b, "positive"),
    Case("power", ndl.power, np.power, BINARY, lambda a, b: a**b, "positive"),
    Case("floor_divide", lambda a, b: a // b, np.floor_divide, BINARY, None, "positive", False),
    Case("remainder", lambda a, b: a % b, np.mod, BINARY, lambda a, b: torch.remainder(a, b),
         "positive"),
    Case("maximum", ndl.maximum, np.maximum, BINARY, lambda a, b: torch.maximum(a, b)),
    Case("minimum", ndl.minimum, np.minimum, BINARY, lambda a, b: torch.minimum(a, b)),
    Case("where", lambda a, b: ndl.where(ndl.Tensor(MASK, device=a.device), a, b),
         lambda a, b: np.where(MASK, a, b), (((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3, 4)))),
    Case("add_scalar", lambda x: ndl.add_scalar(x, 1.5), lambda x: x + 1.5, UNARY),
    Case("number + x", lambda x: 1.5 + x, lambda x: 1.5 + x, UNARY),
    Case("x - number", lambda x: x - 1.5, lambda x: x - 1.5, UNARY),
    Case("number - x", lambda x: 1.5 - x, lambda x: 1.5 - x, UNARY, lambda x: 1.5 - x),
    Case("mul_scalar", lambda x: ndl.mul_scalar(x, -3), lambda x: -3 * x, UNARY),
    Case("divide_scalar", lambda x: ndl.divide_scalar(x, 3), lambda x: x / 3, UNARY),
    Case("number / x", lambda x: 2 / x, lambda x: 2 / x, UNARY, lambda x: 2 / x, "positive"),
    Case("power_scalar", lambda x: ndl.power_scalar(x, 3), lambda x: x**3, UNARY),
    Case("x ** 0.5", lambda x: x**0.5, lambda x: x**0.5, UNARY, lambda x: x**0.5, "positive"),
    Case("x ** -2", lambda x: x**-2, lambda x: x**-2.0, UNARY, lambda x: x**-2, "positive"),
    Case("x ** 0", lambda x: x**0, lambda x: x**0, UNARY),
    Case("number ** x", lambda x: 2**x, lambda x: 2**x, UNARY, lambda x: 2**x),
    Case("number @ broadcast", lambda x: x + np.ones((2, 1, 1)), lambda x: x + np.ones((2, 1, 1)),
         SQUARE),
    Case("fused_add_scalars", lambda x: sum(ndl.fused_add_scalars(x, 1, 2).tuple()),
         lambda x: 2 * x + 3, UNARY),
]  # fmt: skip

FUNCTIONS = [
    Case("negate", ndl.negate, np.negative, UNARY),
    Case("exp", ndl.exp, np.exp, UNARY, lambda x: torch.exp(x)),
    Case("log", ndl.log, np.log, UNARY, lambda x: torch.log(x), "positive"),
    Case("log1p", ndl.log1p, np.log1p, UNARY, lambda x: torch.log1p(x), "positive"),
    Case("expm1", ndl.expm1, np.expm1, UNARY, lambda x: torch.expm1(x)),
    Case("sqrt", ndl.sqrt, np.sqrt, UNARY, lambda x: torch.sqrt(x), "positive"),
    Case("rsqrt", ndl.rsqrt, lambda x: 1 / np.sqrt(x), UNARY, lambda x: torch.rsqrt(x), "positive"),
    Case("abs", ndl.abs, np.abs, UNARY, lambda x: torch.abs(x), "no kinks"),
    Case("sign", ndl.sign, np.sign, UNARY, grad=False),
    Case("floor", ndl.floor, np.floor, UNARY, grad=False),
    Case("ceil", ndl.ceil, np.ceil, UNARY, grad=False),
    Case("round", ndl.round, np.round, UNARY, grad=False),
    Case("sin", ndl.sin, np.sin, UNARY, lambda x: torch.sin(x)),
    Case("cos", ndl.cos, np.cos, UNARY, lambda x: torch.cos(x)),
    Case("tan", ndl.tan, np.tan, UNARY, lambda x: torch.tan(x), "within 1"),
    Case("asin", ndl.asin, np.arcsin, UNARY, lambda x: torch.asin(x), "within 1"),
    Case("acos", ndl.acos, np.arccos, UNARY, lambda x: torch.acos(x), "within 1"),
    Case("atan", ndl.atan, np.arctan, UNARY, lambda x: torch.atan(x)),
    Case("sinh", ndl.sinh, np.sinh, UNARY, lambda x: torch.sinh(x)),
    Case("cosh", ndl.cosh, np.cosh, UNARY, lambda x: torch.cosh(x)),
    Case("asinh", ndl.asinh, np.arcsinh, UNARY, lambda x: torch.asinh(x)),
    Case("acosh", ndl.acosh, np.arccosh, UNARY, lambda x: torch.acosh(x), "above 1"),
    Case("atanh", ndl.atanh, np.arctanh, UNARY, lambda x: torch.atanh(x), "within 1"),
    Case("erfc", ndl.erfc, lambda x: 1 - erf(x), UNARY, lambda x: torch.erfc(x)),
    Case("exp2", ndl.exp2, np.exp2, UNARY, lambda x: torch.exp2(x)),
    Case("log2", ndl.log2, np.log2, UNARY, lambda x: torch.log2(x), "positive"),
    Case("log10", ndl.log10, np.log10, UNARY, lambda x: torch.log10(x), "positive"),
    Case("atan2", ndl.atan2, np.arctan2, BINARY, lambda y, x: torch.atan2(y, x)),
    Case("tanh", ndl.tanh, np.tanh, UNARY, lambda x: torch.tanh(x)),
    Case("sigmoid", ndl.sigmoid, _sigmoid, UNARY, lambda x: torch.sigmoid(x)),
    Case("erf", ndl.erf, erf, UNARY, lambda x: torch.erf(x)),
    Case("relu", ndl.relu, lambda x: np.maximum(x, 0), UNARY, lambda x: torch.relu(x), "no kinks"),
    Case("leaky_relu", lambda x: ndl.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x),
         UNARY, lambda x: torch.nn.functional.leaky_relu(x, 0.1), "no kinks"),
    Case("elu", ndl.elu, lambda x: np.where(x > 0, x, np.expm1(x)), UNARY,
         lambda x: torch.nn.functional.elu(x), "no kinks"),
    Case("softplus", ndl.softplus, lambda x: np.log1p(np.exp(x)), UNARY,
         lambda x: torch.nn.functional.softplus(x), "no kinks"),
    Case("silu", ndl.silu, lambda x: x * _sigmoid(x), UNARY,
         lambda x: torch.nn.functional.silu(x)),
    Case("gelu", ndl.gelu, lambda x: 0.5 * x * (1 + erf(x * math.sqrt(0.5))), UNARY,
         lambda x: torch.nn.functional.gelu(x)),
    Case("gelu tanh", lambda x: ndl.gelu(x, "tanh"), _gelu_tanh, UNARY,
         lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
    Case("clip", lambda x: ndl.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), UNARY,
         lambda x: torch.clip(x, -0.5, 0.7)),
    Case("clip below", lambda x: ndl.clip(x, low=0.2), lambda x: np.maximum(x, 0.2), UNARY),
    Case("astype", lambda x: x.astype("float32").astype(x.dtype),
         lambda x: x.astype(np.float32), UNARY, grad=False),
]  # fmt: skip

ALONG_AN_AXIS = [
    *_reductions(),
    Case("var correction=0", lambda x: ops.var(x, 1, correction=0), lambda x: x.var(1), CUBE,
         lambda x: torch.var(x, 1, correction=0)),
    Case("norm 1", lambda x: ops.norm(x, 1, 1), lambda x: np.abs(x).sum(1), CUBE,
         lambda x: torch.linalg.vector_norm(x, 1, 1), "no kinks"),
    *(Case(f"norm {p}", lambda x, p=p: ops.norm(x, p, 1),
           lambda x, p=p: np.linalg.norm(x, p, 1), CUBE,
           lambda x, p=p: torch.linalg.vector_norm(x, p, 1), "distinct")
      for p in (1.5, 2, 3, math.inf)),
    Case("logsumexp of large", lambda x: ops.logsumexp(x * 1e3, 1),
         lambda x: (x * 1e3 - _log_softmax(x * 1e3, 1))[:, 0], CUBE,
         lambda x: torch.logsumexp(x * 1e3, 1)),
    Case("cumsum", lambda x: ndl.cumsum(x, 1), lambda x: x.cumsum(1), (*CUBE, ((3, 0),)),
         lambda x: torch.cumsum(x, 1)),
    Case("softmax", ndl.softmax, lambda x: np.exp(_log_softmax(x)), (*CUBE, *SQUARE, ((0, 3),)),
         lambda x: torch.softmax(x, -1)),
    Case("softmax(0)", lambda x: ndl.softmax(x, 0), lambda x: np.exp(_log_softmax(x, 0)), CUBE,
         lambda x: torch.softmax(x, 0)),
    Case("log_softmax", ndl.log_softmax, _log_softmax, (*CUBE, *SQUARE),
         lambda x: torch.log_softmax(x, -1)),
    Case("log_softmax(1)", lambda x: ndl.log_softmax(x, 1), lambda x: _log_softmax(x, 1), CUBE,
         lambda x: torch.log_softmax(x, 1)),
    Case("logsoftmax", ndl.logsoftmax, _log_softmax, SQUARE, lambda x: torch.log_softmax(x, 1)),
    Case("sort", lambda x: ndl.sort(x, 1)[0], lambda x: np.sort(x, 1), CUBE,
         lambda x: torch.sort(x, 1)[0], "distinct"),
    Case("sort descending", lambda x: ndl.sort(x, -1, descending=True)[0],
         lambda x: -np.sort(-x, -1), CUBE, sample="distinct"),
    Case("topk", lambda x: ndl.topk(x, 2)[0], lambda x: -np.sort(-x, -1)[..., :2], CUBE,
         lambda x: torch.topk(x, 2)[0], "distinct"),
    Case("topk smallest", lambda x: ndl.topk(x, 2, axis=1, largest=False)[0],
         lambda x: np.sort(x, 1)[:, :2], CUBE, sample="distinct"),
]  # fmt: skip

PRODUCTS = [
    Case("matmul", ndl.matmul, np.matmul,
         (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4,)),
          ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4,)), ((0, 4), (4, 3)), ((3, 0), (0, 2))),
         lambda a, b: a @ b),
    Case("matmul transposed", lambda a, b: a.transpose() @ b.transpose(),
         lambda a, b: a.swapaxes(-1, -2) @ b.swapaxes(-1, -2), (((4, 3), (5, 4)),)),
    Case("linear", ndl.linear, lambda x, w, b: x @ w + b,
         (((3, 4), (4, 5), (5,)), ((2, 3, 4), (4, 5), (1, 5)), ((4,), (4, 5), (5,)),
          ((0, 4), (4, 5), (5,)))),
    Case("linear without bias", ndl.linear, np.matmul, (((2, 3, 4), (4, 5)),)),
    Case("einsum pair", lambda a, b: ndl.einsum("bij,bjk->bik", a, b),
         lambda a, b: np.einsum("bij,bjk->bik", a, b), (((2, 3, 4), (2, 4, 5)),),
         lambda a, b: torch.einsum("bij,bjk->bik", a, b)),
    Case("einsum implicit", lambda a, b: ndl.einsum("ij,jk", a, b),
         lambda a, b: np.einsum("ij,jk", a, b), (((3, 4), (4, 2)),)),
    Case("einsum chain", lambda a, b, c: ndl.einsum("ij,jk,kl->li", a, b, c),
         lambda a, b, c: np.einsum("ij,jk,kl->li", a, b, c), (((2, 3), (3, 4), (4, 2)),)),
    Case("einsum trace", lambda a: ndl.einsum("ii->", a), np.trace, (((3, 3),),)),
    Case("einsum diagonal", lambda a: ndl.einsum("ii->i", a), np.diag, (((3, 3),),)),
    Case("einsum outer", lambda a, b: ndl.einsum("i,j->ij", a, b), np.outer, (((3,), (4,)),)),
]  # fmt: skip

FORMS = [
    Case("reshape", lambda x: ndl.reshape(x, (4, -1)), lambda x: x.reshape(4, -1), CUBE,
         lambda x: x.reshape(4, -1)),
    Case("broadcast_to", lambda x: ndl.broadcast_to(x, (2, 3, 4)),
         lambda x: np.broadcast_to(x, (2, 3, 4)), (((3, 1),), ((4,),), ((),), ((2, 3, 4),))),
    Case("transpose", ndl.transpose, lambda x: x.swapaxes(-1, -2), (*CUBE, *SQUARE)),
    Case("transpose(0, 2)", lambda x: ndl.transpose(x, (0, 2)), lambda x: x.swapaxes(0, 2), CUBE),
    Case("permute", lambda x: ndl.permute(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), CUBE),
    Case("flip", lambda x: ndl.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2)), CUBE,
         lambda x: torch.flip(x, (0, 2))),
    Case("squeeze", lambda x: ndl.squeeze(x, 1), lambda x: x.squeeze(1), (((3, 1, 2),),)),
    Case("unsqueeze", lambda x: ndl.unsqueeze(x, -1), lambda x: x[..., None], UNARY),
    Case("stack", lambda a, b: ndl.stack([a, b], 1), lambda a, b: np.stack([a, b], 1),
         (((3, 4), (3, 4)),), lambda a, b: torch.stack([a, b], 1)),
    Case("split", lambda x: sum(i * t for i, t in enumerate(ndl.split(x, 1), 1)),
         lambda x: np.einsum("aib,i->ab", x, [1, 2, 3]), CUBE),
    Case("concatenate", lambda a, b: ndl.concatenate([a, b], 1),
         lambda a, b: np.concatenate([a, b], 1), (((3, 4), (3, 2)), ((3, 0), (3, 2))),
         lambda a, b: torch.cat([a, b], 1)),
    Case("chunk", lambda x: ndl.chunk(x, 2, -1)[1], lambda x: x[..., 2:], CUBE),
    Case("pad", lambda x: ndl.pad(x, ((1, 0), (0, 2)), 5.0),
         lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=5.0), (*SQUARE, ((0, 3),))),
    Case("tile", lambda x: ndl.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), (*SQUARE, ((4,),))),
    Case("dilate", lambda x: ndl.dilate(x, (1,), 2), lambda x: _dilate(x, 1, 2), CUBE),
    Case("undilate", lambda x: ndl.undilate(x, (1,), 2), lambda x: x[:, ::3], (((2, 6, 4),),)),
    Case("x[1]", lambda x: x[1], lambda x: x[1], CUBE, lambda x: x[1]),
    Case("x[::-2, None, 1:]", lambda x: x[::-2, None, 1:], lambda x: x[::-2, None, 1:], CUBE),
    Case("x[..., -1]", lambda x: x[..., -1], lambda x: x[..., -1], CUBE),
    Case("x[[2, 0, 2]]", lambda x: x[[2, 0, 2]], lambda x: x[[2, 0, 2]], SQUARE,
         lambda x: x[[2, 0, 2]]),
    Case("x[:, [1, 1]]", lambda x: x[:, [1, 1]], lambda x: x[:, [1, 1]], CUBE),
    Case("x[[0, 1], :, [3, 3]]", lambda x: x[[0, 1], :, [3, 3]], lambda x: x[[0, 1], :, [3, 3]],
         CUBE),
    Case("x[mask]", lambda x: x[:, MASK[0]], lambda x: x[:, MASK[0]], SQUARE),
    Case("gather", lambda x: ndl.gather(x, 0, ROWS), lambda x: np.take_along_axis(x, ROWS, 0),
         SQUARE),
    Case("take", lambda x: ndl.take(x, np.array([[2, 0], [2, 2]]), 1),
         lambda x: np.take(x, [[2, 0], [2, 2]], 1), CUBE),
    Case("scatter_add", lambda a, src: ndl.scatter_add(a, 0, ROWS, src), _scatter_add,
         (((3, 4), (1, 4)),)),
]  # fmt: skip

LAYERS = [
    Case("batch_norm", lambda x, w, b: ndl.batch_norm(x, w, b)[0],
         lambda x, w, b: _layer_norm(x, w, b, 0), (((5, 3), (3,), (3,)),),
         lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, True)),
    Case("layer_norm", ndl.layer_norm, _layer_norm,
         (((5, 3), (3,), (3,)), ((2, 3, 4), (4,), (4,))),
         lambda x, w, b: torch.nn.functional.layer_norm(x, x.shape[-1:], w, b)),
    Case("cross_entropy", lambda x: ndl.cross_entropy(x, LABELS), _cross_entropy, SQUARE,
         lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS))),
    Case("cross_entropy smoothed", lambda x: ndl.cross_entropy(x, LABELS, label_smoothing=0.2),
         lambda x: _cross_entropy(x, 0.2), SQUARE,
         lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS), label_smoothing=0.2)),
    Case("cross_entropy ignoring", lambda x: ndl.cross_entropy(x, LABELS, ignore_index=3),
         lambda x: _cross_entropy(x, ignore=3), SQUARE,
         lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS), ignore_index=3)),
    Case("nll_loss", lambda x: ndl.nll_loss(x, LABELS), lambda x: -x[np.arange(3), LABELS], SQUARE),
]  # fmt: skip

CONVOLUTIONS = [
    Case("conv", ndl.conv, lambda x, w: _conv(x, w, (1, 1), ((1, 1), (1, 1))),
         (((2, 4, 5, 3), (3, 3, 3, 2)), ((1, 3, 3, 1), (1, 1, 1, 1)), ((0, 4, 4, 2), (3, 3, 2, 2))),
         _torch_conv(padding=1)),
    Case("conv stride 2", lambda x, w: ndl.conv(x, w, stride=2, padding=1),
         lambda x, w: _conv(x, w, (2, 2), ((1, 1), (1, 1))),
         (((2, 5, 6, 3), (3, 3, 3, 4)), ((1, 2, 2, 2), (3, 3, 2, 3))),
         _torch_conv(stride=2, padding=1)),
    Case("conv 7x7 stride 4", lambda x, w: ndl.conv(x, w, stride=4, padding=3),
         lambda x, w: _conv(x, w, (4, 4), ((3, 3), (3, 3))), (((1, 8, 8, 2), (7, 7, 2, 2)),),
         _torch_conv(stride=4, padding=3)),
    Case("conv 1x1", lambda x, w: ndl.conv(x, w, padding=0),
         lambda x, w: _conv(x, w, (1, 1), ((0, 0), (0, 0))), (((2, 3, 4, 5), (1, 1, 5, 3)),),
         _torch_conv()),
    Case("conv dilated", lambda x, w: ndl.conv(x, w, padding=2, dilation=2),
         lambda x, w: _conv(x, w, (1, 1), ((2, 2), (2, 2)), 2), (((2, 5, 4, 2), (3, 3, 2, 3)),),
         _torch_conv(padding=2, dilation=2)),
    Case("conv grouped", lambda x, w: ndl.conv(x, w, groups=2),
         lambda x, w: _conv(x, w, (1, 1), ((1, 1), (1, 1)), groups=2),
         (((2, 4, 3, 4), (3, 3, 2, 6)),), _torch_conv(padding=1, groups=2)),
    Case("conv depthwise", lambda x, w: ndl.conv(x, w, (2, 1), (1, 0), groups=3),
         lambda x, w: _conv(x, w, (2, 1), ((1, 1), (0, 0)), groups=3),
         (((2, 4, 4, 3), (3, 2, 1, 3)),), _torch_conv(stride=(2, 1), padding=(1, 0), groups=3)),
    Case("conv same", lambda x, w: ndl.conv(x, w, padding="same"),
         lambda x, w: _conv(x, w, (1, 1), ((0, 1), (1, 1))), (((2, 3, 4, 2), (2, 3, 2, 2)),),
         _torch_conv(padding="same")),
    Case("conv1d", lambda x, w: ndl.conv1d(x, w, stride=2, padding=1),
         lambda x, w: _conv(x[:, None], w[None], (1, 2), ((0, 0), (1, 1)))[:, 0],
         (((2, 7, 3), (3, 3, 2)),)),
    Case("conv_transpose", lambda x, w: ndl.conv_transpose(x, w, 2, 1, 1),
         lambda x, w: _conv_transpose(x, w, 2, 1, 1), (((2, 3, 2, 3), (3, 3, 2, 3)),),
         _torch_conv_transpose(stride=2, padding=1, output_padding=1)),
    Case("windows", lambda x: ops.windows(x, 3, 2).sum((-2, -1)),
         lambda x: _windows(x, 3, 2).sum((-2, -1)), (((1, 5, 7, 2),),)),
    Case("max pool", lambda x: ndl.max_pool2d(x, 2, layout="NHWC"),
         lambda x: _windows(x, 2, 2).max((-2, -1)), (((2, 4, 6, 3),),), sample="distinct"),
    Case("max pool overlapping", lambda x: ndl.max_pool2d(x, 3, 2, layout="NHWC"),
         lambda x: _windows(x, 3, 2).max((-2, -1)), (((1, 5, 7, 2),),), sample="distinct"),
    Case("average pool", lambda x: ndl.avg_pool2d(x, 2, 1, padding=1, layout="NHWC"),
         lambda x: _windows(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 2, 1).mean((-2, -1)),
         (((2, 3, 4, 2),),)),
]  # fmt: skip

SEQUENCES = [
    Case("lstm", lambda x, h, c, *w: _joined(*ndl.lstm(x, h, c, *w)[::2]), _lstm,
         (((3, 2, 4), (2, 3), (2, 3), (4, 12), (3, 12), (12,)),
          ((1, 1, 1), (1, 1), (1, 1), (1, 4), (1, 4), (4,))), _torch_lstm),
    Case("rnn", lambda *a: ndl.rnn(*a)[0], _rnn, (((3, 2, 4), (2, 3), (4, 3), (3, 3), (3,)),)),
    Case("rnn relu", lambda *a: ndl.rnn(*a, nonlinearity="relu")[0],
         lambda *a: _rnn(*a, relu=True), (((3, 2, 4), (2, 3), (4, 3), (3, 3), (3,)),)),
    Case("gru", lambda *a: ndl.gru(*a)[0], _gru,
         (((3, 2, 4), (2, 3), (4, 9), (3, 9), (9,), (9,)),)),
    Case("attention", ndl.scaled_dot_product_attention, _attention,
         (((2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 2)), ((1, 1, 1, 1), (1, 1, 2, 1), (1, 1, 2, 1))),
         lambda *a: torch.nn.functional.scaled_dot_product_attention(*a)),
    Case("attention causal", lambda *a: ndl.scaled_dot_product_attention(*a, causal=True),
         lambda *a: _attention(*a, causal=True), (((2, 2, 4, 3), (2, 2, 4, 3), (2, 2, 4, 3)),),
         lambda *a: torch.nn.functional.scaled_dot_product_attention(*a, is_causal=True)),
    Case("self attention", lambda x: ndl.self_attention(x, 2, causal=True),
         lambda x: _self_attention(x, 2), (((2, 4, 12),), ((1, 1, 6),), ((0, 3, 6),))),
    Case("attention masked", lambda *a: ndl.scaled_dot_product_attention(*a, mask=SEEN),
         lambda *a: _attention(*a, mask=SEEN), (((1, 2, 4, 3), (1, 2, 3, 3), (1, 2, 3, 3)),)),
]  # fmt: skip

CASES = [
    *ARITHMETIC,
    *FUNCTIONS,
    *ALONG_AN_AXIS,
    *PRODUCTS,
    *FORMS,
    *LAYERS,
    *CONVOLUTIONS,
    *SEQUENCES,
]
RUNS = [(case, shapes) for case in CASES for shapes in case.shapes]
