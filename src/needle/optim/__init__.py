"""Optimizers, learning-rate schedules and gradient clipping."""

from typing import TYPE_CHECKING

from ..module_names import names_of
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from . import lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adafactor import Adafactor
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .asgd import ASGD
from .clip import clip_grad_norm, clip_grad_value
from .lbfgs import LBFGS
from .lion import Lion
from .lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CosineLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
    WarmupLR,
)
from .muon import Muon
from .muon_with_adamw import MuonWithAdamW, muon_groups
from .nadam import NAdam
from .optimizer import Optimizer
from .radam import RAdam
from .rmsprop import RMSProp, RMSprop
from .rprop import Rprop
from .sgd import SGD

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax",
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts",
    "CosineLR", "CyclicLR", "ExponentialLR", "LambdaLR", "LinearLR", "Lion", "MultiStepLR",
    "MultiplicativeLR", "Muon", "MuonWithAdamW", "NAdam", "OneCycleLR", "Optimizer", "PolynomialLR",
    "RAdam", "RMSProp", "RMSprop", "ReduceLROnPlateau", "Rprop", "Schedule", "SequentialLR",
    "StepLR", "WarmupLR", "clip_grad_norm", "clip_grad_norm_", "clip_grad_value",
    "clip_grad_value_", "muon_groups",
]  # fmt: skip

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.optim")
