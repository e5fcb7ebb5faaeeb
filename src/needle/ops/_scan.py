"""Loops over time: a state carried through the steps of a sequence.

Eagerly a scan is a Python loop. Where it is compiled, its body is traced once and stays the body of
a loop, forward and in the gradient, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any, Generic, TypeVar, cast

from ..autograd import (
    SparseGradients,
    Tensor,
    TensorTuple,
    TensorTupleOp,
    Tracer,
    Value,
    autocast_dtype,
    autocasting,
    current_trace,
    enable_grad,
    is_grad_enabled,
    timestamp,
    values_from_before,
    vjp,
)
from ..backend_ndarray import NDArray, Shape, is_float
from ..tree import map_leaves, tensors
from ._common import frozen
from ._joining import make_tuple, split, stack

Carry = TypeVar("Carry")
X = TypeVar("X")
Y = TypeVar("Y")


def scan(
    function: Callable[[Carry, X], tuple[Carry, Y]], init: Carry, xs: X, reverse: bool = False
) -> tuple[Carry, Y]:
    """Loop over time: carry, y = function(carry, x) for every x along the first axis of `xs`.

    Gradients flow to `init`, to `xs` and to every Tensor that the function reads besides. Inside
    `jit` the function is traced once and the loop stays a loop; a function that draws random
    numbers, changes Tensors from outside or gives them gradients is unrolled. For the gradient the
    function runs again, with the variables that it captured at the time of the scan.

    Parameters
    ----------
    function : callable
        Takes (carry, x) and returns (new carry, y). The new carry has the nesting, shapes and
        dtypes of the old one. Inside `jit` it must do the same at every step.
    init : Tensor, or nested lists, tuples and dicts of Tensors, or None
        The first carry.
    xs : Tensor, or nested lists, tuples and dicts of Tensors
        What is looped over; all of one length, at least 1.
    reverse : bool, default False
        Whether the steps run from the last to the first; y keeps the place of its x.

    Returns
    -------
    (carry, ys)
        The last carry, and all y stacked along a new first axis.

    Raises
    ------
    TypeError
        If a leaf is not a Tensor.
    ValueError
        If the shapes do not fit.
    TraceError
        Inside `jit`, if the function finds other Tensors, other data or another mode of a Module
        when it runs again.

    Examples
    --------
    >>> import needle as ndl
    >>> def step(total, x):
    ...     total = total + x
    ...     return total, total
    >>> ndl.scan(step, ndl.zeros(()), ndl.Tensor([1, 2, 3]))[1]
    needle.Tensor([1. 3. 6.])
    """
    steps = _Steps(function, init, xs)
    carries, slices = tensors(init), tensors(xs)
    last = None
    trace = current_trace()
    if trace is not None:
        last = _compiled(trace, steps, carries, slices, reverse)
    if last is None:
        last = _unrolled(steps, carries, slices, reverse)
    return steps.carry(last[0]), steps.output(last[1])


class _Steps(Generic[Carry, X, Y]):
    """The user's function on flat lists of Tensors."""

    def __init__(self, function: Callable[[Carry, X], tuple[Carry, Y]], init: Carry, xs: X) -> None:
        _check_leaves(init, "init")
        _check_leaves(xs, "xs")
        self.length = _common_length(tensors(xs))
        self.function, self._init, self._xs = function, init, xs
        self._y: Y | None = None  # of the first step
        self._has_y = False

    def as_of_now(self) -> _Steps[Carry, X, Y]:
        """The same for a later run, with the variables that the function captures now."""
        steps = copy(self)
        steps.function = frozen(self.function)
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

    def carry(self, leaves: Sequence[Tensor]) -> Carry:
        """The nesting of the carry with other Tensors."""
        return _filled(self._init, leaves)

    def output(self, leaves: Sequence[Tensor]) -> Y:
        """The nesting of y with other Tensors."""
        assert self._has_y
        return _filled(cast(Y, self._y), leaves)


Tree = TypeVar("Tree")


def _filled(tree: Tree, leaves: Sequence[Tensor]) -> Tree:
    rest = iter(leaves)
    return cast(Tree, map_leaves(lambda leaf: None if leaf is None else next(rest), tree))


def _check_alike(tree: object, first: object, what: str) -> None:
    """Raises ValueError unless nesting (with the order of keys), shapes and dtypes are equal."""
    expected, got = map_leaves(_kind, first), map_leaves(_kind, tree)
    if repr(expected) != repr(got):  # dicts in another order are equal, and flatten differently
        raise ValueError(f"[scan] {what}: expected {expected}, got {got}")


def _kind(leaf: Tensor | None) -> tuple[Shape, str] | None:
    return None if leaf is None else (leaf.shape, leaf.dtype.name)


