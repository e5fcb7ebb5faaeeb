"""Layers: values and gradients against PyTorch, order of random draws, bad input."""

import gc
import math

import numpy as np
import pytest
from numeric import assert_product

import needle as ndl
from needle import nn

RTOL = 1e-5  # float32: some tens of roundings of 6e-8


def tensor(device, *shape, dtype="float32", seed=0):
    values = np.random.RandomState(seed).randn(*shape)
    return ndl.Tensor(values, device=device, dtype=dtype)


def assert_close(actual, expected, **options):
    options = {"rtol": RTOL, "atol": 1e-6, **options}
    np.testing.assert_allclose(actual.numpy(), expected.detach().numpy(), **options)


def compare_with_torch(layer, peer, x, parameters, **options):
    """Forward and every gradient of `layer` and its PyTorch peer on the same input.

    `parameters` are pairs (needle's name, function of needle's array giving the peer's array).
    """
    torch = pytest.importorskip("torch")
    peer.zero_grad()
    named = dict(layer.named_parameters())
    with torch.no_grad():
        for (name, convert), theirs in zip(parameters, peer.parameters(), strict=True):
            theirs.copy_(torch.tensor(convert(named[name].numpy())))
    their_x = torch.tensor(x.numpy(), requires_grad=True)
    ours, theirs = layer(x), peer(their_x)
    assert_close(ours, theirs, **options)
    weights = np.random.RandomState(9).randn(*ours.shape).astype(ours.dtype)
    (ours * ndl.Tensor(weights, device=x.device)).sum().backward()
    (theirs * torch.tensor(weights)).sum().backward()
    assert_close(x.grad, their_x.grad, **options)
    for (name, convert), p in zip(parameters, peer.parameters(), strict=True):
        grad = convert(named[name].grad.numpy())
        np.testing.assert_allclose(grad, p.grad.numpy(), **{"rtol": 1e-4, "atol": 1e-5})
    return ours, theirs


def same(array):
    return array


# ---- Linear ---------------------------------------------------------------------------------


def test_linear_draws_weight_then_bias(device):
    np.random.seed(5)
    layer = nn.Linear(6, 4, device=device)
    following = np.random.rand()
    np.random.seed(5)
    bound = math.sqrt(2) * math.sqrt(3 / 6)
    weight = np.random.rand(6, 4) * 2 * bound - bound
    bound = math.sqrt(2) * math.sqrt(3 / 4)
    bias = np.random.rand(4, 1) * 2 * bound - bound
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.bias.numpy(), bias.reshape(1, 4), rtol=1e-5, atol=1e-6)
    assert np.random.rand() == following
    assert isinstance(layer.weight, nn.Parameter)
    assert layer.weight.requires_grad
    assert layer.weight.is_leaf()
    assert layer.bias.is_leaf()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(5,), (), (2, 3), (0,)])
def test_linear_against_torch(device, lead, bias):
    torch = pytest.importorskip("torch")
    layer = nn.Linear(6, 4, bias=bias, device=device)
    pairs = [("weight", np.transpose), ("bias", np.ravel)][: 1 + bias]
    compare_with_torch(layer, torch.nn.Linear(6, 4, bias=bias), tensor(device, *lead, 6), pairs)


def test_linear_with_a_flat_bias(device):
    layer = nn.Linear(6, 4, device=device)
    layer.bias.data = tensor(device, 4)
    x = tensor(device, 5, 6, seed=1)
    assert_product(layer(x).numpy(), x.numpy(), layer.weight.numpy(), "float32", layer.bias.numpy())
    layer(x).sum().backward()
    assert layer.bias.grad.shape == (4,)
    ndl.optim.Adam(layer.parameters()).step()


def test_linear_float64(device):
    layer = nn.Linear(3, 2, device=device, dtype="float64")
    assert layer(tensor(device, 4, 3, dtype="float64")).dtype == "float64"


# ---- containers, Flatten, Identity ----------------------------------------------------------


def test_containers(device):
    x = tensor(device, 3, 4)
    double = nn.Sequential(nn.Identity(), lambda x: x * 2)
    np.testing.assert_array_equal(double(x).numpy(), x.numpy() * 2)
    np.testing.assert_array_equal(nn.Residual(double)(x).numpy(), x.numpy() * 2 + x.numpy())
    assert nn.Sequential()(x) is x
    assert nn.Identity()(x) is x
    assert len(double) == 2
    assert double.modules[0] is double[0]
    assert list(double) == list(double.modules)
    assert len(double[1:]) == 1
    with pytest.raises(TypeError, match=r"\[Sequential\] argument 1"):
        nn.Sequential(nn.ReLU(), 3)
    with pytest.raises(TypeError, match=r"\[Residual\]"):
        nn.Residual(3)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3,), (0, 2, 3), (2, 0), (2, 3)])
def test_flatten(device, shape):
    x = tensor(device, *shape)
    y = nn.Flatten()(x)
    np.testing.assert_array_equal(y.numpy(), x.numpy().reshape(shape[0], math.prod(shape[1:])))


# ---- activations ----------------------------------------------------------------------------

