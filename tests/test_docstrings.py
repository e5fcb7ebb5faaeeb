"""Public docstrings: their examples run, and their parameters are those of the signature."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from needle import data, fft, init, linalg, nn, ops, optim, profiler
from needle.autograd import Tensor
from needle.nn.module_attributes import ModuleAttributes
from needle.nn.module_hooks import ModuleHooks
from needle.nn.module_state import ModuleState
from needle.train import callbacks, metrics

LAYERS = {
    f"nn.{name}": value
    for name, value in ((name, getattr(nn, name)) for name in nn.__all__)
    if inspect.isclass(value) and issubclass(value, nn.Module) and value is not nn.Module
}
OPTIM = {f"optim.{name}": getattr(optim, name) for name in optim.__all__}
OPS = {
    f"ops.{name}": value
    for name, value in ((name, getattr(ops, name)) for name in ops.__all__)
    if inspect.isfunction(value)
}
# Named tuples, and base classes.
RESULTS = (
    "QR",
    "SVD",
    "Eigh",
    "LeastSquares",
    "SlogDet",
    "ImageTransform",
    "Compose",
    "LearningRates",
)
FAMILIES = {
    f"{module.__name__.removeprefix('needle.')}.{name}": getattr(module, name)
    for module in (data.vision, fft, linalg, callbacks, metrics)
    for name in module.__all__
    if name not in RESULTS
}
INIT = {f"init.{name}": getattr(init, name) for name in init.__all__}
DATA = {f"data.{name}": getattr(data, name) for name in data.__all__ if name != "vision"}
PROFILER = {
    f"profiler.{name}": getattr(profiler, name)
    for name in profiler.__all__
    if not name.startswith("Profiler")  # enumerations
}
MODULE = {
    f"nn.Module.{name}": value
    for cls in (ModuleState, ModuleAttributes, ModuleHooks, nn.Module)
    for name, value in vars(cls).items()
    if inspect.isfunction(value) and (not name.startswith("_") or name == "__call__")
}
DOCUMENTED: dict[str, Any] = (
    LAYERS
    | OPTIM
    | OPS
    | INIT
    | DATA
    | PROFILER
    | MODULE
    | FAMILIES
    | {"nn.Module": nn.Module, "nn.Hook": nn.Hook}
)
# Their examples would need files or a subclass.
WITHOUT_EXAMPLE = {
    "data.CIFAR10Dataset", "data.Corpus", "data.ImageFolder", "data.MNISTDataset", "data.cifar10",
    "data.mnist", "data.parse_mnist", "data.shakespeare", "data.vision.ToPILImage", "nn.Hook",
    "nn.Module.__call__", "nn.Module.forward",
}  # fmt: skip
METHODS = {
    f"Tensor.{name}": value
    for name, value in vars(Tensor).items()
    if inspect.isfunction(value) and not name.startswith("_")
}
DOCUMENTED |= METHODS


def section(doc: str, title: str) -> str | None:
    """The text of a section of a NumPy docstring, or None."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return found and found[1]


def documented_parameters(doc: str) -> list[str] | None:
    """The names in the section Parameters, or None."""
    text = section(doc, "Parameters")
    if text is None:
        return None
    names = re.findall(r"^(\S[^:]*) : ", text, re.MULTILINE)
    return [name.strip(" *") for line in names for name in line.split(",")]


def parameters(function: Any) -> list[str]:
    """The names in the signature, in order, without the object that a method is called on."""
    names = list(inspect.signature(function).parameters)
    return names[1:] if names[:1] == ["self"] or function in METHODS.values() else names


def methods(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The object itself, and of a class also its own and inherited `forward`."""
    yield name, value
    if inspect.isclass(value) and hasattr(value, "forward") and value is not nn.Module:
        yield f"{name}.forward", value.forward


@pytest.mark.parametrize("name", OPS)
def test_ops_say_what_they_return(name: str) -> None:
    assert section(inspect.getdoc(OPS[name]) or "", "Returns")


@pytest.mark.parametrize("name", sorted(DOCUMENTED.keys() - WITHOUT_EXAMPLE))
def test_has_an_example_that_runs(name: str) -> None:
    doc = inspect.getdoc(DOCUMENTED[name]) or ""
    example = section(doc, "Examples")
    assert example is not None
    test = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    assert len(test.examples) > 1
    assert len(example.strip().split("\n")) <= 7, "an import and at most six lines"
    report: list[str] = []
    failures = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not failures.failed, "".join(report)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documents_the_parameters_it_has(name: str) -> None:
    for where, function in methods(name, DOCUMENTED[name]):
        doc = inspect.getdoc(function)
        assert doc, where
        assert re.match(r"[^\n]*\.(\n\n|\Z)", doc), f"{where}: the summary is one sentence"
        given = documented_parameters(doc)
        if given is not None:
            assert given == parameters(function), where
        elif where == name:  # a forward of `x` alone may say so in a sentence
            assert not parameters(function), where
        else:
            assert parameters(function) == ["x"], where
