"""Layers under PyTorch's names against torch.nn: values, gradients, state dicts both ways."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")


class Case(NamedTuple):
    """A layer made with equal arguments on both sides, and the shapes of its inputs."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    args: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}{self.args}{self.options or ''}"


def case(name, shape, *args, **options):
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    return Case(name, shapes, args, options)


X, SEQUENCE, IMAGE, VOLUME = (3, 4, 6), (2, 4, 9), (2, 4, 7, 6), (2, 4, 5, 6, 5)
OF = {1: SEQUENCE, 2: IMAGE, 3: VOLUME}

FAMILIES = {
    "activation": [
        case("ReLU", X, inplace=True),
        case("GELU", X, "tanh"),
        case("Softplus", X, beta=3.0),
        case("Softplus", X, 2, 1.0),
        case("PReLU", X),
        case("PReLU", X, 4, init=0.1),
        case("RReLU", X, 0.2, 0.4),
        case("CELU", X, 0.5),
        case("Hardtanh", X, -0.3, 0.7),
        case("Threshold", X, 0.2, 5.0),
        case("Hardshrink", X, 0.3),
        case("Softshrink", X, 0.3),
        case("GLU", X, dim=1),
        case("Softmin", X, dim=1),
        case("Softmax2d", IMAGE),
        *(
            case(name, X)
            for name in ("ReLU6", "SELU", "Hardsigmoid", "Hardswish", "Mish", "LogSigmoid")
        ),
        case("Softsign", X),
        case("Tanhshrink", X),
    ],
    "convolution": [
        case("Conv1d", SEQUENCE, 4, 6, 3, padding=2, padding_mode="reflect"),
        case("Conv1d", SEQUENCE, 4, 6, 3, padding="same", padding_mode="circular"),
        case("Conv2d", IMAGE, 4, 6, 3, padding=(1, 2), padding_mode="replicate", stride=2),
        case("Conv2d", IMAGE, 4, 6, (2, 3), padding="same", groups=2),
        case("Conv3d", VOLUME, 4, 6, 3, padding=1),
        case("Conv3d", VOLUME, 4, 6, (2, 3, 2), stride=(1, 2, 1), groups=2, bias=False),
        case("Conv3d", VOLUME, 4, 2, 3, padding="same", padding_mode="reflect"),
        case("ConvTranspose1d", SEQUENCE, 4, 6, 3, stride=2, padding=1, output_padding=1),
        case("ConvTranspose1d", SEQUENCE, 4, 6, 4, groups=2, dilation=2),
        case("ConvTranspose2d", IMAGE, 4, 6, 3, stride=2, output_padding=1, groups=2),
        case("ConvTranspose3d", VOLUME, 4, 6, 2, stride=2, groups=2),
    ],
    "pooling": [
        *(case(f"MaxPool{n}d", OF[n], 3, 2, 1, ceil_mode=True) for n in OF),
        *(case(f"MaxPool{n}d", OF[n], 2, dilation=2) for n in OF),
        *(case(f"AvgPool{n}d", OF[n], 3, 2, 1, count_include_pad=False) for n in OF),
        *(case(f"AvgPool{n}d", OF[n], 2, ceil_mode=True) for n in OF),
        *(case(f"AdaptiveAvgPool{n}d", OF[n], 4) for n in OF),
        *(case(f"AdaptiveMaxPool{n}d", OF[n], 3) for n in OF),
        case("AdaptiveAvgPool2d", IMAGE, (None, 2)),
        case("LPPool1d", SEQUENCE, 2.0, 3),
        case("LPPool2d", IMAGE, 2.0, (2, 3), stride=2),
        case("LPPool3d", VOLUME, 2.0, 2),
    ],
    "padding": [
        *(case(f"ZeroPad{n}d", OF[n], 1) for n in OF),
        *(case(f"ConstantPad{n}d", OF[n], tuple(range(2 * n)), 0.5) for n in OF),
        *(case(f"ReflectionPad{n}d", OF[n], tuple(range(1, 2 * n + 1))) for n in (1, 2)),
        case("ReflectionPad3d", VOLUME, 2),
        *(case(f"ReplicationPad{n}d", OF[n], 2) for n in OF),
        *(case(f"CircularPad{n}d", OF[n], 2) for n in OF),
        case("PixelShuffle", IMAGE, 2),
        case("PixelUnshuffle", (2, 3, 4, 6), 2),
        case("ChannelShuffle", IMAGE, 2),
        case("Unfold", IMAGE, 3, padding=1, stride=2),
        case("Fold", (2, 12, 9), 4, 2),
        case("Unfold", IMAGE[1:], 3, padding=1, stride=2),
        case("Fold", (12, 9), 4, 2),
        case("Flatten", IMAGE),
        case("Flatten", IMAGE, 2, 3),
        case("Unflatten", X, 2, (2, 3)),
        case("Upsample", IMAGE, scale_factor=2, mode="bilinear", align_corners=True),
        case("Upsample", IMAGE, size=(5, 9)),
        case("UpsamplingNearest2d", IMAGE, scale_factor=2),
        case("UpsamplingBilinear2d", IMAGE, size=(5, 9)),
    ],
    "norm": [
        case("BatchNorm1d", SEQUENCE, 4, affine=False, track_running_stats=False),
        case("BatchNorm2d", IMAGE, 4, track_running_stats=False),
        case("BatchNorm3d", VOLUME, 4, track_running_stats=False),
        case("InstanceNorm1d", SEQUENCE, 4),
        case("InstanceNorm2d", IMAGE, 4, affine=True, eps=1e-3),
        case("InstanceNorm3d", VOLUME, 4),
        *(case(f"InstanceNorm{n}d", OF[n][1:], 4, affine=True) for n in OF),
        case("LocalResponseNorm", IMAGE, 3),
        case("LayerNorm", X, (4, 6), elementwise_affine=False),
        case("LayerNorm", X, 6, bias=False),
        case("GroupNorm", IMAGE, 2, 4, affine=False),
        case("RMSNorm", X, 6, eps=1e-5, elementwise_affine=False),
        case("Bilinear", ((3, 4), (3, 5)), 4, 5, 6),
        case("CosineSimilarity", (X, X), dim=2),
        case("PairwiseDistance", (X, X), keepdim=True),
    ],
}
CASES = [c for cases in FAMILIES.values() for c in cases]