ACTIVATIONS = [
    (nn.ReLU(), "ReLU", {}),
    (nn.Tanh(), "Tanh", {}),
    (nn.Sigmoid(), "Sigmoid", {}),
    (nn.GELU(), "GELU", {}),
    (nn.SiLU(), "SiLU", {}),
    (nn.Softplus(), "Softplus", {}),
    (nn.LeakyReLU(0.2), "LeakyReLU", {"negative_slope": 0.2}),
    (nn.ELU(1.5), "ELU", {"alpha": 1.5}),
    (nn.Softmax(), "Softmax", {"dim": -1}),
    (nn.Softmax(0), "Softmax", {"dim": 0}),
    (nn.LogSoftmax(), "LogSoftmax", {"dim": -1}),
    (nn.LogSoftmax(1), "LogSoftmax", {"dim": 1}),
]


@pytest.mark.parametrize(("layer", "name", "options"), ACTIVATIONS, ids=lambda v: str(v))
def test_activations_against_torch(device, layer, name, options):
    torch = pytest.importorskip("torch")
    peer = getattr(torch.nn, name)(**options)
    compare_with_torch(layer, peer, tensor(device, 4, 3, 5) * 3, [])


# ---- Dropout --------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(device, p):
    layer = nn.Dropout(p)
    x = tensor(device, 6, 7)
    np.random.seed(2)
    y = layer(x)
    following = np.random.rand()
    np.random.seed(2)
    mask = np.random.rand(6, 7) <= 1 - p
    expected = x.numpy() * mask / (1 - p) if p < 1 else np.zeros((6, 7))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    assert np.random.rand() == following
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), mask / (1 - p) if p < 1 else 0, rtol=1e-6)
    assert layer.eval()(x) is x
    assert np.random.rand() != following


# ---- normalization --------------------------------------------------------------------------


def test_batch_norm_in_training_against_torch(device):
    torch = pytest.importorskip("torch")
    layer = nn.BatchNorm1d(5, eps=1e-3, momentum=0.3, device=device)
    layer.weight.data = tensor(device, 5, seed=7)
    layer.bias.data = tensor(device, 5, seed=8)
    peer = torch.nn.BatchNorm1d(5, eps=1e-3, momentum=0.3)
    x = tensor(device, 8, 5) * 3 + 2
    pairs = [("weight", same), ("bias", same)]
    compare_with_torch(layer, peer, x, pairs, rtol=1e-4, atol=1e-5)
    assert_close(layer.running_mean, peer.running_mean)
    # PyTorch's running variance is unbiased, this one is not.
    var = (peer.running_var - 0.7) * 7 / 8 + 0.7
    assert_close(layer.running_var, var)
    with torch.no_grad():
        peer.running_var.copy_(var)
    compare_with_torch(
        layer.eval(), peer.eval(), tensor(device, 4, 5, seed=3), pairs, rtol=1e-4, atol=1e-5
    )


def test_batch_norm_statistics_hold_no_graph(device):
    layer = nn.BatchNorm1d(4, device=device)
    x = tensor(device, 6, 4)
    layer(x)
    gc.collect()  # what earlier tests left in reference cycles
    alive = ndl.autograd.TENSOR_COUNTER
    for _ in range(5):
        layer(x)
    assert alive == ndl.autograd.TENSOR_COUNTER
    assert layer.running_mean.is_leaf()
    assert not layer.running_var.requires_grad
    layer.eval()
    before = layer.running_mean.numpy().copy()
    layer(x)
    np.testing.assert_array_equal(layer.running_mean.numpy(), before)


def test_batch_norm_running_values(device):
    layer = nn.BatchNorm1d(2, device=device)
    x = ndl.Tensor([[1.0, 10.0], [3.0, 30.0]], device=device)
    layer(x)
    np.testing.assert_allclose(layer.running_mean.numpy(), [0.2, 2.0], rtol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy(), [1.0, 0.9 + 10.0], rtol=1e-6)
    assert nn.BatchNorm1d(3, dtype="float64").running_var.dtype == "float64"


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm1d, nn.RMSNorm, nn.LayerNorm])
def test_normalization_of_another_width(device, kind):
    layer = kind(4, device=device)
    y = layer(tensor(device, 6, 4, dtype="float64"))
    assert y.dtype == "float64"
    np.testing.assert_allclose(
        y.numpy(), kind(4, device=device)(tensor(device, 6, 4)).numpy(), rtol=1e-4, atol=1e-6
    )
    y.sum().backward()
    tensors = [*layer.parameters(), *layer.buffers(), *[p.grad for p in layer.parameters()]]
    assert all(t.dtype == "float32" for t in tensors)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (6,)])
def test_layer_norm_against_torch(device, shape):
    torch = pytest.importorskip("torch")
    layer = nn.LayerNorm1d(6, eps=1e-3, device=device)
    layer.weight.data = tensor(device, 6, seed=7)
    peer = torch.nn.LayerNorm(6, eps=1e-3)
    pairs = [("weight", same), ("bias", same)]
    compare_with_torch(layer, peer, tensor(device, *shape), pairs, rtol=1e-4, atol=1e-5)