def _check_leaves(tree: object, what: str) -> None:
    def check(leaf: object) -> None:
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
    steps: _Steps[Any, Any, Any], carries: list[Tensor], xs: list[Tensor], reverse: bool
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


class _Flow:
    """Through which inputs of a loop the gradients of its outputs flow, over all steps.

    `reach` has for each new carry and each y the numbers of the step's inputs, (carries, slices,
    others), through which its gradient flows. Slices and others there require one; of the first
    carries those in `init` do.
    """

    def __init__(self, reach: list[set[int]], init: set[int], carries: int, length: int) -> None:
        self.reach, self.carries, self.length = reach, carries, length
        self.required = set(init)  # the carries that require a gradient before any step
        self.outputs: set[int] = set()  # the last carries and the ys that do
        now = init
        for _ in range(length):
            flowing = self._flowing(now)
            self.outputs |= {i for i in flowing if i >= carries}
            before, now = now, {i for i in flowing if i < carries}
            if now == before:
                break
            self.required |= now
        self.outputs |= now

    def _flowing(self, now: set[int]) -> set[int]:
        """The outputs of a step that require a gradient if the carries in `now` do."""
        fixed = self.carries
        return {k for k, i in enumerate(self.reach) if any(x >= fixed or x in now for x in i)}

    def backward(
        self, last: set[int], ys: set[int], before: set[int]
    ) -> tuple[set[int], set[int], set[int]]:
        """What gets a gradient: (carries at any step, inputs of any step, first carries).

        Given the last carries, ys and carries before each step whose gradient there is.
        """
        of_ys = set[int]().union(*(self.reach[self.carries + i] for i in ys))
        now, carried, reached = last, set(last), set[int]()
        for _ in range(self.length):
            found = of_ys.union(*(self.reach[i] for i in now))
            reached |= found
            after, now = now, (found & self.required) | before
            carried |= now
            if now == after:
                break
        return carried, reached, now


