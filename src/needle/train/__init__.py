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
from .run import RUNS, RunFolder, RunInUse, RunRecord, read_run
from .session import LoadedRun, build_model, limits, load_run, make_trainer, train_batches
from .settings import Schedule, Settings, Training
from .signals import Interrupted, Terminated
from .tasks import TASKS, NextToken, Task
from .trainer import Trainer

__all__ = [
    "RUNS",
    "TASKS",
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "Config",
    "EpochResult",
    "History",
    "Interrupted",
    "LoadedRun",
    "Metric",
    "NextToken",
    "Profile",
    "Progress",
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
    "limits",
    "load_run",
    "load_task",
    "make_measure",
    "make_step",
    "make_trainer",
    "read_checkpoint",
    "read_config",
    "read_run",
    "resolve",
    "train_batches",
    "train_epoch",
]
