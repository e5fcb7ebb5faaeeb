"""The functions of `needle.ops` that Tensors have as methods."""

from __future__ import annotations

from .value import Value


class Methods(Value):
    """A base of Tensor. `needle.ops._methods` puts the functions here; `methods.pyi` lists them."""

    __slots__ = ()
