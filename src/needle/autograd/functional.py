"""Derivatives of functions of Tensors: PyTorch's `autograd.functional`.

All run the function once on copies of the inputs and differentiate the results in reverse.
`create_graph=True` gives results that can be differentiated with respect to the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .modes import enable_grad, running_as_written
from .reverse import grad
from .tensor import Tensor

if TYPE_CHECKING:
    from .. import ops

_Tensors = Tensor | Sequence[Tensor]


def _several(x: Any) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _like(given: Any, found: Sequence[Any]) -> Any:
    """One result for one Tensor, a tuple for several."""
    return found[0] if isinstance(given, Tensor) else tuple(found)


def _copies(inputs: _Tensors, connected: bool) -> list[Tensor]:
    """Copies of the inputs to differentiate by, which are part of their graph if `connected`."""
    return [
        x.clone() if connected and x.requires_grad else x.detach().clone().requires_grad_()
        for x in _several(inputs)
    ]


def _finished(x: Tensor, create_graph: bool) -> Tensor:
    return x if create_graph else x.detach()


def _gradients(
    output: Tensor, inputs: Sequence[Tensor], seed: Tensor | None, strict: bool, what: str
) -> list[Tensor]:
    """The gradients, zeros for inputs that were not used; an error for those if `strict`."""
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if output.requires_grad:
        found = grad(output, inputs, seed)
    if strict and any(g is None for g in found):
        raise RuntimeError(f"[{what}] the output does not depend on every input")
    return [_zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def _zeros_like(x: Tensor) -> Tensor:
    return Tensor.make_const(x.device.zeros(x.shape, x.dtype))


def _call(func: Callable[..., Any], inputs: Sequence[Tensor], what: str) -> Any:
    with running_as_written():
        outputs = func(*inputs)
    if not isinstance(outputs, Tensor) and not (
        isinstance(outputs, (tuple, list)) and all(isinstance(y, Tensor) for y in outputs)
    ):
        raise TypeError(
            f"[{what}] the function must return a Tensor or a tuple of them, got "
            f"{type(outputs).__name__}"
        )
    return outputs


def _total(outputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> Tensor:
    """Σ outputs · seeds, whose gradient is the sum of the outputs' vector-Jacobian products."""
    total = (outputs[0] * seeds[0]).sum()
    for y, v in zip(outputs[1:], seeds[1:], strict=True):
        total = total + (y * v).sum()
    return total


def _vectors(v: Any, like: Sequence[Tensor], what: str) -> list[Tensor]:
    """The vectors of a product; ones of a number are the default."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"[{what}] v may be left out for a function of one element only")
        return [Tensor.make_const(like[0].device.ones(like[0].shape, like[0].dtype))]
    given = list(_several(v))
    shapes, wanted = [x.shape for x in given], [x.shape for x in like]
    if shapes != wanted:
        raise RuntimeError(f"[{what}] v must have the shapes {wanted}, got {shapes}")
    return given


def jacobian(
    func: Callable[..., Any],
    inputs: _Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The derivatives of every element of a function's results by every element of its inputs.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensor
        Where.
    create_graph : bool, default False
        Whether the result can be differentiated.
    strict : bool, default False
        Whether an input that is not used is an error; its derivatives are 0 otherwise.
    vectorize, strategy : optional
        Accepted as in PyTorch: there is one backward pass for each element of the results.

    Returns
    -------
    Tensor, or a tuple of them for several inputs, or a tuple of those for several results
        The shape of the result, then that of the input.

    Raises
    ------
    RuntimeError
        If `strict` and an input is not used.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.autograd.functional.jacobian(lambda x: x**2, ndl.Tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    with enable_grad():
        xs = _copies(inputs, create_graph)
        outputs = _call(func, xs, "jacobian")
        rows = [_rows(y, xs, create_graph, strict) for y in _several(outputs)]
    return _like(outputs, [_like(inputs, row) for row in rows])


def _rows(y: Tensor, xs: Sequence[Tensor], create_graph: bool, strict: bool) -> list[Tensor]:
    """The derivatives of one result by each input."""
    found = []
    for i in range(y.numel()):
        one = np.zeros(y.numel())
        one[i] = 1
        seed = Tensor(one.reshape(y.shape), device=y.device, dtype=y.dtype, requires_grad=False)
        found.append([
            _finished(g, create_graph) for g in _gradients(y, xs, seed, strict, "jacobian")
        ])  # fmt: skip
    if not found:
        return [
            Tensor.make_const(x.device.zeros((*y.shape, *x.shape), x.dtype)) for x in xs
        ]  # fmt: skip
    return [
        ops.stack([row[k] for row in found], 0).reshape((*y.shape, *x.shape))
        for k, x in enumerate(xs)
    ]


def hessian(
    func: Callable[..., Any],
    inputs: _Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function that gives one element.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a Tensor of one element.
    inputs : Tensor or tuple of Tensor
        Where.
    create_graph : bool, default False
        Whether the result can be differentiated.
    strict : bool, default False
        Whether an input that is not used is an error.
    vectorize, outer_jacobian_strategy : optional
        Accepted as in PyTorch.

    Returns
    -------
    Tensor, or a tuple of tuples for several inputs
        The shape of the input, twice.

    Raises
    ------
    RuntimeError
        If the function gives more than one element, or if `strict` and an input is not used.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.autograd.functional.hessian(lambda x: (x**3).sum(), ndl.Tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """

    def slope(*xs: Tensor) -> Any:
        y = _single(_call(func, xs, "hessian"), "hessian")
        return _like(inputs, _gradients(y, xs, None, strict, "hessian"))

    return jacobian(slope, inputs, create_graph, False)


