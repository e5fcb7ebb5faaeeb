"""`needle cache`: compiled programs and kernels."""

from __future__ import annotations

import typer

from ..disk_cache import cache_info
from ..disk_cache import clear_cache as remove_entries
from .errors import one_line_errors
from .printing import say, show_table

cache_app = typer.Typer(help="Compiled programs and kernels: look, remove.", no_args_is_help=True)


@cache_app.command("info")
def show_cache() -> None:
    """Where compiled code is kept, how much of it, and how much of the limit that fills."""
    with one_line_errors():
        held = cache_info()
    show_table(
        [
            ("folder", held.folder),
            ("programs", f"{held.entries - held.kernels:,}"),
            ("kernels", f"{held.kernels:,}"),
            ("size", f"{_mebibytes(held.bytes)} of {_mebibytes(held.limit)}"),
        ]
    )


@cache_app.command("clear")
def clear_cache() -> None:
    """Remove all compiled code. Processes that run keep theirs."""
    with one_line_errors():
        size, count = cache_info().bytes, remove_entries()
    say(f"programs and kernels removed: {count:,} ({_mebibytes(size)})")


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
