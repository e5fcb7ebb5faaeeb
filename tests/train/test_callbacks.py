"""Callbacks: what they do with a trainer, and that a resumed run is the one that was stopped."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.train import Interrupted, Trainer
from needle.train.callbacks import (
    EMA,
    BestModel,
    Callback,
    CSVLog,
    EarlyStopping,
    GradientStatistics,
    PrintRows,
    StopAtNaN,
    TensorBoard,
    find_learning_rate,
)
from needle.train.callbacks.learning_rate import suggestion
from needle.train.metrics import MeanAbsoluteError
from needle.typing import Json

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8, 3)).astype("f")
DATA = [(ndl.Tensor(x), ndl.Tensor(x.sum(1, keepdims=True))) for x in X]


def trainer(
    *callbacks: Callback, lr: float = 0.1, compiled: bool = False, **options: Any
) -> Trainer:
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = ndl.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return Trainer(
        model, optimizer, nn.MSELoss(), callbacks=callbacks, compiled=compiled, **options
    )


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: x.numpy().copy() for name, x in trainer.model.state_dict().items()}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(x), err_msg=name)


class Losses(Callback):
    """Puts losses of one's own in place of those of the validation, before others see them."""

    def __init__(self, losses: Iterable[float]) -> None:
        self.losses = iter(losses)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        if row["split"] == "validation":
            row["loss"] = next(self.losses)


# ---- early stopping and the best model ----------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "options", "epochs"),
    [
        ([3, 2, 2, 2, 1], {"patience": 2}, 4),
        ([3, 2, 2, 1, 1, 1], {"patience": 2}, 6),
        ([3, 2.9, 2.8, 1], {"patience": 2, "min_delta": 0.5}, 3),
        ([math.nan, 3, math.nan, math.nan], {"patience": 2}, 4),
        ([1, 2, 1, 2, 2], {"patience": 2, "higher_is_better": True}, 4),
    ],
)
def test_training_ends_when_it_no_longer_helps(
    losses: list[float], options: Json, epochs: int
) -> None:
    tried = trainer(Losses(losses), EarlyStopping(**options))
    tried.fit(DATA, DATA, epochs=len(losses))
    assert tried.progress.epoch == epochs
    if epochs < len(losses):
        assert "validation/loss was not better than" in str(tried.reason)


