"""The line of the user's code that is running: that of the innermost frame outside of needle."""

from __future__ import annotations

import os
import sys
from types import FrameType

_FOLDER = os.path.dirname(os.path.realpath(__file__)) + os.sep


def user_code_frame() -> FrameType | None:
    """The innermost frame outside of needle; None where needle runs alone, as in its threads."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_FOLDER):
        frame = frame.f_back
    return frame


def user_line() -> tuple[str, int]:
    """The file and the line of the innermost frame outside of needle."""
    frame = user_code_frame()
    return ("an unknown file", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
