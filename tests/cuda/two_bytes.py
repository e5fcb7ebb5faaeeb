"""What tensor cores multiply, on the GPU: numbers of 2 bytes, and floats rounded to TF32."""

from __future__ import annotations

from typing import Any

import numpy as np

import needle as ndl


def rounded(x: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The bits of x in a 2-byte type, and the float32 numbers that they are.

    Of a "float" the number itself, and what TF32 keeps of it.
    """
    if kind == "float":
        numbers = x.astype(np.float32)
        return numbers, ((numbers.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
    if kind == "float16":
        bits = x.astype(np.float16).view(np.uint16)
    else:
        words = x.astype(np.float32).view(np.uint32)
        bits = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    return bits, widened(bits, kind)


def widened(bits: np.ndarray, kind: str) -> np.ndarray:
    """The float32 numbers of the bits."""
    if kind == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def upload(gpu: ndl.Device, bits: np.ndarray) -> Any:
    """A buffer of the GPU with these words, in their order."""
    return gpu.wrap(np.ascontiguousarray(bits).reshape(-1).copy())


def download(gpu: ndl.Device, buffer: Any, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """The float32 numbers of a buffer's words."""
    bits = np.empty(shape, np.float32 if kind == "float" else np.uint16)
    gpu.context.download(buffer.address, bits)
    return bits if kind == "float" else widened(bits, kind)