def test_layer_norm_over_several_axes(device):
    torch = pytest.importorskip("torch")
    layer = nn.LayerNorm((3, 4), device=device)
    layer.bias.data = tensor(device, 3, 4, seed=7)
    peer = torch.nn.LayerNorm((3, 4))
    pairs = [("weight", same), ("bias", same)]
    compare_with_torch(layer, peer, tensor(device, 5, 3, 4), pairs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalized", [6, (3, 6)])
def test_rms_norm_against_torch(device, normalized):
    torch = pytest.importorskip("torch")
    layer = nn.RMSNorm(normalized, eps=1e-4, device=device)
    layer.weight.data = tensor(device, *layer.weight.shape, seed=7)
    peer = torch.nn.RMSNorm(normalized, eps=1e-4)
    compare_with_torch(
        layer, peer, tensor(device, 2, 3, 6), [("weight", same)], rtol=1e-4, atol=1e-5
    )


# ---- Embedding ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32"])
def test_embedding(device, dtype):
    np.random.seed(1)
    layer = nn.Embedding(5, 3, device=device)
    np.random.seed(1)
    np.testing.assert_allclose(layer.weight.numpy(), np.random.randn(5, 3), rtol=1e-6)
    index = np.array([[0, 4, 4], [2, 0, 4]])
    y = layer(ndl.Tensor(index, device=device, dtype=dtype))
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[index])
    weights = np.random.randn(2, 3, 3).astype("float32")
    (y * ndl.Tensor(weights, device=device)).sum().backward()
    expected = np.zeros((5, 3))
    np.add.at(expected, index, weights)
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("index", [[5], [-1], [[0], [17]]])
def test_embedding_index_out_of_range(device, index):
    layer = nn.Embedding(5, 3, device=device)
    with pytest.raises(IndexError, match=str(np.array(index).flat[-1])):
        layer(ndl.Tensor(np.array(index), device=device))


@pytest.mark.parametrize("index", [1.5, float("nan")])
def test_embedding_index_that_is_no_integer(device, index):
    with pytest.raises(ValueError, match=r"\[Embedding\]"):
        nn.Embedding(5, 3, device=device)(ndl.Tensor([index], device=device))


def test_embedding_takes_a_table_of_another_length(device):
    """A GPT's crop_block_size(n) cuts the table of positions."""
    layer = nn.Embedding(6, 3, device=device)
    layer.weight = nn.Parameter(layer.weight[:4])
    rows = ndl.Tensor([3, 0], dtype="int64", device=device)
    np.testing.assert_array_equal(layer(rows).numpy(), layer.weight.numpy()[[3, 0]])
    with pytest.raises(IndexError, match="index 4 is out of range for 4 embeddings"):
        layer(ndl.Tensor([4], dtype="int64", device=device))
    with pytest.raises(ValueError, match=r"shape \(4, 3\) and cannot"):
        layer.weight = nn.Parameter(ndl.zeros(4, 5, device=device))


def test_embedding_of_no_indices(device):
    layer = nn.Embedding(5, 3, device=device)
    assert layer(ndl.Tensor(np.zeros((0, 2), dtype="int64"), device=device)).shape == (0, 2, 3)


# ---- bad arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, r"\[Dropout\] p must be in \[0, 1\], got 1.5", lambda: nn.Dropout(1.5)),
        (TypeError, r"\[Dropout\] p must be a number, got 'x'", lambda: nn.Dropout("x")),
        (ValueError, r"\[Linear\] in_features must be at least 1", lambda: nn.Linear(0, 2)),
        (TypeError, r"\[Linear\] out_features must be an integer", lambda: nn.Linear(2, 2.5)),
        (TypeError, "dtype", lambda: nn.Linear(2, 2, dtype="int32")),
        (ValueError, r"\[BatchNorm1d\] dim", lambda: nn.BatchNorm1d(0)),
        (ValueError, r"\[BatchNorm1d\] momentum", lambda: nn.BatchNorm1d(2, momentum=2)),
        (ValueError, r"\[LayerNorm1d\] eps", lambda: nn.LayerNorm1d(2, eps=-1)),
        (ValueError, r"\[LayerNorm\] normalized_shape", lambda: nn.LayerNorm(())),
        (ValueError, r"\[Embedding\] num_embeddings", lambda: nn.Embedding(0, 2)),
        (ValueError, r"\[ELU\] alpha", lambda: nn.ELU(-1)),
        (ValueError, r"\[LeakyReLU\] negative_slope", lambda: nn.LeakyReLU(float("nan"))),
    ],
)
def test_bad_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 2), (4, 5)),
        (nn.Linear(3, 2), ()),
        (nn.BatchNorm1d(3), (4, 5)),
        (nn.BatchNorm1d(3), (4,)),
        (nn.BatchNorm1d(3), (0, 3)),
        (nn.LayerNorm1d(3), (4, 5)),
        (nn.LayerNorm1d(3), ()),
        (nn.RMSNorm((2, 3)), (3,)),
        (nn.Flatten(), ()),
    ],
    ids=str,
)
def test_bad_inputs(layer, shape):
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"(?i)\[{name}\]"):
        layer(ndl.Tensor(np.zeros(shape)))
