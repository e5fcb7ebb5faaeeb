"""Pictures of runs, as PNG (matplotlib, part of the extra `needle-dl[cli]`)."""

from .comparison import save_comparison
from .confusion import save_confusion
from .mistakes import save_mistakes
from .report import save_report

__all__ = ["save_comparison", "save_confusion", "save_mistakes", "save_report"]
