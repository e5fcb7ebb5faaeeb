"""Differentiable operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..backend_ndarray.dtypes import FLOAT32, FLOAT64
from ..given import not_a_tensor
from .eager import EagerCall
from .modes import _mode
from .tensor import Tensor
from .tuples import TensorTuple
from .value import Value

if TYPE_CHECKING:
    from .. import ops


class Op:
    """A differentiable operation: `compute` on arrays and `gradient` on Tensors.

    `saves_values` is True where `gradient` reads the data of the inputs or of the output: to change
    them between forward and backward is then an error. Ops whose gradient needs only shapes set it
    to False. Arrays and Tensors among the op's attributes (labels, indices, masks) must never
    change in between. The tables of `needle.ops._precision` set `precision` and `takes_integers`,
    that of `needle.ops._direct` sets `direct`.
    """

    saves_values = True
    is_deferred: ClassVar[bool] = False  # it stands for a graph that is recorded on demand
    # Whether `gradient` takes `SparseGradients` where only some members of the output, a
    # TensorTuple, have a gradient.
    takes_sparse_gradients = False
    precision: ClassVar[object] = None
    takes_integers: ClassVar[bool] = True
    # The kernel that is all of `compute`: that function, and the kernel's number in the C++ core.
    direct: ClassVar[tuple[object, int] | None] = None

    def __call__(self, *args: Value) -> Any:
        raise NotImplementedError

    def compute(self, *args: Any) -> Any:
        """The data of the result, given the NDArrays of the inputs."""
        raise NotImplementedError

    def gradient(self, out_grad: Any, node: Any) -> Any:
        """The gradient of each input, given the gradient `out_grad` of the output `node`.

        The gradient is None for an input that needs none.
        """
        raise NotImplementedError

    def take_memory(self, node: Value) -> None:
        """Give a deferred gradient memory of its own."""
        raise NotImplementedError

    def resolve(self, node: Value) -> None:
        """Replace a deferred gradient's op and inputs by the recorded ones."""
        raise NotImplementedError

    def gradient_as_tuple(self, out_grad: Value, node: Value) -> tuple[Any, ...]:
        """`gradient`, always as a tuple with one entry per input."""
        result = self.gradient(out_grad, node)
        if isinstance(result, tuple):
            return result
        return tuple(result) if isinstance(result, list) else (result,)


def _check_inputs(op: Op, inputs: Sequence[object]) -> None:
    """Raises TypeError for an input that is no Tensor, ValueError for inputs on two devices.

    Called only after an op has failed.
    """
    for x in inputs:
        if not isinstance(x, Value):
            raise TypeError(f"[{type(op).__name__}] needs a Tensor, {not_a_tensor(x)}") from None
    devices = {str(x.device): None for x in inputs if isinstance(x, Tensor)}
    if len(devices) > 1:
        raise ValueError(
            f"[{type(op).__name__}] the inputs are on {' and '.join(devices)} and cannot be mixed; "
            "move one: x.to(device) for data, model.to(device) for a module"
        ) from None


def _is_mixed(inputs: Sequence[Value]) -> bool:
    """Whether an op with a `precision` may have to convert its inputs."""
    if _mode.autocast is not None:
        return True
    for x in inputs:  # a loop is faster than a comprehension, and every product runs it
        dtype = x.realize_cached_data()._dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            return True
    return False


class TensorOp(EagerCall, Op):
    """An Op whose result is a Tensor."""

    def apply(self, *args: Value) -> Tensor:
        """The result on `args`, recorded: what a call of the op does."""
        try:
            if self.precision is not None and _is_mixed(args):
                tensor: Tensor = ops.precision.call(self, args)
                return tensor
            return Tensor.make_from_op(self, args)
        except (AttributeError, ValueError):
            _check_inputs(self, args)
            raise


class TensorTupleOp(Op):
    """An Op whose result is a TensorTuple."""

    def __call__(self, *args: Value) -> TensorTuple:
        try:
            if self.precision is not None and _is_mixed(args):
                members: TensorTuple = ops.precision.call(self, args)
                return members
            return TensorTuple.make_from_op(self, args)
        except (AttributeError, ValueError):
            _check_inputs(self, args)
            raise
