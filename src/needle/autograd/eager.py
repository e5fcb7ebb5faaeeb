"""The eager call of an op in the C++ core.

Eager programs of many small ops spend their time in the Python functions around the kernels. The
core makes the result of an op itself where nothing traces or observes it and no input is converted.
In all other cases it calls the op's Python functions, which are the definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..native import core

if TYPE_CHECKING:
    from .op import Op
    from .tensor import Tensor
    from .value import Value


class _PythonCall:
    """A base of ops: a call of one is its `apply`."""

    def __call__(self, *args: Value) -> Tensor:
        result: Tensor = self.apply(*args)  # type: ignore[attr-defined]
        return result


def _no_view(op: type[Op], x: Value, argument: object) -> Tensor | None:
    return None


# `EagerCall` is the base of `TensorOp`. `eager_view(op, x, argument)` is `op(argument)(x)` of an op
# that gives a view, and makes no op object if nothing is recorded. It is None where there is more
# to be done: an error, a copy, a trace.
if TYPE_CHECKING or core is None:
    EagerCall = _PythonCall
    eager_view = _no_view
else:
    EagerCall = core.EagerCall
    eager_view = core.eager_view
