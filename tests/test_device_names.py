"""A device is given as itself or by its name, wherever one is taken."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import needle as ndl
from needle import array_api, autograd, data, init, models, nn
from needle.backend_selection import set_default_device

ROWS = np.zeros((2, 3), np.float32)
MAKE = {
    "Tensor": lambda device: ndl.Tensor([1.0], device=device),
    "Tensor of a Tensor": lambda device: ndl.Tensor(ndl.Tensor([1.0]), device=device),
    "NDArray": lambda device: array_api.NDArray([1.0], device=device),
    "NDArray.make": lambda device: array_api.NDArray.make((3,), device=device),
    "NDArray.to": lambda device: array_api.array([1.0]).to(device),
    "array": lambda device: array_api.array([1.0], device=device),
    "from_numpy": lambda device: array_api.from_numpy(ROWS, device),
    "from_dlpack": lambda device: array_api.from_dlpack(ROWS, device),
    "empty": lambda device: array_api.empty((2,), device=device),
    "full": lambda device: array_api.full((2,), 1, device=device),
    "Generator": lambda device: ndl.Generator(1, device),
    "draw": lambda device: init.rand(2, device=device, generator=ndl.Generator(1, device)),
    "one_hot of a Tensor": lambda device: init.one_hot(3, ndl.Tensor([1.0, 2.0]), device=device),
    "ones_like": lambda device: init.ones_like(ndl.Tensor([1.0]), device=device),
    "zeros_like": lambda device: init.zeros_like(ndl.Tensor([1.0]), device=device),
    "one_hot": lambda device: init.one_hot(3, [0, 2], device=device),
    "Tensor.to": lambda device: ndl.Tensor([1.0]).to(device),
    "ops.to": lambda device: ndl.to(ndl.Tensor([1.0]), device),
    "Module.to": lambda device: nn.Linear(2, 3).to(device).weight,
    "Module.to(device=)": lambda device: nn.Linear(2, 3).to("float32", device=device).weight,
    "compiled": lambda device: ndl.jit(lambda: init.ones(2, device=device) * 2)(),
    "DataLoader": lambda device: next(
        iter(data.DataLoader(data.NDArrayDataset(ROWS), batch_size=2, device=device))
    )[0],
    "get_batch": lambda device: data.get_batch(np.zeros((3, 2), np.int64), 0, 2, device=device)[0],
    "LanguageModel": lambda device: (
        models.LanguageModel(2, 3, 4, seq_model="rnn", device=device).linear.weight
    ),
    **{
        f"init.{name}": lambda device, name=name: getattr(init, name)(2, 3, device=device)
        for name in ("constant", "ones", "zeros", "rand", "randn", "randb", "kaiming_uniform")
    },
}
LAYERS = {
    nn.Linear: (2, 3), nn.Embedding: (2, 3), nn.Conv: (2, 3, 3), nn.Conv2d: (2, 3, 3),
    nn.BatchNorm1d: (3,), nn.LayerNorm1d: (3,), nn.LSTM: (2, 3), nn.RNN: (2, 3),
    nn.TransformerEncoderLayer: (4, 2),
}  # fmt: skip
MAKE |= {
    layer.__name__: lambda device, layer=layer: next(
        iter(layer(*LAYERS[layer], device=device).parameters())
    )
    for layer in LAYERS
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("device", [ndl.cpu(), ndl.cpu_numpy()], ids=str)
def test_a_name_is_the_device(name, device):
    assert MAKE[name](device.name).device is device
    assert MAKE[name](device).device is device


@pytest.mark.parametrize("name", MAKE)
def test_unknown_names_are_errors_that_list_the_known_ones(name):
    with pytest.raises((ValueError, TypeError), match="cpu, cpu_numpy, cuda, cuda:1"):
        MAKE[name]("gpu")


@pytest.mark.parametrize("wrong", ["gpu", "cpu:0", "cuda:x", "cuda:-1", "cuda:", "CPU", ""])
def test_names_are_exact(wrong):
    with pytest.raises(ValueError, match="there is no device"):
        array_api.as_device(wrong)


@pytest.mark.parametrize("wrong", [0, 1.5, ["cpu"], np.float32])
def test_what_is_no_device_and_no_name_is_a_type_error(wrong):
    for make in (MAKE["Tensor"], MAKE["init.rand"], MAKE["Linear"], MAKE["Generator"]):
        with pytest.raises(TypeError, match="a device or its name is needed"):
            make(wrong)


def test_gpus_have_numbers():
    assert array_api.as_device("cuda") is array_api.as_device("cuda:0") is ndl.cuda()
    assert array_api.as_device("cuda:3") is ndl.cuda(3)
    assert array_api.as_device(None) is ndl.default_device()


def test_to_takes_names_of_devices_and_of_dtypes():
    x = ndl.Tensor([1.0, 2.0])
    assert x.to("cpu_numpy").to("float64").dtype == np.float64
    assert x.to(x.device.name) is x
    model = nn.Linear(2, 3).to("float64", "cpu_numpy")
    assert (model.weight.dtype, model.weight.device) == (np.float64, ndl.cpu_numpy())
    with pytest.raises(TypeError, match=r"float64.*cpu_numpy"):
        x.to("half a float")


def test_the_default_device_by_name():
    before = ndl.default_device()
    try:
        set_default_device("cpu_numpy")
        assert ndl.Tensor([1.0]).device is ndl.cpu_numpy()
    finally:
        set_default_device(before)


def test_annotations_say_so():
    """Whatever takes a `device` says that a name will do."""
    public = [*vars(init).values(), *vars(nn).values(), *vars(models).values(), ndl.Tensor,
              ndl.Generator, data.DataLoader, autograd.Tensor]  # fmt: skip
    for thing in public:
        if callable(thing) and getattr(thing, "__module__", "").startswith("needle"):
            device = inspect.signature(thing).parameters.get("device")
            assert device is None or "str" in str(device.annotation), thing
