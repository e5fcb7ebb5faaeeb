"""The table of differences in docs/pytorch.md is true: what a row says, and what it tells to write.

The rows are known by their first cells; a row without a check, or a check without a row, fails.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.nn import functional as F

CHECKS: dict[str, Callable[[Path], None]] = {}


def row(first_cell: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def keep(check: Callable[[Path], None]) -> Callable[[Path], None]:
        CHECKS[first_cell] = check
        return check

    return keep


def rows() -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text()
    table = text[text.index("| in PyTorch |") :].split("\n\n")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def x23() -> ndl.Tensor:
    return ndl.arange(6, dtype="float32").reshape(2, 3)


def test_every_row_has_a_check() -> None:
    assert sorted(rows()) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_row(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ndl.DifferenceWarning)
        CHECKS[name](tmp_path)


@row("`backward()` adds to `.grad`")
def _(_: Path) -> None:
    w = nn.Parameter([1.0])
    (w * 2).sum().backward()
    (w * 3).sum().backward()
    assert w.grad.item() == 3
    (w * 2).sum().backward(accumulate=True)
    assert w.grad.item() == 5


@row("`torch.tensor(x)` requires no gradient")
def _(_: Path) -> None:
    assert not ndl.tensor([1.0]).requires_grad
    assert ndl.Tensor([1.0]).requires_grad
    assert not ndl.Tensor([1.0], requires_grad=False).requires_grad


@row("SGD: v = m·v + g")
def _(_: Path) -> None:
    for options, expected in (({}, -0.1 - 0.19), ({"dampening": 0}, -1 - 1.9)):
        w = nn.Parameter([0.0])
        optimizer = optim.SGD([w], lr=1.0, momentum=0.9, **options)
        for _ in range(2):
            w.sum().backward()
            optimizer.step()
        assert w.item() == pytest.approx(expected)


@row("`Linear.weight` is (out, in)")
def _(_: Path) -> None:
    layer = nn.Linear(3, 2, bias=False)
    assert layer.weight.shape == (3, 2)
    assert F.linear(x23(), layer.weight.T).allclose(layer(x23()))


@row("`SGD`, `Adam` and `AdamW` without `lr` learn at 0.001")
def _(_: Path) -> None:
    for make in (optim.SGD, optim.Adam, optim.AdamW):
        assert make([nn.Parameter([1.0])]).lr == 0.01


@row("`nn.Transformer` has a dropout of 0.1")
def _(_: Path) -> None:
    assert inspect.signature(nn.Transformer).parameters["dropout"].default == 0.0


@row("`Linear.bias` is (out,)")
def _(_: Path) -> None:
    parameters = dict(nn.Linear(3, 2).named_parameters())
    assert parameters["bias"].shape == (1, 2)
    assert [name for name in parameters if name.endswith("bias")] == ["bias"]


@row("`Linear` and `Conv2d` begin with U(±1/√fan_in)")
def _(_: Path) -> None:
    layers = (nn.Linear(400, 300), 400), (nn.Conv2d(16, 300, 5), 400)
    for layer, fan_in in layers:
        assert abs(layer.weight.numpy()).max() == pytest.approx((6 / fan_in) ** 0.5, rel=0.01)
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
        assert abs(layer.weight.numpy()).max() == pytest.approx(fan_in**-0.5, rel=0.01)


@row("`running_var` of batch norm is unbiased")
def _(_: Path) -> None:
    layer = nn.BatchNorm1d(1, momentum=1.0)
    layer(ndl.tensor([[1.0], [3.0]]))
    assert layer.running_var.item() == 1


@row("`num_batches_tracked` of batch norm is always there")
def _(_: Path) -> None:
    assert "num_batches_tracked" not in nn.BatchNorm1d(1).state_dict()
    assert "num_batches_tracked" in nn.to_torch_state_dict(nn.BatchNorm1d(1))
    layer = nn.BatchNorm1d(1, momentum=None)
    layer(ndl.tensor([[1.0], [3.0]]))
    assert layer.num_batches_tracked.item() == 1


@row("`head.weight = embedding.weight`")
def _(_: Path) -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.tie(embedding.weight)
    assert head(x23()).allclose(F.linear(x23(), embedding.weight))


@row("`x.diagonal()` and `x.unfold()` are views")
def _(_: Path) -> None:
    x = ndl.ones(2, 2, requires_grad=False)
    x.diagonal().fill_(0)
    assert x.sum().item() == 4
    i = ndl.arange(2)
    x[i, i] = 0
    assert x.sum().item() == 2


@row("`Conv2d.weight` is (out, in, kh, kw)")
def _(_: Path) -> None:
    layer, x = nn.Conv2d(2, 3, (4, 5), bias=False), ndl.randn(1, 2, 6, 7)
    assert layer.weight.shape == (4, 5, 2, 3)
    weight = layer.weight.permute(3, 2, 0, 1)
    assert F.conv2d(x, weight).allclose(layer(x), atol=1e-5)


@row("`x.max(1)`, `x.max(dim=1)`: (values, indices)")
def _(_: Path) -> None:
    for name in ("max", "min", "median"):
        method = getattr(x23(), name)
        assert len(method(1)) == len(method(dim=1)) == 2
        assert method(axis=1).tolist() == method(1).values.tolist()


@row("`torch.split(x, 2)` cuts parts of length 2")
def _(_: Path) -> None:
    x = ndl.arange(6)
    assert [part.shape for part in ndl.split(x23(), 0)] == [(3,), (3,)]
    for parts in (x.split(2), ndl.split(x, 2, dim=0)):
        assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


@row("`torch.equal(a, b)` is one bool")
def _(_: Path) -> None:
    assert ndl.equal(x23(), x23()).shape == (2, 3)
    assert x23().equal(x23()) is True


@row("a 0-d Tensor changes the dtype of others only where its kind is higher")
def _(_: Path) -> None:
    scale = ndl.tensor(2.0, dtype="float64")
    assert (x23() * scale).dtype == "float64"
    assert (x23() * scale.item()).dtype == (x23() * 2.0).dtype == "float32"


@row("`dtype.is_floating_point`")
def _(_: Path) -> None:
    assert isinstance(x23().dtype, np.dtype)
    assert x23().dtype.kind == "f"
    assert x23().is_floating_point()


@row("`x.shape` and `x.size()` are `torch.Size`")
def _(_: Path) -> None:
    x = x23()
    assert type(x.shape) is tuple
    assert isinstance(x.size(), ndl.Size)
    assert x.numel() == x.size().numel() == 6


@row("`x.T` of more than two axes is an error")
def _(_: Path) -> None:
    assert ndl.ones(2, 3, 4).T.shape == (4, 3, 2)
    assert ndl.ones(2, 3, 4).mT.shape == (2, 4, 3)


@row("`F.one_hot(x, n)` is int64")
def _(_: Path) -> None:
    labels = ndl.tensor([0, 2])
    assert ndl.one_hot(labels, 3).dtype == "float32"
    assert ndl.one_hot(labels, 3, dtype="int64").dtype == F.one_hot(labels, 3).dtype == "int64"


@row("`a += b` changes a Tensor that is part of a graph")
def _(_: Path) -> None:
    for change, kept in ((lambda a: a.__iadd__(1), True), (lambda a: a.add_(1), False)):
        a = ndl.Tensor([1.0]) * 1
        other = a
        a = change(a)
        assert (other.item(), a.item()) == (1 if kept else 2, 2)


@row("`F.relu(x, inplace=True)` and `nn.ReLU(inplace=True)` change x")
def _(_: Path) -> None:
    x = ndl.tensor([-1.0])
    assert F.relu(x, inplace=True).item() == nn.ReLU(inplace=True)(x).item() == 0
    assert x.item() == -1
    F.relu_(x)
    assert x.item() == 0


@row("`torch.compile(model)` compiles the forward and the backward pass")
def _(_: Path) -> None:
    model = nn.Linear(3, 2)

    def step(x: ndl.Tensor) -> ndl.Tensor:
        loss = model(x).sum()
        loss.backward()
        return loss

    expected = step(x23()).item()
    for compiled in (ndl.compile(step), ndl.jit(step)):
        model.weight.grad = None
        assert compiled(x23()).item() == pytest.approx(expected, rel=1e-5)
        assert model.weight.grad is not None


@row("`x[0].zero_()` and `y = x.reshape(n, -1); y[mask] = 0` change x, also in a graph")
def _(_: Path) -> None:
    x = ndl.Tensor(x23().numpy()) * 1
    kept = x[0]
    with pytest.raises(RuntimeError):
        kept.zero_()
    x = ndl.Tensor(x23().numpy()) * 1
    y = x.reshape(3, -1).clone()
    y[y > 3] = 0
    x[0] = 0
    assert (y.sum().item(), x.sum().item()) == (6, 12)


@row('`autocast("cuda")` concerns ops on GPUs')
def _(_: Path) -> None:
    if not ndl.cuda.is_available():
        with pytest.warns(UserWarning, match="GPU|CUDA|cuda"), ndl.autocast("cuda"):
            assert (x23() @ x23().T).dtype == "float32"


@row("`set_default_dtype(torch.float64)`")
def _(_: Path) -> None:
    with pytest.raises(ValueError, match="float32"):
        ndl.set_default_dtype(ndl.float64)
    assert ndl.zeros(2, dtype="float64").dtype == "float64"
    assert nn.Linear(2, 2).to("float64").weight.dtype == "float64"


@row("dropout, initializers and samplers draw from `torch`'s generator")
def _(_: Path) -> None:
    drawn = []
    for _ in range(2):
        ndl.manual_seed(0)
        drawn.append((F.dropout(ndl.ones(20)).tolist(), nn.Linear(2, 2).weight.tolist()))
    assert drawn[0] == drawn[1]
    np.random.seed(0)
    assert F.dropout(ndl.ones(20)).tolist() == drawn[0][0]


@row("masks of `TransformerEncoderLayer`: True is hidden")
def _(_: Path) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0).eval()
    stack, x = nn.TransformerEncoder(layer, 1).eval(), ndl.randn(3, 1, 4)
    hidden = ndl.ones(3, 3, dtype="bool").triu(1)
    stack.load_state_dict({f"layers.0.{k}": v for k, v in layer.state_dict().items()})
    assert layer(x, ~hidden).allclose(stack(x, hidden), atol=1e-6)
    assert not layer(x, hidden).allclose(stack(x, hidden), atol=1e-6)


@row("float64 data in a float32 layer is an error")
def _(_: Path) -> None:
    x = ndl.tensor(np.ones((2, 3)))
    assert nn.Linear(3, 2)(x).dtype == "float64"
    assert nn.Linear(3, 2)(x.float()).dtype == "float32"
    assert nn.Linear(3, 2)(ndl.tensor(np.ones((2, 3)), dtype="float32")).dtype == "float32"


@row("`nn.Transformer(d_model, nhead, …)` is an encoder and a decoder")
def _(_: Path) -> None:
    assert nn.Transformer(4, 8, 1)(ndl.ones(3, 1, 4))[0].shape == (3, 1, 4)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(d_model=4, nhead=2), 1)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(d_model=4, nhead=2), 1)
    assert decoder(ndl.ones(2, 1, 4), encoder(ndl.ones(3, 1, 4))).shape == (2, 1, 4)


@row("int8, int16, complex numbers")
def _(_: Path) -> None:
    for name in ("int8", "int16", "complex64"):
        with pytest.raises(TypeError, match=name):
            ndl.zeros(2, dtype=name)
    assert ndl.zeros(2, dtype="int32").dtype == "int32"
    real, imaginary = ndl.fft.fft(ndl.ones(4)).real, ndl.fft.fft(ndl.ones(4)).imag
    assert (real[0].item(), imaginary[0].item()) == (4, 0)


@row("`torch.save(model, path)`")
def _(folder: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="state_dict"):
        ndl.save(model, folder / "model")
    ndl.save(model.state_dict(), folder / "model")
    model.load_state_dict(ndl.load(folder / "model"))


@row("`np.asarray(x)` and `x.numpy()` raise an error where x requires a gradient")
def _(_: Path) -> None:
    x = ndl.Tensor([1.0])
    assert np.asarray(x) == x.numpy() == 1
    assert np.exp(x).requires_grad
