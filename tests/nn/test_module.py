"""Module: finding parameters, buffers and submodules, state, moving, hooks, printing."""

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Block(nn.Module):
    """Parameters in every kind of place, in an order that is easy to tell."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(np.ones((1,)))
        self.layers = [nn.Linear(2, 3), (nn.Linear(3, 3, bias=False), nn.ReLU())]
        self.heads = {"a": nn.Linear(3, 1), "b": nn.Parameter(np.ones((2,)))}
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Parameter(np.ones((4,)))
        self.note = "not a parameter"
        self.constant = ndl.Tensor([1.0], requires_grad=False)


BLOCK_NAMES = [
    "first",
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.0.weight",
    "heads.a.weight",
    "heads.a.bias",
    "heads.b",
    "norm.weight",
    "norm.bias",
    "last",
]


class Affine(nn.Module):
    """scale·x, to have something small to call."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = nn.Parameter([scale])

    def forward(self, x, shift=0.0):
        return x * self.scale + shift


def test_parameters_in_attribute_order():
    block = Block()
    named = dict(block.named_parameters())
    assert list(named) == BLOCK_NAMES
    assert [id(p) for p in block.parameters()] == [id(p) for p in named.values()]
    assert isinstance(block.parameters(), list)
    assert list(dict(block.named_parameters("model"))) == [f"model.{n}" for n in BLOCK_NAMES]


def test_modules_and_children():
    block = Block()
    paths = ["", "layers.0", "layers.1.0", "layers.1.1", "heads.a", "norm"]
    assert [path for path, _ in block.named_modules()] == paths
    assert [path for path, _ in block.named_children()] == paths[1:]
    model = nn.Sequential(block, nn.Sequential(nn.ReLU()))
    assert [type(m).__name__ for m in model.children()] == ["Block", "Sequential"]
    descendants = model._children()
    assert isinstance(descendants, list)
    assert [type(m).__name__ for m in descendants] == [
        "Block", "Linear", "Linear", "ReLU", "Linear", "BatchNorm1d", "Sequential", "ReLU",
    ]  # fmt: skip


def test_shared_things_appear_once():
    layer = nn.Linear(2, 2)
    tied = nn.Linear(2, 2)
    tied.weight = layer.weight
    model = nn.Sequential(layer, nn.ReLU(), layer, tied)
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "3.bias"]
    assert len(model._children()) == 3
    model.load_state_dict(model.state_dict())
    assert tied.weight is layer.weight


def test_a_module_that_knows_its_parent():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].parent = [model]
    assert len(model.parameters()) == 2
    assert model._children() == [model[0]]
    model.train().eval()


def test_train_and_eval_reach_every_module_and_return_it():
    model = nn.Sequential(Block(), nn.Residual(nn.Dropout(0.5)))
    assert model.eval() is model
    assert not any(m.training for m in [model, *model._children()])
    assert model.train() is model
    assert all(m.training for m in [model, *model._children()])
    model.train(False)
    assert not model[1].fn.training


def test_apply_visits_children_first():
    seen = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Residual(nn.ReLU()))
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen == ["Linear", "ReLU", "Residual", "Sequential"]


