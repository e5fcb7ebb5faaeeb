"""Automatic differentiation: values, the operations that made them, and reverse mode.

A `Value` remembers the `Op` that made it and that op's inputs. `backward` walks this graph once
in reverse topological order and asks each op for the gradients of its inputs; those are computed
with Tensor operations, so that a gradient can itself be differentiated.

Each file imports from those before it: `tracing`, `unused`, `modes`, `value`, `eager` (the call of
an op by the C++ core), `operators` (functions that `Tensor` lists), `methods` (those of
`needle.ops` that it has), `torch_methods`, `tensor`, `tuples`, `op`, `function`, `observing`,
`reverse`, `functional`, `anomaly`.
"""

from __future__ import annotations

import sys
from types import ModuleType

from ..backend_ndarray import symbolic, versions
from ..native import core
from . import (
    functional,
    modes,
    observing,
    op,
    operators,
    tensor,
    torch_methods,
    tracing,
    tuples,
    value,
)
from .anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from .function import Function
from .modes import (
    autocast_dtype,
    autocasting,
    enable_grad,
    is_grad_enabled,
    log_undo,
    no_grad,
    rollback,
    rollback_on_error,
    set_grad_enabled,
    timestamp,
)
from .op import Op, TensorOp, TensorTupleOp
from .reverse import (
    backward,
    check_recomputed,
    compute_gradient_of_variables,
    continue_backward,
    grad,
    last_change,
    values_from_before,
    vjp,
)
from .tensor import Tensor
from .tracing import (
    Tracer,
    Untraceable,
    current_trace,
    trace_with,
    untraced,
    unwatched,
    watched,
    watched_classes,
)
from .tuples import SparseGradients, TensorTuple
from .unused import tell_of_lost
from .value import Value, find_topo_sort, values_alive

__all__ = [
    "LAZY_MODE",
    "TENSOR_COUNTER",
    "Function",
    "Op",
    "Tensor",
    "TensorOp",
    "TensorTuple",
    "TensorTupleOp",
    "Value",
    "backward",
    "compute_gradient_of_variables",
    "detect_anomaly",
    "enable_grad",
    "find_topo_sort",
    "functional",
    "grad",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
    "vjp",
]
# Other packages of needle use these.
__all__ += [
    "SparseGradients",
    "Tracer",
    "Untraceable",
    "autocast_dtype",
    "autocasting",
    "check_recomputed",
    "continue_backward",
    "current_trace",
    "last_change",
    "log_undo",
    "rollback",
    "rollback_on_error",
    "tell_of_lost",
    "timestamp",
    "trace_with",
    "untraced",
    "unwatched",
    "values_alive",
    "values_from_before",
    "watched",
    "watched_classes",
]

LAZY_MODE: bool
TENSOR_COUNTER: int
_counted_from = 0


def set_operations(ops: ModuleType) -> None:
    """Tensor's operators and methods are the functions of `ops`, a package above this one."""
    for module in (functional, op, operators, tensor, torch_methods, tuples):
        vars(module)["ops"] = ops
    vars(operators)["Tensor"] = Tensor  # which its file cannot import: Tensor lists its functions
    if core is not None:
        core.register_autograd(
            Tensor,
            {
                "alive": value._alive,
                "thread": modes._mode,
                "traces": tracing._traces,
                "recorders": symbolic._switchboards,
                "versions": vars(versions),
                "modes": vars(modes),
                "observing": vars(observing),
                "explain_error": op._check_inputs,
            },
        )


class _Autograd(ModuleType):
    """The class of this package, with two computed module attributes that course programs use."""

    @property
    def LAZY_MODE(self) -> bool:
        """When True, operations only record the graph; data is computed when it is first read."""
        return modes.LAZY_MODE

    @LAZY_MODE.setter
    def LAZY_MODE(self, lazy: bool) -> None:
        modes.LAZY_MODE = lazy

    @property
    def TENSOR_COUNTER(self) -> int:
        """The number of Values alive; a value set here is the new offset of the count."""
        return values_alive() + _counted_from

    @TENSOR_COUNTER.setter
    def TENSOR_COUNTER(self, count: int) -> None:
        global _counted_from
        _counted_from = count - values_alive()


sys.modules[__name__].__class__ = _Autograd
