"""Times as people write them: 90, 90s, 5m, 2h, 1h30m, 3d."""

from __future__ import annotations

import re

import typer

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|)")


def seconds_of(text: str) -> float:
    """The seconds of a duration. Raises typer.BadParameter for what is none.

    >>> seconds_of("1h30m"), seconds_of("45")
    (5400.0, 45.0)
    """
    compact = text.strip().lower().replace(" ", "")
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise typer.BadParameter(f"{text!r} is no time; write 90s, 5m, 2h or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
