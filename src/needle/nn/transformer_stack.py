"""Stacks of Transformer layers under PyTorch's names, with PyTorch's masks."""

from __future__ import annotations

import copy

from ..autograd import Tensor
from .arguments import positive_int
from .collection import ModuleList
from .functional._attention import joined_mask
from .module import Module
from .transformer import TransformerDecoderLayer, TransformerEncoderLayer


class TransformerEncoder(Module):
    """Stack of equal encoder layers, each of which reads the output of the one below.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        The layer, of which the stack has copies.
    num_layers : int
        The number of layers.
    norm : Module, optional
        What is applied to the last layer's output.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    >>> ndl.nn.TransformerEncoder(layer, num_layers=2)(ndl.ones(3, 5, 8)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
    ) -> None:
        super().__init__()
        count = positive_int("TransformerEncoder", "num_layers", num_layers)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(count)])
        self.norm = norm
        self._batch_axis = 0 if encoder_layer.batch_first else 1
        self._heads = encoder_layer.self_attn.num_heads

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Run the layers.

        Parameters
        ----------
        src : Tensor, shape (T, B, d_model)
            The sequences; (B, T, d_model) with `batch_first`.
        mask : Tensor, shape (T, T) or (B·num_heads, T, T), optional
            Booleans that are True where a position is hidden, or floats to add to the scores.
        src_key_padding_mask : Tensor, shape (B, T), optional
            Booleans that are True where `src` is padding, or floats to add to the scores.
        is_causal : bool, default False
            Whether position t sees positions up to t only.

        Returns
        -------
        Tensor, the shape of `src`
        """
        added = joined_mask(
            mask, src_key_padding_mask, src, src.shape[self._batch_axis], self._heads
        )
        for layer in self.layers:
            src = layer(src, added, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """Stack of equal decoder layers, each of which reads the output of the one below.

    Parameters
    ----------
    decoder_layer : TransformerDecoderLayer
        The layer, of which the stack has copies.
    num_layers : int
        The number of layers.
    norm : Module, optional
        What is applied to the last layer's output.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.TransformerDecoderLayer(8, 2, dim_feedforward=16)
    >>> decoder = ndl.nn.TransformerDecoder(layer, num_layers=2)
    >>> decoder(ndl.ones(5, 3, 8), ndl.ones(7, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        decoder_layer: TransformerDecoderLayer,
        num_layers: int,
        norm: Module | None = None,
    ) -> None:
        super().__init__()
        count = positive_int("TransformerDecoder", "num_layers", num_layers)
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(count)])
        self.norm = norm
        self._batch_axis = 0 if decoder_layer.batch_first else 1
        self._heads = decoder_layer.self_attn.num_heads

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
    ) -> Tensor:
        """Run the layers.

        Parameters
        ----------
        tgt : Tensor, shape (T, B, d_model)
            The sequences; (B, T, d_model) with `batch_first`.
        memory : Tensor, shape (S, B, d_model)
            The sequences to attend to; (B, S, d_model) with `batch_first`.
        tgt_mask : Tensor, shape (T, T) or (B·num_heads, T, T), optional
            Booleans that are True where a position is hidden, or floats to add to the scores.
        memory_mask : Tensor, shape (T, S) or (B·num_heads, T, S), optional
            The same for the positions of `memory`.
        tgt_key_padding_mask : Tensor, shape (B, T), optional
            Booleans that are True where `tgt` is padding, or floats to add to the scores.
        memory_key_padding_mask : Tensor, shape (B, S), optional
            The same for `memory`.
        tgt_is_causal : bool, default False
            Whether position t of `tgt` sees its positions up to t only.

        Returns
        -------
        Tensor, the shape of `tgt`
        """
        batch = tgt.shape[self._batch_axis]
        own = joined_mask(tgt_mask, tgt_key_padding_mask, tgt, batch, self._heads)
        other = joined_mask(memory_mask, memory_key_padding_mask, tgt, batch, self._heads)
        for layer in self.layers:
            tgt = layer(tgt, memory, own, tgt_is_causal, other)
        return tgt if self.norm is None else self.norm(tgt)
