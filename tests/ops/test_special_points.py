"""Values and gradients at the corners: zeros, infinities, NaN, ties, huge and tiny numbers.

PyTorch decides. Where needle differs on purpose, `differs` says for which inputs, a comment why.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops

inf, nan = math.inf, math.nan
POINTS = np.array(
    [0.0, -0.0, inf, -inf, nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 3e38, -3e38, 1e-40, -1e-40, 1e-30,
     88, -88, -104, 20, 1e4, -1e4, 0.7]
)  # fmt: skip
PAIRS = [x.ravel() for x in np.meshgrid(POINTS, POINTS)]
ROWS = np.array(
    [[0, 0, 0, 0], [inf, 1, 2, 3], [-inf] * 4, [-inf, 1, 2, 3], [nan, 1, 2, 3], [inf, inf, 1, 2],
     [inf, -inf, 1, 2], [1e8] * 4, [3e38, 3e38, -3e38, 0], [1, 1, 2, 2], [-0.0, 0, 0, 0],
     [1e-40, 1e-40, 0, 0], [1000.1, 990.3, 0, 0], [2, 0, 3, 4], [0, 0, 3, 4], [0, 2, inf, 3],
     [100, 99, 98, 97], [1e-25, 2e-25, 3e-25, 0], [1e25, 2e25, 0, 0]]
)  # fmt: skip
OUTER = (1.0, -4.0)  # gradients of the results: one that overflows where it meets a large number
LABELS = np.zeros(len(ROWS), np.int64)
Arrays = list[np.ndarray]


def never(*inputs: np.ndarray) -> np.ndarray:
    return np.zeros(len(inputs[0]), bool)


@dataclass(frozen=True)
class Corner:
    """A function, PyTorch's, and the inputs (or rows) at which they differ on purpose."""

    name: str
    needle: Callable[..., ndl.Tensor]
    torch: Callable[..., Any]
    differs: Callable[..., np.ndarray] = never


def _unary(torch: Any) -> Iterator[Corner]:
    f = torch.nn.functional
    for name in (
        "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "floor", "ceil", "round", "tanh",
        "sigmoid", "erf", "relu", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
        "atanh", "erfc", "exp2", "log2", "log10",
    ):  # fmt: skip
        yield Corner(name, getattr(ops, name), getattr(torch, name))
    # NaN has no sign: the derivatives of what depends on it are NaN.
    yield Corner("abs", ops.abs, torch.abs, np.isnan)
    yield Corner("sign", ops.sign, torch.sign, np.isnan)
    yield Corner("elu", ops.elu, f.elu, np.isnan)
    yield Corner("elu 2", lambda x: ops.elu(x, 2.0), lambda x: f.elu(x, 2.0), np.isnan)
    yield Corner("leaky_relu", ops.leaky_relu, f.leaky_relu)
    yield Corner("softplus", ops.softplus, f.softplus)
    yield Corner("silu", ops.silu, f.silu)
    yield Corner("gelu", ops.gelu, f.gelu, lambda x: x > 1e38)  # x, not inf or NaN
    yield Corner(
        "gelu tanh", lambda x: ops.gelu(x, "tanh"), lambda x: f.gelu(x, approximate="tanh")
    )
    yield Corner("clip", lambda x: ops.clip(x, -0.5, 0.7), lambda x: torch.clamp(x, -0.5, 0.7))
    yield Corner("where", lambda x: ops.where(x > 0, x, 0.0), lambda x: torch.where(x > 0, x, 0.0))
    # The derivative of a root is a power, which PyTorch takes of -0 and -inf as 1/√x.
    for power in (-2, -1, 0, 0.5, 1, 1.5, 2, 3):
        yield Corner(
            f"x ** {power}",
            lambda x, p=power: x**p,
            lambda x, p=power: x**p,
            np.signbit if power == 0.5 else never,
        )
    for base in (0, 0.5, 1, 2.0, -2.0, inf):
        yield Corner(f"{base} ** x", lambda x, b=base: b**x, lambda x, b=base: b**x)
    yield Corner("1 / x", lambda x: 1 / x, lambda x: 1 / x)
    # PyTorch multiplies with the reciprocal, which overflows.
    yield Corner("0 / x", lambda x: 0 / x, lambda x: 0 / x, lambda x: np.abs(x) < 1e-20)
    yield Corner("x / 0", lambda x: x / 0, lambda x: x / 0)
    yield Corner("x * x", lambda x: x * x, lambda x: x * x)
    yield Corner("x / x", lambda x: x / x, lambda x: x / x)


