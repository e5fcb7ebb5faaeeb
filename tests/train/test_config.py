"""A run's configuration: defaults, changes, files, and what is refused."""

from __future__ import annotations

import tomllib

import pytest

from needle.train import Config, Schedule, completed, load_task, read_config, resolve, toml
from needle.train.config import parse_setting


def test_everything_is_recorded_and_read_again(tmp_path):
    config = resolve("digits", changes={"training.lr": 0.02, "model.hidden_dim": 50}, argv=["x"])
    config = completed(config, load_task(config))
    text = toml.dumps(config.to_dict())
    assert Config.from_dict(tomllib.loads(text)) == config
    for line in ("lr = 0.02", "batch_size = 100", "hidden_dim = 50", "num_blocks = 3", "seed = 0",
                 'unit = "images"', 'best = "validation/accuracy"', "every = 300.0"):  # fmt: skip
        assert line in text
    path = tmp_path / "config.toml"
    path.write_text(text)
    again = resolve("digits", changes=read_config(path))
    assert again.training == config.training
    assert again.model["hidden_dim"] == 50
    assert again.run.name == "digits"


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        ("digitz", {}, "did you mean digits"),
        ("digits", {"trainig.lr": 0.1}, r"did you mean training.lr\?"),
        ("digits", {"lr": 0.1}, r"did you mean training.lr\?"),
        ("digits", {"model.hiden_dim": 3}, "did you mean hidden_dim"),
        ("digits", {"data.length": 3}, "no setting 'data.length'"),
        ("digits", {"model.name": "gpt"}, "mlp_resnet"),
        ("digits", {"training.lr": "fast"}, "training.lr must be a number"),
        ("digits", {"training.batch_size": 2.5}, "training.batch_size must be a whole number"),
        ("digits", {"training.batch_size": True}, "must be a whole number"),
        ("digits", {"training.compiled": 1}, "must be true or false"),
        ("digits", {"training.lr": 0.0}, "lr must be above 0"),
        ("digits", {"training.epochs": 0}, "give epochs, steps or time"),
        ("digits", {"training.optimizer": "adamm"}, "adamw"),
        ("digits", {"training.amp": "float8"}, "bfloat16"),
        ("digits", {"schedule.warmup": 1.0}, "schedule.warmup"),
        ("digits", {"run.seed": -1}, "seed"),
        ("digits", {"run.name": "a/b"}, "name of a folder"),
        ("digits", {"checkpoints.keep": 0}, "checkpoints.keep"),
    ],
)
def test_mistakes_are_named(task, changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        resolve(task, changes=changes)


def test_what_depends_on_the_data_is_checked_with_them():
    config = resolve("digits", changes={"checkpoints.best": "validation/acuracy"})
    with pytest.raises(ValueError, match="validation/accuracy"):
        completed(config, load_task(config))
    config = resolve("digits", changes={"model.num_classes": 7})
    with pytest.raises(ValueError, match="num_classes"):
        completed(config, load_task(config))


def test_a_limit_replaces_that_of_the_task():
    training = resolve("digits", changes={"training.steps": 7}).training
    assert (training.steps, training.epochs) == (7, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.lr=0.5", ("training.lr", 0.5)), ("model.tied = false", ("model.tied", False)),
        ("run.name=a b", ("run.name", "a b")), ("a.b=[1, 2]", ("a.b", [1, 2])),
        ("a.b=x=y", ("a.b", "x=y")),
    ],
)  # fmt: skip
def test_parse_setting(text, expected):
    assert parse_setting(text) == expected


def test_a_setting_without_a_value():
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_setting("training.lr")


@pytest.mark.parametrize("name", ["onecycle", "cosine", "linear", "constant"])
def test_schedules_rise_and_fall(name):
    factor = Schedule(name, warmup=0.25, last=0.1).factor()
    assert factor(0.25) == 1
    assert 0 < factor(0.1) < 1
    assert factor(2.0) == factor(1.0)
    last = {"onecycle": 1 / 250_000, "constant": 1.0}.get(name, 0.1)
    assert factor(1.0) == pytest.approx(last)


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.toml").write_text("a = ")
    with pytest.raises(ValueError, match=r"x\.toml"):
        read_config(tmp_path / "x.toml")
    tables = resolve("digits").to_dict()
    for wrong, words in (
        ({**tables, "trainig": {}}, "did you mean training"), ({"run": {}}, "lacks"),
        ({**tables, "run": {**tables["run"], "format": 9}}, "format 9"),
        ({**tables, "training": 3}, "must be a table"),
        ({**tables, "model": {}}, "model.name"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words):
            Config.from_dict(wrong)
