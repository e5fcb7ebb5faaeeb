"""Complete networks, built from `needle.nn`."""

from .mlp_resnet import MLPResNet, ResidualBlock

__all__ = ["MLPResNet", "ResidualBlock"]
