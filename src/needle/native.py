"""The C++ core, or None where the package was built without a C++ compiler."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _core as core
else:
    try:
        core = importlib.import_module("needle._core")
    except ModuleNotFoundError:
        core = None

__all__ = ["core"]
