"""The cost of nodes, in additions: to split work among threads, and to decide on recomputation."""

from __future__ import annotations

from ...backend_ndarray.primitives import PRIMITIVES
from .graph import Loop, Node

# The cost of one element, in additions, by the operation; used to split work among threads.
COSTS = {
    "exp": 8, "log": 8, "log1p": 10, "expm1": 8, "tanh": 10, "sigmoid": 8, "erf": 12, "sin": 10,
    "cos": 10, "pow": 40, "mod": 20, "floor_div": 20, "sqrt": 4, "rsqrt": 6, "div": 3,
    "reciprocal": 3,
    **dict.fromkeys(
        ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "exp2",
         "log2", "log10"), 40,
    ),
}  # fmt: skip


CHEAP = 3  # the highest cost at which a value is recomputed rather than stored


def cost_of(node: Node) -> int:
    """The cost of one element of a node; an addition costs 1."""
    names = [a for a in node.attributes if isinstance(a, str)]
    return COSTS.get(names[0], 1) if names else 1


def flops_of(node: Node) -> int:
    """The floating-point operations of a node; a function such as exp counts as its cost."""
    if node.op == "scan":
        loop: Loop = node.operands[0]
        return loop.length * sum(map(flops_of, loop.body.nodes))
    flops = PRIMITIVES[node.op].flops
    if flops is not None:
        return flops(*node.operands)
    of = node.inputs[0] if node.op == "reduce" else node.outputs[0]
    return cost_of(node) * of.size
