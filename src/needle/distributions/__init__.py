"""Probability distributions: draws, densities, entropies and divergences."""

import sys
from typing import TYPE_CHECKING

from ..module_names import names_of
from .continuous import Exponential, Laplace, Uniform
from .discrete import Bernoulli, Categorical, OneHotCategorical, Poisson
from .distribution import Distribution
from .divergence import kl_divergence, register_kl
from .gamma import Beta, Dirichlet, Gamma
from .independent import Independent
from .normal import LogNormal, MultivariateNormal, Normal

# PyTorch has a module for each class: `from needle.distributions.categorical import Categorical`.
for _name in (
    "bernoulli", "beta", "categorical", "dirichlet", "exponential", "kl", "laplace", "log_normal",
    "multivariate_normal", "one_hot_categorical", "poisson", "uniform",
):  # fmt: skip
    sys.modules[f"{__name__}.{_name}"] = sys.modules[__name__]

__all__ = [
    "Bernoulli", "Beta", "Categorical", "Dirichlet", "Distribution", "Exponential", "Gamma",
    "Independent", "Laplace", "LogNormal", "MultivariateNormal", "Normal", "OneHotCategorical",
    "Poisson", "Uniform", "kl_divergence", "register_kl",
]  # fmt: skip

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.distributions")
