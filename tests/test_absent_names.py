"""Errors for names that modules do not have: why they are absent, or which one was meant."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import subprocess
import sys
from types import ModuleType

import pytest

import needle as ndl
from needle import data, distributions, fft, linalg, nn, optim
from needle.absent_names import INSTEAD
from needle.module_names import TORCH, AbsentName
from needle.nn import functional
from needle.optim import lr_scheduler

ABSENT = [
    (ndl, "vmap", "write a batch axis"),
    (ndl, "multiprocessing", "write data.DataLoader"),
    (ndl, "int8", "write ndl.int32"),
    (ndl, "quantize_per_tensor", "quantized Tensors"),
    (data, "DistributedSampler", "several machines"),
    (nn, "Buffer", "write self.register_buffer"),
    (linalg, "eig", "complex Tensors"),
    (ndl, "sofmax", "did you mean softmax"),
    (nn, "Conv2D", "did you mean Conv2d"),
    (nn, "CrosEntropyLoss", "did you mean CrossEntropyLoss"),
    (functional, "cross_entopy", "did you mean cross_entropy"),
    (nn.init, "kaimin_uniform_", "did you mean kaiming_uniform_"),
    (optim, "Adamw", "did you mean AdamW"),
    (lr_scheduler, "StepLr", "did you mean StepLR"),
    (data, "Dataloader", "did you mean DataLoader"),
    (distributions, "Normall", "did you mean Normal"),
    (fft, "ffft", "did you mean fft"),
]


@pytest.mark.parametrize("case", ABSENT, ids=lambda case: f"{case[0].__name__}.{case[1]}")
def test_what_an_absent_name_says(case: tuple[ModuleType, str, str]) -> None:
    module, name, says = case
    if hasattr(module, name):
        pytest.fail(f"{name} is there: take another one")
    with pytest.raises(AttributeError) as error:
        getattr(module, name)
    assert says in str(error.value)
    assert error.value.name == name
    with pytest.raises(ImportError) as missing:
        exec(f"from {module.__name__} import {name}")
    assert says in str(missing.value)


@pytest.mark.parametrize("module", sorted(TORCH))
def test_protocols_of_modules(module: str) -> None:
    found = importlib.import_module(module)
    assert not hasattr(found, "no_such_name")
    assert getattr(found, "no_such_name", 1) == 1
    assert not hasattr(found, "__wrapped__")
    with pytest.raises(AttributeError, match=r"no attribute '__path_of__'$"):
        found.__path_of__  # noqa: B018
    assert inspect.getdoc(found)
    assert set(found.__all__) <= set(dir(found)) | set(vars(found))
    space: dict[str, object] = {}
    exec(f"from {module} import *", space)
    assert set(found.__all__) <= space.keys()


def test_what_is_there_needs_no_advice() -> None:
    for module, theirs in TORCH.items():
        found = importlib.import_module(module)
        there = [name for name in INSTEAD.get(theirs, ()) if hasattr(found, name)]
        assert not there, f"{module} has {there}: take them out of INSTEAD"


def test_the_error_can_be_copied_and_sent() -> None:
    error = AbsentName("needle", "sofmax")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(other) == str(error)
        assert "softmax" in str(other)


def test_a_submodule_that_is_there_is_imported() -> None:
    from needle.nn import linear, module  # files, which are no attributes before

    assert linear.Linear is nn.Linear
    assert module.Module is nn.Module


def test_the_tables_are_read_by_errors_alone() -> None:
    code = (
        "import sys, needle; hasattr(needle, 'vmap'), getattr(needle.nn, 'Foo', None); "
        "assert not {'needle.absent_names', 'needle.torch_namespace', 'difflib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
