"""`save` and `load`: what comes back is what was saved, and strangers' and damaged files are read
or refused with their names."""

from __future__ import annotations

import io
import json
import os
import random
from collections import OrderedDict, defaultdict, namedtuple

import damage
import numpy as np
import pytest

import needle as ndl
from needle import nn, optim


def through(value, **options):
    buffer = io.BytesIO()
    ndl.save(value, buffer)
    buffer.seek(0)
    return ndl.load(buffer, **options)


def same(a, b) -> bool:
    """Whether two structures have equal types and contents, bit by bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, ndl.Tensor):
        x, y = a.numpy(), b.numpy()
        flags = a.requires_grad == b.requires_grad and a.device == b.device and a.dtype == b.dtype
        return flags and x.shape == y.shape and x.tobytes() == y.tobytes()
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


DTYPES = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def structures(device):
    draw = np.random.default_rng(0)
    for dtype in DTYPES:
        values = draw.normal(size=(3, 4)) * 100
        whole = ndl.Tensor(values, device=device, requires_grad=False).to(dtype)
        yield {
            "all": whole,
            "part": whole[1:, ::2].transpose(),
            "none": whole[:0],
            "one": whole[0, 0],
        }
    yield [
        None,
        True,
        0,
        -(10**40),
        0.1,
        float("inf"),
        float("-inf"),
        float("nan"),
        "",
        "ü\ud800\0",
    ]
    yield {1: "one", 2.5: (), (1, "a"): [], None: {}, False: OrderedDict(b=1, a=2)}
    yield (((),), [[]], {"tensor": "x", "tuple": [1], "name": {}})
    yield ndl.tensor([1.0], device=device)
    yield nn.Parameter([1.0], device=device)
    yield nn.Parameter([1.0], device=device, requires_grad=False)
    yield {"a.b": ndl.ones(2), "a": {"b": ndl.zeros(3)}, "__metadata__": ndl.ones(1)}
    yield {
        name: np.ones((2, 3), name)
        for name in ["int8", "uint16", "uint32", "uint64", ">f4", "float64"]
    }
    yield [np.float32(0.1), np.int64(-1), np.bool_(True), np.ones((2, 0)), np.zeros(())]
    yield [ndl.float32, ndl.bfloat16, device]


def test_what_comes_back_is_what_was_saved(device):
    for value in structures(device):
        found = through(value)
        native = {name: x.astype(x.dtype.newbyteorder("=")) for name, x in value.items()} if (
            isinstance(value, dict) and "int8" in value
        ) else value  # fmt: skip
        assert same(native, found), (value, found)


def test_one_tensor_in_two_places_is_one_again():
    weight = nn.Parameter(np.ones(1000, "float32"))
    found = through({"embedding": weight, "heads": [weight, ndl.ones(2)]})
    assert found["embedding"] is found["heads"][0]
    buffer = io.BytesIO()
    ndl.save([weight, weight], buffer)
    assert len(buffer.getvalue()) < 6000


def check_message(error: Exception) -> None:
    """One sentence that begins with the function."""
    text = str(error)
    assert text.startswith("[load] ")
    assert "\n" not in text
    assert len(text) < 2000


def training():
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    return model, optimizer, optim.CosineAnnealingLR(optimizer, T_max=10)


def steps(model, optimizer, schedule, count):
    draw = np.random.default_rng(count)
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(ndl.tensor(draw.normal(size=(5, 3)).astype("float32"))) ** 2).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def test_training_goes_on_where_it_was(tmp_path):
    run = training()
    steps(*run, 4)
    path = tmp_path / "new" / "run.safetensors"
    names = ("model", "optimizer", "schedule")
    ndl.save({n: part.state_dict() for n, part in zip(names, run, strict=True)}, path)
    assert list(path.parent.iterdir()) == [path]
    other = training()
    saved = ndl.load(path)
    for name, part in zip(names, other, strict=True):
        part.load_state_dict(saved[name])
    assert steps(*run, 3) == steps(*other, 3)


def test_places():
    here, there = ndl.cpu_numpy(), ndl.cpu()
    value = {"a": ndl.ones(2, device=here), "b": nn.Parameter([1.0], device=there)}
    assert [x.device for x in through(value).values()] == [here, there]
    for target in ("cpu_numpy", here, {"cpu": "cpu_numpy"}):
        assert [x.device for x in through(value, map_location=target).values()] == [here, here]
    with pytest.raises(TypeError, match='map_location="cpu"'):
        through(value, map_location=lambda storage, place: storage)


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"net": [nn.Linear(2, 2)]}, r"'net.0' is a Linear; .*state_dict\(\)"),
        (optim.SGD([nn.Parameter([1.0])]), r"the object is a SGD; .*state_dict\(\)"),
        ({"p": Point(1, 2)}, r"'p' is a Point, a kind of tuple; save it as tuple\(x\)"),
        (defaultdict(list), r"a kind of dict; save it as dict\(x\)"),
        ({"s": {1}}, "sorted"),
        ({"x": np.ones(2, complex)}, "'x' .*complex128.*real and imaginary"),
        ({"x": np.array(["a"])}, "'x' .*lists"),
        ({"f": print}, "'f'"),
        ({"c": 1j}, "'c' is a complex"),
    ],
)
def test_what_cannot_be_saved(tmp_path, value, message):
    path = tmp_path / "file"
    ndl.save([1], path)
    with pytest.raises(TypeError, match=message):
        ndl.save(value, path)
    assert ndl.load(path) == [1]


def test_structures_without_an_end():
    ring: list = []
    ring.append(ring)
    with pytest.raises(ValueError, match="deep"):
        ndl.save(ring, io.BytesIO())
    with pytest.raises(TypeError, match="path or a binary file"):
        ndl.save([], 3)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="no file"):
        ndl.load(path)
    with pytest.raises(ValueError, match="folder"):
        ndl.load(tmp_path)
    buffer = io.BytesIO()
    ndl.save([1], buffer)
    with pytest.raises(ValueError, match=r"seek\(0\)"):
        ndl.load(buffer)
    np.save(path, np.ones(3))
    with pytest.raises(ValueError, match=r"file.npy' .*numpy\.load"):
        ndl.load(f"{path}.npy")
    with pytest.raises(TypeError, match="BytesIO"):
        ndl.load(b"bytes")
    path.write_text("text")
    with open(path) as file, pytest.raises(ValueError, match="'rb'"):
        ndl.load(file)


def test_damage_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    path = tmp_path / "file"
    value = {"w": ndl.Tensor([[1.0, 2.0]]), "n": [1, ("a", 2.5)], "b": np.ones(3, "uint8")}
    ndl.save(value, path)
    whole, draw = path.read_bytes(), random.Random(1)
    refused = harmless = 0
    for damaged in (
        *damage.truncations(whole, 60, draw), *damage.flips(whole, 300, draw),
        *damage.overwritten(whole, 200, draw), *damage.header_lengths(whole),
        *damage.headers(whole, 200, draw),
    ):  # fmt: skip
        path.write_bytes(damaged)
        try:
            found = ndl.load(path)
        except (ValueError, RuntimeError) as error:
            refused += 1
            check_message(error)
        else:  # without the mark of the format it is a stranger's, of tensors alone
            harmless += 1
            assert same(found, value) or all(isinstance(x, ndl.Tensor) for x in found.values())
    assert refused > 5 * harmless


def test_structures_that_make_no_sense(tmp_path):
    from needle.io import storage, tensor_file

    draw = random.Random(3)
    for _ in range(400):
        writer = storage.Writer()
        tree = writer.tree({"w": ndl.ones(2), "x": (1, [2.0, float("nan")]), "d": ndl.float32})
        buffer = io.BytesIO()
        text = json.dumps(damage.mutated(tree, draw))
        tensor_file.write_tensors(buffer, writer.tensors, storage.FORMAT, text)
        buffer.seek(0)
        try:
            ndl.load(buffer)
        except (ValueError, RuntimeError) as error:
            check_message(error)


def test_other_programs_read_and_write_the_same_format(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    draw = np.random.default_rng(0)
    names = [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
    arrays = {f"x.{n}": np.abs(draw.normal(size=(2, 3)) * 50).astype(n) for n in names}
    safetensors.save_file(arrays, path)
    found = ndl.load(path)
    for name, array in arrays.items():
        assert isinstance(found[name], ndl.Tensor)
        np.testing.assert_array_equal(found[name].numpy(), array)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    ndl.save(model.state_dict(), path)
    theirs = safetensors.load_file(path)
    assert theirs.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(theirs[name], tensor.numpy())
    safetensors.save_file({"x": np.array([2**64 - 1], "uint64")}, path)
    with pytest.raises(ValueError, match="uint64 numbers that int64 cannot"):
        ndl.load(path)
    safetensors.save_file({}, path)
    assert ndl.load(path) == {}


def test_dtypes_that_needle_lacks(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path = tmp_path / "file"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ValueError, match=rf"{os.path.basename(path)}' has 'w' .*'F8_E4M3'"):
        ndl.load(path)
