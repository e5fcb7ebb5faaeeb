"""Probability distributions: draws, densities, entropies and divergences."""

from typing import TYPE_CHECKING

from ..module_names import names_of
from .continuous import Exponential, Laplace, Uniform
from .discrete import Bernoulli, Categorical, OneHotCategorical, Poisson
from .distribution import Distribution
from .divergence import kl_divergence, register_kl
from .gamma import Beta, Dirichlet, Gamma
from .independent import Independent
from .normal import LogNormal, MultivariateNormal, Normal

__all__ = [
    "Bernoulli", "Beta", "Categorical", "Dirichlet", "Distribution", "Exponential", "Gamma",
    "Independent", "Laplace", "LogNormal", "MultivariateNormal", "Normal", "OneHotCategorical",
    "Poisson", "Uniform", "kl_divergence", "register_kl",
]  # fmt: skip

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.distributions")
