"""needle.nn.functional against torch.nn.functional: one table, eager and compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle.nn import functional as F

torch = pytest.importorskip("torch")


class Case(NamedTuple):
    """A call of a function on Tensors of these shapes; `options` are equal on both sides."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]
    positive: bool = False

    def __str__(self) -> str:
        return f"{self.name}{self.options or ''}"


def case(name, *shapes, **options):
    return Case(name, shapes, options)


X, IMAGE, VOLUME, SEQUENCE = (3, 4, 6), (2, 4, 7, 6), (2, 4, 5, 6, 7), (2, 4, 9)

FAMILIES = {
    "activation": [
        *(
            case(name, X)
            for name in (
                "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish",
                "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
                "softsign", "softplus", "logsigmoid", "glu", "sigmoid", "tanh",
            )
        ),
        case("prelu", X, (4,)), case("prelu", X, (1,)), case("rrelu", X),
        case("celu", X, alpha=0.7), case("gelu", X, approximate="tanh"), case("glu", X, dim=1),
        case("hardtanh", X, min_val=-0.5, max_val=0.25),
        case("threshold", X, threshold=0.1, value=7.0),
        case("softplus", X, beta=2.0),
        case("softmax", X, dim=1), case("softmin", X, dim=1), case("log_softmax", X, dim=0),
    ],
    "padding": [
        case("pad", IMAGE, pad=(1, 2)), case("pad", IMAGE, pad=(1, 2, 0, 3), value=1.5),
        case("pad", IMAGE, pad=(-1, 2, 1, -2)),
        case("pad", IMAGE, pad=(1, 2, 3, 0), mode="reflect"),
        case("pad", IMAGE, pad=(1, 2, 3, 0), mode="replicate"),
        case("pad", IMAGE, pad=(1, 2, 3, 0), mode="circular"),
        case("pad", SEQUENCE, pad=(2, 1), mode="reflect"),
        case("pad", VOLUME, pad=(1, 2, 1, 0, 2, 2), mode="reflect"),
        case("pixel_shuffle", (2, 8, 3, 4), upscale_factor=2),
        case("pixel_unshuffle", (2, 3, 4, 6), downscale_factor=2),
        case("channel_shuffle", (2, 6, 3, 4), groups=2),
        case("unfold", IMAGE, kernel_size=(2, 3)),
        case("unfold", IMAGE, kernel_size=3, dilation=2, padding=1, stride=(2, 1)),
        case("fold", (2, 12, 30), output_size=(7, 6), kernel_size=(2, 2)),
        case("fold", (2, 12, 16), output_size=(6, 6), kernel_size=2, padding=1, stride=2),
    ],
    "resize": [
        case("interpolate", IMAGE, scale_factor=2), case("interpolate", IMAGE, size=(5, 11)),
        case("interpolate", SEQUENCE, scale_factor=1.5, mode="nearest-exact"),
        case("interpolate", VOLUME, size=(3, 8, 7)),
        case("interpolate", IMAGE, scale_factor=2, mode="bilinear"),
        case("interpolate", IMAGE, size=(3, 13), mode="bilinear", align_corners=True),
        case("interpolate", IMAGE, scale_factor=(1.7, 0.6), mode="bilinear"),
        case("interpolate", IMAGE, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        case("interpolate", IMAGE, size=(10, 4), mode="bicubic"),
        case("interpolate", IMAGE, size=(10, 4), mode="bicubic", align_corners=True),
        case("interpolate", SEQUENCE, size=14, mode="linear"),
        case("interpolate", VOLUME, scale_factor=2, mode="trilinear"),
        case("interpolate", IMAGE, size=(3, 4), mode="area"),
        case("affine_grid", (2, 2, 3), size=(2, 4, 5, 6), align_corners=False),
        case("affine_grid", (2, 2, 3), size=(2, 4, 5, 6), align_corners=True),
        *(
            case("grid_sample", IMAGE, (2, 5, 3, 2), padding_mode=mode, align_corners=align)
            for mode in ("zeros", "border", "reflection")
            for align in (False, True)
        ),
        case("grid_sample", IMAGE, (2, 5, 3, 2), mode="nearest", align_corners=False),
    ],
    "convolution": [
        case("conv1d", SEQUENCE, (6, 4, 3), (6,), stride=2, padding=1),
        case("conv1d", SEQUENCE, (6, 2, 4), (6,), padding="same", groups=2, dilation=2),
        case("conv2d", IMAGE, (6, 2, 3, 2), (6,), stride=(2, 1), padding=(1, 0), groups=2),
        case("conv2d", IMAGE, (6, 4, 3, 4), padding="same"),
        case("conv2d", IMAGE, (6, 4, 3, 4), padding="valid", dilation=(2, 1)),
        case("conv3d", VOLUME, (6, 4, 2, 3, 3), (6,)),
        case("conv3d", VOLUME, (6, 2, 3, 2, 3), (6,), stride=(2, 1, 2), padding=1, groups=2),
        case("conv3d", VOLUME, (4, 1, 2, 2, 2), padding="same", groups=4, dilation=(2, 1, 1)),
        case("conv_transpose1d", SEQUENCE, (4, 3, 3), (3,), stride=2, output_padding=1),
        case("conv_transpose2d", IMAGE, (4, 3, 3, 2), (6,), stride=2, padding=1, groups=2),
        case(
            "conv_transpose2d", IMAGE, (4, 3, 3, 2), stride=(2, 3), output_padding=(1, 2),
            dilation=2,
        ),
        case("conv_transpose3d", VOLUME, (4, 3, 2, 3, 2), (3,), stride=2, padding=1),
        case(
            "conv_transpose3d", VOLUME, (4, 3, 3, 2, 2), (6,), stride=(2, 1, 2), groups=2,
            output_padding=(1, 0, 1), dilation=(2, 1, 1),
        ),
    ],
    "pooling": [
        case("max_pool1d", SEQUENCE, kernel_size=3),
        case("max_pool1d", SEQUENCE, kernel_size=2, ceil_mode=True),
        case("max_pool2d", IMAGE, kernel_size=2),
        case("max_pool2d", IMAGE, kernel_size=3, stride=2, padding=1, ceil_mode=True),
        case("max_pool2d", IMAGE, kernel_size=(2, 3), stride=(2, 1), dilation=(2, 1)),
        case("max_pool3d", VOLUME, kernel_size=2),
        case("max_pool3d", VOLUME, kernel_size=(3, 2, 3), stride=2, padding=1, ceil_mode=True),
        case("avg_pool1d", SEQUENCE, kernel_size=3, stride=2, padding=1, count_include_pad=False),
        case("avg_pool2d", IMAGE, kernel_size=3, stride=2, padding=1),
        case(
            "avg_pool2d", IMAGE, kernel_size=3, stride=2, padding=1, count_include_pad=False,
            ceil_mode=True,
        ),
        case("avg_pool2d", IMAGE, kernel_size=(2, 3), stride=2, ceil_mode=True),
        case("avg_pool2d", IMAGE, kernel_size=2, divisor_override=3),
        case("avg_pool3d", VOLUME, kernel_size=2, padding=1, count_include_pad=False),
        case("avg_pool3d", VOLUME, kernel_size=(2, 3, 2), stride=2, padding=1, ceil_mode=True),
        Case("lp_pool1d", (SEQUENCE,), {"norm_type": 2, "kernel_size": 3}, True),
        Case("lp_pool2d", (IMAGE,), {"norm_type": 3, "kernel_size": 2, "stride": 1}, True),
        Case("lp_pool3d", (VOLUME,), {"norm_type": 2.0, "kernel_size": 2}, True),
        case("adaptive_avg_pool1d", SEQUENCE, output_size=4),
        case("adaptive_avg_pool2d", IMAGE, output_size=(3, None)),
        case("adaptive_avg_pool2d", IMAGE, output_size=1),
        case("adaptive_avg_pool2d", IMAGE, output_size=(7, 3)),
        case("adaptive_avg_pool3d", VOLUME, output_size=(2, 3, 4)),
        case("adaptive_max_pool1d", SEQUENCE, output_size=4),
        case("adaptive_max_pool2d", IMAGE, output_size=(3, 2)),
    ],
    "normalization": [
        case("layer_norm", X, normalized_shape=(4, 6)),
        case("group_norm", IMAGE, num_groups=2),
        case("instance_norm", IMAGE), case("instance_norm", SEQUENCE),
        case("local_response_norm", IMAGE, size=3, alpha=0.5),
        case("local_response_norm", SEQUENCE, size=2, beta=0.5, k=2.0),
        case("rms_norm", X, normalized_shape=(6,)),
        case("pdist", (5, 3)),
        case("pdist", (4, 6), p=1.0),
        case("normalize", X), case("normalize", X, p=1.0, dim=-1), case("normalize", X, p=3.0),
        case("cosine_similarity", X, X), case("cosine_similarity", X, X, dim=-1),
        case("pairwise_distance", X, X), case("pairwise_distance", X, X, p=1.0, keepdim=True),
        case("linear", X, (5, 6), (5,)), case("linear", X, (5, 6)), case("linear", X, (6,)),
        case("bilinear", (3, 2, 4), (3, 2, 5), (6, 4, 5), (6,)),
        case("scaled_dot_product_attention", (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
        case("scaled_dot_product_attention", (2, 4, 5), (2, 6, 5), (2, 6, 7), scale=0.3),
        case("scaled_dot_product_attention", (2, 4, 5), (2, 4, 5), (2, 4, 7), is_causal=True),
        case("mse_loss", X, X), case("l1_loss", X, X, reduction="sum"),
    ],
}  # fmt: skip
CASES = [c for cases in FAMILIES.values() for c in cases]


def arrays(of):
    draw = np.random.RandomState(3)
    values = [draw.randn(*shape).astype("float32") for shape in of.shapes]
    return [np.abs(v) + 0.1 for v in values] if of.positive else values


def weighted(y):
    """A scalar to which every element contributes differently."""
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    return (y * ndl.Tensor(weights, device=y.device, dtype="float32", requires_grad=False)).sum()


def reference(of):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays(of)]
    y = getattr(torch.nn.functional, of.name)(*inputs, **of.options)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    (y * weights.float()).sum().backward()
    return y.detach().numpy(), [x.grad.numpy() for x in inputs]


def check(of, y, grads):
    expected, expected_grads = reference(of)
    assert y.shape == expected.shape, of
    np.testing.assert_allclose(y.numpy(), expected, rtol=2e-5, atol=2e-5, err_msg=str(of))
    for grad, theirs in zip(grads, expected_grads, strict=True):
        if grad is None:  # nothing depends on this input
            assert not theirs.any(), of
            continue
        np.testing.assert_allclose(grad.numpy(), theirs, rtol=1e-4, atol=1e-4, err_msg=str(of))


@pytest.mark.parametrize("of", CASES, ids=str)
def test_values_and_gradients(device, of):
    inputs = [ndl.Tensor(a, device=device) for a in arrays(of)]
    y = getattr(F, of.name)(*inputs, **of.options)
    weighted(y).backward()
    check(of, y, [x.grad for x in inputs])


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled(device, family):
    cases = FAMILIES[family]

    @ndl.jit
    def run(inputs):
        results = []
        for of, tensors in zip(cases, inputs, strict=True):
            y = getattr(F, of.name)(*tensors, **of.options)
            weighted(y).backward()
            results.append((y, [x.grad for x in tensors]))
        return results

    inputs = [[ndl.Tensor(a, device=device) for a in arrays(of)] for of in cases]
    for of, (y, grads) in zip(cases, run(inputs), strict=True):
        check(of, y, grads)


GRADIENTS_OF_GRADIENTS = [
    *("mish", "celu", "hardswish", "glu", "softsign", "tanhshrink"),
    *("conv3d", "conv_transpose3d", "instance_norm", "local_response_norm", "bilinear"),
]


@pytest.mark.parametrize("name", GRADIENTS_OF_GRADIENTS)
def test_gradients_of_gradients(name):
    of = next(c for c in CASES if c.name == name)
    inputs = [ndl.Tensor(a) for a in arrays(of)]
    weighted(getattr(F, name)(*inputs, **of.options)).backward()
    first = inputs[0].grad
    (first * first).sum().backward()
    peers = [torch.tensor(a, requires_grad=True) for a in arrays(of)]
    y = getattr(torch.nn.functional, name)(*peers, **of.options)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).float()
    (theirs,) = torch.autograd.grad((y * weights).sum(), peers[:1], create_graph=True)
    expected = torch.autograd.grad((theirs * theirs).sum(), peers, allow_unused=True)
    for x, grad in zip(inputs, expected, strict=True):
        if grad is not None and grad.abs().max() > 0:
            np.testing.assert_allclose(x.grad.numpy(), grad.numpy(), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_indices_of_maxima_and_back(device, ceil_mode):
    values = np.random.RandomState(0).randn(2, 3, 7, 5).astype("float32")
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": ceil_mode}
    y, indices = F.max_pool2d(ndl.Tensor(values, device=device), **options, return_indices=True)
    expected = torch.nn.functional.max_pool2d(torch.tensor(values), **options, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), expected[0].numpy())
    np.testing.assert_array_equal(indices.numpy(), expected[1].numpy())
    y, indices = F.max_pool2d(ndl.Tensor(values, device=device), 2, return_indices=True)
    back = F.max_unpool2d(y, indices, 2, output_size=(7, 5))
    peer = torch.nn.functional.max_pool2d(torch.tensor(values), 2, return_indices=True)
    theirs = torch.nn.functional.max_unpool2d(*peer, 2, output_size=(7, 5))
    np.testing.assert_array_equal(back.numpy(), theirs.numpy())


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm(device, training):
    values = np.random.RandomState(0).randn(3, 4, 5, 2).astype("float32")
    mean, var = np.linspace(-1, 1, 4, dtype="float32"), np.linspace(0.5, 2, 4, dtype="float32")
    ours = [ndl.Tensor(a, device=device, requires_grad=False) for a in (mean, var)]
    theirs = [torch.tensor(a) for a in (mean, var)]
    y = F.batch_norm(ndl.Tensor(values, device=device), *ours, training=training)
    expected = torch.nn.functional.batch_norm(torch.tensor(values), *theirs, training=training)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-5, atol=1e-6)


