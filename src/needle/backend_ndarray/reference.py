"""The specification of the fused kernels: the most obvious NumPy, with the kernels' own operands.

The arrays are views with any strides; numbers of 16 bits are given as float32. Results are written
into `out`, and operands that a kernel overwrites (see `primitives`) are left as it leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .device_numpy import UNARY, pairwise_sum
from .philox import numbers

Array = np.ndarray
Pair = tuple[int, int]

# ---- products -------------------------------------------------------------------------------


def matmul_relu(a: Array, b: Array, out: Array, bias: Array | None) -> None:
    """max(a @ b + bias, 0): a (M, K), b (K, N), bias (N,) or None."""
    out[...] = np.maximum(a @ b if bias is None else a @ b + bias, 0)


# ---- convolution ----------------------------------------------------------------------------


def conv2d(
    x: Array, w: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair, groups: int
) -> None:
    """x (N, H, W, C) * w (KH, KW, C / groups, O) → out (N, OH, OW, O)."""
    x, w = _by_group(x, groups), _by_group(w, groups)
    image, windows = _canvas(x, w.shape[:2], out.shape[1:3], stride, dilation, padding)
    image[...] = x
    out[...] = np.einsum("nyxgcij,ijcgo->nyxgo", windows, w).reshape(out.shape)


def conv2d_input_grad(
    g: Array, w: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair, groups: int
) -> None:
    """g (N, OH, OW, O) spread by w (KH, KW, C / groups, O) over the image, out (N, H, W, C)."""
    g, w, x = (_by_group(a, groups) for a in (g, w, out))
    image, windows = _canvas(x, w.shape[:2], g.shape[1:3], stride, dilation, padding)
    for i, j in np.ndindex(w.shape[:2]):
        windows[..., i, j] += np.einsum("nyxgo,cgo->nyxgc", g, w[i, j])
    out[...] = image.reshape(out.shape)


def conv2d_weight_grad(
    x: Array, g: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair, groups: int
) -> None:
    """Sums of x (N, H, W, C) times g (N, OH, OW, O) → out (KH, KW, C / groups, O)."""
    x, g = _by_group(x, groups), _by_group(g, groups)
    image, windows = _canvas(x, out.shape[:2], g.shape[1:3], stride, dilation, padding)
    image[...] = x
    out[...] = np.einsum("nyxgcij,nyxgo->ijcgo", windows, g).reshape(out.shape)


def _by_group(x: Array, groups: int) -> Array:
    """(…, groups·c) → (…, groups, c)."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _canvas(
    x: Array,
    kernel: Sequence[int],
    out: Sequence[int],
    stride: Pair,
    dilation: Pair,
    padding: Pair,
    fill: float = 0,
) -> tuple[Array, Array]:
    """`fill` in room for x (N, H, W, groups, c) and around it: that room, and the windows.

    Both are views of one array; the windows are (N, OH, OW, groups, c, KH, KW).
    """
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    ends = [padding[i] + x.shape[1 + i] for i in (0, 1)]
    sides = [max(ends[i], stride[i] * max(out[i] - 1, 0) + reach[i]) for i in (0, 1)]
    canvas = np.full((x.shape[0], *sides, *x.shape[3:]), fill, x.dtype)
    windows = sliding_window_view(canvas, reach, (1, 2), writeable=True)
    windows = windows[:, :: stride[0], :: stride[1], :, :, :: dilation[0], :: dilation[1]]
    image = canvas[:, padding[0] : ends[0], padding[1] : ends[1]]
    return image, windows[:, : out[0], : out[1]]


# ---- pooling --------------------------------------------------------------------------------


def max_pool2d(
    x: Array, out: Array, ties: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair
) -> None:
    """The largest of x (N, H, W, C) below a kernel → out (N, OH, OW, C); how many → ties.

    NaN wins, and is equal to NaN here. Padding neither wins nor counts.
    """
    image, below = _image(x, kernel, out, stride, dilation, padding, -np.inf)
    image[...] = x
    out[...] = below.max((-2, -1))
    real, pixels = _image(x, kernel, out, stride, dilation, padding)
    real[...] = 1
    ties[...] = (_equal(below, out[..., None, None]) * pixels).sum((-2, -1))


