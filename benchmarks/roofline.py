"""The least time a training step can take: its arithmetic and its traffic at machine speed.

The arithmetic is that of matrix products, convolutions and attention alone, 2·m·n·k for each, at
the measured peak; the traffic counts every float once that must come and once that must go, at
the measured speed of a copy. The larger of the two times is the bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import needle as ndl

COPIED_AT_ONCE = 2**25  # smaller copies are repeated until they have moved as many bytes


@dataclass(frozen=True)
class Work:
    """`flops` of a step, and the floats of `activations` that backward needs from forward.

    `untouched` parameters are neither read nor changed: embeddings of absent tokens, under SGD.
    """

    flops: int
    activations: int
    untouched: int = 0


def product(m: int, k: int, n: int, gradients: int = 2) -> int:
    """Flops of (m, k) @ (k, n) and of as many of its two gradients, which cost the same each."""
    return 2 * m * k * n * (1 + gradients)


def mlp(batch: int, widths: Sequence[int]) -> Work:
    """Fully connected layers; the first one's input needs no gradient."""
    flops = sum(
        product(batch, fan_in, fan_out, gradients=2 if layer else 1)
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths))
    )
    return Work(flops, batch * sum(widths[1:]))


# in channels, out channels, kernel, side of the output
RESNET9 = (
    (3, 16, 7, 8), (16, 32, 3, 4), (32, 32, 3, 4), (32, 32, 3, 4),
    (32, 64, 3, 2), (64, 128, 3, 1), (128, 128, 3, 1), (128, 128, 3, 1),
)  # fmt: skip


def resnet9(batch: int) -> Work:
    """Convolutions (as products with their patches) and two linear layers."""
    flops = activations = 0
    for layer, (channels, out, kernel, side) in enumerate(RESNET9):
        pixels = batch * side * side
        flops += product(pixels, kernel * kernel * channels, out, gradients=2 if layer else 1)
        activations += pixels * out
    head = product(batch, 128, 128) + product(batch, 128, 10)
    return Work(flops + head, activations + batch * (128 + 10))


def lstm(
    length: int, batch: int, vocabulary: int, embedding: int, hidden: int, layers: int
) -> Work:
    """Input products of all steps, state products of all but the first, the map to the vocabulary.

    Backward needs every step's gates and cell state, and the logits.
    """
    rows = length * batch
    widths = [embedding, *[hidden] * (layers - 1)]
    flops = sum(product(rows, width, 4 * hidden) for width in widths)
    flops += layers * product(rows - batch, hidden, 4 * hidden)
    flops += product(rows, hidden, vocabulary)
    absent = max(vocabulary - rows, 0) * embedding
    return Work(flops, rows * (layers * 6 * hidden + vocabulary), absent)


def gpt(batch: int, vocabulary: int, length: int, width: int, layers: int, heads: int) -> Work:
    """Four products a block, causal attention, the head.

    Attention is two products of what each position sees, with two gradients each. Backward needs
    of a block its input, q, k, v, attention's result, the sum and the hidden layer; norms are
    cheap to compute again.
    """
    rows = batch * length
    block = sum(
        product(rows, *shape)
        for shape in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    )
    seen = batch * length * (length + 1) // 2
    block += 2 * product(seen, width, 1)
    head = product(rows, width, vocabulary)
    return Work(layers * block + head, rows * (layers * 10 * width + width + vocabulary))


def bytes_moved(case: Any) -> int:
    """Bytes that a step of the `cases.Case` moves at least.

    Parameters and each moment are read and written; gradients and activations are written and read.
    """
    parameters = sum(p.size for p in case.model.parameters()) - case.work.untouched
    moments = 2 if case.optimizer.startswith("Adam") else 0
    floats = parameters * (4 + 2 * moments) + 2 * case.work.activations
    return 4 * floats + case.x.nbytes


def peak_flops() -> float:
    """Floating-point operations a second of needle's fused multiply-adds on all its threads."""
    from needle._core import peak_flops as measured

    return float(measured(0.02))


def copier(size: int) -> Callable[[], float]:
    """A function that measures the bytes a second (read plus written) that copies move.

    The copies by NumPy, one on each of needle's threads, read size/2 bytes and write as many
    elsewhere, so that they meet the caches that `size` bytes of traffic would.
    """
    threads = ndl.get_num_threads()
    n = max(size // (8 * threads), 1)
    parts = [(np.ones(n, np.float32), np.ones(n, np.float32)) for _ in range(threads)]
    repeats = max(1, COPIED_AT_ONCE // size)
    pool = ThreadPoolExecutor(threads)

    def copy(part: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeats):
            np.copyto(part[1], part[0])

    def rate() -> float:
        start = time.perf_counter()
        list(pool.map(copy, parts))
        return 8.0 * n * threads * repeats / (time.perf_counter() - start)

    return rate
