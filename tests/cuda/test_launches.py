"""How many kernels a compiled training step is, and what they take of a GPU."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .test_compile import resources

# Kernels of a step at most: no change to the passes or to the fusion may make them more.
MOST = {"two_layer": 9, "mlp_resnet": 39, "lstm": 37, "gpt": 98, "resnet9": 49}


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that counts them."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    return importlib.import_module("benchmarks.cuda_launches")


@pytest.mark.parametrize("name", MOST)
def test_a_step_has_few_kernels(name, launches):
    counter = launches.record(launches.CASES[name]())
    assert len(counter.launches) <= MOST[name]
    assert counter.copies == 0


@pytest.mark.parametrize(
    ("name", "architecture"), [("mlp_resnet", "sm_80"), ("gpt", "sm_90"), ("resnet9", "sm_100")]
)
def test_generated_kernels_spill_nothing(name, architecture, launches, nvrtc):
    counter = launches.record(launches.CASES[name]())
    for source, what in counter.sources.items():
        if "program_runtime.cuh" in source:
            used = resources(source, architecture)
            assert used["spilled"] == used["stack"] == 0, what
            assert used["shared"] <= 16 * 1024, what
