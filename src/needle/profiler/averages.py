"""The table of a profile: the spans of one name together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .recording import Span


@dataclass
class Average:
    """The spans of one name. Times are in microseconds, as PyTorch has them.

    Parameters
    ----------
    key : str
        The name.
    category : str
        "op", "backward", "module", "optimizer", "program", "kernel", "compile", "data", "wait",
        "step" or "user".
    input_shapes : str
        The shapes of the inputs where the table is grouped by them, else "".
    count : int
        How many spans there were.
    cpu_time_total : float
        Their time, with all that happened within them.
    self_cpu_time_total : float
        Their time without the spans within them.
    cpu_memory_usage : int
        Bytes that they left in use.

    Examples
    --------
    >>> from needle.profiler import Average
    >>> Average("MatMul", "op", count=2, cpu_time_total=30.0).cpu_time
    15.0
    """

    key: str
    category: str
    input_shapes: str = ""
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    cpu_memory_usage: int = 0

    @property
    def cpu_time(self) -> float:
        """Microseconds of one span, on average."""
        return self.cpu_time_total / max(self.count, 1)


# What a table is sorted by, under PyTorch's names and short ones.
_SORTS: dict[str, Callable[[Average], Any]] = {
    "self_cpu_time_total": lambda a: -a.self_cpu_time_total,
    "cpu_time_total": lambda a: -a.cpu_time_total,
    "cpu_time": lambda a: -a.cpu_time,
    "count": lambda a: -a.count,
    "cpu_memory_usage": lambda a: -a.cpu_memory_usage,
    "key": lambda a: a.key,
}
_SHORT = {
    "self": "self_cpu_time_total", "total": "cpu_time_total", "mean": "cpu_time",
    "calls": "count", "memory": "cpu_memory_usage", "name": "key",
}  # fmt: skip


class Averages(list[Average]):
    """The averages of a profile; `table()` shows them.

    Parameters
    ----------
    iterable : iterable of Average, optional
        The averages.

    Examples
    --------
    >>> import needle as ndl
    >>> with ndl.profiler.profile() as prof:
    ...     _ = ndl.ones(2) + 1
    >>> [(average.key, average.count) for average in prof.key_averages()]
    [('AddScalar', 1)]
    """

    def table(self, sort_by: str | None = None, row_limit: int = 100) -> str:
        """Return the table.

        Parameters
        ----------
        sort_by : str, optional
            "self_cpu_time_total" (the default), "cpu_time_total", "cpu_time", "count",
            "cpu_memory_usage" or "key"; in short "self", "total", "mean", "calls", "memory",
            "name".
        row_limit : int, default 100
            The most rows.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            For another `sort_by`.

        Examples
        --------
        >>> import needle as ndl
        >>> with ndl.profiler.profile() as prof:
        ...     _ = ndl.ones(2) + 1
        >>> prof.key_averages().table(sort_by="calls").split()[:3]
        ['name', 'kind', 'self']
        """
        wanted = _SHORT.get(sort_by or "self", sort_by or "self")
        if wanted not in _SORTS:
            raise ValueError(
                f"[table] sort_by must be one of {', '.join(_SORTS)}, or in short "
                f"{', '.join(_SHORT)}; got {sort_by!r}"
            )
        total = sum(a.self_cpu_time_total for a in self) or 1.0
        head = ("name", "kind", "self %", "self", "total", "mean", "calls", "memory")
        rows = [
            (
                f"{a.key} {a.input_shapes}".rstrip(), a.category,
                f"{100 * a.self_cpu_time_total / total:.1f} %", _time(a.self_cpu_time_total),
                _time(a.cpu_time_total), _time(a.cpu_time), str(a.count),
                _size(a.cpu_memory_usage),
            )
            for a in sorted(self, key=_SORTS[wanted])[:row_limit]
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, *rows)
        ]
        rest = len(self) - len(rows)
        return "\n".join([*lines, *([f"… and {rest} more"] if rest > 0 else [])])


def averages(spans: Iterable[Span], by_shape: bool) -> Averages:
    """The spans by their names, and by the shapes of the inputs where `by_shape`."""
    spans = list(spans)
    within: dict[int, int] = defaultdict(int)  # the nanoseconds of the spans right within one
    for span in spans:
        if span.parent is not None:
            within[id(span.parent)] += span.duration
    found: dict[tuple[str, str, str], Average] = {}
    for span in spans:
        shapes = " ".join(map(str, span.facts.get("shapes", ()))) if by_shape else ""
        name = "ProfilerStep*" if span.category == "step" else span.name
        key = (name, span.category, shapes)
        average = found.setdefault(key, Average(*key))
        average.count += 1
        average.self_cpu_time_total += max(span.duration - within[id(span)], 0) / 1000
        average.cpu_memory_usage += span.memory
        if not any((a.name, a.category) == key[:2] for a in span.ancestors()):
            average.cpu_time_total += span.duration / 1000
    return Averages(found.values())


def _time(microseconds: float) -> str:
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= scale:
            return f"{microseconds / scale:.3f} {unit}"
    return f"{microseconds:.1f} us"


def _size(count: int) -> str:
    if not count:
        return "0 B"
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
