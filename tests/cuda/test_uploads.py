"""Copies to the GPU while the host goes on, on a GPU that copies as late as it may."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

import needle as ndl
from needle import data, models, nn, optim
from needle.backend_ndarray.device_cuda import CudaError
from needle.backend_ndarray.device_cuda import pinned as pinned_memory


class Images(data.Dataset):
    """Sample i: an image full of i, and i."""

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return np.full((2, 3), i, dtype="float32"), i


def waits(fake) -> int:
    return fake.emulator_calls().decode().count("Synchronize")


def test_an_array_may_change_as_soon_as_it_is_given(lazy, fake):
    x = np.arange(1000, dtype="float32")
    fake.emulator_clear_calls()
    arrays = []
    for _ in range(5):
        arrays.append(ndl.Tensor(x, device=lazy))
        x += 1
    assert waits(fake) == 0
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(array.numpy(), np.arange(1000) + i)


def test_a_large_array_goes_in_parts(lazy):
    x = np.arange(pinned_memory.CHUNK // 4 + 10, dtype="float32")
    np.testing.assert_array_equal(ndl.Tensor(x, device=lazy).numpy(), x)


def test_pinned_blocks_are_used_again_when_the_copies_are_done(lazy):
    pinned = lazy.context.pinned
    for _ in range(3):
        for i in range(3):
            ndl.Tensor(np.full(5000, i), device=lazy)
        lazy.synchronize()
        held = pinned.held
    assert pinned.held == held


def test_beyond_its_limit_pinned_memory_is_waited_for(lazy, monkeypatch):
    pinned = lazy.context.pinned
    monkeypatch.setattr(pinned_memory, "LIMIT", 0)
    arrays = [ndl.Tensor(np.full(40_000, i), device=lazy) for i in range(4)]
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(array.numpy(), np.full(40_000, i))
    assert pinned.held < 2 * 2**19, "one block of 512 KiB, and words"


def test_pinned_memory_is_copied_from_directly(lazy, fake):
    host = ndl.cpu_numpy()
    batch = next(iter(data.DataLoader(Images(), 8, device=host, pin_memory=True)))[0]
    expected = batch.numpy()
    there = batch.to(lazy, non_blocking=True)
    del batch  # its memory is not given to anybody else before the copy
    gc.collect()
    other = lazy.pinned_copy(np.full((8, 2, 3), -1, "float32"))
    np.testing.assert_array_equal(there.numpy(), expected)
    assert (other == -1).all()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_uploaded_by_the_workers(workers, lazy, fake):
    fake.emulator_clear_calls()
    batches = list(data.DataLoader(Images(), 4, num_workers=workers, device=lazy))
    assert waits(fake) == 0
    for i, (x, y) in enumerate(batches):
        assert x.device == y.device == lazy
        np.testing.assert_array_equal((x + 1.0).numpy()[:, 0, 0], np.arange(4 * i, 4 * i + 4) + 1)
        np.testing.assert_array_equal(y.numpy(), np.arange(4 * i, 4 * i + 4))


def test_a_loader_that_is_left_or_fails_leaks_nothing(lazy):
    class Broken(Images):
        def __getitem__(self, i):
            if i == 13:
                raise ValueError("sample 13")
            return super().__getitem__(i)

    def use(dataset: data.Dataset, count: int) -> None:
        loader = iter(data.DataLoader(dataset, 4, num_workers=2, device=lazy, pin_memory=True))
        for _ in range(count):
            next(loader)

    def comes_back_to(before: int) -> bool:
        """Whether memory is given back, with the garbage of a loader and its workers."""
        for _ in range(50):
            gc.collect()
            if lazy.memory_stats()["in_use"] == before:
                return True
            time.sleep(0.02)
        return False

    gc.collect()
    before = lazy.memory_stats()["in_use"]
    for count in (6, 1):
        use(Images(), count)
        assert comes_back_to(before)
    with pytest.raises(ValueError, match="sample 13"):
        use(Broken(), 6)
    assert comes_back_to(before)


def test_a_failed_upload_leaks_nothing(lazy, fake):
    ndl.Tensor(np.ones(3000), device=lazy)
    gc.collect()
    before = lazy.memory_stats()["in_use"]
    fake.emulator_fail(b"cuMemcpyHtoDAsync_v2", 0, 719)
    with pytest.raises(CudaError, match="cuMemcpyHtoDAsync_v2"):
        ndl.Tensor(np.ones(3000), device=lazy)
    gc.collect()
    assert lazy.memory_stats()["in_use"] == before
    np.testing.assert_array_equal(ndl.Tensor(np.ones(3000), device=lazy).numpy(), np.ones(3000))


# ---- compiled steps ---------------------------------------------------------------------------


def gpt_step(device: ndl.Device):
    """A step of a small GPT with dropout, its optimizer, and batches."""
    np.random.seed(0)
    model = models.GPT(13, 6, width=8, num_layers=1, num_heads=2, dropout=0.1).to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    ids = np.random.RandomState(0).randint(0, 13, (6, 2, 6))
    pairs = [
        tuple(ndl.Tensor(i, device=device, dtype="int64") for i in (x, np.roll(x, -1, 1)))
        for x in ids
    ]

    def step(x, y):
        loss = nn.CrossEntropyLoss()(model(x).reshape((-1, 13)), y.reshape((-1,)))
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, optimizer, pairs


def test_a_compiled_step_waits_for_nothing(lazy, fake):
    results = []
    for device in (ndl.cpu_numpy(), lazy):
        step, optimizer, pairs = gpt_step(device)
        run = ndl.jit(step) if device == lazy else step
        losses = []
        for i, (x, y) in enumerate(pairs):
            optimizer.lr = 0.01 / (i + 1)  # uploaded before the copy of the last one has happened
            if i == 2:
                fake.emulator_clear_calls()
            losses.append(run(x, y))
        if device == lazy:
            calls = fake.emulator_calls().decode()
            assert calls.count("cuGraphLaunch") == 4
            assert calls.count("cuMemcpyHtoDAsync") == 4, "all scalars and draws in one copy"
            assert waits(fake) == calls.count("DtoH") == 0
        results.append([loss.item() for loss in losses])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)


@pytest.mark.parametrize("where", ["item", "synchronize", "the next call"])
def test_an_index_out_of_range_is_found_later(where, lazy):
    table = ndl.Tensor(np.random.RandomState(0).randn(5, 3), device=lazy)
    look = ndl.jit(lambda i: ndl.take(table, i, 0).sum())
    good, bad = (ndl.Tensor(np.array(i), device=lazy, dtype="int64") for i in ([0, -1], [0, 5]))
    expected = look(good).item()
    result = look(bad)
    with pytest.raises(IndexError, match="the index at position 1 is out of range"):  # noqa: PT012
        if where == "item":
            result.item()
        elif where == "synchronize":
            lazy.synchronize()
        else:
            lazy.context.streams.mark().wait()  # the GPU has come so far by itself
            look(good)
    np.testing.assert_allclose(look(good).item(), expected)
