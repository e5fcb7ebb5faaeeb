"""Methods that are functions: the file that type checkers read, and changes in place."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn

ROOT = Path(__file__).parents[2]


def test_the_stubs_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("method_stubs", ROOT / "tools/method_stubs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FILE.read_text() == module.stubs(), "run python tools/method_stubs.py"


def test_what_used_the_old_value_says_so() -> None:
    x = ndl.Tensor([1.0, 2.0])
    h = x * 2.0
    old = h + 1.0  # needs no value of h, but its place in the graph
    h.mul_(3.0)
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 6])
    with pytest.raises(RuntimeError, match="changed or replaced"):
        old.sum().backward()


def test_a_view_that_alone_knows_its_memory_is_changed() -> None:
    x = ndl.Tensor([1.0, 2.0, 3.0, 4.0])
    rows = (x * 3.0).reshape(2, 2)
    rows[0] = 0.0
    rows.mul_(2.0)
    rows.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 6, 6])

    layer = nn.Conv2d(1, 1, 1, bias=False)  # its result is a view of channels-last images

    def loss(images: ndl.Tensor) -> ndl.Tensor:
        y = layer(images)
        y[y < 0] = 0.0
        y.mul_(2.0)
        layer.zero_grad()
        total = y.sum()
        total.backward()
        return total

    images = ndl.tensor(np.arange(-2.0, 2.0).reshape(1, 1, 2, 2))
    for step in (loss, ndl.jit(loss)):
        layer.weight.data = ndl.ones(1, 1, 1, 1)
        assert step(images).item() == 2.0
        np.testing.assert_array_equal(layer.weight.grad.numpy().ravel(), [2.0])


def test_in_place_refuses() -> None:
    leaf = ndl.Tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        leaf.add_(1.0)
    with ndl.no_grad():
        leaf.add_(1.0)
    np.testing.assert_array_equal(leaf.numpy(), [2, 3])
    h = leaf * 1.0
    with pytest.raises(RuntimeError, match="view of another one"):
        h[0:1].zero_()
    rows = h.reshape(1, 2)
    with pytest.raises(RuntimeError, match=r"write x = x.clone\(\)"):
        rows[0] = 0.0
    with pytest.raises(ValueError, match="works in place"):
        ndl.zeros(2).add_(ndl.ones(3, 2))
    with pytest.raises(TypeError):
        ndl.arange(3).add_(0.5)


def test_writes_into_a_graph() -> None:
    """Values that are written take their gradients with them."""
    x = ndl.Tensor([1.0, 2.0, 3.0])
    out = ndl.zeros(2, 3)
    for i in range(2):
        out[i] = x * float(i + 1)
    out[0, 0] = 5.0
    (out * out).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [8, 20, 30])


def test_random_numbers_in_place() -> None:
    ndl.manual_seed(0)
    x = ndl.empty(1000).normal_(2.0, 0.5)
    assert abs(x.mean().item() - 2) < 0.1
    assert abs(x.std().item() - 0.5) < 0.1
    y = ndl.zeros(1000).uniform_(-1, 1)
    assert -1 <= y.min().item() < y.max().item() < 1
    assert 0.4 < ndl.zeros(1000).bernoulli_(0.5).mean().item() < 0.6
    with pytest.raises(TypeError, match="floating dtype"):
        ndl.arange(3).normal_()


def test_size_and_leaves_answer_both_ways() -> None:
    x = ndl.ones(2, 3)
    assert (x.size, x.size(), x.size(1), x.size(dim=-1)) == (6, (2, 3), 3, 3)
    assert x.is_leaf
    assert x.is_leaf()
    y = ndl.Tensor([1.0]) * 2.0
    assert not y.is_leaf
    assert not y.is_leaf()


def test_multinomial_and_permutations() -> None:
    ndl.manual_seed(1)
    weights = ndl.tensor([1.0, 0.0, 3.0])
    drawn = ndl.multinomial(weights, 4000, replacement=True).numpy()
    counts = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.25, 0, 0.75], atol=0.03)
    assert sorted(ndl.multinomial(weights, 2).tolist()) == [0, 2]
    assert sorted(ndl.randperm(10).tolist()) == list(range(10))
    draws = ndl.randint(3, 6, (1000,))
    assert draws.dtype == "int64"
    assert set(draws.tolist()) == {3, 4, 5}
