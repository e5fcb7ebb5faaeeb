"""Options by name, checked against the signature of the function that takes them."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..typing import Json

PLAIN = (bool, int, float, str, list, tuple)


def options_of(function: Callable[..., Any]) -> Json:
    """The keyword options of a function that a configuration can hold, with their defaults.

    Options without a default are None here.

    Examples
    --------
    >>> from needle.models import GPT
    >>> options_of(GPT)["width"]
    128
    """
    return {
        name: None if p.default is p.empty else _as_list(p.default)
        for name, p in inspect.signature(function).parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and name not in ("self", "device", "dtype")
        and (p.default is p.empty or p.default is None or isinstance(p.default, PLAIN))
    }


def takes_any_option(function: Callable[..., Any]) -> bool:
    """Whether a function has `**options`."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def check_options(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> Json:
    """`given` with numbers in the types of the function's options.

    Raises ValueError for an unknown name, with the nearest ones, and TypeError for a value of
    another type; both begin with `what`.
    """
    known = options_of(function)
    kinds = _kinds(function)
    if not takes_any_option(function):
        for name in given:
            if name not in known:
                raise ValueError(unknown(what, "option", name, known))
    return {
        name: converted(value, kinds.get(name), f"{what}: {name}") for name, value in given.items()
    }


def unknown(what: str, kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones; it names the nearest."""
    known = list(known)
    lasts = {key: key.rpartition(".")[2] for key in known}  # "lr" of "training.lr"
    near = difflib.get_close_matches(name.rpartition(".")[2], lasts.values(), n=3)
    close = [key for key in known if lasts[key] in near][:3]
    close = close or difflib.get_close_matches(name, known, n=3)
    hint = (
        f"did you mean {' or '.join(close)}?" if close
        else f"known are {', '.join(known)}" if known else "there are none"
    )  # fmt: skip
    return f"{what} has no {kind} {name!r}; {hint}"


def converted(value: Any, kind: type | None, what: str) -> Any:
    """A value of a configuration as `kind`. Raises TypeError, which begins with `what`."""
    if kind is None or (type(value) is kind):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    raise TypeError(f"{what} must be {_named(kind)}, got {value!r}")


def _named(kind: type) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, f"a {kind.__name__}")


def _kinds(function: Callable[..., Any]) -> dict[str, type]:
    """The types of a function's options: those annotated, or those of the defaults."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        annotated = typing.get_type_hints(target)
    except Exception:  # annotations of the user's own code may name anything
        annotated = {}
    kinds = {name: _plain(annotation) for name, annotation in annotated.items()}
    for name, default in options_of(function).items():
        if kinds.get(name) is None and default is not None:
            kinds[name] = type(default)
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _plain(annotation: Any) -> type | None:
    """The plain type that an annotation stands for, also `int` of `int | None`."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _plain(members[0]) if len(members) == 1 else None
    kind = typing.get_origin(annotation) or annotation
    if kind in (tuple, Sequence):
        return list
    return kind if kind in PLAIN else None


def _as_list(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default
