"""What is checked of numbers among arguments."""

from __future__ import annotations

from numbers import Integral, Real

from ..given import shown


def check_number(
    what: str, name: str, value: object, *, least: float = 0, whole: bool = True
) -> None:
    """Raises ValueError unless `value` is a number, a whole one by default, of at least `least`."""
    is_one = isinstance(value, Real) and not isinstance(value, bool) and float(value) >= least
    if not is_one or (whole and not isinstance(value, Integral)):
        kind = "an int" if whole else "a number"
        raise ValueError(f"[{what}] {name} must be {kind} of at least {least}, got {shown(value)}")
