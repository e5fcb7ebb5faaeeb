"""Weights go from PyTorch's layers to needle's and back: one table, each row run both ways."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")
parametrizations = torch.nn.utils.parametrizations


class Row(NamedTuple):
    """A layer of both frameworks, made by one function of the frameworks' `nn`, and its inputs."""

    name: str
    make: Callable[[Any], Any]
    inputs: tuple[Any, ...]


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def counts(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, shape)


def layer(name: str, *args: Any, inputs: tuple[Any, ...], **options: Any) -> Row:
    text = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in options.items())])
    return Row(f"{name}({text})", lambda nn: getattr(nn, name)(*args, **options), inputs)


class Whole:
    """A model as users write it, in either framework."""

    def __new__(cls, nn: Any) -> Any:
        randn = torch.randn if nn is torch.nn else ndl.randn

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(randn(6))
                self.lin = nn.Linear(6, 6)
                self.register_buffer("shift", randn(6))

            def forward(self, x: Any) -> Any:
                return x + self.lin(x) * self.scale + self.shift

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.position = nn.Parameter(randn(1, 4, 6))
                self.body = nn.Sequential(Block(), nn.GELU(), Block())
                self.again = self.body[0]
                self.heads = nn.ModuleDict({"a": nn.Linear(6, 3), "b": nn.Linear(6, 6, bias=False)})
                self.heads["b"].weight = self.body[2].lin.weight
                self.weights = nn.ParameterList([nn.Parameter(randn(6)) for _ in range(2)])

            def forward(self, x: Any) -> Any:
                x = self.again(self.body(x + self.position)) * self.weights[1]
                return self.heads["b"](x).sum() + self.heads["a"](x)

        return Model()


class Tied:
    """A language model whose last layer has the embedding's table."""

    def __new__(cls, nn: Any) -> Any:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(5, 4)
                self.head = nn.Linear(4, 5)
                if nn is torch.nn:
                    self.head.weight = self.embedding.weight
                else:
                    self.head.tie(self.embedding.weight)

            def forward(self, x: Any) -> Any:
                return self.head(self.embedding(x))

        return Model()


def normed(old: str, make: Callable[[Any], Any], new: str = "") -> Callable[[Any], Any]:
    """A layer with a norm of its weight; `new` is the name of PyTorch's parametrization."""

    def made(nn: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates its own
            if nn is torch.nn and new:
                return getattr(parametrizations, new)(make(nn))
            return getattr(nn.utils, old)(make(nn))

    return made


IMAGE, SEQUENCE, VOLUME = floats(2, 4, 6, 6), floats(2, 4, 7), floats(2, 4, 4, 4, 4)
X = floats(3, 5)
NORMED: list[tuple[str, Callable[[Any], Any], np.ndarray]] = [
    ("Linear", lambda nn: nn.Linear(5, 6), X),
    ("Conv1d", lambda nn: nn.Conv1d(4, 5, 3), SEQUENCE),
    ("Conv2d", lambda nn: nn.Conv2d(4, 5, (2, 3)), IMAGE),
]
ROWS = [
    layer("Linear", 5, 5, inputs=(X,)),
    layer("Linear", 5, 2, bias=False, inputs=(X,)),
    layer("Bilinear", 5, 4, 3, inputs=(X, floats(3, 4))),
    layer("Embedding", 5, 3, padding_idx=1, inputs=(counts(2, 3),)),
    layer("EmbeddingBag", 5, 3, mode="mean", inputs=(counts(2, 4),)),
    layer("Conv1d", 4, 6, 3, groups=2, inputs=(SEQUENCE,)),
    layer("Conv2d", 4, 4, 3, inputs=(IMAGE,)),
    layer("Conv2d", 4, 6, (2, 3), bias=False, stride=2, padding=1, inputs=(IMAGE,)),
    layer("Conv3d", 4, 2, 2, inputs=(VOLUME,)),
    layer("ConvTranspose1d", 4, 3, 3, stride=2, inputs=(SEQUENCE,)),
    layer("ConvTranspose2d", 4, 4, 2, stride=2, inputs=(IMAGE,)),
    layer("ConvTranspose3d", 4, 3, 2, bias=False, inputs=(VOLUME,)),
    layer("BatchNorm1d", 4, inputs=(SEQUENCE,)),
    layer("BatchNorm2d", 4, momentum=None, inputs=(IMAGE,)),
    layer("BatchNorm3d", 4, affine=False, inputs=(VOLUME,)),
    layer("InstanceNorm2d", 4, affine=True, track_running_stats=True, inputs=(IMAGE,)),
    layer("LayerNorm", 5, inputs=(X,)),
    layer("LayerNorm", (6, 6), bias=False, inputs=(IMAGE,)),
    layer("GroupNorm", 2, 4, inputs=(IMAGE,)),
    layer("RMSNorm", 5, inputs=(X,)),
    layer("PReLU", 4, inputs=(IMAGE,)),
    layer("RNNCell", 5, 4, nonlinearity="relu", inputs=(X,)),
    layer("LSTMCell", 5, 4, inputs=(X,)),
    layer("GRUCell", 5, 5, bias=False, inputs=(X,)),
    layer("RNN", 4, 3, 2, inputs=(floats(6, 2, 4),)),
    layer("LSTM", 4, 3, 2, bidirectional=True, inputs=(floats(6, 2, 4),)),
    layer("LSTM", 4, 5, proj_size=3, inputs=(floats(6, 2, 4),)),
    layer("LSTM", 4, 5, 2, proj_size=2, bidirectional=True, bias=False, inputs=(floats(6, 2, 4),)),
    layer("GRU", 4, 4, bias=False, batch_first=True, inputs=(floats(2, 6, 4),)),
    layer("MultiheadAttention", 4, 2, inputs=(floats(3, 2, 4),) * 3),
    layer(
        "MultiheadAttention", 4, 2, bias=False, kdim=3, vdim=6, batch_first=True,
        inputs=(floats(2, 3, 4), floats(2, 5, 3), floats(2, 5, 6)),
    ),
    Row(
        "TransformerEncoder",
        lambda nn: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, norm=nn.LayerNorm(4)
        ),
        (floats(2, 3, 4),),
    ),
    Row(
        "TransformerDecoder",
        lambda nn: nn.TransformerDecoder(
            nn.TransformerDecoderLayer(4, 2, 8, norm_first=True, batch_first=True), 2
        ),
        (floats(2, 3, 4), floats(2, 5, 4)),
    ),
    Row("a model", Whole, (floats(2, 4, 6),)),
    Row("tied weights", Tied, (counts(2, 3),)),
    *(
        Row(f"{new or old} of {name}", normed(f"{old}_norm", make, new), (x,))
        for name, make, x in NORMED
        for old, new in [("weight", ""), ("weight", "weight_norm"), ("spectral", ""),
                         ("spectral", "spectral_norm")]
    ),
]  # fmt: skip


