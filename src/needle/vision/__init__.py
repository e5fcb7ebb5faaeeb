"""What `torchvision` has under its names: `from needle.vision import datasets, transforms, utils`.

The data sets give (image, label), the image after `transform`; the transforms are those of
`needle.data.vision`.
"""

from . import datasets, transforms, utils

__all__ = ["datasets", "transforms", "utils"]
