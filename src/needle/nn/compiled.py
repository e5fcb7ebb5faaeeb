"""Modules whose calls are compiled where no gradient is recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..jit.compiling import Compiled


class CompiledCalls(Compiled):
    """The calls of a Module, which is the first argument."""

    def __init__(self, call: Callable[..., Any], fullgraph: bool) -> None:
        super().__init__(call, fullgraph)
        self._has_warned = False

    def needs_history(self, args: tuple[Any, ...], kwargs: dict[str, object]) -> bool:
        """Whether a gradient must flow through a call, to a parameter or to an argument."""
        module, *given = args
        if not any(p.requires_grad for p in module.parameters()):
            return super().needs_history(tuple(given), kwargs)
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"[compile] calls of {type(module).__name__} that are to be differentiated run "
                "eagerly: compile a function of the whole training step, which calls backward and "
                "optimizer.step, with ndl.jit",
                RuntimeWarning,
                stacklevel=4,
            )
        return True
