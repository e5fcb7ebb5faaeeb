"""Loops over time: a state carried through the steps of a sequence.

Eagerly a scan is a Python loop. Where it is compiled, its body is traced once and stays the body of
a loop, forward and in the gradient, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from types import CellType, FunctionType
from typing import Any

from .. import autograd
from ..autograd import (
    Tensor,
    TensorTuple,
    TensorTupleOp,
    Value,
    autocast_dtype,
    autocasting,
    enable_grad,
    is_grad_enabled,
    moment,
    values_from_before,
    vjp,
)
from ..backend_ndarray import NDArray, is_float
from ..tree import map_leaves, tensors
from .shape import make_tuple, split, stack

# One step on flat lists: (carries, slices of xs) → (new carries, outputs).
Step = Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]


def scan(
    function: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, reverse: bool = False
) -> tuple[Any, Any]:
    """`carry, y = function(carry, x)` for every x along the first axis of `xs`, from `init` on.

    Returns (the last carry, all y stacked along a new first axis). `init`, `xs` and what the
    function returns are Tensors or nested lists, tuples and dicts of them; where there is nothing
    to carry or to put out, None. The new carry has the nesting, shapes and dtypes of the old one,
    and all of `xs` the same length, at least 1. With `reverse` the steps run from the last to the
    first; y keeps the place of its x. Gradients flow to `init`, to `xs` and to every Tensor that
    the function reads besides.

    Inside `jit` the function is traced once and the loop stays a loop, so it must do the same at
    every step; one that draws random numbers or changes Tensors from outside is unrolled instead.
    There, a Tensor that only outputs which nobody uses depend on gets a gradient of 0, not None.
    Raises TypeError for leaves that are no Tensors, and ValueError where shapes do not fit.

        h, outputs = ndl.scan(lambda h, x: (cell(x, h),) * 2, h0, x)   # x: (T, B, in)
    """
    steps = _Steps(function, init, xs)
    carries, slices = tensors(init), tensors(xs)
    last = None
    if autograd.tracer is not None:
        last = _compiled(steps, carries, slices, reverse)
    if last is None:
        last = _unrolled(steps, carries, slices, reverse)
    return steps.carry(last[0]), steps.output(last[1])


class _Steps:
    """The user's function on flat lists of Tensors."""

    def __init__(self, function: Callable[[Any, Any], Any], init: Any, xs: Any) -> None:
        _check_leaves(init, "init")
        _check_leaves(xs, "xs")
        self.length = _common_length(tensors(xs))
        self.function, self._init, self._xs = function, init, xs
        self._y, self._has_y = None, False

    def as_of_now(self) -> _Steps:
        """The same for a later run: with the variables that the function has found this time."""
        steps = copy(self)
        steps.function = _frozen(self.function, {})
        return steps

    def __call__(
        self, carries: list[Tensor], slices: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        result = self.function(self.carry(carries), _filled(self._xs, slices))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"[scan] the function must return (carry, y), got a {type(result).__name__}"
            )
        carry, y = result
        _check_leaves(carry, "the new carry")
        _check_leaves(y, "y")
        _check_alike(carry, self._init, "the new carry must be like the old one")
        if self._has_y:
            _check_alike(y, self._y, "y must be alike in all steps")
        self._y, self._has_y = y, True
        return tensors(carry), tensors(y)

    def carry(self, leaves: Sequence[Tensor]) -> Any:
        """The nesting of the carry with other Tensors."""
        return _filled(self._init, leaves)

    def output(self, leaves: Sequence[Tensor]) -> Any:
        """The nesting of y with other Tensors."""
        return _filled(self._y, leaves)


def _filled(tree: Any, leaves: Sequence[Tensor]) -> Any:
    rest = iter(leaves)
    return map_leaves(lambda leaf: None if leaf is None else next(rest), tree)


def _check_alike(tree: Any, first: Any, what: str) -> None:
    """Raises ValueError unless nesting (with the order of keys), shapes and dtypes are equal."""
    expected, got = map_leaves(_kind, first), map_leaves(_kind, tree)
    if repr(expected) != repr(got):  # dicts in another order are equal, and flatten differently
        raise ValueError(f"[scan] {what}: expected {expected}, got {got}")


def _frozen(function: Any, known: dict[int, Any]) -> Any:
    """A function that goes on with the present values of the variables it captures.

    A loop over layers has rebound its variables by the time of the gradient.
    """
    if not isinstance(function, FunctionType) or function.__closure__ is None:
        return function
    if id(function) in known:
        return known[id(function)]
    cells = tuple(CellType() for _ in function.__closure__)
    frozen = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    frozen.__kwdefaults__ = function.__kwdefaults__
    known[id(function)] = frozen
    for cell, original in zip(cells, function.__closure__, strict=True):
        try:
            cell.cell_contents = _frozen(original.cell_contents, known)
        except ValueError:  # a variable without a value
            continue
    return frozen


def _kind(leaf: Tensor | None) -> Any:
    return None if leaf is None else (leaf.shape, leaf.dtype.name)


def _check_leaves(tree: Any, what: str) -> None:
    def check(leaf: Any) -> None:
        if leaf is not None and not isinstance(leaf, Tensor):
            raise TypeError(
                f"[scan] {what} must consist of Tensors (and None), got a {type(leaf).__name__}"
            )

    map_leaves(check, tree)


def _common_length(xs: list[Tensor]) -> int:
    if not xs:
        raise TypeError("[scan] xs must have at least one Tensor: its first axis is time")
    shapes = [x.shape for x in xs]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"[scan] xs must share a first axis of length at least 1, got {shapes}")
    return lengths.pop()


