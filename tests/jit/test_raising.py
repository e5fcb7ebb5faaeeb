"""A function that raises leaves what it changed before that, compiled as eager."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.autograd import current_trace

TRIED = 0


class Trainer:
    """What a function may change before it raises."""

    def __init__(self) -> None:
        np.random.seed(0)
        random.seed(0)
        self.generator = ndl.Generator(0)
        self.weight = ndl.Tensor([1.0, -2.0])
        self.state = ndl.Tensor([0.0, 0.0], requires_grad=False)
        self.layer = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
        self.optimizer = optim.Adam([self.weight], lr=0.1)
        self.calls, self.losses, self.seen = 0, [0.5], {"last": None}

    def outcome(self) -> list[Any]:
        """All of it, and the next random numbers."""
        grad = self.weight.grad
        return [
            self.weight.numpy().tolist(), None if grad is None else grad.numpy().tolist(),
            self.state.numpy().tolist(), self.layer[0].running_mean.numpy().tolist(),
            self.calls, self.losses, self.seen, self.optimizer.lr, len(self.optimizer.state), TRIED,
            np.random.rand(), random.random(),
            ndl.init.rand(2, generator=self.generator).numpy().tolist(),
        ]  # fmt: skip


def attribute(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.calls += 1


def variable(trainer: Trainer, x: ndl.Tensor) -> None:
    global TRIED
    TRIED += 1


def containers(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.losses.append(trainer.losses[-1] + 1)
    trainer.seen["last"] = len(trainer.losses)


def data(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.state.data = trainer.state + x[0].detach()


def in_place(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.state[1] = 7.0
    x[0, 0] = 3.0


def gradient(trainer: Trainer, x: ndl.Tensor) -> None:
    (trainer.weight * x).sum().backward()


def step(trainer: Trainer, x: ndl.Tensor) -> None:
    loss = ((trainer.layer(x) + trainer.weight * x) ** 2).sum()
    loss.backward()
    trainer.optimizer.step()
    trainer.optimizer.reset_grad()  # a compiled call keeps no gradient that it has applied
    trainer.optimizer.lr *= 0.9


def draws(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.state.data = ndl.init.rand(2) + ndl.init.rand(2, generator=trainer.generator)


def own_draws(trainer: Trainer, x: ndl.Tensor) -> None:
    trainer.losses[0] = float(np.random.randn()) + random.random()


CHANGES = [attribute, variable, containers, data, in_place, gradient, step, draws, own_draws]


def attempts(change: Callable[..., None], compiled: bool) -> list[Any]:
    """What some calls leave, one of which raises nothing."""
    global TRIED
    TRIED = 0
    trainer, error = Trainer(), ValueError("a message")

    def run(x: ndl.Tensor, is_bad: bool) -> ndl.Tensor:
        change(trainer, x)
        if is_bad:
            raise error
        return x + 1

    function = ndl.jit(run) if compiled else run
    found = []
    for is_bad in (True, True, False, True):
        x = ndl.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=False)
        if is_bad:
            with pytest.raises(ValueError, match="a message") as caught:
                function(x, is_bad)
            assert caught.value is error
            assert error.__cause__ is error.__context__ is None
        else:
            function(x, is_bad)
        found.append([x.numpy().tolist(), *trainer.outcome()])
    return found


@pytest.mark.filterwarnings("ignore:.*runs eagerly")
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_function_that_raises_leaves(change: Callable[..., None]):
    for ours, theirs in zip(attempts(change, True), attempts(change, False), strict=True):
        for a, b in zip(ours, theirs, strict=True):  # compiled sums have another order
            is_float = isinstance(b, list) and all(isinstance(n, float) for n in b)
            assert a == (pytest.approx(b, rel=1e-5, abs=1e-6) if is_float else b)


def test_a_function_that_raises_only_when_traced_runs_eagerly():
    optimizer = optim.SGD([ndl.Tensor([1.0])], lr=0.5)
    calls = []

    def run(x: ndl.Tensor) -> ndl.Tensor:
        rate = optimizer.lr
        optimizer.lr = rate * 0.5
        if current_trace() is not None:
            raise TypeError("not with this")
        calls.append(rate)
        return x * rate

    compiled = ndl.jit(run)
    with pytest.warns(UserWarning, match="runs eagerly: a trace of it raises TypeError: not with"):
        assert compiled(ndl.Tensor([4.0])).numpy().tolist() == [2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(ndl.Tensor([4.0])).numpy().tolist() == [1.0]
    assert calls == [0.5, 0.25]
