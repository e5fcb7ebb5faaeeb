"""Targets: what the schedule of a graph depends on of the device that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.domain import Domain, domain_of
from ..ir.graph import Graph, Node
from . import gpu_nest
from .epilogues import fuse_epilogues
from .loop_nest import Nest


@dataclass(frozen=True)
class Target:
    """How a kind of device runs loops and matrix products."""

    # A node can be in a nest if this gives it a domain.
    domain_of: Callable[[Node], Domain | None]
    # An empty nest of so many points. It decides which nodes fit into it.
    new_nest: Callable[[int], Nest]
    # The graph with the epilogues that the device's own matrix products have.
    fuse_epilogues: Callable[[Graph], Graph] | None = None
    # Whether matrix products and convolutions take a nest as their epilogue.
    nests_are_epilogues: bool = False
    # Whether one more kernel costs more than waiting for others, as it does on a GPU. An
    # optimizer's step, which is one launch anyway, is then kept out of other nests, and nests that
    # do not depend on each other get disjoint memory, so that they can share a launch.
    few_launches: bool = False


CPU = Target(domain_of, Nest, nests_are_epilogues=True)
GPU = Target(
    gpu_nest.domain_of, gpu_nest.LineNest, fuse_epilogues=fuse_epilogues, few_launches=True
)
