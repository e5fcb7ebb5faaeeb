"""float16 and bfloat16: bit-exact conversions, arithmetic in float32 that is rounded once."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle.backend_ndarray import DTYPES, NDArray, as_dtype, concatenate, is_float, promote, where

STORED = ["float16", "bfloat16"]
BITS = np.arange(2**16).astype(np.uint16)
# Half the smallest subnormals, the largest numbers and half a step beyond, zeros, specials.
CORNERS = np.array(
    [2**-25, 2**-24 * 1.5, 2**-25 * 1.001, 2**-134, 65504, 65519.996, 65520, 3.3895314e38, 3.4e38,
     0.0, -0.0, np.inf, -np.inf, np.nan],
    "float32",
)  # fmt: skip


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """PyTorch's conversion of float32 values, as float32."""
    torch = pytest.importorskip("torch")
    return torch.tensor(values).to(getattr(torch, dtype)).float().numpy()


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def same_bits(a: np.ndarray, b: np.ndarray) -> None:
    a, b = (np.asarray(x, dtype="float32") for x in (a, b))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])


# ---- conversions ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", STORED)
def test_every_pattern_is_its_value(dtype, device):
    torch = pytest.importorskip("torch")
    values = torch.tensor(BITS.view(np.int16)).view(getattr(torch, dtype)).float().numpy()
    stored = NDArray(values, device=device, dtype=dtype)
    same_bits(stored.astype("float32").numpy(), values)
    same_bits(stored.numpy(), values)
    finite = values[np.isfinite(values)].astype("float64")
    halves = (finite[:-1] + finite[1:]) / 2  # ties, exact in float32
    ties = halves[np.abs(halves) < 3.39e38].astype("float32")
    same_bits(NDArray(ties, device=device, dtype=dtype).numpy(), rounded(ties, dtype))


@pytest.mark.parametrize("dtype", STORED)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_float32_is_rounded_as_in_torch(dtype, seed, device):
    bits = np.random.RandomState(seed).randint(0, 2**32, 999, dtype=np.uint64)
    values = np.concatenate([bits.astype(np.uint32).view(np.float32), CORNERS, -CORNERS])
    same_bits(NDArray(values, device=device, dtype=dtype).numpy(), rounded(values, dtype))


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("other", [d for d in DTYPES if d.name not in STORED], ids=str)
def test_other_dtypes_go_through_float32(dtype, other, device):
    x = NDArray(numbers((40,)) * 90, device=device, dtype="uint8" if other == "bool" else other)
    x = x.astype(other)
    stored = x.astype(dtype)
    same_bits(stored.numpy(), x.astype("float32").astype(dtype).numpy())
    np.testing.assert_array_equal(
        stored.astype(other).numpy(), stored.astype("float32").astype(other).numpy()
    )


@pytest.mark.parametrize("dtype", STORED)
def test_strided_and_transposed_copies(dtype, device):
    values = rounded(numbers((40, 30)), dtype)
    x = NDArray(values, device=device, dtype=dtype)
    same_bits(x[::3, ::-2].numpy(), values[::3, ::-2])
    same_bits(x.T.compact().numpy(), values.T)
    assert x.T.astype("float32").strides == (1, 30)  # the memory order stays
    same_bits(x[5:, 1].broadcast_to((2, 35)).copy().numpy(), np.tile(values[5:, 1], (2, 1)))


# ---- the dtypes -------------------------------------------------------------------------------


def test_bfloat16_stands_where_a_numpy_dtype_does():
    bfloat16 = as_dtype("bfloat16")
    assert bfloat16 == "bfloat16"
    assert bfloat16 != "float32"
    assert bfloat16 != np.dtype("float16")
    assert np.dtype("uint16") != bfloat16
    assert (bfloat16.name, bfloat16.kind, bfloat16.itemsize) == ("bfloat16", "f", 2)
    assert str(bfloat16) == "bfloat16"
    assert pickle.loads(pickle.dumps(bfloat16)) is bfloat16
    assert len({bfloat16, as_dtype(bfloat16)}) == 1
    assert all(map(is_float, map(as_dtype, STORED)))
    with pytest.raises(TypeError, match="bfloat8"):
        as_dtype("bfloat8")


def test_promotion_as_in_torch():
    torch = pytest.importorskip("torch")
    for a in DTYPES:
        for b in (as_dtype(name) for name in STORED):
            expected = torch.promote_types(getattr(torch, a.name), getattr(torch, b.name))
            assert str(expected) == f"torch.{promote(a, b)}"
            assert promote(a, b) is promote(b, a)


