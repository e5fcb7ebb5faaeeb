"""What all tests share: devices, hypothesis profiles, the data sets of NEEDLE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import needle as ndl

# Examples are drawn from a fixed seed, so that a red run is red again; `search` draws new ones.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("short", settings.get_profile("default"), max_examples=15)
settings.register_profile(
    "search", settings.get_profile("default"), derandomize=False, max_examples=1000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

DEVICES = [d for d in ndl.all_devices() if d.enabled()]


@pytest.fixture(params=DEVICES, ids=str)
def device(request: pytest.FixtureRequest) -> ndl.Device:
    """Every device that this machine has."""
    return request.param


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the full data sets."""
    folder = os.environ.get("NEEDLE_DATA")
    if not folder:
        pytest.skip("needs the full data sets: set NEEDLE_DATA to their folder")
    return Path(folder)
