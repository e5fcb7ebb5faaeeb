"""`needle.utils.data` is `needle.data`, for programs that import it by PyTorch's name."""

import sys

from .. import data

sys.modules[f"{__name__}.data"] = data

__all__ = ["data"]
