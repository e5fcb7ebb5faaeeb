"""Checks of the arguments that layers have in common; each returns the value it accepts."""

from __future__ import annotations

import math
from typing import TypedDict

from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..given import shown
from ..typing import DTypeLike, Scalar


class Placement(TypedDict):
    """The device and the dtype of a layer's parameters, handed on to the layers inside."""

    device: Device | str | None
    dtype: DTypeLike | None


# The axes after the channels of an input with one, two or three of them, as errors write them.
SPATIAL_AXES = ("L", "H, W", "D, H, W")


def positive_int(layer: str, name: str, value: object) -> int:
    """`value` as an int ≥ 1. Raises TypeError or ValueError that names layer and argument."""
    number = whole(value, layer, name)
    if number < 1:
        raise ValueError(f"[{layer}] {name} must be at least 1, got {number}")
    return number


def in_unit_interval(layer: str, name: str, value: Scalar) -> float:
    """`value` as a float in [0, 1]."""
    number = finite(layer, name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"[{layer}] {name} must be in [0, 1], got {value}")
    return number


def non_negative(layer: str, name: str, value: Scalar) -> float:
    """`value` as a finite float ≥ 0."""
    number = finite(layer, name, value)
    if number < 0:
        raise ValueError(f"[{layer}] {name} must not be negative, got {value}")
    return number


def at_least_zero(layer: str, name: str, value: Scalar) -> float:
    """`value` as a float ≥ 0, which may be infinite."""
    if isinstance(value, (float, int)) and value == math.inf:
        return math.inf
    return non_negative(layer, name, value)


def positive(layer: str, name: str, value: Scalar) -> float:
    """`value` as a finite float > 0."""
    number = finite(layer, name, value)
    if number <= 0:
        raise ValueError(f"[{layer}] {name} must be positive, got {value}")
    return number


def finite(layer: str, name: str, value: Scalar) -> float:
    """`value` as a finite float."""
    try:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"[{layer}] {name} must be a number, got {shown(value)}") from None
    if not math.isfinite(number):
        raise ValueError(f"[{layer}] {name} must be finite, got {value}")
    return number


def one_of(layer: str, name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"[{layer}] {name} must be one of {', '.join(choices)}, got {value!r}")
    return value
