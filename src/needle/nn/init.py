"""`needle.init` under PyTorch's name, `torch.nn.init`."""

from typing import TYPE_CHECKING

from ..init import *  # noqa: F403
from ..init import __all__ as __all__
from ..module_names import names_of

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.nn.init")
