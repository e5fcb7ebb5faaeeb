"""What a `Trainer` can do besides training: one callback a file."""

from .base import Callback
from .checkpoint import Checkpoint

__all__ = ["Callback", "Checkpoint"]
