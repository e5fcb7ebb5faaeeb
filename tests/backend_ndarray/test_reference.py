"""The NumPy definitions of the fused kernels against the native kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_fuzzer import Fuzzer

import needle as ndl
from needle.backend_ndarray import NDArray, cpu_numpy, reference
from needle.backend_ndarray.primitives import PRIMITIVES
from needle.ops._convolution import make_geometry

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="needs the native kernels")

# A sum of n terms is rounded by at most n·eps times the sum of their magnitudes. No kernel here
# adds up more than this many.
TERMS = 256

Draw = Callable[..., np.ndarray]


@pytest.fixture(params=["float32", "float64"])
def draw(request: pytest.FixtureRequest) -> Draw:
    """draw(*shape): standard normal numbers of the dtype under test."""
    random = np.random.RandomState(3)
    return lambda *shape: np.asarray(random.randn(*shape), dtype=request.param)


def blank(like: np.ndarray, *shape: int) -> np.ndarray:
    """Room for a result, of `like`'s dtype; what is not written shows."""
    return np.full(shape, np.nan, like.dtype)


def strided(x: np.ndarray) -> np.ndarray:
    """A copy of `x` with its axes in reverse order in memory and gaps between all elements."""
    room = np.empty([2 * n for n in x.shape[::-1]], x.dtype)
    view = room[(slice(None, None, 2),) * x.ndim].T
    view[...] = x
    return view


def each(operand: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """The function of an array, or of every array of a list; what is neither stays."""
    if isinstance(operand, list):
        return [function(x) for x in operand]
    return function(operand) if isinstance(operand, np.ndarray) else operand


def check(name: str, *operands: Any, layout: Callable[[np.ndarray], Any] = strided) -> list[Any]:
    """Run the reference and the native kernel on copies, compare, return the reference's operands.

    `operands` stand in the kernel's order, results as arrays to overwrite.
    """
    primitive, kernel = PRIMITIVES[name], ndl.cpu().fused(name)
    assert primitive.reference is not None
    assert kernel is not None
    assert len(operands) == len(primitive.operands)
    expected = [each(x, layout) for x in operands]
    native = [each(x, lambda a: NDArray(a, device=ndl.cpu(), dtype=str(a.dtype))) for x in operands]
    primitive.reference(*expected)
    kernel(*native)
    for i, role in enumerate(primitive.operands):
        if role == "a" or operands[i] is None:
            continue
        as_list = operands[i] if role.isupper() else operands[i : i + 1]
        wanted, got = ((x[i] if isinstance(x[i], list) else [x[i]]) for x in (expected, native))
        for before, x, y in zip(as_list, wanted, got, strict=True):
            if role in "i?I":
                np.testing.assert_array_equal(x, before, err_msg=f"{name} wrote {i}")
            else:
                _compare(x, y.numpy(), f"{name}, operand {i}")
    return expected


def _compare(expected: np.ndarray, got: np.ndarray, message: str) -> None:
    tolerance = TERMS * np.finfo(expected.dtype).eps
    size = np.max(np.abs(expected[np.isfinite(expected)]), initial=1)
    np.testing.assert_allclose(
        expected, got, rtol=tolerance, atol=tolerance * size, err_msg=message, equal_nan=False
    )


def test_every_kernel_that_is_no_primitive_has_a_reference() -> None:
    for name, primitive in PRIMITIVES.items():
        assert primitive.is_required == hasattr(cpu_numpy(), name), name
        assert primitive.is_required == (primitive.reference is None), name


@pytest.mark.parametrize(
    ("image", "kernel", "filters", "stride", "padding", "dilation", "groups"),
    [
        ((2, 5, 6, 3), (3, 3), 4, 1, 1, 1, 1),
        ((2, 8, 7, 2), (3, 2), 3, (2, 3), 0, 1, 1),  # pixels that no window reaches
        ((1, 7, 9, 4), (3, 3), 6, (1, 2), (2, 1), (2, 3), 2),
        ((2, 4, 5, 3), (2, 2), 3, 2, ((0, 1), (2, 0)), 1, 3),
        ((3, 4, 4, 5), (1, 1), 2, 1, 0, 1, 1),
        ((1, 3, 3, 1), (1, 1), 1, 2, 1, 1, 1),  # as many pixels as before, but others
        ((4, 1, 1, 6), (3, 3), 5, 1, 1, 1, 1),  # only the centre of the kernel sees the image
        ((2, 2, 3, 4), (3, 5), 3, 2, (1, 2), 1, 1),
        ((0, 4, 4, 2), (3, 3), 2, 1, 1, 1, 1),
    ],
)
def test_conv2d(
    draw: Draw,
    image: tuple[int, ...],
    kernel: tuple[int, int],
    filters: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> None:
    geometry = make_geometry("conv", stride, padding, dilation, groups)
    size = geometry.out_size(image[1:3], kernel)
    x, w = draw(*image), draw(*kernel, image[3] // groups, filters)
    g = draw(image[0], *size, filters)
    check("conv2d", x, w, blank(x, *g.shape), *geometry.native())
    check("conv2d_input_grad", g, w, blank(x, *image), *geometry.native())
    check("conv2d_weight_grad", x, g, blank(x, *w.shape), *geometry.native())


RECURRENT_SHAPES = pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (9, 2, 17)])


@RECURRENT_SHAPES
def test_lstm(draw: Draw, shape: tuple[int, int, int]) -> None:
    steps, batch, hidden = shape
    gates, w = draw(steps, batch, 4 * hidden), draw(hidden, 4 * hidden) / hidden
    h, c = blank(w, steps + 1, batch, hidden), blank(w, steps + 1, batch, hidden)
    h[0], c[0] = draw(batch, hidden), draw(batch, hidden)
    gates, w, h, c = check("lstm", gates, w, h, c)
    check("lstm_grad", gates, w, h, c, draw(*shape), draw(batch, hidden), draw(batch, hidden))


@RECURRENT_SHAPES
@pytest.mark.parametrize("relu", [False, True])
def test_rnn(draw: Draw, shape: tuple[int, int, int], relu: bool) -> None:
    steps, batch, hidden = shape
    gates, w, h = draw(*shape), draw(hidden, hidden) / hidden, draw(steps + 1, batch, hidden)
    gates, w, h, _ = check("rnn", gates, w, h, relu)
    check("rnn_grad", gates, w, h, draw(*shape), draw(batch, hidden), relu)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", ["not", "by numbers", "by -inf"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1, 1), (2, 3, 5, 7, 4, 6), (1, 2, 9, 4, 3, 3), (1, 1, 70, 70, 8, 5)]
)
def test_attention(draw: Draw, shape: tuple[int, ...], masked: str, causal: bool) -> None:
    b, heads, rows, columns, d, e = shape
    q, k, v = draw(b, heads, rows, d), draw(b, heads, columns, d), draw(b, heads, columns, e)
    mask = None if masked == "not" else draw(b, heads, rows, columns)
    if mask is not None and masked == "by -inf":
        mask[mask > 0.5] = -np.inf
        mask[:, :, rows // 2] = -np.inf  # sees nothing
        mask[:, :, -1, 1:] = -np.inf
    out, lse, scale = blank(q, b, heads, rows, e), blank(q, b, heads, rows, 2), d**-0.5
    *_, out, lse, _, _ = check("attention", q, k, v, mask, out, lse, scale, causal)
    if masked == "by -inf":
        np.testing.assert_array_equal(out[:, :, rows // 2], 0)
    grads = [blank(x, *x.shape) for x in (q, k, v)]
    check("attention_grad", draw(*out.shape), q, k, v, mask, out, lse, *grads, scale, causal)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(1, 1), (4, 10), (3, 100), (0, 5)])
def test_softmax(draw: Draw, name: str, shape: tuple[int, int]) -> None:
    x = draw(*shape) * 100
    x[1:2, ::3] = -np.inf
    check(name, x, blank(x, *shape))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignore_index", [-100, 0, 2])
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (8, 5), (5, 100)])
def test_cross_entropy(
    draw: Draw, n: int, classes: int, ignore_index: int, smoothing: float
) -> None:
    x, labels = draw(n, classes) * 10, np.arange(n) * 3 % classes
    labels[1::4] = ignore_index
    options = ignore_index, smoothing
    *_, lse, _, _ = check("cross_entropy", x, labels, blank(x, n), blank(x, n, 2), *options)
    check("cross_entropy_grad", x, labels, draw(n), lse, blank(x, n, classes), *options)