def _pairs(torch: Any) -> Iterator[Corner]:
    f = torch.nn.functional
    yield Corner("add", ops.add, torch.add)
    yield Corner("multiply", ops.multiply, torch.mul)
    yield Corner("divide", ops.divide, torch.div)
    yield Corner("power", ops.power, torch.pow)
    yield Corner("maximum", ops.maximum, torch.maximum)
    yield Corner("minimum", ops.minimum, torch.minimum)
    # Infinite logits are tested below: the limits, where PyTorch gives NaN.
    yield Corner(
        "bce", nn.BCEWithLogitsLoss(reduction="none"),
        lambda x, y: f.binary_cross_entropy_with_logits(x, y, reduction="none"),
        lambda x, y: (np.abs(x) > 1e38) | np.isinf(y),
    )  # fmt: skip
    yield Corner("mse", nn.MSELoss("none"), lambda x, y: f.mse_loss(x, y, reduction="none"))
    yield Corner(
        "l1", nn.L1Loss("none"), lambda x, y: f.l1_loss(x, y, reduction="none"),
        lambda x, y: np.isnan(x - y),
    )  # fmt: skip
    # The gradient of a target of 0 is that of target·(0 - input); targets are no 3e38.
    yield Corner(
        "kl", nn.KLDivLoss("none"), lambda x, y: f.kl_div(x, y, reduction="none"),
        lambda x, y: (y == 0) | (y > 1e38),
    )  # fmt: skip


def _rows(torch: Any) -> Iterator[Corner]:
    f, labels = torch.nn.functional, torch.tensor(LABELS)

    def finite(x: np.ndarray) -> np.ndarray:
        return ~np.isfinite(x).all(1)

    def extreme(x: np.ndarray) -> np.ndarray:
        size = np.abs(x).max(1)
        return ~(size < 1e20) | (size < 1e-20) & (size > 0)

    def has_nan(x: np.ndarray) -> np.ndarray:
        return np.isnan(x).any(1)

    def overflows(x: np.ndarray) -> np.ndarray:
        return np.isfinite(x).all(1) & (np.abs(x).sum(1) > np.finfo(np.float32).max)

    # The order of the additions decides whether a sum overflows on its way.
    yield Corner("sum", lambda x: x.sum(1), lambda x: x.sum(1), overflows)
    yield Corner("mean", lambda x: x.mean(1), lambda x: x.mean(1), overflows)
    # PyTorch's zeros hide products that overflow.
    yield Corner(
        "prod", lambda x: x.prod(1), lambda x: x.prod(1),
        lambda x: (np.abs(x).max(1) > 1e20) & np.isfinite(x).all(1),
    )  # fmt: skip
    # The NaN gets the gradient, as in PyTorch's max along an axis.
    yield Corner("max", lambda x: x.amax(1), lambda x: x.amax(1), has_nan)
    yield Corner("min", lambda x: x.amin(1), lambda x: x.amin(1), has_nan)
    # PyTorch's gradient loses the logarithm beside a large maximum.
    yield Corner(
        "logsumexp", lambda x: ops.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1),
        lambda x: (np.abs(x).max(1) > 1e7) & np.isfinite(x).all(1),
    )  # fmt: skip
    yield Corner("softmax", ops.softmax, lambda x: torch.softmax(x, 1))
    yield Corner("log_softmax", ops.log_softmax, lambda x: torch.log_softmax(x, 1))
    # In float32, where PyTorch computes in float64.
    for correction in (0, 1):
        yield Corner(
            f"std {correction}", lambda x, c=correction: ops.std(x, 1, correction=c),
            lambda x, c=correction: x.std(1, correction=c), extreme,
        )  # fmt: skip
    for order in (0.5, 1, 1.5, 2, 3, 4, inf):
        yield Corner(
            f"norm {order}", lambda x, o=order: ops.norm(x, o, 1),
            lambda x, o=order: torch.linalg.vector_norm(x, o, 1),
            extreme if order < 1 else has_nan,
        )  # fmt: skip
    for smoothing in (0.0, 0.2):
        yield Corner(
            f"cross_entropy {smoothing}",
            lambda x, s=smoothing: ops.cross_entropy(x, LABELS, s, reduction="none"),
            lambda x, s=smoothing: f.cross_entropy(
                x, labels, label_smoothing=s, reduction="none"
            ),
        )  # fmt: skip
    # An ignored row has zero gradients whatever it holds.
    yield Corner(
        "cross_entropy ignored",
        lambda x: ops.cross_entropy(x, LABELS, 0.0, 0, reduction="none"),
        lambda x: f.cross_entropy(x, labels, ignore_index=0, reduction="none"), finite,
    )  # fmt: skip
    yield Corner(
        "nll_loss", lambda x: ops.nll_loss(x, LABELS),
        lambda x: f.nll_loss(x, labels, reduction="none"),
    )  # fmt: skip
    yield Corner("sort", lambda x: ops.sort(x, 1)[0], lambda x: torch.sort(x, 1)[0])


