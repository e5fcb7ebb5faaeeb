"""The core's call of an op gives what `apply`, its definition in Python, gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import needle as ndl
from needle.ops import direct

LAYOUTS = {
    "row-major": lambda x: x,
    "transposed": lambda x: x.T,
    "broadcast": lambda x: x[:1].broadcast_to((4, 4)),
    "every second": lambda x: x[:, ::2],
    "backwards": lambda x: x[::-1],
    "a row": lambda x: x[0],
    "a column": lambda x: x[:, :1],
    "a number": lambda x: x[0, 0],
    "nothing": lambda x: x[:0],
    "float64": lambda x: x.astype("float64"),
    "bfloat16": lambda x: x.astype("bfloat16"),
    "int32": lambda x: x.astype("int32"),
    "bool": lambda x: x.astype("bool"),
}
OPS = [
    *(op() for kind in ("unary", "binary", "matmul", "linear") for op in direct.TABLE[kind]),
    *(op(2.5) for kind in ("scalar", "reflected scalar") for op in direct.TABLE[kind]),
    *(ndl.ops.Summation(axes) for axes in (None, 0, -1, 2, (0, 1))),
    *(ndl.ops.Reshape(shape) for shape in ((16,), (2, 8), (4, 1, 4), (4,), (3, 5))),
    *(ndl.ops.Transpose(axes) for axes in (None, (0, 1), (0, 2))),
    *(ndl.ops.Permute(axes) for axes in ((1, 0), (0,), (0, 0))),
    *(ndl.ops.BroadcastTo(shape) for shape in ((4, 4), (2, 4, 4), (3,))),
    *(
        ndl.ops.GetItem(key)
        for key in (
            1,
            -5,
            slice(None, None, -2),
            (0, 1),
            (..., None, 2),
            (None, slice(1, 9)),
            [0, 1],
        )
    ),
]


def given():
    values = np.random.default_rng(0).uniform(0.5, 2.0, (4, 4)).astype("float32")
    return {name: layout(ndl.Tensor(values)) for name, layout in LAYOUTS.items()}


def outcome(function, inputs):
    """Everything that a result consists of; of an error its type and text."""
    try:
        y = function(*inputs)
    except Exception as error:
        return type(error), str(error)
    data = y.realize_cached_data()
    recorded = type(y.op), tuple(map(id, y.inputs)), y.requires_grad
    return str(data.dtype), data.shape, data.strides, data.numpy().tolist(), recorded, type(y)


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_gives_what_apply_gives(op):
    arity = op.compute.__code__.co_argcount - 1
    some = {1: 1, 2: 2, 3: 2}[arity]
    for names in itertools.product(LAYOUTS, repeat=some):
        inputs = [given()[name] for name in names]
        if arity == 3:
            inputs.append(given()["a row"])
        with np.errstate(all="ignore"):
            assert repr(outcome(op, inputs)) == repr(outcome(op.apply, inputs)), names


def test_computes_by_a_compute_that_was_replaced(monkeypatch):
    x = ndl.Tensor([1.0, -1.0])

    class Twice(ndl.ops.ReLU):
        def compute(self, a):
            return a + a

    assert Twice()(x).tolist() == [2.0, -2.0]
    monkeypatch.setattr(ndl.ops.ReLU, "compute", lambda self, a: a * 3)
    assert ndl.relu(x).tolist() == [3.0, -3.0]


def test_lazy_mode_computes_later(monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    x = ndl.Tensor([1.0, 2.0])
    y = (x + x)[0]
    assert y.cached_data is None
    assert y.item() == 2.0
