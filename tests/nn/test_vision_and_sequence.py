"""Convolution, pooling, recurrent and attention layers against PyTorch, with its weights."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")


def draw(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def compare(ours, theirs, *inputs, run=None, run_torch=None, tol=2e-5):
    """Load PyTorch's weights, then outputs and all gradients of a weighted sum."""
    nn.from_torch_state_dict(ours, theirs.state_dict())
    theirs.zero_grad()
    needle_inputs = [ndl.Tensor(x) for x in inputs]
    torch_inputs = [torch.tensor(x, requires_grad=True) for x in inputs]
    results = _flat((run or ours)(*needle_inputs))
    expected = _flat((run_torch or theirs)(*torch_inputs))
    total, total_torch = 0.0, 0.0
    for k, (a, b) in enumerate(zip(results, expected, strict=True)):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=tol, atol=tol)
        weights = draw(*a.shape, seed=k + 1)
        total = total + (a * ndl.Tensor(weights)).sum()
        total_torch = total_torch + (b * torch.tensor(weights)).sum()
    total.backward()
    total_torch.backward()
    for x, y in zip(needle_inputs, torch_inputs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4, atol=1e-4)
    ours_sizes = sorted((p.size, float(np.abs(p.grad.numpy()).sum())) for p in ours.parameters())
    theirs_sizes = sorted((p.numel(), float(p.grad.abs().sum())) for p in theirs.parameters())
    np.testing.assert_allclose(ours_sizes, theirs_sizes, rtol=1e-3, atol=1e-3)


def _flat(value):
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in _flat(part)]
    return [value]


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("padding", [0, 1, (0, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d(stride, padding, dilation, groups):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    ours = nn.Conv2d(4, 6, 3, **options)
    compare(ours, torch.nn.Conv2d(4, 6, 3, **options), draw(2, 4, 7, 6))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [1, 2, (3, 2), 5])
def test_conv2d_with_named_padding(kernel, padding):
    ours = nn.Conv2d(3, 4, kernel, padding=padding, bias=False)
    compare(ours, torch.nn.Conv2d(3, 4, kernel, padding=padding, bias=False), draw(2, 3, 6, 5))


def test_conv1d():
    options = {"stride": 2, "padding": 3, "dilation": 2, "groups": 2}
    compare(nn.Conv1d(4, 6, 3, **options), torch.nn.Conv1d(4, 6, 3, **options), draw(3, 4, 11))


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), (3, 0, 2)])
def test_conv_transpose(stride, padding, extra):
    options = {"stride": stride, "padding": padding, "output_padding": extra}
    compare(nn.ConvTranspose2d(4, 3, 3, **options), torch.nn.ConvTranspose2d(4, 3, 3, **options),
            draw(2, 4, 5, 4))  # fmt: skip


def test_the_courses_conv():
    np.random.seed(0)
    layer = nn.Conv(3, 5, (3, 9), stride=2)
    np.random.seed(0)
    bound = np.sqrt(6 / 27)
    weight = np.random.rand(3, 3, 3, 5) * 2 * bound - bound
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-5, atol=1e-6)
    bias = np.random.rand(5) * 2 / np.sqrt(27) - 1 / np.sqrt(27)
    np.testing.assert_allclose(layer.bias.numpy(), bias, rtol=1e-5, atol=1e-6)
    compare(layer, torch.nn.Conv2d(3, 5, 3, stride=2, padding=1), draw(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        ("MaxPool2d", {"kernel_size": 2}), ("AvgPool2d", {"kernel_size": (2, 3)}),
        ("MaxPool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("AvgPool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("AdaptiveAvgPool2d", {"output_size": (2, 3)}), ("AdaptiveAvgPool2d", {"output_size": 4}),
        ("AdaptiveMaxPool2d", {"output_size": (3, 2)}), ("AdaptiveMaxPool2d", {"output_size": 1}),
        ("AdaptiveAvgPool2d", {"output_size": 1}), ("AdaptiveMaxPool2d", {"output_size": (3, 3)}),
    ],
)  # fmt: skip
def test_pooling(make, options):
    compare(getattr(nn, make)(**options), getattr(torch.nn, make)(**options), draw(2, 3, 6, 9))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_padding_wins_no_maximum_of_integers(dtype, device):
    x = ndl.Tensor(np.full((1, 1, 2, 2), -3), device=device, dtype=dtype)
    y = nn.MaxPool2d(2, 1, 1)(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.numpy(), np.full((1, 1, 3, 3), -3))


def test_norms_of_images():
    compare(nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3), draw(4, 3, 5, 2))
    compare(nn.GroupNorm(2, 4), torch.nn.GroupNorm(2, 4), draw(3, 4, 5, 2))
    ours, theirs = nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    nn.from_torch_state_dict(ours, theirs.state_dict())
    x = draw(4, 3, 5, 2)
    ours(ndl.Tensor(x))
    theirs(torch.tensor(x))
    np.testing.assert_allclose(ours.running_mean.numpy(), theirs.running_mean.numpy(), atol=1e-6)
    compare(ours.eval(), torch.nn.BatchNorm2d(3).eval(), draw(2, 3, 2, 2))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch_first", "bidirectional"), [(False, False), (True, True)])
