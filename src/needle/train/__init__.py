"""The training loop, its recipes, progress, checkpoints and pictures."""

from .callbacks import Callback
from .loop import EpochResult, History, evaluate, fit, make_measure, make_step, train_epoch
from .metrics import Metric
from .progress import Progress
from .recipes import RECIPES, Recipe, Settings, Task, build_model, load_model, save_model
from .run import RunFolder, RunInUse, RunRecord, read_run
from .text import NextToken

__all__ = [
    "RECIPES",
    "Callback",
    "EpochResult",
    "History",
    "Metric",
    "NextToken",
    "Progress",
    "Recipe",
    "RunFolder",
    "RunInUse",
    "RunRecord",
    "Settings",
    "Task",
    "build_model",
    "evaluate",
    "fit",
    "load_model",
    "make_measure",
    "make_step",
    "read_run",
    "save_model",
    "train_epoch",
]
