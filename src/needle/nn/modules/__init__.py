"""The layers under the names of PyTorch's files: `needle.nn.modules.batchnorm.BatchNorm2d`."""

import sys

from .. import (
    activation,
    batch_norm,
    container,
    conv,
    distance,
    dropout,
    embedding,
    flatten,
    instance_norm,
    linear,
    loss,
    module,
    norm,
    padding,
    pooling,
    rearrange,
    recurrent,
    transformer_stack,
)

_FILES = {
    "activation": activation,
    "batchnorm": batch_norm,
    "container": container,
    "conv": conv,
    "distance": distance,
    "dropout": dropout,
    "flatten": flatten,
    "instancenorm": instance_norm,
    "linear": linear,
    "loss": loss,
    "module": module,
    "normalization": norm,
    "padding": padding,
    "pixelshuffle": rearrange,
    "pooling": pooling,
    "rnn": recurrent,
    "sparse": embedding,
    "transformer": transformer_stack,
}
for _name, _file in _FILES.items():
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _file
