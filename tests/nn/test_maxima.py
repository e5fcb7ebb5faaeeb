"""Maxima with their places, over kernels, bins and random windows, and layers that came late,
compared with PyTorch, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
SIZES = {1: (11,), 2: (9, 7), 3: (6, 5, 7)}


def image(axes: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers, so that maxima are often equal."""
    draw = np.random.default_rng(seed)
    return draw.integers(-3, 4, (2, 3, *SIZES[axes])).astype("float32")


def weights(y: np.ndarray) -> np.ndarray:
    return np.cos(np.arange(y.size, dtype="float32")).reshape(y.shape)


CALLS = [
    (name, axes, args, options)
    for axes in (1, 2, 3)
    for name, args, options in [
        ("max_pool", (3,), {"stride": 2, "padding": 1}),
        ("max_pool", (2,), {"dilation": 2, "ceil_mode": True}),
        ("max_pool", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}),
        ("adaptive_max_pool", (4,), {}),
        ("adaptive_max_pool", (1,), {}),
    ]
]


def results(functions, tensor, axes):
    """All values and indices of the calls, and their gradients together."""
    x = tensor(image(axes))
    pairs = [
        getattr(functions, f"{name}{n}d")(x, *args, return_indices=True, **options)
        for name, n, args, options in CALLS
        if n == axes
    ]
    loss = 0
    for y, _ in pairs:
        loss = loss + (y * tensor(weights(np.empty(tuple(y.shape))), False)).sum()
    return x, loss, pairs


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_maxima_and_their_places(device, axes):
    wanted_x, wanted_loss, wanted = results(
        TF, lambda a, grad=True: torch.tensor(a, requires_grad=grad), axes
    )
    wanted_loss.backward()

    def run():
        x, loss, pairs = results(
            F, lambda a, grad=True: ndl.Tensor(a, device=device, requires_grad=grad), axes
        )
        loss.backward()
        return x.grad, pairs

    for call in (run, ndl.jit(run)):
        gradient, pairs = call()
        for (y, places), (their_y, their_places) in zip(pairs, wanted, strict=True):
            np.testing.assert_array_equal(y.numpy(), their_y.detach().numpy())
            np.testing.assert_array_equal(places.numpy(), their_places.numpy())
        np.testing.assert_allclose(gradient.numpy(), wanted_x.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_back_from_the_maxima(axes):
    x = torch.tensor(image(axes), requires_grad=True)
    pool = getattr(torch.nn, f"MaxPool{axes}d")(2, return_indices=True)
    y, places = pool(x)
    for size in (x.shape, list(x.shape[2:])):
        theirs = getattr(torch.nn, f"MaxUnpool{axes}d")(2)(y, places, output_size=size)
        layer, ours = getattr(nn, f"MaxUnpool{axes}d")(2), ndl.Tensor(y.detach().numpy())
        back = layer(ours, ndl.tensor(places.numpy()), output_size=size)
        np.testing.assert_array_equal(back.numpy(), theirs.detach().numpy())
        (back * back).sum().backward()
        np.testing.assert_array_equal(ours.grad.numpy(), 2 * y.detach().numpy())
    whole = torch.tensor(image(axes)[(..., *(slice(4),) * axes)])
    y, places = pool(whole)
    theirs = getattr(torch.nn, f"MaxUnpool{axes}d")(2)(y, places)
    back = layer(ndl.tensor(y.numpy()), ndl.tensor(places.numpy()))
    np.testing.assert_array_equal(back.numpy(), theirs.numpy())
    with pytest.raises(ValueError, match="indices alike"):
        layer(ours, ndl.zeros(1, dtype="int64"))


@pytest.mark.parametrize("axes", [2, 3])
def test_random_windows(axes):
    x = image(axes)
    samples = np.random.default_rng(1).random((2, 3, axes)).astype("float32")
    for options in (
        {"output_size": 3},
        {"output_ratio": (0.6,) * axes},
        {"output_size": (1, 2, 3)[:axes]},
    ):
        pool = getattr(TF, f"fractional_max_pool{axes}d")
        theirs, their_places = pool(
            torch.tensor(x), 2, return_indices=True, _random_samples=torch.tensor(samples),
            **options,
        )  # fmt: skip
        layer = getattr(nn, f"FractionalMaxPool{axes}d")(
            2, return_indices=True, _random_samples=ndl.tensor(samples), **options
        )
        for call in (layer, ndl.jit(layer)):
            y, places = call(ndl.tensor(x))
            np.testing.assert_array_equal(y.numpy(), theirs.numpy())
            np.testing.assert_array_equal(places.numpy(), their_places.numpy())
    layer = getattr(nn, f"FractionalMaxPool{axes}d")(2, output_ratio=0.5)
    run = ndl.jit(layer)
    draws = {run(ndl.tensor(x)).numpy().tobytes() for _ in range(5)}
    assert len(draws) > 1
    assert layer.state_dict() == {}
    with pytest.raises(ValueError, match="and not both"):
        getattr(nn, f"FractionalMaxPool{axes}d")(2)
    with pytest.raises(ValueError, match="do not fit"):
        getattr(F, f"fractional_max_pool{axes}d")(ndl.tensor(x), 4, 5)


def test_layers_return_indices():
    x = image(2)
    for name, args in (("AdaptiveMaxPool2d", ((3, None),)), ("MaxPool2d", (2,))):
        theirs = getattr(torch.nn, name)(*args, return_indices=True)(torch.tensor(x))
        ours = getattr(nn, name)(*args, return_indices=True)(ndl.tensor(x))
        for wanted, got in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())


