"""Learning-rate schedules under PyTorch's name of the module."""

from typing import TYPE_CHECKING

from ..module_names import names_of
from .schedule import CosineLR, Schedule, StepLR, WarmupLR
from .schedule_compose import ChainedScheduler, SequentialLR
from .schedule_cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .schedule_factors import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
)
from .schedule_plateau import ReduceLROnPlateau

LRScheduler = Schedule

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CosineLR",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.optim.lr_scheduler")
