"""Functions with a gradient of the program's own: PyTorch's `autograd.Function`.

A result is a node whose op keeps the context of the call. `backward` is written in Tensor
operations, so that it is traced by `ndl.jit` and can be differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend_ndarray import NDArray, is_float
from .modes import no_grad
from .op import Op, TensorOp, TensorTupleOp
from .tensor import Tensor
from .tuples import SparseGradients, TensorTuple
from .value import Value


class FunctionContext:
    """What `forward` leaves for `backward`; it may have any attributes besides.

    Attributes
    ----------
    saved_tensors : tuple of Tensor
        What `save_for_backward` was given.
    needs_input_grad : tuple of bool
        Whether each argument of `apply` needs a gradient.
    """

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: tuple[Tensor | None, ...] = ()
        self._results: dict[int, int] = {}  # the numbers of the results that are saved
        self._node: Value | None = None  # while `backward` runs
        self._constants: set[int] = set()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep arguments, results and other Tensors for `backward`.

        To change one of them before `backward` runs is an error there.
        """
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(
                    f"[save_for_backward] takes Tensors, got {type(x).__name__}; make it an "
                    "attribute of ctx"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]:
        """What `save_for_backward` was given."""
        return tuple(
            self._result(self._results[i]) if i in self._results else x  # type: ignore[misc]
            for i, x in enumerate(self._saved)
        )

    def _result(self, number: int) -> Tensor:
        if isinstance(self._node, TensorTuple):
            return self._node[number]
        assert isinstance(self._node, Tensor)
        return self._node

    def mark_non_differentiable(self, *results: Tensor) -> None:
        """Let no gradient flow through these results."""
        self._constants = set(map(id, results))

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for results that are not used."""
        self._materialize = value

    def mark_dirty(self, *arguments: Tensor) -> None:
        """An error: `forward` returns new Tensors and changes none of its arguments."""
        raise RuntimeError(
            "[mark_dirty] forward must not change its arguments: return a new Tensor instead"
        )


class _Call(Op):
    """A call of a Function; `compute` gives what `forward` has computed."""

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionContext,
        places: list[int],
        slots: list[int | Tensor | None],
        data: Any,
    ) -> None:
        # `places` are those of the inputs among the arguments. `slots` has, for each result, its
        # number among those with a gradient, or what stands for its gradient.
        self.function, self.ctx, self.places, self.slots = function, ctx, places, slots
        self.data = data
        # What `saved_tensors` has besides the results: it must not change in between.
        self.kept = [x for x in ctx._saved if x is not None]
        self.saves_values = bool(ctx._results)
        self.takes_sparse_gradients = not ctx._materialize

    def compute(self, *arrays: NDArray) -> Any:
        data, self.data = self.data, None
        return data

    def gradient(self, out_grad: Any, node: Any) -> tuple[Value | None, ...]:
        if isinstance(out_grad, SparseGradients):
            n = len(node.realize_cached_data())
            live: list[Tensor | None] = [out_grad.gradients.get(i) for i in range(n)]
        else:
            live = list(out_grad) if isinstance(out_grad, TensorTuple) else [out_grad]
        given = [live[slot] if isinstance(slot, int) else slot for slot in self.slots]
        ctx, name = self.ctx, self.function.__name__
        ctx._node = node
        try:
            found = self.function.backward(ctx, *given)
        finally:
            ctx._node = None
        gradients = found if isinstance(found, tuple) else (found,)
        expected = len(ctx.needs_input_grad)
        if len(gradients) < expected or any(g is not None for g in gradients[expected:]):
            raise RuntimeError(
                f"[{name}] backward must return a gradient, or None, for each of the {expected} "
                f"arguments of forward; it returned {len(gradients)}"
            )
        return tuple(
            self._checked(gradients[place], x)
            for place, x in zip(self.places, node.inputs, strict=True)
        )

    def _checked(self, gradient: object, x: Tensor) -> Tensor | None:
        if gradient is None or not x.requires_grad:
            return None
        name = self.function.__name__
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"[{name}] backward must return Tensors or None, got {type(gradient).__name__}"
            )
        if gradient.shape != x.shape:
            raise RuntimeError(
                f"[{name}] backward returned a gradient of shape {gradient.shape} for an argument "
                f"of shape {x.shape}"
            )
        return gradient if gradient.dtype == x.dtype else gradient.astype(x.dtype)


class _SingleCall(_Call, TensorOp):
    pass


class _TupleCall(_Call, TensorTupleOp):
    pass


def _no_gradient(ctx: FunctionContext, result: object) -> Tensor | None:
    """What `backward` gets for a result without a gradient: zeros for a Tensor, else None."""
    if not isinstance(result, Tensor) or not ctx._materialize:
        return None
    zero = result.device.zeros((), result.dtype)
    return Tensor.make_const(zero.broadcast_to(result.shape))


class Function:
    """A function with a gradient of its own; subclasses define `forward` and `backward`.

    `forward(ctx, *args)` computes the results, a Tensor or a tuple of Tensors and other objects,
    while nothing is recorded. `backward(ctx, *gradients)` gets the gradient of each result and
    returns one, or None, for each argument; written in Tensor operations it can be differentiated.
    Both are static methods. Where `setup_context(ctx, inputs, output)` is defined, `forward` takes
    the arguments alone, as in PyTorch. Programs call `apply`, also in compiled functions.

    Examples
    --------
    >>> import needle as ndl
    >>> class Cube(ndl.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x * x * g
    >>> x = ndl.Tensor([2.0])
    >>> Cube.apply(x).backward()
    >>> x.grad
    needle.Tensor([12.])
    """

    setup_context: Any = None

    @staticmethod
    def forward(*args: Any) -> Any:
        """The results; defined by subclasses."""
        raise NotImplementedError("[Function] define forward as a static method")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """A gradient for each argument; defined by subclasses."""
        raise NotImplementedError("[Function] define backward as a static method")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The results of `forward`, as part of the graph.

        Parameters
        ----------
        *args : object
            What `forward` takes. Gradients flow to the Tensors among them, and not to those in
            lists.

        Returns
        -------
        object
            What `forward` returns.

        Raises
        ------
        TypeError
            If `forward` returns no Tensor.
        """
        ctx = FunctionContext(tuple(isinstance(x, Tensor) and x.requires_grad for x in args))
        with no_grad():
            if cls.setup_context is None:
                returned = cls.forward(ctx, *args)
            else:
                returned = cls.forward(*args)
                cls.setup_context(ctx, args, returned)
        several = isinstance(returned, (tuple, list))
        results = list(returned) if several else [returned]
        live = [i for i, x in enumerate(results) if cls._is_live(ctx, x)]
        if not any(isinstance(x, Tensor) for x in results):
            raise TypeError(
                f"[{cls.__name__}] forward must return Tensors, got {type(returned).__name__}"
            )
        if live:
            slots = [
                live.index(i) if i in live else _no_gradient(ctx, x) for i, x in enumerate(results)
            ]
            nodes = cls._recorded(ctx, args, slots, [results[i] for i in live])
            for i, x in zip(live, nodes, strict=True):
                results[i] = x
        return tuple(results) if several else results[0]

    @staticmethod
    def _is_live(ctx: FunctionContext, x: object) -> bool:
        """Whether a gradient may come from this result."""
        return isinstance(x, Tensor) and is_float(x.dtype) and id(x) not in ctx._constants

    @classmethod
    def _recorded(
        cls,
        ctx: FunctionContext,
        args: Sequence[object],
        slots: list[int | Tensor | None],
        results: list[Tensor],
    ) -> Sequence[Tensor]:
        """The results that may have gradients as results of one op."""
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        inputs: list[Any] = [args[i] for i in places]
        given = set(map(id, inputs))
        number = {id(x): i for i, x in enumerate(results) if id(x) not in given}
        ctx._results = {i: number[id(x)] for i, x in enumerate(ctx._saved) if id(x) in number}
        if ctx._results:  # the node stands for them: to keep them, too, would keep them twice
            ctx._saved = tuple(None if i in ctx._results else x for i, x in enumerate(ctx._saved))
        data = tuple(x.realize_cached_data() for x in results)
        if len(results) == 1:
            return [_SingleCall(cls, ctx, places, slots, data[0])(*inputs)]
        return tuple(_TupleCall(cls, ctx, places, slots, data)(*inputs))


__all__ = ["Function", "FunctionContext"]
