"""What a `Trainer` can do besides training: one callback a file."""

from .base import Callback

__all__ = ["Callback"]
