"""Transformer layers (Vaswani et al., 2017)."""

from __future__ import annotations

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..operands import Mask
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike
from .activation import GELU, ReLU
from .arguments import Placement, one_of, positive_int
from .attention import AttentionLayer, CrossAttention, SelfAttention, dropout_or_nothing
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .module import Module
from .norm import LayerNorm, LayerNorm1d


class TransformerLayer(Module):
    """The course's Transformer layer: attention and a two-layer network, both residual.

    x + dropout(attention(x)), then x + dropout(linear2(dropout(relu(linear1(layernorm(x)))))).

    Parameters
    ----------
    q_features : int
        The number of features of the input and the result.
    num_heads : int
        The number of heads. `num_head`, the course's name, and `nhead` name the same argument.
    dim_head : int
        The number of features of each head.
    hidden_size : int
        The number of hidden units of the two-layer network.
    dropout : float, default 0.0
        The probability of each of the dropouts.
    causal : bool, default True
        Whether position t attends to positions up to t only.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.TransformerLayer(8, num_heads=2, dim_head=4, hidden_size=16)
    >>> layer(ndl.ones(3, 5, 8)).shape
    (3, 5, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        q_features: int,
        num_heads: int,
        dim_head: int,
        hidden_size: int,
        *,
        dropout: float = 0.0,
        causal: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        placement = Placement(device=device, dtype=dtype)
        self.attention = AttentionLayer(
            q_features, num_heads, dim_head, dropout=dropout, causal=causal, **placement
        )
        self.dropout1 = Dropout(dropout)
        self.layernorm = LayerNorm1d(q_features, **placement)
        self.linear1 = Linear(q_features, hidden_size, **placement)
        self.dropout2 = Dropout(dropout)
        self.linear2 = Linear(hidden_size, q_features, **placement)
        self.dropout3 = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the new sequences, (B, T, q_features) as `x`."""
        x = x + self.dropout1(self.attention(x))
        hidden = self.dropout2(ops.relu(self.linear1(self.layernorm(x))))
        out: Tensor = x + self.dropout3(self.linear2(hidden))
        return out


class Transformer(Module):
    """The course's Transformer: learned positions and a stack of `TransformerLayer`.

    Parameters
    ----------
    embedding_size : int
        The number of features of the input and the result, E.
    hidden_size : int
        The number of hidden units of each layer's two-layer network.
    num_layers : int
        The number of layers.
    num_heads : int, default 8
        The number of heads. `num_head`, the course's name, and `nhead` name the same argument.
    dim_head : int, default 32
        The number of features of each head.
    dropout : float, default 0.0
        The probability of each of the dropouts.
    causal : bool, default True
        Whether position t attends to positions up to t only.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    batch_first : bool, default False
        Whether the input and the result are (B, T, E) instead of (T, B, E).
    sequence_len : int, default 2048
        The number of positions, which is the largest T.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Transformer(8, 16, num_layers=2, num_heads=2, dim_head=4)
    >>> output, state = model(ndl.ones(5, 3, 8))
    >>> output.shape
    (5, 3, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        num_heads: int = 8,
        dim_head: int = 32,
        dropout: float = 0.0,
        causal: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        batch_first: bool = False,
        sequence_len: int = 2048,
    ) -> None:
        super().__init__()
        placement = Placement(device=device, dtype=dtype)
        self.batch_first = batch_first
        self.sequence_len = positive_int("Transformer", "sequence_len", sequence_len)
        self.embedding = Embedding(sequence_len, embedding_size, **placement)
        self.layers = [
            TransformerLayer(
                embedding_size, num_heads, dim_head, hidden_size, dropout=dropout, causal=causal,
                **placement,
            )
            for _ in range(positive_int("Transformer", "num_layers", num_layers))
        ]  # fmt: skip

    def forward(self, x: Tensor, h: object = None) -> tuple[Tensor, Tensor]:
        """Run the layers over a sequence.

        Parameters
        ----------
        x : Tensor, shape (T, B, E)
            The sequences; (B, T, E) with `batch_first`.
        h : optional
            Ignored; a recurrent layer takes its state here.

        Returns
        -------
        output : Tensor, the shape of `x`
        h : Tensor, the shape of `x`
            Zeros, in the place of a recurrent layer's state.

        Raises
        ------
        ValueError
            If `x` does not have three axes or T exceeds `sequence_len`.
        """
        if x.ndim != 3:
            raise ValueError(f"[Transformer] needs 3 axes, got shape {x.shape}")
        if not self.batch_first:
            x = ops.transpose(x, (0, 1))
        length = x.shape[1]
        if length > self.sequence_len:
            raise ValueError(
                f"[Transformer] the sequence of {length} exceeds sequence_len={self.sequence_len}"
            )
        x = x + self.embedding.weight[:length]
        for layer in self.layers:
            x = layer(x)
        if not self.batch_first:
            x = ops.transpose(x, (0, 1))
        return x, init.zeros_like(x)


class TransformerEncoderLayer(Module):
    """PyTorch's encoder layer: self-attention and a two-layer network, each with residual and norm.

    Parameters
    ----------
    d_model : int
        The number of features of the input and the result, a multiple of `num_heads`.
    num_heads : int
        The number of heads. `nhead`, PyTorch's name, and `num_head` name the same argument.
    dim_feedforward : int, default 2048
        The number of hidden units of the two-layer network.
    dropout : float, default 0.1
        The probability of each of the dropouts. With 0 no random numbers are drawn.
    activation : {"relu", "gelu"}, default "relu"
        The activation of the two-layer network.
    layer_norm_eps : float, default 1e-5
        The `eps` of the layer norms.
    batch_first : bool, default False
        Whether the input and the result are (B, T, d_model) instead of (T, B, d_model).
    norm_first : bool, default False
        Whether the input of each part is normalized, instead of the sum of its input and result.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If the heads do not divide the features or the activation is unknown.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.TransformerEncoderLayer(8, num_heads=2, dim_feedforward=16, batch_first=True)
    >>> layer(ndl.ones(3, 5, 8), causal=True).shape
    (3, 5, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        placement = Placement(device=device, dtype=dtype)
        one_of("TransformerEncoderLayer", "activation", activation, ("relu", "gelu"))
        self.batch_first, self.norm_first = batch_first, norm_first
        self.self_attn = SelfAttention(d_model, num_heads, dropout, **placement)
        self.linear1 = Linear(d_model, dim_feedforward, **placement)
        self.activation = ReLU() if activation == "relu" else GELU()
        self.dropout = dropout_or_nothing(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **placement)
        self.dropout2 = dropout_or_nothing(dropout)
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, **placement)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, **placement)

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return out

    @accepts_synonyms
    def forward(self, x: Tensor, mask: Mask = None, causal: bool = False) -> Tensor:
        """Compute the new sequences.

        Parameters
        ----------
        x : Tensor, shape (T, B, d_model)
            The sequences; (B, T, d_model) with `batch_first`.
        mask : array or Tensor, optional
            Broadcasts to (B, heads, T, T); see `needle.scaled_dot_product_attention`.
        causal : bool, default False
            Whether position t attends to positions up to t only.

        Returns
        -------
        Tensor, the shape of `x`
        """
        x = x if self.batch_first else ops.transpose(x, (0, 1))
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask, causal)
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x + self.self_attn(x, mask, causal))
            x = self.norm2(x + self._feed_forward(x))
        return x if self.batch_first else ops.transpose(x, (0, 1))