TABLES: dict[str, tuple[Callable[[Any], Iterator[Corner]], Arrays]] = {
    "numbers": (_unary, [POINTS]),
    "pairs": (_pairs, PAIRS),
    "rows": (_rows, [ROWS]),
}


def _torch_results(torch: Any, corner: Corner, arrays: Arrays) -> Arrays:
    inputs = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays]
    result = corner.torch(*inputs)
    grads = [
        torch.autograd.grad(
            result, inputs, torch.full_like(result, outer), retain_graph=True, allow_unused=True
        )
        for outer in OUTER
    ]
    return [x.detach().numpy() for x in (result, *itertools.chain(*grads)) if x is not None]


def differences(table: str, device: ndl.Device, compiled: bool) -> list[str]:
    """Where the functions of a table are not PyTorch's. All are one function, compiled once."""
    torch = pytest.importorskip("torch")
    corners, arrays = list(TABLES[table][0](torch)), TABLES[table][1]

    def run(*inputs: ndl.Tensor) -> list[list[ndl.Tensor]]:
        results = []
        for corner in corners:
            result = corner.needle(*inputs)
            grads: list[Any] = []
            if result.requires_grad:
                with ndl.no_grad():
                    for outer in OUTER:
                        seed = ndl.ones_like(result) * outer
                        grads += ndl.grad(result, list(inputs), seed)
            results.append([result, *(g for g in grads if g is not None)])
        return results

    inputs = [ndl.Tensor(x, device=device, dtype="float32") for x in arrays]
    found = []
    for corner, ours in zip(corners, (ndl.jit(run) if compiled else run)(*inputs), strict=True):
        theirs = _torch_results(torch, corner, arrays)
        with np.errstate(invalid="ignore"):
            skipped = corner.differs(*arrays)
        # What is piecewise constant has no gradient here, and one of zeros there.
        for i, (x, y) in enumerate(zip(ours, theirs, strict=False)):
            what = f"{corner.name}, {'value' if i == 0 else f'gradient {i}'}"
            found += _different(what, x.numpy(), y, skipped, arrays)
    return found


def _different(
    what: str, ours: np.ndarray, theirs: np.ndarray, skipped: np.ndarray, arrays: Arrays
) -> Iterator[str]:
    # Some dozen roundings, and as much where terms of size 1 cancel.
    same = np.isclose(ours, theirs, rtol=2e-5, atol=1e-6, equal_nan=True)
    for at in np.argwhere(~same):
        if not skipped[at[0]]:
            inputs = [x[at[0]].tolist() for x in arrays]
            yield f"{what} of {inputs}: {ours[tuple(at)]}, PyTorch {theirs[tuple(at)]}"


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("table", TABLES)
def test_as_pytorch(table: str, compiled: bool, device: ndl.Device):
    found = differences(table, device, compiled)
    assert not found, "\n".join(found)


# ---- norms, products, pooling -----------------------------------------------------------------


