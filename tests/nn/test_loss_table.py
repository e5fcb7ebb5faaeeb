"""Every loss with every option against PyTorch: values and gradients, eager and compiled.

`make(module)` builds the loss from the arguments' own framework; the first inputs are
differentiated, the targets are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")

RNG = np.random.RandomState(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.randn(*shape).astype("float32")


def between(low: float, high: float, *shape: int) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype("float32")


def signs(*shape: int) -> np.ndarray:
    return np.where(RNG.rand(*shape) < 0.5, -1, 1).astype("float32")


def classes(n: int, *shape: int) -> np.ndarray:
    return RNG.randint(0, n, shape)


def probabilities(*shape: int) -> np.ndarray:
    x = RNG.rand(*shape)
    return (x / x.sum(1, keepdims=True)).astype("float32")


@dataclass
class Case:
    name: str
    options: dict[str, Any]
    inputs: Sequence[np.ndarray]
    targets: Sequence[Any]
    reductions: Sequence[str] = ("mean", "sum", "none")

    def __str__(self) -> str:
        told = "-".join(
            f"{k}={v.shape if isinstance(v, np.ndarray) else v}" for k, v in self.options.items()
        )
        return f"{self.name}-{told}-{self.inputs[0].shape}"


WEIGHTS = np.array([0.5, 2.0, 1.0, 0.25], "float32")
LABELS, DENSE = classes(4, 6), classes(4, 2, 3, 5)
SKIPPING = np.array([0, 3, 2, 1, 2, 0])
LOG_PROBABILITIES = np.log(probabilities(6, 4))
CE, NLL = "CrossEntropyLoss", "NLLLoss"
FIRST = np.array([[3, 0, -1, 1], [1, -1, -1, -1], [0, 1, 2, 3]])
CTC_TARGETS = np.array([[1, 1, 2], [3, 0, 0], [2, 1, 3], [0, 0, 0]])
CTC_LENGTHS = (np.array([7, 5, 2, 3]), np.array([3, 1, 3, 0]))  # the third has too few steps


CASES = [
    Case(CE, {}, [floats(6, 4)], [LABELS]),
    Case(CE, {}, [floats(2, 4, 3, 5)], [DENSE]),
    Case(CE, {}, [floats(4)], [np.array(2)]),
    Case(CE, {"weight": WEIGHTS}, [floats(6, 4)], [LABELS]),
    Case(CE, {"weight": WEIGHTS, "ignore_index": 2}, [floats(6, 4)], [SKIPPING]),
    Case(CE, {"weight": WEIGHTS, "ignore_index": 2, "label_smoothing": 0.2}, [floats(6, 4)],
         [SKIPPING]),
    Case(CE, {"label_smoothing": 0.2}, [floats(2, 4, 3, 5)], [DENSE]),
    Case(CE, {"weight": WEIGHTS, "label_smoothing": 0.1}, [floats(2, 4, 3, 5)], [DENSE]),
    Case(CE, {}, [floats(6, 4)], [probabilities(6, 4)]),
    Case(CE, {}, [floats(2, 4, 3)], [probabilities(2, 4, 3)]),
    Case(CE, {"weight": WEIGHTS, "label_smoothing": 0.1}, [floats(6, 4)], [probabilities(6, 4)]),
    Case(NLL, {}, [LOG_PROBABILITIES], [LABELS]),
    Case(NLL, {"weight": WEIGHTS, "ignore_index": 2}, [LOG_PROBABILITIES], [SKIPPING]),
    Case(NLL, {"weight": WEIGHTS}, [floats(2, 4, 3, 5)], [DENSE]),
    Case("BCELoss", {}, [between(0.01, 0.99, 4, 3)], [between(0, 1, 4, 3)]),
    Case("BCELoss", {"weight": between(0, 1, 3)}, [between(0.01, 0.99, 4, 3)], [signs(4, 3) > 0]),
    Case("BCEWithLogitsLoss", {"pos_weight": between(0.5, 3, 3)}, [floats(4, 3) * 9],
         [between(0, 1, 4, 3)]),
    Case("BCEWithLogitsLoss", {"weight": between(0, 1, 4, 1), "pos_weight": between(0.5, 3, 3)},
         [floats(4, 3)], [between(0, 1, 4, 3)]),
    Case("SmoothL1Loss", {}, [floats(4, 3) * 2], [floats(4, 3)]),
    Case("SmoothL1Loss", {"beta": 0.4}, [floats(4, 3)], [floats(4, 3)]),
    Case("SmoothL1Loss", {"beta": 0.0}, [floats(4, 3)], [floats(4, 3)]),
    Case("HuberLoss", {"delta": 0.7}, [floats(4, 3) * 2], [floats(4, 3)]),
    Case("GaussianNLLLoss", {}, [floats(4, 3)], [floats(4, 3), between(0.1, 2, 4, 3)]),
    Case("GaussianNLLLoss", {"full": True, "eps": 0.5}, [floats(4, 3)],
         [floats(4, 3), between(0.1, 2, 4, 1)]),
    Case("GaussianNLLLoss", {}, [floats(4, 3)], [floats(4, 3), between(0.1, 2, 4)]),
    Case("PoissonNLLLoss", {"full": True}, [floats(4, 3)], [classes(5, 4, 3).astype("float32")]),
    Case("PoissonNLLLoss", {"log_input": False}, [between(0.1, 3, 4, 3)],
         [classes(5, 4, 3).astype("float32")]),
    Case("MarginRankingLoss", {"margin": 0.3}, [floats(5), floats(5)], [signs(5)]),
    Case("HingeEmbeddingLoss", {"margin": 0.8}, [floats(4, 3)], [signs(4, 3)]),
    Case("SoftMarginLoss", {}, [floats(4, 3) * 5], [signs(4, 3)]),
    Case("CosineEmbeddingLoss", {"margin": 0.1}, [floats(5, 3), floats(5, 3)], [signs(5)]),
    Case("CosineEmbeddingLoss", {}, [floats(3), floats(3)], [np.float32(1.0)]),
    Case("TripletMarginLoss", {}, [floats(5, 3), floats(5, 3), floats(5, 3)], []),
    Case("TripletMarginLoss", {"margin": 0.5, "p": 3.0, "swap": True},
         [floats(5, 3), floats(5, 3), floats(5, 3)], []),
    Case("TripletMarginWithDistanceLoss", {"swap": True},
         [floats(5, 3), floats(5, 3), floats(5, 3)], []),
    Case("MultiMarginLoss", {}, [floats(6, 4)], [LABELS]),
    Case("MultiMarginLoss", {"p": 2, "margin": 0.5, "weight": WEIGHTS}, [floats(6, 4)], [LABELS]),
    Case("MultiMarginLoss", {}, [floats(4)], [np.array(1)]),
    Case("MultiLabelMarginLoss", {}, [floats(3, 4)], [FIRST]),
    Case("MultiLabelMarginLoss", {}, [floats(4)], [FIRST[0]]),
    Case("MultiLabelSoftMarginLoss", {"weight": WEIGHTS}, [floats(6, 4)],
         [(signs(6, 4) > 0).astype("float32")]),
    Case("CTCLoss", {"zero_infinity": True}, [floats(7, 4, 4)], [CTC_TARGETS, *CTC_LENGTHS]),
    Case("CTCLoss", {"blank": 3}, [floats(9, 2, 4)],
         [np.array([[1, 0, 0, 2], [2, 2, 0, 0]]), np.array([9, 8]), np.array([4, 2])]),
]  # fmt: skip


def torch_loss(case: Case, reduction: str) -> tuple[np.ndarray, list[np.ndarray]]:
    options = {
        k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.options.items()
    }
    loss_fn = getattr(torch.nn, case.name)(reduction=reduction, **options)
    inputs = [torch.tensor(x, requires_grad=True) for x in case.inputs]
    targets = [torch.tensor(t.astype("float32") if t.dtype == bool else t) for t in case.targets]
    # PyTorch's gradient of its CTC loss is right behind log_softmax alone.
    given = [torch.log_softmax(inputs[0], -1)] if case.name == "CTCLoss" else inputs
    loss = loss_fn(*given, *targets)
    loss.sum().backward()
    return loss.detach().numpy(), [x.grad.numpy() for x in inputs]


def compare(actual: Any, gradients: Sequence[Any], expected: Any) -> None:
    values, exact = expected
    np.testing.assert_allclose(np.asarray(actual), values, rtol=2e-5, atol=1e-6)
    assert actual.shape == values.shape
    for g, e in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(np.asarray(g), e, rtol=1e-4, atol=2e-6)


def run(loss_fn: nn.Module, inputs: Sequence[ndl.Tensor], targets: Sequence[Any]) -> Any:
    given = [inputs[0].log_softmax(-1)] if isinstance(loss_fn, nn.CTCLoss) else inputs
    loss = loss_fn(*given, *targets)
    loss.sum().backward()
    return loss, [x.grad for x in inputs]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_pytorchs(device: ndl.Device, case: Case, reduction: str) -> None:
    loss_fn = getattr(nn, case.name)(reduction=reduction, **case.options).to(device)
    inputs = [ndl.Tensor(x, device=device) for x in case.inputs]
    targets = [ndl.Tensor(t, device=device, requires_grad=False) for t in case.targets]
    compare(*run(loss_fn, inputs, targets), torch_loss(case, reduction))


PROGRAMS = 4  # each compiles every fourth case: one program for each case would take minutes


@pytest.mark.parametrize("part", range(PROGRAMS))
def test_compiled(part: int) -> None:
    cases = CASES[part::PROGRAMS]
    losses = [getattr(nn, case.name)(**case.options) for case in cases]
    given = [
        (
            [ndl.Tensor(x) for x in case.inputs],
            [ndl.Tensor(t, requires_grad=False) for t in case.targets],
        )
        for case in cases
    ]
    compiled = ndl.jit(
        lambda given: [run(loss, *pair) for loss, pair in zip(losses, given, strict=True)]
    )
    for _ in range(2):
        for case, found in zip(cases, compiled(given), strict=True):
            compare(*found, torch_loss(case, "mean"))


TWICE = ("CrossEntropyLoss", "BCEWithLogitsLoss", "GaussianNLLLoss", "HuberLoss")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in TWICE], ids=str)
def test_gradients_of_gradients(case: Case) -> None:
    options = {
        k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.options.items()
    }
    x = ndl.Tensor(case.inputs[0])
    loss_fn = getattr(nn, case.name)(**case.options)
    loss_fn(x, *[ndl.Tensor(t, requires_grad=False) for t in case.targets]).backward()
    g = x.grad
    (g * g).sum().backward()
    t = torch.tensor(case.inputs[0], requires_grad=True)
    loss_fn = getattr(torch.nn, case.name)(**options)
    loss = loss_fn(t, *[torch.tensor(target) for target in case.targets])
    (g,) = torch.autograd.grad(loss, t, create_graph=True)
    (g * g).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_ctc_of_targets_in_one_row(device: ndl.Device) -> None:
    scores = ndl.Tensor(floats(7, 3, 4), device=device).log_softmax(-1)
    padded, lengths = np.array([[1, 1, 2], [3, 0, 0], [2, 1, 0]]), np.array([3, 1, 2])
    row = np.array([1, 1, 2, 3, 2, 1])
    loss_fn = nn.CTCLoss(reduction="none")
    losses = [loss_fn(scores, targets, [7, 5, 6], lengths).numpy() for targets in (padded, row)]
    np.testing.assert_array_equal(*losses)
    one = loss_fn(scores[:, 0], padded[0], [7], [3])
    assert one.shape == ()
    np.testing.assert_allclose(one.item(), losses[0][0], rtol=1e-6)


def test_ctc_without_an_alignment_is_infinite_with_a_gradient_of_zero(device: ndl.Device) -> None:
    scores = ndl.Tensor(floats(2, 1, 3), device=device)
    loss = nn.CTCLoss(reduction="sum")(scores, np.array([[1, 1]]), [2], [2])
    assert loss.item() == np.inf
    loss.backward()
    np.testing.assert_array_equal(scores.grad.numpy(), np.zeros((2, 1, 3)))


SCORES, FOUR = floats(2, 4), np.array([0, 1])


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, "reduction='sum'", lambda: nn.BCEWithLogitsLoss("sum")),
        (TypeError, "label_smoothing=0.1", lambda: nn.CrossEntropyLoss(0.1)),
        (TypeError, r'astype\("int64"\).*long', lambda: nn.CrossEntropyLoss()(
            ndl.Tensor(SCORES), ndl.Tensor([0.0, 1.0]))),
        (TypeError, r"labels must be integers", lambda: nn.NLLLoss()(
            ndl.Tensor(SCORES), ndl.Tensor([0.0, 1.0]))),
        (ValueError, "weight", lambda: nn.CrossEntropyLoss(np.ones(3, "float32"))(
            ndl.Tensor(SCORES), FOUR)),
        (ValueError, "shape", lambda: nn.CrossEntropyLoss()(ndl.Tensor(floats(2, 4, 3)), FOUR)),
        (ValueError, "margin_ranking_loss", lambda: nn.MarginRankingLoss()(
            ndl.Tensor(SCORES), ndl.Tensor(SCORES), FOUR)),
        (ValueError, "beta", lambda: nn.SmoothL1Loss(beta=-1.0)),
        (ValueError, "delta", lambda: nn.HuberLoss(delta=0.0)),
        (ValueError, "p must be", lambda: nn.MultiMarginLoss(p=3)),
        (ValueError, "reduction", lambda: nn.CTCLoss(reduction="batchmean")),
        (IndexError, "blank", lambda: nn.CTCLoss(blank=4)(
            ndl.Tensor(floats(3, 2, 4)), np.ones((2, 1), "int64"), [3, 3], [1, 1])),
        (ValueError, "input_lengths", lambda: nn.CTCLoss()(
            ndl.Tensor(floats(3, 2, 4)), np.ones((2, 1), "int64"), [3, 4], [1, 1])),
        (ValueError, "sum", lambda: nn.CTCLoss()(
            ndl.Tensor(floats(3, 2, 4)), np.ones(3, "int64"), [3, 3], [1, 1])),
        (ValueError, "var", lambda: nn.GaussianNLLLoss()(
            ndl.Tensor(SCORES), ndl.Tensor(SCORES), ndl.Tensor(np.ones(3, "float32")))),
        (ValueError, "cosine_embedding_loss", lambda: nn.CosineEmbeddingLoss()(
            ndl.Tensor(SCORES), ndl.Tensor(SCORES), ndl.Tensor(np.ones(4, "float32")))),
    ],
)  # fmt: skip
def test_wrong_arguments(error: type[Exception], match: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=match):
        call()


def test_weights_move_with_the_module_and_are_saved() -> None:
    loss_fn = nn.CrossEntropyLoss(WEIGHTS)
    assert list(loss_fn.state_dict()) == ["weight"]
    assert loss_fn.to("float64").weight.dtype == "float64"
