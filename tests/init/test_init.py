"""Initial values: the draws on NumPy's generator, the ranges, and bad arguments."""

import math
from importlib import import_module

import numpy as np
import pytest

import needle as ndl
from needle import init
from needle.backend_ndarray import philox

SHAPE = (5, 7)


def seeded(function, *args, **kwargs):
    """The function's values after seeding, and NumPy's next draw, which tells how many it made."""
    np.random.seed(3)
    values = function(*args, **kwargs).numpy()
    return values, np.random.rand()


def expect_draws(draw):
    np.random.seed(3)
    values = draw()
    return values, np.random.rand()


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (init.rand, SHAPE, {}, lambda: np.random.rand(*SHAPE)),
        (init.rand, SHAPE, {"low": -2, "high": 5}, lambda: np.random.rand(*SHAPE) * 7 - 2),
        (init.rand, (), {}, lambda: np.asarray(np.random.rand())),
        (init.randn, SHAPE, {}, lambda: np.random.randn(*SHAPE)),
        (init.randn, SHAPE, {"mean": 1, "std": 3}, lambda: np.random.randn(*SHAPE) * 3 + 1),
        (init.randb, SHAPE, {"p": 0.3}, lambda: np.random.rand(*SHAPE) <= 0.3),
        (
            init.xavier_uniform,
            SHAPE,
            {"gain": 1.5},
            lambda: (np.random.rand(*SHAPE) * 2 - 1) * 1.5 * math.sqrt(6 / 12),
        ),
        (
            init.xavier_normal,
            SHAPE,
            {"gain": 1.5},
            lambda: np.random.randn(*SHAPE) * 1.5 * math.sqrt(2 / 12),
        ),
        (
            init.kaiming_uniform,
            SHAPE,
            {},
            lambda: (np.random.rand(*SHAPE) * 2 - 1) * math.sqrt(2) * math.sqrt(3 / 5),
        ),
        (
            init.kaiming_uniform,
            (9, 4),
            {"shape": (3, 3, 1, 4)},
            lambda: (np.random.rand(3, 3, 1, 4) * 2 - 1) * math.sqrt(6 / 9),
        ),
        (
            init.kaiming_normal,
            SHAPE,
            {},
            lambda: np.random.randn(*SHAPE) * math.sqrt(2) / math.sqrt(5),
        ),
    ],
)
def test_random_values_are_numpys_draws(device, function, args, kwargs, expected):
    values, following = seeded(function, *args, device=device, **kwargs)
    wanted, wanted_following = expect_draws(expected)
    np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6)
    assert values.shape == wanted.shape
    assert following == wanted_following


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [init.rand, init.randn, init.ones, init.zeros])
def test_dtype_device_and_requires_grad(device, function, dtype):
    x = function(2, 3, device=device, dtype=dtype, requires_grad=True)
    assert (x.dtype, x.device, x.shape, x.requires_grad) == (dtype, device, (2, 3), True)
    assert not function(2, 3).requires_grad
    assert function(2, 3).dtype == "float32"


def test_float64_draws_keep_their_digits(device):
    values, _ = seeded(init.rand, 4, device=device, dtype="float64")
    np.random.seed(3)
    np.testing.assert_array_equal(values, np.random.rand(4))


def test_constants(device):
    np.testing.assert_array_equal(init.constant(2, 2, c=3.5, device=device).numpy(), 3.5)
    np.testing.assert_array_equal(init.ones(2, device=device).numpy(), [1, 1])
    np.testing.assert_array_equal(init.zeros(0, 3, device=device).numpy(), np.zeros((0, 3)))
    assert init.zeros((2, 3)).shape == (2, 3)
    like = ndl.Tensor(np.arange(6).reshape(2, 3), device=device)
    for function, value in ((init.ones_like, 1), (init.zeros_like, 0)):
        made = function(like)
        assert (made.shape, made.dtype, made.device) == (like.shape, like.dtype, device)
        np.testing.assert_array_equal(made.numpy(), value)
        assert not made.requires_grad


