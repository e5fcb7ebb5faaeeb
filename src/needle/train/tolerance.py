"""Tolerance: files for looking at a run may fail to be written; training goes on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .checkpoints import CheckpointWarning


class Tolerance:
    """Makes of an OSError a warning, told once until writing works again.

    Parameters
    ----------
    subject : str
        What cannot be written then: "[Trainer] measurements".

    Examples
    --------
    >>> tolerance = Tolerance("[Trainer] measurements")
    >>> with tolerance.writing():
    ...     raise OSError(28, "No space left on device")  # warns
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._has_failed = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which something is written."""
        try:
            yield
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                warnings.warn(
                    f"{self._subject} cannot be written: {error}; training goes on",
                    CheckpointWarning,
                    stacklevel=4,
                )
        else:
            self._has_failed = False