@pytest.mark.parametrize("order", [0.5, 1, 1.5, 2, 3, inf])
def test_the_gradients_of_a_norm_at_zero_are_zero(order: float, device: ndl.Device):
    for axes, keepdims in itertools.product((None, 0, -1, (0, 1), (2, 0), (0, 1, 2)), (0, 1)):
        x = ndl.Tensor(np.zeros((2, 3, 4)), device=device)
        norm = ops.norm(x, order, axes, bool(keepdims))
        first = ndl.grad(norm.sum(), [x])[0]
        twice = (first * first).sum() + first.sum()
        second = ndl.grad(twice, [x])[0] if twice.requires_grad else None
        np.testing.assert_array_equal(norm.numpy(), np.zeros(norm.shape))
        np.testing.assert_array_equal(first.numpy(), np.zeros(x.shape))
        if second is not None:
            np.testing.assert_array_equal(second.numpy(), np.zeros(x.shape))


@pytest.mark.parametrize("method", ["std", "norm"])
def test_methods_of_tensors_at_zero(method: str, device: ndl.Device):
    x = ndl.Tensor(np.full((3, 4), 2.0 if method == "std" else 0.0), device=device)
    getattr(x, method)(1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((3, 4)))


def test_the_covariance_of_one_observation(device: ndl.Device):
    assert np.isnan(ops.cov(ndl.Tensor([[3.0]], device=device)).item())