def test_no_dtype_means_the_backends_default():
    default = ndl.backend_selection.default_float()
    for x in (
        init.rand(2, dtype=None),
        init.zeros(2, dtype=None),
        init.one_hot(2, [1], dtype=None),
    ):
        assert x.dtype == default
    assert init.randb(2, dtype=None).dtype == "bool"


def test_one_hot(device):
    index = ndl.Tensor(np.array([[0, 2], [1, 1]]), device=device)
    rows = init.one_hot(3, index)
    assert rows.device == device
    np.testing.assert_array_equal(rows.numpy(), np.eye(3)[[[0, 2], [1, 1]]])
    assert init.one_hot(3, index, dtype="int64").dtype == "int64"
    with pytest.raises(ValueError, match="one_hot"):
        init.one_hot(2, index)


def test_randb_extremes():
    assert init.randb(100, p=1.0).numpy().all()
    assert not init.randb(100, p=0.0).numpy().any()
    assert init.randb(3).dtype == "bool"


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, r"\[rand\].*integers", lambda: init.rand(2.5)),
        (ValueError, r"\[zeros?|constant\].*negative", lambda: init.zeros(-1)),
        (TypeError, r"\[rand\] dtype", lambda: init.rand(2, dtype="int32")),
        (ValueError, r"\[randb\] p must be in \[0, 1\], got 1.5", lambda: init.randb(2, p=1.5)),
        (ValueError, "nonlinearity", lambda: init.kaiming_uniform(2, 2, nonlinearity="tanh")),
        (ValueError, "nonlinearity", lambda: init.kaiming_normal(2, 2, nonlinearity="tanh")),
        (ValueError, "fan_in", lambda: init.xavier_uniform(0, 2)),
        (ValueError, "fan_in", lambda: init.kaiming_uniform(0, 2)),
    ],
)
def test_bad_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()


# ---- the ends of the unit interval --------------------------------------------------------------

FLOATS = ("float16", "bfloat16", "float32", "float64")


@pytest.fixture(params=["host", "generator"])
def largest_draws(request, device, monkeypatch):
    """What `generator=` takes, while all that is drawn is the largest number there is."""
    import_module("needle.jit.frontend.guards")  # which looks for NumPy's generator
    if request.param == "host":
        monkeypatch.setattr(np.random, "rand", lambda *shape: np.full(shape, 1 - 2.0**-53))
        return None
    monkeypatch.setattr(
        philox, "philox", lambda counter, key: np.full(counter.shape, 0xFFFFFFFF, np.uint64)
    )
    return ndl.Generator(0, device)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rand_is_below_its_upper_end(dtype, compiled, device, largest_draws):
    ends = [(0.0, 1.0), (1.0, 2.0), (-1.0, 1.0), (-2.0, -1.0), (0.0, 0.1), (-1.0, 0.0), (3.0, 3.0)]

    def draw():
        draws = {"device": device, "dtype": dtype, "generator": largest_draws}
        return [init.rand(7, low=low, high=high, **draws) for low, high in ends]

    results = (ndl.jit(draw) if compiled else draw)()
    for (low, high), drawn in zip(ends, results, strict=True):
        end = ndl.Tensor(np.array(high), device=ndl.cpu_numpy(), dtype=dtype).numpy()
        values = drawn.numpy().astype("float64")
        assert ((values >= low) & (values < end)).all() or low == high == values[0]
        assert (values > low + 0.9 * (high - low)).all() or low == high


@pytest.mark.parametrize("compiled", [False, True])
def test_randb_of_certain_events(compiled, device, largest_draws, monkeypatch):
    def draw():
        draws = {"device": device, "generator": largest_draws}
        return [init.randb(5, p=p, **draws) for p in (0.0, 1.0)]

    run = ndl.jit(draw) if compiled else draw
    never, always = run()
    assert not never.numpy().any()
    assert always.numpy().all()
    if largest_draws is None:  # and of the smallest numbers
        monkeypatch.setattr(np.random, "rand", lambda *shape: np.zeros(shape))
        never, always = run()
        assert not never.numpy().any()
        assert always.numpy().all()
