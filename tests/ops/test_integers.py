"""Integers, bools and NumPy scalars: every dtype and operator against NumPy, by value.

`docs/dtypes.md` says which rule each case follows. References are NumPy's own, or exact Python
integers.
"""

from __future__ import annotations

import itertools
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import data, init, models, nn, ops
from needle.backend_ndarray import NDArray, from_numpy, one_hot, stack
from needle.simple_ml.reference import softmax_loss

INTEGERS = ("uint8", "int32", "int64")
DTYPES = (*INTEGERS, "bool", "float16", "float32", "float64")
# What arrays hold: both ends of the range, and what division and powers treat apart.
CORNERS = {
    "uint8": [0, 1, 2, 3, 7, 128, 254, 255],
    "int32": [0, 1, -1, 2, -3, 7, 2**31 - 1, -(2**31)],
    "int64": [0, 1, -1, 2, -3, 2**53 + 1, 2**63 - 1, -(2**63)],
    "bool": [False, True],
}
COMPARISONS = {
    "eq": (operator.eq, ops.equal), "ne": (operator.ne, ops.not_equal),
    "lt": (operator.lt, ops.less), "le": (operator.le, ops.less_equal),
    "gt": (operator.gt, ops.greater), "ge": (operator.ge, ops.greater_equal),
}  # fmt: skip
BITS = {
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "left_shift": operator.lshift, "right_shift": operator.rshift,
}  # fmt: skip
ARITHMETIC = ("add", "sub", "mul", "floor_div", "mod", "pow", "maximum", "minimum", *BITS)
OPERATORS: dict[str, Any] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "floor_div": operator.floordiv, "mod": operator.mod, "pow": operator.pow, **BITS,
}  # fmt: skip
NUMPY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_div": np.floor_divide,
    "mod": np.mod, "pow": np.power, "maximum": np.maximum, "minimum": np.minimum,
    **{name: getattr(np, name) for name in BITS},
}  # fmt: skip
ARRAY_METHODS: dict[str, Any] = {
    **OPERATORS, "maximum": NDArray.maximum, "minimum": NDArray.minimum,
}  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 255, 256, -5, 300, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, -(2**70),
    True, False,
)  # fmt: skip
REALS = (0.5, -0.5, 2.0, -3.0, 254.5, 2.0**31, 2.0**53, 2.0**63, -(2.0**63), 1e300, -1e300,
         float("inf"), float("-inf"), float("nan"))  # fmt: skip


def array(dtype: str, device: Any) -> tuple[np.ndarray, NDArray]:
    """The corners of an integer dtype, or some floats."""
    host = np.array(CORNERS.get(dtype, [0.0, 1.0, -1.5, 2.25, 3.0]), dtype)
    return host, NDArray(host, device=device, dtype=dtype)


def tensor(x: NDArray) -> ndl.Tensor:
    return ndl.Tensor.make_const(x)


def outcome(run: Any, *args: Any) -> Any:
    """What `run(*args)` gives, or the type of its error."""
    try:
        with np.errstate(all="ignore"):
            return run(*args)
    except (OverflowError, ValueError, TypeError, IndexError) as error:
        return type(error)


def wrapped(values: list[int], dtype: str) -> np.ndarray:
    """Exact integers reduced to a dtype."""
    bits = 8 * np.dtype(dtype).itemsize
    low = 0 if dtype == "uint8" else -(2 ** (bits - 1))
    return np.array([(v - low) % 2**bits + low for v in values], dtype)


