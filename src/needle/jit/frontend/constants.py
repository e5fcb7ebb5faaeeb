"""Values that are the same at every call: they depend only on constants made inside a trace."""

from __future__ import annotations

from ...typing import HostArray
from ..ir.evaluate import Memory, contents_of, run_node, seen
from ..ir.graph import Graph, Node, Value, View


class Constants:
    """The values that nodes compute from constants made inside, and their contents on demand.

    The traced function may look at such a value, for example with `.numpy()`.
    """

    def __init__(self, program: Graph) -> None:
        self._program = program
        self._nodes: dict[int, Node] = {}  # those that compute such values, by the values' ids
        self._contents: Memory = {}

    def __contains__(self, value: Value) -> bool:
        return id(value) in self._nodes or id(value) in self._program.literals

    def add(self, node: Node) -> None:
        """Note a node of the trace."""
        if node.op != "scan" and all(value in self for value in node.needed()):
            self._nodes.update((id(view.value), node) for view in node.outputs)

    def contents(self, view: View) -> HostArray:
        """The contents of a view of such a value; recording must be paused."""
        needed = self._needed(view.value)
        for value, array in self._program.constants:
            if id(value) in self._program.literals:
                self._contents.setdefault(id(value), contents_of(array))
        for node in dict.fromkeys(self._nodes.values()):  # in the order of the program
            if id(node) in needed and id(node.outputs[0].value) not in self._contents:
                run_node(node, self._contents)
        contents: HostArray = seen(view, self._contents).copy()
        return contents

    def _needed(self, value: Value) -> set[int]:
        """The ids of the nodes that a value depends on."""
        needed: set[int] = set()
        stack = [value]
        while stack:
            node = self._nodes.get(id(stack.pop()))
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                stack += node.needed()
        return needed
