"""What a `Trainer` can do besides training: one callback a file."""

from .base import Callback
from .checkpoint import Checkpoint
from .confusion_file import ConfusionFile

__all__ = ["Callback", "Checkpoint", "ConfusionFile"]
