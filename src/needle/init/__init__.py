"""Random and constant initial values.

Random numbers come from `numpy.random`'s global state, or from a `needle.Generator` that is given.
"""

from .basic import constant, one_hot, ones, ones_like, rand, randb, randn, zeros, zeros_like
from .fan import kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform

__all__ = [
    "constant",
    "kaiming_normal",
    "kaiming_uniform",
    "one_hot",
    "ones",
    "ones_like",
    "rand",
    "randb",
    "randn",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_like",
]
