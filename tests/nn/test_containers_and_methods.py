"""Lists and dicts of modules, PyTorch's methods of Module, hooks on gradients."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import needle as ndl
from needle import nn


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.ReLU()))


class Stack(nn.Module):
    """A user's model with every kind of collection."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 2)})
        self.scales = nn.ParameterList([ndl.ones(3), ndl.ones(1)])
        self.shifts = nn.ParameterDict({"end": ndl.zeros(2)})

    def forward(self, x):
        for layer in self.layers:
            x = layer(x) * self.scales[0]
        return self.heads["b"](x) * self.scales[1] + self.shifts["end"]


def test_collections_have_pytorchs_paths_and_order(device):
    torch = pytest.importorskip("torch")

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(2)])
            self.heads = torch.nn.ModuleDict(
                {"a": torch.nn.Linear(3, 1), "b": torch.nn.Linear(3, 2)}
            )
            self.scales = torch.nn.ParameterList([torch.ones(3), torch.ones(1)])
            self.shifts = torch.nn.ParameterDict({"end": torch.zeros(2)})

    ours, theirs = Stack().to(device), Peer()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    nn.from_torch_state_dict(ours, theirs.state_dict())
    back = nn.to_torch_state_dict(ours)
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(back[name], value.numpy())
    x = ndl.ones(2, 3, device=device)
    expected = ours(x).numpy()
    np.testing.assert_allclose(ndl.jit(ours)(x).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(copy.deepcopy(ours)(x).numpy(), expected)
    assert "(layers): ModuleList" in repr(ours)


def test_lists_change_as_lists_do():
    layers = nn.ModuleList()
    assert len(layers) == 0
    layers.append(nn.ReLU()).extend([nn.Tanh(), nn.Sigmoid()])
    layers.insert(1, nn.Identity())
    layers += [nn.GELU()]
    assert [type(m).__name__ for m in layers] == ["ReLU", "Identity", "Tanh", "Sigmoid", "GELU"]
    assert isinstance(layers[1:3], nn.ModuleList)
    assert type(layers.pop()) is nn.GELU
    layers[0] = nn.SiLU()
    del layers[1]
    assert [name for name, _ in layers.named_children()] == ["0", "1", "2"]
    assert isinstance(layers[-3], nn.SiLU)
    assert len(layers + nn.ModuleList([nn.ReLU()])) == 4
    with pytest.raises(TypeError, match="must be a Module, got int"):
        layers.append(3)
    with pytest.raises(IndexError):
        layers[7]


def test_dicts_change_as_dicts_do():
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Tanh()
    heads.update([("c", nn.Sigmoid())])
    assert list(heads) == list(heads.keys()) == ["a", "b", "c"]
    assert "b" in heads
    assert len(list(heads.values())) == len(list(heads.items())) == 3
    assert type(heads.pop("b")) is nn.Tanh
    del heads["a"]
    assert list(heads) == ["c"]
    heads.clear()
    assert len(heads) == 0
    with pytest.raises(TypeError, match="keys must be strings"):
        heads.update({3: nn.ReLU()})
    with pytest.raises(KeyError):
        heads["x"]


def test_sequential_modules_is_a_tuple_and_a_function():
    layers = model()
    assert isinstance(layers.modules, tuple)
    assert layers.modules[0] is layers[0]
    assert [type(m).__name__ for m in layers.modules()] == [
        "Sequential", "Linear", "BatchNorm1d", "Sequential", "ReLU",
    ]  # fmt: skip
    layers.append(nn.Tanh()).insert(0, nn.Identity())
    assert [name for name, _ in layers.named_children()] == ["0", "1", "2", "3", "4"]
    layers[0] = nn.Flatten()
    del layers[-1]
    assert type(layers[0]) is nn.Flatten
    assert len(pickle.loads(pickle.dumps(layers))) == len(layers) == 4


def test_sequential_of_names(device):
    layers = nn.Sequential({"first": nn.Linear(3, 4), "act": nn.ReLU(), "last": nn.Linear(4, 2)})
    layers.to(device).append(nn.Tanh())
    assert [name for name, _ in layers.named_children()] == ["first", "act", "last", "3"]
    assert "last.weight" in layers.state_dict()
    assert layers.first is layers[0]
    x = ndl.ones(2, 3, device=device)
    np.testing.assert_allclose(ndl.jit(layers)(x).numpy(), layers(x).numpy(), rtol=1e-6)
    again = copy.deepcopy(layers)
    assert again.last is again[2]
    np.testing.assert_array_equal(again(x).numpy(), layers(x).numpy())
    layers[0] = nn.Linear(3, 4)
    assert layers.first is layers[0]
    del layers[0]
    with pytest.raises(AttributeError, match="'first'"):
        assert layers.first


def test_parameters_are_a_list_and_an_iterator():
    parameters = model().parameters()
    assert isinstance(parameters, list)
    assert next(parameters) is parameters[0]
    assert next(parameters) is parameters[1]
    assert len(list(parameters)) == 4
    assert next(model().parameters()).device == ndl.default_device()
    assert model().parameters(recurse=False) == []
    with pytest.raises(StopIteration):
        next(nn.ReLU().parameters())


def test_lookup_by_path():
    layers = model()
    assert layers.get_submodule("2.0") is layers[2][0]
    assert layers.get_submodule("") is layers
    assert layers.get_parameter("0.weight") is layers[0].weight
    assert layers.get_buffer("1.running_mean") is layers[1].running_mean
    for call, path in ((layers.get_submodule, "5"), (layers.get_parameter, "0.scale")):
        with pytest.raises(AttributeError, match="has no"):
            call(path)


def test_registering():
    module = nn.Module()
    module.register_parameter("scale", nn.Parameter(ndl.ones(2)))
    module.register_parameter("shift", None)
    module.add_module("inner", nn.Linear(2, 2))
    assert [name for name, _ in module.named_parameters()] == [
        "scale", "inner.weight", "inner.bias",
    ]  # fmt: skip
    with pytest.raises(TypeError, match="wrap it"):
        module.register_parameter("scale", ndl.ones(2))
    with pytest.raises(TypeError, match="must be a Module"):
        module.add_module("x", ndl.ones(2))
    with pytest.raises(ValueError, match="without dots"):
        module.add_module("a.b", nn.ReLU())


def test_gradients_and_freezing(device):
    layers = model().to(device)
    layers(ndl.ones(5, 3, device=device)).sum().backward()
    layers.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in layers.parameters())
    layers.zero_grad()
    assert all(p.grad is None for p in layers.parameters())
    layers[0].requires_grad_(False)
    layers(ndl.ones(5, 3, device=device)).sum().backward()
    assert layers[0].weight.grad is None
    assert layers[1].weight.grad is not None


