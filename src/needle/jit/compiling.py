"""`compile`: `jit` under PyTorch's name, for programs that differentiate what was compiled.

What `jit` returns carries no history. So a call whose result must have one runs eagerly: that of a
Module with parameters to train, or of a Tensor that is part of a graph.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..autograd import Untraceable, current_trace, is_grad_enabled
from ..tree import tensors

if TYPE_CHECKING:
    from .frontend.function import JitFunction

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str = "inductor",
    mode: str | None = None,
    options: dict[str, object] | None = None,
    disable: bool = False,
) -> Any:
    """Compile a function or a Module; also a decorator, with or without options.

    A function that takes a whole training step (forward, `backward`, `optimizer.step`) is compiled
    as `jit` does it, and is what gains most. A Module is compiled where no gradient is recorded, as
    under `no_grad`; a call that is to be differentiated runs eagerly, and a warning says so once.
    So does a call of a function with a Tensor that is part of a graph.

    Parameters
    ----------
    model : callable
        A function of Tensors, or a Module, which is compiled in place and returned.
    fullgraph : bool, default False
        Whether a function that cannot be traced, because it needs a value, is an error. It runs
        eagerly otherwise, and a warning says so once.
    dynamic : bool, optional
        Changes nothing: a call with other shapes compiles another program.
    backend : {"inductor", "eager"}
        "eager" compiles nothing; any other name stands for needle's compiler.
    mode : {"default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"}, optional
        Changes nothing.
    options : dict, optional
        Changes nothing.
    disable : bool, default False
        Whether nothing is compiled.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        For another `mode`.
    TypeError
        For a `backend` that is no name: needle does not hand its graph to other compilers.

    Examples
    --------
    >>> import needle as ndl
    >>> @ndl.compile(mode="reduce-overhead")
    ... def f(x):
    ...     return ndl.exp(x) + 1
    >>> f(ndl.zeros(2))
    needle.Tensor([2. 2.])
    """
    if mode is not None and mode not in MODES:
        raise ValueError(f"[compile] mode must be one of {MODES}, got {mode!r}")
    if not isinstance(backend, str):
        raise TypeError(f"[compile] backend must be a name, got {type(backend).__name__}")
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, backend=backend, mode=mode, disable=disable
        )
    if not callable(model):
        raise TypeError(f"[compile] needs a function or a Module, got {type(model).__name__}")
    if disable or backend == "eager":
        return model
    make = getattr(model, "compile", None)
    if make is not None and hasattr(model, "parameters"):  # a Module, which is above this package
        make(fullgraph=fullgraph)
        return model
    return Compiled(model, fullgraph)


class Compiled:
    """A function that is compiled by `jit` for the calls that it can take; `program` is that."""

    def __init__(self, function: Callable[..., Any], fullgraph: bool) -> None:
        from . import jit

        self.function, self.fullgraph = function, fullgraph
        self.program: JitFunction = jit(function)
        self.is_eager = False  # it cannot be traced
        functools.update_wrapper(self, function, updated=())

    def needs_history(self, args: tuple[Any, ...], kwargs: dict[str, object]) -> bool:
        """Whether a gradient must flow through a call: one of its Tensors is part of a graph."""
        return any(x.requires_grad and not x.is_leaf for x in tensors([list(args), kwargs]))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_eager or current_trace() is not None:
            return self.function(*args, **kwargs)
        if is_grad_enabled() and self.needs_history(args, kwargs):
            return self.function(*args, **kwargs)
        try:
            return self.program(*args, **kwargs)
        except Untraceable as reason:
            if self.fullgraph:
                raise
            warnings.warn(
                f"[compile] {getattr(self.function, '__name__', 'the function')} runs eagerly, "
                f"because it cannot be traced: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            self.is_eager = True
            return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


__all__ = ["Compiled", "compile"]
