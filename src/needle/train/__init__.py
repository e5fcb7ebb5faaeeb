"""The training loop, its recipes, progress, checkpoints and pictures."""

from .loop import EpochResult, History, evaluate, fit, make_measure, make_step, train_epoch
from .recipes import RECIPES, Recipe, Settings, Task, build_model, load_model, save_model
from .text import NextToken

__all__ = [
    "RECIPES",
    "EpochResult",
    "History",
    "NextToken",
    "Recipe",
    "Settings",
    "Task",
    "build_model",
    "evaluate",
    "fit",
    "load_model",
    "make_measure",
    "make_step",
    "save_model",
    "train_epoch",
]
