"""Attributes, buffers, hooks and paths of modules, as programs for PyTorch use them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Average(nn.Module):
    """Keeps a moving average in a buffer that is assigned anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", ndl.zeros(3))
        self.register_buffer("later", None)
        self.register_buffer("scratch", ndl.ones(1), persistent=False)

    def forward(self, x):
        self.average = self.average * 0.5 + x.mean(0).detach() * 0.5
        return x - self.average


def test_an_assigned_tensor_is_the_buffer(device):
    x = np.arange(6, dtype="float32").reshape(2, 3)
    averages = []
    for compiled in (False, True):
        model = Average().to(device)
        run = ndl.jit(model) if compiled else model
        for _ in range(3):
            run(ndl.tensor(x, device=device))
        assert list(model.state_dict()) == ["average"]
        assert [n for n, _ in model.named_buffers()] == ["average", "scratch"]
        averages.append(model.state_dict()["average"].numpy())
    np.testing.assert_allclose(averages[0], x.mean(0) * 0.875)
    np.testing.assert_allclose(averages[1], averages[0])


def test_what_a_buffer_may_become():
    model = Average()
    model.later = ndl.ones(2)
    assert list(model.state_dict()) == ["average", "later"]
    model.later = None
    assert list(model.state_dict()) == ["average"]
    with pytest.raises(TypeError, match="average is a buffer and cannot become a float"):
        model.average = 1.0
    model.average = nn.Parameter(ndl.ones(3))
    assert [n for n, _ in model.named_parameters()] == ["average"]
    assert [n for n, _ in model.named_buffers()] == ["scratch"]
    del model.scratch
    model.scratch = ndl.ones(1)
    assert model.buffers() == []
    with pytest.raises(TypeError, match="no Parameter, got float"):
        model.register_buffer("other", 1.0)


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.ReLU()}))


def test_members_are_attributes():
    heads = net()[1]
    assert heads.a is heads["a"]
    assert "a" in dir(heads)
    heads.b = nn.Tanh()
    assert type(heads["b"]) is nn.Tanh
    del heads.b
    assert list(heads) == ["a"]
    weights = nn.ParameterDict({"w": nn.Parameter(ndl.ones(2))})
    assert weights.w is weights["w"]
    weights.w = nn.Parameter(ndl.ones(3))
    assert weights["w"].shape == (3,)
    with pytest.raises(TypeError, match="must be a Module"):
        heads.a = 3
    with pytest.raises(AttributeError, match="'ModuleDict' object has no attribute 'c'"):
        heads.c  # noqa: B018


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    model = nn.Sequential(net()[0], nn.BatchNorm1d(3), nn.LSTM(3, 2), Average())
    clone = copied(model)
    assert repr(clone) == repr(model)
    for (n, p), (m, q) in zip(
        model.state_dict(keep_vars=True).items(), clone.state_dict(keep_vars=True).items(),
        strict=True,
    ):  # fmt: skip
        assert (n, type(p), p.requires_grad) == (m, type(q), q.requires_grad)
        assert p is not q
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_a_module_of_a_sequential_is_replaced_by_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU):
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], nn.Tanh())
    assert [type(m) for m in model] == [nn.Linear, nn.Tanh]
    assert getattr(model, "1") is model[1]
    model._modules["1"] = nn.Sigmoid()
    assert type(model[1]) is nn.Sigmoid
    model.set_submodule("0", nn.Identity())
    assert type(model[0]) is nn.Identity
    deep = nn.Sequential(net(), nn.ModuleList([nn.ReLU()]))
    deep.set_submodule("0.1.a", nn.Tanh())
    deep.set_submodule("1.0", nn.Tanh())
    assert [type(x) for x in (deep[0][1].a, deep[1][0])] == [nn.Tanh, nn.Tanh]
    with pytest.raises(AttributeError, match="no module '3'"):
        deep.set_submodule("3", nn.Tanh(), strict=True)
    delattr(model, "1")
    assert len(model) == 1


def test_dicts_of_pytorch():
    model = nn.BatchNorm1d(3)
    assert list(model._parameters) == ["weight", "bias"]
    assert {"running_mean", "running_var"} <= model._buffers.keys()
    assert list(net()._modules) == ["0", "1"]
    model._parameters["weight"] = nn.Parameter(ndl.zeros(3))
    assert model.weight.numpy().sum() == 0
    del model._parameters["bias"]
    assert not hasattr(model, "bias")


