"""Augmented assignment in compiled code: what eager code does, for everyone who sees the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def const(*values: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(values, np.float32), requires_grad=False)


def model() -> nn.Module:
    np.random.seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def batch() -> ndl.Tensor:
    return ndl.Tensor(np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3), requires_grad=False)


def descent_by_hand(wrap: Wrap) -> list[Any]:
    net, x = model(), batch()
    snapshot = net.state_dict()

    def step(x: ndl.Tensor) -> ndl.Tensor:
        loss = (net(x) ** 2).sum()
        loss.backward()
        with ndl.no_grad():
            for p in net.parameters():
                p -= 0.05 * p.grad
        return loss

    step = wrap(step)
    return [step(x), step(x), step(x), *net.parameters(), *snapshot.values()]


def descent_by_data(wrap: Wrap) -> list[Any]:
    net, x = model(), batch()

    def step(x: ndl.Tensor) -> ndl.Tensor:
        loss = (net(x) ** 2).sum()
        loss.backward()
        for p in net.parameters():
            p.data -= 0.05 * p.grad
            p.grad = None
        return loss

    step = wrap(step)
    return [step(x), step(x), step(x), *net.parameters()]


def moments_and_averages(wrap: Wrap) -> list[Any]:
    net, x = model(), batch()
    moments = [ndl.zeros_like(p) for p in net.parameters()]
    averages = [p.detach() * 1.0 for p in net.parameters()]

    def step(x: ndl.Tensor) -> ndl.Tensor:
        loss = (net(x) ** 2).sum()
        loss.backward()
        with ndl.no_grad():
            for p, m, a in zip(net.parameters(), moments, averages, strict=True):
                m *= 0.9
                m += p.grad
                p -= 0.05 * m
                a *= 0.99
                a += 0.01 * p
        return loss

    step = wrap(step)
    return [step(x), step(x), step(x), *net.parameters(), *moments, *averages]


def scaled_gradients_and_an_optimizer(wrap: Wrap) -> list[Any]:
    net, x = model(), batch()
    optimizer = ndl.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step(x: ndl.Tensor) -> ndl.Tensor:
        loss = (net(x) ** 2).sum()
        loss.backward()
        for p in net.parameters():
            p.grad *= 0.5
            p.grad += 0.01 * p.detach()
        optimizer.step()
        return loss

    step = wrap(step)
    return [step(x), step(x), step(x), *net.parameters()]


def gradients_added_up(wrap: Wrap) -> list[Any]:
    w = ndl.Tensor([1.0, 2.0])

    def step(x: ndl.Tensor) -> ndl.Tensor:
        old = w.grad
        loss = (w * x).sum()
        loss.backward()
        if old is not None:
            w.grad += old
        return loss

    step = wrap(step)
    return [step(const(1, 2)), step(const(3, 4)), step(const(5, 6)), w.grad]


def every_form(wrap: Wrap) -> list[Any]:
    w = const(1, 2, 3, 4)
    m = ndl.Tensor(np.arange(4.0).reshape(2, 2) + 1, requires_grad=False)
    alias, part = w.detach(), w[1:3]

    def f(x: ndl.Tensor) -> ndl.Tensor:
        nonlocal w, m
        w += x
        w -= 0.5
        w *= x
        w /= 2.0
        w **= 2
        m @= m
        w[1:] += 1.0
        w[0] *= 3.0
        w[::2] -= w[1::2]
        return w * 1.0

    f = wrap(f)
    return [f(const(1, 2, 3, 4)), f(const(0.5, 0.5, 1, 1)), w, alias, part, m]


def aliases_inside(wrap: Wrap) -> list[Any]:
    w = const(1, 2, 3)

    def f() -> ndl.Tensor:
        v, rows = w.detach(), w.data[1:]
        rows += 1.0
        before = w * 1.0
        v *= 2.0
        return before + w

    f = wrap(f)
    return [f(), f(), w]


def an_argument(wrap: Wrap) -> list[Any]:
    def f(x: ndl.Tensor) -> ndl.Tensor:
        x += 1.0
        return x

    f = wrap(f)
    x = const(1, 2)
    rows = ndl.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=False)
    return [f(x), f(x), f(rows.detach()[1]), f(rows.transpose()[0]), x, rows]


def recorded(wrap: Wrap) -> list[Any]:
    w = ndl.Tensor([1.0, 2.0])

    def f(x: ndl.Tensor) -> ndl.Tensor:
        y = w * x
        y += w
        y *= y
        total: Any = 0
        for k in range(2):
            total += (y * float(k + 1)).sum()
        total.backward()
        return total

    f = wrap(f)
    return [f(const(1, 2)), f(const(3, 4)), w.grad]


def integers(wrap: Wrap) -> list[Any]:
    n = ndl.Tensor(np.array([1, 2]), requires_grad=False)

    def f() -> ndl.Tensor:
        nonlocal n
        n += 1
        n *= 3
        return n

    f = wrap(f)
    return [f(), f(), n]


def narrow_floats(wrap: Wrap) -> list[Any]:
    w = ndl.Tensor(np.array([1, 2, 3]), dtype="bfloat16", requires_grad=False)

    def f(x: ndl.Tensor) -> ndl.Tensor:
        nonlocal w
        w += x
        w *= 0.3
        return w.astype("float32")

    f = wrap(f)
    return [f(const(1, 2, 3)), f(const(3, 2, 1)), w.astype("float32")]


SCENARIOS = [
    descent_by_hand,
    descent_by_data,
    moments_and_averages,
    scaled_gradients_and_an_optimizer,
    gradients_added_up,
    every_form,
    aliases_inside,
    an_argument,
    recorded,
    integers,
    narrow_floats,
]


@pytest.mark.parametrize("mode", ["on", "evaluate"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_compiled_equals_eager(
    scenario: Callable[[Wrap], list[Any]], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDLE_JIT", mode)
    eager, compiled = scenario(lambda f: f), scenario(ndl.jit)
    for i, (expected, got) in enumerate(zip(eager, compiled, strict=True)):
        np.testing.assert_allclose(
            got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6, err_msg=f"result {i}"
        )


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a leaf": (lambda: _add(nn.Parameter(ndl.ones(2)), 1.0), RuntimeError, "a leaf that requires"),
    "a float into integers": (lambda: _add(ndl.Tensor(np.arange(2)), 1.5), TypeError, "not fit"),
    "a wider shape": (lambda: _add(const(1), const(1, 2)), ValueError, "not fit"),
    "a broadcast array": (lambda: _add(const(1).broadcast_to((2,)), 1.0), ValueError, "same place"),
}


def _add(x: Any, y: Any) -> Any:
    x += y
    return x


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_when_compiled(what: str) -> None:
    function, kind, message = REFUSED[what]
    for form in (function, ndl.jit(function)):
        with pytest.raises(kind, match=message):
            form()


def test_changes_between_forward_and_backward_are_found_when_compiled() -> None:
    x, labels = const(1, 2), ndl.Tensor(np.array([0, 1]), requires_grad=False)

    def through_a_view(w: ndl.Tensor) -> None:
        y = (w * x).sum()
        x.detach()[0] = 5.0
        y.backward()

    def labels_changed(w: ndl.Tensor) -> None:
        y = ops.cross_entropy(ops.broadcast_to(w, (2, 2)), labels)
        labels[0] = 1
        y.backward()

    for function in (through_a_view, labels_changed):
        for form in (function, ndl.jit(function)):
            with pytest.raises(RuntimeError, match="changed or replaced"):
                form(ndl.Tensor([1.0, 2.0]))


@pytest.mark.parametrize("mode", ["on", "evaluate"])
def test_a_graph_notices_what_a_compiled_function_writes(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDLE_JIT", mode)
    state, argument = const(1, 2), const(3, 4)

    @ndl.jit
    def f(x: ndl.Tensor) -> None:
        nonlocal state
        state += 1.0
        x *= 2.0

    f(argument)
    w = ndl.Tensor([1.0, 2.0])
    for seen in (state, argument):
        y = (w * seen.detach()).sum()
        f(argument)
        with pytest.raises(RuntimeError, match="changed or replaced"):
            y.backward()
    y = (w * const(1, 2)).sum()
    f(argument)
    y.backward()
