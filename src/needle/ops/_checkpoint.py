"""Gradient checkpointing: functions whose inner values are recomputed for their gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np

from ..autograd import (
    Op,
    Tensor,
    TensorOp,
    TensorTupleOp,
    Value,
    autocast_dtype,
    autocasting,
    check_recomputed,
    current_trace,
    enable_grad,
    is_grad_enabled,
    timestamp,
    values_from_before,
    vjp,
)
from ..backend_ndarray import NDArray
from ..random import Generator, drawing_again, streams
from ..tree import like
from ._common import frozen
from ._joining import make_tuple

Results = TypeVar("Results")


class _Checkpoint(Op):
    """`function` of its first `count` inputs; the other inputs are Tensors that it also reads.

    Its gradient runs the function again (Chen et al., 2016, "Training deep nets with sublinear
    memory cost"), with the same random numbers.
    """

    def __init__(
        self, function: Callable[..., Value], count: int, data: Any, replay: _Replay
    ) -> None:
        self.function, self.count, self.replay = function, count, replay
        self.data = data  # of the first run
        self.ran = timestamp()

    def compute(self, *arrays: NDArray) -> Any:
        data, self.data = self.data, None
        assert data is not None
        return data

    def gradient(self, out_grad: Value, node: Value) -> tuple[Value | None, ...]:
        with self.replay.recompute():
            return vjp(self._run_again, node.inputs, out_grad)

    def _run_again(self, *inputs: Tensor) -> Value:
        before = timestamp()
        out = self.function(*inputs[: self.count])
        check_recomputed(out, self.ran, before)
        return out


class Checkpoint(_Checkpoint, TensorOp):
    """A function of one result."""


class CheckpointTuple(_Checkpoint, TensorTupleOp):
    """A function of several results, which it returns as a TensorTuple."""


class _Replay:
    """The random numbers and the autocast dtype of a run, to repeat the run."""

    def __init__(self) -> None:
        # The states of NumPy's generator and of needle's own ones.
        self.state: tuple[Any, dict[Generator, tuple[NDArray, NDArray]]] | None = None
        self.run: object = None  # the trace's record of the run
        self.autocast = autocast_dtype()

    @contextmanager
    def record_forward(self, inputs: Sequence[Tensor]) -> Iterator[None]:
        """A context for the first run."""
        trace = current_trace()
        if trace is None:
            self.state = np.random.get_state(), streams()
            yield
            return
        with trace.record_forward(inputs) as self.run:
            yield

    @contextmanager
    def recompute(self) -> Iterator[None]:
        """A context in which generators repeat the draws of the first run."""
        with autocasting(self.autocast), self._draws_again():
            yield

    @contextmanager
    def _draws_again(self) -> Iterator[None]:
        trace = current_trace()
        if trace is not None:
            with trace.recompute(self.run):
                yield
            return
        assert self.state is not None
        present, (numpy_state, others) = np.random.get_state(), self.state
        np.random.set_state(numpy_state)
        try:
            with drawing_again(others):
                yield
        finally:
            np.random.set_state(present)


def checkpoint(function: Callable[..., Results]) -> Callable[..., Results]:
    """Recompute the inner values of a function in the backward pass instead of keeping them.

    A step takes about a third more time, for the memory of one call of the function instead of all
    its calls. The second run has the random numbers and the captured variables of the first one.
    Tensors that the function reads without a gradient and the modes of Modules must not change in
    between.

    Parameters
    ----------
    function : callable
        A function of Tensors that returns a Tensor or a tuple of them, such as a Module.

    Returns
    -------
    callable
        The function. Parameters that it reads get their gradients.

    Raises
    ------
    TypeError
        If the function does not return Tensors.
    RuntimeError
        In the backward pass, if a Tensor that a recorded op reads has changed.
    TraceError
        Inside `jit`, if the function finds other Tensors or another mode of a Module when it runs
        again.

    References
    ----------
    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU())
    >>> ndl.checkpoint(layer)(ndl.ones(2, 3)).shape
    (2, 4)
    """

    @functools.wraps(function, updated=())
    def checkpointed(*args: Tensor) -> Results:
        if not is_grad_enabled():
            return function(*args)
        return cast(Results, _call(function, args))

    return checkpointed


def _call(function: Callable[..., Any], args: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    inner = [
        Tensor.make_const(x.realize_cached_data(), requires_grad=x.requires_grad) for x in args
    ]
    replay, before, later = _Replay(), timestamp(), frozen(function)
    with replay.record_forward(inner), enable_grad():
        out = function(*inner)
    several = isinstance(out, (tuple, list)) and all(isinstance(x, Tensor) for x in out)
    if not isinstance(out, Tensor) and not (several and out):
        raise TypeError(
            "[checkpoint] the function must return a Tensor or a tuple of Tensors, got "
            f"{type(out).__name__}"
        )
    results = list(out) if several else [out]
    mine = set(map(id, inner))
    others = [value for value in values_from_before(results, before) if id(value) not in mine]
    if not several:
        return Checkpoint(later, len(args), out.realize_cached_data(), replay)(*args, *others)
    data = tuple(x.realize_cached_data() for x in results)
    op = CheckpointTuple(lambda *inputs: make_tuple(*later(*inputs)), len(args), data, replay)
    found: tuple[Tensor, ...] = like(out, list(op(*args, *others)))
    return found


__all__ = ["Checkpoint", "checkpoint"]