@pytest.mark.parametrize("order", [nan, "nuc"])
def test_an_order_that_there_is_not(order: float | str):
    with pytest.raises(ValueError, match=r"\[norm\] ord must be a number or 'fro'"):
        ops.norm(ndl.Tensor([1.0]), ord=order)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_derivatives_of_products_with_zeros(length: int, compiled: bool, device: ndl.Device):
    """The second derivative is the product of all others but two, whatever is 0."""
    random = np.random.RandomState(length)
    rows = random.randn(length + 1, length)
    for zeros in range(length + 1):
        rows[zeros, random.permutation(length)[:zeros]] = 0
    u = random.randn(*rows.shape)

    def run(x: ndl.Tensor, u: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        first = ndl.grad(ops.prod(x, 1).sum(), [x])[0]
        total = (first * u).sum()
        return first, ndl.grad(total, [x])[0] if total.requires_grad else ndl.zeros_like(x)

    there = [
        ndl.Tensor(rows, device=device, dtype="float64"),
        ndl.Tensor(u, device=device, dtype="float64", requires_grad=False),
    ]
    first, second = (ndl.jit(run) if compiled else run)(*there)
    others = np.empty_like(rows)
    sums = np.zeros_like(rows)
    for i in range(length):
        others[:, i] = np.delete(rows, i, 1).prod(1)
        for j in set(range(length)) - {i}:
            sums[:, i] += np.delete(rows, [i, j], 1).prod(1) * u[:, j]
    np.testing.assert_allclose(first.numpy(), others, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(second.numpy(), sums, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [None, 0, (0, 2), (1, 2)])
def test_derivatives_of_products_over_any_axes(axes: Any, device: ndl.Device):
    x = np.random.RandomState(0).randn(2, 3, 4)
    x[0, 1] = 0
    there = ndl.Tensor(x, device=device, dtype="float64")
    (ops.prod(there, axes) * 2).sum().backward()
    wanted = np.empty_like(x)
    for at in np.ndindex(x.shape):
        moved = x.copy()
        moved[at] = 1
        same = [i for i in range(3) if axes is not None and i not in np.atleast_1d(axes)]
        group = tuple(at[i] if i in same else slice(None) for i in range(3))
        wanted[at] = 2 * moved[group].prod()
    np.testing.assert_allclose(there.grad.numpy(), wanted, rtol=1e-12, atol=1e-13)


IMAGES = {
    "NaN": [[nan, 1, 2, nan], [0, 1, nan, 3], [4, 5, 6, 7], [1, 1, 2, 3]],
    "-inf": [[-inf] * 4, [-inf] * 4, [-inf, -inf, 1, 2], [-inf, -inf, 2, 1]],
    "inf": [[inf, 1, 2, -inf], [0, inf, -inf, 3], [4, 5, 6, 7], [1, -1, 2, 3]],
    "ties": [[1, 1, 2, 2], [1, 1, 0, 0], [4, 5, 7, 7], [1, 1, 2, 3]],
}


def _max_pool(x: np.ndarray, kernel: int, stride: int, padding: int) -> tuple[Any, np.ndarray]:
    """The largest pixels, and how the sum's gradient is shared among those equal to them."""
    size = (x.shape[0] + 2 * padding - kernel) // stride + 1
    out, grad = np.empty((size, size)), np.zeros_like(x)
    for i, j in np.ndindex(out.shape):
        rows, columns = (
            slice(max(n * stride - padding, 0), n * stride - padding + kernel) for n in (i, j)
        )
        below = x[rows, columns]
        out[i, j] = below.max()
        hit = np.isnan(below) if np.isnan(out[i, j]) else below == out[i, j]
        grad[rows, columns] += hit / hit.sum()
    return out, grad


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_max_pooling(compiled: bool, device: ndl.Device):
    """NaN wins and gets the gradient, equal pixels share it, and padding gets none."""
    geometries = ((2, 2, 0), (3, 1, 1), (2, 1, 1), (5, 1, 2))

    def run(*images: ndl.Tensor) -> list[ndl.Tensor]:
        results = []
        for x in images:
            for geometry in geometries:
                y = ops.max_pool2d(x, *geometry, layout="NHWC")
                total = y.sum()
                with ndl.no_grad():
                    results += [y, ndl.grad(total, [x])[0]]
        return results

    images = [np.array(x, dtype=float) for x in IMAGES.values()]
    there = [ndl.Tensor(x[None, ..., None], device=device, dtype="float32") for x in images]
    results = iter((ndl.jit(run) if compiled else run)(*there))
    for (name, x), geometry in itertools.product(zip(IMAGES, images, strict=True), geometries):
        for wanted in _max_pool(x, *geometry):
            ours = next(results).numpy()[0, ..., 0]
            np.testing.assert_allclose(ours, wanted, rtol=1e-6, err_msg=f"{name} {geometry}")


# ---- losses, layers, integers of floats -------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_bce_at_infinite_logits(compiled: bool, device: ndl.Device):
    """The limits of -y·log p - (1 - y)·log(1 - p), and of its gradient p - y."""
    x, y = (a.ravel() for a in np.meshgrid([inf, -inf, 0.0], [0.0, 1.0, 0.25]))

    def run(x: ndl.Tensor, y: ndl.Tensor) -> list[ndl.Tensor]:
        loss = nn.BCEWithLogitsLoss(reduction="none")(x, y)
        total = loss.sum()
        with ndl.no_grad():
            return [loss, ndl.grad(total, [x])[0]]

    there = [ndl.Tensor(a, device=device, dtype="float32", requires_grad=r) for a, r in
             ((x, True), (y, False))]  # fmt: skip
    loss, gradient = (ndl.jit(run) if compiled else run)(*there)
    p = np.where(x == 0, 0.5, x > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(w == 0, 0, -w * np.log(q)) for w, q in ((y, p), (1 - y, 1 - p))]
    np.testing.assert_allclose(loss.numpy(), sum(terms), rtol=1e-6)
    np.testing.assert_allclose(gradient.numpy(), p - y, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm1d(3), (1, 3)), (nn.BatchNorm2d(3), (1, 3, 1, 1)), (nn.BatchNorm1d(3), (0, 3))],
    ids=["rows", "images", "nothing"],
)
def test_batch_norm_of_one_value_a_channel(layer: nn.Module, shape: tuple[int, ...]):
    x = ndl.Tensor(np.ones(shape))
    with pytest.raises(ValueError, match=rf"\[{type(layer).__name__}\] training needs at least 2"):
        layer(x)
    assert layer.running_mean.numpy().tolist() == [0, 0, 0]
    assert layer.eval()(x).shape == shape


@pytest.mark.parametrize("op", ["floor_div", "mod"])
def test_floor_division_and_remainder(op: str, device: ndl.Device):
    """As in NumPy, infinities included, and the signs of quotients of zero."""
    function = {"floor_div": lambda a, b: a // b, "mod": lambda a, b: a % b}[op]
    points = np.array([*POINTS[:15], 7, -7, 2.5, -2.5, 0.1, 0.3, 1e20], np.float32)
    a, b = (x.ravel() for x in np.meshgrid(points, points))
    ours = function(*(ndl.NDArray(x, device=device) for x in (a, b))).numpy()
    with np.errstate(all="ignore"):
        wanted = function(a, b)
    different = ~((ours == wanted) | np.isnan(ours) & np.isnan(wanted))
    if op == "floor_div":
        different |= (wanted == 0) & (np.signbit(ours) != np.signbit(wanted))
    assert not different.any(), np.stack((a, b, ours, wanted))[:, different]
