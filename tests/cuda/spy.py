"""Which kernels a GPU is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import needle as ndl


@contextmanager
def launched(gpu: ndl.Device) -> Iterator[list[str]]:
    """The sources of the kernels that are launched inside."""
    context, sources = gpu.context, []
    launch = context.launch

    def spy(what: str, source: str, *rest: Any) -> None:
        if not context.rehearsing:
            sources.append(source)
        launch(what, source, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "launch", spy)
        yield sources
