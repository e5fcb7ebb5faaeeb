"""The short form of `benchmarks/soak/kill_and_resume.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak" / "kill_and_resume.py"


def test_a_run_that_is_killed_at_random_moments_ends_as_the_undisturbed_one() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "digits", "--kills", "3", "--epochs", "12"],
        env={**os.environ, "NEEDLE_JIT": "off"}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["kills"] == 3