# ---- eagerly --------------------------------------------------------------------------------


def _unrolled(
    steps: _Steps, carries: list[Tensor], xs: list[Tensor], reverse: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """One step after the other."""
    slices = list(zip(*(split(x, 0) for x in xs), strict=True))
    outputs: list[list[Tensor]] = []
    for step in reversed(slices) if reverse else slices:
        carries, ys = steps(carries, list(step))
        outputs.append(ys)
    ordered = reversed(outputs) if reverse else outputs
    return carries, [stack(ys, 0) for ys in zip(*ordered, strict=True)]


# ---- compiled -------------------------------------------------------------------------------


class Scan(TensorTupleOp):
    """A loop in a trace: (carries, xs, others) → (last carries, ys, the carries before each step).

    `others` are the Tensors from outside through which the steps' gradients flow.
    """

    def __init__(
        self, steps: Step, carries: int, slices: int, reverse: bool, data: tuple[NDArray, ...]
    ) -> None:
        self.steps, self.carries, self.slices, self.reverse = steps, carries, slices, reverse
        self.data: tuple[NDArray, ...] | None = data
        self.autocast = autocast_dtype()

    def compute(self, *arrays: NDArray) -> tuple[NDArray, ...]:
        data, self.data = self.data, None
        assert data is not None
        return data

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Value | None, ...]:
        """A scan the other way, whose carry are the gradients of the carry and of the others."""
        n, ends = self.carries, self.carries + self.slices
        xs, others = list(node.inputs[n:ends]), list(node.inputs[ends:])
        before, d_out = list(node)[-n:] if n else [], list(out_grad)
        d_last, d_ys, d_before = d_out[:n], d_out[n : len(d_out) - n], d_out[len(d_out) - n :]
        d_others = [_zeros_like(x) for x in others]

        def back(carry: Any, x: Any) -> Any:
            (d_carries, d_others), (d_ys, d_before, before, slices) = carry, x
            before, slices = [_differentiable(b) for b in before], list(slices)
            needed = [
                _differentiable(s) if x.requires_grad else s
                for s, x in zip(slices, xs, strict=True)
            ]
            gradients = self._step_gradients(before, needed, others, [*d_carries, *d_ys])
            d_new = [_sum(d, g) for d, g in zip(d_before, gradients[:n], strict=True)]
            d_slices = [
                None if not x.requires_grad else _zeros_like(s) if g is None else g
                for x, s, g in zip(xs, needed, gradients[n:ends], strict=True)
            ]
            sums = [_sum(d, g) for d, g in zip(d_others, gradients[ends:], strict=True)]
            return (d_new, sums), d_slices

        (d_first, d_others), d_xs = scan(
            back, (d_last, d_others), (d_ys, d_before, before, xs), not self.reverse
        )
        return (*d_first, *d_xs, *d_others)

    def _step_gradients(
        self, before: list[Tensor], slices: list[Tensor], others: list[Any], d_out: list[Tensor]
    ) -> tuple[Value | None, ...]:
        """The gradients of one step's inputs, given those of its outputs."""

        def flat(*_: Tensor) -> TensorTuple:
            carries, ys = self.steps(before, slices)
            return make_tuple(*carries, *ys)

        with autocasting(self.autocast):
            return vjp(flat, [*before, *slices, *others], make_tuple(*d_out))


def _compiled(
    steps: _Steps, carries: list[Tensor], xs: list[Tensor], reverse: bool
) -> tuple[list[Tensor], list[Tensor]] | None:
    """The loop as one op of the trace; None where it must be unrolled."""
    recording, start = is_grad_enabled(), moment()
    others: list[Value] = []
    flows: list[bool] = []  # whether an output depends on anything that requires a gradient

    def body(now: list[NDArray], slices: list[NDArray]) -> tuple[list[NDArray], list[NDArray]]:
        inner = [Tensor.make_const(c, requires_grad=recording and is_float(c.dtype)) for c in now]
        parts = [
            Tensor.make_const(s, requires_grad=recording and x.requires_grad)
            for s, x in zip(slices, xs, strict=True)
        ]
        with enable_grad() if recording else nullcontext():
            new, ys = steps(inner, parts)
        others[:] = values_from_before([*new, *ys], start)
        flows[:] = [v.requires_grad for v in (*new, *ys)]
        return [v.realize_cached_data() for v in new], [
            v.realize_cached_data() for v in (*ys, *inner)
        ]

    assert autograd.tracer is not None
    arrays = [x.realize_cached_data() for x in carries], [x.realize_cached_data() for x in xs]
    data = autograd.tracer.loop(body, *arrays, reverse)
    if data is None or not all(isinstance(x, Tensor) for x in others):
        return None
    last, ys = data
    op = Scan(steps.as_of_now(), len(carries), len(xs), reverse, (*last, *ys))
    result, n = op(*carries, *xs, *others), len(carries)
    out = [result[i] if flow else result[i].detach() for i, flow in enumerate(flows)]
    return out[:n], out[n:]


def _zeros_like(x: Any) -> Tensor:
    data = x.realize_cached_data()
    return Tensor.make_const(data._device.zeros(data._shape, data._dtype))


def _sum(a: Tensor, b: Any) -> Tensor:
    return a if b is None else a + b


def _differentiable(x: Tensor) -> Tensor:
    """`x`, or its data as a Tensor that a gradient can be asked for."""
    if x.requires_grad or not is_float(x.dtype):
        return x
    return Tensor.make_const(x.realize_cached_data(), requires_grad=True)


__all__ = ["scan"]
