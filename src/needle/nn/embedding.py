"""Embedding: a table of vectors looked up by integers."""

from __future__ import annotations

from typing import Self

from .. import init, ops
from ..autograd import Tensor
from ..backend_ndarray import NDArray, is_float, is_traced, where
from ..backend_selection import Device
from ..typing import DTypeLike
from . import functional
from .arguments import positive_int
from .distance import dense_gradients, padding_row, without_row
from .module import Module
from .parameter import Parameter


class Embedding(Module):
    """Table of vectors, looked up by integers.

    Parameters
    ----------
    num_embeddings : int
        The number of vectors, which is the number of valid indices.
    embedding_dim : int
        The length of each vector.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    padding_idx : int, optional
        An index whose vector is zeros at first and gets no gradient.
    max_norm : float, optional
        Vectors that are longer are scaled down to this norm, in the table itself, when they are
        looked up.
    norm_type : float, default 2.0
        Which norm `max_norm` is about.
    scale_grad_by_freq, sparse : bool, default False
        Must be False, as in PyTorch by default: gradients are dense.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        The vectors as rows, drawn from the standard normal distribution.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Embedding(10, 3)
    >>> layer(ndl.Tensor([[1, 2], [9, 0]], dtype="int64")).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.num_embeddings = positive_int("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = positive_int("Embedding", "embedding_dim", embedding_dim)
        self.padding_idx = padding_row("Embedding", padding_idx, num_embeddings)
        self.max_norm, self.norm_type = max_norm, norm_type
        dense_gradients("Embedding", scale_grad_by_freq, sparse)
        table = init.randn(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.weight = Parameter(without_row(table, self.padding_idx))

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
    ) -> Self:
        """The layer whose table is `embeddings` (num_embeddings, embedding_dim).

        With `freeze` the table is not trained. Raises ValueError for another number of axes.
        """
        if embeddings.ndim != 2:
            raise ValueError(f"[Embedding] needs a table of 2 axes, got shape {embeddings.shape}")
        rows, columns = embeddings.shape
        layer = cls(
            rows, columns, device=embeddings.device, dtype=embeddings.dtype,
            padding_idx=padding_idx, max_norm=max_norm, norm_type=norm_type,
        )  # fmt: skip
        layer.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Look up the vectors.

        Parameters
        ----------
        x : Tensor, shape (...)
            The indices, of an integer dtype or whole numbers of a floating-point one.

        Returns
        -------
        Tensor, shape (..., embedding_dim)

        Raises
        ------
        IndexError
            If an index is outside 0 … num_embeddings - 1.
        ValueError
            If an index is not a whole number.
        """
        rows = self._rows(x)
        if self.padding_idx is None and self.max_norm is None:
            return ops.take(self.weight, rows, 0)
        return functional.embedding(
            Tensor.make_const(rows), self.weight, self.padding_idx, self.max_norm, self.norm_type
        )

    def _rows(self, x: Tensor) -> NDArray:
        """The indices as a checked int64 array."""
        data = x.realize_cached_data()
        rows = data.astype("int64")
        if rows.size == 0:
            return rows
        if is_traced(rows):  # the kernel finds those out of range, but would count from the end
            bad = rows.compare("lt", 0)
            if is_float(data.dtype):
                bad = bad._binary("logical_or", data.compare("ne", rows))
            return where(bad, self.weight.shape[0], rows)
        if is_float(data.dtype) and not data.compare("eq", rows).all():
            raise ValueError(f"[Embedding] indices must be integers, got {data}")
        low, high = rows.min().item(), rows.max().item()
        if low < 0 or high >= self.weight.shape[0]:
            raise IndexError(
                f"[Embedding] index {low if low < 0 else high} is out of range for "
                f"{self.weight.shape[0]} embeddings"
            )
        return rows

    def _takes_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """A table may become shorter or longer, as programs cut a table of positions."""
        return len(shape) == 2 and shape[1] == self.embedding_dim

    def _way_out(self, name: str, value: Parameter) -> str:
        if value.shape == self.weight.shape[::-1]:
            return (
                "Linear.weight is (in_features, out_features) in needle: write "
                "head.tie(embedding.weight), which makes the Linear share the embedding's table"
            )
        return super()._way_out(name, value)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
