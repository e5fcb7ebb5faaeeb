"""`needle.init` under PyTorch's name, `torch.nn.init`."""

from ..init import *  # noqa: F403
from ..init import __all__ as __all__
