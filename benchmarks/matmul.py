"""The float32 matrix product against NumPy, PyTorch, JAX and the machine's measured peak.

python benchmarks/matmul.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import alternate, jax_or_none, print_table, torch_or_none

import needle as ndl
from needle.native import core

SHAPES = ((100, 784, 100), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048))
TARGETS = {
    (100, 784, 100): "ratio <= 1.0",
    (1024, 1024, 1024): ">= 88 % of peak",
    (2048, 2048, 2048): ">= 88 % of peak",
}


def contenders(a: np.ndarray, b: np.ndarray) -> dict[str, Callable[[], object]]:
    """The product of the same matrices by each library that is installed."""
    x, y = ndl.array_api.array(a), ndl.array_api.array(b)
    found: dict[str, Callable[[], object]] = {"needle": lambda: x @ y, "NumPy": lambda: a @ b}
    if (torch := torch_or_none()) is not None:
        p, q = torch.from_numpy(a), torch.from_numpy(b)
        found["PyTorch"] = lambda: p @ q
    if (jax := jax_or_none()) is not None:
        u, v = jax.numpy.asarray(a), jax.numpy.asarray(b)
        found["JAX"] = lambda: jax.numpy.matmul(u, v).block_until_ready()
    return found


def main() -> None:
    """Check that the products agree, time them, and print the table."""
    if core is None:
        raise SystemExit("needle was installed without its C++ core; nothing to measure")
    rng = np.random.default_rng(0)
    rows = []
    for m, k, n in SHAPES:
        a = rng.standard_normal((m, k), dtype=np.float32)
        b = rng.standard_normal((k, n), dtype=np.float32)
        functions = contenders(a, b)
        expected = a @ b
        for name, function in functions.items():
            np.testing.assert_allclose(function(), expected, atol=1e-4 * k**0.5, err_msg=name)
        # The peak takes turns with the rest, because the clock changes with the load.
        peaks: list[float] = []
        functions["peak"] = lambda peaks=peaks: peaks.append(core.peak_flops(0.02))
        medians = alternate(functions, rounds=11)
        peak = float(np.median(peaks))
        for name in functions:
            if name == "peak":
                continue
            rate = 2 * m * k * n / medians[name]
            ratio = "" if name == "needle" else f"{medians['needle'] / medians[name]:.2f}"
            target = TARGETS.get((m, k, n), "") if name == "needle" else ""
            rows.append(
                [
                    f"{m}×{k}×{n}",
                    name,
                    f"{rate / 1e9:.0f}",
                    f"{100 * rate / peak:.0f} %",
                    ratio,
                    target,
                ]
            )
    print_table(["product", "who", "GFLOP/s", "of peak", "needle / peer", "target"], rows)


if __name__ == "__main__":
    main()
