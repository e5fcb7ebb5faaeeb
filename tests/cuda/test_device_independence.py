"""Training that moves between devices goes on as if it had not; what cannot be done says so."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.backend_ndarray.device_cuda import CudaDevice, CudaUnavailable, compiler
from needle.backend_ndarray.device_cuda.driver import _SIGNATURES

from .conftest import forget_libraries

BATCH = np.random.RandomState(1).randn(12, 5), np.arange(12) % 3


def network() -> nn.Module:
    np.random.seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: optim.Optimizer, steps: int = 2) -> list[float]:
    device = model.parameters()[0].device
    x = ndl.Tensor(BATCH[0], device=device)
    y = ndl.Tensor(BATCH[1], device=device, dtype="int64")
    losses = []
    for _ in range(steps):
        loss = nn.CrossEntropyLoss()(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def stayed(make) -> list[float]:
    """The losses of training on one device."""
    model = network().to(ndl.cpu_numpy())
    return train(model, make(model.parameters()), 8)


MAKERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def route(gpu: ndl.Device) -> list[ndl.Device]:
    return [ndl.cpu_numpy(), gpu, ndl.cpu(), gpu]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_model_and_its_optimizer_move(make, gpu):
    model, losses, state = network(), [], None
    for device in route(gpu):
        model.to(device)
        optimizer = make(model.parameters())
        if state is not None:
            optimizer.load_state_dict(state)
        losses += train(model, optimizer)
        state = optimizer.state_dict()
    np.testing.assert_allclose(losses, stayed(make), rtol=1e-4)


def save(file: Path, model: nn.Module, optimizer: optim.Optimizer) -> None:
    ndl.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)


def load(file: Path, model: nn.Module, optimizer: optim.Optimizer) -> None:
    state = ndl.load(file)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_checkpoint_of_one_device_is_read_on_another(make, gpu, tmp_path):
    losses, file = [], tmp_path / "run.safetensors"
    for device in route(gpu):
        model = network().to(device)
        optimizer = make(model.parameters())
        if losses:
            load(file, model, optimizer)
        losses += train(model, optimizer)
        save(file, model, optimizer)
    np.testing.assert_allclose(losses, stayed(make), rtol=1e-4)


def test_an_optimizer_whose_model_was_moved_says_so(gpu):
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer)
    model.to(gpu)
    with pytest.raises(ValueError, match=r"is now float32 .* on cuda\(\); make a new optimizer"):
        train(model, optimizer)


MIXED: dict[str, Callable[[ndl.Tensor, ndl.Tensor], Any]] = {
    "add": lambda here, there: here + there,
    "matmul": lambda here, there: there @ here,
    "where": lambda here, there: ndl.where(here > 0, there, there),
    "linear": lambda here, there: nn.Linear(3, 3, device=there.device)(here),
}


@pytest.mark.parametrize("use", MIXED.values(), ids=MIXED)
def test_devices_that_are_mixed(use, gpu):
    here, there = (ndl.Tensor(np.ones((3, 3)), device=d) for d in (gpu, ndl.cpu()))
    with pytest.raises(ValueError, match="cannot be mixed"):
        use(here, there)


# ---- what is too old, or broken ---------------------------------------------------------------


@pytest.fixture
def anew():
    """Libraries are looked for again, before and after."""
    forget_libraries()
    yield
    forget_libraries()


def test_a_driver_that_is_too_old(emulated, monkeypatch, anew):
    monkeypatch.setitem(_SIGNATURES, "cuFunctionOfTheFuture", ())
    with pytest.raises(
        CudaUnavailable, match=r"driver has no cuFunctionOfTheFuture.*Install a driver for CUDA 12"
    ):
        ndl.cuda().empty((3,))
    assert "cuFunctionOfTheFuture" in ndl.cuda().status()


def test_an_nvrtc_that_is_too_old(emulated, monkeypatch, anew):
    monkeypatch.setitem(compiler._SIGNATURES, "nvrtcOfTheFuture", ())
    with pytest.raises(CudaUnavailable, match=r"NVRTC has no nvrtcOfTheFuture.*needle-dl\[cuda\]"):
        ndl.cuda().empty((3,))


def test_a_gpu_that_nvrtc_does_not_know(emulated, monkeypatch, anew):
    monkeypatch.setenv("NEEDLE_EMULATOR_CAPABILITY", "99.0")
    x = ndl.cuda().empty((3,))
    with pytest.raises(compiler.KernelError, match="sm_990"):
        x + x


def test_a_context_that_was_lost(emulated, emulator_folder, anew):
    """After an illegal access nothing works but what names it; no crash, no hang."""
    fake = ctypes.CDLL(f"{emulator_folder}/libcuda.so.1")
    gpu = ndl.cuda()
    x = gpu.full((4,), 1.0)
    y = x + x
    fake.emulator_reset()  # as if the driver had gone
    for use in (y.numpy, lambda: x + y, lambda: gpu.full((2,), 3.0), gpu.synchronize):
        with pytest.raises(RuntimeError, match=r"\[cuda\] cu\w+ failed"):
            use()


def test_devices_are_equal_by_number(gpu):
    assert ndl.cuda(0) == gpu != ndl.cuda(1)
    assert CudaDevice(1) == ndl.cuda(1)
