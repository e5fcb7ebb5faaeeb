"""Trainer: the loop, its limits, measurements and callbacks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.jit.runtime import compiler
from needle.jit.runtime.compiler import NoCompiler
from needle.train import Callback, History, Interrupted, Metric, RunFolder, Trainer, read_checkpoint
from needle.train.callbacks import EMA

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(6, 4, 3)).astype("float32")
LABELS = RNG.integers(0, 5, size=(6, 4))
BATCHES = [
    (ndl.tensor(x), ndl.tensor(y, dtype="int64")) for x, y in zip(INPUTS, LABELS, strict=True)
]


OTHER = optim.SGD(nn.Linear(3, 5).parameters(), lr=0.1)


class Hits(Metric):
    def statistics(self, output: ndl.Tensor, target: ndl.Tensor) -> ndl.Tensor:
        hits = (output.argmax(1) == target).astype("float32")
        return ndl.stack([hits.sum(), (hits * 0 + 1).sum()])

    def result(self, total: np.ndarray) -> float:
        return float(total[0] / total[1])


def trainer(**options: Any) -> Trainer:
    np.random.seed(0)
    model = nn.Linear(3, 5)
    optimizer = options.pop("optimizer", None) or optim.SGD(model.parameters(), lr=0.1)
    loss = options.pop("loss", None) or nn.SoftmaxLoss()
    return Trainer(model, optimizer, loss, **{"compiled": False, **options})


@pytest.mark.parametrize("compiled", [False, True])
def test_it_does_what_the_bare_loop_does(compiled: bool) -> None:
    mine = trainer(compiled=compiled, metrics={"accuracy": Hits()}, clip=0.5)
    other = trainer()
    mine.fit(BATCHES, epochs=2)
    for _ in range(2):
        for x, y in BATCHES:
            other.optimizer.reset_grad()
            nn.SoftmaxLoss()(other.model(x), y).backward()
            optim.clip_grad_norm(other.optimizer.params, 0.5)
            other.optimizer.step()
    for name, value in other.model.state_dict().items():
        np.testing.assert_allclose(
            mine.model.state_dict()[name].numpy(), value.numpy(), rtol=1e-5, atol=1e-7
        )
    found = mine.evaluate(BATCHES)
    logits = np.stack([mine.model(x).numpy() for x, _ in BATCHES])
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == LABELS).mean())
    assert mine.predict(BATCHES).shape == (24, 5)
    np.testing.assert_array_equal(mine.predict(BATCHES[0][0]), mine.predict(BATCHES)[:4])


@pytest.mark.parametrize("compiled", [False, True])
def test_accumulated_batches_are_one_large_batch_the_last_group_too(compiled: bool) -> None:
    small, large = trainer(accumulate=4, compiled=compiled), trainer()
    small.fit(BATCHES, epochs=1)
    joined = [
        (ndl.tensor(np.concatenate(INPUTS[i])), ndl.tensor(np.concatenate(LABELS[i])))
        for i in (slice(0, 4), slice(4, 6))
    ]
    large.fit(joined, epochs=1)
    assert small.progress.step == large.progress.step == 2
    np.testing.assert_allclose(
        small.model.weight.numpy(), large.model.weight.numpy(), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision_learns(amp: str) -> None:
    mine = trainer(amp=amp)
    mine.fit(BATCHES, epochs=5)
    assert mine.evaluate(BATCHES)["loss"] < trainer().evaluate(BATCHES)["loss"]


def test_inputs_are_one_argument_several_or_named() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, a: ndl.Tensor, b: ndl.Tensor) -> ndl.Tensor:
            return self.layer(a + b)

    x, y = BATCHES[0]
    losses = []
    for inputs in ((x, x), {"b": x, "a": x}):
        np.random.seed(1)
        model = Sum()
        mine = Trainer(
            model, optim.SGD(model.parameters(), lr=0.1), nn.SoftmaxLoss(), compiled=False
        )
        mine.fit([(inputs, y)], steps=3)
        losses.append(mine.loss())
    assert losses[0] == losses[1]


def test_limits_end_it_and_count_from_the_beginning() -> None:
    mine = trainer()
    mine.fit(BATCHES, steps=8)
    assert (mine.progress.epoch, mine.progress.batch, mine.progress.step) == (1, 2, 8)
    mine.fit(BATCHES, epochs=2)
    assert mine.progress.epoch == 3 - 1
    mine.fit(BATCHES, epochs=2)
    assert mine.reason == "2 epochs are done"
    mine.fit(BATCHES, time=0.0)
    assert mine.reason == "0 s are over"


def test_rows_are_means_since_the_last_row() -> None:
    mine = trainer(log_every=4, metrics={"accuracy": Hits()})
    history = mine.fit(BATCHES, BATCHES[:2], epochs=1, validate_every=3)
    assert [(row["step"], row["split"]) for row in history] == [
        (3, "train"), (3, "validation"), (4, "train"), (6, "train"), (6, "validation")
    ]  # fmt: skip
    assert [row["epoch"] for row in history] == pytest.approx([0.5, 0.5, 4 / 6, 1.0, 1.0])
    assert history.validation[-1]["loss"] == mine.evaluate(BATCHES[:2])["loss"]
    assert {"lr", "samples_per_second", "memory", "seconds", "accuracy"} <= history.train[0].keys()
    assert history.last("train") == history.rows[3]
    assert history.best("train/step", higher=True) == history.rows[3]


def test_sums_are_exact_over_batches_of_different_sizes() -> None:
    batches = [(x[:n], y[:n]) for (x, y), n in zip(BATCHES, (4, 1, 3, 2, 4, 4), strict=True)]
    mine = trainer(metrics={"accuracy": Hits()})
    losses = [nn.SoftmaxLoss()(mine.model(x), y).item() * len(y) for x, y in batches]
    found = mine.evaluate(batches)
    assert found["loss"] == pytest.approx(sum(losses) / 18, rel=1e-6)
    hits = sum((mine.predict([b]).argmax(1) == b[1].numpy()).sum() for b in batches)
    assert found["accuracy"] == hits / 18


def test_callbacks_are_called_in_order_and_can_stop() -> None:
    calls: list[str] = []

    class Recording(Callback):
        def on_fit_start(self, trainer: Trainer) -> None:
            calls.append("fit")

        def on_step_end(self, trainer: Trainer) -> None:
            calls.append(f"step {trainer.progress.step} {trainer.loss():.1f}")
            if trainer.progress.step == 8:
                trainer.stop("enough")

        def on_row(self, trainer: Trainer, row: dict[str, Any]) -> None:
            calls.append(row["split"])

        def on_validation_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
            calls.append("validated")

        def on_epoch_end(self, trainer: Trainer) -> None:
            calls.append(f"epoch {trainer.progress.epoch}")

        def on_fit_end(self, trainer: Trainer) -> None:
            calls.append("end")

    mine = trainer(callbacks=[Recording()])
    mine.fit(BATCHES[:3], BATCHES[:1], epochs=5)
    steps = [call for call in calls if call.startswith("step")]
    assert len(steps) == 8
    assert calls[0] == "fit"
    assert calls[4:8] == ["train", "validation", "validated", "epoch 1"]
    assert calls[-3:] == ["validation", "validated", "end"]
    assert mine.reason == "enough"


def test_an_error_reaches_the_callbacks_and_the_status(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    class Watching(Callback):
        def on_error(self, trainer: Trainer, error: BaseException) -> None:
            errors.append(error)

    def broken() -> Iterator[Any]:
        yield BATCHES[0]
        raise OSError("the disk is gone")

    mine = trainer(run=tmp_path / "run", callbacks=[Watching()])
    with pytest.raises(OSError, match="the disk is gone"):
        mine.fit(broken(), epochs=1)
    assert len(errors) == 1
    run = RunFolder(tmp_path / "run")
    assert run.state() == "failed"
    assert run.status()["message"] == "OSError: the disk is gone"


class Ending(Callback):
    """Notes its last calls."""

    def __init__(self, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.fails = fails

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        self.calls.append("error")

    def on_fit_end(self, trainer: Trainer) -> None:
        self.calls.append(f"end {type(trainer.error).__name__}")
        if self.fails:
            raise ValueError("a file cannot be closed")


class SendSIGINT(Callback):
    """Presses Ctrl-C after the second step."""

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_the_last_call_of_a_callback_comes_however_training_ends(tmp_path: Path) -> None:
    limit, interrupt, failure = Ending(), Ending(), Ending(fails=True)
    trainer(callbacks=[limit]).fit(BATCHES, epochs=1)
    assert limit.calls == ["end NoneType"]

    with pytest.raises(Interrupted):
        trainer(callbacks=[SendSIGINT(), interrupt]).fit(BATCHES, epochs=1)
    assert interrupt.calls == ["end NoneType"]

    last = Ending()
    mine = trainer(callbacks=[failure, last], run=tmp_path / "run")
    with pytest.raises(TypeError, match=r"\[fit\] a batch must be") as caught:
        mine.fit([BATCHES[0], 3], epochs=1)
    assert failure.calls == last.calls == ["error", "end TypeError"]
    assert "a file cannot be closed" in caught.value.__notes__[0]
    assert mine.error is caught.value

    failure, last = Ending(fails=True), Ending()
    mine = trainer(callbacks=[failure, last], run=tmp_path / "other")
    with pytest.raises(ValueError, match="a file cannot be closed"):
        mine.fit(BATCHES, epochs=1)
    assert last.calls == ["end NoneType"]
    assert mine.run is not None
    assert mine.run.state() == "failed"


def test_what_has_not_started_does_not_end() -> None:
    class Refusing(Ending):
        def on_fit_start(self, trainer: Trainer) -> None:
            raise ValueError("no folder")

    first, refusing = Ending(), Refusing()
    with pytest.raises(ValueError, match="no folder"):
        trainer(callbacks=[first, refusing]).fit(BATCHES, epochs=1)
    assert first.calls == ["error", "end ValueError"]
    assert refusing.calls == []


def test_checkpoints_of_interrupted_runs_hold_the_weights_that_were_trained(tmp_path: Path) -> None:
    average = EMA(0.5)
    mine = trainer(callbacks=[average, SendSIGINT()], run=tmp_path / "run")
    with pytest.raises(Interrupted):
        mine.fit(BATCHES, epochs=1)
    saved = read_checkpoint(tmp_path / "run")
    model = {name: x.numpy() for name, x in mine.model.state_dict().items()}
    for name, averaged in saved["callbacks"]["EMA"]["averages"].items():
        np.testing.assert_array_equal(model[name], averaged)
        assert not np.array_equal(model[name], saved["model"][name])


def test_a_validation_may_have_a_loss_of_its_own() -> None:
    smoothed = nn.SoftmaxLoss(label_smoothing=0.5)
    mine, plain = trainer(), trainer(validation_loss=smoothed)
    mine.fit(BATCHES, epochs=1)
    history = plain.fit(BATCHES, BATCHES, epochs=1)
    expected = np.mean([smoothed(mine.model(x), y).numpy() for x, y in BATCHES])
    assert history.validation[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert history.train[0]["loss"] == mine.history.train[0]["loss"]


def test_modes_are_restored_and_dropout_is_off_for_measuring() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 5))
    model.eval()
    mine = Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.SoftmaxLoss(), compiled=False)
    mine.fit(BATCHES, BATCHES, epochs=1)
    assert not model.training
    assert mine.evaluate(BATCHES) == mine.evaluate(BATCHES)


def test_an_optimizer_that_asks_for_the_loss_gets_a_closure() -> None:
    model = nn.Linear(3, 5)
    mine = Trainer(model, optim.LBFGS(model.parameters(), lr=0.5), nn.SoftmaxLoss(), compiled=False)
    history = mine.fit(BATCHES[:1], steps=6)
    assert mine.evaluate(BATCHES[:1])["loss"] < 0.8 * history.train[0]["loss"]


def test_a_plateau_lowers_the_rate_after_validations() -> None:
    mine = trainer()
    mine.schedule = optim.ReduceLROnPlateau(mine.optimizer, patience=0, factor=0.5)
    mine.optimizer.lr = 0.0
    mine.optimizer.lr = 1e-9
    mine.fit(BATCHES, BATCHES, epochs=4)
    assert mine.schedule.last_epoch == 4
    with pytest.raises(ValueError, match="ReduceLROnPlateau steps after validations"):
        mine.fit(BATCHES, epochs=5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "give epochs, steps or time"),
        ({"epochs": -1}, ValueError, "epochs must be an int of at least 0"),
        (
            {"epochs": 1, "validate_every": 0},
            ValueError,
            "validate_every must be an int of at least 1",
        ),
        ({"train": 3, "epochs": 1}, TypeError, "train must give batches .* got int"),
        ({"train": iter(BATCHES), "epochs": 2}, ValueError, "anew for each of 2 epochs"),
        ({"validation": iter(BATCHES), "epochs": 1}, ValueError, "validation must give"),
        ({"train": [], "epochs": 1}, ValueError, "train gave no batch"),
        ({"train": [BATCHES[0][0]], "epochs": 1}, TypeError, r"a batch must be \(inputs, target\)"),
        ({"epochs": "3"}, ValueError, "epochs must be an int of at least 0, got '3'"),
        ({"steps": 2.5}, ValueError, "steps must be an int"),
        ({"time": "1h"}, ValueError, "time must be a number"),
        ({"train": BATCHES[0][0], "epochs": 1}, TypeError, "train must give batches .* got Tensor"),
        ({"epochs": 1, "validate_every": 1}, ValueError, "validate_every needs validation"),
        ({"epochs": 1, "validation": []}, ValueError, "validation gave no batch"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        trainer().fit(**{"train": BATCHES, **arguments})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"amp": "float8"}, ValueError, "amp must be None, 'bfloat16' or 'float16'"),
        ({"accumulate": 0}, ValueError, "accumulate must be an int of at least 1"),
        ({"clip": -1.0}, ValueError, "clip must be a positive number"),
        ({"metrics": {"loss": Hits()}}, ValueError, "metrics cannot be called 'loss'"),
        ({"clip": "1"}, ValueError, "clip must be a positive number, got '1'"),
        ({"metrics": {"a": Hits}}, TypeError, r"metrics\['a'\] must be a Metric.*the class Hits"),
        ({"metrics": [Hits()]}, TypeError, "metrics must be a dict by names, got list"),
        ({"callbacks": EMA()}, TypeError, "callbacks must be a list of them, got EMA"),
        ({"callbacks": [EMA]}, TypeError, "callbacks must be Callbacks, got the class EMA"),
        ({"schedule": optim.StepLR}, TypeError, "schedule must be a Schedule.*the class StepLR"),
        ({"schedule": optim.StepLR(OTHER, 2)}, ValueError, "schedule is that of another optimizer"),
        ({"optimizer": OTHER}, ValueError, "optimizer has none of the model's parameters"),
        ({"optimizer": optim.SGD}, TypeError, "optimizer must be an Optimizer, got the class SGD"),
        ({"validation_loss": 3}, TypeError, "validation_loss must be a function"),
        ({"loss": nn.MSELoss}, TypeError, "loss must be a function .*got the class MSELoss"),
        ({"compiled": "no"}, TypeError, "compiled must be True or False, got 'no'"),
        ({"state": {"a": 3}}, TypeError, r"state\['a'\] must have state_dict"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        trainer(**options)


def test_a_loss_with_several_numbers_is_an_error() -> None:
    model = nn.Linear(3, 5)
    mine = Trainer(
        model, optim.SGD(model.parameters(), lr=0.1), lambda output, target: output, compiled=False
    )
    with pytest.raises(ValueError, match="loss must return a Tensor with one number"):
        mine.fit(BATCHES, steps=1)


def test_a_generator_of_batches_ends_with_its_data() -> None:
    mine = trainer()
    mine.fit((batch for batch in BATCHES), steps=100)
    assert mine.progress.step == 6
    assert mine.reason == "the data are at their end"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_goes_on_with_the_next_fit(accumulate: int) -> None:
    whole, parts = trainer(accumulate=accumulate), trainer(accumulate=accumulate)
    data = list(zip(INPUTS[:, 0], LABELS[:, 0], strict=True))
    loaders = [ndl.data.DataLoader(data, 2, shuffle=True) for _ in range(2)]
    np.random.seed(1)
    whole.fit(loaders[0], epochs=3)
    np.random.seed(1)
    for limits in ({"steps": 1}, {"steps": 3}, {"epochs": 3}):
        parts.fit(loaders[1], **limits)
    assert (parts.progress.step, parts.progress.samples) == (whole.progress.step, 18)
    np.testing.assert_array_equal(parts.model.weight.numpy(), whole.model.weight.numpy())
    parts.fit(loaders[1], steps=whole.progress.step + 1)
    parts.fit(BATCHES, epochs=4)  # other data: the epoch that has begun does not count
    assert parts.progress.samples == 18 + 2 * accumulate + 24


def test_an_error_within_accumulated_batches_leaves_no_gradients() -> None:
    class Fails(nn.SoftmaxLoss):
        calls = 0

        def forward(self, *inputs: ndl.Tensor) -> ndl.Tensor:
            Fails.calls += 1
            if Fails.calls == 2:
                raise ArithmeticError
            return super().forward(*inputs)

    failed, plain = trainer(accumulate=2, loss=Fails()), trainer(accumulate=2)
    with pytest.raises(ArithmeticError):
        failed.fit(BATCHES, epochs=1)
    failed.fit(list(BATCHES), epochs=1)
    plain.fit(BATCHES, epochs=1)
    np.testing.assert_array_equal(failed.model.weight.numpy(), plain.model.weight.numpy())


def test_nan_is_never_the_best_and_comes_back_from_a_file() -> None:
    rows = [{"split": "train", "loss": x, "memory": None} for x in (None, 3.0, 2.0)]
    history = History.of_file(rows)
    assert np.isnan(history.rows[0]["loss"])
    assert history.rows[0]["memory"] is None
    assert history.best("train/loss") == rows[2]


def test_a_step_without_a_compiler_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(source: str) -> Path:
        raise NoCompiler("none here")

    monkeypatch.setattr(compiler, "built", refuses)
    mine = trainer(compiled=True)
    with pytest.warns(UserWarning, match="runs eagerly: none here"):
        mine.fit(BATCHES, steps=1)
    assert mine.step_cost() is None


def test_a_fit_within_a_fit_is_an_error() -> None:
    class Nested(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            trainer.fit(BATCHES, epochs=1)

    with pytest.raises(RuntimeError, match="in fit already"):
        trainer(callbacks=[Nested()]).fit(BATCHES, epochs=1)


def test_an_epoch_without_batches_is_an_error() -> None:
    class Once:
        """Gives its batches once, and does not look like it."""

        def __init__(self) -> None:
            self.batches = iter(BATCHES)

        def __iter__(self) -> Iterator[Any]:
            yield from self.batches

    with pytest.raises(ValueError, match="gave no batch in epoch 2"):
        trainer().fit(Once(), epochs=3)


def test_programs_serve_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    mine = trainer(compiled=True, clip=1.0)
    short = [*BATCHES, (BATCHES[0][0][:2], BATCHES[0][1][:2])]
    mine.fit(short, short, epochs=4)
    programs: Any = (mine._step._backward, mine._measure)
    assert [program.compilations for program in programs] == [2, 2]


def test_a_metric_alone_counts_until_it_is_reset() -> None:
    metric = Hits()
    with pytest.raises(RuntimeError, match="compute needs an update"):
        metric.compute()
    output = ndl.tensor([[1.0, 0.0], [0.0, 1.0]])
    metric.update(output, ndl.tensor([0, 0])).update(output, ndl.tensor([0, 1]))
    assert metric.compute() == 0.75
    metric.reset()
    with pytest.raises(RuntimeError):
        metric.compute()
