"""Evaluation sample by sample."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.train import RunFolder
from needle.train.callbacks import ConfusionFile
from needle.train.evaluation import evaluate_samples
from needle.train.records import read_record


def batches(scores, target, size):
    return [
        (ndl.Tensor(scores[i : i + size]), ndl.Tensor(target[i : i + size]))
        for i in range(0, len(scores), size)
    ]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_worst_are_the_same_for_every_batch_size(size):
    rng = np.random.RandomState(0)
    scores, target = rng.randn(10, 4).astype("float32") * 3, rng.randint(4, size=10)
    found = evaluate_samples(
        nn.Identity(), batches(scores, target, size), nn.SoftmaxLoss(), {}, most=3
    )
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    losses = -np.log(chances[np.arange(10), target])
    assert found.values["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    wrong = np.flatnonzero(chances.argmax(1) != target)
    expected = wrong[np.argsort(-losses[wrong])][:3]
    assert [mistake.place for mistake in found.worst] == expected.tolist()
    np.testing.assert_allclose([m.loss for m in found.worst], losses[expected], rtol=1e-5)
    np.testing.assert_allclose(found.worst[0].output, chances[expected[0]], rtol=1e-5)
    assert found.confusion.sum() == found.samples == 10
    assert np.trace(found.confusion) == 10 - len(wrong)


def test_a_model_without_mistakes_has_none():
    scores = np.eye(3, dtype="float32") * 9
    found = evaluate_samples(nn.Identity(), batches(scores, np.arange(3), 2), nn.SoftmaxLoss(), {})
    assert found.worst == []


class Text(nn.Module):
    """Always expects token 1, with chances that grow with the input's first token."""

    def forward(self, x):
        ids = x.numpy().reshape(-1)
        scores = np.zeros((len(ids), 3), "float32")
        scores[:, 1] = ids
        return ndl.Tensor(scores)


def test_texts_have_a_loss_for_each_token():
    ids = np.array([[0, 1, 2, 0], [5, 5, 5, 5]])
    targets = np.array([[1, 1, 1, 1], [0, 1, 0, 0]])
    batch = ndl.Tensor(ids), ndl.Tensor(targets.reshape(-1))
    found = evaluate_samples(Text(), [batch], nn.SoftmaxLoss(), {}, most=1)
    (mistake,) = found.worst
    assert (mistake.place, mistake.losses.shape) == (1, (4,))
    assert mistake.losses[1] < 0.1 < 4 < mistake.losses[0]
    assert mistake.target.tolist() == targets[1].tolist()
    assert found.confusion is None


def test_numbers_are_as_wrong_as_they_are_far_away():
    outputs, targets = np.array([1.0, 5, 2], "float32"), np.array([1.0, 1, 4], "float32")
    found = evaluate_samples(nn.Identity(), batches(outputs, targets, 2), nn.MSELoss(), {}, most=2)
    assert [(m.place, m.loss) for m in found.worst] == [(1, 4), (2, 2)]
    assert found.values["loss"] == pytest.approx((16 + 0 + 4) / 3)


def test_nan_is_the_worst_of_all():
    scores = np.array([[0, 3.0], [np.nan, 0]], "float32")
    found = evaluate_samples(
        nn.Identity(), batches(scores, np.array([0, 1]), 2), nn.SoftmaxLoss(), {}
    )
    assert found.worst[0].place == 1
    with pytest.raises(ValueError, match="no batch"):
        evaluate_samples(nn.Identity(), [], nn.SoftmaxLoss(), {})


def test_a_run_keeps_its_newest_confusion_matrix(tmp_path):
    callback = ConfusionFile(("cat", "dog"), "10 validation images")
    run = RunFolder.create("pets", tmp_path)
    run.write_config({})
    for step, matrix in ((1, [[1, 2], [3, 4]]), (2, [[5, 0], [0, 5]])):
        results = {"loss": 1.0, "confusion": np.array(matrix)}
        trainer = SimpleNamespace(run=run, results=results, progress=SimpleNamespace(step=step))
        callback.on_validation_end(trainer, {})
    confusion = read_record(run.path).confusion
    assert (confusion.classes, confusion.step) == (("cat", "dog"), 2)
    assert confusion.matrix.tolist() == [[5, 0], [0, 5]]
    assert json.loads(run.confusion.read_text())["data"] == "10 validation images"
    trainer.run, trainer.results = None, {}
    callback.on_validation_end(trainer, {})
