"""Counter-based random numbers in NumPy: what every device computes for a seed and an offset.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011) turns a counter of 128 bits and a key of 64, the seed, into a block of four words. Block i of
a draw has the counter offset + i and makes 16 bytes of numbers: each number follows from the seed,
the offset and its place alone.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
BLOCK_BYTES = 16


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """The words (4, n) of counters (4, n), least significant first; all 32 bits, as uint64."""
    c0, c1, c2, c3 = counter.astype(np.uint64)
    for i in range(ROUNDS):
        k0, k1 = (
            np.uint64((k + i * step) & 0xFFFFFFFF) for k, step in zip(key, KEY_STEPS, strict=True)
        )
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> HALF) ^ c1 ^ k0,
            right & LOW,
            (left >> HALF) ^ c3 ^ k1,
            left & LOW,
        )
    return np.stack((c0, c1, c2, c3))


def blocks_of(size: int, dtype: np.dtype) -> int:
    """How many blocks a draw of so many numbers takes."""
    return -(-size * dtype.itemsize // BLOCK_BYTES)


def numbers(seed: int, offset: int, size: int, dtype: np.dtype, normal: bool) -> np.ndarray:
    """`size` numbers of a draw, float32 or float64: uniform in [0, 1), or standard normal."""
    blocks = np.arange(blocks_of(size, dtype), dtype=np.uint64) + np.uint64(offset)
    none = np.zeros_like(blocks)
    words = philox(
        np.stack((blocks & LOW, blocks >> HALF, none, none)), (seed & 0xFFFFFFFF, seed >> 32)
    )
    bits = 8 * dtype.itemsize
    whole = np.ascontiguousarray(words.T.astype("<u4")).view(f"<u{dtype.itemsize}").reshape(-1)
    if normal:
        return _normal(whole, dtype, bits)[:size]
    kept = np.finfo(dtype).nmant + 1
    fractions: np.ndarray = (whole >> (bits - kept)).astype(dtype) * dtype.type(2.0**-kept)
    return fractions[:size]


def _normal(whole: np.ndarray, dtype: np.dtype, bits: int) -> np.ndarray:
    """Normal numbers, two of two integers (Box and Muller, 1958): radius and angle."""
    within = whole[0::2].astype(dtype) * dtype.type(2.0**-bits) + dtype.type(2.0 ** -(bits + 1))
    turn = whole[1::2].view(f"<i{dtype.itemsize}").astype(dtype) * dtype.type(2.0 ** -(bits - 1))
    radius, angle = np.sqrt(-2 * np.log(within.astype("float64"))), np.pi * turn.astype("float64")
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    return pairs.reshape(-1).astype(dtype)
