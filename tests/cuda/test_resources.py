"""The record of what every kernel takes of a GPU is kept true."""

from __future__ import annotations

import warnings

import pytest

from benchmarks import cuda_resources
from needle.backend_ndarray.device_cuda import compiler


def test_the_record_of_registers(nvrtc):
    written = cuda_resources.record()
    now = cuda_resources.measured(("sm_90",))
    for name, by_architecture in now.items():
        assert by_architecture["sm_90"]["spilled"] == 0, name
    if written["nvrtc"] != compiler.version():
        pytest.skip(f"the record is of NVRTC {written['nvrtc']}")
    changed = cuda_resources.changes(now, written["kernels"])
    if changed:
        warnings.warn(
            "\n".join(["python benchmarks/cuda_resources.py --write", *changed]), stacklevel=1
        )


def test_what_is_reported():
    used = {"registers": 30, "shared": 0, "spilled": 0, "stack": 0}
    before = {"a": {"sm_80": used, "sm_90": used}, "b": {"sm_90": used}}
    now = {
        "a": {"sm_80": {**used, "registers": 32}, "sm_90": {**used, "registers": 34}},
        "c": {"sm_90": used},
    }
    assert cuda_resources.changes(now, before) == [
        "b: gone", "a, sm_90: registers 30 -> 34", "c: new",
    ]  # fmt: skip
