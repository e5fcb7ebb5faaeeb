"""The training loop, its recipes, progress, checkpoints and pictures."""

from .callbacks import Callback, Checkpoint, Profile
from .checkpoints import (
    CheckpointWarning,
    find_checkpoint,
    read_checkpoint,
)
from .history import History
from .loop import EpochResult, evaluate, fit, make_measure, make_step, train_epoch
from .metrics import Metric
from .progress import Progress
from .recipes import RECIPES, Recipe, Settings, Task, build_model, load_model, save_model
from .run import RunFolder, RunInUse, RunRecord, read_run
from .signals import Interrupted, Terminated
from .text import NextToken
from .trainer import Trainer

__all__ = [
    "RECIPES",
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "EpochResult",
    "History",
    "Interrupted",
    "Metric",
    "NextToken",
    "Profile",
    "Progress",
    "Recipe",
    "RunFolder",
    "RunInUse",
    "RunRecord",
    "Settings",
    "Task",
    "Terminated",
    "Trainer",
    "build_model",
    "evaluate",
    "find_checkpoint",
    "fit",
    "load_model",
    "make_measure",
    "make_step",
    "read_checkpoint",
    "read_run",
    "save_model",
    "train_epoch",
]
