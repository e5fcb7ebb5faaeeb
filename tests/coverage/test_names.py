"""The published list of PyTorch's names is true."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_list_of_names_is_up_to_date() -> None:
    pytest.importorskip("torch", minversion="2.13")
    spec = importlib.util.spec_from_file_location("torch_names", ROOT / "tools/torch_names.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # In a process of its own: PyTorch has more names when it has been used.
    check = [sys.executable, str(ROOT / "tools/torch_names.py"), "--check"]
    assert subprocess.run(check).returncode == 0, "run python tools/torch_names.py"
    for group, differs in module.DIFFERS.items():
        names, ours = module.GROUPS[group]
        assert set(differs) <= set(names)
        assert all(hasattr(ours, name) for name in differs)
