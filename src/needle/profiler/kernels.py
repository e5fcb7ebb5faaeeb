"""The kernels of compiled functions, within the spans of their calls."""

from __future__ import annotations

from ..jit.frontend.compiled import CompiledProgram
from ..jit.runtime.explain import kernel_infos
from ..jit.runtime.native import Native
from .recording import Recording, Span


def add_kernels(recording: Recording) -> None:
    """Add the kernels of each call. Their times are averages of other runs of the program.

    Where these take longer together than the call took, they are shortened to fit.
    """
    known: dict[int, list[tuple[str, float]]] = {}
    for span in [span for span in recording.spans if "program" in span.facts]:
        program = span.facts["program"]
        if not isinstance(program, CompiledProgram) or not isinstance(program.executable, Native):
            continue
        if id(program) not in known:
            known[id(program)] = _times(program, program.executable)
        kernels = known[id(program)]
        total = 1e9 * sum(seconds for _, seconds in kernels)
        scale = min(1.0, span.duration / total) if total else 0.0
        place = float(span.end) - scale * total  # the checks of a call come before its kernels
        for name, seconds in kernels:
            kernel = Span(name, "kernel", span.thread, span, {"average seconds": seconds})
            kernel.start = int(place)
            place += scale * 1e9 * seconds
            kernel.end = max(kernel.start, int(place))
            recording.spans.append(kernel)


def _times(program: CompiledProgram, native: Native) -> list[tuple[str, float]]:
    planned = native.planned
    infos = kernel_infos(planned.graph, planned.units)
    seconds = native.kernel_times(*program.last, seconds=0.2)
    return [(info.name, time) for info, time in zip(infos, seconds, strict=True)]
