"""Files: nested structures in the safetensors format, and files of `torch.save`."""

from .storage import load, save

__all__ = ["load", "save"]
