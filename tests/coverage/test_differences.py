"""Differences from PyTorch that would go unnoticed are told, once; ordinary programs hear nothing.

Warnings are errors in these tests, so that a program that must hear nothing is simply run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import needle as ndl
from needle import differences, nn, optim

X = ndl.tensor(np.random.RandomState(0).randn(4, 3).astype("float32"))


@pytest.fixture(autouse=True)
def _told_anew() -> Iterator[None]:
    differences.forget_told()
    yield
    differences.forget_told()


class Net:
    """A model, its optimizer, and the parts of a training step."""

    def __init__(self, compiled: bool = False) -> None:
        self.model = nn.Linear(3, 2)
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.1)
        self.zero_grad, self.step = self.optimizer.zero_grad, self.optimizer.step
        self.backward = ndl.jit(self._backward) if compiled else self._backward
        self.backward_more = ndl.jit(self._backward_more) if compiled else self._backward_more

    def _backward(self) -> None:
        self.model(X).sum().backward()

    def _backward_more(self) -> None:
        self.model(X).sum().backward(accumulate=True)


def accumulated(net: Net) -> None:
    net.zero_grad()
    for _ in range(3):
        net.backward()
    net.step()


def accumulated_and_clipped(net: Net) -> None:
    net.backward()
    net.backward()
    nn.utils.clip_grad_norm_(net.model.parameters(), 1.0)
    net.step()


def both_losses(net: Net) -> None:
    """A discriminator's two losses, each with a backward pass of its own."""
    for _ in range(2):
        net.zero_grad()
        net.backward()
        net.backward()
        net.step()


TOLD = [accumulated, accumulated_and_clipped, both_losses]


def in_order(net: Net) -> None:
    for _ in range(3):
        net.zero_grad()
        net.backward()
        net.step()


def zeroed_last(net: Net) -> None:
    for _ in range(3):
        net.backward()
        net.step()
        net.zero_grad()


def never_zeroed(net: Net) -> None:
    for _ in range(3):
        net.backward()
        net.step()


def added(net: Net) -> None:
    for _ in range(2):
        net.backward()
        net.backward_more()
        net.backward_more()
        net.step()


def stepped_by_hand(net: Net) -> None:
    for _ in range(3):
        net.backward()
        for p in net.model.parameters():
            p.data -= 0.1 * p.grad.detach()


def logged(net: Net) -> None:
    net.backward()
    assert net.model.weight.grad is not None
    net.model.bias.grad.numpy()
    net.backward()
    net.step()


def searched(net: Net) -> None:
    """An adversarial input: the gradients of the model are not wanted."""
    for _ in range(3):
        net.backward()
    net.zero_grad()
    net.backward()
    net.step()


def zeros_kept(net: Net) -> None:
    net.backward()
    net.backward()
    net.zero_grad(set_to_none=False)
    net.backward_more()
    net.step()


def adversaries(net: Net) -> None:
    """A GAN's loop: the generator's loss leaves gradients in the discriminator."""
    other = nn.Linear(3, 3)
    optimizer = optim.SGD(other.parameters(), lr=0.1)
    for _ in range(3):
        net.zero_grad()
        net.model(other(X)).sum().backward()
        net.step()
        optimizer.zero_grad()
        net.model(other(X)).sum().backward()
        optimizer.step()


SILENT = [
    in_order, zeroed_last, never_zeroed, added, stepped_by_hand, logged, searched, zeros_kept,
    adversaries,
]  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("program", TOLD, ids=lambda f: f.__name__)
def test_a_lost_gradient_is_told_once(program: Callable[[Net], None], compiled: bool) -> None:
    with pytest.warns(ndl.DifferenceWarning, match=r"accumulate=True") as told:
        program(Net(compiled))
    assert len(told) == 1
    assert told[0].filename == __file__
    program(Net(compiled))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("program", SILENT, ids=lambda f: f.__name__)
def test_ordinary_loops_hear_nothing(program: Callable[[Net], None], compiled: bool) -> None:
    program(Net(compiled))


@pytest.mark.parametrize("program", [*TOLD, in_order, added, zeros_kept], ids=lambda f: f.__name__)
def test_whole_steps_that_are_compiled(program: Callable[[Net], None]) -> None:
    net = Net()
    step = ndl.jit(lambda: program(net))
    if program in TOLD:
        with pytest.warns(ndl.DifferenceWarning, match=r"accumulate=True"):
            step()
    for _ in range(3):
        step()


def test_a_gradient_lost_outside_of_a_compiled_step() -> None:
    net = Net()
    net.backward()
    net.backward()
    with pytest.warns(ndl.DifferenceWarning, match=r"accumulate=True"):
        ndl.jit(net.step)()


def test_scalars_in_lists_lose_their_gradient_as_in_pytorch() -> None:
    angle = ndl.nn.Parameter(0.5)
    ndl.tensor([[angle.detach(), 1.0], [2.0, 3.0]])
    with pytest.warns(UserWarning, match=r"ndl\.stack"):
        rotation = ndl.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    assert not rotation.requires_grad
    ndl.tensor([angle])
