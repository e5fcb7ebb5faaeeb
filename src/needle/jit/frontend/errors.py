"""Exceptions that end a trace, and the line of the user's code that their messages name."""

from __future__ import annotations

import linecache

from ...autograd import Op
from ...autograd.tracing import Untraceable
from ...user_lines import user_line


class TraceError(Untraceable):
    """The function does something that cannot be compiled; the message names the line."""


class AliasedArgument(BaseException):
    """The function also reaches one of its arguments (a Tensor, list or dict) from outside.

    It derives from BaseException so that the traced function does not catch it.
    """

    def __init__(self, argument: object) -> None:
        super().__init__()
        self.argument = argument


class FunctionRaised(Exception):
    """The function has raised `error` while it was traced."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Unrepeatable(BaseException):
    """The function does something that no program can do again; the message says what.

    It derives from BaseException so that the traced function does not catch it.
    """


class NotALoop(Exception):
    """The step of a scan does something that a loop node cannot: the loop must be unrolled."""


class LeakedValue(Op):
    """Replaces the op of a Tensor that was made inside of a compiled function but used outside."""

    def __init__(self, file: str, line: int) -> None:
        self.file, self.line = file, line

    def compute(self, *args: object) -> object:
        """Raises TraceError."""
        source = linecache.getline(self.file, self.line).strip()
        raise TraceError(
            "[jit] a tensor that was made inside of a compiled function did not leave it, and has "
            f"no value here: return it from the function.\n  made in {self.file}:{self.line}: "
            f"{source}\n  used in {user_frame()}"
        )


def user_frame() -> str:
    """`file:line: source` of the innermost frame outside of needle."""
    file, line = user_line()
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"
