"""Activations that change their argument, with a trailing underscore as in PyTorch."""

from __future__ import annotations

from ...ops._methods import in_place
from . import _activation

relu_ = in_place(_activation.relu, "relu_")
elu_ = in_place(_activation.elu, "elu_")
selu_ = in_place(_activation.selu, "selu_")
celu_ = in_place(_activation.celu, "celu_")
leaky_relu_ = in_place(_activation.leaky_relu, "leaky_relu_")
hardtanh_ = in_place(_activation.hardtanh, "hardtanh_")
threshold_ = in_place(_activation.threshold, "threshold_")
rrelu_ = in_place(_activation.rrelu, "rrelu_")
