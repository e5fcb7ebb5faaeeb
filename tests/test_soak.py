"""The short forms of the soak tests in `benchmarks/soak`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needle.native import core

FOLDER = Path(__file__).parents[1] / "benchmarks" / "soak"
# `kill_and_resume` has its short form in tests/train/test_kill.py.
TESTS = sorted(path.stem for path in FOLDER.glob("*_*.py") if path.stem != "kill_and_resume")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or core is None or shutil.which("c++") is None,
    reason="they need the C++ core, a compiler, and /proc and the signals of Linux",
)


@pytest.mark.parametrize("name", TESTS)
def test_short(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--short"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed in" in done.stdout
