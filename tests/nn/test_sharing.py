"""Shared parameters: counted once, everywhere, and shapes that do not fit are errors at once."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.nn import functional as F


class Tied(nn.Module):
    """A table of words that is the last layer's weight, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7).tie(self.embedding.weight)

    def forward(self, x):
        return self.head(self.embedding(x))


class Functional(Tied):
    def forward(self, x):
        return F.linear(self.embedding(x), self.embedding.weight, self.head.bias)


class Equal(nn.Module):
    """Two layers of one shape that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.a, self.b = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(self.embedding(x)))


WORDS = np.array([[1, 2, 3], [4, 4, 0]])


def train(model, compiled: bool, steps: int = 3) -> list[float]:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = ndl.tensor(WORDS)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    run = ndl.jit(step) if compiled else step
    return [run(x).item() for _ in range(steps)]


def made(kind):
    np.random.seed(0)
    return kind()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Tied, ["embedding.weight", "head.bias"]),
        (Equal, ["embedding.weight", "a.weight", "a.bias", "b.bias"]),
    ],
)
def test_a_shared_parameter_is_one(kind, names):
    model = made(kind)
    assert [n for n, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == names
    all_names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    assert len(all_names) == len(names) + 1
    assert len(optim.SGD(model.parameters()).params) == len(names)
    eager = train(model, compiled=False)
    np.testing.assert_allclose(train(made(kind), compiled=True), eager, rtol=1e-5)
    clone = copy.deepcopy(model)
    assert [n for n, _ in clone.named_parameters()] == names
    assert clone.parameters()[0] is not model.parameters()[0]
    buffer = io.BytesIO()
    ndl.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = made(kind)
    other.load_state_dict(ndl.load(buffer))
    for m in (clone, other):
        np.testing.assert_array_equal(
            m(ndl.tensor(WORDS)).numpy(), model(ndl.tensor(WORDS)).numpy()
        )
        np.testing.assert_allclose(train(m, False), train(copy.deepcopy(model), False), rtol=1e-6)


def test_tied_and_functional_forms_are_equal():
    np.testing.assert_allclose(train(made(Tied), False), train(made(Functional), False), rtol=1e-6)


def test_other_names_may_be_loaded():
    model, state = made(Equal), made(Equal).state_dict()
    keys = model.load_state_dict({**state, "b.weight": state["a.weight"]})
    assert keys == ([], [])
    state["b.weight"] = state.pop("a.weight") * 0 + 3.0
    model.load_state_dict(state)
    assert (model.a.weight.numpy() == 3).all()
    assert model.get_parameter("b.weight") is model.a.weight


def test_shapes_that_do_not_fit():
    embedding, head = nn.Embedding(7, 4), nn.Linear(4, 7)
    with pytest.raises(ValueError, match=r"layer\.tie\(embedding\.weight\).*F\.linear"):
        head.weight = embedding.weight
    with pytest.raises(ValueError, match=r"shape \(4, 7\).*shape \(3, 2\); make a layer"):
        head.weight = nn.Parameter(ndl.ones(3, 2))
    with pytest.raises(ValueError, match=r"\[Conv2d\] weight .*from_torch_state_dict"):
        nn.Conv2d(3, 8, 5).weight = nn.Parameter(ndl.ones(8, 3, 5, 5))
    with pytest.raises(ValueError, match=r"\(7, 4\), got shape \(4, 7\)"):
        head.tie(nn.Parameter(ndl.ones(4, 7)))
    with pytest.raises(TypeError, match=r"embedding\.weight, got Embedding"):
        head.tie(embedding)
    with pytest.raises(ValueError, match=r"nn\.Linear is \(in, out\).*weight\.T"):
        F.linear(ndl.ones(2, 4), head.weight)

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(ndl.ones(3))

    mine = Mine()
    mine.table = nn.Parameter(ndl.ones(5))  # a user's own module may grow
    assert mine.table.shape == (5,)
