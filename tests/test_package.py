"""The package as a whole: names, dependencies, what importing it does."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_an_unknown_backend_is_an_error():
    done = subprocess.run(
        [sys.executable, "-c", "import needle"], env={**os.environ, "NEEDLE_BACKEND": "tpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "'tpu'" in done.stderr