class _ReplayedSteps:
    """The steps of a loop, replayed for its gradient; they must read what the forward run read."""

    def __init__(self, trace: Tracer, steps: _Steps[Any, Any, Any]) -> None:
        self.trace, self.steps = trace, steps
        self.run: object = None  # the trace's record of the forward run

    def __call__(
        self, carries: list[Tensor], slices: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        with self.trace.replay(self.run, carries + slices):
            return self.steps(carries, slices)


class Scan(TensorTupleOp):
    """A loop in a trace: (carries, xs, others) → (last carries, ys, the carries before each step).

    `others` are the values from outside through which the steps' gradients flow.
    """

    takes_sparse_gradients = True

    def __init__(
        self,
        steps: _ReplayedSteps,
        flow: _Flow,
        slices: int,
        reverse: bool,
        data: tuple[NDArray, ...],
    ) -> None:
        self.steps, self.flow, self.slices, self.reverse = steps, flow, slices, reverse
        self.data: tuple[NDArray, ...] | None = data
        self.autocast = autocast_dtype()

    def compute(self, *arrays: NDArray) -> tuple[NDArray, ...]:
        data, self.data = self.data, None
        assert data is not None
        return data

    def gradient(
        self, out_grad: TensorTuple | SparseGradients, node: TensorTuple
    ) -> tuple[Value | None, ...]:
        """A scan the other way, whose carry are the gradients of the carry and of the others.

        None stands for those that do not flow.
        """
        n, ends = self.flow.carries, self.flow.carries + self.slices
        init, xs, others = node.inputs[:n], list(node.inputs[n:ends]), node.inputs[ends:]
        given = (
            out_grad.gradients
            if isinstance(out_grad, SparseGradients)
            else dict(enumerate(out_grad))
        )
        d_out = [given.get(i) for i in range(len(node))]
        d_last, d_ys, d_before = d_out[:n], d_out[n : len(d_out) - n], d_out[len(d_out) - n :]
        carried, reached, to_init = self.flow.backward(*map(_present, (d_last, d_ys, d_before)))
        d_last = [_sum(x, d) if i in carried else None for i, x, d in _numbered(init, d_last)]
        d_others = [
            [_sum(member) for member in _members(x)] if i in reached else None
            for i, x in enumerate(others, ends)
        ]
        before = [
            x if i in self.flow.required else x.detach()
            for i, x in enumerate(list(node)[len(d_out) - n :])
        ]

        def back(carry: Any, x: Any) -> Any:
            (d_carries, d_others), (d_ys, d_before, before, slices) = carry, x
            before = [_differentiable(b) if i in carried else b for i, b in enumerate(before)]
            slices = [_differentiable(s) if i in reached else s for i, s in enumerate(slices, n)]
            found = self._step_gradients(before, slices, others, [*d_carries, *d_ys])
            d_new = [
                _sum(b, d, found[i]) if i in carried else None
                for i, b, d in _numbered(before, d_before)
            ]
            d_slices = [
                _sum(s, found[i]) if i in reached else None for i, s in enumerate(slices, n)
            ]
            sums = [
                d
                if d is None or g is None
                else [a + b for a, b in zip(d, _members(g), strict=True)]
                for d, g in zip(d_others, found[ends:], strict=True)
            ]
            return (d_new, sums), d_slices

        (d_first, d_others), d_xs = scan(
            back, (d_last, d_others), (d_ys, d_before, before, xs), not self.reverse
        )
        d_init = [d if i in to_init else None for i, d in enumerate(d_first)]
        return (*d_init, *d_xs, *map(_like, others, d_others))

    def _step_gradients(
        self,
        before: list[Tensor],
        slices: list[Tensor],
        others: Sequence[Value],
        d_out: Sequence[Tensor | None],
    ) -> tuple[Value | None, ...]:
        """The gradients of one step's inputs, from those of its outputs that are known."""

        def flat(*_: Tensor) -> TensorTuple:
            carries, ys = self.steps(before, slices)
            pairs = zip((*carries, *ys), d_out, strict=True)
            return make_tuple(*(x for x, d in pairs if d is not None))

        known = make_tuple(*(d for d in d_out if d is not None))
        with autocasting(self.autocast):
            return vjp(flat, [*before, *slices, *others], known)


def _compiled(
    trace: Tracer,
    steps: _Steps[Any, Any, Any],
    carries: list[Tensor],
    xs: list[Tensor],
    reverse: bool,
) -> tuple[list[Tensor], list[Tensor]] | None:
    """The loop as one op of the trace; None where it must be unrolled."""
    recording, n, replayed = (
        is_grad_enabled(),
        len(carries),
        _ReplayedSteps(trace, steps.as_of_now()),
    )
    others: list[Value] = []
    reach: list[set[int]] = []  # see `_Flow`

    def body(now: list[NDArray], slices: list[NDArray]) -> tuple[list[NDArray], list[NDArray]]:
        inner = [Tensor.make_const(c, requires_grad=recording and is_float(c.dtype)) for c in now]
        parts = [
            Tensor.make_const(s, requires_grad=recording and x.requires_grad)
            for s, x in zip(slices, xs, strict=True)
        ]
        start = timestamp()
        with (
            enable_grad() if recording else nullcontext(),
            trace.record_forward(inner + parts) as replayed.run,
        ):
            new, ys = steps(inner, parts)
        numbers = {id(x): i for i, x in enumerate((*inner, *parts))}
        for out in (*new, *ys):
            found = values_from_before([out], start)
            others.extend(x for x in found if id(x) not in numbers)
            numbers |= {id(x): i for i, x in enumerate(others, n + len(xs))}
            reach.append({numbers[id(x)] for x in found})
        return [v.realize_cached_data() for v in new], [
            v.realize_cached_data() for v in (*ys, *inner)
        ]

    arrays = [x.realize_cached_data() for x in carries], [x.realize_cached_data() for x in xs]
    data = trace.loop(body, *arrays, reverse)
    if data is None:
        return None
    init = {i for i, x in enumerate(carries) if x.requires_grad}
    flow = _Flow(reach, init, n, steps.length)
    op = Scan(replayed, flow, len(xs), reverse, (*data[0], *data[1]))
    result = op(*carries, *xs, *others)
    out = [result[i] if i in flow.outputs else result[i].detach() for i in range(len(reach))]
    return out[:n], out[n:]


def _present(gradients: Sequence[object]) -> set[int]:
    return {i for i, d in enumerate(gradients) if d is not None}


def _numbered(
    xs: Sequence[Tensor], ds: Sequence[Tensor | None]
) -> list[tuple[int, Tensor, Tensor | None]]:
    return [(i, x, d) for i, (x, d) in enumerate(zip(xs, ds, strict=True))]


def _sum(like: Tensor, *terms: Any) -> Tensor:
    """The sum of the terms that are there; zeros like a Tensor where there is none."""
    known: list[Tensor] = [term for term in terms if term is not None]
    if known:
        return sum(known[1:], known[0])
    data = like.realize_cached_data()
    return Tensor.make_const(data._device.zeros(data._shape, data._dtype))


def _members(x: Value) -> list[Tensor]:
    return list(x) if isinstance(x, TensorTuple) else [x]  # type: ignore[list-item]


def _like(x: Value, members: list[Tensor] | None) -> Value | None:
    """The `_members` as a Value of the kind of `x`."""
    if members is None:
        return None
    return make_tuple(*members) if isinstance(x, TensorTuple) else members[0]


def _differentiable(x: Tensor) -> Tensor:
    """`x`, or its data as a Tensor that a gradient can be asked for."""
    if x.requires_grad or not is_float(x.dtype):
        return x
    return Tensor.make_const(x.realize_cached_data(), requires_grad=True)


__all__ = ["scan"]
