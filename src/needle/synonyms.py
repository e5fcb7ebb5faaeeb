"""Names of arguments that mean the same: NumPy's, PyTorch's and the course's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

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


def accepts_synonyms(function: _Function) -> _Function:
    """The function, taking an argument by any of its names: `x.mean(dim=1)` is `x.mean(axis=1)`.

    With its `__init__` decorated a class accepts them: `nn.Softmax(dim=1)`. `out=None` and
    `dtype=None` are dropped unless the function has them: NumPy's functions pass them on, as
    `np.mean(x)` does. Raises TypeError for an argument that is given under two names.
    """
    names = Names(function)

    @functools.wraps(function)
    def call(*args: object, **options: object) -> object:
        return function(*args, **(names.translated(options) if options else options))

    return call  # type: ignore[return-value]


class Names:
    """The names of a function's parameters, and what else they are called."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        self.parameters = inspect.signature(function).parameters
        self.own = self.parameters.keys()
        self.others: dict[str, str] = {}
        for names in SYNONYMS:
            own = [name for name in names if name in self.own]
            # Of two names that mean different things, as in `max`, the first is meant.
            self.others.update((other, own[0]) for other in names if own and other not in own)

    def translated(self, options: dict[str, object]) -> dict[str, object]:
        """Keyword arguments under the function's own names."""
        if not self.others or options.keys() <= self.own:
            return options
        first: dict[str, str] = {}  # the name under which each was given
        translated: dict[str, object] = {}
        for given, value in options.items():
            name = self.others.get(given, given)
            if name in translated:
                raise TypeError(
                    f"[{self.function}] {first[name]} and {given} are two names of one argument; "
                    "give it once"
                )
            if name in self.own or given not in ("out", "dtype") or value is not None:
                first[name], translated[name] = given, value
        return translated
