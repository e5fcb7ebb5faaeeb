"""Settings and questions under PyTorch's names: what they do, and what they refuse."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest

import needle as ndl
from needle import amp, data, nn, optim

NO_GPU = not ndl.cuda().enabled()


def test_settings_that_needle_cannot_follow_are_errors() -> None:
    ndl.set_default_dtype(ndl.get_default_dtype())
    with pytest.raises(ValueError, match=r"dtype='float16'.*model\.to\('float16'\)"):
        ndl.set_default_dtype("float16")
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium', got 'low'"):
        ndl.set_float32_matmul_precision("low")
    with pytest.raises(ValueError, match=r"x\.to\('cuda:1'\)"):
        ndl.cuda.set_device(1)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"cpu.* is no GPU"):
        ndl.cuda.memory_allocated("cpu")  # type: ignore[attr-defined]


def test_settings_that_change_nothing_are_accepted() -> None:
    for word in ("medium", "highest"):
        ndl.set_float32_matmul_precision(word)
        assert ndl.get_float32_matmul_precision() == word
    ndl.use_deterministic_algorithms(True, warn_only=True)
    assert ndl.are_deterministic_algorithms_enabled()
    cudnn = importlib.import_module("needle.backends.cudnn")
    assert ndl.backends.cudnn is cudnn
    before = cudnn.benchmark
    cudnn.benchmark = True
    cudnn.benchmark = before
    ndl.backends.cuda.matmul.allow_tf32 = False
    assert not ndl.backends.mps.is_available()


def test_the_default_device() -> None:
    before = ndl.get_default_device()
    try:
        ndl.set_default_device("cpu_numpy")
        assert ndl.ones(1).device == ndl.get_default_device() == ndl.cpu_numpy()
    finally:
        ndl.set_default_device(before)


def test_print_options() -> None:
    before = np.get_printoptions()
    try:
        ndl.set_printoptions(precision=2, sci_mode=False)
        assert str(ndl.tensor([1 / 3])) == "[0.33]"
        ndl.set_printoptions(profile="full")
        assert "..." not in str(ndl.zeros(2000))
        ndl.set_printoptions(threshold=float("inf"), linewidth=20)
        assert "\n" in str(ndl.zeros(20))
        with pytest.raises(ValueError, match="profile"):
            ndl.set_printoptions(profile="long")
    finally:
        np.set_printoptions(**before)


def test_memory_formats_are_accepted() -> None:
    x, model = ndl.ones(1, 2, 3, 3), nn.Conv2d(2, 2, 3)
    for layout in (ndl.channels_last, ndl.contiguous_format, ndl.preserve_format):
        assert x.to(memory_format=layout) is x
        assert x.contiguous(memory_format=layout).shape == x.clone(memory_format=layout).shape
        assert model.to(memory_format=layout) is model
    assert x.to("float64", memory_format=ndl.channels_last).dtype == "float64"


def test_what_a_gpu_answers() -> None:
    assert importlib.import_module("needle.cuda") is ndl.cuda
    answers = ndl.cuda
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated"):
        assert (getattr(answers, name)() == 0) or not NO_GPU
    assert answers.current_device() == 0  # type: ignore[attr-defined]
    assert answers.is_available() is not NO_GPU  # type: ignore[attr-defined]
    answers.empty_cache()  # type: ignore[attr-defined]


# ---- random numbers ----------------------------------------------------------------------------


def test_generators_as_in_pytorch() -> None:
    for made in (ndl.Generator(), ndl.Generator("cpu"), ndl.Generator(device="cpu")):
        assert made.initial_seed() == 0
        assert made.manual_seed(5) is made
        assert made.initial_seed() == 5
    assert made.device == ndl.cpu()


def draws(generator: object) -> list[list[int]]:
    dataset = data.TensorDataset(ndl.arange(10))
    parts = data.random_split(dataset, [6, 4], generator=generator)  # type: ignore[arg-type]
    loader = data.DataLoader(dataset, 5, shuffle=True, generator=generator)  # type: ignore[arg-type]
    epochs = [[int(i) for (batch,) in loader for i in batch.numpy()] for _ in range(2)]
    return [list(parts[0].indices), *epochs]


def test_generators_order_data() -> None:
    """The same seed, the same order; every epoch and every use another one."""
    first, again = (draws(ndl.Generator().manual_seed(3)) for _ in range(2))
    assert first == again
    assert first != draws(ndl.Generator().manual_seed(4))
    assert first[1] != first[2]
    assert sorted(first[1]) == list(range(10))
    with pytest.raises(TypeError, match=r"one of needle or of numpy\.random"):
        draws("seed")


def test_manual_seed_and_states() -> None:
    ndl.random.manual_seed(3)
    state = ndl.get_rng_state()
    first = ndl.rand(4).tolist()
    ndl.set_rng_state(state)
    assert ndl.rand(4).tolist() == first
    ndl.manual_seed(3)
    assert ndl.rand(4).tolist() == first


# ---- mixed precision ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "dtype"),
    [
        (("cpu",), {}, "bfloat16"), (("cpu", "float16"), {}, "float16"),
        ((), {"device_type": "cpu", "dtype": ndl.bfloat16, "cache_enabled": False}, "bfloat16"),
        (("cpu", ndl.float32), {}, None), (("cpu",), {"enabled": False}, None),
        ((ndl.cpu(), "bfloat16", False), {}, None), (("float16", False), {}, None),
        ((ndl.float16,), {}, "float16"), ((), {}, "bfloat16"),
    ],
)  # fmt: skip
def test_autocast_as_in_pytorch(args: tuple[object, ...], options: dict, dtype: str | None) -> None:
    x = ndl.ones(2, 2)
    assert ndl.autocast is amp.autocast
    with ndl.autocast(*args, **options):  # type: ignore[arg-type]
        assert (x @ x).dtype == (dtype or "float32")
        assert ndl.is_autocast_enabled() is (dtype is not None)


def test_a_gpu_that_is_not_there() -> None:
    older = importlib.import_module("needle.cuda.amp")
    make = (
        lambda: ndl.autocast("cuda"), lambda: older.autocast(), lambda: amp.GradScaler("cuda"),
        lambda: older.GradScaler(init_scale=4.0),
    )  # fmt: skip
    for each in make:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert each().enabled is not NO_GPU
        assert len(caught) == NO_GPU
    for each in (
        lambda: ndl.autocast("cuda", enabled=False),
        lambda: amp.GradScaler("cuda", enabled=False),
        lambda: older.autocast(False),
    ):
        assert not each().enabled  # and no warning, which would be an error here


def test_a_step_as_pytorch_programs_write_it() -> None:
    p = nn.Parameter([[1.0, 2.0]])
    optimizer = optim.SGD([p], lr=0.5)
    scaler = amp.GradScaler("cpu", init_scale=8.0)
    with ndl.autocast(device_type="cpu", dtype=ndl.float16):
        loss = (p @ ndl.ones(2, 1)).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_([p], 10.0)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(p.numpy(), [[0.5, 1.5]])


def test_mistakes_of_mixed_precision() -> None:
    with pytest.raises(ValueError, match="neither 'cuda' nor 'cpu'"):
        ndl.autocast("mps", ndl.float16)
    with pytest.raises(TypeError, match="init_scale="):
        amp.GradScaler(1024.0)  # type: ignore[arg-type]


# ---- what is recorded ----------------------------------------------------------------------------


def test_set_grad_enabled() -> None:
    x = ndl.ones(1, requires_grad=True)
    for training in (True, False):
        with ndl.set_grad_enabled(training):
            assert (x * 2).requires_grad is training
        assert ndl.is_grad_enabled()
    with ndl.no_grad(), ndl.set_grad_enabled(True):
        assert (x * 2).requires_grad
    before = ndl.set_grad_enabled(False)
    try:
        assert not (x * 2).requires_grad
        with ndl.enable_grad():
            assert (x * 2).requires_grad
        assert not ndl.is_grad_enabled()
    finally:
        ndl.set_grad_enabled(True)
    assert before is not None

    @ndl.set_grad_enabled(False)
    def product() -> bool:
        return (x * 2).requires_grad

    assert ndl.is_grad_enabled()
    assert not product()
    assert ndl.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), ndl.set_grad_enabled(False):
        1 / 0  # noqa: B018
    assert ndl.is_grad_enabled()
    with pytest.raises(TypeError, match="mode must be a bool, got str"):
        ndl.set_grad_enabled("train")  # type: ignore[arg-type]


def test_backward_of_several() -> None:
    x = ndl.Tensor([1.0, 2.0])
    ndl.autograd.backward([x * x, x.sum()], [ndl.Tensor([1.0, 10.0]), None])
    assert x.grad.tolist() == [3.0, 41.0]
    ndl.autograd.backward(x.sum())
    assert x.grad.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="2 tensors have 1 gradients"):
        ndl.autograd.backward([x, x], [ndl.ones(2)])


def test_seeds() -> None:
    ndl.manual_seed(7)
    assert ndl.initial_seed() == 7
    with ndl.random.fork_rng():
        first = ndl.rand(3).tolist()
    assert ndl.rand(3).tolist() == first
    with ndl.random.fork_rng(enabled=False):
        second = ndl.rand(3).tolist()
    assert ndl.rand(3).tolist() not in (first, second)
    chosen = ndl.seed()
    drawn = ndl.rand(3).tolist()
    ndl.manual_seed(chosen)
    assert ndl.rand(3).tolist() == drawn


def test_events() -> None:
    start, end = (ndl.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="both events must be recorded"):
        start.elapsed_time(end)
    start.record()
    end.record()
    assert start.elapsed_time(end) >= 0 >= end.elapsed_time(start)
    ndl.cuda.reset_peak_memory_stats()  # type: ignore[attr-defined]
