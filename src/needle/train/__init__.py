"""The training loop, its recipes, progress, checkpoints and pictures."""

from .loop import EpochResult, History, evaluate, fit, train_epoch
from .recipes import RECIPES, Recipe, load_model, save_model

__all__ = [
    "RECIPES",
    "EpochResult",
    "History",
    "Recipe",
    "evaluate",
    "fit",
    "load_model",
    "save_model",
    "train_epoch",
]
