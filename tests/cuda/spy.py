"""Which kernels a GPU is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import needle as ndl


class Launch(NamedTuple):
    """A kernel, and what it is for."""

    what: str
    source: str


@contextmanager
def launched(gpu: ndl.Device) -> Iterator[list[Launch]]:
    """The kernels that are launched inside, in their order."""
    context, launches = gpu.context, []
    launch = context.launch

    def spy(what: str, source: str, *rest: Any) -> None:
        if not context.streams.current.rehearsing:
            launches.append(Launch(what, source))
        launch(what, source, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "launch", spy)
        yield launches
