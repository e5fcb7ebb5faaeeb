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
    """Weights `W_ih` (in, G·H), `W_hh` (H, G·H), `bias_ih` and `bias_hh` (G·H,).

    Drawn in this order, uniform in ±1/√H.
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
        """W_ih, W_hh, bias_ih, bias_hh."""
        return self.W_ih, self.W_hh, self.bias_ih, self.bias_hh

    def initial_state(self, x: Tensor, batch: int) -> Tensor:
        """Zeros (batch, H) where x is."""
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
    """h' = nonlinearity(x·W_ih + bias_ih + h·W_hh + bias_hh), with tanh or relu."""

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
        """X (B, in), h (B, H) or zeros → h' (B, H)."""
        self._check(X)
        h = self.initial_state(X, X.shape[0]) if h is None else h
        return ops.rnn_step(X, h, self.W_ih, self.W_hh, self._bias(), self.nonlinearity)

    def sequence(self, x: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps: x (T, B, in) → (output (T, B, H), (h,))."""
        output, last = ops.rnn(x, h, *self.weights(), nonlinearity=self.nonlinearity)
        return output, (last,)


class LSTMCell(_Cell):
    """One step of an LSTM; columns in the order i, f, g, o."""

    gates = 4

    def forward(self, X: Tensor, h: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """X (B, in), state (h, c) of (B, H) each, or zeros → (h', c')."""
        self._check(X)
        if h is None:
            h = self.initial_state(X, X.shape[0]), self.initial_state(X, X.shape[0])
        return ops.lstm_step(X, *h, self.W_ih, self.W_hh, self._bias())

    def sequence(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps: x (T, B, in) → (output (T, B, H), (h, c))."""
        output, last_h, last_c = ops.lstm(x, h, c, *self.weights())
        return output, (last_h, last_c)


class GRUCell(_Cell):
    """One step of a GRU; columns in the order r, z, n."""

    gates = 3

    def forward(self, X: Tensor, h: Tensor | None = None) -> Tensor:
        """X (B, in), h (B, H) or zeros → h' (B, H)."""
        self._check(X)
        h = self.initial_state(X, X.shape[0]) if h is None else h
        return ops.gru_step(X, h, *self.weights())

    def sequence(self, x: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps: x (T, B, in) → (output (T, B, H), (h,))."""
        output, last = ops.gru(x, h, *self.weights())
        return output, (last,)


class _Recurrent(Module):
    """Layers of one kind of cell over a sequence, each reading the one below.

    With `bidirectional` a second stack of cells reads backwards and its outputs stand beside the
    first's, 2·H features. States are (num_layers · directions, B, H), layer by layer, forward
    before backward, as in PyTorch. The forward cells are in the attribute that `cells` names, the
    backward ones in `backward_cells`.
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
        **options: Any,
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
        options |= {"bias": bias, "device": device, "dtype": dtype}
        layers = [
            [self.cell(width, hidden_size, **options) for _ in range(directions)]
            for width in widths
        ]
        setattr(self, self.cells, [layer[0] for layer in layers])
        if bidirectional:
            self.backward_cells = [layer[1] for layer in layers]

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
    """An Elman network; `rnn_cells[k]` is layer k."""

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
        super().__init__(
            input_size, hidden_size, num_layers, bias, device, dtype, batch_first, bidirectional,
            nonlinearity=nonlinearity,
        )  # fmt: skip

    def forward(self, X: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X (T, B, in), h0 (L, B, H) or zeros → (output (T, B, H), h_n (L, B, H))."""
        output, (h,) = self._run(X, h0)
        return output, h


class LSTM(_Recurrent):
    """A long short-term memory; `lstm_cells[k]` is layer k."""

    cell, cells, states = LSTMCell, "lstm_cells", 2
    lstm_cells: list[LSTMCell]

    def forward(
        self, X: Tensor, h: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """X (T, B, in), (h0, c0) of (L, B, H) or zeros → (output (T, B, H), (h_n, c_n))."""
        output, (last_h, last_c) = self._run(X, h)
        return output, (last_h, last_c)


class GRU(_Recurrent):
    """A gated recurrent unit; `gru_cells[k]` is layer k."""

    cell, cells = GRUCell, "gru_cells"
    gru_cells: list[GRUCell]

    def forward(self, X: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X (T, B, in), h0 (L, B, H) or zeros → (output (T, B, H), h_n (L, B, H))."""
        output, (h,) = self._run(X, h0)
        return output, h
