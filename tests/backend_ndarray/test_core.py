"""The C++ core: threads, SIMD levels, memory, processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numeric import assert_product

import needle as ndl
from needle import backend_ndarray as nd
from needle.native import core

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")


def test_many_threads_give_what_one_gives():
    rng = np.random.RandomState(0)
    x, y = rng.randn(513, 700).astype("float32"), rng.randn(700, 300).astype("float32")
    before = ndl.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            ndl.set_num_threads(threads)
            assert ndl.get_num_threads() == threads
            a, b = nd.array(x), nd.array(y)
            results.append(
                [v.numpy() for v in (a + a, a.exp(), a.sum(1), a.sum(0), a.sum(), a @ b,
                                     a.max(0), a.T.compact(), a.argmax(1))]
            )  # fmt: skip
    finally:
        ndl.set_num_threads(before)
    for other in results[1:]:
        for one, many in zip(results[0], other, strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-3)
    assert_product(results[0][5], x, y, "float32")


@pytest.mark.parametrize("bad", [0, -1, 256, 1.5, 2.0, "2", True, None])
def test_bad_thread_counts(bad):
    kind = ValueError if type(bad) is int else TypeError
    with pytest.raises(kind, match=r"\[set_num_threads\] n must be an integer"):
        ndl.set_num_threads(bad)


@pytest.mark.parametrize("count", [np.int64(2), np.uint8(2), np.array(2), ndl.Tensor(np.array(2))])
def test_thread_counts_are_integers_of_every_kind(count):
    before = ndl.get_num_threads()
    try:
        ndl.set_num_threads(count)
        assert ndl.get_num_threads() == 2
    finally:
        ndl.set_num_threads(before)


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


DIGEST = """
import numpy as np, needle as ndl
from needle.backend_ndarray import simd_level
rng = np.random.RandomState(0)
x = ndl.Tensor(rng.randn(64, 50)); w = ndl.Tensor(rng.randn(50, 33)); b = ndl.Tensor(rng.randn(33))
y = ndl.gelu(ndl.layer_norm(ndl.linear(x, w, b), ndl.ones(33), ndl.zeros(33)))
loss = ndl.cross_entropy(y, np.arange(64) % 33)
loss.backward()
print(simd_level(), loss.item(), float(w.grad.abs().sum().item()), float(x.amax(1).sum().item()))
"""


@pytest.mark.parametrize("level", ["amx", "avx512_bf16", "avx512", "avx2", "neon", "portable"])
def test_every_simd_level_gives_the_same(level):
    done = run(DIGEST, NEEDLE_SIMD=level)
    if done.returncode:
        assert "NEEDLE_SIMD" in done.stderr
        assert "portable" in done.stderr, "the error names what there is"
        return
    name, *values = done.stdout.split()
    assert name == level
    expected = run(DIGEST).stdout.split()[1:]
    np.testing.assert_allclose(np.array(values, float), np.array(expected, float), rtol=2e-5)


def test_threads_come_from_the_environment():
    code = "import needle; print(needle.get_num_threads())"
    assert run(code, NEEDLE_NUM_THREADS="3").stdout.strip() == "3"
    for bad in ("0", "many", "-2"):
        done = run(code, NEEDLE_NUM_THREADS=bad)
        assert done.returncode != 0
        assert "NEEDLE_NUM_THREADS" in done.stderr


def test_a_forked_child_computes():
    code = """
import os, numpy as np, needle as ndl
a = ndl.array_api.array(np.ones((600, 600)))
expected = (a @ a).sum().item()
child = os.fork()
if child == 0:
    os._exit(0 if (a @ a).sum().item() == expected else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code).stdout.strip() == "0"


def test_python_threads_compute_at_once():
    x = np.random.RandomState(0).randn(300, 300).astype("float32")
    expected, wrong = (nd.array(x) @ nd.array(x)).numpy(), []

    def work():
        for _ in range(20):
            if not np.array_equal((nd.array(x) @ nd.array(x)).numpy(), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_freed_buffers_are_used_again():
    def step():
        a = nd.array(np.ones((100, 100)))
        for _ in range(3):
            a = a * 2 + 1

    step()
    gc.collect()
    before = ndl.memory_stats()
    for _ in range(50):
        step()
    after = ndl.memory_stats()
    assert after["allocations"] == before["allocations"]
    assert after["in_use"] == before["in_use"]


def test_memory_stats_count_what_is_held():
    before = ndl.memory_stats()["in_use"]
    a = nd.empty((1000, 1000))
    assert ndl.memory_stats()["in_use"] - before >= a.nbytes
    del a
    assert ndl.memory_stats()["in_use"] == before


def test_impossible_sizes_are_refused_without_harm():
    for shape in ((2**40, 2**20), (2**62, 4), (-1,)):
        with pytest.raises((MemoryError, ValueError, OverflowError)):
            nd.empty(shape)
    assert nd.array([1.0]).tolist() == [1.0]


def test_without_the_core_numpy_serves_and_says_so():
    code = """
import sys, warnings
sys.modules["needle._core"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import needle as ndl
print(ndl.default_device(), ndl.cpu().enabled(), len(caught), (ndl.ones(2) + 1).tolist())
print(caught[0].message)
try:
    ndl.Tensor([1.0], device=ndl.cpu())
except RuntimeError as error:
    print(error)
"""
    out = run(code).stdout
    assert out.startswith("cpu_numpy() False 1 [2.0, 2.0]")
    assert out.count("compiler") == 2


@pytest.mark.parametrize("value", ["on", "", "ä", "\udcff"])
def test_environment_variables_are_those_of_os_environ(monkeypatch, value):
    """Also what was set since the process began, and bytes that are no text."""
    monkeypatch.setenv("NEEDLE_TEST", value)
    assert core.environment_variable("NEEDLE_TEST") == value
    monkeypatch.delenv("NEEDLE_TEST")
    assert core.environment_variable("NEEDLE_TEST") is None


def test_devices_count_memory_in_the_same_words():
    x = ndl.NDArray(np.zeros(1000), device=ndl.cpu())
    stats = ndl.memory_stats()
    assert stats == ndl.memory_stats(ndl.cpu()) == ndl.cpu().memory_stats()
    assert x.nbytes <= stats["in_use"] <= min(stats["held"], stats["peak"])
    assert ndl.memory_stats(ndl.cpu_numpy()) == {}
