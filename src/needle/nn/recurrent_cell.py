"""Recurrent cells: one step of a recurrent layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from .arguments import one_of, positive_int
from .module import Module
from .parameter import Parameter

_Forward = TypeVar("_Forward", bound=Callable[..., Any])


def _takes_one(forward: _Forward) -> _Forward:
    """The forward of a cell, for one input (input_size,) with states (H,) as well."""

    @functools.wraps(forward)
    def call(self: _Cell, X: Tensor, h: Tensor | tuple[Tensor, ...] | None = None) -> Any:
        if not isinstance(X, Tensor) or X.ndim != 1:
            return forward(self, X, h)
        if h is not None:
            h = _each(h, lambda state: ops.unsqueeze(state, 0))
        return _each(forward(self, ops.unsqueeze(X, 0), h), lambda state: ops.squeeze(state, 0))

    return call  # type: ignore[return-value]


def _each(
    states: Tensor | tuple[Tensor, ...], change: Callable[[Tensor], Tensor]
) -> Tensor | tuple[Tensor, ...]:
    return change(states) if isinstance(states, Tensor) else tuple(map(change, states))


class _Cell(Module):
    """One step of a recurrent layer, with its weights.

    The parameters are drawn in the order of `weights`, uniform in ±1/√hidden_size.
    """

    gates: ClassVar[int]
    # From (x, *state): the outputs of all steps and the last state.
    sequence: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
    # Programs of the course give cells plain Tensors as weights and read their gradients.
    _takes_tensors = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        input_size = positive_int(name, "input_size", input_size)
        hidden_size = positive_int(name, "hidden_size", hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        columns, bound = self.gates * hidden_size, 1 / math.sqrt(hidden_size)

        def draw(*shape: int) -> Parameter:
            values = init.rand(*shape, low=-bound, high=bound, device=device, dtype=dtype)
            return Parameter(values)

        self.W_ih = draw(input_size, columns)
        self.W_hh = draw(hidden_size, columns)
        self.bias_ih = draw(columns) if bias else None
        self.bias_hh = draw(columns) if bias else None

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return `W_ih`, `W_hh`, `bias_ih` and `bias_hh`."""
        return self.W_ih, self.W_hh, self.bias_ih, self.bias_hh

    def initial_state(self, x: Tensor, batch: int) -> Tensor:
        """Return zeros of shape (batch, hidden_size) with the device and dtype of `x`."""
        return init.zeros(batch, self.hidden_size, device=x.device, dtype=x.dtype)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"[{type(self).__name__}] needs input (B, {self.input_size}) or "
                f"({self.input_size},), got shape {x.shape}"
            )

    def _bias(self) -> Tensor | None:
        if self.bias_ih is None or self.bias_hh is None:
            return None
        return self.bias_ih + self.bias_hh

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias_ih is not None}"


class RNNCell(_Cell):
    """One step of an Elman RNN: h' = nonlinearity(x·W_ih + bias_ih + h·W_hh + bias_hh).

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    bias : bool, default True
        Whether the two biases are added.
    nonlinearity : {"tanh", "relu"}, default "tanh"
        The activation.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    W_ih : Parameter, shape (input_size, H)
    W_hh : Parameter, shape (H, H)
    bias_ih, bias_hh : Parameter, shape (H,), or None

    References
    ----------
    Elman, "Finding Structure in Time", 1990.

    Examples
    --------
    >>> import needle as ndl
    >>> cell = ndl.nn.RNNCell(3, 4)
    >>> h = cell(ndl.ones(2, 3))
    >>> cell(ndl.ones(2, 3), h).shape
    (2, 4)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        self.nonlinearity = one_of("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_size, hidden_size, bias, device, dtype)

    @_takes_one
    def forward(self, X: Tensor, h: Tensor | None = None) -> Tensor:
        """Compute the next state.

        Parameters
        ----------
        X : Tensor, shape (B, input_size)
            The input.
        h : Tensor, shape (B, H), optional
            The state; zeros if it is None.

        Returns
        -------
        Tensor, shape (B, H)

        Raises
        ------
        ValueError
            If `X` has another shape.
        """
        self._check(X)
        h = self.initial_state(X, X.shape[0]) if h is None else h
        return ops.rnn_step(X, h, self.W_ih, self.W_hh, self._bias(), self.nonlinearity)

    def sequence(self, x: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take a step for each of `x` (T, B, input_size); returns (output (T, B, H), (h,))."""
        output, last = ops.rnn(x, h, *self.weights(), nonlinearity=self.nonlinearity)
        return output, (last,)