def test_names_of_shared_modules():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Sequential(relu))
    assert [n for n, _ in model.named_modules()] == ["", "0", "1"]
    assert [n for n, _ in model.named_modules(remove_duplicate=False)] == ["", "0", "1", "1.0"]
    assert model.get_submodule("1.0") is relu


def test_a_module_goes_where_a_tensor_is():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=None))
    x = ndl.zeros(1, dtype="float64", device="cpu_numpy")
    model.to(x)
    assert {p.dtype.name for p in model.parameters()} == {"float64"}
    assert {t.device for t in model.state_dict().values()} == {ndl.cpu_numpy()}
    model.to(ndl.zeros(1, dtype="int64"))
    assert {p.dtype.name for p in model.parameters()} == {"float64"}


def test_assign_takes_dtype_and_device():
    model, values = nn.Linear(2, 3), nn.Linear(2, 3).double().to("cpu_numpy").state_dict()
    held = model.weight
    model.load_state_dict(values, assign=True)
    assert model.weight is held
    assert (held.dtype.name, held.device) == ("float64", ndl.cpu_numpy())
    model.load_state_dict({"weight": np.ones((2, 3), "float32"), "bias": np.ones((1, 3), "int64")},
                          assign=True)  # fmt: skip
    assert (model.weight.dtype.name, model.bias.dtype.name) == ("float32", "float64")


class Scaled(nn.Module):
    def forward(self, x, scale=1.0):
        if scale is None:
            raise ValueError("no scale")
        return x * scale


def test_hooks_see_keyword_arguments():
    module, x, seen = Scaled(), ndl.tensor([1.0]), []
    module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"scale": kwargs["scale"] * 2}), with_kwargs=True
    )
    module.register_forward_hook(
        lambda m, args, kwargs, y: seen.append(kwargs) or y + 1, with_kwargs=True
    )
    module.register_forward_hook(lambda m, args, y: y * 10, prepend=True)
    assert module(x, scale=3.0).item() == 61
    assert seen == [{"scale": 6.0}]
    module = Scaled()
    module.register_forward_hook(lambda m, args, y: seen.append(y), always_call=True)
    with pytest.raises(ValueError, match="no scale"):
        module(x, scale=None)
    assert seen[1:] == [None]


def test_hooks_of_state_dicts():
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), []
    handles = [
        model[0].register_state_dict_pre_hook(lambda m, prefix, keep: seen.append(prefix)),
        model[0].register_state_dict_post_hook(
            lambda m, state, prefix, _: state.update({f"{prefix}extra": ndl.ones(1)})
        ),
    ]
    state = model.state_dict(prefix="net.")
    assert list(state) == ["net.0.weight", "net.0.bias", "net.0.extra"]
    assert seen == ["net.0."]
    for handle in handles:
        handle.remove()
    plain = model.state_dict()
    assert list(plain) == ["0.weight", "0.bias"]

    def older(m, state, prefix, metadata, strict, missing, unexpected, errors):
        state[f"{prefix}weight"] = state.pop(f"{prefix}w")

    old = {"0.w": plain["0.weight"] * 0 + 2.0, "0.bias": plain["0.bias"]}
    handle = model[0].register_load_state_dict_pre_hook(older)
    model.load_state_dict(old)
    assert list(old) == ["0.w", "0.bias"]
    assert model[0].weight.numpy().sum() == 12
    handle.remove()
    model.register_load_state_dict_post_hook(lambda m, keys: keys.unexpected_keys.clear())
    model.load_state_dict({**plain, "x": np.ones(1)})
    with pytest.raises(ValueError, match=r"missing: 0\.bias"):
        model.load_state_dict({"0.weight": plain["0.weight"]})


@pytest.mark.parametrize(
    ("layer", "name", "hint"),
    [
        (nn.Linear(2, 3), "share_memory", "threads"),
        (nn.LSTMCell(2, 3), "weight_ih", "W_ih"),
        (nn.LSTM(2, 3), "weight_hh_l0", "W_hh"),
        (nn.Linear(2, 3), "nothing", "'Linear' object has no attribute 'nothing'"),
    ],
)
def test_attributes_that_are_not_there(layer, name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(layer, name)
    assert not hasattr(layer, name)
