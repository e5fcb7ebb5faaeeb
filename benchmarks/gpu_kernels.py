"""Single operations on a GPU: bandwidth against a copy's, products against cuBLAS, attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_timing import Run

import needle as ndl


@dataclass(frozen=True)
class Kernel:
    """An operation: needle's, PyTorch's or None, and its work in `unit`s (GB or TFLOP).

    `share` is what part of the copy's bandwidth or of PyTorch's speed is the target.
    """

    name: str
    ours: Run
    theirs: Run | None
    work: float
    unit: str
    share: float | None = None


def copy_kernel(device: Any, small: bool) -> Kernel:
    """The driver's copy, whose bandwidth the others are compared with."""
    nbytes = 4 * _elements(small)
    source, target = (device.empty((nbytes,), "uint8") for _ in range(2))
    context = device.context
    ends = source._handle.address, target._handle.address
    return Kernel(
        "driver's copy", lambda: context.move(*ends, nbytes), None, 2 * nbytes / 1e9, "GB"
    )


def _elements(small: bool) -> int:
    return 1 << 10 if small else 1 << 26


def bandwidth(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """Element-wise operations, reductions, pooling: at least 85 % of the copy's bandwidth."""
    n = _elements(small)
    host = np.random.RandomState(0).rand(n).astype("float32")
    x, tx = _both(host, device, torch)
    rows, trows = (a if a is None else a.reshape((-1, min(n // 8, 4096))) for a in (x, tx))
    side = 4 if small else 64
    pixels, tpixels = (a if a is None else a.reshape((-1, side, side, 64)) for a in (x, tx))
    columns, tcolumns = (a if a is None else a.reshape((-1, 64)) for a in (x, tx))
    weight, tweight = _both(host[:64], device, torch)
    gb = 4 * n / 1e9
    share = 0.85
    cases = [
        ("add", lambda: x + x, lambda: tx + tx, 2 * gb, share),
        ("exp", lambda: ndl.exp(x), lambda: tx.exp(), 2 * gb, share),
        ("transposed copy", lambda: rows.realize_cached_data().permute((1, 0)).compact(),
         lambda: trows.T.contiguous(), 2 * gb, None),
        ("sum", lambda: x.sum(), lambda: tx.sum(), gb, share),
        ("sum of columns", lambda: rows.sum(0), lambda: trows.sum(0), gb, share),
        ("sum of rows", lambda: rows.sum(1), lambda: trows.sum(1), gb, share),
        ("softmax", lambda: ndl.softmax(rows), lambda: trows.softmax(-1), 2 * gb, share),
        ("batch norm", lambda: ndl.batch_norm(columns, weight, weight)[0],
         lambda: torch.nn.functional.batch_norm(tcolumns, None, None, tweight, tweight, True),
         3 * gb, share),
        ("max pool", lambda: ndl.max_pool2d(pixels, 2),
         lambda: torch.nn.functional.max_pool2d(tpixels.permute(0, 3, 1, 2), 2), 1.5 * gb, share),
    ]  # fmt: skip
    return [
        Kernel(name, ours, theirs if torch else None, work, "GB", share)
        for name, ours, theirs, work, share in cases
    ]


def products(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """needle's own product of 4096×4096 float32 matrices: at least 80 % of cuBLAS's speed."""
    side = 64 if small else 4096
    a, ta = _both(np.random.RandomState(0).rand(side, side).astype("float32"), device, torch)
    work = 2 * side**3 / 1e12
    return [
        Kernel("matmul", lambda: a @ a, (lambda: ta @ ta) if torch else None, work, "TFLOP", 0.8),
        Kernel(
            "matmul of a transpose", lambda: a.transpose() @ a,
            (lambda: ta.T @ ta) if torch else None, work, "TFLOP", 0.8,
        ),
    ]  # fmt: skip


def attention(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """Causal attention forward: at least 60 % of PyTorch's speed."""
    shape = (1, 1, 16, 16) if small else (4, 12, 1024, 64)
    pairs = [
        _both(np.random.RandomState(i).randn(*shape).astype("float32"), device, torch)
        for i in range(3)
    ]
    (q, k, v), theirs = zip(*pairs, strict=True)
    b, h, t, d = shape

    def peer() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=True)

    return [
        Kernel(
            "attention forward",
            lambda: ndl.scaled_dot_product_attention(q, k, v, causal=True),
            peer if torch else None, 4 * b * h * d * t * (t + 1) / 2 / 1e12, "TFLOP", 0.6,
        )
    ]  # fmt: skip


def _both(host: np.ndarray, device: Any, torch: Any) -> tuple[Any, Any]:
    ours = ndl.Tensor(host, device=device, requires_grad=False)
    return ours, torch.from_numpy(host).cuda() if torch else None
