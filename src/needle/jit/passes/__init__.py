"""All passes in their order."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.graph import Graph
from .products import batch_products, split_biases
from .rows import update_rows
from .scan import simplify_scans
from .simplify import (
    fold_constants,
    remove_dead_code,
    share_common_subexpressions,
    simplify_algebra,
)


def simplify_loops(graph: Graph) -> Graph:
    """The graph with its loops simplified; each loop body is optimized like a program."""
    return simplify_scans(graph, optimize)


PASSES: list[Callable[[Graph], Graph]] = [
    remove_dead_code,
    split_biases,
    fold_constants,
    simplify_algebra,
    share_common_subexpressions,
    batch_products,
    simplify_loops,
    update_rows,
    remove_dead_code,
]


def optimize(graph: Graph) -> Graph:
    """The graph after all passes."""
    for change in PASSES:
        graph = change(graph)
    return graph
