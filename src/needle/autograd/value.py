"""Nodes of the graph, and their topological order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from ..backend_ndarray import versions
from . import modes
from .answers import Truth
from .modes import _mode
from .tracing import _traces, current_trace, untraced
from .unused import lost

if TYPE_CHECKING:
    from .op import Op


class _Alive:
    """An object that every Value references: its reference count is the number of live Values.

    A counter that `__del__` decrements would run Python code whenever a Value is freed, and a
    KeyboardInterrupt raised in `__del__` is lost.
    """

    def __reduce__(self) -> str:
        return "_alive"  # a copy is the object itself


_alive = _Alive()

_NOT_VALUES = sys.getrefcount(_alive)


class Value:
    """A node of the graph: data, the operation that computed it, and that operation's inputs."""

    __slots__ = (
        "__weakref__",
        "_alive",
        "_created",
        "_grad",
        "_modified",
        "_programs",
        "_unread",
        "cached_data",
        "inputs",
        "op",
        "requires_grad",
    )

    op: Op | None
    inputs: Sequence[Any]  # Values: Tensors in most ops, TensorTuples in some
    cached_data: Any
    requires_grad: bool
    _grad: Any
    _programs: set[Any]  # the compiled programs that are specialized to this object, if any
    _unread: bool  # whether nothing has read the gradient that a backward pass set; see `unused`

    def _init(
        self, op: Op | None, inputs: Sequence[Value], cached_data: object, requires_grad: bool
    ) -> None:
        self._alive = _alive
        self.op = op
        self.inputs = inputs
        self.cached_data = cached_data
        self.requires_grad = requires_grad
        self._grad = None
        self._created = versions.now
        self._modified = 0
        trace = current_trace() if _traces else None
        if trace is not None:
            trace.new_value(self)

    def realize_cached_data(self) -> Any:
        """The data. Where lazy mode has postponed the computation, it runs now."""
        if self.cached_data is None:
            from .reverse import check_unchanged  # a cyclic import

            with untraced():
                for node in find_topo_sort([self]):
                    if node.cached_data is None:
                        assert node.op is not None
                        check_unchanged(node, node.inputs, "lazy mode")
                        node.cached_data = node.op.compute(*[x.cached_data for x in node.inputs])
                        node._created = versions.now
        trace = current_trace() if _traces else None
        return self.cached_data if trace is None else trace.read(self)

    @property
    def grad(self) -> Any:
        """The gradient that `backward` has set; None before."""
        trace = current_trace() if _traces else None
        if trace is not None:
            return trace.read_grad(self)
        self._unread = False
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        trace = current_trace() if _traces else None
        if trace is None or not trace.write_grad(self, grad):
            self._grad = grad
            self._unread = False
            if grad is None and lost:
                lost.pop(id(self), None)

    @property
    def is_leaf(self) -> Truth:
        """Whether no recorded operation made this value; `x.is_leaf()` is the same."""
        return Truth(self.op is None)

    @classmethod
    def make_const(cls, data: Any, *, requires_grad: bool = False) -> Self:
        """A Value over `data` itself (no copy) with no history."""
        value = cls.__new__(cls)
        value._init(None, (), data, requires_grad)
        return value

    @classmethod
    def make_from_op(cls, op: Op, inputs: Sequence[Value]) -> Self:
        """The result of `op` on `inputs`, recorded if recording is on and an input requires it."""
        recorded = False
        if _mode.recording:
            for x in inputs:
                if x.requires_grad:
                    recorded = True
                    break
        value = cls.__new__(cls)
        if modes.LAZY_MODE and current_trace() is None:
            value._init(op, inputs, None, recorded)
            return value
        data = op.compute(*[x.realize_cached_data() for x in inputs])
        if recorded and value._differentiable(data):
            value._init(op, inputs, data, True)
        else:
            value._init(None, (), data, False)
        return value

    @staticmethod
    def _differentiable(data: Any) -> bool:
        return True

    def _twin(self) -> Self:
        """A copy with the same data and history, on which `ndl.jit` traces a function."""
        twin = type(self).__new__(type(self))
        for name in Value.__slots__:
            if name not in ("__weakref__", "_programs", "_unread"):
                setattr(twin, name, getattr(self, name))
        if hasattr(self, "__dict__"):
            twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> tuple[object, ...]:
        # A copied or unpickled Value has the data and no history.
        return _rebuild, (type(self), self.realize_cached_data(), self.requires_grad)

    def _replace_data(self, data: object) -> None:
        """Replace the data; graphs that recorded the old data can detect the change."""
        trace = current_trace() if _traces else None
        put_off = trace is not None and trace.write(self, data)
        self._modified = versions.advance()
        if not put_off:
            self.cached_data = data

    def _drop_graph(self) -> None:
        """Drop the history of this value and keep its data."""
        trace = current_trace()
        if trace is not None:
            trace.used_up(self)
        self.op, self.inputs, self.requires_grad = None, (), False


def _rebuild(cls: type[Value], data: object, requires_grad: bool) -> Value:
    return cls.make_const(data, requires_grad=requires_grad)


def find_topo_sort(node_list: Iterable[Value]) -> list[Value]:
    """The nodes that `node_list` depends on, in topological order: inputs before users.

    The order is that of an iterative depth-first post-order traversal, `inputs` from left to right.
    """
    return topological_order(node_list)


def topological_order(
    roots: Iterable[Value], stop: Iterable[int] = (), since: int = 0
) -> list[Value]:
    """`find_topo_sort` that treats some values as leaves.

    These are the values whose id is in `stop` and those made before the timestamp `since`.
    """
    order: list[Value] = []
    done: set[int] = set()
    expanded: set[int] = set(stop)
    stack = list(reversed(list(roots)))
    while stack:
        node = stack[-1]
        key = id(node)
        if key in done:
            stack.pop()
        elif key in expanded:
            stack.pop()
            done.add(key)
            order.append(node)
        else:
            expanded.add(key)
            if node._created < since:
                continue
            if node.op is not None and node.op.is_deferred:
                node.op.resolve(node)
            stack.extend(reversed(node.inputs))
    return order


def values_alive() -> int:
    """The number of Values that are alive."""
    return sys.getrefcount(_alive) - _NOT_VALUES