def _single(y: Any, what: str) -> Tensor:
    if not isinstance(y, Tensor) or y.numel() != 1:
        raise RuntimeError(f"[{what}] the function must return a Tensor of one element")
    return y.reshape(())


def vjp(
    func: Callable[..., Any],
    inputs: _Tensors,
    v: _Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """A function's results, and the product of a vector with its Jacobian.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensor
        Where.
    v : Tensor or tuple of Tensor, optional
        The vector, of the shapes of the results; 1 for a result of one element.
    create_graph : bool, default False
        Whether the results can be differentiated.
    strict : bool, default False
        Whether an input that is not used is an error.

    Returns
    -------
    (results, Tensor or tuple of Tensor)

    Raises
    ------
    RuntimeError
        If `v` does not fit, or if `strict` and an input is not used.

    Examples
    --------
    >>> import needle as ndl
    >>> y, g = ndl.autograd.functional.vjp(lambda x: x**2, ndl.Tensor([3.0]), ndl.Tensor([10.0]))
    >>> y.tolist(), g.tolist()
    ([9.0], [60.0])
    """
    with enable_grad():
        xs = _copies(inputs, create_graph)
        outputs = _call(func, xs, "vjp")
        ys = _several(outputs)
        found = _gradients(_total(ys, _vectors(v, ys, "vjp")), xs, None, strict, "vjp")
    return (
        _like(outputs, [_finished(y, create_graph) for y in ys]),
        _like(inputs, [_finished(g, create_graph) for g in found]),
    )


def jvp(
    func: Callable[..., Any],
    inputs: _Tensors,
    v: _Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """A function's results, and the product of its Jacobian with a vector.

    That is the derivative by u of u·J·v, which is found by two backward passes.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensor
        Where.
    v : Tensor or tuple of Tensor, optional
        The vector, of the shapes of the inputs; 1 for an input of one element.
    create_graph : bool, default False
        Whether the results can be differentiated.
    strict : bool, default False
        Whether an input that is not used is an error.

    Returns
    -------
    (results, Tensor or tuple of Tensor)

    Raises
    ------
    RuntimeError
        If `v` does not fit, or if `strict` and an input is not used.

    Examples
    --------
    >>> import needle as ndl
    >>> y, t = ndl.autograd.functional.jvp(lambda x: x**2, ndl.Tensor([3.0]), ndl.Tensor([10.0]))
    >>> y.tolist(), t.tolist()
    ([9.0], [60.0])
    """
    with enable_grad():
        xs = _copies(inputs, create_graph)
        vector = _vectors(v, xs, "jvp")
        outputs = _call(func, xs, "jvp")
        ys = _several(outputs)
        u = [_zeros_like(y).requires_grad_() for y in ys]
        slopes = _gradients(_total(ys, u), xs, None, strict, "jvp")
        found = _gradients(_total(slopes, vector), u, None, False, "jvp")
    return (
        _like(outputs, [_finished(y, create_graph) for y in ys]),
        _like(outputs, [_finished(g, create_graph) for g in found]),
    )


def hvp(
    func: Callable[..., Any],
    inputs: _Tensors,
    v: _Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, Any]:
    """A function's result of one element, and the product of its Hessian with a vector.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a Tensor of one element.
    inputs : Tensor or tuple of Tensor
        Where.
    v : Tensor or tuple of Tensor, optional
        The vector, of the shapes of the inputs; 1 for an input of one element.
    create_graph : bool, default False
        Whether the results can be differentiated.
    strict : bool, default False
        Whether an input that is not used is an error.

    Returns
    -------
    (Tensor, Tensor or tuple of Tensor)

    Raises
    ------
    RuntimeError
        If the function gives more than one element, or `v` does not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> y, h = ndl.autograd.functional.hvp(lambda x: x**3, ndl.Tensor([2.0]), ndl.Tensor([10.0]))
    >>> y.item(), h.tolist()
    (8.0, [120.0])
    """
    with enable_grad():
        xs = _copies(inputs, create_graph)
        vector = _vectors(v, xs, "hvp")
        y = _call(func, xs, "hvp")
        slopes = _gradients(_single(y, "hvp"), xs, None, strict, "hvp")
        found = _gradients(_total(slopes, vector), xs, None, False, "hvp")
    return _finished(y, create_graph), _like(inputs, [_finished(g, create_graph) for g in found])


vhp = hvp  # the Hessian is symmetric

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
