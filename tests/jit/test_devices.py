"""`ndl.jit`: the device of a program that computes nothing, and arguments on several devices."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit import TraceError

OTHER = ndl.cpu_numpy() if ndl.default_device() is ndl.cpu() else ndl.cpu()
ONE_ARGUMENT = {
    "itself": lambda x: x,
    "reshape": lambda x: x.reshape((2, 1)),
    "slice": lambda x: x[1:],
    "transpose": lambda x: x.broadcast_to((3, 2)).transpose(),
    "nothing": lambda x: None,
    "no dropout": nn.Dropout(0.0),
    "several": lambda x: {"x": x, "row": (x[:1], x[1:])},
}


def leaves(given):
    """The Tensors in what a function returns."""
    if isinstance(given, dict):
        given = tuple(given.values())
    return [t for x in given for t in leaves(x)] if isinstance(given, tuple) else [given]


def assert_alike(ours, expected):
    for a, b in zip(leaves(ours), leaves(expected), strict=True):
        assert type(a) is type(b)
        if a is not None:
            assert a.device is b.device
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_without_computation_the_device_is_that_of_the_argument(name):
    function = ONE_ARGUMENT[name]
    compiled = ndl.jit(function)
    for values in ([1.0, 2.0], [3.0, 4.0]):
        x = ndl.Tensor(values, device=OTHER)
        assert_alike(compiled(x), function(x))


def test_a_state_that_is_passed_on_keeps_its_device():
    w = ndl.Tensor([1.0, 2.0], device=OTHER, requires_grad=False)
    compiled = ndl.jit(lambda: (w, w.reshape((2, 1))))
    for values in ([1.0, 2.0], [3.0, 4.0]):
        w.data = ndl.Tensor(values, device=OTHER)
        assert_alike(compiled(), (w, w.reshape((2, 1))))


@pytest.mark.parametrize("devices", [(ndl.default_device(), OTHER), (OTHER, ndl.default_device())])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + 1,
        lambda x, y: y + 1,
        lambda x, y: (x + 1, y),
        lambda x, y: x.reshape((2, 1)),
    ],
)
def test_an_argument_that_is_not_computed_with_may_be_elsewhere(function, devices):
    x, y = (ndl.Tensor([1.0, 2.0], device=device) for device in devices)
    compiled = ndl.jit(function)
    for _ in range(2):
        assert_alike(compiled(x, y), function(x, y))


@pytest.mark.parametrize("devices", [(ndl.default_device(), OTHER), (OTHER, ndl.default_device())])
@pytest.mark.parametrize(
    "function", [lambda x, y: (x + 1, y.reshape((2, 1))), lambda x, y: (x[1:], y[1:])]
)
def test_results_on_two_devices_are_refused(function, devices):
    x, y = (ndl.Tensor([1.0, 2.0], device=device) for device in devices)
    with pytest.raises(TraceError, match="one device"):
        ndl.jit(function)(x, y)