def max_pool2d_grad(
    g: Array,
    x: Array,
    out: Array,
    ties: Array,
    dx: Array,
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    padding: Pair,
) -> None:
    """dx (N, H, W, C) from g (N, OH, OW, C) and what `max_pool2d` has left in out and ties."""
    image, below = _image(x, kernel, out, stride, dilation, padding)
    grads, grads_below = _image(dx, kernel, out, stride, dilation, padding)
    image[...] = x
    for i, j in np.ndindex(*kernel):
        with np.errstate(invalid="ignore"):  # where all that is below is padding there are 0
            grads_below[..., i, j] += g * (_equal(below[..., i, j], out) / ties)
    dx[...] = grads


def _equal(a: Array, b: Array) -> Array:
    """a == b, where NaN equals NaN."""
    same: Array = (a == b) | ((a != a) & (b != b))
    return same


def avg_pool2d(
    x: Array, out: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair
) -> None:
    """The mean of x (N, H, W, C) below a kernel → out (N, OH, OW, C). Padding counts as zeros."""
    image, below = _image(x, kernel, out, stride, dilation, padding)
    image[...] = x
    out[...] = below.mean((-2, -1))


def avg_pool2d_grad(
    g: Array, dx: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair
) -> None:
    """g (N, OH, OW, C) spread evenly over the images dx (N, H, W, C)."""
    image, below = _image(dx, kernel, g, stride, dilation, padding)
    for i, j in np.ndindex(*kernel):
        below[..., i, j] += g / np.prod(kernel)
    dx[...] = image


def _image(
    x: Array, kernel: Pair, out: Array, stride: Pair, dilation: Pair, padding: Pair, fill: float = 0
) -> tuple[Array, Array]:
    """As `_canvas`, without groups."""
    image, windows = _canvas(
        x[..., None, :], kernel, out.shape[1:3], stride, dilation, padding, fill
    )
    return image[..., 0, :], windows[..., 0, :, :, :]


# ---- recurrence -----------------------------------------------------------------------------


def lstm(gates: Array, w: Array, h: Array, c: Array) -> None:
    """States h and c (T + 1, B, H) from those at time 0, columns i, f, g, o.

    gates (T, B, 4·H) hold the input projections and get the activated gates; w is (H, 4·H).
    """
    sigmoid = UNARY["sigmoid"]
    for t in range(len(gates)):
        i, f, g, o = np.split(gates[t] + h[t] @ w, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c[t + 1] = f * c[t] + i * g
        h[t + 1] = o * np.tanh(c[t + 1])
        gates[t] = np.concatenate((i, f, g, o), axis=1)


def lstm_grad(
    gates: Array, w: Array, h: Array, c: Array, dh: Array, dh0: Array, dc0: Array
) -> None:
    """The activated gates become the gradients of the projections.

    dh (T, B, H) are the gradients of the states; dh0 and dc0 (B, H) hold those that enter at the
    end of time and get those that leave at its beginning.
    """
    for t in reversed(range(len(gates))):
        i, f, g, o = np.split(gates[t].copy(), 4, axis=1)
        tanh_c, d = np.tanh(c[t + 1]), dh[t] + dh0
        dc = dc0 + d * o * (1 - tanh_c**2)
        di, df, do = dc * g * i * (1 - i), dc * c[t] * f * (1 - f), d * tanh_c * o * (1 - o)
        gates[t] = np.concatenate((di, df, dc * i * (1 - g**2), do), axis=1)
        dh0[...], dc0[...] = gates[t] @ w.T, dc * f


def rnn(gates: Array, w: Array, h: Array, relu: bool) -> None:
    """States h (T + 1, B, H) from the one at time 0; the projections in gates get h·w added."""
    for t in range(len(gates)):
        gates[t] += h[t] @ w
        h[t + 1] = np.maximum(gates[t], 0) if relu else np.tanh(gates[t])


def rnn_grad(gates: Array, w: Array, h: Array, dh: Array, dh0: Array, relu: bool) -> None:
    """gates get the gradients of the projections; dh and dh0 as in `lstm_grad`."""
    for t in reversed(range(len(gates))):
        gates[t] = (dh[t] + dh0) * (~(h[t + 1] <= 0) if relu else 1 - h[t + 1] ** 2)
        dh0[...] = gates[t] @ w.T


# ---- attention ------------------------------------------------------------------------------


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    out: Array,
    lse: Array,
    scale: float,
    causal: bool,
) -> None:
    """softmax(q·kᵀ·scale + mask)·v: q (B, H, T, d), k (B, H, S, d), v (B, H, S, e).

    Where q, k, v and out are of 16 bits, mask and lse are float32.
    lse (B, H, T, 2) gets the terms of each row's logsumexp, its largest score and the logarithm of
    the sum of exp(score - largest); those of a row that sees nothing are 0 and inf, its result 0.
    """
    scores = _scores(q, k, mask, scale, causal)
    top = _top(scores)
    blind = top == -np.inf
    top = np.where(blind, 0, top)
    p = np.exp(scores - top)
    total = np.where(blind, 1, p.sum(-1, keepdims=True))
    out[...] = p / total @ v
    lse[..., :1], lse[..., 1:] = top, np.where(blind, np.inf, np.log(total))


