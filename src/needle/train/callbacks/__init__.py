"""What a `Trainer` can do besides training: one callback a file."""

from .base import Callback
from .best_model import BestModel
from .checkpoint import Checkpoint
from .confusion_file import ConfusionFile
from .csv_log import CSVLog
from .early_stopping import EarlyStopping
from .ema import EMA
from .gradient_statistics import GradientStatistics
from .learning_rate import LearningRates, find_learning_rate
from .print_rows import PrintRows
from .profile import Profile
from .stop_at_nan import StopAtNaN
from .tensorboard import TensorBoard

__all__ = [
    "EMA",
    "BestModel",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "ConfusionFile",
    "EarlyStopping",
    "GradientStatistics",
    "LearningRates",
    "PrintRows",
    "Profile",
    "StopAtNaN",
    "TensorBoard",
    "find_learning_rate",
]
