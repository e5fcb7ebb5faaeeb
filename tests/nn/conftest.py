"""Every test that takes `device` runs on each device that this machine has."""

import pytest

import needle as ndl


@pytest.fixture(params=[d for d in ndl.all_devices() if d.enabled()], ids=str)
def device(request):
    return request.param
