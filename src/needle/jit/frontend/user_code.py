"""The user's code: which functions, classes and modules are the user's, and what code names."""

from __future__ import annotations

import builtins
import dis
import os
import sys
import sysconfig
import types
from dataclasses import dataclass, field
from pathlib import Path

from ... import autograd
from .attributes import Attributes, is_mutable

_FOLDER = str(Path(autograd.__file__).resolve().parents[1])
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {_FOLDER}
)
_SITE_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_users(owner: object) -> bool:
    """Whether a module, class or function is the user's: a trace looks into it."""
    if isinstance(owner, types.FunctionType):
        return not _is_installed(owner.__code__.co_filename)
    if isinstance(owner, type):
        module = sys.modules.get(owner.__module__)
        return is_mutable(owner) and (module is None or is_users(module))
    file = getattr(owner, "__file__", None)
    if file is None:  # made by hand or by an interpreter, where it does not say how it was found
        return getattr(owner, "__spec__", None) is None
    return not _is_installed(file)


def _is_installed(file: str) -> bool:
    """Whether a file is Python's, needle's or an installed package's: no trace looks into it.

    Packages may come from elsewhere than this environment's own folders: from the user's, or from
    the environment below.
    """
    return file.startswith(_INSTALLED) or any(folder in file for folder in _SITE_PACKAGES)


@dataclass
class Names:
    """The names in the code of a function."""

    variables: list[str] = field(default_factory=list)  # global variables that it reads
    imports: list[str] = field(default_factory=list)  # modules that it imports itself
    attributes: set[str] = field(default_factory=set)  # any other name, also in a string


def names_in(code: types.CodeType, variables: Attributes) -> Names:
    """The names in the code and in the functions defined there; `variables` are its globals.

    A string counts as the name of an attribute, as in `getattr(C, "factor")`.
    """
    names = Names()
    texts = {x for x in code.co_consts if isinstance(x, str)}
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if name in variables or not hasattr(builtins, name):
                names.variables.append(name)
        elif instruction.opname == "IMPORT_NAME":
            names.imports.append(name)
    if "globals" in code.co_names:
        names.variables += texts & variables.keys()
    names.attributes |= {*code.co_names, *texts}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = names_in(constant, variables)
            names.variables += inner.variables
            names.imports += inner.imports
            names.attributes |= inner.attributes
    return names