def test_a_run_that_was_interrupted_as_it_ended_early_is_over(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_validation_end(self, trainer: Trainer, row: Json) -> None:
            if trainer.progress.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    def tried(*more: Callback, run: Any = None) -> Trainer:
        return trainer(Losses([1, 2, 3, 4]), EarlyStopping(patience=1), *more, run=run)

    with pytest.raises(Interrupted):
        tried(Interrupt(), run=tmp_path / "run").fit(DATA, DATA, epochs=4)
    resumed = tried()
    resumed.resume(tmp_path / "run")
    resumed.fit(DATA, DATA, epochs=4)
    assert resumed.progress.epoch == 2


def test_a_metric_says_which_values_are_better() -> None:
    stop = EarlyStopping("train/mae", patience=1)
    tried = trainer(stop, metrics={"mae": MeanAbsoluteError()}, log_every=100)
    tried.fit(DATA, epochs=3)
    assert tried.progress.epoch == 3
    assert stop.watched.best == min(row["mae"] for row in tried.history.train)


@pytest.mark.parametrize("callback", [EarlyStopping, BestModel])
def test_a_measure_that_is_not_there_is_named(callback: Callable[..., Callback]) -> None:
    with pytest.raises(ValueError, match="metric must be such as 'validation/loss'"):
        callback("loss")
    with pytest.raises(ValueError, match=r"'validation/f1' is not measured: .* have loss"):
        trainer(callback("validation/f1")).fit(DATA, DATA, epochs=1)


def test_patience_must_be_positive() -> None:
    with pytest.raises(ValueError, match="patience must be a positive whole number, got 0"):
        EarlyStopping(patience=0)


class Keep(Callback):
    """The weights at the end of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, np.ndarray]] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.epochs.append(weights(trainer))


def test_the_model_has_its_best_weights_at_the_end() -> None:
    keep, best = Keep(), BestModel()
    tried = trainer(Losses([3, 1, 2, 1]), best, keep)
    tried.fit(DATA, DATA, epochs=4)
    assert (best.best, best.step) == (1, 12)
    assert_equal(weights(tried), keep.epochs[1])


def test_the_best_weights_are_given_when_asked() -> None:
    keep, best = Keep(), BestModel(restore=False)
    tried = trainer(Losses([1, 2]), best, keep)
    with pytest.raises(RuntimeError, match="has not been measured yet"):
        best.load(tried)
    tried.fit(DATA, DATA, epochs=2)
    assert_equal(weights(tried), keep.epochs[1])
    best.load(tried)
    assert_equal(weights(tried), keep.epochs[0])


# ---- logs ---------------------------------------------------------------------------------------


class Late(Callback):
    """Measures something from the third epoch on."""

    def on_row(self, trainer: Trainer, row: Json) -> None:
        if row["split"] == "train" and row["epoch"] > 2:
            row["late"] = 1.0


def test_csv_has_all_rows_and_a_column_for_each_measure(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rows.csv"
    tried = trainer(Late(), CSVLog(file), log_every=1000)
    tried.fit(DATA, DATA, epochs=4)
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["step"] for row in rows] == ["6", "6", "12", "12", "18", "18", "24", "24"]
    assert [row["late"] for row in rows] == ["", "", "", "", "1.0", "", "1.0", ""]
    assert float(rows[-1]["loss"]) == tried.history.rows[-1]["loss"]


@pytest.mark.parametrize("callback", [CSVLog, TensorBoard])
def test_a_log_needs_a_place(callback: Callable[[], Callback]) -> None:
    with pytest.raises(ValueError, match="or a Trainer with a run"):
        trainer(callback()).fit(DATA, epochs=1)


def test_rows_are_lines() -> None:
    out = io.StringIO()
    trainer(PrintRows(out, splits=("validation",))).fit(DATA, DATA, epochs=2)
    first, second = out.getvalue().splitlines()
    assert first.startswith("step      6  epoch   1.00  validation  loss ")
    assert second.startswith("step     12  epoch   2.00")


def test_tensorboard_has_curves_and_forgets_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    from test_tensorboard import fields, records

    def events(file: Path) -> list[tuple[int, str | None]]:
        found = []
        for event in map(fields, records(file)):
            for value in map(fields, fields(event[5][0])[1] if 5 in event else []):
                found.append((event.get(2, [0])[0], value[1][0].decode()))
            if 7 in event:
                found.append((event[2][0], None))
        return found

    run = tmp_path / "run"
    board = TensorBoard()
    trainer(GradientStatistics(), board, run=run, log_every=6).fit(DATA, DATA, epochs=1)
    assert board.writer is None
    (file,) = (run / "tb").iterdir()
    found = events(file)
    assert {"loss/train", "loss/validation", "lr/train", "gradient_norm/train"} <= {
        tag for _, tag in found
    }
    assert {"weights/0.weight", "updates/3.bias"} <= {tag for _, tag in found}
    assert {step for step, _ in found} == {6}
    resumed = trainer(GradientStatistics(), TensorBoard(), log_every=6)
    resumed.resume(run)
    resumed.fit(DATA, DATA, epochs=2)
    (new,) = set((run / "tb").iterdir()) - {file}
    assert events(new)[0] == (7, None)
    assert {step for step, _ in events(new)[1:]} == {12}


# ---- averages -----------------------------------------------------------------------------------


class Average(Callback):
    """The averages by the definition, in float64."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, np.ndarray] = {}

    def on_step_end(self, trainer: Trainer) -> None:
        for name, x in weights(trainer).items():
            if x.dtype == np.float32:
                old = self.values.get(name, x.astype(np.float64))
                self.values[name] = self.decay * old + (1 - self.decay) * x


@pytest.mark.parametrize("compiled", [False, True])
def test_averages_are_measured_and_the_weights_come_back(compiled: bool) -> None:
    measured: list[dict[str, np.ndarray]] = []
    own: list[dict[str, np.ndarray]] = []

    class Look(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            own.append(weights(trainer))

        def on_validation_end(self, trainer: Trainer, row: Json) -> None:
            measured.append(weights(trainer))

        def on_epoch_end(self, trainer: Trainer) -> None:
            assert_equal(weights(trainer), own[-1])

    average = Average(0.8)
    tried = trainer(Look(), average, EMA(0.8), compiled=compiled)
    tried.fit(DATA, DATA, epochs=3)
    for name, x in average.values.items():
        np.testing.assert_allclose(measured[-1][name], x, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(measured[-1]["3.weight"], own[-1]["3.weight"])
    assert_equal(weights(tried), measured[-1])  # they are kept at the end
    plain = trainer()
    plain.fit(DATA, DATA, epochs=3)
    if not compiled:
        assert_equal(own[-1], weights(plain))


def test_the_weights_come_back_when_measuring_fails() -> None:
    broken = [*DATA, (ndl.zeros(2, 5), ndl.zeros(2, 1))]
    tried, plain = trainer(EMA(0.5)), trainer()
    with pytest.raises(ValueError, match="linear"):
        tried.fit(DATA, broken, epochs=3)
    plain.fit(DATA, epochs=1)
    assert_equal(weights(tried), weights(plain))


class Counting(nn.Module):
    """Puts another Tensor in the place of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("count", ndl.zeros(1))

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        if self.training:
            self.count = (self.count + 1).detach()
        return self.layer(x)


@pytest.mark.parametrize("compiled", [False, True])
def test_averages_follow_a_buffer_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    model, ema = Counting(), EMA(0.5)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)
    tried = Trainer(model, optimizer, nn.MSELoss(), callbacks=[ema], compiled=compiled)
    tried.fit(DATA, steps=3)
    assert ema.averages["count"].item() == 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3
    assert model.count.item() == ema.averages["count"].item()


def test_averages_of_half_precision_are_float32() -> None:
    model = nn.Linear(3, 1).to(dtype="bfloat16")
    ema = EMA(0.99)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)
    data = [(x.astype("bfloat16"), y.astype("bfloat16")) for x, y in DATA]
    Trainer(model, optimizer, nn.MSELoss(), callbacks=[ema], compiled=False).fit(data, epochs=2)
    assert {str(x.dtype) for x in ema.averages.values()} == {"float32"}
    assert str(model.weight.dtype) == "bfloat16"


# ---- gradients and NaN --------------------------------------------------------------------------


def test_statistics_of_the_last_step_before_a_stop_are_in_the_row_after_it(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trainer(GradientStatistics())
    whole.fit(DATA[:1], epochs=1)
    with pytest.raises(Interrupted):
        trainer(GradientStatistics(), Interrupt(), run=tmp_path / "run").fit(DATA[:1], epochs=1)
    resumed = trainer(GradientStatistics())
    resumed.resume(tmp_path / "run")
    (row,), (expected,) = resumed.fit(DATA[:1], epochs=1).train, whole.history.train
    for name in ("gradient_norm", "update_ratio"):
        assert row[name] == expected[name]


@pytest.mark.parametrize("compiled", [False, True])
def test_norms_of_gradients_and_updates(compiled: bool) -> None:
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    groups = [{"params": [*layer.parameters()]} for layer in model]
    optimizer = ndl.optim.SGD(groups, lr=0.1)
    tried = Trainer(
        model, optimizer, nn.MSELoss(), callbacks=[GradientStatistics()], compiled=compiled,
        log_every=1, clip=1e9,
    )  # fmt: skip
    before = [p.numpy().astype(float) for p in model.parameters()]
    tried.fit(DATA[:1], epochs=1)
    (row,) = tried.history.train
    after = [p.numpy().astype(float) for p in model.parameters()]
    for name, part in (("0", slice(2)), ("1", slice(2, 4))):
        update = math.sqrt(
            sum(np.square(y - x).sum() for x, y in zip(before[part], after[part], strict=True))
        )
        size = math.sqrt(sum(np.square(x).sum() for x in before[part]))
        assert row[f"gradient_norm/{name}"] == pytest.approx(update / 0.1, rel=1e-4)
        assert row[f"update_ratio/{name}"] == pytest.approx(update / size, rel=1e-4)


def with_nan(at: int) -> list[tuple[ndl.Tensor, ndl.Tensor]]:
    data = [*DATA]
    data[at] = (data[at][0] * math.nan, data[at][1])
    return data


@pytest.mark.parametrize("every", [None, 4])
def test_the_batch_that_made_nan_is_kept(tmp_path: Path, every: int | None) -> None:
    keep = Keep()
    tried = trainer(keep, StopAtNaN(tmp_path, every=every), lr=0.01)
    tried.fit(DATA, epochs=1)
    with pytest.raises(FloatingPointError, match=r"loss of step 9 is nan .*rate 0.01.*step-9.saf"):
        tried.fit(with_nan(2), epochs=2)
    kept = ndl.load(tmp_path / "nan-step-9.safetensors")
    assert (kept["step"], kept["learning_rate"]) == (9, 0.01)
    ((inputs, target),) = kept["batches"]
    assert np.isnan(inputs.numpy()).all()
    np.testing.assert_array_equal(target.numpy(), DATA[2][1].numpy())
    if every is None:  # the weights of before: the loss is that of step 9 with whole inputs
        assert np.isfinite(kept["weights"]["0.weight"].numpy()).all()
    else:
        assert not kept["weights"]


def test_the_step_before_is_blamed_where_it_has_spoilt_the_weights(tmp_path: Path) -> None:
    class Spoil(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 3:
                trainer.model[3].weight.data = trainer.model[3].weight.detach() * math.inf

    tried = trainer(Spoil(), StopAtNaN(tmp_path), compiled=True)
    with pytest.raises(
        FloatingPointError, match=r"step 4 is .*3.weight was not finite .* update of step 3"
    ):
        tried.fit(DATA, epochs=1)
    kept = ndl.load(tmp_path / "nan-step-3.safetensors")
    assert np.isfinite(kept["weights"]["3.weight"].numpy()).all()
    np.testing.assert_array_equal(kept["batches"][0][0].numpy(), X[2])


def test_nan_ends_training_without_a_folder() -> None:
    with pytest.raises(FloatingPointError, match="detect_anomaly"):
        trainer(StopAtNaN()).fit(with_nan(0), epochs=1)
    with pytest.raises(ValueError, match="every must be a positive int"):
        StopAtNaN(every=0)


# ---- resuming -----------------------------------------------------------------------------------


def everything() -> list[Callback]:
    return [
        Losses([5, 4, 4.5, 4, 4.2, 1]), BestModel(restore=False), EarlyStopping(patience=3),
        EMA(0.9), GradientStatistics(), StopAtNaN(), CSVLog(), TensorBoard(),
    ]  # fmt: skip


class Fail(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            raise RuntimeError("the power fails")


def test_a_resumed_run_is_the_one_that_was_stopped(tmp_path: Path) -> None:
    whole = trainer(*everything(), run=tmp_path / "whole", log_every=4)
    whole.fit(DATA, DATA, epochs=6)
    assert whole.progress.epoch == 5  # early
    parts = trainer(*everything(), Fail(15), run=tmp_path / "parts", log_every=4)
    with pytest.raises(RuntimeError, match="power"):
        parts.fit(DATA, DATA, epochs=6)
    resumed = trainer(Losses([4.5, 4, 4.2, 1]), *everything()[1:], log_every=4)
    resumed.resume(tmp_path / "parts")
    resumed.fit(DATA, DATA, epochs=6)
    assert resumed.progress.epoch == 5
    assert_equal(weights(resumed), weights(whole))
    for a, b in zip(whole.callbacks[1:4], resumed.callbacks[1:4], strict=True):
        assert_same(a.state_dict(), b.state_dict())


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, ndl.Tensor):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    else:
        assert a == b


# ---- the learning-rate range test ---------------------------------------------------------------


def test_a_learning_rate_is_found_and_nothing_has_changed() -> None:
    tried = trainer(lr=0.1)
    tried.fit(DATA, epochs=1)
    before, optimizer = weights(tried), tried.optimizer.state_dict()
    random = np.random.get_state()[1].copy()
    data = [(ndl.Tensor(X.reshape(48, 3)), ndl.Tensor(X.reshape(48, 3).sum(1, keepdims=True)))]
    found = find_learning_rate(tried, data, lowest=1e-5, highest=1e3, steps=60)
    assert_equal(weights(tried), before)
    assert_same(tried.optimizer.state_dict(), optimizer)
    np.testing.assert_array_equal(np.random.get_state()[1], random)
    assert len(found.lrs) == len(found.losses) < 60  # it ended where the loss grew
    np.testing.assert_allclose(found.lrs[1:] / found.lrs[:-1], (1e8) ** (1 / 59))
    assert 1e-4 < found.suggestion < 1
    assert tried.progress.step == 6


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    lrs = np.geomspace(1e-5, 1, 200)
    losses = 1 - 1 / (1 + np.exp(-4 * (np.log(lrs) - math.log(1e-3))))
    assert 1e-3 < suggestion(lrs, losses) < 3e-3  # smoothing comes a little later


def test_mistakes_of_the_range_test_are_named() -> None:
    with pytest.raises(ValueError, match=r"0 < lowest < highest, got 1 and 0\.1"):
        find_learning_rate(trainer(), DATA, lowest=1, highest=0.1)
    with pytest.raises(ValueError, match=r"not finite after 0 steps"):
        find_learning_rate(trainer(), with_nan(0), steps=10)
