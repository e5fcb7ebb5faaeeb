"""Metrics against references in float64 NumPy, batch by batch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle.train import Metric
from needle.train.metrics import (
    F1,
    R2,
    Accuracy,
    Confusion,
    MeanAbsoluteError,
    MeanSquaredError,
    Perplexity,
    TopK,
)

Reference = Callable[[np.ndarray, np.ndarray], object]


def confusion(n: int) -> Reference:
    def reference(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        matrix = np.zeros((n, n), np.int64)
        np.add.at(matrix, (target, logits.argmax(1)), 1)
        return matrix

    return reference


def top(k: int) -> Reference:
    def reference(logits: np.ndarray, target: np.ndarray) -> float:
        best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        return float((best == target[:, None]).any(1).mean())

    return reference


def f1(n: int, average: str | None) -> Reference:
    """As scikit-learn's `f1_score(zero_division=0)` for the classes that occur."""

    def reference(logits: np.ndarray, target: np.ndarray) -> object:
        predicted = logits.argmax(1)
        right, found, true = (
            np.array([np.sum(mask(c)) for c in range(n)], float)
            for mask in (
                lambda c: (predicted == c) & (target == c),
                lambda c: predicted == c,
                lambda c: target == c,
            )
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = np.nan_to_num(right / found), np.nan_to_num(right / true)
            score = np.nan_to_num(2 * precision * recall / (precision + recall))
        if average == "micro":
            return right.sum() / len(target)
        if average == "binary":
            return score[1]
        if average == "weighted":
            return np.average(score, weights=true)
        return score if average is None else score[found + true > 0].mean()

    return reference


def perplexity(logits: np.ndarray, target: np.ndarray) -> float:
    logits = logits - logits.max(1, keepdims=True)
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(target)), target]
    return float(np.exp(entropy.mean()))


def r2(output: np.ndarray, target: np.ndarray) -> float:
    return float(1 - np.square(target - output).sum() / np.square(target - target.mean()).sum())


class Case(NamedTuple):
    metric: Metric
    reference: Reference
    classes: int = 7  # 0 for regression


CASES = [
    Case(Accuracy(), top(1)),
    Case(TopK(1), top(1)),
    Case(TopK(3), top(3)),
    Case(Confusion(7), confusion(7)),
    Case(Confusion(9), confusion(9), 7),
    *(Case(F1(9, average), f1(9, average), 7) for average in ("macro", "micro", "weighted", None)),
    Case(F1(2, "binary"), f1(2, "binary"), 2),
    Case(Perplexity(), perplexity),
    Case(MeanAbsoluteError(), lambda x, y: np.abs(x - y).mean(), 0),
    Case(MeanSquaredError(), lambda x, y: np.square(x - y).mean(), 0),
    Case(R2(), r2, 0),
]
BATCHES = (5, 16, 1)


def batches(classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(classes)
    if not classes:  # a large mean, which the variance must not drown in
        return [
            (rng.normal(500, 1, (n, 3)).astype("f"), rng.normal(500, 2, (n, 3)).astype("f"))
            for n in BATCHES
        ]
    return [
        # Whole logits, so that many are equal.
        (rng.integers(-4, 5, (n, classes)).astype("f"), rng.integers(0, classes, n))
        for n in BATCHES
    ]


def name(case: object) -> str:
    metric = case.metric if isinstance(case, Case) else case
    return f"{type(metric).__name__}-{getattr(metric, 'average', '')}{getattr(metric, 'k', '')}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_is_that_of_the_reference(case: Case) -> None:
    data = batches(case.classes)
    case.metric.reset()
    for output, target in data:
        case.metric.update(ndl.Tensor(output), ndl.Tensor(target))
    output, target = (np.concatenate(parts) for parts in zip(*data, strict=True))
    expected = case.reference(output.astype(np.float64), target.astype(np.result_type(target, 0)))
    np.testing.assert_allclose(case.metric.compute(), expected, rtol=1e-5)


def test_statistics_are_the_same_compiled() -> None:
    data = {n: [ndl.Tensor(array) for array in batches(n)[0]] for n in (0, 2, 7)}

    def all_statistics(data: dict[int, list[ndl.Tensor]]) -> list[ndl.Tensor]:
        return [case.metric.statistics(*data[case.classes]) for case in CASES]

    compiled = ndl.jit(all_statistics)(data)
    for case, found, expected in zip(CASES, compiled, all_statistics(data), strict=True):
        assert found.dtype == expected.dtype, name(case)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, err_msg=name(case))


