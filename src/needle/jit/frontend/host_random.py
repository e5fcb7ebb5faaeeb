"""Random numbers that the host draws at every call of a compiled function."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ...native import core
from ...typing import Shape


class Draw:
    """One draw of `numpy.random.rand` or `randn`.

    If the program does not read the numbers, as with dropout of p = 0, the generator advances as if
    they had been drawn.
    """

    def __init__(self, function: Callable[..., object], shape: Shape) -> None:
        self.function, self.shape = function, shape
        self.is_needed = True
        self._now: object = None

    def __call__(self) -> None:
        """Draw the numbers of a call."""
        if self.is_needed or not self._skip():
            self._now = self.function(*self.shape)

    def read(self) -> object:
        """The numbers of the present call."""
        return self._now

    def _skip(self) -> bool:
        """Advance the generator without drawing; returns whether that is possible."""
        generator = np.random.get_bit_generator()  # type: ignore[attr-defined]
        # How far randn advances depends on the numbers. A uniform double takes two words.
        if core is None or self.function is not np.random.rand:
            return False
        if type(generator) is not np.random.MT19937:
            return False
        with generator.lock:
            core.advance_mt19937(generator, 2 * prod(self.shape))
        return True
