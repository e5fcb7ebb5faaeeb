"""`needle.utils.data` is `needle.data`, for programs that import it by PyTorch's name; and
`needle.utils.checkpoint`.
"""

import sys

from .. import data
from . import checkpoint

sys.modules[f"{__name__}.data"] = data

__all__ = ["checkpoint", "data"]