def test_cross_entropy_of_a_hidden_class(draw: Draw) -> None:
    x, labels = draw(2, 4), np.array([1, 3])
    x[:, 2] = -np.inf
    check("cross_entropy", x, labels, blank(x, 2), blank(x, 2, 2), -100, 0.0)


@pytest.mark.parametrize("label", [-1, 4])
def test_cross_entropy_names_a_wrong_label(draw: Draw, label: int) -> None:
    x, labels = draw(2, 4), np.array([1, label])
    with pytest.raises(IndexError, match=f"label {label} is out of range for 4 classes"):
        reference.cross_entropy(x, labels, blank(x, 2), blank(x, 2, 2), -100, 0.0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (40, 3), (2, 100)])
def test_normalization(draw: Draw, axis: int, shape: tuple[int, int]) -> None:
    name, saved_options = [("batch_norm", [1e-3]), ("layer_norm", [])][axis]
    x, weight, bias = draw(*shape), draw(shape[1]), draw(shape[1])
    statistics = [blank(x, shape[1 - axis]) for _ in range(2)]
    *_, centre, spread = check(name, x, weight, bias, 1e-3, blank(x, *shape), *statistics)
    results = blank(x, *shape), blank(x, shape[1]), blank(x, shape[1])
    saved = centre, spread, *saved_options
    check(name + "_grad", draw(*shape), x, weight, *saved, *results)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(draw: Draw, momentum: float, nesterov: bool) -> None:
    params, grads, momenta, outs = ([draw(3, 4), draw(7)] for _ in range(4))
    moments = momenta if momentum else []
    check("sgd", params, grads, moments, outs, 0.1, momentum, 0.01, 0.5, nesterov, layout=np.copy)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("step", [1, 100])
def test_adam(draw: Draw, decoupled: bool, step: int) -> None:
    params, grads, ms, outs = ([draw(3, 4), draw(7)] for _ in range(4))
    vs = [np.square(x) for x in ms]
    options = 0.1, 0.9, 0.99, 1e-8, 0.01, step, decoupled
    check("adam", params, grads, ms, vs, outs, *options, layout=np.copy)


def test_every_native_kernel_is_fuzzed() -> None:
    fuzzer = Fuzzer(0)
    native = {name for name in PRIMITIVES if ndl.cpu().fused(name) is not None}
    assert native <= {*fuzzer.primitives(), *fuzzer.fused()}
