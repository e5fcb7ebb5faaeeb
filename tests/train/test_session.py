"""From a configuration to a trained model, and from a run's folder back to it."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import models
from needle.train import (
    Checkpoint,
    RunFolder,
    completed,
    limits,
    load_run,
    load_task,
    make_trainer,
    read_checkpoint,
    resolve,
    train_batches,
)  # fmt: skip
from needle.train.checkpoints import write_checkpoint
from needle.train.tasks import tokenizer_of


def trained(folder, task, model=None, paths=(), **changes):
    """A run in `folder`, and its task, after training."""
    settings = {key.replace("_", ".", 1): value for key, value in changes.items()}
    config = resolve(task, model=model, paths=paths, changes=settings)
    data = load_task(config)
    config = completed(config, data)
    run = RunFolder.create(config.run.name, folder)
    run.write_config(config.to_dict())
    trainer = make_trainer(config, data, run)
    trainer.fit(train_batches(config, data), data.validation, **limits(config.training))
    return run, data, trainer


def test_digits_reach_their_accuracy_and_are_loaded_again(tmp_path):
    run, task, trainer = trained(tmp_path, "digits", training_epochs=12)
    assert trainer.results["accuracy"] >= 0.97
    assert trainer.results["confusion"].sum() == task.validation_size
    for name in ("config.toml", "metrics.jsonl", "metrics.csv", "confusion.json", "status.json"):
        assert (run.path / name).is_file()
    loaded = load_run(run.last)
    x, _ = next(iter(task.validation))
    expected = trainer.model.eval()(x).numpy()
    np.testing.assert_array_equal(loaded.model.eval()(x).numpy(), expected)
    assert loaded.config.data["title"] == task.title
    assert loaded.state == {}
    best = load_run(run)
    assert best.checkpoint["progress"]["step"] == trainer.best_so_far()["step"]


def test_short_epochs_are_saved_together(tmp_path):
    _, _, trainer = trained(tmp_path, "digits", training_epochs=1)
    assert trainer.progress.step == 14
    (checkpoint,) = (c for c in trainer.callbacks if isinstance(c, Checkpoint))
    assert checkpoint.every_epochs == 8


def test_validations_measure_the_plain_loss():
    losses = {}
    for smoothing in (0.0, 0.2):
        config = resolve("digits", changes={"training.label_smoothing": smoothing})
        task = load_task(config)
        losses[smoothing] = make_trainer(completed(config, task), task).evaluate(task.validation)
    assert losses[0.2]["loss"] == losses[0.0]["loss"]


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_text_models_learn_to_continue(name, tmp_path):
    (tmp_path / "abc.txt").write_text("abcdefgh" * 400)
    options = {"gpt": {"model_width": 32, "model_num_layers": 1, "model_num_heads": 2},
               "lstm": {"model_embedding_size": 8, "model_hidden_size": 32,
                        "model_num_layers": 1}}[name]  # fmt: skip
    run, _, trainer = trained(
        tmp_path, "text", name, [tmp_path / "abc.txt"], training_steps=100, training_lr=1e-2,
        training_batch_size=4, data_length=64, **options,
    )  # fmt: skip
    assert trainer.results["accuracy"] > 0.95
    loaded = load_run(run)
    tokenizer = tokenizer_of(loaded.state)
    written = models.generate(loaded.model.model, tokenizer.encode("cde"), 100, temperature=0)
    assert tokenizer.decode(list(written)) == ("fghabcde" * 13)[:100]
    (sample,) = run.samples.iterdir()
    assert "abcdefgh" in sample.read_text()


def test_averaged_weights_are_those_that_are_loaded(tmp_path):
    run, _, _ = trained(
        tmp_path, "digits", training_steps=5, training_ema=0.5, training_compiled=False
    )
    state = read_checkpoint(run)
    name = next(iter(state["callbacks"]["EMA"]["averages"]))
    averages = state["callbacks"]["EMA"]["averages"][name].numpy()
    assert not np.array_equal(averages, state["model"][name].numpy())
    np.testing.assert_array_equal(load_run(run.last).model.state_dict()[name].numpy(), averages)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lion", "muon"])
def test_optimizers(tmp_path, optimizer):
    _, _, trainer = trained(
        tmp_path, "digits", training_steps=2, training_optimizer=optimizer, training_lr=1e-3,
        training_compiled=False, schedule_name="constant", training_label_smoothing=0.1,
    )  # fmt: skip
    assert trainer.progress.step == 2


def test_the_rate_follows_the_schedule(tmp_path):
    run, _, _ = trained(
        tmp_path, "digits", training_steps=4, training_compiled=False, schedule_name="linear",
        schedule_warmup=0.5, training_lr=0.02, training_validate_every=1,
    )  # fmt: skip
    rates = [row["lr"] for row in run.rows() if row["split"] == "train"]
    assert rates == pytest.approx([0.01, 0.02, 0.01, 0.0])


@pytest.fixture
def checkpoint(tmp_path):
    """A run of one step, and a function that loads it with something changed."""
    run, _, _ = trained(
        tmp_path, "digits", training_steps=1, training_compiled=False, model_hidden_dim=8
    )
    state = read_checkpoint(run)

    def load(change):
        change(state)
        write_checkpoint(tmp_path / "x", {k: v for k, v in state.items() if k != "format"})
        return load_run(tmp_path / "x")

    return load


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["config"]["model"].update(hidden_dim=9), "has shape"),
        (lambda s: s["config"]["model"].update(num_blocks=10**9), "num_blocks is 1000000000"),
        (lambda s: s["config"]["model"].update(hidden_dim=10**9), "has shape"),
        (lambda s: s["config"]["model"].update(name="gpt"), "make no gpt"),
        (lambda s: s["config"]["model"].update(name="nothing"), "nothing"),
        (lambda s: s["config"].pop("model"), "lacks the table"),
        (lambda s: s.update(config={}), "lacks the table"),
        (lambda s: s["objects"].clear(), "lacks what its data need"),
        (lambda s: s["model"].popitem(), "is missing"),
        (lambda s: s["model"].update(more=ndl.ones(1)), "'more' is unexpected"),
        (lambda s: s["config"]["model"].update(name="subprocess:getoutput"), "outside"),
    ],
)
def test_checkpoints_that_do_not_fit(checkpoint, change, words):
    with pytest.raises(ValueError, match=words) as caught:
        checkpoint(change)
    assert "x'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_data():
    config = resolve("digits", changes={"training.batch_size": 5000})
    task = load_task(config)
    with pytest.raises(ValueError, match="5,000 is larger than the data, 1,438 images"):
        make_trainer(completed(config, task), task)
