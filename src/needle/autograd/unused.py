"""Gradients that a second backward pass replaced before anything had used them.

PyTorch would have added the second to the first, which programs do on purpose to make large batches
of small ones. The optimizer that takes the step says so, once a process: only there is it certain
that the sum was wanted.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..differences import tell
from .tracing import current_trace

if TYPE_CHECKING:
    from .value import Value

# The values that have lost a gradient since their gradient was None, by their ids.
lost: dict[int, weakref.ref[Value]] = {}


def is_unread(value: Value) -> bool:
    """Whether it has a gradient of a backward pass that nothing has read."""
    return value._grad is not None and getattr(value, "_unread", False)


def note_lost(value: Value) -> None:
    """Note that a gradient of `value` which nothing has read is being replaced."""
    lost[id(value)] = weakref.ref(value)


def tell_of_lost(name: str, values: Iterable[Value]) -> None:
    """Warn where one of `values`, which the optimizer `name` updates, has lost a gradient."""
    trace = current_trace()
    lost_inside = () if trace is None else trace.lost_gradients
    if not lost and not lost_inside:
        return
    for value in values:
        reference = lost.pop(id(value), None)
        if id(value) in lost_inside or (reference is not None and reference() is value):
            tell(
                "replaced gradient",
                f"[{name}] step uses the gradients of the last backward() alone: it has replaced "
                "those of the one before, to which PyTorch adds. Write "
                "loss.backward(accumulate=True) for their sum, or call zero_grad() before "
                "backward() if the last one is meant",
                stacklevel=3,
            )