# ---- arithmetic -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("op", ARITHMETIC)
def test_two_integer_arrays(op, dtype, device):
    """NumPy's results, also where they overflow or divide by zero; PyTorch's negative powers."""
    corners = CORNERS[dtype]
    a, b = (np.array(x, dtype) for x in zip(*itertools.product(corners, corners), strict=True))
    x, y = (NDArray(v, device=device, dtype=dtype) for v in (a, b))
    with np.errstate(all="ignore"):
        if op == "pow":
            powers = [
                pow(int(p), int(q), 2**64) if q >= 0 else int(Fraction(int(p)) ** (int(q) % 2 - 2))
                if p else 0
                for p, q in zip(a, b, strict=True)
            ]  # fmt: skip
            expected = wrapped(powers, dtype)
        else:
            expected = NUMPY[op](a, b)
    np.testing.assert_array_equal(ARRAY_METHODS[op](x, y).numpy(), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize("op", ARITHMETIC)
def test_an_integer_array_and_a_number(op, dtype, device):
    """NumPy 2's rule: the number has the array's dtype or does not fit, which is an error."""
    host, x = array(dtype, device)
    for number in NUMBERS:
        for flipped in (False, True) if op in OPERATORS else (False,):
            args = (number, host) if flipped else (host, number)
            expected = outcome(NUMPY[op], *args)
            mine = (number, x) if flipped else (x, number)
            result = outcome(ARRAY_METHODS[op], *mine)
            if op == "pow" and flipped and dtype != "uint8" and not isinstance(result, type):
                continue  # PyTorch's negative powers: in the test of two arrays
            if isinstance(expected, type) or isinstance(result, type):
                assert result is expected, (op, dtype, number, flipped, expected, result)
            else:
                message = f"{op} {dtype} {number} flipped={flipped}"
                np.testing.assert_array_equal(result.numpy(), expected, message)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_scalars_count_by_value(dtype, device):
    """On either side, of a Tensor and of an NDArray: as the Python number of the same value."""
    _, x = array(dtype, device)
    scalars = [np.uint8(1), np.int8(-1), np.int64(3), np.float64(0.5), np.float32(2), np.bool_(1)]
    for scalar, (name, op) in itertools.product(scalars, OPERATORS.items()):
        for make in (tensor, lambda x: x):
            t = make(x)
            for swap in (False, True):
                a, b = (
                    ((scalar, t), (scalar.item(), t)) if swap else ((t, scalar), (t, scalar.item()))
                )
                result, expected = outcome(op, *a), outcome(op, *b)
                if isinstance(expected, type):
                    assert result is expected, (name, scalar, swap)
                    continue
                assert (result.dtype, type(result)) == (expected.dtype, type(t))
                np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.parametrize("op", [operator.floordiv, operator.mod, divmod])
def test_rounded_quotients_of_tensors(op, device):
    """They are Tensors, of NumPy's arrays and numbers on either side too; NDArray's numbers."""
    rows = np.array([7, -7, 0, 5])
    x = ndl.Tensor(rows, device=device, dtype="int64")
    for other in (np.array([2, 2, 3, -3]), np.int64(-4), 3, 2.5, ndl.Tensor(rows - 1)):
        other = other.to(device) if isinstance(other, ndl.Tensor) else other
        host = np.asarray(other)
        for a, b, expected in ((x, other, op(rows, host)), (other, x + 9, op(host, rows + 9))):
            results = op(a, b) if op is divmod else [op(a, b)]
            for result, numbers in zip(
                results, expected if op is divmod else [expected], strict=True
            ):
                assert type(result) is ndl.Tensor
                assert result.device == device
                np.testing.assert_array_equal(result.numpy(), numbers)


def test_a_numpy_scalar_is_subtracted_without_wrapping():
    x = ndl.Tensor([0.0, 2.0], requires_grad=False)
    assert (x - np.uint8(1)).tolist() == [-1, 1]
    assert (np.uint8(1) - x).tolist() == [1, -1]
    u = ndl.Tensor(np.array([3, 4], np.uint8))
    assert (u - 1).tolist() == [2, 3]
    assert (u - 1).dtype == "uint8"


def test_numpy_scalars_as_arguments_do_not_wrap():
    drawn = init.rand(100, low=np.uint8(5), high=np.uint8(3)).numpy()
    assert drawn.min() >= 3
    assert drawn.max() <= 5
    x = ndl.Tensor(np.arange(1000.0))
    assert ops.var(x, correction=np.uint8(1)).item() == ops.var(x).item()


def test_bools_have_no_difference_but_what_the_error_advises(device):
    x, y = (ndl.Tensor(rows, device=device, dtype="bool") for rows in ([0, 1, 1], [1, 1, 0]))
    for refused in (lambda: x - y, lambda: -x):
        with pytest.raises(TypeError, match=r"a != b .* a == False"):
            refused()
    assert (x != y).tolist() == [True, False, True]
    assert ops.equal(x, False).tolist() == [True, False, False]


@pytest.mark.parametrize("number", [1j, np.complex64(1 + 2j), np.timedelta64(3), "1"])
def test_other_scalars_are_refused(number):
    x = ndl.Tensor([1.0, 2.0])
    for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow):
        for args in ((x, number), (number, x), (x.realize_cached_data(), number)):
            with pytest.raises(TypeError):
                op(*args)
    with pytest.raises(TypeError):
        x.realize_cached_data()[0] = number
    with pytest.raises(TypeError):
        ndl.cpu().full((2,), number)


# ---- comparisons, bounds, stores ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_with_numbers_are_by_value(op, dtype, device):
    host, x = array(dtype, device)
    compare, function = COMPARISONS[op]
    for number in (*NUMBERS, *REALS):
        expected = [compare(v, number) for v in host.tolist()]  # Python compares exactly
        assert x.compare(op, number).tolist() == expected, number
        assert function(tensor(x), number).tolist() == expected, number


