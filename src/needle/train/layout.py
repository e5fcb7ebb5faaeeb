"""Whether tensors are those of a model, found out without building it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from ..jit import without_memory
from ..typing import Json
from .tasks import make_model

Layout: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype]]
_COUNTS_OF_LAYERS = ("num_blocks", "num_layers")  # the options that say how often to repeat one
_SHOWN = 5  # problems in a message


def check_fit(name: str, options: Json, tensors: Mapping[str, Any]) -> None:
    """Raise ValueError unless the model `name` made with `options` has these tensors.

    Takes no memory, however large the options would make the model.
    """
    layout = _layout(name, options, most=len(tensors))
    problems = [f"{name!r} is missing" for name in layout if name not in tensors]
    problems += [f"{name!r} is unexpected" for name in tensors if name not in layout]
    for key, (shape, dtype) in layout.items():
        found = tensors.get(key)
        if found is None:
            continue
        if tuple(found.shape) != shape:
            problems.append(f"{key!r} has shape {tuple(found.shape)}, its options make it {shape}")
        elif np.dtype(found.dtype).kind != np.dtype(dtype).kind:
            problems.append(f"{key!r} is {found.dtype}, expected {dtype}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(map(short, problems[:_SHOWN]))
        raise ValueError(f"its tensors: {shown}{more}")


def _layout(name: str, options: Json, most: int) -> Layout:
    """The shape and dtype of each of a model's tensors, of which there should be `most`."""
    for option in _COUNTS_OF_LAYERS:
        count = options.get(option, 0)
        if type(count) is not int or not 0 <= count <= most:
            raise ValueError(
                f"its {option} is {short(repr(count))}, which does not fit its {most} tensors"
            )

    def layout() -> Layout:
        model = make_model(name, options)
        return {key: (tensor.shape, tensor.dtype) for key, tensor in model.state_dict().items()}

    try:
        return without_memory(layout)
    except Exception as error:  # what layers make of arguments that are none is of many kinds
        raise ValueError(f"its options make no {short(name)}: {short(error)}") from None


def short(text: object) -> str:
    """The text in one line of a message, cut off where a damaged file makes it endless."""
    return " ".join(str(text).split())[:200]
