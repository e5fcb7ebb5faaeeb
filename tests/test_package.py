"""The package as a whole: names, dependencies, what importing it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import needle as ndl

OPS = """
add EWiseAdd add_scalar AddScalar multiply EWiseMul mul_scalar MulScalar power EWisePow
power_scalar PowerScalar divide EWiseDiv divide_scalar DivScalar matmul MatMul summation
Summation broadcast_to BroadcastTo reshape Reshape transpose Transpose negate Negate log Log exp
Exp relu ReLU tanh Tanh logsoftmax LogSoftmax logsumexp LogSumExp stack Stack split Split flip
Flip dilate Dilate undilate UnDilate make_tuple MakeTensorTuple tuple_get_item TupleGetItem
fused_add_scalars FusedAddScalars
"""
PACKAGE = """
Device cpu cuda cpu_numpy all_devices default_device NDArray array_api Tensor TensorTuple ones
zeros zeros_like ones_like init data nn optim autograd ops
"""


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_difference_is_a_sum_in_the_graph_of_the_numpy_backend():
    code = (
        "import needle as ndl\n"
        "a, b = ndl.Tensor([3.0, 1.0]), ndl.Tensor([1.0, 5.0])\n"
        "c = a - b\n"
        "order = ndl.autograd.find_topo_sort([c])\n"
        "assert [type(x.op).__name__ for x in order] == "
        "['NoneType', 'NoneType', 'Negate', 'EWiseAdd']\n"
        "assert order[0] is a and order[1] is b and order[3] is c\n"
        "c.backward()\n"
        "print(c.numpy().tolist(), a.grad.numpy().tolist(), b.grad.numpy().tolist())\n"
    )
    assert python(code, NEEDLE_BACKEND="np") == "[2.0, -4.0] [1.0, 1.0] [-1.0, -1.0]\n"


def test_import_needs_numpy_alone_and_prints_nothing():
    code = """
import sys
before = {*sys.stdlib_module_names, *sys.modules}  # some systems load a sitecustomize
import needle
third_party = {m.split(".")[0] for m in sys.modules} - before
print(sorted(m for m in third_party if not m.startswith("_")))
"""
    assert python(code).strip() == "['needle', 'numpy']"


def test_the_public_names_of_the_course():
    for name in OPS.split():
        assert hasattr(ndl, name), name
        assert hasattr(ndl.ops, name), name
    for name in PACKAGE.split():
        assert hasattr(ndl, name), name


def test_every_package_lists_what_it_has():
    for module in (ndl.ops, ndl.data, ndl.nn, ndl.init, ndl.optim, ndl.autograd, ndl.array_api):
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert not missing, (module.__name__, missing)


def test_the_numpy_backend_keeps_float64():
    code = """
import numpy as np, needle as ndl
assert ndl.default_device() == ndl.cpu_numpy()
assert ndl.Tensor([1.0]).dtype == ndl.Tensor(np.ones(2)).dtype == "float64"
assert ndl.Tensor(np.ones(2, dtype="float32")).dtype == "float32"
x = ndl.Tensor(np.random.randn(3))
(x * x).sum().backward()
eps, f = 1e-4, lambda v: float((v * v).sum().numpy())
x.cached_data.flat[1] += eps
up = f(x)
x.cached_data.flat[1] -= 2 * eps
assert abs((up - f(x)) / (2 * eps) - x.grad.numpy()[1]) < 1e-6
"""
    assert python(code, NEEDLE_BACKEND="np") == ""


BAD_SETTINGS = [
    ("NEEDLE_BACKEND", "tpu", "nd, np"),
    ("NEEDLE_JIT", "fast", "on, off, check, evaluate"),
    ("NEEDLE_CUDA_MATMUL", "mine", "cublaslt, own"),
    ("NEEDLE_SIMD", "mmx", "portable"),
    *(("NEEDLE_NUM_THREADS", bad, "from 1 to 255") for bad in ("", "0", "-2", "2x", "1.5", "256")),
    *(("NEEDLE_CACHE_LIMIT", bad, "an integer from 0") for bad in ("", "much", "-1", "9" * 30)),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_SETTINGS)
def test_a_bad_setting_is_an_error_that_names_it(name: str, value: str, expected: str):
    """A ValueError of programs; at the command line one line and no traceback."""
    needle = Path(sys.executable).with_name("needle")
    as_command = [sys.executable, "-m", "needle", "info"], [str(needle), "info"]
    for command in ([sys.executable, "-c", "import needle"], *as_command):
        done = subprocess.run(
            command, env={**os.environ, name: value}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        error = done.stderr.splitlines()[-1]
        start = "needle: " if command in as_command else "ValueError: "
        assert error.startswith(f"{start}{name} must be "), done.stderr
        assert expected in error
        assert error.endswith(f"got {value!r}")
        assert ("Traceback" in done.stderr) == (command not in as_command)


def test_a_bad_setting_of_a_program_that_is_named_otherwise(tmp_path):
    """Only needle's own command ends without a traceback."""
    (tmp_path / "needles.py").write_text("import needle")
    done = subprocess.run(
        [sys.executable, "-m", "needles", "needle"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "NEEDLE_JIT": "fast"}, check=False,
    )  # fmt: skip
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("name", ["NEEDLE_DATA", "NEEDLE_CACHE", "NEEDLE_CUDA_LIBRARIES"])
def test_a_folder_in_no_home_is_an_error_that_names_the_setting(name: str):
    lists = {"NEEDLE_DATA": ["data", "list"], "NEEDLE_CACHE": ["cache", "info"]}
    done = subprocess.run(
        [sys.executable, "-m", "needle", *lists.get(name, ["info"])],
        env={**os.environ, name: "~nobody-here/x", "COLUMNS": "200"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert f"{name} is ~nobody-here/x, but there is no such home folder" in (
        done.stderr + done.stdout
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_free_locks():
    """One for all that another thread held when the process was forked."""
    code = """
import os, threading
from needle.forks import fork_safe
locks = [fork_safe(threading.Lock()), fork_safe(threading.RLock())]
held, done = threading.Event(), threading.Event()

def hold():
    with locks[0], locks[1]:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
if (child := os.fork()) == 0:
    os._exit(0 if all(lock.acquire(timeout=5) for lock in locks) else 1)
status = os.waitpid(child, 0)[1]
assert not any(lock.acquire(blocking=False) for lock in locks)  # the parent's stay as they are
done.set()
print(status)
"""
    assert python(code) == "0\n"
