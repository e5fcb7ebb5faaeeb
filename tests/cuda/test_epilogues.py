"""Biases and ReLUs of products in compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle.jit.frontend.trace import Tracing
from needle.jit.ir.evaluate import evaluate
from needle.jit.ir.graph import Node
from needle.jit.passes import optimize
from needle.jit.runtime.pipeline import planned_for
from needle.jit.schedule.epilogues import fuse_epilogues
from needle.jit.schedule.target import GPU


class Case(NamedTuple):
    """A function of x (6, 5), w (5, 4), b (4,) and c (6, 4), and the products it has then."""

    function: Callable[..., object]
    products: list[str]
    others: int  # nodes
    dtype: str = "float32"


def both(x, w, b, c):
    p = x @ w + b
    return ndl.relu(p) + p


def returned(x, w, b, c):
    p = x @ w
    return p, p + b


def learned(x, w, b, c):
    return ndl.grad(ndl.summation(ndl.relu(ndl.linear(x, w, b)) * c), [w, b])


def cube(x, w, b, c):
    return ndl.relu(ndl.linear(x.reshape((2, 3, 5)), w, b))


CASES = {
    "bias": Case(lambda x, w, b, c: ndl.linear(x, w, b), ["matmul + bias"], 0),
    "bias on the left": Case(lambda x, w, b, c: b + x @ w, ["matmul + bias"], 0),
    "bias and relu": Case(
        lambda x, w, b, c: ndl.relu(x @ w + b), ["matmul_relu + bias"], 0
    ),
    "relu alone": Case(lambda x, w, b, c: ndl.relu(x @ w), ["matmul_relu"], 0),
    "three axes": Case(cube, ["matmul_relu + bias"], 0),
    "relu of what others read": Case(both, ["matmul + bias"], 2),
    "a product that is returned": Case(returned, ["matmul"], 1),
    "a product with itself": Case(lambda x, w, b, c: (x @ w) + (x @ w), ["matmul"], 1),
    "a matrix": Case(lambda x, w, b, c: x @ w + c, ["matmul"], 1),
    "a column": Case(lambda x, w, b, c: x @ w + c[:, :1], ["matmul"], 1),
    "the transpose": Case(lambda x, w, b, c: (x @ w).transpose() + x[:, 0], ["matmul"], 2),
    "doubles": Case(lambda x, w, b, c: ndl.relu(x @ w + b), ["matmul"], 2, "float64"),
    "a gradient": Case(learned, ["matmul_relu + bias", "matmul"], 3),
}  # fmt: skip


def named(node: Node) -> str:
    """A product's name with that of its bias."""
    return node.op + ("" if node.operands[3] is None else " + bias")


def operands(case: Case, device: ndl.Device) -> list[ndl.Tensor]:
    random = np.random.RandomState(0)
    shapes = (6, 5), (5, 4), (4,), (6, 4)
    return [ndl.Tensor(random.randn(*s), device=device, dtype=case.dtype) for s in shapes]


def stepped(x, w, b):
    return ndl.scan(lambda h, x: (ndl.relu((h + x) @ w + b), h), x[0], x)


def test_the_steps_of_a_loop_have_epilogues_too(emulated):
    random = np.random.RandomState(0)
    values = [random.randn(*shape).astype("float32") for shape in ((4, 3, 5), (5, 5), (5,))]
    arrays = [ndl.Tensor(x, device=emulated) for x in values]
    planned = planned_for(Tracing().run(stepped, arrays, {}, arrays).graph, GPU)
    (loop,) = (node.operands[0] for node in planned.graph.nodes if node.op == "scan")
    (product,) = (node for node in loop.body.nodes if node.op.startswith("matmul"))
    assert named(product) == "matmul_relu + bias"
    expected = stepped(*(ndl.Tensor(x, device=ndl.cpu_numpy()) for x in values))
    for ours, theirs in zip(ndl.jit(stepped)(*arrays), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-5, 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_which_nodes_a_product_takes_in(name, emulated):
    case = CASES[name]
    arrays = operands(case, emulated)
    plain = optimize(Tracing().run(case.function, arrays, {}, arrays).graph)
    graph = fuse_epilogues(plain)
    graph.check()
    products = [named(node) for node in graph.nodes if node.op.startswith("matmul")]
    assert products == case.products
    others = [n for n in graph.nodes if not n.op.startswith("matmul") and n.op != "fill"]
    assert len(others) == case.others
    values = [x.numpy() for x in arrays]
    for ours, theirs in zip(
        evaluate(graph, values, [])[0], evaluate(plain, values, [])[0], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, 1e-6, 1e-6)


@pytest.mark.parametrize("library", ["cublas", "own"])
@pytest.mark.parametrize("name", CASES)
def test_the_values(name, library, gpu, monkeypatch):
    case = CASES[name]
    if library == "own":
        monkeypatch.setattr(gpu.blas, "missing", "told so")
    compiled = ndl.tree.tensors(ndl.jit(case.function)(*operands(case, gpu)))
    expected = ndl.tree.tensors(case.function(*operands(case, ndl.cpu_numpy())))
    for ours, theirs in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-5, 1e-5)


@ndl.no_grad()
def operand_overwritten(x, w, b, c):
    a = x * 2.0
    p = a @ w
    a[0:2] = 0.0
    return p + b, a


@ndl.no_grad()
def bias_overwritten(x, w, b, c):
    bias = b * 2.0
    p = x @ w + bias
    bias[0:2] = 0.0
    return ndl.relu(p), bias


@pytest.mark.parametrize("function", [operand_overwritten, bias_overwritten])
def test_a_product_comes_before_what_overwrites_its_operands(function, gpu):
    random = np.random.RandomState(0)
    arrays = [random.randn(*shape).astype("float32") for shape in ((6, 5), (5, 4), (4,), (6, 4))]
    tensors = [ndl.Tensor(a, device=gpu, requires_grad=False) for a in arrays]
    for ours, eager in zip(ndl.jit(function)(*tensors), function(*tensors), strict=True):
        np.testing.assert_allclose(ours.numpy(), eager.numpy(), 1e-5, 1e-5)
