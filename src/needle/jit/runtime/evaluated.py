"""A graph run by the reference interpreter (`NEEDLE_JIT=evaluate`)."""

from __future__ import annotations

from collections.abc import Sequence

from ...autograd import Tensor
from ...backend_ndarray import BackendDevice, NDArray
from ...typing import HostArray
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, View
from .executable import overwrite


class Evaluated:
    """A graph run by `evaluate`, on any device; slow. See `Executable`."""

    def __init__(self, graph: Graph, device: BackendDevice) -> None:
        self.graph, self.device = graph, device

    def fits(self, states: Sequence[Tensor]) -> bool:
        """Whether the states have the shapes and dtypes of the trace."""
        return all(
            s.cached_data._shape == v.shape
            and s.cached_data._dtype is v.dtype
            and s.cached_data._device is self.device
            for s, v in zip(states, self.graph.states, strict=True)
        )

    def run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int
    ) -> list[NDArray]:
        """Run the graph and return its results; states that change get their new data."""
        before = [s.numpy() for s in states]
        results, updates = evaluate(self.graph, [a.numpy() for a in arguments], before)
        for i, array in updates.items():
            new = self._array(array, self.graph.updates[i])
            if i in self.graph.in_place:
                overwrite(states[i], new)
            else:
                states[i]._replace_data(new)
        return list(map(self._array, results, self.graph.results))

    def _array(self, array: HostArray, view: View) -> NDArray:
        return NDArray(array, device=self.device, dtype=view.dtype)
