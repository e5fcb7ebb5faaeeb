"""Everything that the command line prints goes through here.

Much of it comes from outside: paths, names, messages of errors. It is shown as it is; nothing in it
is read as markup, as an emoji or as an instruction to the terminal.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text


class _Console(Console):
    """A console whose reader may go away; see `outlives_its_readers`."""

    may_be_lost = False

    def __exit__(self, *exc: Any) -> None:
        """Where rich writes; what cannot be written is dropped, if it may be."""
        try:
            super().__exit__(*exc)
        except OSError as error:
            _lost(error)

    def on_broken_pipe(self) -> None:
        """Write nothing from now on; and end the command, if it has nothing else to do."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            if not _Console.may_be_lost:
                raise


def _lost(error: OSError) -> None:
    """End the command, whose output cannot be written, if it has nothing else to do."""
    if not _Console.may_be_lost:
        raise SystemExit(f"needle: the output cannot be written: {error.strerror}") from None


@contextmanager
def outlives_its_readers() -> Iterator[None]:
    """Within it, the command goes on where what it prints cannot be written: the pipe is closed,
    the disk is full. A training of days is worth more than its log."""
    _Console.may_be_lost = True
    try:
        yield
    finally:
        _Console.may_be_lost = False


console = _Console()

# Characters that turn the direction of what follows: a name could show as another.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(value: object) -> str:
    """`str(value)` with escapes, such as \\x1b, in the place of characters that steer a terminal or
    cannot be encoded; lines and tabs stay."""
    return "".join(_shown(c) for c in str(value))


def _shown(c: str) -> str:
    if c in "\n\t" or not (unicodedata.category(c) in ("Cc", "Cs") or c in _TURNING):
        return c
    return c.encode("unicode_escape").decode()


def say(*parts: object, style: str = "") -> None:
    """One line of the parts, separated by spaces."""
    text = Text(" ".join(map(visible, parts)), style)
    console.print(text, highlight=False, soft_wrap=True)


def show(text: Text) -> None:
    """A styled text, made of parts that are `visible`."""
    console.print(text, highlight=False, soft_wrap=True)


def complain(message: object) -> None:
    """An error, on stderr."""
    text = Text.assemble(("needle:", "red"), " ", visible(message))
    _Console(stderr=True).print(text, highlight=False, soft_wrap=True)


def show_table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> None:
    """Rows of cells in columns, each as wide as its longest cell: nothing is cut off or broken."""
    lines = [[visible(cell).replace("\n", "\\n") for cell in row] for row in (header, *rows) if row]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for i, line in enumerate(lines):
        text = "  ".join(set_cell_size(*cell) for cell in zip(line, widths, strict=True))
        say(text.rstrip(), style="bold" if header and i == 0 else "")


def write(text: str) -> None:
    """A piece of a text that the program makes: exact in a file or a pipe."""
    try:
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        console.on_broken_pipe()
    except OSError as error:
        _lost(error)


def text_column(template: str) -> TextColumn:
    """A column of a progress bar; `template` is filled with `task`."""
    return TextColumn(template, markup=False)
