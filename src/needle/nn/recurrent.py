"""Recurrent layers: RNN, LSTM and GRU, and their cells."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from .arguments import one_of, positive_int
from .module import Module, Parameter


class _Cell(Module):
    """One step of a recurrent layer, with its weights.

    The parameters are drawn in the order of `weights`, uniform in ±1/√hidden_size.
    """

    gates: ClassVar[int]
    # Programs of the course give cells plain Tensors as weights and read their gradients.
    _takes_tensors = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
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
                f"[{type(self).__name__}] needs input (B, {self.input_size}), got shape {x.shape}"
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
        dtype: Any = "float32",
    ) -> None:
        self.nonlinearity = one_of("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_size, hidden_size, bias, device, dtype)

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


class _Recurrent(Module):
    """Stack of recurrent layers, each of which reads the output of the one below.

    With `bidirectional` each layer has a second cell, which reads the sequence backwards; the
    outputs of both are concatenated to 2·H features. The forward cells are in the attribute that
    `cells` names, the backward ones in `backward_cells`.
    """

    cell: ClassVar[type[_Cell]]
    cells: ClassVar[str]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
        batch_first: bool = False,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        input_size = positive_int(name, "input_size", input_size)
        hidden_size = positive_int(name, "hidden_size", hidden_size)
        num_layers = positive_int(name, "num_layers", num_layers)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers = num_layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        directions = 2 if bidirectional else 1
        widths = [input_size, *[directions * hidden_size] * (num_layers - 1)]
        layers = [
            [self._make_cell(width, bias, device, dtype) for _ in range(directions)]
            for width in widths
        ]
        setattr(self, self.cells, [layer[0] for layer in layers])
        if bidirectional:
            self.backward_cells = [layer[1] for layer in layers]

    def _make_cell(
        self, input_size: int, bias: bool, device: Device | str | None, dtype: Any
    ) -> _Cell:
        return self.cell(input_size, self.hidden_size, bias, device, dtype)

    def _run(self, x: Tensor, first: Any) -> tuple[Tensor, list[Tensor]]:
        """(output, the last states, one (layers, B, H) tensor each)."""
        if self.batch_first and x.ndim == 3:
            x = ops.transpose(x, (0, 1))
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"[{type(self).__name__}] needs input (T, B, {self.input_size}), or (B, T, "
                f"{self.input_size}) with batch_first, got shape {x.shape}"
            )
        last: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer, cell in enumerate(getattr(self, self.cells)):
            outputs = []
            for k, way in enumerate(self._ways(cell, layer)):
                row = len(last[0])
                state = self._first_state(first, row, way, x)
                steps, ends = way.sequence(ops.flip(x, (0,)) if k else x, *state)
                outputs.append(ops.flip(steps, (0,)) if k else steps)
                for collected, end in zip(last, ends, strict=True):
                    collected.append(end)
            x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, 2)
        output = ops.transpose(x, (0, 1)) if self.batch_first else x
        return output, [ops.stack(states, 0) for states in last]

    def _ways(self, cell: Any, layer: int) -> list[Any]:
        return [cell, self.backward_cells[layer]] if self.bidirectional else [cell]

    def _first_state(self, first: Any, row: int, cell: Any, x: Tensor) -> list[Tensor]:
        if first is None:
            return [cell.initial_state(x, x.shape[1]) for _ in range(self.states)]
        rows = self.num_layers * (2 if self.bidirectional else 1)
        expected = (rows, x.shape[1], self.hidden_size)
        states = [first] if self.states == 1 else list(first)
        for state in states:
            if state.shape != expected:
                raise ValueError(
                    f"[{type(self).__name__}] the initial state must be {expected}, got "
                    f"{state.shape}"
                )
        return [state[row] for state in states]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


class RNN(_Recurrent):
    """Elman recurrent network of one or more layers; see `RNNCell`.

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    num_layers : int, default 1
        The number of layers.
    bias : bool, default True
        Whether the cells add biases.
    nonlinearity : {"tanh", "relu"}, default "tanh"
        The activation of the cells.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    batch_first : bool, default False
        Whether the input and the output are (B, T, features) instead of (T, B, features).
    bidirectional : bool, default False
        Whether each layer has a second cell, which reads the sequence backwards.

    Attributes
    ----------
    rnn_cells : list of RNNCell
        The forward cell of each layer.
    backward_cells : list of RNNCell
        The backward cell of each layer; only if `bidirectional`.

    References
    ----------
    Elman, "Finding Structure in Time", 1990.

    Examples
    --------
    >>> import needle as ndl
    >>> output, h_n = ndl.nn.RNN(3, 4, num_layers=2)(ndl.ones(5, 2, 3))
    >>> output.shape, h_n.shape
    ((5, 2, 4), (2, 2, 4))
    """

    cell, cells = RNNCell, "rnn_cells"
    rnn_cells: list[RNNCell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Device | str | None = None,
        dtype: Any = "float32",
        batch_first: bool = False,
        bidirectional: bool = False,
    ) -> None:
        self.nonlinearity = one_of("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, num_layers, bias, device, dtype, batch_first, bidirectional
        )

    def _make_cell(
        self, input_size: int, bias: bool, device: Device | str | None, dtype: Any
    ) -> RNNCell:
        return RNNCell(input_size, self.hidden_size, bias, self.nonlinearity, device, dtype)

    def forward(self, X: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size)
            The sequences; (B, T, input_size) with `batch_first`.
        h0 : Tensor, shape (L, B, H), optional
            The initial states; zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`.
        h_n : Tensor, shape (L, B, H)
            The last states.

        Raises
        ------
        ValueError
            If the input or the initial state has another shape.
        """
        output, (h,) = self._run(X, h0)
        return output, h