class TransformerDecoderLayer(TransformerEncoderLayer):
    """PyTorch's decoder layer: self-attention, attention to a memory, and a two-layer network.

    Parameters
    ----------
    d_model : int
        The number of features of the input and the result, a multiple of `num_heads`.
    num_heads : int
        The number of heads. `nhead`, PyTorch's name, and `num_head` name the same argument.
    dim_feedforward : int, default 2048
        The number of hidden units of the two-layer network.
    dropout : float, default 0.1
        The probability of each of the dropouts. With 0 no random numbers are drawn.
    activation : {"relu", "gelu"}, default "relu"
        The activation of the two-layer network.
    layer_norm_eps : float, default 1e-5
        The `eps` of the layer norms.
    batch_first : bool, default False
        Whether the inputs and the result are (B, T, d_model) instead of (T, B, d_model).
    norm_first : bool, default False
        Whether the input of each part is normalized, instead of the sum of its input and result.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.TransformerDecoderLayer(8, num_heads=2, dim_feedforward=16)
    >>> layer(ndl.ones(5, 3, 8), ndl.ones(7, 3, 8)).shape
    (5, 3, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__(
            d_model, num_heads, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, device, dtype,
        )  # fmt: skip
        self.multihead_attn = CrossAttention(
            d_model, num_heads, dropout, device=device, dtype=dtype
        )
        self.norm3 = LayerNorm(d_model, eps=layer_norm_eps, device=device, dtype=dtype)

    @accepts_synonyms
    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        memory: Tensor,
        mask: Mask = None,
        causal: bool = False,
        memory_mask: Mask = None,
    ) -> Tensor:
        """Compute the new sequences.

        Parameters
        ----------
        x : Tensor, shape (T, B, d_model)
            The sequences; (B, T, d_model) with `batch_first`.
        memory : Tensor, shape (S, B, d_model)
            The sequences to attend to; (B, S, d_model) with `batch_first`.
        mask : array or Tensor, optional
            The mask of the self-attention; broadcasts to (B, heads, T, T).
        causal : bool, default False
            Whether position t of `x` attends to positions of `x` up to t only.
        memory_mask : array or Tensor, optional
            The mask of the attention to the memory; broadcasts to (B, heads, T, S).

        Returns
        -------
        Tensor, the shape of `x`
        """
        if not self.batch_first:
            x, memory = ops.transpose(x, (0, 1)), ops.transpose(memory, (0, 1))
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask, causal)
            x = x + self.multihead_attn(self.norm2(x), memory, memory_mask)
            x = x + self._feed_forward(self.norm3(x))
        else:
            x = self.norm1(x + self.self_attn(x, mask, causal))
            x = self.norm2(x + self.multihead_attn(x, memory, memory_mask))
            x = self.norm3(x + self._feed_forward(x))
        return x if self.batch_first else ops.transpose(x, (0, 1))
