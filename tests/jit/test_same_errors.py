"""Indices and labels that eager code refuses are refused by compiled code, with the same error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle import init, nn, ops, optim

CLASSES = 3
X = np.linspace(-1, 1, 12).reshape(4, CLASSES).astype("float32")


class Case(NamedTuple):
    """`function(x, index)` with a good index and bad ones."""

    function: Callable[[ndl.Tensor, ndl.Tensor], Any]
    good: Any
    bad: tuple[Any, ...]
    dtype: str = "int64"


LABELS = [0, 2, 1, 0]
BAD_LABELS = ([0, -1, 1, 2], [0, 3, 1, 2], [0, 1, 2, 2**40], [-(2**40), 0, 0, 0])
FRACTIONS = ([0.0, 0.7, 1.0, 2.0], [np.nan, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], [-1.0, 0, 0, 0])
EMBEDDING = nn.Embedding(5, 2)


def scattered(x: ndl.Tensor, index: ndl.Tensor) -> ndl.Tensor:
    return ops.scatter_add(x, 1, index, x[:, :1])


def written(x: ndl.Tensor, index: ndl.Tensor) -> ndl.Tensor:
    y = x.detach() + 1
    y[index] = 5
    return y


LOSSES: dict[str, Callable[..., Any]] = {
    "NLLLoss": nn.NLLLoss(), "NLLLoss, sum": nn.NLLLoss(reduction="sum"),
    "NLLLoss, ignored": nn.NLLLoss(ignore_index=1), "nll_loss": ops.nll_loss,
    "CrossEntropyLoss": nn.CrossEntropyLoss(), "SoftmaxLoss": nn.SoftmaxLoss(reduction="none"),
    "CrossEntropyLoss, ignored": nn.CrossEntropyLoss(ignore_index=1),
    "CrossEntropyLoss, smooth": nn.CrossEntropyLoss(label_smoothing=0.1),
    "cross_entropy": ops.cross_entropy,
}  # fmt: skip
CASES = {
    **{name: Case(loss, LABELS, BAD_LABELS) for name, loss in LOSSES.items()},
    "one_hot": Case(lambda x, i: ops.one_hot(i, CLASSES), LABELS, BAD_LABELS),
    "one_hot, floats": Case(lambda x, i: ops.one_hot(i, CLASSES), LABELS, FRACTIONS, "float32"),
    "init.one_hot": Case(lambda x, i: init.one_hot(CLASSES, i), LABELS, BAD_LABELS),
    "Embedding": Case(lambda x, i: EMBEDDING(i), LABELS, ([0, -1], [5, 0], [2**40, 0])),
    "Embedding, floats": Case(
        lambda x, i: EMBEDDING(i), LABELS, ([0.0, 0.5], [5.0, 0.0], [-1.0, 0.0]), "float32"
    ),
    "take": Case(lambda x, i: ops.take(x, i), [0, -4, 3], ([0, 4], [-5, 0])),
    "take along 1": Case(lambda x, i: ops.take(x, i, 1), [0, -3, 2], ([0, 3], [-4, 0])),
    "getitem": Case(lambda x, i: x[i], [0, -4, 3], ([0, 4], [-5, 0], [2**40, 0])),
    "getitem of columns": Case(lambda x, i: x[:, i], [0, -3, 2], ([0, 3], [-4, 0])),
    "getitem of pairs": Case(lambda x, i: x[i, i], [0, 1, 2], ([0, 3], [-4, 0])),
    "setitem": Case(written, [0, -4, 3], ([0, 4], [-5, 0], [2**40, 0])),
    "gather": Case(lambda x, i: ops.gather(x, 1, i), [[0], [1], [-1], [2]],
                   ([[0], [3], [1], [2]], [[0], [-4], [1], [2]])),
    "scatter_add": Case(scattered, [[0], [1], [-1], [2]],
                        ([[0], [3], [1], [2]], [[0], [-4], [1], [2]])),
}  # fmt: skip


def outcome(function: Callable[..., Any], *arguments: ndl.Tensor) -> Any:
    """The result as an array, or the error's type and message."""
    try:
        result = function(*arguments)
        return result.numpy()
    except Exception as error:
        return type(error), str(error)


@pytest.fixture(params=["evaluate", "on"])
def mode(request, monkeypatch) -> str:
    if request.param == "on" and not ndl.cpu().enabled():
        pytest.skip("the C++ core was not built")
    monkeypatch.setenv("NEEDLE_JIT", request.param)
    return request.param


# Compilers take long: native code for one of each way to find an error.
NATIVE = ("NLLLoss, ignored", "CrossEntropyLoss, ignored", "one_hot", "Embedding, floats",
          "getitem of pairs", "scatter_add")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mode"), [*((n, "evaluate") for n in CASES), *((n, "on") for n in NATIVE)],
    indirect=["mode"],
)  # fmt: skip
def test_the_same_errors(name, mode):
    case = CASES[name]

    def with_gradient(x, index):
        result = case.function(x, index)
        if result.requires_grad:
            result.sum().backward()
        return result

    for function in (case.function, with_gradient)[mode == "on" :]:
        compiled = ndl.jit(lambda x, index, f=function: f(x, index))
        for index in (case.good, *case.bad):
            x = ndl.Tensor(X, requires_grad=function is with_gradient)
            arguments = x, ndl.Tensor(np.array(index), dtype=case.dtype, requires_grad=False)
            expected, actual = outcome(function, *arguments), outcome(compiled, *arguments)
            if index is case.good:
                np.testing.assert_allclose(actual, expected, rtol=1e-5)
            elif isinstance(expected, tuple):
                assert actual == expected
            else:  # an ignored label
                np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_refused_call_changes_nothing(mode):
    np.random.seed(0)
    model, loss_fn = nn.Linear(CLASSES, CLASSES), nn.NLLLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    schedule = optim.StepLR(optimizer, 1)

    @ndl.jit
    def step(x, y):
        schedule.step()
        loss = loss_fn(ndl.log_softmax(model(x)), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    x = ndl.Tensor(X, requires_grad=False)
    labels = [ndl.Tensor(np.array(y), requires_grad=False) for y in (LABELS, BAD_LABELS[0])]
    step(x, labels[0])
    before = [p.numpy() for p in model.parameters()]
    with pytest.raises(IndexError, match="label -1 is out of range for 3 classes"):
        step(x, labels[1])
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    assert {state["step"] for state in optimizer.state.values()} == {1}
    assert schedule.steps == 1
    step(x, labels[0])
    assert (schedule.steps, step.compilations) == (2, 1)