def test_dtypes_and_devices():
    layers = model()
    for name in ("double", "half", "bfloat16", "float"):
        assert getattr(layers, name)() is layers
        expected = {"double": "float64", "half": "float16", "float": "float32"}.get(name, name)
        assert all(p.dtype == expected for p in (*layers.parameters(), *layers.buffers()))
    assert layers.cpu() is layers
    assert layers[0].weight.device == ndl.cpu()


def test_backward_hooks_see_and_replace_gradients(device):
    layer = nn.Linear(3, 2).to(device)
    seen = []

    def hook(module, grad_input, grad_output):
        seen.append((module, grad_input[0].numpy(), grad_output[0].numpy()))
        return (grad_input[0] * 2,)

    x = ndl.Tensor(np.ones((4, 3), "float32"), device=device)
    layer(x).sum().backward()
    plain = x.grad.numpy()
    handle = layer.register_full_backward_hook(hook)
    layer(x).sum().backward()
    module, grad_input, grad_output = seen[0]
    assert module is layer
    np.testing.assert_allclose(grad_input, plain)
    np.testing.assert_array_equal(grad_output, np.ones((4, 2)))
    np.testing.assert_allclose(x.grad.numpy(), 2 * plain)
    handle.remove()
    layer(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), plain)
    assert len(seen) == 1


def test_backward_hook_of_a_first_layer():
    layer, seen = nn.Linear(3, 2), []
    layer.register_full_backward_hook(lambda *args: seen.append(args[1:]))
    layer(ndl.Tensor(np.ones((4, 3), "float32"), requires_grad=False)).sum().backward()
    ((grad_input, grad_output),) = seen
    assert grad_input == (None,)
    np.testing.assert_array_equal(grad_output[0].numpy(), np.ones((4, 2)))
    assert layer.weight.grad is not None
