"""What nodes cost, in additions: for cutting work into parts, and for computing values again."""

from __future__ import annotations

from .graph import Node

# Costs of one element, in those of an addition, for cutting work into parts.
COSTS = {
    "exp": 8, "log": 8, "log1p": 10, "expm1": 8, "tanh": 10, "sigmoid": 8, "erf": 12, "sin": 10,
    "cos": 10, "pow": 40, "mod": 20, "floor_div": 20, "sqrt": 4, "rsqrt": 6, "div": 3,
    "reciprocal": 3,
}  # fmt: skip


CHEAP = 3  # up to this cost a value is computed again rather than kept


def cost_of(node: Node) -> int:
    """What one element of a node costs, an addition being 1."""
    names = [a for a in node.attributes if isinstance(a, str)]
    return COSTS.get(names[0], 1) if names else 1
