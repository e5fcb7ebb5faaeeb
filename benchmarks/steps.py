"""Training steps of needle and its peers, on the same weights and batches, in one process.

    python benchmarks/steps.py [two-layer mlp-resnet softmax-regression]

Losses of the first 8 steps must agree to 1e-4 before anything is timed. Then the contenders take
turns in blocks of steps; the table shows medians and needle's time over each peer's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cases
import numpy as np
from contenders import eager_steps, jax_step
from harness import Step, Workload, jax_or_none, measure

from needle.simple_ml import reference


def two_layer() -> dict[str, Step]:
    """The eager steps and, because this one is so short, compiled JAX."""
    steps = eager_steps(cases.two_layer)
    if jax_or_none() is not None:
        steps["JAX (jit)"] = jax_step(cases.two_layer())
    return steps


def mlp_resnet() -> dict[str, Step]:
    """MLPResNet with Adam."""
    return eager_steps(cases.mlp_resnet)


def softmax_regression() -> dict[str, Step]:
    """An epoch of softmax regression on 10,000 images, batch 100: C++ against NumPy."""
    rng = np.random.default_rng(0)
    x = rng.random((10_000, 784), dtype=np.float32)
    y = rng.integers(0, 10, 10_000).astype(np.uint8)

    def contender(epoch: Callable[..., None]) -> Step:
        theta = np.zeros((784, 10), dtype=np.float32)

        def step() -> float:
            epoch(x, y, theta, lr=0.1, batch=100)
            # einsum, because a product by BLAS would leave its idle workers in the way.
            return float(reference.softmax_loss(np.einsum("ij,jk", x[:10], theta), y[:10]))

        return step

    return {
        "needle": contender(reference.softmax_regression_epoch_cpp),
        "NumPy": contender(reference.softmax_regression_epoch),
    }


WORKLOADS: dict[str, Workload] = {
    "two-layer": (two_layer, "<= 1.0 x PyTorch"),
    "mlp-resnet": (mlp_resnet, "<= 1.0 x PyTorch"),
    "softmax-regression": (softmax_regression, "<= 0.5 x NumPy"),
}


def main(names: list[str]) -> None:
    """Check and time the workloads of these names (all by default) and print the table."""
    measure({name: WORKLOADS[name] for name in names or WORKLOADS})


if __name__ == "__main__":
    main(sys.argv[1:])
