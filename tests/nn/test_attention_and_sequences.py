"""MultiheadAttention, Transformer stacks, packed sequences and nn.utils against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.nn import utils
from needle.nn.utils import rnn

torch = pytest.importorskip("torch")

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def draw(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def constant(array, device):
    if array is None:
        return None
    return ndl.Tensor(array, device=device, dtype=str(array.dtype), requires_grad=False)


def peer_of(array):
    return None if array is None else torch.tensor(array)


HIDDEN = np.triu(np.ones((4, 5), bool), 2)
PADDED = np.zeros((3, 5), bool)
PADDED[1, 3:] = True
LAYERS = [{}, {"kdim": 6, "vdim": 7}, {"bias": False}, {"batch_first": True}]
MASKS = [
    (None, None),
    (HIDDEN, None),
    (HIDDEN, PADDED),
    (draw(4, 5), np.where(PADDED, -np.inf, 0).astype("float32")),
    (draw(6, 4, 5), None),
]


def attention(options, device):
    peer = torch.nn.MultiheadAttention(8, 2, **options)
    layer = nn.MultiheadAttention(8, 2, **options).to(device)
    nn.from_torch_state_dict(layer, peer.state_dict())
    back = nn.to_torch_state_dict(layer)
    assert list(back) == list(peer.state_dict())
    for name, value in peer.state_dict().items():
        np.testing.assert_array_equal(back[name], value.numpy())
    widths = (4, 8), (5, options.get("kdim", 8)), (5, options.get("vdim", 8))
    inputs = [
        draw(*((3, n, d) if options.get("batch_first") else (n, 3, d)), seed=d + n)
        for n, d in widths
    ]
    return layer, peer, inputs


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_multihead_attention(device, options, compiled):
    layer, peer, (q, k, v) = attention(options, device)
    choices = [(need, average) for need in (True, False) for average in (True, False)]

    def run(x, k, v, mask, padding):
        results = []
        for need, average in choices:
            y, weights = layer(
                x, k, v, key_padding_mask=padding, attn_mask=mask, need_weights=need,
                average_attn_weights=average,
            )  # fmt: skip
            (y * y).sum().backward()
            results.append((y, weights, x.grad))
        return results

    step = ndl.jit(run) if compiled else run
    for mask, padding in MASKS[:2] if compiled else MASKS:
        x = ndl.Tensor(q, device=device)
        arguments = [constant(a, device) for a in (k, v, mask, padding)]
        found = step(x, *arguments)
        for (need, average), (y, weights, grad) in zip(choices, found, strict=True):
            theirs = torch.tensor(q, requires_grad=True)
            expected, their_weights = peer(
                theirs, peer_of(k), peer_of(v), key_padding_mask=peer_of(padding),
                attn_mask=peer_of(mask), need_weights=need, average_attn_weights=average,
            )  # fmt: skip
            (expected * expected).sum().backward()
            np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), **CLOSE)
            np.testing.assert_allclose(grad.numpy(), theirs.grad.numpy(), rtol=1e-3, atol=1e-4)
            if need:
                np.testing.assert_allclose(weights.numpy(), their_weights.detach(), **CLOSE)
            else:
                assert weights is None


def test_multihead_attention_without_a_batch_and_causal(device):
    layer, peer, _ = attention({}, device)
    x = draw(4, 8)
    y, weights = layer(*[ndl.Tensor(x, device=device)] * 3, is_causal=True)
    hidden = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
    expected, theirs = peer(*[torch.tensor(x)] * 3, attn_mask=hidden)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(weights.numpy(), theirs.detach().numpy(), **CLOSE)
    dropping = nn.MultiheadAttention(8, 2, dropout=0.5).to(device)
    assert (dropping(*[ndl.Tensor(x, device=device)] * 3)[1].numpy() == 0).any()


def test_wrong_attention():
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        nn.MultiheadAttention(8, 3)
    layer, x = nn.MultiheadAttention(8, 2), ndl.ones(4, 3, 8)
    with pytest.raises(ValueError, match="needs query, key and value"):
        layer(x, x, ndl.ones(5, 3, 8))
    with pytest.raises(ValueError, match="key_padding_mask must have shape"):
        layer(x, x, x, key_padding_mask=ndl.zeros(4, 4))
    with pytest.raises(TypeError, match="booleans or floats"):
        layer(x, x, x, attn_mask=ndl.zeros(4, 4, dtype="int64"))


@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_stacks(device, batch_first):
    options = {"dim_feedforward": 16, "dropout": 0.0, "batch_first": batch_first}
    peers = [
        torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(8, 2, **options),
            2,
            torch.nn.LayerNorm(8),
            enable_nested_tensor=False,
        ),
        torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, **options), 2),
    ]
    ours = [
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, **options), 2, nn.LayerNorm(8)),
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **options), 2),
    ]
    for layer, peer in zip(ours, peers, strict=True):
        nn.from_torch_state_dict(layer.to(device), peer.state_dict())
    source = draw(*((3, 5, 8) if batch_first else (5, 3, 8)))
    target = draw(*((3, 4, 8) if batch_first else (4, 3, 8)), seed=1)
    causal = np.triu(np.ones((4, 4), bool), 1)
    memory = ours[0](ndl.Tensor(source, device=device), None, constant(PADDED, device))
    y = ours[1](
        ndl.Tensor(target, device=device), memory, constant(causal, device),
        memory_key_padding_mask=constant(PADDED, device),
    )  # fmt: skip
    expected = peers[0].train()(torch.tensor(source), None, torch.tensor(PADDED))
    theirs = peers[1](
        torch.tensor(target), expected, torch.tensor(causal),
        memory_key_padding_mask=torch.tensor(PADDED),
    )  # fmt: skip
    np.testing.assert_allclose(y.numpy(), theirs.detach().numpy(), **CLOSE)
    again = ours[1](
        ndl.Tensor(target, device=device), memory, tgt_is_causal=True,
        memory_key_padding_mask=constant(PADDED, device),
    )  # fmt: skip
    np.testing.assert_allclose(again.numpy(), theirs.detach().numpy(), **CLOSE)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [[7, 5, 5, 2], [2, 7, 5, 5]], ids=["sorted", "unsorted"])
def test_packed_sequences(device, kind, bidirectional, lengths):
    peer = getattr(torch.nn, kind)(3, 5, num_layers=2, bidirectional=bidirectional)
    layer = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=bidirectional).to(device)
    nn.from_torch_state_dict(layer, peer.state_dict())
    values, first = draw(7, 4, 3), draw(4 if bidirectional else 2, 4, 5, seed=1)
    enforce = {"enforce_sorted": lengths == sorted(lengths, reverse=True)}
    x, h = ndl.Tensor(values, device=device), ndl.Tensor(first, device=device)
    packed = rnn.pack_padded_sequence(x, lengths, **enforce)
    output, last = layer(packed, (h, h) if kind == "LSTM" else h)
    y, found = rnn.pad_packed_sequence(output)
    assert found.tolist() == lengths

    theirs, their_h = torch.tensor(values, requires_grad=True), torch.tensor(first)
    their_packed = torch.nn.utils.rnn.pack_padded_sequence(theirs, lengths, **enforce)
    np.testing.assert_array_equal(packed.data.numpy(), their_packed.data.detach().numpy())
    their_output, their_last = peer(their_packed, (their_h,) * 2 if kind == "LSTM" else their_h)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(their_output)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), **CLOSE)
    pairs = zip(last, their_last, strict=True) if kind == "LSTM" else [(last, their_last)]
    for ours, other in pairs:
        np.testing.assert_allclose(ours.numpy(), other.detach().numpy(), **CLOSE)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-3, atol=1e-4)


def test_padding_and_packing(device):
    parts = [draw(n, 2, seed=n) for n in (2, 4, 1)]
    ours = [ndl.Tensor(a, device=device) for a in parts]
    theirs = [torch.tensor(a) for a in parts]
    for options in ({}, {"batch_first": True}, {"padding_value": 7.0}, {"padding_side": "left"}):
        expected = torch.nn.utils.rnn.pad_sequence(theirs, **options)
        np.testing.assert_array_equal(rnn.pad_sequence(ours, **options).numpy(), expected.numpy())
    packed = rnn.pack_sequence(ours, enforce_sorted=False)
    back, lengths = rnn.pad_packed_sequence(packed, True, padding_value=1.0, total_length=6)
    their_packed = torch.nn.utils.rnn.pack_sequence(theirs, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(their_packed, True, 1.0, 6)
    np.testing.assert_array_equal(back.numpy(), expected.numpy())
    for got, part in zip(rnn.unpad_sequence(back, lengths, True), parts, strict=True):
        np.testing.assert_array_equal(got.numpy(), part)
    with pytest.raises(ValueError, match="must decrease"):
        rnn.pack_sequence(ours)
    with pytest.raises(ValueError, match="needs 3 lengths"):
        rnn.pack_padded_sequence(back, [1, 2, 9], batch_first=True, enforce_sorted=False)
    with pytest.raises(ValueError, match="below the longest"):
        rnn.pad_packed_sequence(packed, total_length=3)


def test_dropout_between_recurrent_layers(device):
    layer = nn.LSTM(3, 40, num_layers=2, dropout=1.0).to(device)
    x = ndl.Tensor(draw(5, 2, 3), device=device)
    dropped = layer(x)[0].numpy()
    np.testing.assert_allclose(dropped, layer(x * 2)[0].numpy())  # the input's effect is dropped
    assert not np.allclose(dropped, layer.eval()(x)[0].numpy())
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\]"):
        nn.GRU(3, 4, dropout=2.0)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(device, norm_type, max_norm):
    grads = [draw(3, 2), draw(4, seed=1)]
    ours = [nn.Parameter(ndl.zeros(*g.shape, device=device)) for g in grads]
    theirs = [torch.nn.Parameter(torch.zeros(*g.shape)) for g in grads]

    def clip():
        for p, g in zip(ours, tensors, strict=True):
            p.grad = g
        return utils.clip_grad_norm_(ours, max_norm, norm_type)

    tensors = [constant(g, device) for g in grads]
    for p, g in zip(theirs, grads, strict=True):
        p.grad = torch.tensor(g)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    for step in (clip, ndl.jit(clip)):
        np.testing.assert_allclose(step().numpy(), expected.numpy(), rtol=1e-5)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)
    utils.clip_grad_value_(ours, 0.1)
    assert all((np.abs(p.grad.numpy()) <= 0.1).all() for p in ours)
    ours[0].grad = ours[0].grad * float("nan")
    with pytest.raises(RuntimeError, match="is nan"):
        utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    assert utils.clip_grad_norm_([nn.Parameter(ndl.ones(2))], 1.0).item() == 0


def test_vectors_of_parameters(device):
    layer = nn.Linear(3, 2).to(device)
    vector = utils.parameters_to_vector(layer.parameters())
    utils.vector_to_parameters(vector * 2, layer.parameters())
    np.testing.assert_allclose(
        utils.parameters_to_vector(layer.parameters()).numpy(), vector.numpy() * 2
    )
    with pytest.raises(ValueError, match="a vector of 8 elements"):
        utils.vector_to_parameters(vector[:3], layer.parameters())


def test_weight_norm(device):
    layer = utils.weight_norm(nn.Linear(3, 2).to(device))
    peer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    originals = peer.parametrizations.weight
    originals.original0.data = torch.tensor(layer.weight_g.numpy().T.copy())
    originals.original1.data = torch.tensor(layer.weight_v.numpy().T.copy())
    peer.bias.data = torch.tensor(layer.bias.numpy().ravel())
    values = draw(4, 3)
    y, expected = layer(ndl.Tensor(values, device=device)), peer(torch.tensor(values))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), **CLOSE)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(layer.weight_g.grad.numpy().T, originals.original0.grad, **CLOSE)
    np.testing.assert_allclose(layer.weight_v.grad.numpy().T, originals.original1.grad, **CLOSE)
    compiled = ndl.jit(layer)
    for _ in range(2):
        x = ndl.Tensor(values, device=device)
        np.testing.assert_allclose(compiled(x).numpy(), layer(x).numpy(), **CLOSE)
        layer.weight_g.data = layer.weight_g.data * 2
    plain = layer(x).numpy()
    assert utils.remove_weight_norm(layer) is layer
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight"]
    np.testing.assert_allclose(layer(x).numpy(), plain, **CLOSE)
    with pytest.raises(ValueError, match="no Parameter 'scale'"):
        utils.weight_norm(layer, "scale")
    with pytest.raises(ValueError, match="no computed"):
        utils.remove_weight_norm(layer)


def test_spectral_norm(device):
    np.random.seed(0)
    layer = utils.spectral_norm(nn.Conv2d(2, 3, 3).to(device), n_power_iterations=3)
    x = ndl.Tensor(draw(1, 2, 5, 5), device=device)
    for step in (layer, ndl.jit(layer)):
        for _ in range(5):
            step(x)
        largest = np.linalg.svd(layer.weight.numpy().reshape(-1, 3), compute_uv=False)[0]
        assert abs(largest - 1) < 1e-3
    layer(x).sum().backward()
    assert np.isfinite(layer.weight_orig.grad.numpy()).all()
    before = layer.eval().weight_u.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.weight_u.numpy(), before)
    utils.remove_spectral_norm(layer)
    assert [name for name, _ in layer.named_buffers()] == []
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight"]