def pair(row: Row) -> tuple[Any, Any]:
    torch.manual_seed(0)
    ndl.manual_seed(0)
    theirs, ours = row.make(torch.nn), row.make(nn)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.5)
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return theirs.eval(), ours.eval()


def check(theirs: Any, ours: Any, inputs: tuple[Any, ...]) -> None:
    """The outputs are equal for float32 sums of some tens of products."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has no fast path for a projected LSTM
        expected = theirs(*(torch.tensor(x) for x in inputs))
    results = ours(*(ndl.tensor(x) for x in inputs))
    expected, results = ([y] if not isinstance(y, tuple) else y for y in (expected, results))
    for wanted, got in zip(flat(expected), flat(results), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


def flat(values: Any) -> list[Any]:
    found = []
    for value in values:
        found += flat(value) if isinstance(value, tuple) else [value]
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_layer_and_its_peer(row: Row) -> None:
    theirs, ours = pair(row)
    keys = nn.from_torch_state_dict(ours, theirs.state_dict())
    assert keys == ([], [])
    check(theirs, ours, row.inputs)
    back = nn.to_torch_state_dict(ours)
    state = theirs.state_dict()
    if not any("parametrizations" in name for name in state):
        assert back.keys() == state.keys()
        for name, value in state.items():
            if not name.endswith("num_batches_tracked"):
                np.testing.assert_array_equal(back[name], value.numpy(), err_msg=name)

    theirs, ours = pair(row)
    if "_norm" not in row.name:
        theirs.load_state_dict(
            {n: torch.tensor(x) for n, x in nn.to_torch_state_dict(ours).items()}
        )
        check(theirs, ours, row.inputs)


def test_what_is_missing_and_what_is_too_much() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = theirs.state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"missing: 0\.bias; unexpected: 2\.weight"):
        nn.from_torch_state_dict(ours, state)
    keys = nn.from_torch_state_dict(ours, state, strict=False)
    assert keys == (["0.bias"], ["2.weight"])
    np.testing.assert_array_equal(ours[0].weight.numpy(), state["0.weight"].numpy().T)
    state["0.weight"] = torch.ones(5, 3)
    state["1.weight"] = torch.ones(5)
    with pytest.raises(ValueError, match=r"0\.weight has shape \(3, 5\).*1\.weight has shape"):
        nn.from_torch_state_dict(ours, state, strict=False)
    with pytest.raises(TypeError, match=r"'0\.weight' must be a tensor of real numbers"):
        nn.from_torch_state_dict(ours, {"0.weight": torch.ones(4, 3, dtype=torch.complex64)})
    with pytest.raises(TypeError, match=r"dict of tensors .*state_dict\(\), got torch.Sequential"):
        nn.from_torch_state_dict(ours, theirs)


def test_dtypes_of_the_state() -> None:
    theirs, ours = torch.nn.Linear(3, 4).to(torch.bfloat16), nn.Linear(3, 4)
    nn.from_torch_state_dict(ours, dict(theirs.named_parameters()))
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().float().numpy().T)
