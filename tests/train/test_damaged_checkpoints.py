"""A damaged checkpoint is one ValueError that names the file, before a model is built."""

from __future__ import annotations

import itertools
import random

import damage
import numpy as np
import pytest

from needle import autograd
from needle.train import (
    completed,
    load_run,
    load_task,
    make_trainer,
    read_checkpoint,
    resolve,
    session,
)
from needle.train.checkpoints import write_checkpoint


class Refused(Exception):
    """The file was refused."""


@pytest.fixture(params=["gpt", "lstm"])
def saved(request, tmp_path, monkeypatch):
    """(path, bytes) of a checkpoint of a small model of text."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # thousands of files
    (tmp_path / "text").write_text("abc\n" * 40)
    options = {
        "gpt": {"model.width": 4, "model.num_layers": 1, "model.num_heads": 2},
        "lstm": {"model.embedding_size": 3, "model.hidden_size": 2, "model.num_layers": 2},
    }[request.param]
    changes = {**options, "data.length": 4, "training.steps": 1, "training.compiled": False}
    config = resolve("text", model=request.param, paths=[tmp_path / "text"], changes=changes)
    task = load_task(config)
    trainer = make_trainer(completed(config, task), task)
    trainer.fit(list(itertools.islice(task.train(2, 0), 1)), steps=1)
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, trainer.state_dict())
    return path, path.read_bytes()


@pytest.fixture
def load(saved, monkeypatch):
    """Loads the file's tensors. Raises Refused for a ValueError as it should be."""
    path, _ = saved
    built = []
    build = session.build_model

    def watched(config):
        if autograd.current_trace() is None:
            built.append(config)
        return build(config)

    def load():
        built.clear()
        try:
            model = load_run(path).model
        except ValueError as error:
            text = str(error)
            assert repr(str(path)) in text
            assert "\n" not in text
            assert len(text) < 2000
            assert not built
            raise Refused(error) from None
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    monkeypatch.setattr(session, "build_model", watched)
    return load


def same(a, b) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_damaged_bytes(saved, load):
    path, whole = saved
    intact, draw = load(), random.Random(1)
    refused = harmless = 0
    for damaged in itertools.chain(
        damage.truncations(whole, 20, draw), damage.flips(whole, 100, draw),
        damage.overwritten(whole, 60, draw), damage.header_lengths(whole),
        damage.headers(whole, 60, draw),
    ):  # fmt: skip
        path.unlink()  # faster than to overwrite it
        path.write_bytes(damaged)
        try:
            found = load()
        except Refused:
            refused += 1
        else:
            harmless += 1
            assert same(found, intact), "damage that was not noticed changed what is loaded"
    assert refused > 10 * harmless


def test_damaged_configurations(saved, load):
    path, _ = saved
    state = {k: v for k, v in read_checkpoint(path).items() if k != "format"}
    intact, draw = load(), random.Random(2)
    refused = 0
    for _ in range(120):
        changed = damage.mutated(state["config"], draw)
        try:
            write_checkpoint(path, {**state, "config": changed})
        except (TypeError, ValueError):
            continue
        try:
            assert same(load(), intact)
        except Refused:
            refused += 1
    assert refused > 20