def test_embedding(device):
    table = np.random.RandomState(0).randn(6, 3).astype("float32")
    index = np.array([[1, 4, 2], [2, 0, 5]])
    weight, peer = ndl.Tensor(table, device=device), torch.tensor(table, requires_grad=True)
    rows = ndl.Tensor(index, device=device, dtype="int64")
    weighted(F.embedding(rows, weight, padding_idx=2)).backward()
    y = torch.nn.functional.embedding(torch.tensor(index), peer, padding_idx=2)
    (y * torch.cos(torch.arange(y.numel())).reshape(y.shape)).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), peer.grad.numpy(), rtol=1e-5, atol=1e-6)
    y = F.embedding(rows, weight, max_norm=1.0)
    with torch.no_grad():
        expected = torch.nn.functional.embedding(torch.tensor(index), peer, max_norm=1.0)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(weight.numpy(), peer.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("flat", [False, True])
def test_embedding_bag(device, mode, padding_idx, flat):
    table = np.random.RandomState(0).randn(6, 3).astype("float32")
    index = np.array([1, 4, 2, 2, 0, 5])
    options = {"mode": mode, "padding_idx": padding_idx}
    offsets = np.array([0, 2, 2, 3])
    weight, peer = ndl.Tensor(table, device=device), torch.tensor(table, requires_grad=True)
    shaped = index if flat else index.reshape(2, 3)
    ours = [ndl.Tensor(shaped, device=device, dtype="int64"), weight]
    theirs = [torch.tensor(shaped), peer]
    if flat:
        ours.append(ndl.Tensor(offsets, device=device, dtype="int64"))
        theirs.append(torch.tensor(offsets))
    y = F.embedding_bag(*ours, **options)
    expected = torch.nn.functional.embedding_bag(*theirs, **options)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    weighted(y).backward()
    weights = torch.cos(torch.arange(expected.numel())).reshape(expected.shape)
    (expected * weights).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), peer.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_random_functions(device):
    x = ndl.Tensor(np.random.RandomState(0).randn(50, 40, 3).astype("float32"), device=device)
    np.random.seed(0)
    dropped = F.dropout1d(x, 0.3).numpy()
    whole = (dropped == 0).all(axis=2)
    assert ((dropped == 0) == whole[:, :, None]).all()
    assert abs(whole.mean() - 0.3) < 0.05
    np.testing.assert_allclose(dropped[~whole], x.numpy()[~whole] / 0.7, rtol=1e-5)
    assert F.dropout(x, 0.3, training=False) is x
    for function in (F.alpha_dropout, F.feature_alpha_dropout):
        y = function(x, 0.2).numpy()
        assert abs(y.mean()) < 0.1
        assert abs(y.std() - 1) < 0.1
    y = F.rrelu(x, training=True).numpy()
    slopes = (y / x.numpy())[x.numpy() < 0]
    assert (slopes >= 1 / 8 - 1e-6).all()
    assert (slopes <= 1 / 3 + 1e-6).all()
    hard = F.gumbel_softmax(x, tau=0.5, hard=True, dim=1)
    np.testing.assert_allclose(np.sort(hard.numpy(), axis=1)[:, -1], 1, rtol=1e-6)
    np.testing.assert_allclose(hard.numpy().sum(axis=1), 1, rtol=1e-5)


