"""Hooks on the gradients that pass a module.

The Tensors that go into a module and those that come out of it pass through an identity. In the
backward pass the outer identity notes the gradients of the results, and the inner one, which comes
last, calls the hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray

Gradients = tuple[Tensor | None, ...]
Around = Callable[[Any], Any]


class _Passage:
    """One call of a module with backward hooks."""

    def __init__(self, module: object, hooks: Sequence[Callable[..., object]]) -> None:
        self.module, self.hooks = module, hooks
        self.outputs: list[Tensor | None] = []

    def call(self, gradients: Gradients) -> Gradients:
        """Run the hooks; the gradients of the inputs afterwards."""
        for hook in self.hooks:
            replaced = hook(self.module, gradients, tuple(self.outputs))
            if replaced is not None:
                gradients = replaced if isinstance(replaced, tuple) else (replaced,)
        return gradients


class _Arrival:
    """The gradients of a module's results on their way into the module."""

    def __init__(self, module: object, hooks: Sequence[Callable[..., object]]) -> None:
        self.module, self.hooks = module, hooks

    def call(self, gradients: Gradients) -> Gradients:
        """Run the hooks; the gradients of the results afterwards."""
        for hook in self.hooks:
            replaced = hook(self.module, gradients)
            if replaced is not None:
                gradients = replaced if isinstance(replaced, tuple) else (replaced,)
        return gradients


class _Passing(TensorTupleOp):
    """Tensors themselves; their gradients go through hooks."""

    saves_values = False

    def __init__(self, passage: _Passage | _Arrival) -> None:
        self.passage = passage

    def compute(self, *args: NDArray) -> tuple[NDArray, ...]:
        return args

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Gradients:
        return self.passage.call(tuple(out_grad[i] for i in range(len(out_grad))))


class _Output(TensorOp):
    """A result itself; its gradient is noted, and shown at once where no input has one."""

    saves_values = False

    def __init__(self, passage: _Passage, index: int, last: bool) -> None:
        self.passage, self.index, self.last = passage, index, last

    def compute(self, a: NDArray) -> NDArray:
        return a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        self.passage.outputs[self.index] = out_grad
        if self.last:
            self.passage.call((None,))
        return out_grad


def tapped_inputs(
    module: object, args: tuple[Any, ...], hooks: Sequence[Callable[..., object]]
) -> tuple[tuple[Any, ...], Around]:
    """The arguments of a forward pass, and what to apply to its result."""
    passage = _Passage(module, hooks)
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
    inner = any(args[i].requires_grad for i in places)
    if inner:
        taps = _Passing(passage)(*(args[i] for i in places))
        tapped = list(args)
        for k, i in enumerate(places):
            tapped[i] = taps[k]
        args = tuple(tapped)

    def around(result: Any) -> Any:
        results = result if isinstance(result, tuple) else (result,)
        passage.outputs = [None] * len(results)
        tensors = [i for i, y in enumerate(results) if isinstance(y, Tensor)]
        out = list(results)
        for i in tensors:
            out[i] = _Output(passage, i, last=not inner and i == tensors[0])(results[i])
        return tuple(out) if isinstance(result, tuple) else out[0]

    return args, around


def tapped_results(module: object, result: Any, hooks: Sequence[Callable[..., object]]) -> Any:
    """The result of a forward pass, whose gradients go through `hooks` first."""
    results = list(result) if isinstance(result, tuple) else [result]
    places = [i for i, y in enumerate(results) if isinstance(y, Tensor)]
    if not any(results[i].requires_grad for i in places):
        return result
    taps = _Passing(_Arrival(module, hooks))(*(results[i] for i in places))
    for k, i in enumerate(places):
        results[i] = taps[k]
    return tuple(results) if isinstance(result, tuple) else results[0]
