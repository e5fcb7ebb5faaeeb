"""The softmax family where the maximum is so large that adding a logarithm to it would lose it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops

EPS = float(np.finfo(np.float32).eps)
LABELS = np.array([0, 2, 1, 0, 1])
SIZES = (1.0, 100.0, 1e3, 1e4, 1e8, 3e38)
LARGEST = float(np.finfo(np.float32).max)


def logits(size: float) -> np.ndarray:
    """Rows around `size` that float32 holds, as float64: equal, close, far apart, negative."""
    with np.errstate(over="ignore"):
        rows = size * np.array(
            [[1, 1, 1], [1.0001, 0.9903, 0], [1, 1 - 2e-7, 1 - 4e-7], [-1, -1, 1], [-1, -1, -1]]
        )
    return np.clip(rows, -LARGEST, LARGEST).astype(np.float32).astype(np.float64)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def targets(smoothing: float, ignored: int = -1) -> np.ndarray:
    rows = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    return rows * (ignored != LABELS)[:, None]


@dataclass(frozen=True)
class Member:
    """A function of logits, its values and the gradient of their sum by log p, p in float64."""

    name: str
    needle: Callable[[ndl.Tensor], ndl.Tensor]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of x and log p
    gradient: Callable[[np.ndarray], np.ndarray]  # of p


def _cross_entropy(smoothing: float = 0.0, ignored: int = -1) -> Member:
    rows = targets(smoothing, ignored)

    def value(x: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        return -np.where(rows > 0, rows * log_p, 0).sum(1)

    return Member(
        f"cross_entropy {smoothing} {ignored}",
        lambda x: ops.cross_entropy(x, LABELS, smoothing, ignored, reduction="none"),
        value,
        lambda p: p * rows.sum(1, keepdims=True) - rows,
    )


WEIGHTS = np.array([1.0, -2.0, 0.5])
MEMBERS = [
    Member("softmax", lambda x: ops.softmax(x) * _like(WEIGHTS, x),
           lambda x, log_p: np.exp(log_p) * WEIGHTS,
           lambda p: p * (WEIGHTS - (p * WEIGHTS).sum(1, keepdims=True))),
    Member("softmax of columns", lambda x: ops.softmax(x.transpose(), 0).transpose(),
           lambda x, log_p: np.exp(log_p), lambda p: np.zeros_like(p)),
    Member("log_softmax", ops.log_softmax, lambda x, log_p: log_p, lambda p: 1 - 3 * p),
    Member("logsumexp", lambda x: ops.logsumexp(x, 1), lambda x, log_p: (x - log_p)[:, 0],
           lambda p: p),
    _cross_entropy(),
    _cross_entropy(0.1),
    _cross_entropy(1.0),
    _cross_entropy(ignored=0),
    Member("nll_loss", lambda x: ops.nll_loss(ops.log_softmax(x), LABELS),
           lambda x, log_p: -(targets(0.0) * np.where(targets(0.0) > 0, log_p, 0)).sum(1),
           lambda p: p - targets(0.0)),
    Member("SoftmaxLoss", lambda x: nn.SoftmaxLoss(reduction="sum")(x, LABELS),
           lambda x, log_p: -(np.where(targets(0.0) > 0, log_p, 0)).sum(),
           lambda p: p - targets(0.0)),
]  # fmt: skip


def _like(array: np.ndarray, x: ndl.Tensor) -> ndl.Tensor:
    return ndl.Tensor(array, device=x.device, dtype=x.dtype, requires_grad=False)


def close(ours: ndl.Tensor, theirs: np.ndarray, log_p: np.ndarray) -> None:
    """Within some roundings of the terms: the differences to the maximum, at most `log_p` large.

    A probability p has a relative error of eps·|log p|, and p·|log p| is below 1.
    """
    with np.errstate(over="ignore"):
        wanted = np.asarray(theirs).astype(np.float32)
    tolerance = 8 * EPS
    finite = np.abs(log_p[np.abs(log_p) < LARGEST])
    terms = 1 + (finite[finite < 100].max(initial=0) if ours.ndim == 2 else 0)
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=tolerance, atol=tolerance * terms)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_values_and_gradients(member: Member, size: float, compiled: bool, device: ndl.Device):
    def run(x: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        y = member.needle(x)
        total = y.sum()
        with ndl.no_grad():  # by the kernels
            return y, ndl.grad(total, [x])[0]

    x = logits(size)
    log_p = log_softmax(x)
    there = ndl.Tensor(x, device=device, dtype="float32")
    value, gradient = (ndl.jit(run) if compiled else run)(there)
    close(value, member.value(x, log_p), log_p)
    close(gradient, member.gradient(np.exp(log_p)), log_p)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["logsumexp", "log_softmax", "cross_entropy"])
def test_second_derivatives(name: str, size: float, device: ndl.Device):
    """The gradients are c·p + constants, so a direction u gives c·(p∘u - p·(p·u))."""
    functions = {
        "logsumexp": (1, lambda x: ops.logsumexp(x, 1).sum()),
        "log_softmax": (-3, lambda x: ops.log_softmax(x).sum()),
        "cross_entropy": (1, lambda x: ops.cross_entropy(x, LABELS, 0.1, reduction="sum")),
    }
    factor, function = functions[name]
    x = logits(size)
    p = np.exp(log_softmax(x))
    there = ndl.Tensor(x, device=device, dtype="float32")
    gradient = ndl.grad(function(there), [there])[0]
    second = ndl.grad((gradient * _like(WEIGHTS, there)).sum(), [there])[0]
    wanted = factor * (p * WEIGHTS - p * (p * WEIGHTS).sum(1, keepdims=True))
    np.testing.assert_allclose(second.numpy(), wanted, rtol=0, atol=64 * EPS)


def test_a_maximum_that_swallows_the_logarithm():
    """The smallest examples."""
    x = ndl.Tensor([[1e8, 1e8, 1e8]])
    np.testing.assert_allclose(ops.log_softmax(x).numpy(), np.full((1, 3), -np.log(3)), 1e-6)
    ops.cross_entropy(x, [1]).backward()
    np.testing.assert_allclose(x.grad.numpy(), [[1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (3, 0)], ids=str)
def test_logsumexp_of_nothing(shape: tuple[int, ...], device: ndl.Device):
    x = ndl.Tensor(np.zeros(shape), device=device, dtype="float32")
    result = ops.logsumexp(x, len(shape) - 1)
    np.testing.assert_array_equal(result.numpy(), np.full(shape[:-1], -np.inf))
    result.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_ignored_rows_count_nothing_whatever_they_hold(compiled: bool, device: ndl.Device):
    def run(x: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        loss = ops.cross_entropy(x, np.array([7, 1, 7, 7]), ignore_index=7)
        return loss, ndl.grad(loss, [x])[0]

    rows = np.array([[np.nan, 0, 1], [0, 1, 2], [np.inf, 0, 0], [-np.inf] * 3])
    x = ndl.Tensor(rows, device=device, dtype="float32")
    loss, gradient = (ndl.jit(run) if compiled else run)(x)
    log_p = log_softmax(rows[1:2])
    np.testing.assert_allclose(loss.numpy(), -log_p[0, 1], rtol=8 * EPS)
    wanted = np.zeros((4, 3))
    wanted[1] = np.exp(log_p) - [0, 1, 0]
    np.testing.assert_allclose(gradient.numpy(), wanted, atol=8 * EPS)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll"])
def test_the_mean_over_no_labels_is_nan_with_zero_gradients(
    loss: str, compiled: bool, device: ndl.Device
):
    def run(x: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        kind = nn.CrossEntropyLoss if loss == "cross_entropy" else nn.NLLLoss
        value = kind(ignore_index=0)(x, np.array([0, 0]))
        return value, ndl.grad(value, [x])[0]

    x = ndl.Tensor(np.ones((2, 3)), device=device, dtype="float32")
    value, gradient = (ndl.jit(run) if compiled else run)(x)
    assert np.isnan(value.numpy())
    np.testing.assert_array_equal(gradient.numpy(), np.zeros((2, 3)))
