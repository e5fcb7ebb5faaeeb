"""Bilinear maps and distances of two inputs, and sums of embeddings."""

from __future__ import annotations

import math

from .. import init
from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike
from . import functional
from .arguments import non_negative, one_of, positive_int
from .module import Module
from .parameter import Parameter


class Bilinear(Module):
    """Bilinear map of two inputs: y[o] = Σ x₁[i]·weight[o, i, j]·x₂[j] + bias[o].

    Parameters
    ----------
    in1_features : int
        The length of the first input's last axis.
    in2_features : int
        The length of the second input's last axis.
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
    weight : Parameter, shape (out_features, in1_features, in2_features)
        Drawn first, uniform in ±1/√in1_features.
    bias : Parameter, shape (out_features,), or None
        Drawn second, likewise.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Bilinear(4, 5, 3)(ndl.ones(2, 4), ndl.ones(2, 5)).shape
    (2, 3)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.in1_features = positive_int("Bilinear", "in1_features", in1_features)
        self.in2_features = positive_int("Bilinear", "in2_features", in2_features)
        self.out_features = positive_int("Bilinear", "out_features", out_features)
        bound = 1 / math.sqrt(in1_features)

        def draw(*shape: int) -> Parameter:
            values = init.rand(*shape, low=-bound, high=bound, device=device, dtype=dtype)
            return Parameter(values)

        self.weight = draw(out_features, in1_features, in2_features)
        self.bias = draw(out_features) if bias else None

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Apply the map.

        Parameters
        ----------
        x1 : Tensor, shape (..., in1_features)
            The first input.
        x2 : Tensor, shape (..., in2_features)
            The second input.

        Returns
        -------
        Tensor, shape (..., out_features)

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return functional.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class CosineSimilarity(Module):
    """Cosine of the angle between vectors: x₁·x₂ / (‖x₁‖·‖x₂‖).

    Parameters
    ----------
    axis : int, default 1
        The axis of the vectors. `dim` is another name of this argument.
    eps : float, default 1e-8
        The smallest norm to divide by.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.CosineSimilarity()(ndl.Tensor([[1, 0]]), ndl.Tensor([[0, 2]])).tolist()
    [0.0]
    """

    @accepts_synonyms
    def __init__(self, axis: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.axis = whole(axis, "CosineSimilarity", "axis")
        self.eps = non_negative("CosineSimilarity", "eps", eps)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compare the vectors.

        Parameters
        ----------
        x1, x2 : Tensor
            The vectors; they broadcast against each other.

        Returns
        -------
        Tensor
            The cosines, without the axis of the vectors.
        """
        return functional.cosine_similarity(x1, x2, self.axis, self.eps)

    def extra_repr(self) -> str:
        return f"axis={self.axis}, eps={self.eps}"


class PairwiseDistance(Module):
    """Distance of vectors along the last axis: ‖x₁ - x₂ + eps‖ₚ.

    Parameters
    ----------
    p : float, default 2.0
        The norm; it must be positive.
    eps : float, default 1e-6
        Added to each difference.
    keepdims : bool, default False
        Whether the last axis stays, with length 1. `keepdim` is another name of this argument.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.PairwiseDistance(eps=0.0)(ndl.Tensor([[3, 4]]), ndl.Tensor([[0, 0]])).tolist()
    [5.0]
    """

    @accepts_synonyms
    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> None:
        super().__init__()
        self.p = float(p)
        if not self.p > 0:
            raise ValueError(f"[PairwiseDistance] p must be positive, got {p}")
        self.eps = non_negative("PairwiseDistance", "eps", eps)
        self.keepdims = keepdims

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Measure the distances.

        Parameters
        ----------
        x1, x2 : Tensor, shape (..., n)
            The vectors.

        Returns
        -------
        Tensor, shape (...)
        """
        return functional.pairwise_distance(x1, x2, self.p, self.eps, self.keepdims)

    def extra_repr(self) -> str:
        return f"p={self.p}, eps={self.eps}"


class EmbeddingBag(Module):
    """Sum, mean or maximum of the vectors of each bag of integers.

    Parameters
    ----------
    num_embeddings : int
        The number of vectors.
    embedding_dim : int
        The length of each vector.
    mode : {"mean", "sum", "max"}, default "mean"
        How the vectors of a bag are combined; an empty bag gives zeros.
    padding_idx : int, optional
        An index whose vector is zeros at first, gets no gradient and does not count.
    include_last_offset : bool, default False
        Whether the last of the offsets is the number of indices instead of a bag's first position.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    scale_grad_by_freq, sparse : bool, default False
        Must be False, as in PyTorch by default: gradients are dense.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        Drawn from the standard normal distribution.

    Examples
    --------
    >>> import needle as ndl
    >>> bag = ndl.nn.EmbeddingBag(10, 3, mode="sum")
    >>> bag(ndl.Tensor([[1, 2], [9, 0]], dtype="int64")).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        padding_idx: int | None = None,
        include_last_offset: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        *,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        dense_gradients("EmbeddingBag", scale_grad_by_freq, sparse)
        self.num_embeddings = positive_int("EmbeddingBag", "num_embeddings", num_embeddings)
        self.embedding_dim = positive_int("EmbeddingBag", "embedding_dim", embedding_dim)
        self.mode = one_of("EmbeddingBag", "mode", mode, ("mean", "sum", "max"))
        self.include_last_offset = include_last_offset
        self.padding_idx = padding_row("EmbeddingBag", padding_idx, num_embeddings)
        table = init.randn(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.weight = Parameter(without_row(table, self.padding_idx))

    def forward(
        self,
        x: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Combine the vectors of each bag.

        Parameters
        ----------
        x : Tensor of integers, shape (bags, n) or (indices,)
            The indices.
        offsets : Tensor of integers, shape (bags,), optional
            The position of each bag's first index, if `x` has one axis.
        per_sample_weights : Tensor, the shape of `x`, optional
            Factors of the vectors, in mode "sum".

        Returns
        -------
        Tensor, shape (bags, embedding_dim)
        """
        if offsets is not None and self.include_last_offset:
            offsets = offsets[:-1]
        return functional.embedding_bag(
            x, self.weight, offsets, self.mode, per_sample_weights, self.padding_idx
        )

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"


def dense_gradients(layer: str, scale_grad_by_freq: bool, sparse: bool) -> None:
    """Raises NotImplementedError for the kinds of gradients that there are not."""
    if scale_grad_by_freq:
        raise NotImplementedError(f"[{layer}] scale_grad_by_freq must be False")
    if sparse:
        raise NotImplementedError(
            f"[{layer}] sparse must be False: gradients are dense; leave it out, and the results "
            "of an optimizer for dense gradients are the same"
        )


def padding_row(layer: str, padding_idx: int | None, count: int) -> int | None:
    """The row that `padding_idx` names. Raises ValueError if it is out of range."""
    if padding_idx is None:
        return None
    row = whole(padding_idx, layer, "padding_idx")
    if not -count <= row < count:
        raise ValueError(f"[{layer}] padding_idx {row} is out of range for {count} embeddings")
    return row % count


def without_row(table: Tensor, row: int | None) -> Tensor:
    """The table with zeros in a row."""
    if row is None:
        return table
    data = table.realize_cached_data()
    data[row] = 0.0
    return table