@pytest.mark.parametrize("dtype", STORED)
def test_arrays_of_the_host(dtype, device):
    x = NDArray([1.0, 2.5, -3.0], device=device, dtype=dtype)
    assert x.numpy().dtype == ("float16" if dtype == "float16" else "float32")
    assert (x.nbytes, x.tolist(), x[1].item()) == (6, [1.0, 2.5, -3.0], 2.5)
    assert "2.5" in repr(x)
    with pytest.raises(TypeError, match="cannot be an index"):
        x[0].__index__()
    assert np.from_dlpack(x).tolist() == [1.0, 2.5, -3.0]
    again = pickle.loads(pickle.dumps(x))
    assert again.dtype is x.dtype
    same_bits(again.numpy(), x.numpy())
    for other in (ndl.cpu(), ndl.cpu_numpy()):
        there = x.to(other)
        assert there.dtype is x.dtype
        same_bits(there.numpy(), x.numpy())


def test_numpy_float16_keeps_its_memory(device):
    x = np.ones(3, "float16")
    shared = ndl.array_api.from_numpy(x, device)
    shared[1] = 5
    assert shared.dtype == "float16"
    assert x.tolist() == [1, 5, 1]


# ---- arithmetic -------------------------------------------------------------------------------

UNARY = ["exp", "log", "tanh", "sigmoid", "sqrt", "relu", "isnan", "isfinite", "__neg__", "__abs__"]
BINARY = ["__add__", "__sub__", "__mul__", "__truediv__", "__pow__", "maximum", "__mod__", "__lt__"]


@pytest.mark.parametrize("dtype", STORED)
def test_results_are_float32_results_rounded_once(dtype, device):
    a = NDArray(numbers((7, 5), 1), device=device, dtype=dtype)
    b = NDArray(numbers((5,), 2), device=device, dtype=dtype)
    wide_a, wide_b = a.astype("float32"), b.astype("float32")

    def check(result: NDArray, wide: NDArray) -> None:
        assert result.dtype == (dtype if is_float(wide.dtype) else wide.dtype)
        same_bits(result.numpy(), wide.astype(result.dtype).numpy())

    for name in UNARY:
        check(getattr(a, name)(), getattr(wide_a, name)())
    for name in BINARY:
        check(getattr(a, name)(b), getattr(wide_a, name)(wide_b))
        check(getattr(a, name)(0.3), getattr(wide_a, name)(0.3))
    for name in ("sum", "prod", "max", "min", "mean"):
        for axis in (None, 0, (0, 1)):
            check(getattr(a, name)(axis), getattr(wide_a, name)(axis))
    check(a.cumsum(0), wide_a.cumsum(0))
    check(a.argmax(1), wide_a.argmax(1))
    check(a.argsort(0), wide_a.argsort(0))
    check(a @ b, wide_a @ wide_b)
    check(a.matmul(a.T, a[:, 0]), wide_a.matmul(wide_a.T, wide_a[:, 0]))
    check(1 / a, 1 / wide_a)
    check(a.compare("gt", b), wide_a.compare("gt", wide_b))
    check(where(a.compare("gt", 0), a, b), where(wide_a.compare("gt", 0), wide_a, wide_b))
    check(concatenate([a, a[1:3]]), concatenate([wide_a, wide_a[1:3]]))


def test_the_two_meet_in_float32(device):
    a = NDArray(numbers((4,), 1), device=device, dtype="float16")
    b = NDArray(numbers((4,), 2), device=device, dtype="bfloat16")
    assert (a + b).dtype == "float32"
    assert (a + b.astype("float64")).dtype == "float64"
    assert (b + NDArray([1, 2, 3, 4], device=device, dtype="int64")).dtype == "bfloat16"
    assert (b * 2).dtype == (b * 2.5).dtype == (b**2).dtype == "bfloat16"


@pytest.mark.parametrize("dtype", STORED)
def test_sums_are_accumulated_in_float32(dtype, device):
    ones = device.ones((5000,), dtype)
    assert ones.sum().item() == float(rounded(np.float32([5000]), dtype)[0])
    assert (ones * 100).mean().item() == 100  # the sum is above the largest float16
    column = ones.reshape((5000, 1))
    assert (column.T @ column).item() == ones.sum().item()


@pytest.mark.parametrize("dtype", STORED)
def test_indexing_and_assignment(dtype, device):
    values = rounded(numbers((6, 4)), dtype)
    x = NDArray(values, device=device, dtype=dtype)
    rows = NDArray([4, 0, 4], device=device, dtype="int64")
    same_bits(x[rows].numpy(), values[[4, 0, 4]])
    same_bits(x[np.array([1, 2]), np.array([3, 0])].numpy(), values[[1, 2], [3, 0]])
    x[1:3, 2] = 1.5
    x[0] = NDArray([1, 2, 3, 4], device=device, dtype="int64")
    x[np.array([5, 3])] = np.float32(7)
    values[1:3, 2], values[0], values[[5, 3]] = 1.5, [1, 2, 3, 4], 7
    same_bits(x.numpy(), values)
    total = ndl.scatter_add(
        ndl.Tensor(device.zeros((1, 1), dtype)), 0, np.zeros((300, 1), "int64"),
        ndl.Tensor(device.ones((300, 1), dtype)),
    )  # fmt: skip
    assert total.item() == 300  # 256 + 1 is 256 in bfloat16
