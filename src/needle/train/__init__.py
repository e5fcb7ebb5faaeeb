"""Training: the loop, its callbacks and metrics, runs that can be taken up again, and tasks."""

from .callbacks import Callback, Checkpoint, Profile
from .checkpoints import CheckpointWarning, find_checkpoint, read_checkpoint
from .config import Config, completed, load_task, read_config, resolve
from .history import History
from .metrics import Metric
from .progress import Progress
from .records import Record, find_runs, read_record
from .run import RUNS, RunFolder, RunInUse
from .session import (
    LoadedRun,
    build_model,
    limits,
    load_run,
    make_trainer,
    train_batches,
    with_fitting_batches,
)
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
    "History",
    "Interrupted",
    "LoadedRun",
    "Metric",
    "NextToken",
    "Profile",
    "Progress",
    "Record",
    "RunFolder",
    "RunInUse",
    "Schedule",
    "Settings",
    "Task",
    "Terminated",
    "Trainer",
    "Training",
    "build_model",
    "completed",
    "find_checkpoint",
    "find_runs",
    "limits",
    "load_run",
    "load_task",
    "make_trainer",
    "read_checkpoint",
    "read_config",
    "read_record",
    "resolve",
    "train_batches",
    "with_fitting_batches",
]
