"""Single operations on a GPU: bandwidth against a copy's, products against cuBLAS, attention,
convolutions against cuDNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gpu_timing import Run

import needle as ndl
from needle.backend_ndarray.device_cuda.kernels import matmul as own_matmul
from needle.ops import _convolution as convolution


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
    ends = source._handle.use_address(), target._handle.use_address()
    return Kernel(
        "driver's copy", lambda: context.move(*ends, nbytes), None, 2 * nbytes / 1e9, "GB"
    )


def _elements(small: bool) -> int:
    return 1 << 10 if small else 1 << 26


def bandwidth(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """Element-wise operations, reductions, pooling: at least 85 % of the copy's bandwidth."""
    n = _elements(small)
    host = np.random.RandomState(0).rand(n)
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
        ("max pool", lambda: ndl.max_pool2d(pixels, 2, layout="NHWC"),
         lambda: torch.nn.functional.max_pool2d(tpixels.permute(0, 3, 1, 2), 2), 1.5 * gb, share),
    ]  # fmt: skip
    return [
        Kernel(name, ours, theirs if torch else None, work, "GB", share)
        for name, ours, theirs, work, share in cases
    ]


def products(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """4096×4096 matrices: needle's own float32 kernel at least 80 % as fast as cuBLAS.

    `matmul` is what needle does of itself, by cuBLASLt where that is installed.
    """
    side = 64 if small else 4096
    host = np.random.RandomState(0).rand(side, side)
    kernels = []
    for dtype, share in (("float32", 0.8), ("bfloat16", None)):
        a, ta = _both(host, device, torch, dtype)
        operands = [("", a, ta)]
        if share:
            operands.append((" of a transpose", a.transpose(), ta.T if torch else None))
        for name, b, tb in operands:
            theirs = partial(torch.matmul, tb, ta) if torch else None
            for whose, ours, target in (
                ("", partial(ndl.matmul, b, a), None),
                ("own ", partial(_own_matmul, device, b, a), share),
            ):
                kernels.append(
                    Kernel(f"{whose}{dtype} matmul{name}", ours, theirs, 2 * side**3 / 1e12,
                           "TFLOP", target)
                )  # fmt: skip
    return kernels


def _own_matmul(device: Any, a: Any, b: Any) -> Any:
    """The product by needle's own kernel, also where cuBLASLt is installed."""
    x, y = a.realize_cached_data(), b.realize_cached_data()
    out = device.empty((x.shape[0], y.shape[1]), x.dtype)
    own_matmul(device.context, x, y, out, None)
    return out


def attention(device: Any, torch: Any, small: bool) -> list[Kernel]:
    """Causal attention: forward at least 60 % as fast as PyTorch's, which is flash in bfloat16."""
    kernels = []
    for dtype, shape in (("float32", (4, 12, 1024, 64)), ("bfloat16", (2, 16, 4096, 64))):
        b, h, t, d = shape = (1, 1, 16, 16) if small else shape
        pairs = [
            _both(np.random.RandomState(i).randn(*shape), device, torch, dtype, i < 3)
            for i in range(4)
        ]
        (*qkv, g), (*theirs, tg) = zip(*pairs, strict=True)
        ours = partial(ndl.scaled_dot_product_attention, *qkv, causal=True)
        peer = partial(_torch_attention, torch, *theirs) if torch else None
        work = 4 * b * h * d * t * (t + 1) / 2 / 1e12
        kernels.append(Kernel(f"{dtype} attention", ours, peer, work, "TFLOP", 0.6))
        peer = partial(torch.autograd.grad, peer(), theirs, tg, retain_graph=True) if peer else None
        kernels.append(
            Kernel(f"{dtype} attention, gradients", partial(ndl.grad, ours(), qkv, g), peer,
                   2.5 * work, "TFLOP")
        )  # fmt: skip
    return kernels


def _torch_attention(torch: Any, q: Any, k: Any, v: Any) -> Any:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    flash = q.dtype != torch.float32  # which it has not got
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION if flash else SDPBackend.EFFICIENT_ATTENTION):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


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


def _both(
    host: np.ndarray, device: Any, torch: Any, dtype: str = "float32", requires_grad: bool = False
) -> tuple[Any, Any]:
    ours = ndl.Tensor(host, device=device, dtype=dtype, requires_grad=requires_grad)
    if not torch:
        return ours, None
    theirs = torch.from_numpy(host).to("cuda", getattr(torch, dtype))
    return ours, theirs.requires_grad_(requires_grad)
