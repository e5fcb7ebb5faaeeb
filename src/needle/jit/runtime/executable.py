"""Executables: graphs that can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...autograd import Tensor, no_grad
from ...backend_ndarray import BackendDevice, NDArray
from ..ir.graph import Graph


class Unavailable(RuntimeError):
    """There is no native code for a function; the message says why.

    `may_pass` is True where another attempt may succeed: the compiler was killed, the disk is full.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Executable(Protocol):
    """A graph that can run."""

    graph: Graph

    @property
    def device(self) -> BackendDevice:
        """The device that it runs on."""

    def fits(self, states: Sequence[Tensor]) -> bool:
        """Whether the states have the shapes and dtypes of the trace."""

    def run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int, /
    ) -> list[NDArray]:
        """Run the graph and return its results; states that change get their new data."""


def overwrite(tensor: Tensor, data: NDArray) -> None:
    """Write `data` into the memory of `tensor`, so that all arrays that share it change."""
    with no_grad():
        tensor[...] = Tensor.make_const(data)
