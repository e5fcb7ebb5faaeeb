"""Random shapes, strides, slices and dtypes: NDArray does what NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import assert_product

import needle as ndl
from needle import backend_ndarray as nd

SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple)
DTYPES = st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool"])
SEEDS = st.integers(0, 2**20)


def draw_values(shape, dtype, seed):
    return np.asarray(np.random.RandomState(seed).randn(*shape) * 4).astype(dtype)


@st.composite
def views(draw, dtypes=DTYPES, shapes=SHAPES):
    """(a function that makes the NDArray view, the NumPy view): the same chain of view steps."""
    x = draw_values(draw(shapes), draw(dtypes), draw(SEEDS))
    base, steps = x.copy(), []
    for _ in range(draw(st.integers(0, 3))):
        x, step = draw_step(draw, x)
        steps.append(step)

    def make(device):
        a = nd.array(base, base.dtype, device)
        for step in steps:
            a = step(a)
        return a

    return make, x


def draw_step(draw, x):
    kind = draw(st.sampled_from(["permute", "slice", "flip", "newaxis", "broadcast"]))
    if kind == "permute":
        order = tuple(draw(st.permutations(range(x.ndim))))
        return x.transpose(order), lambda a: a.permute(order)
    if kind == "slice":
        key = tuple(draw(st.slices(n)) for n in x.shape)
        return x[key], lambda a: a[key]
    if kind == "flip":
        return np.flip(x), lambda a: a.flip()
    if kind == "newaxis" and x.ndim < 5:
        at = draw(st.integers(0, x.ndim))
        return np.expand_dims(x, at), lambda a: a.unsqueeze(at)
    if kind == "broadcast" and x.ndim < 5 and x.size < 2000:
        shape = (2, *x.shape)
        return np.broadcast_to(x, shape), lambda a: a.broadcast_to(shape)
    return x, lambda a: a


@given(views())
def test_chains_of_views(device, pair):
    make, x = pair
    a = make(device)
    assert a.shape == x.shape
    np.testing.assert_array_equal(a.numpy(), x)
    np.testing.assert_array_equal(a.compact().numpy(), x)
    np.testing.assert_array_equal(a.flatten().numpy(), x.reshape(-1))


@given(views(), st.sampled_from(["+", "-", "*", "maximum", "eq", "lt", "ge"]))
def test_binary_of_views_with_broadcasting(device, pair, op):
    make, x = pair
    a = make(device)
    other, y = (a[..., :1].flip(), np.flip(x[..., :1])) if x.ndim else (a, x)
    if x.dtype == bool and op == "-":
        return
    if op in ("eq", "lt", "ge"):
        functions = {"eq": np.equal, "lt": np.less, "ge": np.greater_equal}
        result, expected = a.compare(op, other), functions[op](x, y)
    elif op == "maximum":
        result, expected = a.maximum(other), np.maximum(x, y)
    else:
        functions = {"+": np.add, "-": np.subtract, "*": np.multiply}
        results = {"+": a.__add__, "-": a.__sub__, "*": a.__mul__}
        result, expected = results[op](other), functions[op](x, y)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


@given(views(), st.data())
def test_reductions_over_any_axes(device, pair, data):
    make, x = pair
    a = make(device)
    axes = data.draw(st.one_of(st.none(), st.sets(st.integers(0, max(x.ndim - 1, 0)))))
    axes = None if axes is None or x.ndim == 0 else tuple(sorted(axes))
    keepdims = data.draw(st.booleans())
    wide = x.astype("float64") if x.dtype.kind == "f" else x.astype("int64")
    scale = max(1.0, float(np.abs(wide).sum()))
    eps = 1e-6 if x.dtype == np.float32 else 1e-14
    total = a.sum(axes, keepdims)
    expected = np.asarray(wide.sum(axes, keepdims=keepdims))
    assert total.shape == expected.shape
    np.testing.assert_allclose(total.numpy(), expected, rtol=eps, atol=eps * scale)
    mean_size = x.size // max(expected.size, 1)
    if mean_size:
        np.testing.assert_allclose(
            a.mean(axes, keepdims).numpy(), expected / mean_size, rtol=1e-5, atol=1e-6 * scale
        )
        for name in ("max", "min"):
            np.testing.assert_array_equal(
                getattr(a, name)(axes, keepdims).numpy(),
                getattr(x, name)(axes, keepdims=keepdims),
            )
    np.testing.assert_array_equal(a.any(axes, keepdims), x.any(axes, keepdims=keepdims))
    np.testing.assert_array_equal(a.all(axes, keepdims), x.all(axes, keepdims=keepdims))


@given(views(), st.data())
def test_along_one_axis(device, pair, data):
    make, x = pair
    if x.ndim == 0:
        return
    a, axis = make(device), data.draw(st.integers(-x.ndim, x.ndim - 1))
    summed = x.astype("int64") if x.dtype.kind != "f" else x
    np.testing.assert_allclose(a.cumsum(axis), summed.cumsum(axis), rtol=1e-4, atol=1e-4)
    order = a.argsort(axis)
    assert order.dtype == "int64"
    np.testing.assert_array_equal(order, np.argsort(x, axis, kind="stable"))
    if x.shape[axis]:
        np.testing.assert_array_equal(a.argmax(axis), x.argmax(axis))
        np.testing.assert_array_equal(a.argmin(axis, keepdims=True), x.argmin(axis, keepdims=True))


@given(views(), st.data())
def test_setitem_writes_what_numpy_writes(device, pair, data):
    make, x = pair
    if 0 in x.strides and x.size:  # a broadcast view: NumPy refuses to write through it
        return
    a, x = make(device), x.copy()
    key = tuple(data.draw(st.slices(n)) for n in x.shape)
    a[key] = 3
    x[key] = 3
    np.testing.assert_array_equal(a.numpy(), x)
    new = np.full_like(x[key], 1)
    a[key] = nd.array(new, new.dtype, device)
    x[key] = new
    np.testing.assert_array_equal(a.numpy(), x)


@given(views(shapes=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)), st.data())
def test_take_with_integer_arrays(device, pair, data):
    make, x = pair
    if not x.size:
        return
    a, n = make(device), x.shape[0]
    index = data.draw(st.lists(st.integers(-n, n - 1), min_size=0, max_size=6))
    np.testing.assert_array_equal(a[np.array(index, dtype=int)], x[np.array(index, dtype=int)])
    if x.ndim > 1:
        m = x.shape[1]
        rows = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=4))
        columns = data.draw(
            st.lists(st.integers(-m, m - 1), min_size=len(rows), max_size=len(rows))
        )
        np.testing.assert_array_equal(a[rows, columns], x[rows, columns])
        np.testing.assert_array_equal(a[:, columns], x[:, columns])


SIZES = st.one_of(st.integers(0, 40), st.sampled_from([64, 100, 129]))
LAYOUTS = st.sampled_from(["plain", "transposed", "reversed", "gaps", "broadcast"])


def laid_out(x, layout, device, dtype):
    """The matrix `x` in memory as `layout` says; the values stay."""
    if layout == "transposed":
        return nd.array(x.T.copy(), dtype, device).T
    if layout == "reversed":
        return nd.array(x[::-1, ::-1].copy(), dtype, device)[::-1, ::-1]
    if layout == "gaps":
        wide = np.zeros((2 * x.shape[0], 3 * x.shape[1]))
        wide[::2, ::3] = x
        return nd.array(wide, dtype, device)[::2, ::3]
    return nd.array(x, dtype, device)


@given(
    SIZES,
    SIZES,
    SIZES,
    LAYOUTS,
    LAYOUTS,
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
    SEEDS,
)
def test_matmul_of_any_size_and_layout(device, m, k, n, left, right, with_bias, dtype, seed):
    rng = np.random.RandomState(seed)
    x, y = rng.randn(m, k).astype(dtype), rng.randn(k, n).astype(dtype)
    a, b = laid_out(x, left, device, dtype), laid_out(y, right, device, dtype)
    if left == "broadcast":
        x = np.broadcast_to(x[:1], (m, k)) if m else x
        a = a[:1].broadcast_to((m, k)) if m else a
    bias = rng.randn(n).astype(dtype)
    result = a.matmul(b, nd.array(bias, dtype, device) if with_bias else None)
    assert_product(result.numpy(), x, y, dtype, bias if with_bias else 0.0)


@given(st.lists(st.integers(1, 3), max_size=2), st.integers(0, 6), st.integers(0, 6), DTYPES, SEEDS)
def test_batched_matmul_broadcasts(device, batch, m, k, dtype, seed):
    x = draw_values((*batch, m, k), dtype, seed)
    y = draw_values((2, *[1] * len(batch), k, 3), dtype, seed + 1)
    result = nd.array(x, dtype, device) @ nd.array(y, dtype, device)
    if dtype.startswith("float"):
        assert_product(result.numpy(), x, y, dtype)
    else:
        np.testing.assert_array_equal(result.numpy(), x @ y)


@given(SHAPES, SHAPES)
def test_broadcasting_fails_where_numpys_does(device, left, right):
    a, b = device.zeros(left), device.zeros(right)
    try:
        expected = np.broadcast_shapes(left, right)
    except ValueError:
        with pytest.raises(ValueError, match=r"\[add\]"):
            a + b
    else:
        assert (a + b).shape == expected


def test_devices_agree_bit_by_bit_on_order_free_work():
    """Nothing here rounds, so the reference and the C++ device must be equal."""
    if not ndl.cpu().enabled():
        pytest.skip("needs two devices")
    x = np.random.RandomState(0).randint(-50, 50, (37, 41)).astype("float32")
    results = []
    for device in (ndl.cpu(), ndl.cpu_numpy()):
        a = nd.array(x, device=device)
        results.append([a.sum(0), a @ a.T, a.max(1), a.T.compact(), a * 2 - 1, a.cumsum(0)])
    for fast, reference in zip(*results, strict=True):
        np.testing.assert_array_equal(fast.numpy(), reference.numpy())
