"""`detect_anomaly` names the line that made the first NaN or infinity."""

from __future__ import annotations

import inspect
import re
import threading

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.autograd import Value, observing

INF = float("inf")


def line_of(function: object, text: str) -> str:
    """FILE:LINE of the line of a function that has a text."""
    lines, first = inspect.getsourcelines(function)
    number = next(first + i for i, line in enumerate(lines) if text in line)
    return f"{re.escape(__file__)}:{number}, in "


def logarithm(x):
    y = x * 2
    y = ndl.log(y - 6)  # negative
    return y.sum()


def root(x):
    y = x * 0
    z = ndl.sqrt(y)  # its gradient at 0 is infinite
    return (z * 0 + x).sum()


def overflow(x):
    y = ndl.exp(x * 100)  # infinite
    z = y - y  # NaN
    return z.sum()


def masked(x):
    scores = ndl.masked_fill(x, x.detach() > 1.5, -INF)
    return (ndl.softmax(scores, 0) * x).sum()


def test_the_forward_line(device):
    x = ndl.Tensor([1.0, 2.0], device=device)
    with ndl.detect_anomaly(), pytest.raises(RuntimeError) as error:
        logarithm(x)
    assert re.search(line_of(logarithm, "negative") + "logarithm", str(error.value))
    assert "NaN was made by Log" in str(error.value)
    assert "y = ndl.log(y - 6)" in str(error.value)
    assert "from -4 to -2" in str(error.value)


def test_the_line_whose_gradient_it_is(device):
    x = ndl.Tensor([1.0, 2.0], device=device)
    with ndl.detect_anomaly():
        loss = root(x)
        with pytest.raises(RuntimeError, match=line_of(root, "at 0 is infinite")):
            loss.backward()
    root(x).backward()
    assert np.isnan(x.grad.numpy()).all()


def test_a_nan_of_an_infinity_names_both_lines():
    with ndl.detect_anomaly(), pytest.raises(RuntimeError) as error:
        overflow(ndl.Tensor([1.0, 2.0]))
    nan, infinity = line_of(overflow, "# NaN"), line_of(overflow, "# infinite")
    assert re.search(f"NaN was made by EWiseSub, {nan}", str(error.value))
    assert re.search(f"infinite inputs; it was made by Exp, {infinity}", str(error.value))


def test_operations_from_before_have_no_line():
    x = ndl.Tensor([1.0, 2.0])
    loss = root(x)
    softmax = ndl.softmax(ndl.masked_fill(x, x.detach() > 1.5, -INF), 0).sum()
    with ndl.detect_anomaly():
        softmax.backward()
        with pytest.raises(RuntimeError, match="Sqrt, which ran outside of detect_anomaly"):
            loss.backward()


def test_masks_may_be_infinite_unless_infinities_are_asked_for():
    x = ndl.Tensor([1.0, 2.0])
    with ndl.detect_anomaly():
        masked(x).backward()
    with (
        ndl.detect_anomaly(infinities=True),
        pytest.raises(RuntimeError, match=r"an infinity was made by .*overflow"),
    ):
        overflow(x)


def test_an_infinite_loss_is_reported_by_backward():
    x = ndl.Tensor([0.0, 2.0])
    with ndl.detect_anomaly():
        loss = ndl.log(x).sum()
        with pytest.raises(RuntimeError, match=r"starts from is infinite; it was made by Log"):
            loss.backward()


def test_nan_among_the_data():
    data, w = ndl.Tensor([np.nan, 1.0], requires_grad=False), ndl.Tensor([1.0, 2.0])
    with ndl.detect_anomaly():
        ndl.nan_to_num(data[:1]).sum()  # nothing has made it here
        loss = (w * data).sum()
        with pytest.raises(RuntimeError, match=r"it came in with an input .* 1 NaN of EWiseMul"):
            loss.backward()
    with ndl.detect_anomaly(), pytest.raises(RuntimeError, match="made outside of detect_anomaly"):
        loss.backward()


def test_compiled_functions_name_their_line():
    step = ndl.jit(logarithm)
    x = ndl.Tensor([1.0, 2.0])
    step(x)
    with (
        ndl.detect_anomaly(),
        pytest.raises(RuntimeError, match=line_of(logarithm, "negative")),
    ):
        step(x)
    assert step.compilations == 1


def test_inside_of_a_compiled_function_it_says_where_it_belongs():
    @ndl.jit
    def step(x):
        with ndl.detect_anomaly():
            return logarithm(x)

    with pytest.raises(RuntimeError, match="enter it around the call"):
        step(ndl.ones(2))
    assert not ndl.is_anomaly_enabled()


class Shifted(nn.Module):
    def forward(this, x):
        return ndl.log(x - 100)


def test_the_path_of_the_module():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Shifted()))
    with ndl.detect_anomaly(), pytest.raises(RuntimeError, match=r"module 1\.1 \(Shifted\)"):
        model(ndl.ones(1, 2))


def test_a_recomputed_function_names_its_own_line():
    x = ndl.Tensor([1.0, 2.0])
    with ndl.detect_anomaly():
        loss = ndl.checkpoint(root)(x)
        with pytest.raises(RuntimeError, match=line_of(root, "at 0 is infinite")):
            loss.backward()


def test_spellings_and_nesting():
    plain = vars(Value)["make_from_op"]

    @ndl.detect_anomaly()
    def decorated(x):
        return logarithm(x)

    with pytest.raises(RuntimeError, match="in logarithm"):
        decorated(ndl.Tensor([1.0]))
    with ndl.autograd.detect_anomaly(check_nan=False):
        logarithm(ndl.Tensor([1.0]))
        with ndl.autograd.set_detect_anomaly(False):
            assert not ndl.is_anomaly_enabled()
        assert ndl.is_anomaly_enabled()
    ndl.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(RuntimeError, match="in logarithm"):
            logarithm(ndl.Tensor([1.0]))
        thread = threading.Thread(target=logarithm, args=[ndl.Tensor([1.0])])
        thread.start()
        thread.join()
    finally:
        ndl.autograd.set_detect_anomaly(False)
    assert not observing.observers
    assert vars(Value)["make_from_op"] is plain, "an operation costs nothing more than before"