@pytest.mark.parametrize("dtype", INTEGERS)
def test_clip_by_value(dtype, device):
    host, x = array(dtype, device)
    info = np.iinfo(dtype)
    bounds = [None, -(2**70), -5, 0, 3, 255, 300, 2**31, 2**70]
    for low, high in itertools.product(bounds, bounds):
        if low is not None and high is not None and low > high:
            continue
        expected = [v if low is None else max(v, low) for v in host.tolist()]
        expected = [v if high is None else min(v, high) for v in expected]
        beyond = (low is not None and low > info.max) or (high is not None and high < info.min)
        if beyond:
            with pytest.raises(OverflowError, match=str(low if low and low > info.max else high)):
                x.clip(low, high)
        else:
            assert ops.clip(tensor(x), low, high).tolist() == expected
            assert x.clip(low, high).dtype == dtype


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_storing_numbers(dtype, device):
    """`full`, `fill`, `where`, `pad` and assignments: NumPy's values and errors."""
    for number in (*NUMBERS, *REALS, np.uint16(300), np.float32(2.5)):
        # Fractions are cut; NaN, infinities and what does not fit are errors, as of int(number).
        plain = number.item() if isinstance(number, np.generic) else number
        whole = bool if dtype == "bool" else int
        expected = outcome(lambda n=plain, whole=whole: np.full(2, whole(n), dtype))

        def fill(number=number):
            out = device.empty((2,), dtype)
            out.fill(number)
            return out

        def store(key, number=number):
            out = device.zeros((2,), dtype)
            out[key] = number
            return out

        stores = {
            "full": lambda n=number: device.full((2,), n, dtype),
            "fill": fill,
            "slice": lambda: store(slice(None)),
            "fancy": lambda: store([0, 1]),
            "mask": lambda: store(np.array([True, True])),
        }
        for name, run in stores.items():
            result = outcome(run)
            if isinstance(expected, type):
                assert result is expected, (name, number, result)
            else:
                assert not isinstance(result, type), (name, number, result)
                np.testing.assert_array_equal(result.numpy(), expected, f"{name} {number}")


