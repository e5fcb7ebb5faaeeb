"""Single operations on a GPU: bandwidth against a copy's, products against cuBLAS, attention,
convolutions against cuDNN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_timing import Run

import needle as ndl
from needle.ops import convolution


@dataclass(frozen=True)
class Kernel:
    """An operation: needle's, PyTorch's or None, and its work in `unit`s (GB or TFLOP).

    `share` is what part of the copy's bandwidth or of PyTorch's speed is the target. With `tf32`
    both may round what they multiply to TF32.
    """

    name: str
    ours: Run
    theirs: Run | None
    work: float
    unit: str
    share: float | None = None
    tf32: bool = False


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
    """Element-wise operations and reductions: at least 85 % of the copy's bandwidth."""
    n = _elements(small)
    host = np.random.RandomState(0).rand(n).astype("float32")
    x, tx = _both(host, device, torch)
    rows, trows = (a if a is None else a.reshape((-1, min(n // 8, 4096))) for a in (x, tx))
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


def convolutions(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """A 3×3 convolution with 128 channels in and out, and its gradients; no target."""
    images, side, channels = (2, 4, 8) if small else (512, 16, 128)
    image, weights = (images, side, side, channels), (3, 3, channels, channels)
    work = 2 * images * side**2 * 9 * channels**2 / 1e12
    found = []
    for dtype, name in (("float32", "TF32"), ("bfloat16", "bfloat16")):
        random = np.random.RandomState(0)
        (x, tx), (g, tg), (w, tw) = (
            _both(random.randn(*shape).astype("float32"), device, torch, dtype)
            for shape in (image, image, weights)
        )
        runs = _convolution_runs(x, w, g), _torch_convolution_runs(torch, tx, tw, tg)
        found += [
            Kernel(f"convolution {what}, {name}", ours, theirs, work, "TFLOP", tf32=name == "TF32")
            for what, ours, theirs in zip(
                ("forward", "input gradient", "weight gradient"), *runs, strict=True
            )
        ]
    return found


def _convolution_runs(x: Any, w: Any, g: Any) -> list[Run]:
    geometry = convolution.make_geometry("conv", padding=1)
    return [
        lambda: convolution.Conv(geometry)(x, w),
        lambda: convolution.ConvInputGrad(geometry, x.shape)(g, w),
        lambda: convolution.ConvWeightGrad(geometry, w.shape)(x, g),
    ]


def _torch_convolution_runs(torch: Any, x: Any, w: Any, g: Any) -> list[Run | None]:
    """The same by PyTorch, images channels last."""
    if not torch:
        return [None] * 3
    x, g = x.permute(0, 3, 1, 2), g.permute(0, 3, 1, 2)
    w = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def gradient(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
        )

    return [
        lambda: torch.nn.functional.conv2d(x, w, padding=1),
        lambda: gradient([True, False, False]),
        lambda: gradient([False, True, False]),
    ]


def _both(host: np.ndarray, device: Any, torch: Any, dtype: str = "float32") -> tuple[Any, Any]:
    ours = ndl.Tensor(host, device=device, dtype=dtype, requires_grad=False)
    return ours, torch.from_numpy(host).cuda().to(getattr(torch, dtype)) if torch else None
