"""The order of work between threads, on a GPU that does it only when somebody waits for it."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.device_cuda.streams import Streams


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function returns in a thread of its own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def ramp(device: ndl.Device, n: int = 1000) -> NDArray:
    return NDArray(np.arange(n, dtype="float32"), device=device) * 2.0


def test_each_thread_has_a_stream_of_its_own(lazy):
    streams = lazy.context.streams
    assert streams.current is streams.current
    assert in_thread(lambda: streams.current) is not streams.current
    first = in_thread(lambda: id(streams.current))
    assert in_thread(lambda: id(streams.current)) == first, "that of a thread that has ended"


def test_what_another_thread_has_made_is_waited_for(lazy, fake):
    x = in_thread(lambda: ramp(lazy))
    fake.emulator_clear_calls()
    y = x + 1.0
    assert fake.emulator_calls().decode().count("cuStreamWaitEvent") == 1
    _ = x + y
    assert fake.emulator_calls().decode().count("cuStreamWaitEvent") == 1, "once is enough"
    np.testing.assert_array_equal(y.numpy(), np.arange(1000) * 2 + 1)


def test_without_the_wait_the_numbers_are_wrong(lazy, monkeypatch):
    monkeypatch.setattr(Streams, "order", lambda *args: None)
    x = in_thread(lambda: ramp(lazy))
    assert not np.array_equal((x + 1.0).numpy(), np.arange(1000) * 2 + 1)


def test_what_another_thread_still_reads_is_not_overwritten(lazy):
    x = ramp(lazy)
    total = in_thread(lambda: x + 0.0)
    x[:] = 7.0  # after the read of the other thread, which nobody has waited for
    np.testing.assert_array_equal(x.numpy(), np.full(1000, 7.0))
    np.testing.assert_array_equal(total.numpy(), np.arange(1000) * 2)


@pytest.mark.parametrize("both", [False, True], ids=["of one stream", "of two streams"])
def test_a_freed_block_is_used_again_after_an_event(lazy, fake, both):
    n = 70_001  # a size of its own
    made = [ramp(lazy, n)]
    y = in_thread(lambda: made[0] * 3.0) if both else made[0] * 3.0
    address = made[0]._handle.use_address()
    made.clear()
    gc.collect()

    def again() -> tuple[NDArray, int]:
        z = lazy.full((n,), -1.0)
        return z, z._handle.use_address()

    fake.emulator_clear_calls()
    z, reused = in_thread(again)
    assert reused == address
    assert "cuStreamWaitEvent" in fake.emulator_calls().decode()
    np.testing.assert_array_equal(z.numpy(), np.full(n, -1.0))
    np.testing.assert_array_equal(y.numpy(), np.arange(n, dtype="float32") * 2 * 3)


def test_synchronize_waits_for_all_threads(lazy):
    x = in_thread(lambda: ramp(lazy))
    lazy.synchronize()
    host = np.ctypeslib.as_array((ctypes.c_float * 1000).from_address(x._handle.use_address()))
    np.testing.assert_array_equal(host, np.arange(1000) * 2)  # the emulator's memory is the host's


def test_threads_that_compute_at_once(lazy):
    """Weights that all read, and memory that they hand back and forth."""
    weights = [ramp(lazy, 100 * i) for i in range(1, 5)]
    expected = [float(np.arange(100 * i).sum() * 2) for i in range(1, 5)]
    failures: list[Any] = []

    def work() -> None:
        for _ in range(20):
            sums = [float((w + 0.0).sum().item()) for w in weights]
            if sums != expected:
                failures.append(sums)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_program_on_several_threads(lazy):
    weight = ndl.Tensor(np.ones(300), device=lazy)
    step = ndl.jit(lambda x: ndl.exp(x * weight).sum())
    inputs = [ndl.Tensor(np.full(300, i / 10), device=lazy) for i in range(4)]
    results = [in_thread(lambda x=x: step(x)) for x in inputs]
    for i, result in enumerate(results):
        np.testing.assert_allclose(result.item(), 300 * np.exp(i / 10), rtol=1e-5)


def test_an_address_taken_early_is_not_taken_for_done(lazy):
    """A thread that waits in the middle of an operation has not seen the rest of it."""
    here = lazy.context.streams.current
    x = lazy.zeros((4,))
    with here.together():
        uses = dict.fromkeys([here], here.issued + 1)
        _ = x + 1.0
        other = in_thread(lambda: (x + 1.0, lazy.context.streams.current)[1])
        assert not other.is_after(uses)
        _ = x + 1.0
    assert here.settled == here.issued > uses[here]


def test_a_program_that_is_gone_leaves_its_word_until_the_gpu_is_done(lazy):
    table = ndl.Tensor(np.ones((5, 3)), device=lazy)
    look = ndl.jit(lambda i: ndl.take(table, i, 0).sum())
    bad = ndl.Tensor(np.array([0, 9]), device=lazy, dtype="int64")
    look(bad)
    del look
    gc.collect()
    arrays = [np.full(2, i, dtype="int64") for i in range(20)]  # in blocks of that size
    copies = [ndl.Tensor(a, device=lazy) for a in arrays]
    with pytest.raises(IndexError, match="the index at position 1 is out of range"):
        copies[0].numpy()
    for copy, array in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(copy.numpy(), array)


def test_capturing_does_not_disturb_another_thread(lazy):
    done = threading.Event()
    failures: list[Any] = []

    def work() -> None:
        while not done.is_set():
            if not np.array_equal(ramp(lazy).numpy(), np.arange(1000) * 2):
                failures.append("wrong")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for i in range(5):
            step = ndl.jit(lambda x, i=i: ndl.log(x + 1.0 + i).sum())
            step(ndl.Tensor(np.ones(50), device=lazy)).item()
    finally:
        done.set()
        thread.join()
    assert not failures


def test_another_thread_works_while_one_rehearses_a_capture(emulated):
    ready, go, done = (threading.Event() for _ in range(3))
    results: list[np.ndarray] = []

    def work() -> None:
        x, out = ramp(emulated), ramp(emulated)
        ready.set()
        go.wait()
        emulated.binary_scalar("mul", x, 3.0, out)
        done.set()
        results.append(out.numpy())

    def launches() -> None:
        if emulated.context.streams.current.rehearsing:
            go.set()
            assert done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    emulated.context.capture(launches)
    thread.join()
    np.testing.assert_array_equal(results[0], np.arange(1000) * 6)


def test_a_failed_wait_is_an_error(lazy, fake):
    x = in_thread(lambda: ramp(lazy))
    fake.emulator_fail(b"cuStreamWaitEvent", 0, 719)
    with pytest.raises(RuntimeError, match="cuStreamWaitEvent failed"):
        x + 1.0
    np.testing.assert_array_equal((x + 1.0).numpy(), np.arange(1000) * 2 + 1)
