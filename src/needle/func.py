"""Functions of functions: PyTorch's `torch.func`.

Arguments may be Tensors, or lists, tuples and dicts of them. There is no `vmap`: write the function
for a batch, whose axes needle's functions broadcast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import autograd
from .autograd import Tensor, enable_grad, timestamp, values_from_before
from .autograd.functional import hessian as _hessian
from .autograd.functional import jacobian as _jacobian
from .autograd.modes import running_as_written
from .nn import Module
from .tree import map_leaves, tensors

Argnums = int | tuple[int, ...]


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of `func` and its value.

    Parameters
    ----------
    func : callable
        Returns a Tensor of one element, or that and something else with `has_aux`.
    argnums : int or tuple of int, default 0
        Which positional arguments the gradient is taken of.
    has_aux : bool, default False
        Whether `func` returns (Tensor, something else).

    Returns
    -------
    callable
        Takes what `func` takes. It returns (gradient, value), or (gradient, (value, else)). The
        gradient is nested as the argument is. It can be differentiated where that requires a
        gradient.

    Raises
    ------
    RuntimeError
        If the value has more than one element.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.func.grad_and_value(lambda x: (x**2).sum())(ndl.Tensor([1.0, 2.0]))
    (needle.Tensor([2. 4.]), needle.Tensor(5.0))
    """

    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        given = [args[i] for i in numbers]
        since = timestamp()
        with enable_grad():
            live = map_leaves(_variable, given)
            arguments = list(args)
            for i, x in zip(numbers, live, strict=True):
                arguments[i] = x
            with running_as_written():
                returned = func(*arguments, **kwargs)
            value, *aux = returned if has_aux else (returned,)
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise RuntimeError("[grad] the function must return a Tensor of one element")
            found = iter(_gradients(value, tensors(live)))
        gradient = map_leaves(lambda x: next(found) if isinstance(x, Tensor) else x, live)
        gradient, value = map_leaves(functools.partial(_settled, since), [gradient, value])
        first = gradient[0] if isinstance(argnums, int) else tuple(gradient)
        return first, (value, *aux) if has_aux else value

    return call


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of `func`.

    Parameters
    ----------
    func : callable
        Returns a Tensor of one element, or that and something else with `has_aux`.
    argnums : int or tuple of int, default 0
        Which positional arguments the gradient is taken of.
    has_aux : bool, default False
        Whether `func` returns (Tensor, something else).

    Returns
    -------
    callable
        Takes what `func` takes. It returns the gradient, or (gradient, something else).

    Raises
    ------
    RuntimeError
        If the value has more than one element.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.func.grad(ndl.func.grad(lambda x: x**3))(ndl.Tensor(2.0))
    needle.Tensor(12.0)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def _variable(x: Any) -> Any:
    """A Tensor to differentiate by, which is part of the graph of one that requires a gradient."""
    if not isinstance(x, Tensor):
        return x
    return x.clone() if x.requires_grad else x.detach().clone().requires_grad_()


def _settled(since: int, x: Any) -> Any:
    """A result, without its graph unless that leads to something from before the call."""
    if not isinstance(x, Tensor) or values_from_before([x], since):
        return x
    return x.detach()


def _gradients(value: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if value.requires_grad:
        found = autograd.grad(value, inputs)
    return [
        Tensor.make_const(x.device.zeros(x.shape, x.dtype)) if g is None else g
        for x, g in zip(inputs, found, strict=True)
    ]


def jacrev(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of `func` with respect to one argument.

    Parameters
    ----------
    func : callable
        Takes Tensors and returns a Tensor or a tuple of them.
    argnums : int, default 0
        Which positional argument.

    Returns
    -------
    callable
        Takes what `func` takes; see `autograd.functional.jacobian`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.func.jacrev(lambda x: x**2)(ndl.Tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    return _of_one_argument(_jacobian, func, argnums)


jacfwd = jacrev  # the same derivatives; needle has no forward mode


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of `func` with respect to one argument.

    Parameters
    ----------
    func : callable
        Takes Tensors and returns a Tensor of one element.
    argnums : int, default 0
        Which positional argument.

    Returns
    -------
    callable
        Takes what `func` takes; see `autograd.functional.hessian`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.func.hessian(lambda x: (x**3).sum())(ndl.Tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return _of_one_argument(_hessian, func, argnums)


def _of_one_argument(
    derivatives: Callable[..., Any], func: Callable[..., Any], number: int
) -> Callable[..., Any]:
    @functools.wraps(func, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        def of_one(x: Tensor) -> Any:
            return func(*args[:number], x, *args[number + 1 :], **kwargs)

        x = args[number]
        return derivatives(of_one, x, create_graph=x.requires_grad)

    return call


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a Module with other Tensors in the place of its parameters and buffers.

    Gradients flow to these Tensors. The module is as before afterwards, also after an error.

    Parameters
    ----------
    module : Module
        The module.
    parameter_and_buffer_dicts : dict, or sequence of dict
        The Tensors by the paths that `named_parameters` and `named_buffers` give.
    args : object, optional
        The argument, or a tuple of arguments.
    kwargs : dict, optional
        Arguments by name.
    tie_weights : bool, default True
        A parameter that is in several places is replaced in all of them; False is an error.
    strict : bool, default False
        Whether every parameter and buffer must be given.

    Returns
    -------
    object
        What the module returns.

    Raises
    ------
    KeyError
        If the module has no parameter or buffer of a path, or, if `strict`, one is missing.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Linear(1, 1, bias=False)
    >>> ndl.func.functional_call(layer, {"weight": ndl.Tensor([[3.0]])}, ndl.Tensor([[2.0]]))
    needle.Tensor([[6.]])
    """
    if not tie_weights:
        raise ValueError(
            "[functional_call] shared parameters stay shared: tie_weights must be True"
        )
    dicts = parameter_and_buffer_dicts
    given: dict[str, Tensor] = {}
    for each in [dicts] if isinstance(dicts, Mapping) else dicts:
        given.update(each)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    unknown, missing = sorted(given.keys() - own.keys()), sorted(own.keys() - given.keys())
    if unknown or (strict and missing):
        raise KeyError(
            f"[functional_call] {type(module).__name__} has no {unknown}"
            if unknown
            else f"[functional_call] the dicts lack {missing}"
        )
    others = {id(own[path]): x for path, x in given.items()}
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    restore: list[Callable[[], None]] = []
    try:
        for each_module in [m for _, m in module.named_modules()]:
            _replace_in(each_module, others, restore)
        return module(*arguments, **(kwargs or {}))
    finally:
        for put_back in reversed(restore):
            put_back()


def _replace_in(
    module: Module, others: Mapping[int, Tensor], restore: list[Callable[[], None]]
) -> None:
    """Put others in the place of Tensors among a module's attributes and in containers there."""
    for name, value in list(vars(module).items()):
        if id(value) in others:
            restore.append(functools.partial(object.__setattr__, module, name, value))
            object.__setattr__(module, name, others[id(value)])
        elif isinstance(value, (list, dict)):
            _replace_items(value, others, restore)


def _replace_items(
    held: Any, others: Mapping[int, Tensor], restore: list[Callable[[], None]]
) -> None:
    for key, item in list(held.items() if isinstance(held, dict) else enumerate(held)):
        if id(item) in others:
            restore.append(functools.partial(held.__setitem__, key, item))
            held[key] = others[id(item)]
        elif isinstance(item, (list, dict)):
            _replace_items(item, others, restore)


__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev",
]  # fmt: skip
