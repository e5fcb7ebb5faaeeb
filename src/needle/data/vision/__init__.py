"""Transforms of images, under the names of torchvision.

Each takes a Pillow image, an array H×W×C or a Tensor C×H×W (what `ToTensor` makes) and returns the
same kind. Random ones draw from `needle.data.random_state()`: NumPy's global generator, and in a
worker of a DataLoader one that belongs to the batch. `RandomCrop` and `Normalize` of `needle.data`
itself are those of the course.
"""

from ..transforms import Compose
from .color import ColorJitter, Grayscale, adjust_hue
from .geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
)
from .images import ImageTransform
from .mixing import cutmix, mixup
from .resize import RandomResizedCrop, Resize
from .tensors import Normalize, RandomErasing, ToTensor

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Grayscale",
    "ImageTransform",
    "Normalize",
    "Pad",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToTensor",
    "adjust_hue",
    "cutmix",
    "mixup",
]
