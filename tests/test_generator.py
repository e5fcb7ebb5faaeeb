"""Random numbers that follow from a seed: `needle.Generator`."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

import needle as ndl
from needle import init, nn
from needle.backend_ndarray.philox import philox

pytestmark = pytest.mark.filterwarnings("ignore:.*has no compiler")

# Counter, key, words: kat_vectors of the library Random123, by the authors of the paper.
PUBLISHED = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (
        [0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF),
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_the_published_vectors(counter, key, words):
    columns = np.array([counter, [0] * 4], np.uint64).T
    assert philox(columns, key)[:, 0].tolist() == words


def test_a_uniform_number_is_the_top_bits_of_a_word(device):
    generator = ndl.Generator(0, device)
    single = generator.rand(4).numpy()
    np.testing.assert_array_equal(single, [(w >> 8) / 2**24 for w in PUBLISHED[0][2]])
    low, high = PUBLISHED[0][2][:2]
    double = ndl.Generator(0, device).rand(1, dtype="float64").numpy()
    assert double == [((high << 32 | low) >> 11) / 2**53]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["rand", "randn"])
def test_the_same_numbers_on_every_device(kind, dtype, device):
    ours, reference = (ndl.Generator(2**63 + 5, d) for d in (device, ndl.cpu_numpy()))
    for shape in ((3, 7), (), (0,), (2, 2)):
        a, b = (getattr(g, kind)(*shape, dtype=dtype) for g in (ours, reference))
        assert a.device == device
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        x, y = (np.asarray(v.astype("float64").numpy()) for v in (a, b))
        if kind == "rand":
            np.testing.assert_array_equal(x, y)
        else:
            tolerance = {"float64": 1e-13, "float32": 1e-6}.get(dtype, 2.0**-7)
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert ours.get_state() == reference.get_state()


@pytest.mark.parametrize(("dtype", "a_block"), [("float32", 4), ("float64", 2)])
def test_a_number_follows_from_its_place_in_the_stream(dtype, a_block, device):
    generator = ndl.Generator(7, device)
    whole = generator.rand(100, dtype=dtype).numpy()
    assert generator.get_state() == (7, 100 // a_block)
    for size in (1, 40, 77):
        generator.set_state((7, 0))
        np.testing.assert_array_equal(generator.rand(size, dtype=dtype).numpy(), whole[:size])
    generator.set_state((7, 3))
    rest = generator.rand(10, dtype=dtype).numpy()
    np.testing.assert_array_equal(rest, whole[3 * a_block :][:10])


def test_the_offset_goes_around(device):
    generator = ndl.Generator(1, device)
    generator.set_state((1, 2**64 - 1))
    numbers = generator.rand(8).numpy()
    assert generator.get_state() == (1, 1)
    np.testing.assert_array_equal(numbers[4:], ndl.Generator(1, device).rand(4).numpy())


def test_distributions(device):
    generator = ndl.Generator(3, device)
    n = 20000
    for dtype in ("float32", "float64"):
        uniform, normal = generator.rand(n, dtype=dtype), generator.randn(n, dtype=dtype)
        x, z = uniform.numpy(), normal.numpy()
        assert x.min() >= 0
        assert x.max() < 1
        # Means of n numbers are within five of their deviations.
        for values, mean, deviation in (
            (x, 1 / 2, 1 / 12**0.5), (z, 0, 1), (z**2, 1, 2**0.5), (z**3, 0, 15**0.5),
            (z[0::2] * z[1::2], 0, 2**0.5), (x[:-1] * x[1:], 1 / 4, 0.25),
            (np.abs(z) < 1, 0.6827, 0.4655), (np.abs(z) > 2, 0.0455, 0.2084),
        ):  # fmt: skip
            assert abs(values.mean() - mean) < 5 * deviation / n**0.5


def test_seeds_and_states(device):
    generator = ndl.Generator(5, device)
    first = generator.randn(5).numpy()
    twin, pair = copy.deepcopy(generator), generator.rand(3).numpy()
    np.testing.assert_array_equal(twin.rand(3).numpy(), pair)
    assert generator.manual_seed(5) is generator
    np.testing.assert_array_equal(generator.randn(5).numpy(), first)
    assert not np.array_equal(ndl.Generator(6, device).randn(5).numpy(), first)


def test_errors(device):
    with pytest.raises(TypeError, match=r"\[Generator\] the seed must be an int"):
        ndl.Generator(1.5, device)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=r"\[Generator\] the seed must be in"):
            ndl.Generator(seed, device)
    with pytest.raises(TypeError, match="floating"):
        ndl.Generator(1, device).rand(3, dtype="int32")
    other = ndl.cpu_numpy() if device != ndl.cpu_numpy() else ndl.cpu()
    with pytest.raises(ValueError, match=r"\[rand\] the generator is on"):
        init.rand(3, device=other, generator=ndl.Generator(1, device))


def test_a_compiled_function_draws_and_does_not_seed(device):
    generator = ndl.Generator(1, device)
    for function in (lambda: generator.manual_seed(3), lambda: ndl.Generator(1, device)):
        compiled = ndl.jit(lambda x, function=function: (function(), x * 2)[1])
        with pytest.raises(RuntimeError, match="outside of a compiled function"):
            compiled(ndl.ones(3, device=ndl.cpu()))
    assert generator.get_state() == (1, 0)


# ---- what draws from one ------------------------------------------------------------------------


def test_initializers(device):
    state = np.random.get_state()[1].copy()

    def drawn():
        generator = ndl.Generator(11, device)
        yield init.rand(3, 4, low=-1, high=2, generator=generator)
        yield init.randn(3, 4, mean=2, std=0.5, generator=generator, dtype="float64")
        yield init.randb(3, 4, p=0.3, generator=generator)
        for function in (
            init.xavier_uniform, init.xavier_normal, init.kaiming_uniform, init.kaiming_normal,
        ):  # fmt: skip
            yield function(4, 5, generator=generator)

    generator = ndl.Generator(11, ndl.cpu_numpy())
    uniform, normal = generator.rand(3, 4).numpy(), generator.randn(3, 4, dtype="float64").numpy()
    first, second, third, *scaled = drawn()
    np.testing.assert_allclose(first.numpy(), uniform * 3 - 1, rtol=1e-6)
    np.testing.assert_allclose(second.numpy(), normal * 0.5 + 2, rtol=1e-12)
    np.testing.assert_array_equal(third.numpy(), generator.rand(3, 4).numpy() <= 0.3)
    assert all(x.device == device for x in (first, second, third, *scaled))
    for a, b in zip(scaled, list(drawn())[3:], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # NumPy's is left alone


def test_dropout(device):
    x = ndl.Tensor(np.ones((50, 40), np.float32), device=device)
    layers = [nn.Dropout(0.3, generator=ndl.Generator(9, device)) for _ in range(2)]
    masks = [[layer(x).numpy() for _ in range(2)] for layer in layers]
    np.testing.assert_array_equal(*masks)
    assert not np.array_equal(masks[0][0], masks[0][1])
    assert abs((masks[0][0] > 0).mean() - 0.7) < 0.05
    assert layers[0].eval()(x) is x


def test_a_checkpoint_draws_the_same_numbers_again(device):
    x = ndl.Tensor(np.ones((6, 7), np.float32), device=device)
    generator = ndl.Generator(2, device)
    dropout = nn.Dropout(0.5, generator=generator)
    y = ndl.checkpoint(lambda x: dropout(x) * 3)(x)
    after = generator.get_state()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert generator.get_state() == after


# ---- compiled functions -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["on", "check", "evaluate"])
def test_compiled_functions_draw_what_eager_ones_do(mode, device, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", mode)

    def drawn(compile_it):
        generator = ndl.Generator(4, device)
        dropout = nn.Dropout(0.25, generator=generator)

        def step(x):
            noise = init.randn(*x.shape, generator=generator, dtype="float64")
            return dropout(x) + ndl.checkpoint(dropout)(x) * 2, noise, dropout(x)

        step = ndl.jit(step) if compile_it else step
        x = ndl.Tensor(np.arange(35.0).reshape(5, 7), device=device, dtype="float32")
        values = [v.numpy() for _ in range(3) for v in step(x)]
        generator.manual_seed(8)
        values += [v.numpy() for v in step(x)]
        return values, generator.get_state()

    (compiled, state), (eager, wanted) = drawn(True), drawn(False)
    assert state == wanted
    for a, b in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_gradients_of_a_compiled_checkpoint_use_its_mask(device):
    dropout = nn.Dropout(0.5, generator=ndl.Generator(2, device))

    @ndl.jit
    def step(x):
        y = ndl.checkpoint(lambda x: dropout(x) * 3)(x)
        return y, *ndl.grad(y.sum(), [x])

    x = ndl.Tensor(np.ones((6, 7), np.float32), device=device)
    for _ in range(2):
        y, grad = step(x)
        np.testing.assert_array_equal(y.numpy(), grad.numpy())


def test_a_loop_over_time_draws_at_every_step(device):
    def run(compile_it):
        generator = ndl.Generator(3, device)

        def function(xs):
            def cell(h, x):
                h = h * 0.5 + x * init.rand(4, generator=generator)
                return h, h

            ys = ndl.scan(cell, ndl.zeros(4, device=device), xs)[1]
            return ys, *ndl.grad((ys * ys).sum(), [xs])

        function = ndl.jit(function) if compile_it else function
        xs = ndl.Tensor(np.ones((5, 4), np.float32), device=device)
        return [v.numpy() for _ in range(2) for v in function(xs)]

    for a, b in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_uniform_numbers_of_16_bits_are_below_1(dtype):
    drawn = ndl.Generator(0).rand(1 << 16, dtype=dtype).numpy().astype("float32")
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01


def test_shapes_and_states_are_checked():
    g = ndl.Generator(0)
    assert g.rand((2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="no negative entry"):
        g.rand(-2)
    with pytest.raises(ValueError, match=r"\[Generator\] the seed must be in"):
        g.set_state((-1, 2))
    with pytest.raises(ValueError, match=r"\[Generator\] the offset must be in"):
        g.set_state((1, 2**64))


def test_threads_draw_different_numbers():
    g, drawn = ndl.Generator(0), []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=lambda: drawn.extend(g.rand(4).numpy()[0] for _ in range(200)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(set(drawn)) == len(drawn) == 800


def _orders(generator: ndl.Generator) -> list[Callable[[], Iterable[int]]]:
    data = ndl.utils.data
    samplers = [
        data.RandomSampler(range(20), generator=generator),
        data.RandomSampler(range(20), replacement=True, generator=generator),
        data.SubsetRandomSampler(range(20), generator),
        data.WeightedRandomSampler([1.0] * 20, 15, generator=generator),
    ]
    loader = data.DataLoader(range(20), 20, shuffle=True, generator=generator)
    return [
        *(lambda s=s: [int(i) for i in s] for s in samplers),
        lambda: next(iter(loader)).tolist(),
    ]


def test_orders_follow_their_generator() -> None:
    """A new seed or state after the samplers were made; each pass draws anew."""
    generator = ndl.Generator()
    for order in _orders(generator):
        generator.manual_seed(4)
        first, state = list(order()), generator.get_state()
        second = list(order())
        assert first != second
        generator.set_state(state)
        assert list(order()) == second
        generator.manual_seed(4)
        assert list(order()) == first
