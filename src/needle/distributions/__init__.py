"""Probability distributions: draws, densities, entropies and divergences."""

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
