"""Recurrent layers over a sequence: RNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from .arguments import in_unit_interval, one_of, positive_int
from .functional._dropout import dropout as dropped
from .module import Module
from .packed import Cell, PackedSequence, run_packed
from .recurrent_cell import GRUCell, LSTMCell, ProjectedLSTMCell, RNNCell, _Cell

# Runs a cell over all steps of the input from first states, forwards or backwards; gives all
# outputs and the last states.
Over: TypeAlias = Callable[[Cell, Tensor, list[Tensor], bool], tuple[Tensor, Sequence[Tensor]]]


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
        dtype: DTypeLike | None = "float32",
        batch_first: bool = False,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        input_size = positive_int(name, "input_size", input_size)
        hidden_size = positive_int(name, "hidden_size", hidden_size)
        num_layers = positive_int(name, "num_layers", num_layers)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers = num_layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        self.dropout = in_unit_interval(name, "dropout", dropout)
        directions = 2 if bidirectional else 1
        widths = [input_size, *[directions * self._state_sizes()[0]] * (num_layers - 1)]
        layers = [
            [self._make_cell(width, bias, device, dtype) for _ in range(directions)]
            for width in widths
        ]
        setattr(self, self.cells, [layer[0] for layer in layers])
        if bidirectional:
            self.backward_cells = [layer[1] for layer in layers]

    def _make_cell(
        self, input_size: int, bias: bool, device: Device | str | None, dtype: DTypeLike | None
    ) -> _Cell:
        return self.cell(input_size, self.hidden_size, bias, device, dtype)

    def _state_sizes(self) -> tuple[int, ...]:
        """The number of features of each state; the first is the output."""
        return (self.hidden_size,) * self.states

    def _run(
        self, x: Tensor | PackedSequence, first: Tensor | Sequence[Tensor] | None
    ) -> tuple[Tensor | PackedSequence, list[Tensor]]:
        """(output, the last states, one (layers, B, H) tensor each)."""
        if isinstance(x, PackedSequence):
            return self._run_packed(x, first)
        if x.ndim == 2:
            return self._run_alone(x, first)
        if self.batch_first and x.ndim == 3:
            x = ops.transpose(x, (0, 1))
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"[{type(self).__name__}] needs input (T, B, {self.input_size}), or (B, T, "
                f"{self.input_size}) with batch_first, or (T, {self.input_size}), got shape "
                f"{x.shape}"
            )

        def over(
            cell: Cell, x: Tensor, states: list[Tensor], backwards: bool
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            steps, ends = cell.sequence(ops.flip(x, (0,)) if backwards else x, *states)
            return ops.flip(steps, (0,)) if backwards else steps, ends

        output, last = self._through_layers(x, x.shape[1], first, over)
        return ops.transpose(output, (0, 1)) if self.batch_first else output, last

    def _run_alone(
        self, x: Tensor, first: Tensor | Sequence[Tensor] | None
    ) -> tuple[Tensor | PackedSequence, list[Tensor]]:
        """The same for one sequence (T, features), whose states are (layers, H)."""
        if first is not None:
            given = [first] if isinstance(first, Tensor) else list(first)
            first = [ops.unsqueeze(h, 1) if h.ndim == 2 else h for h in given]
        axis = 0 if self.batch_first else 1
        output, last = self._run(ops.unsqueeze(x, axis), first)
        assert isinstance(output, Tensor)
        return ops.squeeze(output, axis), [ops.squeeze(h, 1) for h in last]

    def _run_packed(
        self, x: PackedSequence, first: Tensor | Sequence[Tensor] | None
    ) -> tuple[PackedSequence, list[Tensor]]:
        """The same for sequences of several lengths."""
        if x.data.ndim != 2 or x.data.shape[1] != self.input_size:
            raise ValueError(
                f"[{type(self).__name__}] needs packed steps (n, {self.input_size}), got shape "
                f"{x.data.shape}"
            )
        if first is not None and x.sorted_indices is not None:
            order = list(x.sorted_indices)
            given = [first] if isinstance(first, Tensor) else list(first)
            states = tuple(ops.take(state, order, 1) for state in given)
            first = states[0] if self.states == 1 else states

        def over(
            cell: Cell, data: Tensor, states: list[Tensor], backwards: bool
        ) -> tuple[Tensor, list[Tensor]]:
            return run_packed(cell, x.with_data(data), states, backwards)

        output, last = self._through_layers(x.data, x.batch_sizes[0], first, over)
        if x.unsorted_indices is not None:
            last = [ops.take(state, list(x.unsorted_indices), 1) for state in last]
        return x.with_data(output), last

    def _through_layers(
        self, x: Tensor, batch: int, first: Tensor | Sequence[Tensor] | None, over: Over
    ) -> tuple[Tensor, list[Tensor]]:
        """The last layer's output and all last states, where `over` runs a cell over the input."""
        last: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer, cell in enumerate(getattr(self, self.cells)):
            outputs = []
            for k, way in enumerate(self._ways(cell, layer)):
                state = self._first_state(first, len(last[0]), way, x, batch)
                steps, ends = over(way, x, state, k == 1)
                outputs.append(steps)
                for collected, end in zip(last, ends, strict=True):
                    collected.append(end)
            x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, x.ndim - 1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = dropped(x, self.dropout)
        return x, [ops.stack(states, 0) for states in last]

    def _ways(self, cell: _Cell, layer: int) -> list[_Cell]:
        return [cell, self.backward_cells[layer]] if self.bidirectional else [cell]

    def _first_state(
        self,
        first: Tensor | Sequence[Tensor] | None,
        row: int,
        cell: _Cell,
        x: Tensor,
        batch: int,
    ) -> list[Tensor]:
        if first is None:
            sizes = self._state_sizes()
            return [init.zeros(batch, n, device=x.device, dtype=x.dtype) for n in sizes]
        rows = self.num_layers * (2 if self.bidirectional else 1)
        states = [first] if isinstance(first, Tensor) else list(first)
        if len(states) != self.states:
            wanted = "(h, c)" if self.states == 2 else "one Tensor, h"
            raise TypeError(
                f"[{type(self).__name__}] the initial state is {wanted}, got {len(states)} Tensors"
            )
        for state, size in zip(states, self._state_sizes(), strict=True):
            expected = (rows, batch, size)
            if state.shape != expected:
                raise ValueError(
                    f"[{type(self).__name__}] the initial state must be {expected}, got "
                    f"{state.shape}"
                )
        return [state[row] for state in states]

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch moves the weights into one block of a GPU's memory here."""

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
    dropout : float, default 0.0
        The probability that an element of a layer's output, other than the last layer's, becomes 0
        in training. With 0 no random numbers are drawn.

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
        dtype: DTypeLike | None = "float32",
        batch_first: bool = False,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        self.nonlinearity = one_of("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, num_layers, bias, device, dtype, batch_first, bidirectional,
            dropout,
        )  # fmt: skip

    def _make_cell(
        self, input_size: int, bias: bool, device: Device | str | None, dtype: DTypeLike | None
    ) -> RNNCell:
        return RNNCell(input_size, self.hidden_size, bias, self.nonlinearity, device, dtype)

    def forward(
        self, X: Tensor | PackedSequence, h0: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size), or PackedSequence
            The sequences; (B, T, input_size) with `batch_first`. One sequence may be (T,
            input_size); then the output and the states have no axis B either.
        h0 : Tensor, shape (L, B, H), optional
            The initial states; zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`. Packed as `X` is.
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
    dropout : float, default 0.0
        The probability that an element of a layer's output, other than the last layer's, becomes 0
        in training. With 0 no random numbers are drawn.
    proj_size : int, default 0
        The number of features that h is projected to after each step; 0 means no projection.

    Attributes
    ----------
    lstm_cells : list of LSTMCell
        The forward cell of each layer.
    backward_cells : list of LSTMCell
        The backward cell of each layer; only if `bidirectional`.

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997. Gers, Schmidhuber and Cummins,
    "Learning to Forget: Continual Prediction with LSTM", 2000. Sak, Senior and Beaufays, "Long
    Short-Term Memory Based Recurrent Neural Network Architectures", 2014, for `proj_size`.

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

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        batch_first: bool = False,
        bidirectional: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
    ) -> None:
        self.proj_size = proj_size and positive_int("LSTM", "proj_size", proj_size)
        if proj_size and proj_size >= hidden_size:
            raise ValueError(
                f"[LSTM] proj_size must be below hidden_size = {hidden_size}, got {proj_size}"
            )
        super().__init__(
            input_size, hidden_size, num_layers, bias, device, dtype, batch_first, bidirectional,
            dropout,
        )  # fmt: skip

    def _state_sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _make_cell(
        self, input_size: int, bias: bool, device: Device | str | None, dtype: DTypeLike | None
    ) -> _Cell:
        if not self.proj_size:
            return super()._make_cell(input_size, bias, device, dtype)
        return ProjectedLSTMCell(input_size, self.hidden_size, self.proj_size, bias, device, dtype)

    def forward(
        self, X: Tensor | PackedSequence, h: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size), or PackedSequence
            The sequences; (B, T, input_size) with `batch_first`. One sequence may be (T,
            input_size); then the output and the states have no axis B either.
        h : (Tensor, Tensor), shapes (L, B, H), optional
            The initial states (h0, c0); zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`. Packed as `X` is.
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
    dropout : float, default 0.0
        The probability that an element of a layer's output, other than the last layer's, becomes 0
        in training. With 0 no random numbers are drawn.

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

    def forward(
        self, X: Tensor | PackedSequence, h0: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run the layers over a sequence.

        Parameters
        ----------
        X : Tensor, shape (T, B, input_size), or PackedSequence
            The sequences; (B, T, input_size) with `batch_first`. One sequence may be (T,
            input_size); then the output and the states have no axis B either.
        h0 : Tensor, shape (L, B, H), optional
            The initial states; zeros if it is None. L is `num_layers`, twice that if
            `bidirectional`, in the order layer by layer, forward before backward.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            The states of the last layer at every step; (B, T, H) with `batch_first`, and 2·H
            features if `bidirectional`. Packed as `X` is.
        h_n : Tensor, shape (L, B, H)
            The last states.

        Raises
        ------
        ValueError
            If the input or the initial state has another shape.
        """
        output, (h,) = self._run(X, h0)
        return output, h