def attention_grad(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    out: Array,
    lse: Array,
    dq: Array,
    dk: Array,
    dv: Array,
    scale: float,
    causal: bool,
) -> None:
    """dq, dk and dv from g (B, H, T, e) and what `attention` left in out and lse."""
    # Dao et al. 2022, appendix B: dS = P∘(dP - rowsum(dO∘O))
    p = np.exp(_scores(q, k, mask, scale, causal) - lse[..., :1] - lse[..., 1:])
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (g * out).sum(-1, keepdims=True)) * scale
    dq[...] = ds @ k
    dk[...] = ds.swapaxes(-1, -2) @ q
    dv[...] = p.swapaxes(-1, -2) @ g


def _scores(q: Array, k: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    """(B, H, T, S), -inf where a row must not look."""
    scores = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = scores + mask
    seen = np.tri(*scores.shape[-2:], dtype=np.bool_)
    return np.where(seen, scores, -np.inf) if causal else scores


def _top(x: Array) -> Array:
    """The largest element of every row, or -inf of an empty one."""
    top: Array = x.max(-1, keepdims=True, initial=-np.inf)
    return top


# ---- rows -----------------------------------------------------------------------------------


def softmax(x: Array, out: Array) -> None:
    """exp(x) over its sum along the rows of x (n, c)."""
    p = np.exp(x - _top(x))
    out[...] = p / p.sum(1, keepdims=True)


def log_softmax(x: Array, out: Array) -> None:
    """x - logsumexp(x) along the rows of x (n, c)."""
    shifted = x - _top(x)
    out[...] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cross_entropy(
    logits: Array, labels: Array, losses: Array, lse: Array, ignore_index: int, smoothing: float
) -> None:
    """losses (n,) of logits (n, c); both terms of each row's logsumexp, its maximum and the
    logarithm of the sum of exp(x - maximum), go to lse (n, 2). All are 0 in ignored rows.

    The loss is logsumexp - (1 - smoothing)·logit[label] - smoothing·mean(logits).
    Raises IndexError for a label outside 0 … c-1.
    """
    kept = _kept(labels, logits.shape[1], ignore_index)
    top = _top(logits[kept])
    shifted = logits[kept] - top
    log_sum = np.log(np.exp(shifted).sum(1))
    chosen = shifted[np.arange(len(shifted)), labels[kept]]
    expected = (1 - smoothing) * chosen if smoothing < 1 else np.zeros_like(chosen)
    if smoothing > 0:
        expected += smoothing * shifted.mean(1)
    losses[...] = lse[...] = 0
    losses[kept], lse[kept] = log_sum - expected, np.stack((top[:, 0], log_sum), 1)


def cross_entropy_grad(
    logits: Array,
    labels: Array,
    scale: Array,
    lse: Array,
    out: Array,
    ignore_index: int,
    smoothing: float,
) -> None:
    """scale (n,) · (softmax(logits) - target) → out (n, c); 0 in ignored rows.

    The target is (1 - smoothing)·one_hot(label) + smoothing / c (Szegedy et al., 2016).
    """
    kept = _kept(labels, logits.shape[1], ignore_index)
    top, log_sum = lse[kept, :1], lse[kept, 1:]
    difference = np.exp(logits[kept] - top - log_sum) - smoothing / logits.shape[1]
    difference[np.arange(len(difference)), labels[kept]] -= 1 - smoothing
    out[...] = 0
    out[kept] = scale[kept, None] * difference


def _kept(labels: Array, classes: int, ignore_index: int) -> Array:
    """Which rows count. Raises IndexError where the label of one is not a class."""
    kept: Array = labels != ignore_index
    bad = labels[kept & ((labels < 0) | (labels >= classes))]
    if bad.size:
        raise IndexError(f"[cross_entropy] label {bad[0]} is out of range for {classes} classes")
    return kept


# ---- normalization --------------------------------------------------------------------------


def batch_norm(
    x: Array, weight: Array, bias: Array, eps: float, out: Array, mean: Array, var: Array
) -> None:
    """Every column of x (n, c) to mean 0 and biased variance 1, then scaled and shifted."""
    mean[...] = pairwise_sum(x, 0) / len(x)
    var[...] = pairwise_sum((x - mean) ** 2, 0) / len(x)
    out[...] = (x - mean) / np.sqrt(var + eps) * weight + bias


def batch_norm_grad(
    g: Array,
    x: Array,
    weight: Array,
    mean: Array,
    var: Array,
    eps: float,
    dx: Array,
    dweight: Array,
    dbias: Array,
) -> None:
    """With h = (x - mean)·rstd: dx = w·rstd·(g - mean(g) - h·mean(g·h)) (Ioffe & Szegedy, 2015)."""
    rstd = 1 / np.sqrt(var + eps)
    h = (x - mean) * rstd
    dweight[...], dbias[...] = pairwise_sum(g * h, 0), pairwise_sum(g, 0)
    dx[...] = weight * rstd * (g - dbias / len(x) - h * dweight / len(x))


def layer_norm(
    x: Array, weight: Array, bias: Array, eps: float, out: Array, mean: Array, rstd: Array
) -> None:
    """Every row of x (n, c) to mean 0 and biased variance 1, then scaled and shifted."""
    mean[...], rstd[...] = x.mean(1), 1 / np.sqrt(x.var(1) + eps)
    out[...] = (x - mean[:, None]) * rstd[:, None] * weight + bias


def layer_norm_grad(
    g: Array,
    x: Array,
    weight: Array,
    mean: Array,
    rstd: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
) -> None:
    """With h = (x - mean)·rstd and p = g·w: dx = rstd·(p - mean(p) - h·mean(p·h)) by rows."""
    scale, p = rstd[:, None], g * weight
    h = (x - mean[:, None]) * scale
    dx[...] = scale * (p - p.mean(1, keepdims=True) - h * (p * h).mean(1, keepdims=True))
    dweight[...], dbias[...] = pairwise_sum(g * h, 0), pairwise_sum(g, 0)


# ---- random numbers -------------------------------------------------------------------------


def philox(normal: bool, seed: Array, offset: Array, out: Array) -> None:
    """The numbers of a draw from `offset` on, uniform or normal → out; see the module philox."""
    key, first = (int(x.view(np.uint64)[0]) for x in (seed, offset))
    out[...] = numbers(key, first, out.size, out.dtype, normal).reshape(out.shape)


# ---- optimizers -----------------------------------------------------------------------------


def sgd(
    params: list[Array], grads: list[Array], momenta: list[Array], outs: list[Array], lr: float,
    momentum: float, weight_decay: float, dampening: float, nesterov: bool,
) -> None:  # fmt: skip
    """One step of each parameter → outs; the momenta, an empty list without momentum, move on."""
    for i, (p, grad, out) in enumerate(zip(params, grads, outs, strict=True)):
        g = grad + weight_decay * p
        if momenta:
            momenta[i][...] = momentum * momenta[i] + (1 - dampening) * g
            g = g + momentum * momenta[i] if nesterov else momenta[i]
        out[...] = p - lr * g


def adam(
    params: list[Array], grads: list[Array], ms: list[Array], vs: list[Array], outs: list[Array],
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int,
    decoupled: bool,
) -> None:  # fmt: skip
    """Step number `step` of each parameter → outs; the moments ms and vs move on.

    (Kingma and Ba, 2015; with decoupled weight decay Loshchilov and Hutter, 2019.)
    """
    for p, grad, m, v, out in zip(params, grads, ms, vs, outs, strict=True):
        g = grad if decoupled else grad + weight_decay * p
        kept = p * (1 - lr * weight_decay) if decoupled else p
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        unbiased_m, unbiased_v = m / (1 - beta1**step), v / (1 - beta2**step)
        out[...] = kept - lr * unbiased_m / (np.sqrt(unbiased_v) + eps)


def sum_of_squares(arrays: list[Array], out: Array) -> None:
    """The sum of the squares of all numbers of all arrays → out (), float64."""
    out[...] = sum(float(np.sum(np.square(x, dtype=np.float64))) for x in arrays)