@pytest.mark.parametrize("options", [
    {"add_bias_kv": True}, {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 3, "vdim": 5, "bias": False},
])  # fmt: skip
def test_attention_to_more_keys(options):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True, **options)
    ours = nn.MultiheadAttention(4, 2, batch_first=True, **options)
    assert nn.from_torch_state_dict(ours, theirs.state_dict()) == ([], [])
    draw = np.random.default_rng(0)
    widths = 4, options.get("kdim", 4), options.get("vdim", 4)
    q, k, v = (draw.normal(size=(2, 4, width)).astype("float32") for width in widths)
    hidden = np.array([[False, False, False, True], [False, True, True, True]])
    causal = np.triu(np.ones((4, 4), bool), 1)

    def both(nn_call, tensor):
        plain = nn_call(*map(tensor, (q, k, v)))
        masked = nn_call(
            *map(tensor, (q, k, v)), key_padding_mask=tensor(hidden), attn_mask=tensor(causal)
        )
        light = nn_call(*map(tensor, (q, k, v)), need_weights=False, attn_mask=tensor(causal))
        return [plain[0], plain[1], masked[0], masked[1], light[0]]

    with torch.no_grad():
        wanted = both(theirs, torch.tensor)
    for call in (ours, ndl.jit(ours)):
        for got, expected in zip(both(call, ndl.tensor), wanted, strict=True):
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    later = ours(*map(ndl.tensor, (q, k, v)), need_weights=False, is_causal=True)[0]
    np.testing.assert_allclose(later.numpy(), wanted[-1].numpy(), rtol=1e-5, atol=1e-6)


def test_lstm_with_a_projection():
    """Values and gradients, with packed sequences and first states, eager and compiled."""
    torch.manual_seed(0)
    theirs, ours = torch.nn.LSTM(3, 5, 2, proj_size=2), nn.LSTM(3, 5, 2, proj_size=2)
    nn.from_torch_state_dict(ours, theirs.state_dict())
    draw = np.random.default_rng(0)
    x, h, c = (draw.normal(size=s).astype("float32") for s in ((4, 3, 3), (2, 3, 2), (2, 3, 5)))
    lengths = [4, 2, 1]
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), lengths)
    wanted, (wanted_h, wanted_c) = theirs(packed, (torch.tensor(h), torch.tensor(c)))
    (wanted.data.sum() + (wanted_c * wanted_c).sum()).backward()

    def run():
        packed = nn.utils.rnn.pack_padded_sequence(ndl.tensor(x), lengths)
        y, (last_h, last_c) = ours(packed, (ndl.tensor(h), ndl.tensor(c)))
        (y.data.sum() + (last_c * last_c).sum()).backward()
        return y.data, last_h, last_c, [p.grad for p in ours.parameters()]

    for call in (run, ndl.jit(run)):
        y, last_h, last_c, gradients = call()
        for got, expected in ((y, wanted.data), (last_h, wanted_h), (last_c, wanted_c)):
            np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-6)
        names = [name for name, _ in ours.named_parameters()]
        projection = gradients[names.index("lstm_cells.0.W_hr")].numpy()
        np.testing.assert_allclose(
            projection, theirs.weight_hr_l0.grad.numpy().T, rtol=1e-4, atol=1e-5
        )
    with pytest.raises(ValueError, match=r"proj_size must be below hidden_size = 5"):
        nn.LSTM(3, 5, proj_size=5)
    with pytest.raises(ValueError, match=r"must be \(2, 3, 2\)"):
        ours(ndl.tensor(x), (ndl.tensor(c), ndl.tensor(c)))


@pytest.mark.parametrize("head_bias", [False, True])
def test_adaptive_log_softmax(head_bias):
    torch.manual_seed(0)
    args = 8, 20, [5, 10, 15]
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(*args, div_value=2.0, head_bias=head_bias)
    ours = nn.AdaptiveLogSoftmaxWithLoss(*args, div_value=2.0, head_bias=head_bias)
    assert nn.from_torch_state_dict(ours, theirs.state_dict()) == ([], [])
    x = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    y = np.array([0, 4, 5, 12, 19, 15])
    wanted = theirs(torch.tensor(x), torch.tensor(y))
    wanted.loss.backward()
    output, loss = ours(ndl.tensor(x), ndl.tensor(y))
    loss.backward()
    np.testing.assert_allclose(output.numpy(), wanted.output.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(loss.item(), wanted.loss.item(), rtol=1e-6)
    gradient = theirs.tail[0][1].weight.grad.numpy().T
    np.testing.assert_allclose(ours.tail[0][1].weight.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)
    prob = theirs.log_prob(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.log_prob(ndl.tensor(x)).numpy(), prob, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(ndl.tensor(x)).numpy(), prob.argmax(1))
    compiled = ndl.jit(lambda x, y: ours(x, y).loss)
    np.testing.assert_allclose(
        compiled(ndl.tensor(x), ndl.tensor(y)).item(), loss.item(), rtol=1e-6
    )
    for cutoffs in ([], [3, 2], [5, 20]):
        with pytest.raises(ValueError, match="cutoffs must rise"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs)


def test_batch_norm_of_several_machines():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model.blocks = [nn.BatchNorm1d(5), nn.ModuleDict({"norm": nn.BatchNorm3d(2, affine=False)})]
    before = model.state_dict(keep_vars=True)
    x = ndl.tensor(np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype("float32"))
    expected = model(x).numpy()
    assert nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    kinds = [type(m) for m in model.modules() if "BatchNorm" in type(m).__name__]
    assert kinds == [nn.SyncBatchNorm] * 3
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is tensor for name, tensor in before.items())
    np.testing.assert_array_equal(model(x).numpy(), expected)
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(3))) is nn.SyncBatchNorm
    with pytest.raises(ValueError, match=r"needs input \(N, 4, …\)"):
        model[1](ndl.ones(4))
