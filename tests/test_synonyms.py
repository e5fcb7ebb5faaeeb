"""Arguments by the names that NumPy, PyTorch and the course have for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.synonyms import SYNONYMS, Names, parameter_names

X = np.random.RandomState(0).randn(2, 3, 4)
AXES = SYNONYMS[0]
# Functions that need arguments besides a Tensor and an axis.
MORE = (
    "stack", "concatenate", "concat", "cat", "chunk", "topk", "take", "gather", "scatter_add",
    "dilate", "pad",
)  # fmt: skip
# Functions of which `dim` and `axis` mean different things: ops/test_extremes.py has them.
TWO_MEANINGS = ("max", "median", "min")
OTHERS = (*MORE, *TWO_MEANINGS, "norm")  # its first argument is the order, as in PyTorch


def with_axis() -> list[str]:
    """The functions that take one axis or several, and need no more than a Tensor."""
    found = []
    for name in ndl.__all__:
        function = getattr(ndl, name)
        if not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())
        free = [p for p in parameters[1:] if p.default is p.empty and p.name not in AXES]
        if any(p.name in AXES for p in parameters) and not free and name not in OTHERS:
            found.append(name)
    return found


def numbers(result: Any) -> list[np.ndarray]:
    return [x.numpy() for x in (result if isinstance(result, tuple) else [result])]


def same(a: Any, b: Any) -> None:
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_array_equal(x, y)


def argument(function: Callable[..., Any]) -> Any:
    """An axis, or as many as the function takes."""
    name = next(p for p in inspect.signature(function).parameters if p in AXES)
    several = {"permute": (2, 0, 1), "rot90": (0, 2), "transpose": (0, 1), "flip": (1,)}
    return several.get(function.__name__, 1) if name == "axes" else 1


@pytest.mark.parametrize("other", AXES)
@pytest.mark.parametrize("name", with_axis())
def test_functions(name: str, other: str) -> None:
    function, x = getattr(ndl, name), ndl.Tensor(X[:, :1] if name == "squeeze" else X)
    at = argument(function)
    own = next(p for p in inspect.signature(function).parameters if p in AXES)
    same(function(x, **{other: at}), function(x, **{own: at}))


@pytest.mark.parametrize("other", AXES)
@pytest.mark.parametrize(
    "name",
    ["sum", "mean", "var", "std", "prod", "amax", "amin", "argmax", "argmin", "cumsum",
     "softmax", "log_softmax", "unsqueeze"],
)  # fmt: skip
def test_methods(name: str, other: str) -> None:
    method = getattr(ndl.Tensor(X), name)
    same(method(**{other: 1}), method(1))


@pytest.mark.parametrize("keep", SYNONYMS[1])
def test_keepdims(keep: str) -> None:
    x = ndl.Tensor(X)
    assert x.sum(dim=1, **{keep: True}).shape == (2, 1, 4)
    assert ndl.logsumexp(x, 1, **{keep: True}).shape == (2, 1, 4)


@pytest.mark.parametrize("other", AXES)
@pytest.mark.parametrize("layer", [nn.Softmax, nn.LogSoftmax])
def test_axes_of_layers(layer: type[nn.Module], other: str) -> None:
    x = ndl.Tensor(X)
    same(layer(**{other: 1})(x), layer(1)(x))


HEADS = ("num_heads", "num_head", "nhead")
ATTENTION = {
    "AttentionLayer": dict(q_features=8, dim_head=3),
    "TransformerLayer": dict(q_features=8, dim_head=3, hidden_size=5),
    "Transformer": dict(embedding_size=8, hidden_size=5, num_layers=1, dim_head=3, sequence_len=4),
    "SelfAttention": dict(features=8),
    "CrossAttention": dict(features=8),
    "MultiheadAttention": dict(embed_dim=8),
    "TransformerEncoderLayer": dict(d_model=8, dim_feedforward=5),
    "TransformerDecoderLayer": dict(d_model=8, dim_feedforward=5),
}


def test_every_layer_with_heads_calls_them_num_heads() -> None:
    found = {
        name
        for name in nn.__all__
        if isinstance(getattr(nn, name), type)
        and {*HEADS} & inspect.signature(getattr(nn, name)).parameters.keys()
    }
    assert found == {*ATTENTION}
    for name in found:
        assert "num_heads" in inspect.signature(getattr(nn, name)).parameters


@pytest.mark.parametrize("other", HEADS)
@pytest.mark.parametrize("name", ATTENTION)
def test_number_of_heads(name: str, other: str) -> None:
    layer = getattr(nn, name)(**ATTENTION[name], **{other: 2})
    heads = [m.num_heads for _, m in layer.named_modules() if hasattr(m, "num_heads")]
    assert heads
    assert set(heads) == {2}
    with pytest.raises(TypeError, match=rf"\[{name}\] num_heads and nhead are two names"):
        getattr(nn, name)(**ATTENTION[name], num_heads=2, nhead=2)


def test_the_course_reads_num_head() -> None:
    assert nn.AttentionLayer(8, 2, 3).num_head == 2


def test_a_dtype_of_none_is_dropped_only_where_there_is_none() -> None:
    names = Names(lambda axis, dtype: None)
    assert names.translated({"dim": 0, "dtype": None}) == {"axis": 0, "dtype": None}
    assert Names(lambda axis: None).translated({"dim": 0, "dtype": None}) == {"axis": 0}


def test_numpys_functions_call_the_methods() -> None:
    x = ndl.Tensor(X, dtype="float64")
    for function in (np.sum, np.mean, np.prod, np.max, np.min, np.argmax, np.var, np.std):
        for options in ({}, {"axis": 1}):
            result = function(x, **options)
            assert isinstance(result, ndl.Tensor)
            np.testing.assert_allclose(result.numpy(), function(X, **options), rtol=1e-12)


def test_one_argument_under_two_names_is_an_error() -> None:
    x = ndl.Tensor(X)
    for call in (lambda: x.sum(dim=1, axis=0), lambda: ndl.softmax(x, dim=1, axes=0)):
        with pytest.raises(TypeError, match="are two names of one argument"):
            call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'axs'"):
        x.sum(axs=1)
    with pytest.raises(TypeError, match="multiple values"):
        ndl.softmax(x, 1, dim=0)


def test_a_name_of_the_function_itself_is_no_synonym() -> None:
    assert Names(lambda dim, axis: None).others == {"axes": "axis", "dims": "axis"}


def test_gather_in_the_other_order_says_so() -> None:
    x = ndl.Tensor(X)
    with pytest.raises(TypeError, match=r"takes \(a, axis, index\)"):
        ndl.gather(x, ndl.Tensor(np.zeros((2, 3, 1)), dtype="int64"), 1)


def test_attention_takes_pytorchs_names() -> None:
    q = ndl.Tensor(np.random.RandomState(1).randn(1, 2, 3, 4))
    expected = ndl.scaled_dot_product_attention(q, q, q, causal=True)
    same(ndl.scaled_dot_product_attention(q, q, q, is_causal=True), expected)
    mask = np.tri(3, dtype=bool)
    same(ndl.scaled_dot_product_attention(q, q, q, attn_mask=mask), expected)
    x, layer = ndl.Tensor(X), nn.SelfAttention(4, 2)
    same(layer(x, is_causal=True), layer(x, causal=True))
    encoder = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0)
    same(encoder(x, is_causal=True), encoder(x, causal=True))


@pytest.mark.parametrize("other", ["input", "x"])
@pytest.mark.parametrize(
    "loss", [nn.KLDivLoss(), nn.MSELoss(), nn.L1Loss(), nn.BCEWithLogitsLoss()], ids=str
)
def test_losses_call_their_argument_input(loss: nn.Module, other: str) -> None:
    x, target = ndl.Tensor(X), ndl.Tensor(abs(X))
    assert list(inspect.signature(loss.forward).parameters) == ["input", "target"]
    same(loss(target=target, **{other: x}), loss(x, target))


@pytest.mark.parametrize("loss", [nn.NLLLoss(), nn.CrossEntropyLoss()], ids=str)
def test_losses_of_classes_take_input(loss: nn.Module) -> None:
    x, target = ndl.Tensor(X[0]), ndl.Tensor([0, 1, 2], dtype="int64")
    same(loss(input=x, target=target), loss(x, target))


def test_pytorchs_spelling_of_rmsprop() -> None:
    assert ndl.optim.RMSprop is ndl.optim.RMSProp


def test_names_of_parameters_are_those_of_signatures() -> None:
    functions = [getattr(module, name) for module in (ndl, ndl.nn) for name in module.__all__]
    own = [getattr(f, "__init__", f) if inspect.isclass(f) else f for f in functions]
    checked = [f for f in own if inspect.isfunction(f)]
    assert len(checked) > 300
    for function in checked:
        assert list(parameter_names(function)) == list(inspect.signature(function).parameters)
