"""Names of modules that are imported when they are asked for, and errors for names that are not
there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

# Modules of PyTorch, and what has their names here.
TORCH: dict[str, str] = {}


class AbsentName(AttributeError):
    """A module has no such name; the text says why, or which one was meant.

    `hasattr` and `getattr` with a default ask for names that are not there, and need no text. So
    it is made when it is read.
    """

    def __init__(self, module: str, name: str) -> None:
        super().__init__(module, name, name=name, obj=sys.modules[module])
        self.module = module

    def __str__(self) -> str:
        from .absent_names import explained

        name = str(self.name)
        why = explained(TORCH[self.module], name, sys.modules[self.module].__all__)
        return f"module {self.module!r} has no attribute {name!r}{why}"

    def __reduce__(self) -> tuple[type[AbsentName], tuple[str, str]]:
        return AbsentName, (self.module, str(self.name))


def names_of(
    module: str, torch_module: str, late: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a module, for names that it does not have yet (PEP 562).

    Parameters
    ----------
    module : str
        The module's `__name__`.
    torch_module : str
        The module of PyTorch that has its names, for the errors.
    late : dict of str to str, optional
        Names that are imported when they are asked for, each with the module that has it, as in
        ".io"; a module that has the name of the attribute is itself meant.

    Returns
    -------
    callable
        Takes a name. Raises AttributeError, and ImportError in `from module import name`.
    """
    TORCH[module] = torch_module
    places = dict(late or {})

    def find(name: str) -> Any:
        if name in places:
            found = import_module(places[name], module)
            if places[name] != f".{name}":
                found = getattr(found, name)
            setattr(sys.modules[module], name, found)
            return found
        error = AbsentName(module, name)
        if not name.startswith("_") and _is_imported():
            # Python would replace an AttributeError, and lose the text.
            raise ImportError(f"cannot import name {name!r}: {error}", name=module)
        raise error

    return find


def _is_imported() -> bool:
    """Whether the caller's caller runs `from module import name`."""
    from opcode import opmap

    frame = sys._getframe(2)
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
