"""Files: nested structures and checkpoints in the safetensors format, and files of `torch.save`."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .storage import load, save

__all__ = ["Checkpoint", "load", "load_checkpoint", "save", "save_checkpoint"]