WRONG = [
    (lambda x: F.prelu(x, ndl.ones(3)), r"\[prelu\] needs 1 or 4 weights"),
    (lambda x: F.glu(x, 3), r"\[glu\] axis 3"),
    (lambda x: F.pad(x, (9, 0), "reflect"), r"\[pad\] mode 'reflect'"),
    (lambda x: F.pad(x, (1,)), r"\[pad\] pad must hold two lengths"),
    (lambda x: F.interpolate(x), r"either size or scale_factor"),
    (lambda x: F.interpolate(x, 4, mode="linear"), r"does not fit input"),
    (lambda x: F.conv2d(x, ndl.ones(3, 5, 2, 2)), r"\[conv2d\] needs input \(N, 5, H, W\)"),
    (lambda x: F.conv3d(x, ndl.ones(3, 4, 2, 2, 2)), r"\[conv3d\] needs input \(N, 4, D, H, W\)"),
    (lambda x: F.max_pool1d(x, 2), r"\[max_pool1d\] needs input \(N, C, L\)"),
    (lambda x: F.max_pool2d(x, 9), r"larger than the image"),
    (lambda x: F.avg_pool2d(x, 2, padding=2), r"exceeds half of the kernel"),
    (lambda x: F.pixel_shuffle(x, 3), r"does not divide 4 channels"),
    (lambda x: F.fold(x[0], 4, 2), r"\[fold\] needs input"),
    (lambda x: F.group_norm(x, 3), r"divisible by 3"),
    (lambda x: F.dropout(x, 1.5), r"must be in \[0, 1\]"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(ndl.ones(2, 4, 6, 5))


def test_compiled_max_pooling_reduces_nothing() -> None:
    """Reductions of four pixels each cost more than the convolutions around them."""

    @ndl.jit
    def gradient(x: ndl.Tensor) -> ndl.Tensor:
        return ndl.grad(F.max_pool2d(x, 2).sum(), [x])[0]

    gradient(ndl.Tensor(np.ones((1, 2, 4, 4))))
    assert "maximum*3" in gradient.explain()
    assert "reduce" not in gradient.explain()