def pair(of, device):
    """The layer and its PyTorch peer with the same weights."""
    torch.manual_seed(0)
    peer = getattr(torch.nn, of.name)(*of.args, **of.options)
    layer = getattr(nn, of.name)(*of.args, **of.options).to(device)
    nn.from_torch_state_dict(layer, peer.state_dict())
    if of.name == "RReLU":
        layer.eval(), peer.eval()
    return layer, peer


def arrays(of):
    draw = np.random.RandomState(1)
    return [draw.randn(*shape).astype("float32") for shape in of.shapes]


def weighted(y):
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    return (y * ndl.Tensor(weights, device=y.device, dtype="float32", requires_grad=False)).sum()


def reference(peer, of):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays(of)]
    y = peer(*[x + 0 for x in inputs])
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    (y * weights.float()).sum().backward()
    grads = {name: p.grad for name, p in peer.named_parameters()}
    return y.detach().numpy(), [x.grad.numpy() for x in inputs], grads


def check(of, layer, peer, y, grads, parameter_grads):
    expected, input_grads, their_grads = reference(peer, of)
    np.testing.assert_allclose(y.numpy(), expected, rtol=2e-5, atol=2e-5, err_msg=str(of))
    for grad, theirs in zip(grads, input_grads, strict=True):
        np.testing.assert_allclose(grad.numpy(), theirs, rtol=1e-4, atol=1e-4, err_msg=str(of))
    if their_grads:
        holder = getattr(nn, of.name)(*of.args, **of.options)
        nn.from_torch_state_dict(holder, their_grads)
        for name, p in holder.named_parameters():
            ours = parameter_grads[name].numpy()
            np.testing.assert_allclose(ours, p.numpy(), rtol=1e-4, atol=2e-4, err_msg=str(of))


