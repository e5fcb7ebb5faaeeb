"""Training steps of every kind of model: compiled as eager, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import data, models, nn, optim
from needle.jit.runtime.compiler import NoCompiler, find_compiler


def why_not() -> str:
    try:
        find_compiler()
    except NoCompiler as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

Batch = tuple[ndl.Tensor, ndl.Tensor]
VOCABULARY = 11


@dataclass
class Setup:
    """A model, what it trains on, and how long."""

    model: Callable[[], nn.Module]
    batches: Callable[[int], list[Batch]]
    optimizer: Callable[[Any], optim.Optimizer]
    steps: int
    logits: Callable[[nn.Module, ndl.Tensor], ndl.Tensor] = lambda model, x: model(x)
    rounding: float = 2e-5  # how far runs may drift apart, as a part of an array's largest number


def digits(n: int) -> list[Batch]:
    """Batches of 100 digits."""
    images, labels = data.DigitsDataset()[np.arange(1400)]
    rows = [np.arange(i * 100, i * 100 + 100) % 1400 for i in range(n)]
    return [(ndl.Tensor(images[r].reshape(100, 64)), ndl.Tensor(labels[r])) for r in rows]


def images(n: int) -> list[Batch]:
    """Batches of 4 random images."""
    random = np.random.RandomState(2)
    return [
        (ndl.Tensor(random.rand(4, 3, 32, 32)), ndl.Tensor(random.randint(0, 10, 4)))
        for _ in range(n)
    ]


def tokens(n: int) -> list[Batch]:
    """Batches of 3 sequences of 6 tokens, and the tokens that follow."""
    random = np.random.RandomState(3)
    rows = [random.randint(0, VOCABULARY, (3, 7)) for _ in range(n)]
    return [(ndl.Tensor(r[:, :-1]), ndl.Tensor(r[:, 1:].reshape(-1))) for r in rows]


def sgd(parameters: Any, lr: float = 0.1) -> optim.Optimizer:
    return optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)


def adamw(parameters: Any) -> optim.Optimizer:
    # With a smaller eps, Adam makes whole steps of gradients that are rounding only.
    return optim.AdamW(parameters, lr=1e-2, eps=1e-4, weight_decay=0.01)


def language_model(kind: str, layers: int = 2, optimizer: Any = adamw) -> Setup:
    return Setup(
        lambda: models.LanguageModel(8, VOCABULARY, 12, layers, kind, seq_len=6),
        tokens, optimizer, 10, lambda model, x: model.predict_tokens(x),
    )  # fmt: skip


def gpt(activation: str) -> Setup:
    return Setup(
        lambda: models.GPT(VOCABULARY, 6, 16, 1, 2, dropout=0.1, activation=activation),
        tokens, adamw, 10, lambda model, x: model.predict_tokens(x),
    )  # fmt: skip


SETUPS = {
    "mlp": Setup(lambda: models.MLPResNet(64, 64, 2, drop_prob=0.1), digits, sgd, 200),
    # BatchNorm over the four numbers of its last layers: an input that moves by one rounding moves
    # gradients by 1e-4 of the largest.
    "resnet9": Setup(models.ResNet9, images, lambda p: sgd(p, 0.01), 3, rounding=5e-4),
    "rnn": language_model("rnn"),
    "lstm": language_model("lstm"),
    "transformer": language_model("transformer", 1, sgd),
    "gpt relu": gpt("relu"),
    "gpt gelu": gpt("gelu"),
}


@dataclass
class Run:
    """A training run and what is left after it."""

    setup: Setup
    compiled: bool
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        np.random.seed(0)
        setup = self.setup
        self.model = setup.model()
        self.optimizer = setup.optimizer(self.model.parameters())

        def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
            loss = ndl.cross_entropy(setup.logits(self.model, x), y)
            self.optimizer.reset_grad()
            loss.backward()
            self.optimizer.step()
            return loss

        self.step: Any = ndl.jit(step) if self.compiled else step
        for x, y in setup.batches(setup.steps):
            self.losses.append(self.step(x, y).item())

    def state(self) -> dict[str, np.ndarray]:
        """Parameters and buffers, and the optimizer's moments."""
        named = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        for i, moments in enumerate(self.optimizer.state.values()):
            for name, value in moments.items():
                if isinstance(value, ndl.Tensor):
                    named[f"{name} {i}"] = value.numpy()
        return named


@cache
def trained(name: str, compiled: bool) -> Run:
    """The run of a setup, made once for all tests."""
    return Run(SETUPS[name], compiled)


# ---- the tests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETUPS)
def test_training_equals_eager_training(name):
    eager, compiled, limit = trained(name, False), trained(name, True), SETUPS[name].rounding
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=limit)
    expected, actual = eager.state(), compiled.state()
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        largest = np.abs(array).max()
        np.testing.assert_allclose(actual[key], array, 0, limit * largest + 1e-6, err_msg=key)


@pytest.mark.parametrize("name", SETUPS)
def test_it_is_compiled_once(name):
    assert trained(name, True).step.compilations == 1


@pytest.mark.parametrize("name", SETUPS)
def test_two_runs_are_the_same_bit_for_bit(name):
    first, second = trained(name, True), Run(SETUPS[name], True)
    assert first.losses == second.losses
    expected = first.state()
    for key, array in second.state().items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)


def test_the_mlp_has_learned():
    losses = trained("mlp", True).losses
    assert losses[-1] < 0.1 * losses[0]


def test_a_steady_training_loop_asks_the_system_for_no_memory():
    run = trained("mlp", True)
    batches = digits(50)
    run.step(*batches[0])
    before = ndl.memory_stats()["allocations"]
    for x, y in batches:
        run.step(x, y)
    assert ndl.memory_stats()["allocations"] == before


def test_a_training_step_copies_no_parameter():
    text = trained("mlp", True).step.explain()
    assert text.endswith("0 outputs are copied")


@pytest.mark.parametrize(
    ("name", "kernels", "profile"),
    [("gpt gelu", ("attention", "attention_grad", "matmul", "loop"), False),
     ("rnn", ("rnn", "rnn_grad", "matmul", "loop"), True)],
)  # fmt: skip
def test_the_explanation(name, kernels, profile):
    run = trained(name, True)
    before = run.state()
    text = run.step.explain(profile)
    for key, array in run.state().items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)
    *lines, total, memory = text.splitlines()
    assert total.startswith(f"{len(lines)} kernels, ")
    assert memory.startswith("memory: an arena of ")
    for line in lines:
        assert "MFLOP" in line
        assert (" us " in line and "GFLOP/s" in line) == profile
    for kernel in kernels:
        assert any(f" {kernel} " in line for line in lines), kernel