def test_a_module_without_super_init_works():
    class Bare(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            return self.inner(x)

    bare = Bare()
    assert bare.training
    assert len(bare.parameters()) == 2
    assert bare(ndl.Tensor(np.ones((1, 2)))).shape == (1, 2)


def test_forward_is_required():
    with pytest.raises(NotImplementedError, match=r"\[Module\]"):
        nn.Module()(1)


# ---- buffers ------------------------------------------------------------------------------------


def test_buffers_are_saved_but_not_trained():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    names = ["1.running_mean", "1.running_var"]
    assert [n for n, _ in model.named_buffers()] == names
    assert not any(b.requires_grad for b in model.buffers())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", *names]
    model[1].running_mean.data = ndl.Tensor([1.0, 2.0, 3.0], requires_grad=False)
    np.testing.assert_array_equal(model.state_dict()["1.running_mean"].numpy(), [1, 2, 3])


def test_buffers_that_are_not_persistent():
    module = Affine()
    module.register_buffer("cache", ndl.Tensor([1.0], requires_grad=False), persistent=False)
    assert [n for n, _ in module.named_buffers()] == ["cache"]
    assert list(module.state_dict()) == ["scale"]
    assert [n for n, _ in Affine().named_buffers()] == []
    with pytest.raises(TypeError, match="no Parameter"):
        module.register_buffer("other", nn.Parameter([1.0]))


# ---- state_dict -----------------------------------------------------------------------------


def make_model():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def test_state_dict_round_trip(device):
    np.random.seed(0)
    source, target = make_model().to(device), make_model().to(device)
    x = ndl.Tensor(np.random.randn(6, 4), device=device)
    source(x)  # moves the running statistics
    state = source.state_dict()
    assert target.load_state_dict(state) == ([], [])
    for (name, a), (_, b) in zip(
        source.state_dict().items(), target.state_dict().items(), strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
        assert not a.requires_grad
    np.testing.assert_array_equal(source.eval()(x).numpy(), target.eval()(x).numpy())


def test_loading_copies():
    model = make_model()
    state = {name: t.numpy() for name, t in model.state_dict().items()}
    model.load_state_dict(state)
    state["0.weight"][:] = 77
    assert not (model[0].weight.numpy() == 77).any()


def test_state_dict_keeps_the_values_of_its_time():
    model = make_model()
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    state = model.state_dict()
    optimizer = ndl.optim.SGD(model.parameters(), lr=1.0)
    model(ndl.Tensor(np.random.randn(5, 4))).sum().backward()
    optimizer.step()
    for name, value in before.items():
        np.testing.assert_array_equal(state[name].numpy(), value)
    assert not np.array_equal(model.state_dict()["3.bias"].numpy(), before["3.bias"])


def test_loading_converts_dtype_and_device():
    model = make_model().to("float64")
    state = {k: v.numpy().astype("float32") for k, v in make_model().state_dict().items()}
    state["0.bias"] = ndl.cpu_numpy().full((1, 3), 2.0)
    model.load_state_dict(state)
    assert all(t.dtype == "float64" for t in model.state_dict().values())
    np.testing.assert_array_equal(model[0].bias.numpy(), [[2, 2, 2]])


def test_a_bad_state_changes_nothing_and_lists_everything():
    model = make_model()
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    state = {name: np.full(t.shape, 9.0) for name, t in before.items()}
    del state["3.weight"]
    state["3.wieght"] = np.zeros((3, 2))
    state["0.weight"] = np.zeros((4, 5))
    with pytest.raises(ValueError, match="load_state_dict") as caught:
        model.load_state_dict(state)
    message = str(caught.value)
    assert "missing: 3.weight" in message
    assert "unexpected: 3.wieght" in message
    assert "0.weight has shape (4, 5), expected (4, 3)" in message
    del state["0.weight"]
    state["1.bias"] = "three"
    with pytest.raises(TypeError, match=r"1\.bias"):
        model.load_state_dict(state, strict=False)
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_loading_what_is_there():
    model = make_model()
    result = model.load_state_dict({"3.bias": np.ones((1, 2)), "x": np.ones(1)}, strict=False)
    assert result.unexpected_keys == ["x"]
    assert "3.weight" in result.missing_keys
    assert "3.bias" not in result.missing_keys
    np.testing.assert_array_equal(model[3].bias.numpy(), [[1, 1]])


# ---- to -------------------------------------------------------------------------------------


def test_to_moves_parameters_gradients_and_buffers(device):
    model = make_model()
    assert model.to(device, "float64") is model
    model(ndl.Tensor(np.ones((3, 4)), device=device, dtype="float64")).sum().backward()
    tensors = [*model.parameters(), *model.buffers(), *[p.grad for p in model.parameters()]]
    assert {(t.device, str(t.dtype)) for t in tensors} == {(device, "float64")}
    parameters = model.parameters()
    model.to(ndl.cpu_numpy(), dtype="float32")
    assert [id(p) for p in parameters] == [id(p) for p in model.parameters()]
    tensors = [*model.parameters(), *model.buffers(), *[p.grad for p in model.parameters()]]
    assert {(t.device, str(t.dtype)) for t in tensors} == {(ndl.cpu_numpy(), "float32")}
    assert all(p.requires_grad for p in model.parameters())


def test_to_keeps_integer_buffers_and_refuses_integer_dtypes():
    module = Affine()
    module.register_buffer("count", ndl.Tensor(np.array([3])))
    module.to("float64")
    assert (module.scale.dtype, module.count.dtype) == ("float64", "int64")
    with pytest.raises(TypeError, match=r"\[to\] dtype"):
        module.to("int32")
    with pytest.raises(TypeError, match="not supported"):
        module.to("nonsense")
    assert module.scale.dtype == "float64"


# ---- hooks ----------------------------------------------------------------------------------


def test_hooks_see_and_replace():
    module = Affine(3.0)
    seen = []

    def before(owner, args):
        seen.append(("before", owner is module, len(args)))
        return (args[0] * 10,)

    def after(owner, args, result):
        seen.append(("after", float(args[0].item()), float(result.item())))
        return result + 1

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    x = ndl.Tensor([1.0])
    assert module(x, shift=0.5).item() == pytest.approx(31.5)
    assert seen == [("before", True, 1), ("after", 10.0, 30.5)]
    for handle in handles:
        handle.remove()
        handle.remove()
    assert module(x).item() == pytest.approx(3.0)
    assert len(seen) == 2
    assert not module._hooks


def test_hooks_that_return_nothing_and_a_single_value():
    module = Affine(3.0)
    module.register_forward_hook(lambda *_: None)
    module.register_forward_pre_hook(lambda _, args: args[0] * 2)
    assert module(ndl.Tensor([1.0])).item() == pytest.approx(6.0)


# ---- printing -------------------------------------------------------------------------------


def test_repr_shows_the_tree():
    model = nn.Sequential(
        nn.Linear(4, 3), nn.Residual(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.2))), nn.ReLU()
    )
    assert repr(model) == "\n".join(
        [
            "Sequential(",
            "  (0): Linear(in_features=4, out_features=3, bias=True)",
            "  (1): Residual(",
            "    (fn): Sequential(",
            "      (0): BatchNorm1d(3, eps=1e-05, momentum=0.1)",
            "      (1): Dropout(p=0.2)",
            "    )",
            "  )",
            "  (2): ReLU()",
            ")",
        ]
    )


