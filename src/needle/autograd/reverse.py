"""Reverse mode: gradients, their gradients, and checks for data changed after the forward pass."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..backend_ndarray import NDArray, cpu_numpy, is_float, is_traced, versions
from ..given import not_a_tensor
from . import observing
from .hooks import hooks, run_hooks
from .modes import autocasting, enable_grad, no_grad
from .op import Op
from .tensor import Tensor
from .tracing import Tracer, _traces, current_trace
from .tuples import SparseGradients
from .unused import is_unread, note_lost
from .value import Value, find_topo_sort, topological_order


def _since() -> int:
    """The timestamp before which values count as leaves: a trace excludes their history."""
    trace = current_trace()
    return 0 if trace is None else trace.since


def values_from_before(outputs: Iterable[Value], timestamp: int) -> list[Value]:
    """The values made before `timestamp` that gradients of `outputs` reach first."""
    found: list[Value] = []
    stack, seen = list(outputs), set()
    while stack:
        value = stack.pop()
        if id(value) in seen or not value.requires_grad:
            continue
        seen.add(id(value))
        if value._created < timestamp:
            found.append(value)
        else:
            stack.extend(reversed(value.inputs))
    return found


def compute_gradient_of_variables(output: Value, out_grad: Value, accumulate: bool = False) -> None:
    """Set `.grad` of every value that `output` depends on to its gradient.

    With `accumulate` a leaf's gradient is added to the one that it has.

    The gradients are computed without recording; the graph of a gradient is built the first time
    someone differentiates it (see `_Deferred`).
    """
    order = topological_order([output], since=_since())
    trace = current_trace()
    if trace is not None:
        trace.backward(order)
    with no_grad():
        gradients = _reverse(order, output, out_grad)
    call = _BackwardCall(output, out_grad)
    for position, node in enumerate(order):
        gradient = gradients.get(id(node))
        if gradient is not None:
            is_leaf = node.op is None
            found = _deferred_gradient(gradient, call, position, output, is_leaf)
            if accumulate and is_leaf:
                found = _added(node.grad, found)
            if trace is not None:
                _set_traced(trace, node, found)
                continue
            if is_leaf:
                if node._grad is not None and is_unread(node):
                    note_lost(node)
                node._unread = True
            node._grad = found


def _set_traced(trace: Tracer, node: Value, gradient: Value) -> None:
    """Give a node its gradient in a trace, which remembers what becomes of those outside."""
    is_unread = id(node) in trace.unread_gradients
    node.grad = gradient
    if node._created >= trace.since:
        return
    if node.op is not None:
        trace.leaves(node, gradient)
        return
    trace.unread_gradients.add(id(node))
    if is_unread:
        trace.lost_gradients.add(id(node))


def _added(before: Value | None, gradient: Value) -> Value:
    """The sum of two gradients, without a graph; the second alone where there is no first."""
    if not isinstance(before, Tensor) or not isinstance(gradient, Tensor):
        return gradient
    with no_grad():
        return before.detach() + gradient.detach()


def continue_backward(values: Sequence[Value], gradients: Sequence[Value]) -> None:
    """Propagate known `gradients` of `values` into their history, setting `.grad` there.

    A value may occur several times, as after several calls of backward; its last gradient counts.
    """
    seeds = {id(x): g for x, g in zip(values, gradients, strict=True)}
    order = find_topo_sort(values)
    with no_grad(), autocasting(None):
        found = _accumulated(order, dict(seeds))
    for node in order:
        gradient = found.get(id(node))
        if gradient is None or gradient is seeds.get(id(node)):
            continue
        if isinstance(gradient, Tensor):  # its own memory, as in `_Deferred.take_memory`
            gradient = Tensor.make_const(gradient.cached_data.copy())
        node.grad = gradient


def _reverse(order: list[Value], output: Value, out_grad: Value) -> dict[int, Value]:
    """The gradients of `output` with respect to the nodes of `order`, by the nodes' ids.

    `order` is topological. The current mode decides whether the gradients are recorded. Autocast is
    off, because a gradient has the dtype of its value.
    """
    told = observing.observers
    for observer in told:
        observer.before_backward(output)
    try:
        with autocasting(None):
            return _accumulated(order, {id(output): out_grad}, _since())
    finally:
        for observer in reversed(told):
            observer.after_backward(output)


def _accumulated(order: list[Value], pending: dict[int, Any], since: int = 0) -> dict[int, Value]:
    """Propagate gradients backward through the nodes of `order` made at or after `since`.

    `pending` maps ids of values to the gradients that are known so far. Returns it, extended by
    the gradients of all inputs.
    """
    for node in reversed(order):
        gradient = pending.get(id(node))
        if isinstance(gradient, SparseGradients) and not (
            node.op and node.op.takes_sparse_gradients
        ):
            gradient = pending[id(node)] = gradient.to_tuple()
        if hooks and gradient is not None and id(node) in hooks:
            gradient = pending[id(node)] = run_hooks(node, gradient)
        if gradient is None or node.op is None or not node.inputs or node._created < since:
            continue
        if node._created < versions.now:
            check_unchanged(node, (*node.inputs, node) if node.op.saves_values else (), "backward")
            _check_in_place(node)
        if observing.observers:
            found = observing.observed_gradient(node, gradient)
        else:
            found = node.op.gradient_as_tuple(gradient, node)
        for x, g in zip(node.inputs, found, strict=True):
            if g is None or not x.requires_grad:
                continue
            known = pending.get(id(x))
            pending[id(x)] = g if known is None else known + g
    return {k: g.to_tuple() if isinstance(g, SparseGradients) else g for k, g in pending.items()}


def check_unchanged(node: Value, values: Iterable[Value], what: str) -> None:
    """Check that the data that a gradient reads is unchanged.

    Raises RuntimeError where one of `values`, or an array that the op of `node` keeps, was changed
    or replaced after `node` was made.
    """
    created = node._created
    for x in (*values, *_kept_by(node.op)):
        if last_change(x) > created:
            raise _changed_since(x, node.op, what)


def _check_in_place(node: Value) -> None:
    """Raises RuntimeError where an input of `node` has moved in the graph after `node` was made.

    The input is then the result of a change in place, and its history is no longer the one that
    `node` depends on; see `TorchMethods._changed_by`.
    """
    for x in node.inputs:
        if x._modified >= x._created > node._created and x.op is not None:
            raise _changed_since(x, node.op, "backward")


def _changed_since(x: Value | NDArray, op: Op | None, what: str) -> RuntimeError:
    return RuntimeError(
        f"[{what}] {type(op).__name__} needs the value of a tensor of shape "
        f"{getattr(x, 'shape', '?')} that was changed or replaced after the forward pass; "
        "run the forward pass again, or change a copy"
    )


def check_recomputed(output: Value, forward: int, recomputed: int) -> None:
    """Check that a recomputation has read the same data as the first computation.

    `output` was computed first at the timestamp `forward` and again from the timestamp
    `recomputed` on. Raises RuntimeError where it depends on data from outside that was changed in
    between.
    """
    stack, seen = [output], set()
    while stack:
        value = stack.pop()
        if id(value) in seen or value._created < recomputed or value.op is None:
            continue
        seen.add(id(value))
        for x in (*value.inputs, *_kept_by(value.op)):
            if forward < last_change(x) <= recomputed:
                raise _changed_since(x, value.op, "checkpoint")
        stack.extend(value.inputs)


def last_change(x: Value | NDArray) -> int:
    """When the data of a Value, or an array, was last changed or replaced."""
    if isinstance(x, NDArray):
        version: int = x._handle.version
        return version
    data = x.realize_cached_data() if _traces and current_trace() else x.cached_data
    if data is None:
        return x._modified
    if isinstance(data, tuple):
        newest: int = max(x._modified, *(array._handle.version for array in data))
        return newest
    written: int = data._handle.version
    return written if written > x._modified else x._modified


# The types of most attributes of ops; they hold no arrays.
_PLAIN = frozenset({int, float, bool, str, type(None)})


def _kept_by(op: Op | None) -> list[NDArray | Value]:
    """The arrays and Values among the attributes of an op, also those in tuples, lists and ops."""
    found: list[NDArray | Value] = []
    left = [item for item in vars(op).values() if type(item) not in _PLAIN]
    while left:
        item = left.pop()
        if type(item) in _PLAIN:
            continue
        if isinstance(item, (NDArray, Value)):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            left += item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, Op):
            left += vars(item).values()
    return found


def check_seed(output: Tensor, out_grad: object) -> Tensor:
    if not is_float(output.dtype):
        raise TypeError(f"[backward] needs floating-point data, got {output.dtype}")
    if not output.requires_grad:
        raise RuntimeError(
            "[backward] nothing was recorded for this tensor: none of its inputs requires a "
            "gradient, or it was made under no_grad()"
        )
    if out_grad is None:
        data = output.realize_cached_data()
        return Tensor.make_const(data._device.ones(data._shape, data._dtype))
    if not isinstance(out_grad, Tensor):
        raise TypeError(f"[backward] out_grad must be a Tensor, {not_a_tensor(out_grad, 'g')}")
    if out_grad.shape != output.shape:
        raise ValueError(
            f"[backward] out_grad has shape {out_grad.shape}, the tensor {output.shape}"
        )
    if out_grad.device != output.device:
        raise ValueError(
            f"[backward] out_grad is on {out_grad.device}, the tensor on {output.device}"
        )
    return out_grad


class _BackwardCall:
    """The data to repeat one call of backward with recording on."""

    __slots__ = ("gradients", "out_grad", "output")

    def __init__(self, output: Value, out_grad: Value) -> None:
        # Weak, because the output's graph holds the gradients that hold this.
        self.output = weakref.ref(output)
        self.out_grad = out_grad
        self.gradients: list[Value | None] | None = None  # by topological position

    def recorded_gradient(self, position: int) -> Value:
        """The gradient at a position of the topological order, with its graph."""
        if self.gradients is None:
            output = self.output()
            if output is None:
                raise RuntimeError(
                    "[backward] the graph of this gradient is gone; keep the tensor whose "
                    "backward() computed it"
                )
            order = topological_order([output], since=_since())
            with enable_grad():
                found = _reverse(order, output, self.out_grad)
            self.gradients = [found.get(id(node)) for node in order]
        gradient = self.gradients[position]
        assert gradient is not None
        return gradient


class _Deferred(Op):
    """The op of a deferred gradient, whose graph is recorded when someone differentiates it.

    Most gradients are used once, by an optimizer. To record their graphs at once would keep every
    intermediate of the backward pass alive. Instead, the first traversal of a deferred gradient
    repeats the backward pass with recording on. The gradient of a leaf keeps the output, and so the
    forward graph, alive. The gradient of an inner value does not: it would close a reference cycle.
    """

    is_deferred = True

    def __init__(self, call: _BackwardCall, position: int, keep_alive: Value | None) -> None:
        self.call = call
        self.position = position
        self.keep_alive = keep_alive
        self.memory: weakref.ref[object] | None = None  # the buffer that is the gradient's own

    def take_memory(self, node: Value) -> None:
        """Give the gradient `node` compact memory of its own, before anyone can write to it.

        Until then its array may be a broadcast view, or shared with another gradient or an op.
        """
        data = node.cached_data
        if not isinstance(node, Tensor) or self._owns(data):
            return
        if current_trace() is not None and not is_traced(data):
            return  # the gradient is from outside: the compiled function gives it memory
        if _references(node) != _ALONE or not data.is_compact():
            node.cached_data = data.copy()
        self.memory = weakref.ref(node.cached_data._handle)

    def _owns(self, data: NDArray) -> bool:
        return self.memory is not None and self.memory() is data._handle

    def resolve(self, node: Value) -> None:
        """Replace this op of `node` by the recorded op and its inputs."""
        if last_change(node) > node._created:
            raise RuntimeError(
                f"[backward] the gradient of shape {node.cached_data._shape} was changed after "
                "backward() computed it, so that it can no longer be differentiated; detach() it"
            )
        self.take_memory(node)
        recorded = self.call.recorded_gradient(self.position)
        node.op, node.inputs = recorded.op, recorded.inputs
        node._created = recorded._created


def _references(tensor: Tensor) -> tuple[int, int]:
    """The reference counts of a Tensor's array and of its buffer."""
    array = tensor.cached_data
    return sys.getrefcount(array), sys.getrefcount(array._handle)


