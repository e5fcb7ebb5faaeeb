"""Writes `src/needle/autograd/methods.pyi`: the signatures of the functions that Tensors have as
methods, for type checkers and editors. `needle.ops._methods` has the tables.

    python tools/method_stubs.py            write the file
    python tools/method_stubs.py --check    exit with 1 where it is not up to date
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import get_overloads

from needle import ops
from needle.ops._methods import IN_PLACE, METHODS, names_of

FILE = Path(__file__).parents[1] / "src" / "needle" / "autograd" / "methods.pyi"
HEAD = '''"""Written by tools/method_stubs.py from the tables of `needle.ops._methods`."""

import builtins
from collections.abc import Sequence
from typing import Self, overload

from ..operands import ArrayLike, Operand
from ..ops._named import MinMax, ValuesIndices
from ..typing import Axis, DTypeLike, Scalar, ShapeLike
from .tensor import Tensor
from .value import Value

class Methods(Value):
'''
# Methods of these names would be taken for the builtin types in later signatures.
BUILTINS = ("bool", "float", "int")
BOOL = "builtins.bool"


def method(name: str, function: object, in_place: bool = False) -> str:
    """The signature of a function as a method."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parts, star = ["self"], False
    for parameter in list(signature.parameters.values())[1:]:
        annotation = str(parameter.annotation)
        for builtin in BUILTINS:
            annotation = " ".join(
                f"builtins.{word}" if word == builtin else word for word in annotation.split(" ")
            )
        default = "" if parameter.default is parameter.empty else " = ..."
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}: {annotation}")
            star = True
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        parts.append(f"{parameter.name}: {annotation}{default}")
    given = signature.parameters
    own = [name for name in given if name in ("axis", "axes", "keepdims") and "dim" not in given]
    others = {
        "axis": "dim: Axis = ...",
        "axes": "dims: Axis = ...",
        "keepdims": f"keepdim: {BOOL} = ...",
    }
    if own and any("..." in part for part in parts if part.split(":")[0] in own):
        parts += [] if star else ["*"]
        parts += [others[name] for name in own]
    result = "Self" if in_place else str(signature.return_annotation)
    result = "builtins.bool" if result == "bool" else result
    return f"    def {name}({', '.join(parts)}) -> {result}: ...\n"


def forms(name: str, function: object, in_place: bool = False) -> str:
    """`method`, for each of the forms of a function whose result depends on its arguments."""
    overloads = get_overloads(inspect.unwrap(function))  # type: ignore[arg-type]
    if not overloads:
        return method(name, function, in_place)
    return "".join(f"    @overload\n{method(name, form)}" for form in overloads)


def stubs() -> str:
    """The text of the file."""
    lines = [forms(each, getattr(ops, name)) for name in METHODS for each in names_of(name)]
    lines += [
        method(each + "_", getattr(ops, name), True) for name in IN_PLACE for each in names_of(name)
    ]
    return HEAD + "".join(sorted(set(lines)))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(FILE.read_text() != stubs())
    FILE.write_text(stubs())