def test_summary_gives_shapes_and_counts():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Dropout(), nn.Flatten())
    model[3].eval()
    state = np.random.get_state()[1].copy()
    result = nn.summary(model, (5, 8))
    assert [row.output_shape for row in result.rows] == [(5, 6)] * 6
    assert [row.parameters for row in result.rows] == [0, 54, 0, 12, 0, 0]
    assert result.total_parameters == 66
    assert [m.training for m in model] == [True, True, True, False, True]
    assert not any(m._hooks for m in model)
    np.testing.assert_array_equal(model[2].running_mean.numpy(), 0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    text = str(result)
    assert "0: Linear" in text
    assert "(5, 6)" in text
    assert text.splitlines()[-1].split() == ["Total", "66"]


def test_summary_of_several_inputs_and_nested_names():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [nn.Embedding(4, 3), nn.Linear(3, 2)]
            self.unused = nn.ReLU()
            self.scale = nn.Parameter([1.0])

        def forward(self, a, b):
            return self.parts[1](a) * self.scale, b

    result = nn.summary(TwoInputs(), [(2, 3), (7,)])
    rows = {row.path: row for row in result.rows}
    assert rows[""].output_shape == [(2, 2), (7,)]
    assert rows[""].parameters == 1
    assert (rows["parts.0"].parameters, rows["parts.0"].output_shape) == (12, None)
    assert rows["parts.1"].depth == 1
    assert "parts.0: Embedding" in str(result)
    indices = nn.summary(nn.Embedding(4, 3), (2, 5), dtype="int64")
    assert indices.rows[0].output_shape == (2, 5, 3)


def test_summary_restores_the_model_after_an_error():
    model = make_model()
    with pytest.raises(ValueError, match="linear"):
        nn.summary(model, (2, 9))
    assert model.training
    assert not model[0]._hooks
    with pytest.raises(TypeError, match=r"\[summary\]"):
        nn.summary(3, (1, 2))
