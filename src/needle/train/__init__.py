"""The training loop, its recipes, progress, checkpoints and pictures."""

from .callbacks import Callback, Checkpoint, Profile
from .checkpoints import (
    CheckpointWarning,
    find_checkpoint,
    read_checkpoint,
)
from .config import Config, completed, load_task, read_config, resolve
from .history import History
from .loop import EpochResult, evaluate, fit, make_measure, make_step, train_epoch
from .metrics import Metric
from .progress import Progress
from .recipes import RECIPES, Recipe, build_model, load_model, save_model
from .run import RunFolder, RunInUse, RunRecord, read_run
from .settings import Schedule, Settings, Training
from .signals import Interrupted, Terminated
from .tasks import TASKS, NextToken, Task
from .trainer import Trainer

__all__ = [
    "RECIPES",
    "TASKS",
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "Config",
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
    "Schedule",
    "Settings",
    "Task",
    "Terminated",
    "Trainer",
    "Training",
    "build_model",
    "completed",
    "evaluate",
    "find_checkpoint",
    "fit",
    "load_model",
    "load_task",
    "make_measure",
    "make_step",
    "read_checkpoint",
    "read_config",
    "read_run",
    "resolve",
    "save_model",
    "train_epoch",
]
