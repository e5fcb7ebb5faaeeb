"""Differentiable operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..backend_ndarray.dtypes import FLOAT32, FLOAT64
from .modes import _mode
from .tensor import Tensor, TensorTuple
from .value import Value

if TYPE_CHECKING:
    from .. import ops


class Op:
    """A differentiable operation: `compute` on arrays and `gradient` on Tensors.

    `saves_values` says whether `gradient` reads the data of the inputs or of the output: then
    changing them between forward and backward is an error. Ops whose gradient needs only shapes set
    it False. Arrays and Tensors among the op's attributes (labels, indices, masks) may never change
    in between. `precision` and `takes_integers` are what the tables of `needle.ops._precision` say
    of the op.
    """

    saves_values = True
    is_deferred: ClassVar[bool] = False  # it stands for a graph that is recorded on demand
    # Whether `gradient` takes `SparseGradients` where only some members of the output, a
    # TensorTuple, have a gradient.
    takes_sparse_gradients = False
    precision: ClassVar[Any] = None
    takes_integers: ClassVar[bool] = True

    def __call__(self, *args: Value) -> Any:
        raise NotImplementedError

    def compute(self, *args: Any) -> Any:
        """The result's data from the inputs' NDArrays."""
        raise NotImplementedError

    def gradient(self, out_grad: Any, node: Any) -> Any:
        """The gradient of each input, given the gradient `out_grad` of the output `node`.

        None stands for the gradient of an input that needs none.
        """
        raise NotImplementedError

    def take_memory(self, node: Any) -> None:
        """Give a deferred gradient memory of its own."""
        raise NotImplementedError

    def resolve(self, node: Any) -> None:
        """Give a deferred gradient the operation and inputs of its recorded twin."""
        raise NotImplementedError

    def gradient_as_tuple(self, out_grad: Value, node: Value) -> tuple[Any, ...]:
        """`gradient`, always as a tuple with one entry per input."""
        result = self.gradient(out_grad, node)
        if isinstance(result, tuple):
            return result
        return tuple(result) if isinstance(result, list) else (result,)


def _check_inputs(op: Op, inputs: Iterable[Any]) -> None:
    """Raises TypeError for an input that is no Tensor; looked at where an op has failed."""
    for x in inputs:
        if not isinstance(x, Value):
            raise TypeError(
                f"[{type(op).__name__}] needs a Tensor, got {type(x).__name__}"
            ) from None


def _is_mixed(inputs: Sequence[Value]) -> bool:
    """Whether an op of the table of precisions may have to convert its inputs."""
    if _mode.autocast is not None:
        return True
    for x in inputs:  # each of them is looked at in every call of a product: no comprehension
        dtype = x.realize_cached_data()._dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            return True
    return False


class TensorOp(Op):
    """An Op whose result is a Tensor."""

    def __call__(self, *args: Value) -> Tensor:
        try:
            if self.precision is not None and _is_mixed(args):
                return ops.precision.call(self, args)
            return Tensor.make_from_op(self, args)
        except AttributeError:
            _check_inputs(self, args)
            raise


class TensorTupleOp(Op):
    """An Op whose result is a TensorTuple."""

    def __call__(self, *args: Value) -> TensorTuple:
        try:
            if self.precision is not None and _is_mixed(args):
                return ops.precision.call(self, args)
            return TensorTuple.make_from_op(self, args)
        except AttributeError:
            _check_inputs(self, args)
            raise
