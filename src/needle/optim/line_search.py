"""A line search for the strong Wolfe conditions, with cubic interpolation, as PyTorch has it.

Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

Vector: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Evaluate: TypeAlias = Callable[[float], tuple[float, Vector]]


class _Point(NamedTuple):
    """A place on the line: the step, the loss, its gradient, and its slope along the line."""

    t: float
    loss: float
    gradient: Vector
    slope: float


def strong_wolfe(
    evaluate: Evaluate,
    t: float,
    direction: Vector,
    loss: float,
    gradient: Vector,
    slope: float,
    *,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance_change: float = 1e-9,
    most: int = 25,
) -> tuple[float, Vector, float, int]:
    """The loss and gradient at a step that lowers the loss enough and has a flatter slope; that
    step, and how many evaluations it took."""
    calls = 0

    def look(t: float) -> _Point:
        nonlocal calls
        calls += 1
        value, g = evaluate(t)
        return _Point(t, value, g, float(g @ direction))

    def too_high(p: _Point) -> bool:
        return p.loss > loss + c1 * p.t * slope

    start = _Point(0.0, loss, gradient, slope)
    bracket, done = _bracket(look, start, t, too_high, -c2 * slope, most)
    if not done:
        size = float(np.abs(direction).max())
        bracket = _zoom(
            look, bracket, too_high, -c2 * slope, tolerance_change / size, most - calls + 1
        )
    best = bracket[0]
    return best.loss, best.gradient, best.t, calls


def _bracket(
    look: Callable[[float], _Point],
    start: _Point,
    t: float,
    too_high: Callable[[_Point], bool],
    flat: float,
    most: int,
) -> tuple[list[_Point], bool]:
    """Two points around a good one, the lower first; or a good one and True."""
    before, here = start, look(t)
    for number in range(most):
        if too_high(here) or (number > 1 and here.loss >= before.loss):
            return sorted([before, here], key=lambda p: p.loss), False
        if abs(here.slope) <= flat:
            return [here], True
        if here.slope >= 0:
            return sorted([before, here], key=lambda p: p.loss), False
        low, high = here.t + 0.01 * (here.t - before.t), here.t * 10
        before, here = here, look(_cubic_minimum(before, here, low, high))
    return sorted([start, here], key=lambda p: p.loss), False


def _zoom(
    look: Callable[[float], _Point],
    bracket: list[_Point],
    too_high: Callable[[_Point], bool],
    flat: float,
    narrow: float,
    most: int,
) -> list[_Point]:
    """Shrink the bracket, whose first point is the lower, until that point is good."""
    best, other = bracket
    stuck = False
    for _ in range(max(most, 0)):
        left, right = sorted([best.t, other.t])
        if right - left < narrow:
            break
        t = _cubic_minimum(best, other, left, right)
        # A minimum near an end twice running does not shrink the bracket: go a tenth inward.
        near = min(right - t, t - left) < 0.1 * (right - left)
        if near and (stuck or t >= right or t <= left):
            inward = 0.1 * (right - left)
            t = right - inward if abs(t - right) < abs(t - left) else left + inward
            near = False
        stuck = near
        here = look(t)
        if too_high(here) or here.loss >= best.loss:
            other = here
            if other.loss < best.loss:
                best, other = other, best
            continue
        if abs(here.slope) <= flat:
            return [here]
        if here.slope * (other.t - best.t) >= 0:
            other = best
        best = here
    return [best, other]


def _cubic_minimum(a: _Point, b: _Point, low: float, high: float) -> float:
    """The minimum of the cubic through two points with their slopes, within [low, high]."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    below = b.slope - a.slope + 2 * d2
    if not below:
        return (low + high) / 2
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below)
    return min(max(t, low), high)
