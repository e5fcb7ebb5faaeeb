"""Settings as TOML, which Python reads (`tomllib`) and does not write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any


def dumps(settings: Mapping[str, Any]) -> str:
    """Nested dicts of texts, numbers, bools and lists of them as a TOML document.

    None is left out: TOML has no word for it. Raises TypeError, which names the place, for other
    values.

    Examples
    --------
    >>> print(dumps({"model": {"name": "gpt", "width": 128}}), end="")
    [model]
    name = "gpt"
    width = 128
    """
    return "\n".join(_tables(settings, ())).lstrip("\n") + "\n"


def _tables(settings: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    given = {key: value for key, value in settings.items() if value is not None}
    tables = {key: value for key, value in given.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in given.items() if key not in tables}
    if path and (plain or not tables):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value, (*path, key))}"
    for key, table in tables.items():
        yield from _tables(table, (*path, key))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item, path) for item in value)}]"
    if isinstance(value, Mapping):
        entries = (f"{_key(k)} = {_value(v, (*path, k))}" for k, v in value.items())
        return f"{{{', '.join(entries)}}}"
    raise TypeError(
        f"[config] {'.'.join(path)} is a {type(value).__name__}, which TOML cannot hold"
    )
