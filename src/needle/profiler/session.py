"""`profile` and `record_function`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from ..contexts import decorated
from .averages import Averages, averages
from .kernels import add_kernels
from .recording import Recording, Span
from .schedules import ProfilerAction, ProfilerActivity
from .trace_file import write_trace

_Function = TypeVar("_Function")
_RECORDS = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)

# The recording that goes on in this process.
_current: Recording | None = None


class profile:
    """Record where the time goes, in all threads of this process.

    Recorded are: operations with their shapes, backward passes by operation, modules, compiled
    functions, compilation, the optimizer's steps, the DataLoader's fetches in its threads and the
    waiting for them, waiting for the device (`item`, `numpy`), `record_function`, and the memory in
    use. Without a profiler nothing is measured, and nothing costs time. While one records, each
    span takes some ten microseconds. On `cuda()` the time of an operation is that of its launch.

    Parameters
    ----------
    activities : iterable of ProfilerActivity, optional
        Accepted as in PyTorch; everything is recorded in any case.
    schedule : callable, optional
        Says which steps are recorded, see `needle.profiler.schedule`; all by default. `step()`
        ends a step.
    on_trace_ready : callable, optional
        Called with the profiler when a recording is complete.
    record_shapes : bool, default True
        Whether the shapes of inputs are kept.
    profile_memory : bool, default True
        Whether the memory in use on the default device is.
    with_stack : bool, default False
        Whether the line of the program is.
    kernels : bool, default False
        Whether the kernels of compiled functions on `cpu()` are shown within their calls. Their
        times are averages of separate runs, as in `explain(profile=True)`, which take seconds when
        the recording ends.

    Raises
    ------
    RuntimeError
        If another profiler records.

    Examples
    --------
    >>> import needle as ndl
    >>> with ndl.profiler.profile() as prof, ndl.profiler.record_function("mine"):
    ...     _ = ndl.ones(2) + 1
    >>> [average.key for average in prof.key_averages()]
    ['mine', 'AddScalar']
    """

    def __init__(
        self,
        activities: Iterable[ProfilerActivity] | None = None,
        *,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], object] | None = None,
        record_shapes: bool = True,
        profile_memory: bool = True,
        with_stack: bool = False,
        kernels: bool = False,
    ) -> None:
        self._schedule, self._on_trace_ready = schedule, on_trace_ready
        self._options = record_shapes, profile_memory, with_stack
        self._kernels = kernels
        self.step_num = 0
        self._action = ProfilerAction.NONE
        self._instruments: Any = None
        self._recording: Recording | None = None
        self._step_span: Span | None = None

    # ---- recording ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, as `with` does."""
        self.step_num = 0
        self._enter_step()

    def stop(self) -> None:
        """End, as the end of `with` does."""
        self._finish()
        self._action = ProfilerAction.NONE

    def step(self) -> None:
        """End a step of training; the schedule says what becomes of the next one."""
        if self._recording is not None:
            self._recording.end(self._step_span)
            self._step_span = None
        if self._action is ProfilerAction.RECORD_AND_SAVE:
            self._finish()
        self.step_num += 1
        self._enter_step()

    def _enter_step(self) -> None:
        self._action = self._schedule(self.step_num) if self._schedule else ProfilerAction.RECORD
        if self._action in _RECORDS:
            if self._instruments is None:
                self._begin()
            if self._recording is not None and (self._schedule or self.step_num):
                name = f"ProfilerStep#{self.step_num}"
                self._step_span = self._recording.begin(name, "step")
        else:
            self._finish()

    def _begin(self) -> None:
        from .instruments import Instruments  # imports every part of needle that it measures

        global _current
        if _current is not None:
            raise RuntimeError("[profile] another profiler records in this process; stop it first")
        _current = self._recording = Recording(*self._options)
        self._instruments = Instruments(self._recording)
        self._instruments.install()

    def _finish(self) -> None:
        global _current
        if self._instruments is None or self._recording is None:
            return
        self._instruments.remove()
        self._instruments, _current = None, None
        self._recording.stop()
        if self._kernels:
            add_kernels(self._recording)
        if self._on_trace_ready is not None:
            self._on_trace_ready(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # ---- results --------------------------------------------------------------------------------

    def _result(self, what: str) -> Recording:
        if self._recording is None:
            raise RuntimeError(f"[{what}] nothing was recorded; run something inside of `with`")
        return self._recording

    def key_averages(self, group_by_input_shape: bool = False) -> Averages:
        """Sum up the spans by name.

        Parameters
        ----------
        group_by_input_shape : bool, default False
            Whether operations on other shapes are other rows.

        Returns
        -------
        Averages
            A list of `Average`; `.table(sort_by=…)` shows it.

        Raises
        ------
        RuntimeError
            If nothing was recorded.
        """
        return averages(self._result("key_averages").spans, group_by_input_shape)

    def table(self, sort_by: str | None = None, row_limit: int = 100) -> str:
        """Return `key_averages().table(sort_by, row_limit)` and the most memory in use."""
        recording = self._result("table")
        text = self.key_averages().table(sort_by, row_limit)
        if not recording.peak:
            return text
        return f"{text}\nat most {recording.peak / (1 << 20):,.1f} MiB of memory in use"

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline, for https://ui.perfetto.dev or chrome://tracing.

        Parameters
        ----------
        path : str or path
            The file; one that is there is replaced.

        Raises
        ------
        RuntimeError
            If nothing was recorded.
        OSError
            If the file cannot be written.
        """
        recording = self._result("export_chrome_trace")
        write_trace(path, recording, recording.spans)

    @property
    def peak_memory(self) -> int:
        """The most bytes in use on the default device while it recorded."""
        return self._result("peak_memory").peak


class record_function:
    """A context that gives a part of the program a name in profiles; also a decorator.

    Without a profiler it does nothing.

    Parameters
    ----------
    name : str
        The name.
    args : str, optional
        A text that is shown with it.

    Examples
    --------
    >>> import needle as ndl
    >>> @ndl.profiler.record_function("augment")
    ... def augment(images):
    ...     return images + 1
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self._name, self._facts = str(name), {} if args is None else {"args": str(args)}
        self._open: list[tuple[Recording, Span | None] | None] = []

    def __enter__(self) -> Self:
        recording = _current
        if recording is None:
            self._open.append(None)
        else:
            self._open.append((recording, recording.begin(self._name, "user", **self._facts)))
        return self

    def __exit__(self, *exc: object) -> None:
        opened = self._open.pop()
        if opened is not None:
            opened[0].end(opened[1])

    def __call__(self, function: _Function) -> _Function:
        wrapped: _Function = decorated(
            function, lambda: record_function(self._name, **self._facts), "record_function"
        )
        return wrapped
