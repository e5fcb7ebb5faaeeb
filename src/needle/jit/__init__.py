"""A traced function becomes one native program: trace, graph, passes, plan, code.

The compiler's modules are imported when the first function is compiled, not with needle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..given import shown
from .compiling import compile

if TYPE_CHECKING:
    from .frontend.check import CheckError
    from .frontend.function import JitFunction
    from .frontend.trace import TraceError
    from .runtime.explain import Cost

__all__ = ["CheckError", "Cost", "JitFunction", "TraceError", "compile", "jit", "without_memory"]

T = TypeVar("T")


@overload
def jit(function: Callable[..., Any], *, memory: int | str | None = None) -> JitFunction: ...
@overload
def jit(*, memory: int | str | None = None) -> Callable[[Callable[..., Any]], JitFunction]: ...
def jit(function: Callable[..., Any] | None = None, *, memory: int | str | None = None) -> Any:
    """Compile `function`, which takes and returns Tensors, into one native program.

    It is traced at its first call, and again for arguments of other shapes or dtypes, for other
    plain Python values or objects among them, where other ones are the same object, and when the
    mode of a module (train, eval) or a hyperparameter other than the learning rate has changed.
    Tensors from outside that it reads are found by
    identity and read anew at every call; those whose data it replaces (parameters, moments, running
    statistics) are updated. Learning rates, schedules and NumPy's random numbers are taken up
    at every call. Gradients that an optimizer inside has applied are None afterwards; others are
    kept. The results carry no history: backward belongs inside. Everything else that the function
    does to Python objects happens at traces only.

    `memory` limits what a program takes: a number of bytes, or a text such as "2GB" or "512MiB".
    Arguments, parameters, moments, results and the arena count. To keep to it, values of the
    forward pass are computed again for the gradient; `explain` says how many, and what it costs.

    Raises TraceError, naming the line, where the function needs a value while it is traced, and
    TypeError for arguments that are neither Tensors nor hashable values. Without a C++ compiler, or
    with one that fails, it warns once and runs the function as it is. NEEDLE_JIT=off does so
    everywhere, NEEDLE_JIT=check runs both ways and raises CheckError where they differ. Where a
    call needs more than `memory`, it raises ValueError with the least that suffices, before
    anything runs.
    """
    from .frontend.function import JitFunction
    from .frontend.options import Options, bytes_of

    options = Options(None if memory is None else bytes_of(memory))
    if function is None:
        return lambda function: jit(function, memory=memory)
    if not callable(function) and not isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"[jit] needs a function, got {shown(function)}: write ndl.jit(f)(x)")
    return JitFunction(function, options)


def without_memory(function: Callable[[], T]) -> T:
    """What `function` returns when the arrays that it makes have shapes and dtypes, and no memory.

    It draws no random numbers either. What it returns must hold no array made inside. Raises
    TraceError, naming the line, where the function needs the value of one.
    """
    from .frontend.trace import Tracing

    returned: list[T] = []
    Tracing().run(lambda: returned.append(function()), (), {}, [])
    return returned[0]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .frontend import check, function, trace
    from .runtime import explain

    homes = {"CheckError": check, "Cost": explain, "JitFunction": function, "TraceError": trace}
    return getattr(homes[name], name)
