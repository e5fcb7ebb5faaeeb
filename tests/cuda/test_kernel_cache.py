"""Kernels on disk: compiled once, found by what they depend on, made anew when damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import disk_cache
from needle.backend_ndarray.device_cuda import compiler
from needle.backend_ndarray.device_cuda.context import Context

SOURCE = """extern "C" __global__ void __launch_bounds__(32) kernel(float* x) {{
  x[threadIdx.x] = {number};
}}
"""


@pytest.fixture
def folder(emulated, tmp_path, monkeypatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """A list that grows by one with every kernel that is compiled."""
    seen: list[str] = []
    compile_ = compiler.compile_kernel
    monkeypatch.setattr(compiler, "compile_kernel", lambda *a: seen.append(a[1]) or compile_(*a))
    return seen


def run(number: int) -> None:
    """A kernel in a context that has loaded none gives `number`."""
    context, x = Context(0), ndl.cuda().zeros((32,))
    context.launch("kernel", SOURCE.format(number=number), 1, 32, [x._handle.use_address()])
    context.synchronize()
    np.testing.assert_array_equal(x.numpy(), np.full(32, number))


def test_a_kernel_is_compiled_once(folder, compilations):
    ndl.cuda().zeros((32,))
    compilations.clear()
    for number in (1, 1, 2, 1):
        run(number)
    assert len(compilations) == 2
    held = disk_cache.cache_info()
    assert held.kernels == held.entries >= 2
    assert held.folder == folder
    assert not list(folder.glob(f"{disk_cache.SCRATCH}*"))
    assert all(path.suffix == disk_cache.KERNEL for path in folder.iterdir())


@pytest.mark.parametrize("damage", [b"", b"/no/such/file\0"], ids=["emptied", "overwritten"])
def test_a_damaged_kernel_is_made_anew(damage, folder, compilations):
    run(3)
    key = compiler._key(SOURCE.format(number=3), "sm_90")
    (path,) = folder.glob(f"{key}-*")
    path.write_bytes(damage)
    compilations.clear()
    run(3)
    assert len(compilations) == 1


def test_a_kernel_that_the_driver_refuses_is_made_anew(folder, compilations):
    run(4)
    key = compiler._key(SOURCE.format(number=4), "sm_90")
    (path,) = folder.glob(f"{key}-*")
    path.unlink()
    with disk_cache.scratch(folder) as scratch:
        code = Path(scratch, f"{key}{disk_cache.KERNEL}")
        code.write_bytes(b"whole, but for no driver")
        disk_cache.keep(folder, key, code)
    compilations.clear()
    run(4)
    run(4)
    assert len(compilations) == 1


def test_what_a_kernel_depends_on(folder, monkeypatch):
    key = compiler._key("source", "sm_90")
    assert compiler._key("source", "sm_80") != key
    assert compiler._key("other source", "sm_90") != key
    for owner, name in ((compiler, "version"), (disk_cache, "digest_of_sources")):
        with monkeypatch.context() as changed:
            other = b"other" if name == "digest_of_sources" else "13.1"
            changed.setattr(owner, name, lambda *_, other=other: other)
            assert compiler._key("source", "sm_90") != key


def test_a_folder_that_cannot_be_used(tmp_path, emulated, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="kernels are not kept on disk"):
        run(5)


def test_two_processes_at_once(folder, emulator_folder):
    code = f"""
import needle as ndl
context = ndl.cuda().context
for number in range(3):
    context.kernel({SOURCE!r}.format(number=number))
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert disk_cache.cache_info().kernels == 3
    assert not list(folder.glob(f"{disk_cache.SCRATCH}*"))


def test_the_cubins_of_nvrtc(nvrtc, tmp_path, monkeypatch, compilations):
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path))
    source = SOURCE.format(number=1)
    first = compiler.cached_kernel(source, "sm_90")
    assert first.startswith(b"\x7fELF")
    assert compiler.cached_kernel(source, "sm_90") == first
    assert compilations == ["sm_90"]
    assert compiler.cached_kernel(source, "sm_80") != first