@pytest.mark.parametrize("of", CASES, ids=str)
def test_values_gradients_and_state_dicts(device, of):
    layer, peer = pair(of, device)
    inputs = [ndl.Tensor(a, device=device) for a in arrays(of)]
    y = layer(*inputs)
    weighted(y).backward()
    grads = {name: p.grad for name, p in layer.named_parameters()}
    check(of, layer, peer, y, [x.grad for x in inputs], grads)
    back = nn.to_torch_state_dict(layer)
    theirs = peer.state_dict()
    assert list(back) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(back[name], value.numpy())
    assert repr(layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled(device, family):
    pairs = [(of, *pair(of, device)) for of in FAMILIES[family]]

    @ndl.jit
    def run(inputs):
        results = []
        for (_, layer, _), tensors in zip(pairs, inputs, strict=True):
            y = layer(*tensors)
            weighted(y).backward()
            grads = {name: p.grad for name, p in layer.named_parameters()}
            results.append((y, [x.grad for x in tensors], grads))
        return results

    inputs = [[ndl.Tensor(a, device=device) for a in arrays(of)] for of, _, _ in pairs]
    for (of, layer, peer), result in zip(pairs, run(inputs), strict=True):
        check(of, layer, peer, *result)


# Layers and cells, their options, and whether they are given a first state.
ALONE = [
    *((kind, options, first)
      for kind in ("RNN", "LSTM", "GRU")
      for options in ({}, {"num_layers": 2, "bidirectional": True, "batch_first": True})
      for first in (False, True)),
    ("LSTM", {"proj_size": 3}, True),
    *((f"{kind}Cell", {}, first) for kind in ("RNN", "LSTM", "GRU") for first in (False, True)),
]  # fmt: skip


def flat(result):
    return [x for part in result for x in flat(part)] if isinstance(result, tuple) else [result]


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # of PyTorch
def test_one_sequence_without_an_axis_of_sequences(device):
    """Values and gradients of recurrent layers for (T, features), of cells for (features,)."""
    draw = np.random.RandomState(2)
    work, exact = [], []
    for kind, options, first in ALONE:
        peer = getattr(torch.nn, kind)(4, 5, **options)
        layer = getattr(nn, kind)(4, 5, **options).to(device)
        nn.from_torch_state_dict(layer, peer.state_dict())
        cell = kind.endswith("Cell")
        rows = () if cell else (4 if options.get("bidirectional") else 1,)
        sizes = [options.get("proj_size", 5), 5] if kind.startswith("LSTM") else [5]
        x = draw.randn(*(() if cell else (6,)), 4).astype("float32")
        states = [draw.randn(*rows, size).astype("float32") for size in sizes] if first else []
        work.append((layer, x, states))
        theirs = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
        outputs = flat(peer(theirs[0], *of_states(theirs[1:])))
        sum((y * y).sum() for y in outputs).backward()
        exact.append([*outputs, *(a.grad for a in theirs)])

    def run():
        results = []
        for layer, *arrays in work:
            x, *states = [ndl.Tensor(a, device=device) for a in (arrays[0], *arrays[1])]
            outputs = flat(layer(x, *of_states(states)))
            sum((y * y).sum() for y in outputs).backward()
            results.append([*outputs, *(a.grad for a in (x, *states))])
        return results

    for found in (run(), ndl.jit(run)()):
        for (kind, options, _), ours, theirs in zip(ALONE, found, exact, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(
                    a.numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5, err_msg=f"{kind} {options}"
                )


def of_states(states):
    """The first state as an argument: nothing, a Tensor or a pair."""
    return () if not states else (states[0] if len(states) == 1 else tuple(states),)


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm2d"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics(device, name, momentum):
    axes = int(name[-2])
    options = {"track_running_stats": True, "momentum": momentum}
    if name.startswith("Instance"):
        options["momentum"] = 0.2
    layer = getattr(nn, name)(4, **options).to(device)
    peer = getattr(torch.nn, name)(4, **options)
    for seed in range(3):
        values = np.random.RandomState(seed).randn(*OF[axes]).astype("float32") + seed
        layer(ndl.Tensor(values, device=device))
        # The course's running variance is biased; without the correction PyTorch's would be.
        peer(torch.tensor(values))
    np.testing.assert_allclose(layer.running_mean.numpy(), peer.running_mean.numpy(), rtol=1e-4)
    n = np.prod(OF[axes][2:]) * (1 if name.startswith("Instance") else OF[axes][0])
    old = 1.0 if momentum is None and not name.startswith("Instance") else None
    if old:
        biased = peer.running_var.numpy() * (n - 1) / n
        np.testing.assert_allclose(layer.running_var.numpy(), biased, rtol=1e-4)
        assert layer.num_batches_tracked.item() == 3
    layer.eval()
    peer.running_var.copy_(torch.tensor(layer.running_var.numpy()))
    peer.eval()
    x = np.random.RandomState(7).randn(*OF[axes]).astype("float32")
    y = layer(ndl.Tensor(x, device=device))
    expected = peer(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_max_unpool(device):
    x = np.random.RandomState(0).randn(2, 3, 6, 8).astype("float32")
    pool, back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    y = back(*pool(ndl.Tensor(x, device=device)))
    theirs = torch.nn.MaxUnpool2d(2)(*torch.nn.MaxPool2d(2, return_indices=True)(torch.tensor(x)))
    np.testing.assert_array_equal(y.numpy(), theirs.numpy())


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"])
def test_dropout_of_channels(device, name):
    shape = {"1": (40, 30, 3), "2": (40, 30, 2, 2), "3": (40, 30, 2, 2, 1)}.get(
        name[-2], (40, 30, 3)
    )
    layer = getattr(nn, name)(0.25)
    x = ndl.ones(*shape, device=device)
    np.random.seed(0)
    y = layer(x).numpy().reshape(40 * 30, -1)
    assert (y == y[:, :1]).all()
    assert abs((y[:, 0] != y[:, 0].max()).mean() - 0.25) < 0.05
    assert layer.eval()(x) is x


def test_embedding_with_padding_and_norm(device):
    layer = nn.Embedding(6, 3, padding_idx=-1, max_norm=1.0).to(device)
    np.testing.assert_array_equal(layer.weight.numpy()[5], 0)
    index = ndl.Tensor([[0, 5], [3, 0]], device=device, dtype="int64")
    y = layer(index)
    y.sum().backward()
    assert (np.linalg.norm(y.numpy(), axis=-1) <= 1 + 1e-5).all()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[5], 0)
    np.testing.assert_array_equal(layer.weight.grad.numpy()[0], 2)
    bag = nn.EmbeddingBag(6, 3, mode="sum", padding_idx=2).to(device)
    offsets = ndl.Tensor([0, 2, 3], device=device, dtype="int64")
    flat = ndl.Tensor([1, 2, 5], device=device, dtype="int64")
    table = bag.weight.numpy()
    np.testing.assert_allclose(bag(flat, offsets).numpy(), [table[1], table[5], table[0] * 0])


def test_embedding_from_pretrained(device):
    table = ndl.Tensor(arrays(case("Embedding", (5, 3)))[0], device=device)
    layer = nn.Embedding.from_pretrained(table)
    np.testing.assert_array_equal(layer(ndl.Tensor([4], device=device)).numpy(), table.numpy()[4:])
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    with pytest.raises(ValueError, match="a table of 2 axes"):
        nn.Embedding.from_pretrained(table[0])


WRONG = [
    (lambda: nn.PReLU(0), ValueError, "num_parameters must be at least 1"),
    (lambda: nn.Hardtanh(2.0, 1.0), ValueError, "min_val < max_val"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode must be one of"),
    (lambda: nn.Conv3d(3, 4, 3, padding="same", stride=2), ValueError, "needs stride 1"),
    (lambda: nn.Conv3d(3, 4, (3, 3)), ValueError, "must be an int or 3 ints"),
    (lambda: nn.ConvTranspose1d(3, 4, 3, output_padding=1), ValueError, "below the stride"),
    (lambda: nn.ZeroPad2d((1, 2, 3)), ValueError, "must be an int or 4 ints"),
    (lambda: nn.Upsample(), ValueError, "either size or scale_factor"),
    (lambda: nn.Upsample(2, mode="cubic"), ValueError, "mode must be one of"),
    (lambda: nn.Embedding(4, 2, padding_idx=4), ValueError, "padding_idx 4 is out of range"),
    (lambda: nn.Embedding(4, 2, sparse=True), NotImplementedError, "gradients are dense"),
    (lambda: nn.BatchNorm3d(4)(ndl.ones(2, 4, 3)), ValueError, r"\(N, 4, D, H, W\)"),
    (lambda: nn.InstanceNorm1d(4)(ndl.ones(2, 3, 3)), ValueError, r"\(N, 4, L\)"),
    (lambda: nn.MaxPool1d(2)(ndl.ones(3)), ValueError, r"\(N, C, L\)"),
    (lambda: nn.LSTM(3, 4, 2, True, True), TypeError, "by name, as in batch_first=True"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "must be an int or 2 ints"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_wrong_arguments(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_hooks_before_the_backward_pass(device):
    """They see and replace the gradients of the results, before the hooks on the inputs."""
    found = []
    for m in (torch, ndl):
        layer = m.nn.Identity()
        layer.forward = lambda x: (x * 2, x * 3)
        seen = []
        layer.register_full_backward_hook(
            lambda module, inner, outer, seen=seen: seen.append((inner[0].tolist(), len(outer)))
        )
        layer.register_full_backward_pre_hook(
            lambda module, outer, seen=seen: seen.append([g.tolist() for g in outer])
        )
        layer.register_full_backward_pre_hook(lambda module, outer: (outer[0] * 10, outer[1]))
        where = {"device": device} if m is ndl else {}
        x = m.tensor([1.0, 2.0], requires_grad=True, **where)
        y, z = layer(x * 1)
        (y + z * 5).sum().backward()
        found.append((x.grad.tolist(), seen))
    assert found[0] == found[1]


def test_activations_in_place(device):
    """They change the argument, also in a graph and in compiled functions."""
    names = ("relu_", "elu_", "selu_", "celu_", "leaky_relu_", "hardtanh_", "threshold_")
    values = np.random.RandomState(0).randn(7).astype("float32") * 2

    def run(m, x):
        total = 0
        for name in names:
            y = x * 1
            changed = getattr(m.nn.functional, name)(
                y, *((0.1, 2.0) if name == "threshold_" else ())
            )
            total = total + (y * changed).sum()
        return total

    theirs = torch.tensor(values, requires_grad=True)
    run(torch, theirs).backward()

    def ours(x):
        total = run(ndl, x)
        total.backward()
        return total

    for call in (ours, ndl.jit(ours)):
        x = ndl.Tensor(values, device=device)
        assert call(x).item() == pytest.approx(run(torch, theirs).item(), rel=1e-5)
        np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_batch_norm_by_pytorchs_names():
    layer = nn.BatchNorm2d(num_features=3)
    assert layer.num_features == layer.weight.shape[0] == 3
    for call in (lambda: nn.BatchNorm2d(), lambda: nn.BatchNorm2d(3, num_features=3)):
        with pytest.raises(TypeError, match="num_features"):
            call()
