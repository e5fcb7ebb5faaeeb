"""The transforms of `needle.data.vision`, under the name of torchvision's module."""

from ..data.vision import *  # noqa: F403
from ..data.vision import __all__ as __all__
