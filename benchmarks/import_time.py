"""What `import needle` costs over `import numpy`.

python benchmarks/import_time.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

ROUNDS = 15
TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """How long a fresh interpreter takes to import `module`."""
    # With compiled bytecode, as after any installation.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Alternate the two imports and print medians."""
    seconds("needle")
    pairs = [(seconds("numpy"), seconds("needle")) for _ in range(ROUNDS)]
    numpy, needle = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"import numpy  {numpy:6.1f} ms\nimport needle {needle:6.1f} ms")
    print(f"difference    {needle - numpy:6.1f} ms (target: at most 60 ms)")


if __name__ == "__main__":
    main()