class LSTM(_Recurrent):
    """Long short-term memory of one or more layers; see `LSTMCell`.

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    num_layers : int, default 1
        The number of layers.
    bias : bool, default True
        Whether the cells add biases.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    batch_first : bool, default False
        Whether the input and the output are (B, T, features) instead of (T, B, features).
    bidirectional : bool, default False
        Whether each layer has a second cell, which reads the sequence backwards.

    Attributes
    ----------
    lstm_cells : list of LSTMCell
        The forward cell of each layer.
    backward_cells : list of LSTMCell
        The backward cell of each layer; only if `bidirectional`.

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997. Gers, Schmidhuber and Cummins,
    "Learning to Forget: Continual Prediction with LSTM", 2000.

    Examples
    --------
    >>> import needle as ndl
    >>> lstm = ndl.nn.LSTM(3, 4, batch_first=True)
    >>> output, (h_n, c_n) = lstm(ndl.ones(2, 5, 3))
    >>> output.shape, h_n.shape
    ((2, 5, 4), (1, 2, 4))
    """

    cell, cells, states = LSTMCell, "lstm_cells", 2
    lstm_cells: list[LSTMCell]

    def forward(
        self, X: Tensor, h: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size)
            The sequences; (B, T, input_size) with `batch_first`.
        h : (Tensor, Tensor), shapes (L, B, H), optional
            The initial states (h0, c0); zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`.
        (h_n, c_n) : (Tensor, Tensor), shapes (L, B, H)
            The last states.

        Raises
        ------
        ValueError
            If the input or the initial state has another shape.
        """
        output, (last_h, last_c) = self._run(X, h)
        return output, (last_h, last_c)


class GRU(_Recurrent):
    """Gated recurrent unit of one or more layers; see `GRUCell`.

    Parameters
    ----------
    input_size : int
        The number of features of the input.
    hidden_size : int
        The number of features of the state, H.
    num_layers : int, default 1
        The number of layers.
    bias : bool, default True
        Whether the cells add biases.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    batch_first : bool, default False
        Whether the input and the output are (B, T, features) instead of (T, B, features).
    bidirectional : bool, default False
        Whether each layer has a second cell, which reads the sequence backwards.

    Attributes
    ----------
    gru_cells : list of GRUCell
        The forward cell of each layer.
    backward_cells : list of GRUCell
        The backward cell of each layer; only if `bidirectional`.

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> output, h_n = ndl.nn.GRU(3, 4, bidirectional=True)(ndl.ones(5, 2, 3))
    >>> output.shape, h_n.shape
    ((5, 2, 8), (2, 2, 4))
    """

    cell, cells = GRUCell, "gru_cells"
    gru_cells: list[GRUCell]

    def forward(self, X: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size)
            The sequences; (B, T, input_size) with `batch_first`.
        h0 : Tensor, shape (L, B, H), optional
            The initial states; zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`.
        h_n : Tensor, shape (L, B, H)
            The last states.

        Raises
        ------
        ValueError
            If the input or the initial state has another shape.
        """
        output, (h,) = self._run(X, h0)
        return output, h
