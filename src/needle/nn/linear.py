"""Linear: the affine map x·W + b."""

from __future__ import annotations

from typing import Any

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from .arguments import positive_int
from .module import Module, Parameter


class Linear(Module):
    """x·weight + bias on the last axis: (…, in_features) → (…, out_features).

    `weight` (in_features, out_features) is drawn first, Kaiming uniform in `in_features`; then
    `bias` (1, out_features), Kaiming uniform in `out_features`, unless `bias` is False.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        in_features = positive_int("Linear", "in_features", in_features)
        out_features = positive_int("Linear", "out_features", out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(
            init.kaiming_uniform(in_features, out_features, device=device, dtype=dtype)
        )
        self.bias = None
        if bias:
            draw = init.kaiming_uniform(out_features, 1, device=device, dtype=dtype)
            self.bias = Parameter(draw.reshape((1, out_features)))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features). Raises ValueError where the last axis differs."""
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