class LSTMCell(_Cell):
    """One step of an LSTM, a long short-term memory.

    The gates are i, f, o = sigmoid(…) and g = tanh(…) of x·W_ih + bias_ih + h·W_hh + bias_hh, whose
    columns have the order i, f, g, o. Then c' = f·c + i·g and h' = o·tanh(c').

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    bias : bool, default True
        Whether the two biases are added.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    W_ih : Parameter, shape (input_size, 4·H)
    W_hh : Parameter, shape (H, 4·H)
    bias_ih, bias_hh : Parameter, shape (4·H,), or None

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997. Gers, Schmidhuber and Cummins,
    "Learning to Forget: Continual Prediction with LSTM", 2000.

    Examples
    --------
    >>> import needle as ndl
    >>> h, c = ndl.nn.LSTMCell(3, 4)(ndl.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates = 4

    @_takes_one
    def forward(self, X: Tensor, h: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Compute the next state.

        Parameters
        ----------
        X : Tensor, shape (B, input_size)
            The input.
        h : (Tensor, Tensor), shapes (B, H), optional
            The state (h, c); zeros if it is None.

        Returns
        -------
        (Tensor, Tensor), shapes (B, H)
            The next state (h', c').

        Raises
        ------
        ValueError
            If `X` has another shape.
        """
        self._check(X)
        if h is None:
            h = self.initial_state(X, X.shape[0]), self.initial_state(X, X.shape[0])
        return ops.lstm_step(X, *h, self.W_ih, self.W_hh, self._bias())

    def sequence(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take a step for each of `x` (T, B, input_size); returns (output (T, B, H), (h, c))."""
        output, last_h, last_c = ops.lstm(x, h, c, *self.weights())
        return output, (last_h, last_c)


class ProjectedLSTMCell(LSTMCell):
    """One step of an LSTM whose h is projected: h' = (o·tanh(c'))·W_hr.

    Sak, Senior and Beaufays, "Long Short-Term Memory Based Recurrent Neural Network Architectures
    for Large Scale Acoustic Modeling", 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        bound = 1 / math.sqrt(hidden_size)

        def draw(*shape: int) -> Parameter:
            return Parameter(init.rand(*shape, low=-bound, high=bound, device=device, dtype=dtype))

        self.proj_size = proj_size
        del self.W_hh
        self.W_hh, self.W_hr = draw(proj_size, 4 * hidden_size), draw(hidden_size, proj_size)

    @_takes_one
    def forward(self, X: Tensor, h: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Compute the next state (h', c') of shapes (B, proj_size) and (B, H)."""
        self._check(X)
        if h is None:
            zeros = init.zeros(X.shape[0], self.proj_size, device=X.device, dtype=X.dtype)
            h = zeros, self.initial_state(X, X.shape[0])
        return self._step(h, X)

    def _step(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state
        gates = ops.linear(x, self.W_ih, self._bias()) + ops.matmul(h, self.W_hh)
        i, f, g, o = (gates[:, k * self.hidden_size : (k + 1) * self.hidden_size] for k in range(4))
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.matmul(ops.sigmoid(o) * ops.tanh(c), self.W_hr), c

    def sequence(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take a step for each of `x` (T, B, input_size)."""

        def step(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            after = self._step(state, x)
            return after, after[0]

        last, output = ops.scan(step, (h, c), x)
        return output, last


class GRUCell(_Cell):
    """One step of a GRU, a gated recurrent unit.

    The gates are r, z = sigmoid(…) of x·W_ih + bias_ih + h·W_hh + bias_hh; the candidate n is the
    tanh of its columns of x·W_ih + bias_ih plus r times those of h·W_hh + bias_hh, as in PyTorch.
    The columns have the order r, z, n. Then h' = (1 - z)·n + z·h.

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    bias : bool, default True
        Whether the two biases are added.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    W_ih : Parameter, shape (input_size, 3·H)
    W_hh : Parameter, shape (H, 3·H)
    bias_ih, bias_hh : Parameter, shape (3·H,), or None

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.GRUCell(3, 4)(ndl.ones(2, 3)).shape
    (2, 4)
    """

    gates = 3

    @_takes_one
    def forward(self, X: Tensor, h: Tensor | None = None) -> Tensor:
        """Compute the next state.

        Parameters
        ----------
        X : Tensor, shape (B, input_size)
            The input.
        h : Tensor, shape (B, H), optional
            The state; zeros if it is None.

        Returns
        -------
        Tensor, shape (B, H)

        Raises
        ------
        ValueError
            If `X` has another shape.
        """
        self._check(X)
        h = self.initial_state(X, X.shape[0]) if h is None else h
        return ops.gru_step(X, h, *self.weights())

    def sequence(self, x: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take a step for each of `x` (T, B, input_size); returns (output (T, B, H), (h,))."""
        output, last = ops.gru(x, h, *self.weights())
        return output, (last,)