def test_classes_are_axis_1_or_the_last_one() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(4, 6, 5)).astype("f"), rng.integers(0, 5, (4, 6))
    flat = Accuracy().update(ndl.Tensor(logits.reshape(24, 5)), ndl.Tensor(target.reshape(24)))
    last = Accuracy().update(ndl.Tensor(logits), ndl.Tensor(target))
    first = Accuracy().update(ndl.Tensor(logits.transpose(0, 2, 1).copy()), ndl.Tensor(target))
    assert flat.compute() == last.compute() == first.compute()
    square = ndl.zeros(2, 3, 3), ndl.zeros(2, 3, dtype="int64")
    with pytest.raises(ValueError, match=r"axes 1 and 2 .*pass axis=1 or axis=2"):
        Accuracy().update(*square)
    Accuracy(axis=-1).update(*square)
    with pytest.raises(ValueError, match=r"\[TopK\] an output of shape \(4, 6, 5\)"):
        TopK(2).update(ndl.Tensor(logits), ndl.zeros(4, 7, dtype="int64"))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_two_classes_may_have_one_logit(shape: tuple[int, ...]) -> None:
    logits = ndl.Tensor(np.array([-1.0, 2.0, 0.5, -3.0, 0.0, 9.0], "f").reshape(shape))
    target = ndl.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert Accuracy().update(logits, target).compute() == 4 / 6
    assert Confusion(2).update(logits, target).compute().tolist() == [[2, 1], [1, 2]]  # type: ignore[union-attr]


@pytest.mark.parametrize("metric", [Accuracy, TopK, Perplexity])
def test_ignored_targets_do_not_count(metric: Callable[..., Metric]) -> None:
    logits = np.random.default_rng(0).normal(size=(8, 5)).astype("f")
    target = np.array([0, 4, -100, 2, -100, 1, 3, -100])
    options = {"k": 2} if metric is TopK else {}
    kept = target >= 0
    some = metric(ignore=-100, **options).update(ndl.Tensor(logits), ndl.Tensor(target))
    alone = metric(**options).update(ndl.Tensor(logits[kept]), ndl.Tensor(target[kept]))
    np.testing.assert_allclose(some.compute(), alone.compute(), rtol=1e-6)


def test_nan_is_never_right() -> None:
    logits = ndl.Tensor(np.full((3, 4), np.nan, "f"))
    assert TopK(3).update(logits, ndl.tensor([0, 1, 2])).compute() == 0


def test_without_samples_there_is_no_result() -> None:
    with pytest.raises(RuntimeError, match="compute needs an update"):
        Accuracy().compute()
    for metric in (Accuracy(), TopK(), Perplexity(), MeanSquaredError()):
        assert np.isnan(metric.result(np.zeros(4)))
    assert np.isnan(R2().result(np.zeros((2, 4))))
    assert np.isnan(F1(3).result(np.zeros((3, 3))))


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    assert Perplexity().result(np.array([1e4, 1.0])) == np.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), r"\[TopK\] k must be a positive"),
        (lambda: Confusion(1), r"\[Confusion\] classes must be .* at least 2"),
        (lambda: F1(3, "samples"), r"\[F1\] average must be one of"),
        (lambda: F1(3, "binary"), r"\[F1\] average='binary' needs classes=2"),
        (lambda: TopK(4).update(ndl.zeros(2, 3), ndl.tensor([0, 1])), "k=4 needs as many classes"),
        (lambda: R2().update(ndl.zeros(4, 1), ndl.zeros(4)), r"the same shape, got \(4, 1\)"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
