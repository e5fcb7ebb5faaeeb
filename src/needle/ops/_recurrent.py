"""Recurrent layers over a whole sequence as single ops, each with its definition step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..autograd import Tensor, TensorTuple, Value, is_grad_enabled
from ..backend_ndarray import NDArray, is_float
from ._activation import relu, sigmoid, tanh
from ._arithmetic import add
from ._common import FusedTupleOp, of_one_dtype
from ._joining import chunk, make_tuple
from ._linalg import linear
from ._scan import scan


def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM; the gates' columns have the order i, f, g, o.

    Parameters
    ----------
    x : Tensor, shape (B, in)
        The input.
    h, c : Tensor, shape (B, H)
        The state.
    w_ih : Tensor, shape (in, 4·H)
        The weight of the input.
    w_hh : Tensor, shape (H, 4·H)
        The weight of the state.
    bias : Tensor, shape (4·H,), optional
        The sum of both biases.

    Returns
    -------
    (Tensor, Tensor)
        The new h and c (B, H).

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.

    Examples
    --------
    >>> import needle as ndl
    >>> h = c = ndl.zeros(2, 3)
    >>> h, c = ndl.ops.lstm_step(ndl.ones(2, 4), h, c, ndl.ones(4, 12), ndl.ones(3, 12), None)
    >>> h.shape
    (2, 3)
    """
    gates = linear(x, w_ih, bias) + h @ w_hh
    i, f, g, o = chunk(gates, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def rnn_step(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, nonlinearity: str
) -> Tensor:
    """One step of an Elman network: nonlinearity(x·w_ih + h·w_hh + bias).

    Parameters
    ----------
    x : Tensor, shape (B, in)
        The input.
    h : Tensor, shape (B, H)
        The state.
    w_ih : Tensor, shape (in, H)
        The weight of the input.
    w_hh : Tensor, shape (H, H)
        The weight of the state.
    bias : Tensor, shape (H,), optional
        The sum of both biases.
    nonlinearity : {"tanh", "relu"}
        The activation.

    Returns
    -------
    Tensor, shape (B, H)
        The new state.

    Examples
    --------
    >>> import needle as ndl
    >>> weights = ndl.ones(4, 3), ndl.ones(3, 3), None
    >>> ndl.ops.rnn_step(ndl.ones(2, 4), ndl.zeros(2, 3), *weights, "relu").tolist()[0]
    [4.0, 4.0, 4.0]
    """
    z = linear(x, w_ih, bias) + h @ w_hh
    return relu(z) if nonlinearity == "relu" else tanh(z)


def gru_step(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
) -> Tensor:
    """One step of a GRU; the gates' columns have the order r, z, n, as in PyTorch.

    Parameters
    ----------
    x : Tensor, shape (B, in)
        The input.
    h : Tensor, shape (B, H)
        The state.
    w_ih : Tensor, shape (in, 3·H)
        The weight of the input.
    w_hh : Tensor, shape (H, 3·H)
        The weight of the state.
    b_ih, b_hh : Tensor, shape (3·H,), optional
        The biases.

    Returns
    -------
    Tensor, shape (B, H)
        The new state.

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> weights = ndl.ones(4, 9), ndl.ones(3, 9), None, None
    >>> ndl.ops.gru_step(ndl.ones(2, 4), ndl.zeros(2, 3), *weights).shape
    (2, 3)
    """
    return gru_gates(linear(x, w_ih, b_ih), linear(h, w_hh, b_hh), h)


def gru_gates(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    """The new state from the projections (B, 3·H) of input and state."""
    xr, xz, xn = chunk(from_x, 3, 1)
    hr, hz, hn = chunk(from_h, 3, 1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * hn)
    return n + z * (h - n)


_Operand = TypeVar("_Operand", Tensor, NDArray)


class _Recurrence(FusedTupleOp):
    """Inputs: x (T, B, in), the initial states (B, H) each, w_ih, w_hh, and a bias or nothing.

    Results: the states after every step (T, B, H), then what else the last state has.
    """

    states: int

    def _unpack(
        self, rest: Sequence[_Operand]
    ) -> tuple[list[_Operand], _Operand, _Operand, _Operand | None]:
        first, weights = list(rest[: self.states]), rest[self.states :]
        return first, weights[0], weights[1], weights[2] if len(weights) > 2 else None

    def _project(self, x: NDArray, w_ih: NDArray, bias: NDArray | None) -> NDArray:
        """x·w_ih + bias for all steps in one product: (T, B, columns)."""
        rows = x.reshape((-1, x.shape[-1])).matmul(w_ih, bias)
        return rows.reshape((*x.shape[:2], w_ih.shape[1]))

    def _history(self, x: NDArray, first: NDArray) -> NDArray:
        """Room for a state at every time 0 … T, with the first one in place."""
        history = NDArray._empty((x.shape[0] + 1, *first.shape), x._device, x._dtype)
        history._put(0, first)
        return history

    def _weight_gradients(
        self, inputs: tuple[NDArray, ...], d_gates: NDArray, before: NDArray, d_first: list[NDArray]
    ) -> tuple[Tensor, ...]:
        """One product over all of time for each of x, w_ih and w_hh."""
        x = inputs[0]
        _, w_ih, _, bias = self._unpack(inputs[1:])
        rows = d_gates.reshape((-1, d_gates.shape[2]))
        flat_x, flat_h = x.reshape((-1, x.shape[2])), before.reshape((-1, before.shape[2]))
        results = [(rows @ w_ih.T).reshape(x.shape), *d_first, flat_x.T @ rows, flat_h.T @ rows]
        if bias is not None:
            results.append(rows.sum(0).reshape(bias.shape))
        return tuple(map(Tensor.make_const, results))


class LSTM(_Recurrence):
    """An LSTM layer: (x, h0, c0, w_ih, w_hh[, bias]) → (h after every step, the last c)."""

    kernel = "lstm"
    states = 2

    def decompose(self, x: Tensor, *rest: Tensor) -> TensorTuple:  # type: ignore[override]
        first, w_ih, w_hh, bias = self._unpack(rest)

        def step(state: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
            h, c = lstm_step(x, state[0], state[1], w_ih, w_hh, bias)
            return [h, c], h

        (_, c), outputs = scan(step, first, x)
        return make_tuple(outputs, c)

    def compute(self, *arrays: NDArray) -> tuple[NDArray, ...]:
        x = arrays[0]
        kernel = self.fused(x)
        if kernel is None:
            return self.compute_by_parts(*arrays)
        (h0, c0), w_ih, w_hh, bias = self._unpack(arrays[1:])
        gates, h, c = self._project(x, w_ih, bias), self._history(x, h0), self._history(x, c0)
        kernel(gates, w_hh.compact(), h, c)
        self.saved = gates, h, c
        return h[1:], c[-1]

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Value | None, ...]:
        inputs = tuple(v.realize_cached_data() for v in node.inputs)
        kernel = inputs[0]._device.fused("lstm_grad")
        if kernel is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        dh, dc = out_grad.realize_cached_data()
        gates, h, c = self.saved
        d_gates, d_first = gates.copy(), (h.device.zeros(dc.shape, dc.dtype), dc.copy())
        w_hh = self._unpack(inputs[1:])[2]
        kernel(d_gates, w_hh.compact(), h, c, dh.compact(), *d_first)
        return self._weight_gradients(inputs, d_gates, h[:-1], list(d_first))


class RNN(_Recurrence):
    """An Elman layer: (x, h0, w_ih, w_hh[, bias]) → (h after every step,)."""

    kernel = "rnn"
    states = 1

    def __init__(self, nonlinearity: str) -> None:
        self.nonlinearity = nonlinearity

    def decompose(self, x: Tensor, *rest: Tensor) -> TensorTuple:  # type: ignore[override]
        (first,), w_ih, w_hh, bias = self._unpack(rest)

        def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            h = rnn_step(x, h, w_ih, w_hh, bias, self.nonlinearity)
            return h, h

        return make_tuple(scan(step, first, x)[1])

    def compute(self, *arrays: NDArray) -> tuple[NDArray, ...]:
        x = arrays[0]
        kernel = self.fused(x)
        if kernel is None:
            return self.compute_by_parts(*arrays)
        (h0,), w_ih, w_hh, bias = self._unpack(arrays[1:])
        gates, h = self._project(x, w_ih, bias), self._history(x, h0)
        kernel(gates, w_hh.compact(), h, self.nonlinearity == "relu")
        self.saved = gates, h
        return (h[1:],)

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Value | None, ...]:
        inputs = tuple(v.realize_cached_data() for v in node.inputs)
        kernel = inputs[0]._device.fused("rnn_grad")
        if kernel is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        (dh,) = out_grad.realize_cached_data()
        gates, h = self.saved
        d_gates, d_first = gates.copy(), h.device.zeros(h.shape[1:], h.dtype)
        w_hh = self._unpack(inputs[1:])[2]
        kernel(d_gates, w_hh.compact(), h, dh.compact(), d_first, self.nonlinearity == "relu")
        return self._weight_gradients(inputs, d_gates, h[:-1], [d_first])


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM layer over a whole sequence.

    Parameters
    ----------
    x : Tensor, shape (T, B, in)
        The sequence.
    h0, c0 : Tensor, shape (B, H)
        The initial state.
    w_ih : Tensor, shape (in, 4·H)
        The weight of the input; the gates' columns in the order i, f, g, o.
    w_hh : Tensor, shape (H, 4·H)
        The weight of the state.
    b_ih, b_hh : Tensor, shape (4·H,), optional
        The biases.

    Returns
    -------
    (Tensor, Tensor, Tensor)
        The states h after every step (T, B, H), and the last h and c (B, H).

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ.

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.

    Examples
    --------
    >>> import needle as ndl
    >>> h = c = ndl.zeros(2, 3)
    >>> output, h, c = ndl.ops.lstm(ndl.ones(5, 2, 4), h, c, ndl.ones(4, 12), ndl.ones(3, 12))
    >>> output.shape, h.shape
    ((5, 2, 3), (2, 3))
    """
    _check("lstm", x, (h0, c0), w_ih, w_hh, 4)
    output, c = LSTM()(*_inputs(x, (h0, c0), w_ih, w_hh, b_ih, b_hh))
    return output, output[-1], c


def rnn(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """Elman layer over a whole sequence: h' = nonlinearity(x·w_ih + h·w_hh + biases).

    Parameters
    ----------
    x : Tensor, shape (T, B, in)
        The sequence.
    h0 : Tensor, shape (B, H)
        The initial state.
    w_ih : Tensor, shape (in, H)
        The weight of the input; of each step.
    w_hh : Tensor, shape (H, H)
        The weight of the state.
    b_ih, b_hh : Tensor, shape (H,), optional
        The biases.
    nonlinearity : {"tanh", "relu"}, default "tanh"
        The activation.

    Returns
    -------
    (Tensor, Tensor)
        The states after every step (T, B, H), and the last one (B, H).

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ.

    References
    ----------
    Elman, "Finding Structure in Time", 1990.

    Examples
    --------
    >>> import needle as ndl
    >>> output, h = ndl.ops.rnn(ndl.ones(5, 2, 4), ndl.zeros(2, 3), ndl.ones(4, 3), ndl.ones(3, 3))
    >>> output.shape, h.shape
    ((5, 2, 3), (2, 3))
    """
    _check("rnn", x, (h0,), w_ih, w_hh, 1)
    (output,) = RNN(nonlinearity)(*_inputs(x, (h0,), w_ih, w_hh, b_ih, b_hh))
    return output, output[-1]


def gru(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """GRU layer over a whole sequence.

    Parameters
    ----------
    x : Tensor, shape (T, B, in)
        The sequence.
    h0 : Tensor, shape (B, H)
        The initial state.
    w_ih : Tensor, shape (in, 3·H)
        The weight of the input; the gates' columns in the order r, z, n.
    w_hh : Tensor, shape (H, 3·H)
        The weight of the state.
    b_ih, b_hh : Tensor, shape (3·H,), optional
        The biases.

    Returns
    -------
    (Tensor, Tensor)
        The states after every step (T, B, H), and the last one (B, H).

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ.

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> output, h = ndl.ops.gru(ndl.ones(5, 2, 4), ndl.zeros(2, 3), ndl.ones(4, 9), ndl.ones(3, 9))
    >>> output.shape, h.shape
    ((5, 2, 3), (2, 3))
    """
    _check("gru", x, (h0,), w_ih, w_hh, 3)
    if not is_float(x.dtype):
        x, h0 = x.astype("float32"), h0.astype("float32")

    def step(h: Tensor, from_x: Tensor) -> tuple[Tensor, Tensor]:
        h = gru_gates(from_x, linear(h, w_hh, b_hh), h)
        return h, h

    h, outputs = scan(step, h0, linear(x, w_ih, b_ih))
    return outputs, h


def _inputs(
    x: Tensor,
    states: tuple[Tensor, ...],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> list[Tensor]:
    bias = b_ih if b_hh is None else b_hh if b_ih is None else add(b_ih, b_hh)
    return [x, *states, w_ih, w_hh, *([] if bias is None else [bias])]


def _check(
    what: str, x: Tensor, states: tuple[Tensor, ...], w_ih: Tensor, w_hh: Tensor, gates: int
) -> None:
    if x.ndim != 3 or x.shape[0] == 0:
        raise ValueError(f"[{what}] x must be (T, B, features) with T at least 1, got {x.shape}")
    hidden = w_hh.shape[0]
    if w_hh.shape != (hidden, gates * hidden) or w_ih.shape != (x.shape[2], gates * hidden):
        raise ValueError(
            f"[{what}] weights {w_ih.shape} and {w_hh.shape} do not fit {x.shape[2]} features: "
            f"expected (features, {gates}·H) and (H, {gates}·H)"
        )
    for state in states:
        if state.shape != (x.shape[1], hidden):
            raise ValueError(
                f"[{what}] the initial state must be ({x.shape[1]}, {hidden}), got {state.shape}"
            )
    if not of_one_dtype(x, *states, w_ih, w_hh):
        given = ", ".join(str(v.dtype) for v in (x, *states, w_ih, w_hh))
        raise TypeError(
            f"[{what}] x, states and weights must have one dtype, got {given}: write "
            f"x.to({str(w_ih.dtype)!r})"
        )


__all__ = ["LSTM", "RNN", "gru", "gru_step", "lstm", "lstm_step", "rnn", "rnn_step"]