def test_recurrent(kind, layers, bias, batch_first, bidirectional):
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    ours = getattr(nn, kind)(4, 5, layers, **options)
    theirs = getattr(torch.nn, kind)(4, 5, layers, **options)
    rows = layers * (2 if bidirectional else 1)
    states = [draw(rows, 3, 5, seed=s) for s in range(2 if kind == "LSTM" else 1)]

    def run(layer):
        return lambda x, *h: layer(x, tuple(h) if len(h) > 1 else h[0])

    x = draw(3, 6, 4) if batch_first else draw(6, 3, 4)
    compare(ours, theirs, x, *states, run=run(ours), run_torch=run(theirs))
    compare(ours, theirs, x)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells_are_single_steps(kind):
    np.random.seed(0)
    layer = getattr(nn, kind)(4, 5)
    cell = getattr(layer, layer.cells)[0]
    x = ndl.Tensor(draw(3, 2, 4))
    output, last = layer(x)
    h = None
    for step in ndl.split(x, 0):
        h = cell(step, h)
    expected = h if kind == "LSTM" else (h,)
    got = last if kind == "LSTM" else (last,)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy()[0], b.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.numpy()[-1], got[0].numpy()[0])


def test_recurrent_weights_are_drawn_in_order():
    np.random.seed(3)
    cell = nn.LSTMCell(4, 9)
    np.random.seed(3)
    for name, shape in (
        ("W_ih", (4, 36)),
        ("W_hh", (9, 36)),
        ("bias_ih", (36,)),
        ("bias_hh", (36,)),
    ):
        expected = np.random.rand(*shape) * 2 / 3 - 1 / 3
        np.testing.assert_allclose(getattr(cell, name).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_weight_may_be_replaced_by_a_plain_tensor():
    layer = nn.LSTM(2, 3)
    layer.lstm_cells[0].W_hh = ndl.Tensor(draw(3, 12))
    layer(ndl.Tensor(draw(4, 1, 2)))[0].sum().backward()
    assert layer.lstm_cells[0].W_hh.grad.shape == (3, 12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_encoder_layer(norm_first, batch_first, activation):
    options = {
        "dim_feedforward": 16, "dropout": 0.0, "activation": activation,
        "batch_first": batch_first, "norm_first": norm_first,
    }  # fmt: skip
    ours = nn.TransformerEncoderLayer(8, 2, **options)
    compare(ours, torch.nn.TransformerEncoderLayer(8, 2, **options), draw(5, 3, 8))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_decoder_layer(norm_first, batch_first):
    options = {
        "dim_feedforward": 16, "dropout": 0.0, "batch_first": batch_first, "norm_first": norm_first,
    }  # fmt: skip
    ours = nn.TransformerDecoderLayer(8, 2, **options)
    theirs = torch.nn.TransformerDecoderLayer(8, 2, **options)
    nn.from_torch_state_dict(ours, theirs.state_dict())
    x, memory = draw(3, 5, 8), draw(3, 4, 8, seed=1)
    if not batch_first:
        x, memory = x.swapaxes(0, 1).copy(), memory.swapaxes(0, 1).copy()
    inputs = [ndl.Tensor(v) for v in (x, memory)]
    torch_inputs = [torch.tensor(v, requires_grad=True) for v in (x, memory)]
    hidden = torch.nn.Transformer.generate_square_subsequent_mask(5)
    result, expected = ours(*inputs, causal=True), theirs(*torch_inputs, tgt_mask=hidden)
    np.testing.assert_allclose(result.numpy(), expected.detach().numpy(), atol=2e-5)
    weights = draw(*result.shape, seed=2)
    result.backward(ndl.Tensor(weights))
    expected.backward(torch.tensor(weights))
    for a, b in zip(inputs, torch_inputs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-4)


def test_padding_masks_hide_positions():
    q, k, v = (draw(2, 3, 5, 4, seed=s) for s in range(3))
    seen = np.ones((2, 1, 1, 5), bool)
    seen[1, ..., 3:] = False
    layer = nn.MultiHeadAttention()
    result, probs = layer(*map(ndl.Tensor, (q, k, v)), mask=seen)
    assert not probs.numpy()[1, ..., 3:].any()
    k[1, :, 3:] = 100
    v[1, :, 3:] = -100
    again = layer.attend(*map(ndl.Tensor, (q, k, v)), mask=seen)
    np.testing.assert_allclose(again.numpy(), result.numpy(), atol=1e-5)


def test_linear_embedding_and_layer_norm_from_torch():
    compare(nn.Linear(3, 4), torch.nn.Linear(3, 4), draw(2, 3))
    compare(nn.LayerNorm(4), torch.nn.LayerNorm(4), draw(2, 4))
    ours, theirs = nn.Embedding(5, 3), torch.nn.Embedding(5, 3)
    nn.from_torch_state_dict(ours, theirs.state_dict())
    index = np.array([[0, 4], [4, 2]])
    y, z = ours(ndl.Tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_array_equal(y.numpy(), z.detach().numpy())
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_array_equal(ours.weight.grad.numpy(), theirs.weight.grad.numpy())
    with pytest.raises((ValueError, KeyError), match="weight"):
        nn.from_torch_state_dict(nn.Linear(3, 5), torch.nn.Linear(3, 4).state_dict())


# ---- the course's attention -------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal):
    q, k, v = (draw(2, 3, 5, 4, seed=s) for s in range(3))
    layer = nn.MultiHeadAttention(causal=causal)
    result, probs = layer(*map(ndl.Tensor, (q, k, v)))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.tensor, (q, k, v)), is_causal=causal
    )
    np.testing.assert_allclose(result.numpy(), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(probs.numpy().sum(-1), 1, rtol=1e-5)
    fused = layer.attend(*map(ndl.Tensor, (q, k, v)))
    np.testing.assert_allclose(fused.numpy(), result.numpy(), atol=1e-5)


def test_attention_dropout_draws_for_the_probabilities():
    q = ndl.Tensor(draw(1, 2, 3, 4))
    np.random.seed(0)
    _, probs = nn.MultiHeadAttention(dropout=0.5)(q, q, q)
    np.random.seed(0)
    kept = np.random.rand(1, 2, 3, 3) <= 0.5
    np.testing.assert_array_equal(probs.numpy() != 0, kept)


def test_transformer_layers_and_their_order_of_draws():
    np.random.seed(0)
    model = nn.Transformer(6, 8, 2, num_head=2, dim_head=3, sequence_len=10)
    np.random.seed(0)
    positions = np.random.randn(10, 6)
    np.testing.assert_allclose(model.embedding.weight.numpy(), positions, rtol=1e-5)
    first = model.layers[0]
    for linear in (
        first.attention.q_projection, first.attention.k_projection, first.attention.v_projection,
        first.attention.out_projection, first.linear1, first.linear2,
    ):  # fmt: skip
        bound = np.sqrt(6 / linear.in_features)
        shape = (linear.in_features, linear.out_features)
        expected = np.random.rand(*shape) * 2 * bound - bound
        np.testing.assert_allclose(linear.weight.numpy(), expected, rtol=1e-4, atol=1e-5)
        if linear.bias is not None:
            np.random.rand(linear.out_features, 1)
    x = ndl.Tensor(draw(5, 3, 6))
    y, zeros = model(x)
    assert y.shape == zeros.shape == (5, 3, 6)
    assert not zeros.numpy().any()
    same = nn.Transformer(6, 8, 2, num_heads=2, dim_head=3, sequence_len=10, batch_first=True)
    same.load_state_dict(model.state_dict())
    np.testing.assert_allclose(same(x.transpose((0, 1)))[0].numpy().swapaxes(0, 1), y.numpy())


def test_causal_layers_do_not_look_ahead():
    np.random.seed(0)
    layer = nn.TransformerLayer(6, 2, 3, 8)
    x = draw(1, 5, 6)
    before = layer(ndl.Tensor(x)).numpy()
    x[0, 3] += 1
    after = layer(ndl.Tensor(x)).numpy()
    np.testing.assert_allclose(after[0, :3], before[0, :3], atol=1e-6)
    assert (np.abs(after[0, 3:] - before[0, 3:]) > 1e-3).any()


def test_rotary_embedding_depends_on_distance_alone():
    rotary = nn.RotaryEmbedding(8)
    q, k = draw(1, 1, 8), draw(1, 1, 8, seed=1)

    def score(i, j):
        a, b = rotary(ndl.Tensor(q), start=i), rotary(ndl.Tensor(k), start=j)
        return (a * b).sum().item()

    assert score(5, 3) == pytest.approx(score(12, 10), rel=1e-4)
    np.testing.assert_allclose(rotary(ndl.Tensor(q)).numpy(), q, rtol=1e-6)
    pair = rotary(ndl.Tensor(np.repeat(q, 6, axis=1)))
    np.testing.assert_allclose((pair * pair).sum(2).numpy(), (q**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("length", [200, 333])
def test_attention_over_many_blocks(length):
    q, k, v = (draw(1, 2, length, 8, seed=s) for s in range(3))
    ours = [ndl.Tensor(x) for x in (q, k, v)]
    theirs = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    result = ndl.scaled_dot_product_attention(*ours, causal=True)
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=True)
    np.testing.assert_allclose(result.numpy(), expected.detach().numpy(), atol=1e-5)
    weights = draw(1, 2, length, 8, seed=9)
    result.backward(ndl.Tensor(weights))
    expected.backward(torch.tensor(weights))
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-4)


# ---- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: nn.Conv2d(3, 4, 3)(ndl.Tensor(draw(1, 3, 2, 2))), ValueError, "larger than"),
        (lambda: nn.Conv2d(3, 4, 3)(ndl.Tensor(draw(1, 2, 5, 5))), ValueError, r"\(N, 3, H, W\)"),
        (lambda: nn.Conv2d(3, 4, 3)(ndl.Tensor(draw(3, 5))), ValueError, "H, W"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups=2"),
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, "3"), TypeError, "kernel_size"),
        (lambda: ndl.conv(ndl.Tensor(draw(1, 4, 4, 3)), ndl.Tensor(draw(3, 3, 3, 2)), stride=0),
         ValueError, "stride"),
        (lambda: ndl.conv(ndl.Tensor(draw(1, 4, 4, 3)), ndl.Tensor(draw(3, 3, 2, 2))), ValueError,
         "channels"),
        (lambda: ndl.conv(ndl.Tensor(draw(1, 4, 4, 3)), ndl.Tensor(draw(3, 3, 3, 2)), 2, "same"),
         ValueError, "stride 1"),
        (lambda: nn.MaxPool2d(5)(ndl.Tensor(draw(1, 1, 4, 4))), ValueError, "larger than"),
        (lambda: nn.MaxPool2d(2, padding=2)(ndl.Tensor(draw(1, 1, 4, 4))), ValueError, "half"),
        (lambda: nn.LSTM(3, 4)(ndl.Tensor(draw(2, 5, 2))), ValueError, r"\(T, B, 3\)"),
        (lambda: nn.LSTM(3, 4)(ndl.Tensor(draw(0, 5, 3))), ValueError, "at least 1"),
        (lambda: nn.RNN(3, 4)(ndl.Tensor(draw(2, 5, 3)), ndl.Tensor(draw(2, 5, 4))), ValueError,
         "initial state"),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), ValueError, r"\[RNN\] nonlinearity"),
        (lambda: nn.LSTMCell(3, 4)(ndl.Tensor(draw(2, 2))), ValueError, r"\(B, 3\)"),
        (lambda: nn.Transformer(8, 8, 1, sequence_len=4)(ndl.Tensor(draw(5, 1, 8))), ValueError,
         "sequence_len=4"),
        (lambda: nn.SelfAttention(8, 3), ValueError, "divide"),
        (lambda: nn.RotaryEmbedding(3), ValueError, "even"),
        (lambda: ndl.scaled_dot_product_attention(*[ndl.Tensor(draw(1, 2, 3, 4))] * 3,
                                                  mask=np.ones((2, 2), bool)), ValueError, "mask"),
        (lambda: ndl.scaled_dot_product_attention(
            ndl.Tensor(draw(1, 2, 3, 4)), *[ndl.Tensor(draw(1, 2, 3, 5))] * 2), ValueError,
         "equal features"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "divide"),
    ],
)  # fmt: skip
def test_mistakes_are_named(act, error, words):
    with pytest.raises(error, match=words):
        act()
