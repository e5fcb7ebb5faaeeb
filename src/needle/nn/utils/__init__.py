"""Functions for training modules, under PyTorch's names.

`needle.nn.utils.rnn` has sequences of several lengths, `needle.nn.utils.parametrizations` weights
that are computed from other parameters.
"""

import sys

from . import gradients as clip_grad
from . import parametrizations, rnn
from .gradients import clip_grad_norm_, clip_grad_value_, get_total_norm
from .parametrizations import (
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)
from .vectors import parameters_to_vector, vector_to_parameters

sys.modules[f"{__name__}.clip_grad"] = clip_grad  # the file's name in PyTorch

__all__ = [
    "clip_grad",
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
