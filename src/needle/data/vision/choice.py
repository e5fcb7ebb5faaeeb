"""Transforms that choose whether and which transforms are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..transforms import random_state
from .images import check_probability


class Lambda:
    """A function as a transform.

    Parameters
    ----------
    lambd : callable
        The function.

    Raises
    ------
    TypeError
        If it cannot be called.

    Examples
    --------
    >>> from needle.data import vision
    >>> vision.Lambda(lambda x: x * 2)(3)
    6
    """

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"[Lambda] needs a function, got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)


class RandomApply:
    """Apply all of some transforms with probability `p`, or none.

    Draws `rand()`.

    Parameters
    ----------
    transforms : sequence of callable
        Applied in order.
    p : float, default 0.5

    Raises
    ------
    ValueError
        If `p` is no probability.

    Examples
    --------
    >>> from needle.data import vision
    >>> vision.RandomApply([abs], p=1.0)(-1)
    1
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        self.transforms = transforms
        self.p = check_probability(p, "RandomApply")

    def __call__(self, image: Any) -> Any:
        if random_state().rand() < self.p:
            for transform in self.transforms:
                image = transform(image)
        return image


class RandomChoice:
    """Apply one of some transforms.

    Draws `choice(n)`.

    Parameters
    ----------
    transforms : sequence of callable
        From which one is drawn.
    p : sequence of float, optional
        How often each is drawn; all equally often by default.

    Raises
    ------
    ValueError
        If there is no transform.

    Examples
    --------
    >>> from needle.data import vision
    >>> vision.RandomChoice([abs])(-1)
    1
    """

    def __init__(
        self, transforms: Sequence[Callable[[Any], Any]], p: Sequence[float] | None = None
    ) -> None:
        if not transforms or (p is not None and len(p) != len(transforms)):
            raise ValueError(
                f"[RandomChoice] needs transforms, and a number for each in p; got "
                f"{len(transforms)} transforms and p={p}"
            )
        self.transforms = transforms
        self.p = None if p is None else [x / sum(p) for x in p]

    def __call__(self, image: Any) -> Any:
        return self.transforms[random_state().choice(len(self.transforms), p=self.p)](image)


__all__ = ["Lambda", "RandomApply", "RandomChoice"]
