"""Transforms of images, under the names of torchvision.

Each takes a Pillow image, an array H×W×C or a Tensor C×H×W (what `ToTensor` makes) and returns the
same kind. Random ones draw from `needle.data.random_state()`: NumPy's global generator, and in a
worker of a DataLoader one that belongs to the batch. `RandomCrop` and `Normalize` of `needle.data`
itself are those of the course.
"""

from ..transforms import Compose
from .blur import GaussianBlur
from .choice import Lambda, RandomApply, RandomChoice
from .color import ColorJitter, Grayscale, RandomGrayscale, adjust_hue
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
from .resize import InterpolationMode, RandomResizedCrop, Resize
from .tensors import Normalize, PILToTensor, RandomErasing, ToPILImage, ToTensor

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "GaussianBlur",
    "Grayscale",
    "ImageTransform",
    "InterpolationMode",
    "Lambda",
    "Normalize",
    "PILToTensor",
    "Pad",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToPILImage",
    "ToTensor",
    "adjust_hue",
    "cutmix",
    "mixup",
]
