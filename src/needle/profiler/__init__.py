"""Where a program's time goes: a timeline for Perfetto, and a table.

    with ndl.profiler.profile() as prof:
        train_step(x, y)
    print(prof.key_averages().table())
    prof.export_chrome_trace("trace.json")

The names are those of `torch.profiler`.
"""

from __future__ import annotations

from .averages import Average, Averages
from .schedules import ProfilerAction, ProfilerActivity, schedule, tensorboard_trace_handler
from .session import profile, record_function

__all__ = [
    "Average",
    "Averages",
    "ProfilerAction",
    "ProfilerActivity",
    "profile",
    "record_function",
    "schedule",
    "tensorboard_trace_handler",
]
