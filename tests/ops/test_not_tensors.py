"""What is no Tensor, where one belongs: a TypeError that names the argument, in every op."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops

WRONG: dict[str, Any] = {
    "int": 5, "float": 2.5, "list": [1.0, 2.0], "tuple": (1.0, 2.0), "array": np.ones((2, 2)),
    "scalar": np.float32(2), "NDArray": ndl.NDArray([1.0, 2.0]), "None": None, "text": "x",
    "function": len,
}  # fmt: skip
# What the other parameters get.
OTHERS = {
    "kernel_size": 1,
    "shape": (2, 2),
    "axis": 0,
    "dtype": "float32",
    "axes": 0,
    "k": 1,
    "target": "float64",
}


def functions() -> list[tuple[str, str]]:
    """(op, parameter) for every parameter of an op that is a Tensor."""
    found = []
    for name in ops.__all__:
        if name == "unbroadcast":  # of gradients
            continue
        function = getattr(ops, name)
        if inspect.isfunction(function):
            for parameter in inspect.signature(function).parameters.values():
                if parameter.annotation == "Tensor":
                    found.append((name, parameter.name))
    return found


def required(function: Any) -> list[inspect.Parameter]:
    return [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is inspect.Parameter.empty
    ]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_argument_is_named(wrong):
    """In every place of every op that takes a Tensor; no AttributeError, no other result."""
    for name, parameter in functions():
        function = getattr(ops, name)
        arguments = [
            WRONG[wrong]
            if p.name == parameter
            else ndl.Tensor(np.ones((2, 2)))
            if p.annotation == "Tensor"
            else OTHERS.get(p.name, 1)
            for p in required(function)
        ]
        with pytest.raises(TypeError) as caught:
            function(*arguments)
        message = str(caught.value)
        assert parameter in message, (name, parameter, message)
        assert message.startswith(f"[{function.__name__}] "), message
        assert f"got {type(WRONG[wrong]).__name__}" in message


@pytest.mark.parametrize(
    "name",
    ["add", "subtract", "multiply", "divide", "power", "floor_divide", "remainder", "maximum",
     "minimum", "equal", "less", "greater", "matmul", "bitwise_and", "left_shift"],
)  # fmt: skip
def test_no_tensor_among_two(name):
    for a in (5, np.float32(2), np.ones(2), [1.0]):
        for b in (3, 2.5, np.ones(2), "x", None):
            with pytest.raises(TypeError, match=rf"\[{name}\] needs a Tensor, got"):
                getattr(ops, name)(a, b)


@pytest.mark.parametrize("wrong", WRONG)
def test_sequences_of_tensors(wrong):
    for function in (ops.stack, ops.concatenate):
        for arguments in (WRONG[wrong], [ndl.ones(2), WRONG[wrong]]):
            with pytest.raises(TypeError, match=rf"\[{function.__name__}\] args must be "):
                function(arguments, 0)


@pytest.mark.parametrize("wrong", ["int", "list", "array", "None"])
def test_layers(wrong):
    for layer in (
        nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2)), nn.LayerNorm1d(2), nn.Tanh(),
        nn.BatchNorm1d(2), nn.SiLU(), nn.GELU(),
        nn.Flatten(),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="Tensor"):
            layer(WRONG[wrong])


def test_ops_are_functions_as_ever():
    """Other errors come through, and the functions are pickled by name."""
    with pytest.raises(ValueError, match="softmax"):
        ops.softmax(ndl.ones(2, 2), axis=5)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ops.exp()
    assert pickle.loads(pickle.dumps(ops.relu)) is ops.relu
    assert ops.relu.__name__ == "relu"
