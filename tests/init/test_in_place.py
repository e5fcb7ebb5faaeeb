"""Filling in place: bounds and deviations against PyTorch's on weights of its layout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")

SHAPES = [(300, 200), (3, 3, 40, 60), (5, 60, 40)]  # (k…, in, out)


def theirs(shape: tuple[int, ...]) -> torch.Tensor:
    """A Tensor of PyTorch's layout, (out, in, k…)."""
    return torch.empty(shape[-1], shape[-2], *shape[:-2])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), [
    ("uniform_", {"a": -2.0, "b": 3.0}),
    ("normal_", {"mean": 1.0, "std": 0.5}),
    ("trunc_normal_", {"mean": 0.5, "std": 2.0, "a": -1.0, "b": 3.0}),
    ("xavier_uniform_", {"gain": 2.0}),
    ("xavier_normal_", {}),
    ("kaiming_uniform_", {"a": math.sqrt(5)}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"nonlinearity": "relu"}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "tanh"}),
])  # fmt: skip
def test_draws(device, name, options, shape):
    np.random.seed(0)
    torch.manual_seed(0)
    weight = nn.Parameter(np.zeros(shape, "float32"), device=device)
    assert getattr(nn.init, name)(weight, **options) is weight
    peer = getattr(torch.nn.init, name)(theirs(shape), **options).numpy()
    ours = weight.numpy()
    np.testing.assert_allclose(ours.mean(), peer.mean(), atol=0.03 * peer.std())
    np.testing.assert_allclose(ours.std(), peer.std(), rtol=0.02)
    if "uniform" in name or "trunc" in name:
        np.testing.assert_allclose(ours.max(), peer.max(), rtol=0.01)
        np.testing.assert_allclose(ours.min(), peer.min(), rtol=0.01)
    assert weight.is_leaf() if callable(weight.is_leaf) else weight.is_leaf
    assert weight.requires_grad


def test_fans_are_those_of_layers():
    assert ndl.init.in_place_weights.fans(nn.Linear(3, 5).weight) == (3, 5)
    assert ndl.init.in_place_weights.fans(nn.Conv2d(3, 5, 2).weight) == (12, 20)
    assert ndl.init.in_place_weights.fans(nn.Conv1d(3, 5, 7).weight) == (21, 35)


def test_constants(device):
    weight = ndl.zeros(2, 3, device=device)
    for fill, value in ((ndl.init.ones_, 1), (ndl.init.zeros_, 0)):
        np.testing.assert_array_equal(fill(weight).numpy(), np.full((2, 3), value))
    np.testing.assert_array_equal(ndl.init.constant_(weight, 0.5).numpy(), np.full((2, 3), 0.5))
    np.testing.assert_array_equal(ndl.init.eye_(weight).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 5, 2, 4), (3, 3, 3, 6, 4)])
def test_dirac(shape, groups):
    ours = ndl.init.dirac_(ndl.zeros(*shape), groups).numpy()
    peer = torch.nn.init.dirac_(theirs(shape), groups).numpy()
    axes = (*range(2, peer.ndim), 1, 0)
    np.testing.assert_array_equal(ours, peer.transpose(axes))


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (2, 2, 3, 5)])
def test_orthogonal(device, shape):
    weight = ndl.init.orthogonal_(ndl.zeros(*shape, device=device), gain=2.0)
    matrix = weight.numpy().reshape((-1, shape[-1]))
    small = min(matrix.shape)
    gram = matrix @ matrix.T if small == matrix.shape[0] else matrix.T @ matrix
    np.testing.assert_allclose(gram, 4 * np.eye(small), atol=1e-5)


def test_sparse(device):
    weight = ndl.init.sparse_(ndl.zeros(6, 10, device=device), sparsity=0.25)
    np.testing.assert_array_equal((weight.numpy() == 0).sum(1), np.full(6, 3))


def test_a_generator_draws_the_same_again():
    draws = []
    for _ in range(2):
        generator = ndl.Generator(3)
        weight = ndl.zeros(3, 4)
        draws.append(ndl.init.xavier_normal_(weight, generator=generator).numpy().copy())
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains(name):
    assert ndl.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert ndl.init.calculate_gain("leaky_relu", 0.3) == pytest.approx(
        torch.nn.init.calculate_gain("leaky_relu", 0.3)
    )


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("nonlinearity", lambda: ndl.init.calculate_gain("sine")),
        ("2 axes", lambda: ndl.init.xavier_uniform_(ndl.zeros(3))),
        ("mode", lambda: ndl.init.kaiming_normal_(ndl.zeros(3, 3), mode="fan")),
        ("matrix", lambda: ndl.init.eye_(ndl.zeros(3))),
        ("axes", lambda: ndl.init.dirac_(ndl.zeros(3, 3))),
        ("groups", lambda: ndl.init.dirac_(ndl.zeros(3, 3, 3), groups=2)),
        ("sparsity", lambda: ndl.init.sparse_(ndl.zeros(3, 3), 1.5)),
    ],
)
def test_wrong_arguments(match: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=match):
        call()
