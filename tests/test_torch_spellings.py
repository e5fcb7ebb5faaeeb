"""What PyTorch programs spell in their own way: constructors, sizes, devices, files of layers."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim

TYPES = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16", "ByteTensor": "uint8", "BoolTensor": "bool",
    "IntTensor": "int32", "LongTensor": "int64",
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), TYPES.items())
def test_typed_constructors(name: str, dtype: str) -> None:
    make = getattr(ndl, name)
    assert make([1, 0]).dtype == make(np.ones(2)).dtype == make(ndl.ones(2)).dtype == dtype
    assert make([[1, 0]]).tolist() == [[1, 0]]
    assert make(2, 3).shape == make(ndl.ones(2, 3).size()).shape == (2, 3)
    assert make(4).shape == (4,)
    assert make().shape == (0,)
    assert not make([1]).requires_grad
    with pytest.raises(TypeError, match=f"{name}.*lengths"):
        make([1], [2])


def test_tensor_of_lengths() -> None:
    x = ndl.Tensor(2, 3)
    assert x.shape == (2, 3)
    assert x.dtype == "float32"
    assert not x.requires_grad
    assert x.uniform_(1, 2).numpy().min() >= 1
    assert nn.Parameter(ndl.Tensor(2, 3)).requires_grad
    assert ndl.Tensor(5).shape == ()
    assert ndl.Tensor(5).requires_grad
    assert ndl.Tensor().shape == (0,)
    assert ndl.Tensor(x.size()).shape == (2, 3)
    with pytest.raises(TypeError):
        ndl.Tensor(2, 3.5)  # type: ignore[arg-type]


def test_size() -> None:
    size = ndl.ones(2, 3).size()
    assert isinstance(size, ndl.Size)
    assert size == (2, 3)
    assert size.numel() == 6
    assert ndl.Size([4, 5]).numel() == 20
    assert ndl.ones(2, 3).size(1) == 3
    for make in (ndl.zeros, ndl.ones, ndl.empty, ndl.rand, ndl.randn):
        assert make(size=(2, 3)).shape == make(size=size).shape == make(size=[2, 3]).shape == (2, 3)
        assert make(size=2).shape == (2,)
        with pytest.raises(TypeError):
            make(2, size=(2, 3))


def test_devices() -> None:
    assert (ndl.cpu().type, ndl.cpu_numpy().type, ndl.cuda(1).type) == ("cpu", "cpu", "cuda")
    assert (ndl.cpu().index, ndl.cuda().index, ndl.cuda(1).index) == (None, 0, 1)


@pytest.mark.parametrize("recorded", [False, True])
def test_assignment_drops_leading_axes_of_length_1(recorded: bool) -> None:
    x = ndl.Tensor(np.zeros((3, 4)), dtype="float64", requires_grad=False)
    y = ndl.Tensor(np.arange(4.0).reshape(1, 1, 4), dtype="float64", requires_grad=recorded)
    x[1] = y
    expected = np.zeros((3, 4))
    expected[1] = np.arange(4)
    np.testing.assert_array_equal(x, expected)
    x[[0, 2]] = y
    np.testing.assert_array_equal(x, np.tile(np.arange(4.0), (3, 1)))
    if recorded:
        x.sum().backward()
        assert y.grad.shape == (1, 1, 4)
        assert y.grad.numpy().max() == 3
    with pytest.raises(ValueError, match="broadcast"):
        x[0] = ndl.ones(2, 4, dtype="float64")


@pytest.mark.parametrize(("shape", "wrap"), [((3, 4), False), ((7, 3), True), ((3, 3, 3), False)])
def test_fill_diagonal(shape: tuple[int, ...], wrap: bool) -> None:
    torch = pytest.importorskip("torch")
    x = ndl.zeros(*shape).fill_diagonal_(5, wrap=wrap)
    np.testing.assert_array_equal(x, torch.zeros(shape).fill_diagonal_(5, wrap=wrap))
    w = ndl.Tensor(np.ones(shape), dtype="float64")
    (w * 2).fill_diagonal_(0, wrap=wrap).sum().backward()
    np.testing.assert_array_equal(w.grad, 2.0 * (x.numpy() == 0))
    with pytest.raises(ValueError, match="fill_diagonal"):
        ndl.zeros(3).fill_diagonal_(1)


FILES = {
    "module": "Module", "activation": "ReLU", "batchnorm": "BatchNorm2d", "conv": "Conv2d",
    "container": "Sequential", "dropout": "Dropout", "linear": "Linear", "loss": "MSELoss",
    "normalization": "LayerNorm", "pooling": "MaxPool2d", "rnn": "LSTM", "sparse": "Embedding",
    "transformer": "TransformerEncoder", "instancenorm": "InstanceNorm2d", "flatten": "Flatten",
    "padding": "ZeroPad2d", "pixelshuffle": "PixelShuffle", "distance": "CosineSimilarity",
}  # fmt: skip


@pytest.mark.parametrize(("file", "layer"), FILES.items())
def test_layers_by_pytorchs_files(file: str, layer: str) -> None:
    found: Any = importlib.import_module(f"needle.nn.modules.{file}")
    assert getattr(found, layer) is getattr(nn, layer)
    assert getattr(nn.modules, file) is found


def test_other_names() -> None:
    clip = importlib.import_module("needle.nn.utils.clip_grad")
    assert clip.clip_grad_norm_ is nn.utils.clip_grad_norm_
    assert importlib.import_module("needle.nn.parameter").Parameter is nn.Parameter
    nn.LSTM(2, 3).flatten_parameters()
    optimizer = optim.AdamW([nn.Parameter([1.0])], lr=0.5)
    assert optimizer.defaults["lr"] == 0.5
    assert "params" not in optimizer.defaults
    x = ndl.Tensor([[1.0, 2.0]])
    for function in (nn.functional.softmax, nn.functional.log_softmax):
        assert function(x, dim=-1, dtype=ndl.float64).dtype == "float64"


def test_constants_and_questions_about_dtypes() -> None:
    x, i = ndl.ones(1), ndl.tensor([1])
    assert ndl.is_floating_point(x)
    assert not ndl.is_floating_point(i)
    assert not ndl.is_complex(x)
    assert ndl.is_nonzero(i)
    assert (ndl.inf, ndl.pi, ndl.newaxis) == (np.inf, np.pi, None)
    assert np.isnan(ndl.nan)
    assert ndl.promote_types("int64", ndl.float16) == "float16"
    for a, b in ((x, i), (i, 2), (i, 2.5), (True, i), (x.half(), 3.5)):
        assert ndl.result_type(a, b) == (a * b).dtype
    with pytest.raises(TypeError, match="needs a Tensor"):
        ndl.result_type(1, 2)
    assert isinstance(x.dtype, ndl.dtype)
