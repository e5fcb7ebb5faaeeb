"""Names of arguments that mean the same: NumPy's, PyTorch's and the course's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar, cast

# Arguments by which PyTorch asks for speed or a layout, and which change no value.
HINTS = frozenset({"memory_format", "layout", "pin_memory", "only_inputs", "non_blocking"})

_Function = TypeVar("_Function", bound=Callable[..., object])

SYNONYMS = (
    ("axis", "axes", "dim", "dims"),
    ("keepdims", "keepdim"),
    ("correction", "ddof", "unbiased"),
    ("offset", "diagonal"),
    ("axis0", "dim0"),
    ("axis1", "dim1"),
    ("axis2", "dim2"),
    ("start_axis", "start_dim"),
    ("end_axis", "end_dim"),
    ("ord", "p"),
    ("num_heads", "num_head", "nhead"),
    ("mask", "attn_mask"),
    ("causal", "is_causal"),
    ("anneal", "anneal_strategy"),
    ("input", "x", "logits", "log_probabilities"),
)

_SYNONYMS_OF = {name: names for names in SYNONYMS for name in names}
_VARARGS, _VARKEYWORDS = 0x04, 0x08  # of a code object: it has *args, **options


def accepts_synonyms(function: _Function) -> _Function:
    """The function, taking an argument by any of its names: `x.mean(dim=1)` is `x.mean(axis=1)`.

    With its `__init__` decorated a class accepts them: `nn.Softmax(dim=1)`. `out=None` and
    `dtype=None` are dropped unless the function has them: NumPy's functions pass them on, as
    `np.mean(x)` does. So are `HINTS`. Raises TypeError for an argument under two names.
    """
    names = Names(function)

    @functools.wraps(function)
    def call(*args: object, **options: object) -> object:
        return function(*args, **(names.translated(options) if options else options))

    return call  # type: ignore[return-value]


def parameter_names(function: Callable[..., object]) -> tuple[str, ...]:
    """The names of the parameters, in their order; `inspect.signature` is too slow for imports."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = cast(FunctionType, function).__code__
    positional, end = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names, more = code.co_varnames, end
    starred = names[more : more + bool(code.co_flags & _VARARGS)]
    more += len(starred)
    options = names[more : more + bool(code.co_flags & _VARKEYWORDS)]
    return names[:positional] + starred + names[positional:end] + options


class Names:
    """The names of a function's parameters, and what else they are called."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        self.parameters = parameter_names(function)
        self.own = frozenset(self.parameters)
        self.others: dict[str, str] = {}
        for names in {_SYNONYMS_OF[name]: None for name in self.parameters if name in _SYNONYMS_OF}:
            # Of two names that mean different things, as in `max`, the first is meant.
            meant = next(name for name in names if name in self.own)
            self.others.update((other, meant) for other in names if other not in self.own)

    def translated(self, options: dict[str, object]) -> dict[str, object]:
        """Keyword arguments under the function's own names."""
        if options.keys() <= self.own:
            return options
        first: dict[str, str] = {}  # the name under which each was given
        translated: dict[str, object] = {}
        for given, value in options.items():
            if given in HINTS and given not in self.own:
                continue
            name = self.others.get(given, given)
            if name in translated:
                raise TypeError(
                    f"[{self.function}] {first[name]} and {given} are two names of one argument; "
                    "give it once"
                )
            if name in self.own or given not in ("out", "dtype") or value is not None:
                first[name], translated[name] = given, value
        return translated
