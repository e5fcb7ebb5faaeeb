"""Linear: the affine map x·W + b."""

from __future__ import annotations

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from .arguments import positive_int
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """Affine map of the last axis: x·weight + bias.

    Parameters
    ----------
    in_features : int
        The length of the input's last axis.
    out_features : int
        The length of the result's last axis.
    bias : bool, default True
        Whether a bias is added.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (in_features, out_features)
        Drawn first, Kaiming uniform with fan-in `in_features`. PyTorch's weight is the transpose.
    bias : Parameter, shape (1, out_features), or None
        Drawn second, Kaiming uniform with fan-in `out_features`.

    Raises
    ------
    TypeError
        If a number of features is not an integer or `dtype` is not floating-point.
    ValueError
        If a number of features is below 1.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Linear(5, 3)
    >>> layer(ndl.ones(2, 4, 5)).shape
    (2, 4, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
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
        """Apply the map.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)
            The input.

        Returns
        -------
        Tensor, shape (..., out_features)

        Raises
        ------
        ValueError
            If the last axis of `x` does not have length `in_features`.
        """
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
