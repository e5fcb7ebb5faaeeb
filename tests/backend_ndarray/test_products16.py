"""Products of bfloat16 on `cpu()`: every instruction set, layout, edge and mixture of dtypes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import needle as ndl
from needle.native import core

pytestmark = pytest.mark.skipif(core is None, reason="the C++ core was not built")

RNG = np.random.RandomState(0)
DTYPES = ("float32", "bfloat16")
# Rows, columns and inner length: within a tile, at its edges, in several blocks of each.
SIZES = (
    (1, 1, 1), (2, 3, 5), (16, 16, 32), (17, 33, 31), (31, 64, 65), (64, 100, 513),
    (33, 530, 1100), (100, 1, 40), (1, 77, 40), (9, 4100, 520), (2060, 20, 33), (3, 4, 0),
)  # fmt: skip
TINY = 2.0**-126  # numbers below are flushed to zero by some instructions, kept by others


def rounded(x: np.ndarray) -> np.ndarray:
    return ndl.Tensor(x).astype("bfloat16").numpy().astype(np.float64)


def stored(x: np.ndarray, dtype: str, turned: bool):
    """The array with its memory in row-major order, or in column-major order."""
    data = ndl.Tensor(x.T.copy() if turned else x).astype(dtype).realize_cached_data()
    return data.permute((1, 0)) if turned else data


def assert_is_product(out, a, b, bias, dtype: str) -> None:
    """`a @ b + bias` of the rounded operands, up to the error of float32 sums.

    Each of k + 2 steps rounds, or flushes to zero; a pair of products may be rounded twice (Intel
    SDM, VDPBF16PS). The result of 16 bits is rounded once more, by half of 2^-8 of it at most.
    """
    expected, size = a @ b + bias, abs(a) @ abs(b) + abs(bias)
    steps = a.shape[-1] + 2
    bound = 2 * steps * (size * 2.0**-24 + TINY)
    if dtype == "bfloat16":
        bound += (abs(expected) + bound) * 2.0**-8
    assert (abs(out - expected) <= bound).all()


def check(m: int, n: int, k: int, turned: tuple[bool, bool], dtypes: tuple[str, ...]) -> None:
    a, b = RNG.randn(m, k).astype("f4"), RNG.randn(k, n).astype("f4")
    row = RNG.randn(n).astype("f4") * (turned[0] == turned[1])
    out = ndl.zeros(m, n, dtype=dtypes[2]).realize_cached_data()
    bias = stored(row, dtypes[0], False)
    x, y = (stored(v, d, t) for v, d, t in zip((a, b), dtypes, turned, strict=False))
    core.matmul(x, y, out, bias if row.any() else None)
    row = rounded(row) if dtypes[0] == "bfloat16" else row
    assert_is_product(out.numpy(), rounded(a), rounded(b), row, dtypes[2])


def check_all() -> None:
    """With each dtype of the operands and of the result, and each order of their memory."""
    mixtures = [d for d in itertools.product(DTYPES, repeat=3) if "bfloat16" in d]
    for size in SIZES:
        for turned in itertools.product((False, True), repeat=2):
            for dtypes in mixtures if np.prod(size) < 1e6 else mixtures[-2:]:
                check(*size, turned, dtypes)


@pytest.mark.parametrize("level", [] if core is None else core.simd_levels())
def test_every_instruction_set_multiplies(level):
    code = "import test_products16 as t; t.check_all()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NEEDLE_SIMD": level},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_batches_strides_and_broadcasting():
    a, b = RNG.randn(3, 1, 40, 70).astype("f4"), RNG.randn(2, 50, 90).astype("f4")
    x, y = ndl.Tensor(a, dtype="bfloat16"), ndl.Tensor(b, dtype="bfloat16")
    out = (x[:, :, ::-2, 1:66:2] @ y[:, 5:38, ::3]).numpy()
    left, right = rounded(a)[:, :, ::-2, 1:66:2], rounded(b)[:, 5:38, ::3]
    assert_is_product(out, left, right, np.zeros(30), "bfloat16")


def test_infinities_nans_and_zeros():
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [0.0, -0.0], [3e38, 3e38]], np.float32)
    b = np.array([[1.0, 2.0], [1.0, 1.0]], np.float32)
    out = (ndl.Tensor(a, dtype="bfloat16") @ ndl.Tensor(b, dtype="bfloat16")).numpy()
    np.testing.assert_array_equal(
        out, [[np.inf, np.inf], [np.nan, np.nan], [0, 0], [np.inf, np.inf]]
    )


def test_other_dtypes_are_refused():
    a, out = (ndl.zeros(2, 2, dtype=d).realize_cached_data() for d in ("float64", "bfloat16"))
    with pytest.raises(ValueError, match="bfloat16 or float32"):
        core.matmul(a, a, out, None)
