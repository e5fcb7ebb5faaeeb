"""The CUDA device: memory, errors, arrays of every kind, and a model that learns."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import assert_product

import needle as ndl
from needle import nn, optim
from needle.backend_ndarray import DTYPES, NDArray
from needle.backend_ndarray.device_cuda import (
    CudaError,
    CudaOutOfMemory,
    CudaUnavailable,
    compiler,
    kernels,
)
from needle.backend_ndarray.device_cuda.context import Context
from needle.backend_ndarray.device_cuda.memory import rounded

from .conftest import forget_libraries


def array(gpu, x: np.ndarray) -> NDArray:
    return NDArray(x, device=gpu, dtype=x.dtype)


# ---- arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (0, 3), (2, 3, 4, 5), (1000, 33)])
def test_there_and_back(shape, dtype, gpu):
    x = np.asarray(np.random.RandomState(0).randn(*shape) * 5)
    x = NDArray(x, device=ndl.cpu_numpy(), dtype=dtype).numpy()
    a = NDArray(x, device=gpu, dtype=dtype)
    np.testing.assert_array_equal(a.numpy(), x)
    np.testing.assert_array_equal(a.permute(tuple(reversed(range(x.ndim)))).numpy(), x.T)
    for other in DTYPES:
        expected = NDArray(x, device=ndl.cpu_numpy(), dtype=dtype).astype(other).numpy()
        if dtype.kind == "f" and other.name == "uint8":
            continue  # a negative float has no defined value there
        np.testing.assert_array_equal(a.astype(other).numpy(), expected)


def test_numbers_of_16_bits_are_rounded_as_on_the_host(gpu):
    edges = np.array([0.0, -0.0, np.inf, -np.inf, 65504, 65519, 65520, 6e-8, 2.98e-8, 6.1e-5, 1.0])
    values = np.concatenate([edges, np.logspace(-9, 6, 800) * np.tile([1, -1], 400)])
    for dtype in ("float16", "bfloat16"):
        ours, reference = (
            NDArray(values, device=device).astype(dtype).astype("float32").numpy()
            for device in (gpu, ndl.cpu_numpy())
        )
        np.testing.assert_array_equal(ours, reference)


@settings(max_examples=40)
@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 7, 33, 70]), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    data=st.data(), op=st.sampled_from(["sum", "prod", "max", "min"]),
    dtype=st.sampled_from(["float32", "float64", "int32", "int64", "bool", "uint8"]),
)  # fmt: skip
def test_reductions(gpu, shape, seed, data, op, dtype):
    axes = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    order = data.draw(st.permutations(range(len(shape))))
    x = (np.random.RandomState(seed).rand(*shape) * (1.5 if op == "prod" else 9)).astype(dtype)
    ours, reference = (
        getattr(NDArray(x, device=device, dtype=dtype).permute(tuple(order)), op)(axes).numpy()
        for device in (gpu, ndl.cpu_numpy())
    )
    assert ours.dtype == reference.dtype
    np.testing.assert_allclose(ours, reference, rtol=1e-5 if dtype == "float32" else 1e-12)


@settings(max_examples=25)
@given(
    m=st.integers(1, 150), k=st.integers(1, 40), n=st.integers(1, 150), batch=st.integers(1, 3),
    turned=st.tuples(st.booleans(), st.booleans()), bias=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "int32"]),
)  # fmt: skip
def test_matrix_products(gpu, m, k, n, batch, turned, bias, dtype):
    random = np.random.RandomState(m * n)
    a, b = ((random.randn(batch, *s) * 4).astype(dtype) for s in ((m, k), (k, n)))
    c = (random.randn(n) * 4).astype(dtype)

    def operand(x: np.ndarray, turn: bool) -> NDArray:
        x = np.ascontiguousarray(x.swapaxes(1, 2)) if turn else x
        return array(gpu, x).permute((0, 2, 1)) if turn else array(gpu, x)

    left, right = operand(a, turned[0]), operand(b, turned[1])
    product = left.matmul(right, array(gpu, c)) if bias and batch == 1 else left @ right
    added = c if bias and batch == 1 else 0
    if dtype == "int32":
        np.testing.assert_array_equal(product.numpy(), a @ b + added)
    else:
        assert_product(product.numpy(), a, b, dtype, added)


@settings(max_examples=25)
@given(
    lines=st.integers(1, 5), length=st.integers(1, 700), axis=st.integers(0, 1),
    descending=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_order_and_running_sums(gpu, lines, length, axis, descending, seed):
    random = np.random.RandomState(seed)
    x = random.randint(0, 30, (lines, length)).astype("float32")  # with ties
    x[random.rand(*x.shape) < 0.05] = np.nan
    x = x if axis else np.ascontiguousarray(x.T)
    ours, reference = array(gpu, x), NDArray(x, device=ndl.cpu_numpy())
    for call in (
        lambda a: a.argsort(axis, descending), lambda a: a.argmax(axis), lambda a: a.argmin(axis),
        lambda a: a.astype("float64").cumsum(axis),
    ):  # fmt: skip
        np.testing.assert_allclose(call(ours).numpy(), call(reference).numpy(), rtol=1e-12)


def test_rows_by_index(gpu):
    x = np.random.RandomState(0).randn(50, 70).astype("float32")
    index = np.array([3, -1, 3, 49, 0, 3], dtype="int64")
    np.testing.assert_array_equal(array(gpu, x)[array(gpu, index)].numpy(), x[index])
    table = ndl.Tensor(x, device=gpu)
    ndl.take(table, ndl.Tensor(index, device=gpu), 0).sum().backward()
    expected = np.zeros_like(x)
    np.add.at(expected, index, 1)
    np.testing.assert_array_equal(table.grad.numpy(), expected)
    with pytest.raises(IndexError, match="index 50 is out of range for an axis of length 50"):
        array(gpu, x)[array(gpu, np.array([0, 50, 60]))]


def test_writing_by_index(gpu):
    x, key = np.zeros((4, 5), "float32"), (np.array([0, 2]), np.array([1, 3]))
    a = array(gpu, x)
    a[key] = 7.0
    x[key] = 7.0
    np.testing.assert_array_equal(a.numpy(), x)


def test_devices_do_not_mix(gpu):
    with pytest.raises(ValueError, match=r"arrays on cuda\(\) and cpu\(\) cannot be mixed"):
        array(gpu, np.ones(3)) + NDArray(np.ones(3), device=ndl.cpu())


def test_pickled_and_moved(gpu):
    x = ndl.Tensor(np.arange(6.0).reshape(2, 3), device=gpu)
    again = pickle.loads(pickle.dumps(x))
    assert again.device == gpu
    np.testing.assert_array_equal(again.numpy(), x.numpy())
    assert x.to(ndl.cpu()).device == ndl.cpu()


# ---- races ----------------------------------------------------------------------------------


def with_barriers(device: ndl.Device) -> list[np.ndarray]:
    """The results of the kernels whose threads wait for each other, or share memory."""
    random = np.random.RandomState(0)
    x = ndl.Tensor(random.randn(37, 300), device=device, dtype="float32")
    index = ndl.Tensor(random.randint(0, 37, 50), device=device, dtype="int64")
    labels = ndl.Tensor(random.randint(0, 300, 37), device=device, dtype="int64")
    ones = ndl.Tensor(np.ones(300), device=device, dtype="float32")
    data = x.realize_cached_data()
    results = [
        data.sum(), data.sum(1), data.sum(0), data.max(1), data.argmax(1), data.cumsum(1),
        data.argsort(1), device.empty((37, 37)),
    ]  # fmt: skip
    kernels.matmul(device.context, data, data.permute((1, 0)), results[-1], None)
    loss = ndl.cross_entropy(ndl.layer_norm(x, ones, ones), labels).sum()
    loss = loss + ndl.softmax(ndl.take(x, index, axis=0), 1)[:, :3].sum()
    loss.backward()
    return [r.numpy() for r in (*results, loss, x.grad, ones.grad)]


@pytest.mark.parametrize("order", ["reverse", "3"])
def test_results_do_not_depend_on_the_order_of_threads(order, emulated, monkeypatch):
    expected = with_barriers(emulated)
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
    for ours, theirs in zip(with_barriers(emulated), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- learning -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_model_learns_as_on_the_cpu(kind, gpu):
    losses = {}
    for device in (ndl.cpu_numpy(), gpu):
        np.random.seed(0)
        model = nn.Sequential(
            nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 3)
        ).to(device)
        optimizer = (
            optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if kind == "sgd"
            else optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        )  # fmt: skip
        x = ndl.Tensor(np.random.RandomState(1).randn(20, 6), device=device)
        y = ndl.Tensor(np.arange(20) % 3, device=device, dtype="int64")
        values = []
        for _ in range(6):
            loss = nn.CrossEntropyLoss(label_smoothing=0.1)(model(x), y)
            optimizer.reset_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        losses[device] = values
    np.testing.assert_allclose(losses[gpu], losses[ndl.cpu_numpy()], rtol=1e-4)
    assert losses[gpu][-1] < losses[gpu][0]


def test_weights_move_between_devices(gpu, tmp_path):
    np.random.seed(0)
    model = nn.Linear(3, 4).to(gpu)
    file = tmp_path / "model.safetensors"
    ndl.save(model.state_dict(), file)
    other = nn.Linear(3, 4)
    other.load_state_dict(ndl.load(file, map_location="cpu"))
    np.testing.assert_array_equal(other.weight.numpy(), model.weight.numpy())
    again = nn.Linear(3, 4).to(gpu)
    again.load_state_dict(other.state_dict())
    assert again.weight.device == gpu
    np.testing.assert_array_equal(again.weight.numpy(), model.weight.numpy())


# ---- memory ---------------------------------------------------------------------------------


def test_freed_blocks_are_used_again(emulated):
    gc.collect()
    a = emulated.empty((1000,))
    address, before = a._handle.use_address(), emulated.memory_stats()
    del a
    assert emulated.memory_stats()["in_use"] == before["in_use"] - rounded(4000)
    b = emulated.empty((1001,))
    assert b._handle.use_address() == address
    assert emulated.memory_stats()["held"] == before["held"]


def test_out_of_memory_says_how_much(emulated):
    total = emulated.memory_stats()["total"]
    with pytest.raises(CudaOutOfMemory, match=r"MiB were asked for; needle uses .* MiB are free"):
        emulated.empty((total,))
    a = emulated.full((1000,), 3.0)
    assert a.sum().item() == 3000.0, "the device still works"


def test_an_exception_leaks_nothing(emulated):
    gc.collect()
    before = emulated.memory_stats()["in_use"]
    x = emulated.empty((10, 10))
    with pytest.raises(ValueError, match="differ"):
        x @ emulated.empty((9, 9))
    del x
    gc.collect()
    assert emulated.memory_stats()["in_use"] == before


# ---- errors of the driver -------------------------------------------------------------------


def test_a_failed_launch_names_the_op_and_the_shapes(fake, emulated):
    a = emulated.full((2, 3), 1.0)
    fake.emulator_fail(b"cuLaunchKernel", 0, 719)
    with pytest.raises(CudaError, match=r"LAUNCH_FAILED.* in add of float32 \(2, 3\)"):
        a + a


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("NEEDLE_CUDA_LIBRARIES", "/nowhere", "the NVIDIA driver was not found"),
        ("NEEDLE_EMULATOR_DEVICES", "0", "NO_DEVICE"),
        ("NEEDLE_EMULATOR_CAPABILITY", "6.1", "capability 6.1, needle needs 7.0"),
    ],
)
def test_what_is_missing_is_named(setting, value, message, emulated, monkeypatch):
    monkeypatch.setenv(setting, value)
    forget_libraries()
    try:
        assert not ndl.cuda().enabled()
        with pytest.raises(CudaUnavailable, match=message):
            ndl.cuda().empty((3,))
    finally:
        monkeypatch.undo()
        forget_libraries()


def test_a_gpu_that_is_not_there(emulated):
    assert not ndl.cuda(5).enabled()
    with pytest.raises(CudaUnavailable, match=r"cuda\(5\) is not available: there are 1 GPUs"):
        ndl.cuda(5).empty((1,))


def test_what_is_added_out_of_range_is_left_out(gpu):
    everything = NDArray(np.zeros((6, 2), np.float32), device=gpu)
    index = NDArray(np.array([-1, 0, 1, 9]), device=gpu, dtype="int64")
    order = NDArray(np.arange(4), device=gpu, dtype="int64")
    added = NDArray(np.ones((4, 2), np.float32), device=gpu)
    kernels.scatter_add_rows(gpu.context, everything[2:4], index, order, added)
    np.testing.assert_array_equal(everything.numpy()[:, 0], [0, 0, 1, 1, 0, 0])


def test_a_label_out_of_range_is_not_read(gpu):
    logits = NDArray(np.zeros((2, 3), np.float32), device=gpu)
    labels = NDArray(np.array([1, 2**40]), device=gpu, dtype="int64")
    losses, lse = (NDArray(np.zeros(shape, np.float32), device=gpu) for shape in ((2,), (2, 2)))
    watch, here = gpu.context.watch(), gpu.context.streams.current
    here.watch = watch.block.address  # as in a program, which goes on
    try:
        gpu.fused("cross_entropy")(logits, labels, losses, lse, -100, 0.0)
    finally:
        here.watch = None
    with pytest.raises(IndexError, match="the index at position 1 is out of range"):
        losses.numpy()
    np.testing.assert_allclose(losses.numpy(), [np.log(3), 0], rtol=1e-6)


def test_kernels_for_a_later_driver_are_refused(emulated, monkeypatch):
    monkeypatch.setattr(compiler, "version", lambda: "99.1")
    with pytest.raises(CudaUnavailable, match=r"NVRTC 99\.1 makes kernels for a later driver"):
        Context(0)


def test_two_gpus_take_turns_in_a_thread(emulated, fake, monkeypatch):
    monkeypatch.setenv("NEEDLE_EMULATOR_DEVICES", "2")
    contexts = [Context(0), Context(1)]
    fake.emulator_clear_calls()
    for context in contexts * 2:
        context.activate()
        context.activate()
    assert fake.emulator_calls().decode().count("cuCtxSetCurrent") == 4
    emulated.context.activate()


@pytest.mark.parametrize("shape", [(2**62,), (2**32, 2**32), (2**63 + 3, 4)])
def test_sizes_that_overflow_are_refused(emulated, shape):
    with pytest.raises(ValueError, match=r"more than 2\^46 elements"):
        emulated.empty(shape)


def test_a_gpu_by_name(emulated):
    assert ndl.Tensor([1.0], device="cuda").device is emulated
    assert ndl.Tensor([1.0]).to("cuda:0").device is emulated
    assert ndl.Tensor([1.0], device="cuda").to("cpu").device is ndl.cpu()