def _references_alone() -> tuple[int, int]:
    tensor = Tensor.make_const(cpu_numpy().zeros((1,)))
    data = tensor.cached_data  # as `take_memory` has it
    return _references(tensor) if data is not None else (0, 0)


# The reference counts where only the Tensor references its array.
_ALONE = _references_alone()


def _deferred_gradient(
    gradient: Value, call: _BackwardCall, position: int, output: Value, leaf: bool
) -> Value:
    data = gradient.realize_cached_data()
    if leaf and isinstance(data, NDArray):
        data = data.compact()
    value = type(gradient).make_const(data, requires_grad=True)
    value.op = _Deferred(call, position, output if leaf and output.op is not None else None)
    return value


def grad(
    outputs: Tensor,
    inputs: Tensor | Iterable[Tensor],
    grad_outputs: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = True,
    *,
    allow_unused: bool = True,
    out_grad: Tensor | None = None,
    only_inputs: bool = True,
) -> list[Tensor | None]:
    """The gradients of a Tensor with respect to others, recorded if recording is on.

    No `.grad` changes. The gradient is None for an input that the Tensor does not depend on.
    `grad_outputs`, also called `out_grad`, is the gradient of the Tensor itself: ones by default.
    `retain_graph` and `create_graph` are PyTorch's; graphs are kept, and gradients recorded, in any
    case. Raises RuntimeError without `allow_unused` for an input that is not used.
    """
    seed = check_seed(outputs, out_grad if grad_outputs is None else grad_outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    since = _since()
    order = topological_order([outputs], since=since)
    gradients = _reverse(order, outputs, seed)
    trace = current_trace()
    if trace is not None:
        computed = [x for x in order if x._created < since and x.op is not None]
        trace.asked_for_gradients(wanted, computed)
    found = [gradients.get(id(x)) for x in wanted]
    if not allow_unused and any(g is None for g in found):
        raise RuntimeError("[grad] an input was not used; allow_unused=True gives None for it")
    return found  # type: ignore[return-value]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Compute the gradients of the sum of several Tensors; see `Tensor.backward`.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What is differentiated.
    grad_tensors : Tensor or sequence of Tensor, optional
        The gradient of each, of its shape. Ones by default.
    retain_graph, create_graph : bool, optional
        Accepted as in PyTorch.

    Raises
    ------
    ValueError
        If there is another number of gradients, or one has another shape.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([1.0, 2.0])
    >>> ndl.autograd.backward([(x * x).sum(), x.sum()])
    >>> x.grad
    needle.Tensor([3. 5.])
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grad_tensors is None:
        seeds: list[Tensor | None] = [None] * len(given)
    else:
        seeds = [grad_tensors] if isinstance(grad_tensors, Tensor) else list(grad_tensors)
    if not given or len(seeds) != len(given):
        raise ValueError(f"[backward] {len(given)} tensors have {len(seeds)} gradients")
    parts = [(x * check_seed(x, seed)).sum() for x, seed in zip(given, seeds, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    total.backward()


def vjp(
    function: Callable[..., Value], inputs: Sequence[Value], out_grad: Value
) -> tuple[Value | None, ...]:
    """The gradients of `function(*inputs)` with respect to `inputs`, given the output's.

    Ops use it that define their gradient by an equivalent composition of simpler ops. An input that
    occurs several times has its whole gradient at its first position and None at the others.
    """
    with enable_grad():
        output = function(*inputs)
    order = topological_order([output], [id(x) for x in inputs], _since())
    ends = {id(x) for x in inputs}
    gradients = _reverse([x for x in order if id(x) not in ends], output, out_grad)
    return tuple(gradients.pop(id(x), None) for x in inputs)
