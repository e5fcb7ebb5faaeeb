"""`_core.pyi`, the types of the extension module, agrees with the module."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import needle as ndl
from needle.native import core

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

STUB = Path(ndl.__file__).parent / "_core.pyi"
PLAIN = {"int", "float", "bool", "str"}


def declared(tree: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """What a stub or one of its classes declares, by name."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("__")}


def signature(function: Any) -> ast.FunctionDef:
    """The signature that nanobind has written, as syntax."""
    ((text, *_),) = function.__nb_signature__
    text = re.sub(r"ndarray\[[^]]*\]", "object", text).replace("\\0", "None")
    (node,) = ast.parse(text + ": ...").body
    assert isinstance(node, ast.FunctionDef)
    return node


def parameters(node: ast.FunctionDef) -> list[tuple[str, str, bool]]:
    """Of each parameter the kind, the name where it can be used, and whether it has a default."""
    arguments = node.args
    plain = [
        *(("positional", "") for _ in arguments.posonlyargs),
        *(("named", argument.arg) for argument in arguments.args),
    ]
    required = len(plain) - len(arguments.defaults)
    found = [(kind, name, i >= required) for i, (kind, name) in enumerate(plain)]
    return found + ([("rest", "", False)] if arguments.vararg else [])


def plain_types(node: ast.FunctionDef) -> list[str]:
    """The annotations of the parameters and of the result."""
    every = [*node.args.posonlyargs, *node.args.args]
    return [ast.unparse(x) if x else "" for x in (*(a.annotation for a in every), node.returns)]


def check_function(stub: ast.stmt, function: Any) -> None:
    assert isinstance(stub, ast.FunctionDef)
    real = signature(function)
    assert parameters(stub) == parameters(real), stub.name
    for ours, theirs in zip(plain_types(stub), plain_types(real), strict=True):
        if theirs in PLAIN:
            assert ours == theirs, stub.name


TREE = ast.parse(STUB.read_text())


def test_declares_the_names_of_the_module():
    assert isinstance(core, ModuleType)
    assert public(declared(TREE)) == public(vars(core))


@pytest.mark.parametrize("name", [n.name for n in TREE.body if isinstance(n, ast.FunctionDef)])
def test_functions_have_the_parameters_of_the_module(name):
    check_function(declared(TREE)[name], getattr(core, name))


@pytest.mark.parametrize("name", [n.name for n in TREE.body if isinstance(n, ast.ClassDef)])
def test_classes_have_the_members_of_the_module(name):
    node, real = declared(TREE)[name], vars(getattr(core, name))
    assert isinstance(node, ast.ClassDef)
    stubs = declared(node)
    assert public(stubs) == public(real)
    for member, stub in stubs.items():
        if hasattr(real[member], "__nb_signature__"):
            check_function(stub, real[member])


def test_a_wrong_stub_is_found():
    for wrong in (
        "def cumsum(x: NDArray, axis: int, /) -> None: ...",
        "def cumsum(x: NDArray, axis: float, out: NDArray, /) -> None: ...",
        "def cumsum(x: NDArray, axis: int, out: NDArray) -> None: ...",
        "def cumsum(x: NDArray, axis: int, out: NDArray = ..., /) -> None: ...",
    ):
        with pytest.raises(AssertionError):
            check_function(ast.parse(wrong).body[0], core.cumsum)
