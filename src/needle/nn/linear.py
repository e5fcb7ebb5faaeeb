"""Linear: the affine map x·W + b."""

from __future__ import annotations

from typing import Self

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
        It is (out_features, in_features) once `tie` has made it another layer's.
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

    is_tied: bool = False  # whether `weight` is another layer's, (out_features, in_features)

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

    def tie(self, weight: Parameter) -> Self:
        """Share the weight of another layer, such as an embedding's table: x·weightᵀ + bias.

        The parameter stays one: `parameters()`, `state_dict` and an optimizer have it once, under
        its first path. PyTorch programs write `head.weight = embedding.weight`.

        Parameters
        ----------
        weight : Parameter, shape (out_features, in_features)
            The parameter to share.

        Returns
        -------
        Linear
            This layer.

        Raises
        ------
        TypeError
            If `weight` is no Parameter.
        ValueError
            If it has another shape.

        Examples
        --------
        >>> import needle as ndl
        >>> embedding = ndl.nn.Embedding(10, 4)
        >>> head = ndl.nn.Linear(4, 10, bias=False).tie(embedding.weight)
        >>> head.weight is embedding.weight
        True
        >>> head(embedding(ndl.tensor([3, 5]))).shape
        (2, 10)
        """
        if not isinstance(weight, Parameter):
            raise TypeError(
                "[Linear.tie] weight must be a Parameter such as embedding.weight, got "
                f"{type(weight).__name__}"
            )
        if weight.shape != (self.out_features, self.in_features):
            raise ValueError(
                "[Linear.tie] weight must be (out_features, in_features) = "
                f"({self.out_features}, {self.in_features}), got shape {weight.shape}"
            )
        del self.weight
        self.weight, self.is_tied = weight, True
        return self

    def _way_out(self, name: str, value: Parameter) -> str:
        if name == "weight" and value.shape == (self.out_features, self.in_features):
            return (
                "to share an embedding's weight write layer.tie(embedding.weight), or "
                "F.linear(x, embedding.weight) instead of the layer; PyTorch's values come by "
                "nn.from_torch_state_dict(layer, state_dict)"
            )
        return super()._way_out(name, value)

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
        weight = ops.transpose(self.weight) if self.is_tied else self.weight
        return ops.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
