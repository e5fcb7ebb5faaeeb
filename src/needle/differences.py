"""Warnings where needle differs from PyTorch and the difference would go unnoticed."""

from __future__ import annotations

import warnings

_told: set[str] = set()


class DifferenceWarning(UserWarning):
    """needle does something else than PyTorch does; the text says what to write.

    Each difference is told once a process. To silence them:

    >>> import warnings
    >>> warnings.filterwarnings("ignore", category=DifferenceWarning)
    """


def tell(
    difference: str, text: str, stacklevel: int, category: type[Warning] = DifferenceWarning
) -> None:
    """Warn of a difference, or of another mistake, unless the process has been told of it.

    `stacklevel` counts from the caller, as in `warnings.warn`.
    """
    if difference not in _told:
        _told.add(difference)
        warnings.warn(text, category, stacklevel=stacklevel + 1)


def forget_told() -> None:
    """Tell everything once more, as a new process does."""
    _told.clear()
