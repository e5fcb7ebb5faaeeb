"""How many kernels a compiled training step is."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

# Kernels of a step at most: no change to the passes or to the fusion may make them more.
MOST = {"two_layer": 25, "mlp_resnet": 186, "lstm": 154, "gpt": 331, "resnet9": 238}


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that counts them."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.setenv("NEEDLE_CUDA_MATMUL", "own")
    return importlib.import_module("benchmarks.cuda_launches")


@pytest.mark.parametrize("name", MOST)
def test_a_step_has_few_kernels(name, launches):
    counter = launches.record(launches.CASES[name]())
    assert len(counter.launches) <= MOST[name]
    assert counter.copies == 0
