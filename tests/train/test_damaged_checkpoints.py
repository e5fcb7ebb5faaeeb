"""A damaged checkpoint is one ValueError that names the file, before a model is built."""

from __future__ import annotations

import itertools
import json
import random

import damage
import numpy as np
import pytest

from needle import autograd, data, io, train
from needle.train import recipes

TEXT = data.CharTokenizer.from_text("abc\n")
# recipe, model, options, state
KINDS = {
    "mlp_resnet": ("digits", {"dim": 6, "hidden_dim": 4, "num_blocks": 1, "num_classes": 3}, {}),
    "gpt": (
        "shakespeare",
        {"length": 4, "width": 4, "num_layers": 1, "num_heads": 2, "vocabulary": 4},
        TEXT.state(),
    ),
    "lstm": (
        "shakespeare",
        {"embedding_size": 3, "hidden_size": 2, "num_layers": 2, "vocabulary": 4},
        TEXT.state(),
    ),
}


@pytest.fixture(params=KINDS)
def saved(request, tmp_path, monkeypatch):
    """(path, bytes) of a checkpoint."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # thousands of files
    recipe, options, state = KINDS[request.param]
    np.random.seed(0)
    model = train.build_model(request.param, options)
    path = tmp_path / "model.safetensors"
    train.save_model(path, train.RECIPES[recipe], request.param, options, model, state, {})
    return path, path.read_bytes()


class Refused(Exception):
    """The file was refused."""


@pytest.fixture
def load(saved, monkeypatch):
    """Loads the file: (tensors, description). Raises Refused for a ValueError as it should be."""
    path, _ = saved
    built = []
    build = recipes.build_model

    def watched(name, options):
        if autograd.current_trace() is None:
            built.append(name)
        return build(name, options)

    def fits(error: ValueError) -> bool:
        text = str(error)
        starts = tuple(f"[{what}] {str(path)!r}" for what in ("load_model", "load_checkpoint"))
        return text.startswith(starts) and "\n" not in text and len(text) < 2000 and not built

    def load():
        built.clear()
        try:
            model, _, description = train.load_model(path)
        except ValueError as error:
            if fits(error):
                raise Refused(error) from None
            raise
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, description

    monkeypatch.setattr(recipes, "build_model", watched)
    return load


def same(a, b) -> bool:
    return a[1] == b[1] and all(np.array_equal(a[0][name], b[0][name]) for name in a[0])


def test_damaged_bytes(saved, load):
    path, whole = saved
    intact, draw = load(), random.Random(1)
    refused = harmless = 0
    for damaged in itertools.chain(
        damage.truncations(whole, 60, draw), damage.flips(whole, 400, draw),
        damage.overwritten(whole, 300, draw), damage.header_lengths(whole),
        damage.headers(whole, 300, draw),
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


def test_damaged_descriptions(saved, load):
    path, _ = saved
    tensors, description = io.load_checkpoint(path)
    intact, draw = load(), random.Random(2)
    refused = 0
    for _ in range(600):
        changed = damage.mutated(description, draw)
        path.unlink(missing_ok=True)
        try:
            io.save_checkpoint(path, tensors, changed)
        except (TypeError, ValueError):
            continue
        try:
            found = load()
        except Refused:
            refused += 1
        else:
            assert same((found[0], None), (intact[0], None))
    assert refused > 300


def test_damaged_tensors(saved, load):
    path, _ = saved
    tensors, description = io.load_checkpoint(path)
    names = sorted(tensors)
    for name in names:
        x = tensors[name]
        other = next(n for n in names if n != name)
        for instead in (
            None, x[..., :-1], x[np.newaxis], x.reshape(-1)[:1], x.astype(np.int64), x > 0,
            np.zeros((0, *x.shape), x.dtype), np.float32(1), x.reshape(-1).astype(np.uint8),
        ):  # fmt: skip
            changed = {n: y for n, y in tensors.items() if n != name}
            if instead is not None:
                if instead.shape == x.shape and instead.dtype == x.dtype:
                    continue
                changed[name] = instead
            io.save_checkpoint(path, changed, description)
            with pytest.raises(Refused, match=name):
                load()
        io.save_checkpoint(path, {**tensors, f"{name}x": x}, description)
        with pytest.raises(Refused, match=f"'{name}x' is unexpected"):
            load()
        if tensors[other].shape != x.shape:
            io.save_checkpoint(path, {**tensors, name: tensors[other]}, description)
            with pytest.raises(Refused, match="has shape"):
                load()


@pytest.mark.parametrize(
    "value",
    [2**40, 10**9, 10**400, -1, 0, 2.5, "4", None, True, [4], {}, "\x00"],
    ids=lambda v: repr(v)[:9],
)
def test_sizes_that_are_not_the_tensors(saved, load, value):
    path, _ = saved
    tensors, description = io.load_checkpoint(path)
    for option, true in description["options"].items():
        if value == true:
            continue
        changed = {**description, "options": {**description["options"], option: value}}
        io.save_checkpoint(path, tensors, changed)
        with pytest.raises(Refused):
            load()


def test_descriptions_that_are_none(saved, load):
    save_file = pytest.importorskip("safetensors.numpy").save_file

    path, _ = saved
    tensors, description = io.load_checkpoint(path)
    for text in (
        None, "", "{", "nonsense", "null", "[]", "[{}]", "1", '"x"', "[" * 100_000,
        '{"a":' * 50_000, "{}", '{"recipe": []}', "9" * 5000, "{'recipe': 1}",
        json.dumps({**description, "recipe": {}}), json.dumps({**description, "model": ["gpt"]}),
    ):  # fmt: skip
        metadata = {"format": io.checkpoint.FORMAT}
        save_file(tensors, path, metadata if text is None else {**metadata, "description": text})
        with pytest.raises(Refused, match="description"):
            load()


def test_a_file_without_a_checksum_is_read(saved, load):
    save_file = pytest.importorskip("safetensors.numpy").save_file

    path, _ = saved
    intact = load()
    tensors, description = io.load_checkpoint(path)
    metadata = {"format": io.checkpoint.FORMAT, "description": json.dumps(description)}
    save_file(tensors, path, metadata)
    assert same(load(), intact)
