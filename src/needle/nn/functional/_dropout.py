"""Dropout of elements and of whole channels."""

from __future__ import annotations

import math

from ... import init
from ...autograd import Tensor
from ...random import Generator
from ..arguments import in_unit_interval
from ._activation import SELU_ALPHA, SELU_SCALE


def _mask(
    x: Tensor, p: float, whole_channels: bool, generator: Generator | None
) -> tuple[Tensor, float]:
    """Ones where elements, or channels (N, C), are kept, with probability 1 - p."""
    shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if whole_channels else x.shape
    keep = 1 - p
    mask = init.randb(*shape, p=keep, device=x.device, dtype=x.dtype, generator=generator)
    return mask, keep


def _dropped(
    what: str, x: Tensor, p: float, training: bool, channels: bool, generator: Generator | None
) -> Tensor:
    p = in_unit_interval(what, "p", p)
    if not training:
        return x
    mask, keep = _mask(x, p, channels, generator)
    return x * (mask * (1 / keep if keep else 0.0))


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """In training: zero elements with probability `p` and scale the others by 1 / (1 - p)."""
    return _dropped("dropout", input, p, training, False, generator)


def _dropout_of_channels(
    what: str, axes: int, x: Tensor, p: float, training: bool, generator: Generator | None
) -> Tensor:
    if x.ndim != axes + 2:
        raise ValueError(f"[{what}] needs input of {axes + 2} axes (N, C, …), got shape {x.shape}")
    return _dropped(what, x, p, training, True, generator)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of sequences (N, C, L) (Tompson et al., 2015)."""
    return _dropout_of_channels("dropout1d", 1, input, p, training, generator)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of images (N, C, H, W) (Tompson et al., 2015)."""
    return _dropout_of_channels("dropout2d", 2, input, p, training, generator)


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of volumes (N, C, D, H, W) (Tompson et al., 2015)."""
    return _dropout_of_channels("dropout3d", 3, input, p, training, generator)


def _alpha(
    what: str, x: Tensor, p: float, training: bool, channels: bool, generator: Generator | None
) -> Tensor:
    p = in_unit_interval(what, "p", p)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    mask, keep = _mask(x, p, channels, generator)
    low = -SELU_SCALE * SELU_ALPHA  # SELU's limit, which dropped elements become
    a = 1 / math.sqrt(keep + low * low * keep * p)
    return (x * mask + low * (1.0 - mask)) * a - a * low * p


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout for `selu`, which keeps mean and variance (Klambauer et al., 2017)."""
    return _alpha("alpha_dropout", input, p, training, False, generator)


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`alpha_dropout` of whole channels of input (N, C, …)."""
    if input.ndim < 2:
        raise ValueError(f"[feature_alpha_dropout] needs (N, C, …), got shape {input.shape}")
    return _alpha("feature_alpha_dropout", input, p, training, True, generator)
