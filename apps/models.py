"""The course's models, from the package."""

from __future__ import annotations

from needle.models import ConvBN, LanguageModel, ResNet9

__all__ = ["ConvBN", "LanguageModel", "ResNet9"]
