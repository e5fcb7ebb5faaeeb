"""What `needle train NAME` trains: the data, the models and the settings that work for them."""

from .models import (
    MODELS,
    errors_named,
    find_model,
    is_in_current_folder,
    make_model,
    model_options,
)
from .registry import TASKS, task_kind
from .task import Batches, Task, TaskKind
from .text import NextToken, Windows, tokenizer_of

__all__ = [
    "MODELS",
    "TASKS",
    "Batches",
    "NextToken",
    "Task",
    "TaskKind",
    "Windows",
    "errors_named",
    "find_model",
    "is_in_current_folder",
    "make_model",
    "model_options",
    "task_kind",
    "tokenizer_of",
]
