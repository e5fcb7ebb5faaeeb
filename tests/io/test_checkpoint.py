"""Checkpoints: whole or not there, read back as they were, strangers refused."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import io


def test_round_trip(tmp_path, device):
    tensors = {
        "w": ndl.Tensor(np.random.RandomState(0).randn(3, 4), device=device).transpose(),
        "n": ndl.Tensor(np.array(7), device=device),
        "flags": np.array([True, False]),
    }
    path = tmp_path / "new" / "model.safetensors"
    io.save_checkpoint(path, tensors, {"epochs": 3, "name": "mlp"})
    checkpoint = io.load_checkpoint(path)
    assert checkpoint.description == {"epochs": 3, "name": "mlp"}
    assert list(path.parent.iterdir()) == [path]
    for name, value in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], np.asarray(value))
        assert checkpoint.tensors[name].dtype == value.dtype


def test_a_checkpoint_moves_between_devices(tmp_path, device):
    np.random.seed(0)
    model = ndl.nn.Sequential(
        ndl.nn.Linear(3, 4, device=device), ndl.nn.BatchNorm1d(4, device=device)
    )
    io.save_checkpoint(tmp_path / "m", model.state_dict(), {})
    for other in (d for d in ndl.all_devices() if d.enabled()):
        clone = ndl.nn.Sequential(
            ndl.nn.Linear(3, 4, device=other), ndl.nn.BatchNorm1d(4, device=other)
        )
        clone.load_state_dict(io.load_checkpoint(tmp_path / "m").tensors)
        for p, q in zip(model.parameters(), clone.parameters(), strict=True):
            assert q.device == other
            np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    io.save_checkpoint(path, {"x": np.ones(2)}, {"version": 1})
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        io.save_checkpoint(path, {"x": np.zeros(2)}, {"version": 2})
    assert io.load_checkpoint(path).description == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        io.save_checkpoint(path, {"x": np.zeros(2)}, {"not json": object()})
    assert io.load_checkpoint(path).description == {"version": 1}


def test_what_is_no_checkpoint(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file

    path = tmp_path / "m"
    with pytest.raises(FileNotFoundError, match="no file"):
        io.load_checkpoint(path)
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(ValueError, match="safetensors"):
        io.load_checkpoint(path)
    io.save_checkpoint(path, {"x": np.ones(1000)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="whole"):
        io.load_checkpoint(path)
    save_file({"x": np.ones(2)}, path)
    with pytest.raises(ValueError, match="needle checkpoint"):
        io.load_checkpoint(path)