SOURCES = (
    np.int8, np.int16, np.uint16, np.uint32, np.uint64, np.float16, np.float64, np.longdouble,
    ">i2", ">i8", ">f4", ">f8", ">u4", "bool",
)  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: np.dtype(s).str)
def test_arrays_of_every_width_and_byte_order(source, device):
    """What Tensor() takes is taken by NDArray, operators, assignments and as labels too."""
    values = np.array([1, 0, 1], source)
    plain = values.astype(np.float64)
    for made in (
        ndl.Tensor(values, device=device), NDArray(values, device=device),
        NDArray(values, device=device, dtype="int32"), from_numpy(values, device)
        if np.dtype(source).newbyteorder("=") in ndl.backend_ndarray.DTYPES else None,
    ):  # fmt: skip
        if made is not None:
            np.testing.assert_array_equal(made.numpy(), plain)
    for dtype in DTYPES:
        for key in (slice(None), [0, 1, 2], np.array([True, True, True])):
            out = device.zeros((3,), dtype)
            out[key] = values
            np.testing.assert_array_equal(out.numpy(), plain)
        x = NDArray([1, 1, 1], device=device, dtype="float32")
        np.testing.assert_array_equal((x + values).numpy(), plain + 1)
        np.testing.assert_array_equal((values + x).numpy(), plain + 1)
        t = tensor(x)
        np.testing.assert_array_equal((t * values).numpy(), plain)
    if values.dtype.kind in "iu":
        x = NDArray([5, 6], device=device)
        assert x[values].tolist() == [6, 5, 6]
        assert ops.one_hot(values, 2).tolist() == [[0, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    "values",
    [
        np.array([1 + 2j]), np.array(["a"]), np.array([object()]), np.array(["2020"], "M8[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]), np.array([3], "m8[s]"),
    ],
    ids=lambda v: str(v.dtype),
)  # fmt: skip
def test_data_that_is_not_numbers_is_refused(values):
    x = ndl.Tensor([1.0])
    nd = x.realize_cached_data()
    calls = (
        lambda: ndl.Tensor(values), lambda: NDArray(values), lambda: nd + values,
        lambda: x + values, lambda: nd.__setitem__(slice(None), values),
        lambda: nd.__setitem__([0], values), lambda: from_numpy(values),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(TypeError, match=r"dtype|data"):
            call()
    with pytest.raises(IndexError):
        nd[values]


def test_integers_that_no_dtype_holds_name_the_value():
    for call in (
        lambda: ndl.Tensor(np.array([2**63], np.uint64)),
        lambda: NDArray(np.array([2**63], np.uint64), dtype="int64"),
        lambda: ndl.cpu().zeros((1,), "int64").__setitem__(0, 2**63),
        lambda: ndl.cpu().zeros((1,), "int64").__setitem__([0], [2**63]),
        lambda: NDArray([2**63], dtype="int64"),
        lambda: ndl.Tensor([2**63], dtype="int64"),
    ):
        with pytest.raises(OverflowError, match=str(2**63)):
            call()
    for dtype, value in (("uint8", 256), ("uint8", -1), ("int32", 2**31), ("int64", 2**70)):
        for make in (ndl.Tensor, NDArray):
            with pytest.raises(OverflowError, match=str(value)):
                make([value], dtype=dtype)
    assert ndl.Tensor([2**63, 2**70]).tolist() == [2.0**63, 2.0**70]
    assert NDArray(np.array([2**63], np.uint64)).tolist() == [2.0**63]
    assert ndl.Tensor(np.array([300]), dtype="uint8").tolist() == [44]  # as astype


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_floats_become_integers_through_int64(source, target, device):
    """Defined for every float, and the same on every device: cut, and the smallest int64."""
    values = [0.0, -0.0, 0.9, -0.9, 2.5, -2.5, 300.0, -1.0, 60000.0]
    values += [] if source == "float16" else [2.0**31, -(2.0**31) - 256, 9.21e18, -(2.0**63), 1e30]
    host = np.array([*values, np.inf, -np.inf, np.nan], source)
    exact = [int(v) if np.isfinite(v) and -(2.0**63) <= v < 2.0**63 else -(2**63)
             for v in host.astype(float)]  # fmt: skip
    expected = wrapped(exact, target)
    x = ndl.Tensor(host, device=device, dtype=source)
    np.testing.assert_array_equal(x.astype(target).numpy(), expected)
    np.testing.assert_array_equal(NDArray(host, device=device, dtype=target).numpy(), expected)
    out = device.zeros((len(host),), target)
    out[...] = x.realize_cached_data()
    np.testing.assert_array_equal(out.numpy(), expected)
    if device == ndl.cpu():
        compiled = ndl.jit(lambda t: t.astype(target))
        np.testing.assert_array_equal(compiled(x).numpy(), expected)


# ---- floats of integers ---------------------------------------------------------------------

FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "exp": (ops.exp, np.exp),
    "log": (ops.log, np.log),
    "sqrt": (ops.sqrt, np.sqrt),
    "sin": (ops.sin, np.sin),
    "tanh": (ops.tanh, np.tanh),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "divide": (lambda x: x / 3, lambda x: x / 3),
    "softplus": (ops.softplus, lambda x: np.logaddexp(x, 0)),
    "elu": (ops.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "silu": (ops.silu, lambda x: x / (1 + np.exp(-x))),
    "gelu tanh": (
        lambda x: ops.gelu(x, "tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "leaky_relu": (ops.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "softmax": (
        lambda x: ops.softmax(x, 0),
        lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
    ),
    "log_softmax": (
        lambda x: ops.log_softmax(x, 0),
        lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
    ),
    "logsumexp": (ops.logsumexp, lambda x: x.max() + np.log(np.exp(x - x.max()).sum())),
    "mean": (ops.mean, np.mean),
    "array mean": (lambda x: tensor(x.realize_cached_data().mean()), np.mean),
    "var": (ops.var, lambda x: np.var(x, ddof=1)),
    "std": (ops.std, lambda x: np.std(x, ddof=1)),
    "norm": (ops.norm, np.linalg.norm),
    "norm 1": (lambda x: ops.norm(x, ord=1), lambda x: np.abs(x).sum()),
    "norm 3": (lambda x: ops.norm(x, ord=3), lambda x: (np.abs(x) ** 3).sum() ** (1 / 3)),
    "norm inf": (lambda x: ops.norm(x, ord=float("inf")), lambda x: np.abs(x).max()),
    "avg_pool2d": (
        lambda x: ops.avg_pool2d(x.reshape((1, 2, 2, 1)), 2, layout="NHWC"),
        lambda x: np.full((1, 1, 1, 1), x.mean()),
    ),
    "L1Loss": (lambda x: nn.L1Loss()(x, ops.flip(x)), lambda x: np.abs(x - x[::-1]).mean()),
    "MSELoss": (lambda x: nn.MSELoss()(x, ops.flip(x)), lambda x: ((x - x[::-1]) ** 2).mean()),
    "BCEWithLogits": (
        lambda x: nn.BCEWithLogitsLoss()(x, ops.flip(x)),
        lambda x: (np.logaddexp(x, 0) - x * x[::-1]).mean(),
    ),
    "KLDivLoss": (
        lambda x: nn.KLDivLoss(log_target=True)(x, ops.flip(x)),
        lambda x: (np.exp(x[::-1]) * (x[::-1] - x)).mean(),
    ),
    "cross_entropy": (
        lambda x: ops.cross_entropy(x.reshape((2, 2)), np.array([0, 1])),
        lambda x: np.mean([np.logaddexp(x[0], x[1]) - x[0], np.logaddexp(x[2], x[3]) - x[3]]),
    ),
    "nll_loss": (
        lambda x: ops.nll_loss(x.reshape((2, 2)), np.array([0, 1])).mean(),
        lambda x: -(x[0] + x[3]) / 2,
    ),
}
SMALL = {"uint8": [5, 1, 250, 17], "int32": [-3, 4, 0, 9], "int64": [-3, 4, 0, 9],
         "bool": [True, False, True, True]}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", SMALL)
def test_functions_to_floats_convert_first(name, dtype, device):
    function, reference = FUNCTIONS[name]
    host = np.array(SMALL[dtype], dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(reference(host.astype(float))).astype(np.float32)
    result = function(ndl.Tensor(host, device=device))
    assert result.dtype == "float32"
    # Float32 has 2⁻²⁴; a few roundings of an exponential of 250 at most.
    np.testing.assert_allclose(result.numpy(), expected, rtol=2e-6, atol=1e-6, equal_nan=True)


def test_means_are_rounded_once(device):
    """As NumPy's float64 ones, rounded to float32: not sums in float32 times a rounded 1/n."""
    for dtype, values in (
        ("uint8", [255] * 1000), ("int32", [2**31 - 1, -(2**31), 5]), ("bool", [True] * 3),
        ("int64", [2**62] * 4), ("int64", [2**40, 3, -(2**40)]), ("uint8", [1, 2, 255] * 7),
    ):  # fmt: skip
        x = ndl.Tensor(np.array(values, dtype), device=device)
        expected = float(np.float32(np.mean(np.array(values, dtype))))
        assert ops.mean(x).item() == expected
        assert x.realize_cached_data().mean().item() == expected
        if device == ndl.cpu():
            assert ndl.jit(ops.mean)(x).item() == expected


def test_recurrences_and_the_first_loss_of_integers(device):
    def ones(*shape: int) -> ndl.Tensor:
        return ndl.Tensor(np.ones(shape, np.uint8), device=device)

    for rnn, columns in ((ops.rnn, 2), (ops.gru, 6)):
        ints = (ones(3, 1, 2), ones(1, 2), ones(2, columns), ones(2, columns))
        floats = (x.astype("float32") for x in ints)
        np.testing.assert_allclose(rnn(*ints)[0].numpy(), rnn(*floats)[0].numpy(), rtol=1e-6)
    logits = np.array([[250, 1], [3, 4]], np.uint8)
    expected = softmax_loss(logits.astype(np.float64), np.array([1, 0]))
    np.testing.assert_allclose(softmax_loss(logits, np.array([1, 0])), expected)


@pytest.mark.parametrize("name", ["mean", "array mean", "var", "std", "norm", "L1Loss"])
def test_differences_of_large_integers_are_exact(name, device):
    """int32 and int64 are computed in float64: their last digits are not lost before they count."""
    function, reference = FUNCTIONS[name]
    for dtype, base in (("int32", 2**30), ("int64", 2**50)):
        host = np.array([base + 1, -base + 7, base - 4, -base], dtype)
        if name == "var":
            host = np.array([base + 1, base + 7, base - 4, base], dtype)
        result = function(ndl.Tensor(host, device=device))
        expected = np.float32(reference(host.astype(float)))
        np.testing.assert_allclose(result.numpy(), expected, rtol=2.0**-22)


def test_integers_stay_exact(device):
    big = np.array([2**53 + 1, -(2**53) - 3, 2**62 + 7, -7], np.int64)
    x = ndl.Tensor(big, device=device)
    nd = x.realize_cached_data()
    for function in (ops.floor, ops.ceil, ops.round):
        assert function(x).tolist() == big.tolist()
        assert function(x).dtype == "int64"
        rounded = function(ndl.Tensor(np.array([True, False]), device=device))
        assert rounded.tolist() == [True, False]
    assert (nd // 3).tolist() == (big // 3).tolist()
    assert (nd % 1000).tolist() == (big % 1000).tolist()
    assert nd.sum().item() == big.sum()
    assert NDArray([2**63 - 1, 1], device=device, dtype="int64").sum().item() == -(2**63)


# ---- indices, shapes, counts ----------------------------------------------------------------


def test_masks_have_the_shape_of_what_they_select(device):
    x = NDArray(np.arange(12.0).reshape(3, 4), device=device)
    for key in (
        np.array([True, False]), np.ones(4, bool), np.ones((3, 3), bool), [True, False],
        (slice(None), np.ones(3, bool)), (0, np.ones(5, bool)),
    ):  # fmt: skip
        for mask in (
            (key, NDArray(key, device=device, dtype="bool"))
            if not isinstance(key, tuple)
            else (key,)
        ):
            with pytest.raises(IndexError):
                x[mask]
            with pytest.raises(IndexError):
                x[mask] = 1.0


def test_an_empty_list_selects_nothing(device):
    host = np.arange(12.0).reshape(3, 4)
    x = NDArray(host, device=device)
    for key in ([], (slice(None), []), ([], []), (1, []), [[]]):
        assert x[key].shape == host[key].shape
        x[key] = 5.0
    np.testing.assert_array_equal(x.numpy(), host)
    with pytest.raises(IndexError):
        x[np.array([], np.float64)]


def test_unsigned_indices_beyond_int64_are_out_of_range(device):
    x = NDArray([1.0, 2.0], device=device)
    with pytest.raises(IndexError):
        x[np.array([2**64 - 1], np.uint64)]


X = ndl.Tensor(np.ones((2, 6), np.float32))
A = X.realize_cached_data()
IMAGE = ndl.Tensor(np.ones((1, 4, 4, 2), np.float32))
KERNEL = ndl.Tensor(np.ones((2, 2, 2, 2), np.float32))
# Calls with one integer argument each: right for 1 (or 2) of any integer type, TypeError for 1.0.
COUNTS: dict[str, Any] = {
    **{
        f"{f.__name__} axis": (lambda n, f=f: f(X, axis=n))
        for f in (
            ops.summation,
            ops.mean,
            ops.var,
            ops.std,
            ops.prod,
            ops.amax,
            ops.amin,
            ops.logsumexp,
            ops.norm,
            ops.argmax,
            ops.argmin,
            ops.cumsum,
            ops.argsort,
            ops.sort,
            ops.softmax,
            ops.log_softmax,
            ops.flip,
            ops.unsqueeze,
            ops.split,
        )
    },
    **{
        f"array {f.__name__}": (lambda n, f=f: f(A, n))
        for f in (
            NDArray.sum,
            NDArray.prod,
            NDArray.max,
            NDArray.min,
            NDArray.any,
            NDArray.all,
            NDArray.mean,
            NDArray.argmax,
            NDArray.argmin,
            NDArray.cumsum,
            NDArray.argsort,
            NDArray.flip,
            NDArray.unsqueeze,
        )
    },
    "squeeze": lambda n: ops.squeeze(X.reshape((2, 1, 6)), n),
    "array squeeze": lambda n: A.reshape((2, 1, 6)).squeeze(n),
    "array swapaxes": lambda n: A.swapaxes(0, n),
    "array permute": lambda n: A.permute((n, 0)),
    "array split": lambda n: A.split(n),
    "array split axis": lambda n: A.split(2, n),
    "array split cuts": lambda n: A.split([n]),
    "array tile": lambda n: A.tile((n, 1)),
    "array pad": lambda n: A.pad(((n, 0), (0, 0))),
    "array reshape": lambda n: A.reshape(n, 12),
    "array reshape tuple": lambda n: A.reshape((n, 12)),
    "array reshape -1": lambda n: A.reshape(n, -1),
    "array broadcast_to": lambda n: A.broadcast_to((n, 2, 6)),
    "array make": lambda n: NDArray.make((n,)),
    "array as_strided": lambda n: A.as_strided((n,), (1,)),
    "array as_strided strides": lambda n: A.as_strided((1,), (n,)),
    "reshape": lambda n: ops.reshape(X, (n, 12)),
    "method reshape": lambda n: X.reshape(n, 12),
    "broadcast_to": lambda n: ops.broadcast_to(X, (n, 2, 6)),
    "tile": lambda n: ops.tile(X, (n, 1)),
    "permute": lambda n: ops.permute(X, (n, 0)),
    "transpose": lambda n: ops.transpose(X, (n, 0)),
    "pad": lambda n: ops.pad(X, ((n, 0), (0, 0))),
    "chunk": lambda n: ops.chunk(X, n),
    "chunk axis": lambda n: ops.chunk(X, 2, n),
    "stack": lambda n: ops.stack([X, X], n),
    "concatenate": lambda n: ops.concatenate([X, X], n),
    "dilate": lambda n: ops.dilate(X, (0,), n),
    "dilate axes": lambda n: ops.dilate(X, (n,), 1),
    "undilate": lambda n: ops.undilate(X, (0,), n),
    "topk": lambda n: ops.topk(X, n),
    "topk axis": lambda n: ops.topk(X, 1, n),
    "take axis": lambda n: ops.take(X, [0], n),
    "gather": lambda n: ops.gather(X, n, np.zeros((2, 1), int)),
    "one_hot": lambda n: ops.one_hot([0], n),
    "init one_hot": lambda n: init.one_hot(n, [0]),
    "device one_hot": lambda n: ndl.cpu().one_hot(n, [0]),
    "ignore_index": lambda n: ops.cross_entropy(X, [0, 2], ignore_index=n),
    "windows": lambda n: ops.windows(IMAGE, n),
    "windows axes": lambda n: ops.windows(IMAGE, 1, axes=(n, 2)),
    "max_pool2d": lambda n: ops.max_pool2d(IMAGE, n, layout="NHWC"),
    "pool stride": lambda n: ops.avg_pool2d(IMAGE, 2, n, layout="NHWC"),
    "pool padding": lambda n: ops.max_pool2d(IMAGE, 2, padding=n, layout="NHWC"),
    "conv stride": lambda n: ops.conv(IMAGE, KERNEL, n),
    "conv padding": lambda n: ops.conv(IMAGE, KERNEL, 1, n),
    "conv padding pair": lambda n: ops.conv(IMAGE, KERNEL, 1, (n, 1)),
    "conv dilation": lambda n: ops.conv(IMAGE, KERNEL, dilation=n),
    "conv groups": lambda n: ops.conv(IMAGE, KERNEL, groups=n),
    **{
        f"device {name}": (lambda n, name=name: getattr(ndl.cpu(), name)((n,)))
        for name in ("empty", "zeros", "ones")
    },
    **{
        f"device {name} int": (lambda n, name=name: getattr(ndl.cpu(), name)(n))
        for name in ("empty", "zeros", "ones")
    },
    "device full": lambda n: ndl.cpu().full((n, 2), 0.5),
    **{
        f.__name__: (lambda n, f=f: f(n, 2))
        for f in (
            init.rand,
            init.randn,
            init.randb,
            init.ones,
            init.zeros,
            init.constant,
            init.xavier_uniform,
            init.xavier_normal,
            init.kaiming_uniform,
            init.kaiming_normal,
        )
    },
    "Linear in": lambda n: nn.Linear(n, 2),
    "Linear out": lambda n: nn.Linear(2, n),
    "Embedding": lambda n: nn.Embedding(n, 2),
    "Embedding dim": lambda n: nn.Embedding(2, n),
    "Conv2d": lambda n: nn.Conv2d(n, 2, 1),
    "Conv2d kernel": lambda n: nn.Conv2d(1, 1, n),
    "Conv2d stride": lambda n: nn.Conv2d(1, 1, 1, n),
    "Conv2d padding": lambda n: nn.Conv2d(1, 1, 1, 1, n),
    "Conv2d dilation": lambda n: nn.Conv2d(1, 1, 1, dilation=n),
    "Conv2d groups": lambda n: nn.Conv2d(2, 2, 1, groups=n),
    "Conv": lambda n: nn.Conv(1, 1, n),
    "Conv1d": lambda n: nn.Conv1d(1, 1, n),
    "ConvTranspose2d": lambda n: nn.ConvTranspose2d(1, 1, n),
    "output_padding": lambda n: nn.ConvTranspose2d(1, 1, 1, 2, output_padding=n),
    "MaxPool2d": lambda n: nn.MaxPool2d(n),
    "AvgPool2d": lambda n: nn.AvgPool2d(2, n),
    "AdaptiveAvgPool2d": lambda n: nn.AdaptiveAvgPool2d(n),
    "BatchNorm1d": lambda n: nn.BatchNorm1d(n),
    "LayerNorm": lambda n: nn.LayerNorm((n,)),
    "GroupNorm": lambda n: nn.GroupNorm(n, 2),
    "Softmax": lambda n: nn.Softmax(n),
    "LogSoftmax": lambda n: nn.LogSoftmax(n),
    "AttentionLayer": lambda n: nn.AttentionLayer(2, n, 2),
    "AttentionLayer dim": lambda n: nn.AttentionLayer(2, 1, n),
    "CrossAttention": lambda n: nn.CrossAttention(2, n),
    "TransformerEncoderLayer": lambda n: nn.TransformerEncoderLayer(2, n, 4),
    "split_heads": lambda n: ops.split_heads(X.reshape((1, 2, 6)), n),
    "self_attention": lambda n: ops.self_attention(X.reshape((1, 2, 6)), n),
    "scatter_add": lambda n: ops.scatter_add(X, n, np.zeros((2, 1), int), X[:, :1]),
    "array one_hot": lambda n: one_hot(NDArray([0], dtype="uint8"), n),
    "array stack": lambda n: stack([A, A], n),
    "MLPResNet": lambda n: models.MLPResNet(2, 2, n),
    "MLPResNet classes": lambda n: models.MLPResNet(2, 2, 1, n),
    "ResNet9": lambda n: models.ResNet9(num_classes=n),
    "GPT": lambda n: models.GPT(4, n, 2, 1, 1),
    "LanguageModel": lambda n: models.LanguageModel(2, 2, 2, n),
    "LanguageModel seq_len": lambda n: models.LanguageModel(2, 2, 2, seq_len=n),
    "generate": lambda n: models.generate(models.GPT(4, 4, 2, 1, 1), np.array([1]), n),
    "RNN": lambda n: nn.RNN(n, 2),
    "LSTM": lambda n: nn.LSTM(2, n),
    "GRU": lambda n: nn.GRU(2, 2, n),
    "SelfAttention": lambda n: nn.SelfAttention(2, n),
    "Transformer": lambda n: nn.Transformer(2, 2, n),
    "NLLLoss": lambda n: nn.NLLLoss(ignore_index=n),
    "CrossEntropyLoss": lambda n: nn.CrossEntropyLoss(ignore_index=n),
    "Generator": lambda n: ndl.Generator(n),
    "batch_size": lambda n: data.DataLoader(data.NDArrayDataset(np.ones(4)), n),
    "num_workers": lambda n: data.DataLoader(data.NDArrayDataset(np.ones(4)), num_workers=n),
    "num_samples": lambda n: data.WeightedRandomSampler([1.0, 1.0], n),
    "Subset": lambda n: data.Subset(data.NDArrayDataset(np.ones(4)), [n]),
    "RandomCrop": lambda n: data.RandomCrop(n),
    "batchify": lambda n: data.batchify(np.arange(4), n),
    "get_batch": lambda n: data.get_batch(np.ones((4, 2)), n, 2),
    "bptt": lambda n: data.get_batch(np.ones((4, 2)), 0, n),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_integers_of_any_type(name):
    call = COUNTS[name]
    for one in (
        1,
        np.int64(1),
        np.uint8(1),
        ndl.Tensor(np.array(1, np.int32)),
        NDArray(1, dtype="int64"),
    ):
        call(one)
    for wrong in (1.0, 1.5, np.float32(1), ndl.Tensor(1.0), np.array([1, 1.5])):
        with pytest.raises(TypeError):
            call(wrong)


def test_the_example_of_a_float_in_a_shape():
    x = ndl.Tensor(np.zeros(24, np.float32))
    with pytest.raises(TypeError, match=r"2\.9"):
        x.reshape(2.9, 12)
    with pytest.raises(TypeError, match=r"0\.7"):
        ops.one_hot(np.array([0.7]), 3)


# ---- compiled -------------------------------------------------------------------------------


def _program(x: ndl.Tensor) -> tuple[ndl.Tensor, ...]:
    nd = x.realize_cached_data()
    return (
        x < 300, x >= -1, x == 2.5, x > float("-inf"), ops.clip(x, -5, 300), x - 1, 3 * x,
        tensor(nd // 2), tensor(nd % 3), tensor(nd // 0), tensor(nd % 0), x**2,
        ops.floor(x), ops.where(x > 1, x, 7), ops.mean(x), ops.std(x), ops.softplus(x),
        nn.L1Loss()(x, ops.flip(x)), x.astype("float32") * np.float64(0.5),
        x - np.uint8(1),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS)
def test_compiled_code_computes_the_same(dtype):
    x = ndl.Tensor(np.array(CORNERS[dtype], dtype))
    for eager, compiled in zip(_program(x), ndl.jit(_program)(x), strict=True):
        assert eager.dtype == compiled.dtype
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-6)


def test_a_compiled_number_out_of_range_is_an_error_there_too():
    x = ndl.Tensor(np.array([1, 2], np.uint8))
    for function in (lambda x: x + 300, lambda x: ops.maximum(x, -1), lambda x: ops.clip(x, 300)):
        with pytest.raises(OverflowError):
            ndl.jit(function)(x)
    with pytest.raises(ValueError, match="negative integer power"):
        ndl.jit(lambda x: x**-1)(ndl.Tensor(np.array([1, 2], np.int32)))
