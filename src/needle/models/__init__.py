"""Complete networks, built from `needle.nn`."""

from .generate import generate, sample
from .gpt import GPT
from .language_model import LanguageModel
from .mlp_resnet import MLPResNet, ResidualBlock
from .resnet9 import ConvBN, ResNet9
from .small_resnet import SmallResNet
from .tabular import Tabular

__all__ = [
    "GPT",
    "ConvBN",
    "LanguageModel",
    "MLPResNet",
    "ResNet9",
    "ResidualBlock",
    "SmallResNet",
    "Tabular",
    "generate",
    "sample",
]
