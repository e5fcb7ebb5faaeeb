"""How long the augmentation of CIFAR-10's training takes: `python benchmarks/augmentation.py`.

Prints the milliseconds for 10,000 images, the best of three runs. The target is below 2,000 on one
core, so that a loader with one worker keeps up with ResNet9.
"""

from __future__ import annotations

import time

import numpy as np

from needle import data

IMAGES, RUNS, TARGET = 10_000, 3, 2.0


def seconds() -> float:
    """The best of some runs over all images."""
    transform = data.Compose([data.RandomCrop(4), data.RandomFlipHorizontal()])
    image = np.random.RandomState(0).rand(32, 32, 3).astype(np.float32)
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(IMAGES):
            transform(image)
        found.append(time.perf_counter() - start)
    return min(found)


if __name__ == "__main__":
    best = seconds()
    print(f"{IMAGES} images: {1e3 * best:.0f} ms")
    if best > TARGET:
        raise SystemExit(f"above the target of {1e3 * TARGET:.0f} ms")
