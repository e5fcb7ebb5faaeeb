"""What a mistake of the user's looks like: one line, exit code 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..train import RunInUse
from .printing import complain

MISTAKES = (ValueError, TypeError, OSError, FloatingPointError, ImportError, RunInUse)

EXTRAS = {"matplotlib": "cli", "PIL": "images"}  # what libraries are part of


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A mistake of the user's ends the command with its message, not with a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        raise
    except MISTAKES as error:
        extra = EXTRAS.get(getattr(error, "name", None) or "")
        what = f"; run: pip install 'needle-dl[{extra}]'" if extra else ""
        complain(f"{error}{what}")
        raise typer.Exit(1) from None
    except MemoryError as error:
        complain(str(error) or "out of memory")
        raise typer.Exit(1) from None
