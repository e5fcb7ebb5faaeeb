"""MLPResNet: a residual network of fully connected layers."""

from __future__ import annotations

from collections.abc import Callable

from .. import nn
from ..backend_ndarray.layout import whole

Norm = Callable[[int], nn.Module]


def ResidualBlock(
    dim: int, hidden_dim: int, norm: Norm = nn.BatchNorm1d, drop_prob: float = 0.1
) -> nn.Sequential:
    """ReLU(x + norm(Linear(Dropout(ReLU(norm(Linear(x))))))): (B, dim) → (B, dim)."""
    body = nn.Sequential(
        nn.Linear(dim, hidden_dim),
        norm(hidden_dim),
        nn.ReLU(),
        nn.Dropout(drop_prob),
        nn.Linear(hidden_dim, dim),
        norm(dim),
    )
    return nn.Sequential(nn.Residual(body), nn.ReLU())


def MLPResNet(
    dim: int,
    hidden_dim: int = 100,
    num_blocks: int = 3,
    num_classes: int = 10,
    norm: Norm = nn.BatchNorm1d,
    drop_prob: float = 0.1,
) -> nn.Sequential:
    """Linear, ReLU, `num_blocks` residual blocks, Linear: (B, dim) → (B, num_classes).

    The blocks are `hidden_dim // 2` wide inside. Weights are drawn from first layer to last.
    """
    num_blocks = whole(num_blocks, "MLPResNet", "num_blocks")
    if num_blocks < 0:
        raise ValueError(f"[MLPResNet] num_blocks must not be negative, got {num_blocks}")
    return nn.Sequential(
        nn.Linear(dim, hidden_dim),
        nn.ReLU(),
        *[ResidualBlock(hidden_dim, hidden_dim // 2, norm, drop_prob) for _ in range(num_blocks)],
        nn.Linear(hidden_dim, num_classes),
    )
