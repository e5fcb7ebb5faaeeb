"""Optimizers on the GPU: all parameters in one launch, with the numbers of the reference device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import optim
from needle.backend_ndarray.device_cuda import fused

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}
# Empty ones, one below and one above what a block updates, and more than a table has.
SIZES = [5, 0, 64, 4097, 1, 8192 + 3, 0, *range(1, 141)]


def parameters(device: ndl.Device, dtype: str, unaligned: bool) -> list[ndl.Tensor]:
    """Parameters with gradients; unaligned ones begin inside of an array."""
    random, made = np.random.RandomState(0), []
    for size in SIZES:
        values, grads = (
            ndl.Tensor(np.append(0, random.randn(size)), device=device, dtype=dtype)
            .realize_cached_data()[1:]
            for _ in range(2)
        )  # fmt: skip
        if not unaligned:
            values, grads = values.copy(), grads.copy()
        p = ndl.Tensor.make_const(values, requires_grad=True)
        p.grad = ndl.Tensor.make_const(grads)
        made.append(p)
    return made


def updated(device: ndl.Device, kind: str, dtype: str, unaligned: bool = False) -> list[np.ndarray]:
    """The parameters after two steps, and the moments."""
    params = parameters(device, dtype, unaligned)
    optimizer = OPTIMIZERS[kind](params)
    for _ in range(2):
        optimizer.step()
    moments = [v for state in optimizer.state.values() for v in state.values()]
    tensors = [*params, *(v for v in moments if isinstance(v, ndl.Tensor))]
    return [v.astype("float64").numpy() for v in tensors]


@pytest.mark.parametrize("unaligned", [False, True], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_many_parameters(kind, dtype, unaligned, gpu):
    tolerance = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 1e-2}[dtype]
    ours, theirs = (updated(d, kind, dtype, unaligned) for d in (gpu, ndl.cpu_numpy()))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_one_launch_for_a_table_of_parameters(kind, fake, emulated):
    params = parameters(emulated, "float32", unaligned=False)
    optimizer = OPTIMIZERS[kind](params)
    optimizer.step()  # makes the moments
    fake.emulator_clear_calls()
    optimizer.step()
    calls = fake.emulator_calls().decode().split()
    tables = -(-sum(size > 0 for size in SIZES) // fused.TABLE)
    assert tables > 2
    assert calls.count("cuLaunchKernel") == tables
    assert not any("Synchronize" in name or "Memcpy" in name for name in calls)


@pytest.mark.parametrize("unaligned", [False, True], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_norm_of_many_gradients(dtype, unaligned, gpu):
    norms, clipped = [], []
    for device in (gpu, ndl.cpu_numpy()):
        params = parameters(device, dtype, unaligned)
        norms.append(optim.clip_grad_norm(params, 0.5))
        clipped.append([p.grad.astype("float64").numpy() for p in params])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    for a, b in zip(*clipped, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_gradients_of_no_numbers_have_no_norm(gpu):
    p = ndl.Tensor(np.zeros((0, 3)), device=gpu)
    p.grad = ndl.Tensor(np.zeros((0, 3)), device=gpu)
    assert optim.clip_grad_norm(p, 1.0) == 0


def test_the_norm_is_waited_for_once(fake, emulated):
    params = parameters(emulated, "float32", unaligned=False)
    assert optim.clip_grad_norm(params, 1e6) > 0
    fake.emulator_clear_calls()
    optim.clip_grad_norm(params, 1e6)
    calls = fake.emulator_calls().decode().split()
    assert calls.count("cuStreamSynchronize") == 1
    assert calls.count("cuLaunchKernel") < len(params) / 10


def test_streams_that_lag_behind(lazy):
    for a, b in zip(
        updated(lazy, "adam", "float32"), updated(ndl.cpu_numpy(), "adam", "float32"), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
