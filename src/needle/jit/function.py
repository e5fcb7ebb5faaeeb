"""`jit`: a function that is traced once for each kind of input and then runs as one program."""

from __future__ import annotations

import functools
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import autograd, tree
from ..autograd import Tensor, autocast_dtype, is_grad_enabled
from ..backend_ndarray import NDArray, cpu_numpy, from_numpy
from ..backend_ndarray.cuda import CudaDevice
from . import check
from .draws import Draw
from .executable import Executable, Native, Unavailable, make_executable
from .signature import signature
from .trace import Output, Source, Trace, Tracing

MODES = ("on", "off", "check", "evaluate")
# Programs that one function keeps. Beyond it the one unused for longest is forgotten.
MAX_PROGRAMS = 32
# Operations in a graph beyond which a warning says so: some ten times those of the models here.
LARGE_GRAPH = 20_000


def mode() -> str:
    """NEEDLE_JIT: "on", "off" (run eagerly), "check" (both, compared; see `needle.jit.check`) or
    "evaluate" (the slow specification).
    """
    chosen = os.environ.get("NEEDLE_JIT", "on")
    if chosen not in MODES:
        raise ValueError(f"NEEDLE_JIT must be one of {', '.join(MODES)}, got {chosen!r}")
    return chosen


class CompiledProgram:
    """A trace and what runs it."""

    def __init__(self, trace: Trace, executable: Executable) -> None:
        self.trace, self.executable = trace, executable
        self._modules = [module for module, _ in trace.modules]
        self._modes = [training for _, training in trace.modules]
        self._host_arrays = [np.zeros(value.size, dtype) for value, _, dtype in trace.host_inputs]
        used = executable.graph.used()
        self._reads = [read if id(v) in used else None for v, read, _ in trace.host_inputs]
        for draw in trace.actions:
            if isinstance(draw, Draw):
                draw.is_needed = draw.read in self._reads
        # The very memory of the arrays; a GPU's program uploads it.
        on_gpu = isinstance(executable.device, CudaDevice)
        host = cpu_numpy() if on_gpu else executable.device
        self._host_inputs = [from_numpy(a, host) for a in self._host_arrays]
        self._states = tuple(source.tensor for source in trace.states)
        self._moving = [i for i, s in enumerate(trace.states) if s.grad_of is not None]

    def holds(self) -> bool:
        """Whether the trace is still true of the world outside of the function."""
        if [module.training for module in self._modules] != self._modes:
            return False
        return all(read() == value for read, value in self.trace.guards)

    def __call__(self, arguments: Sequence[Tensor]) -> tuple[bool, Any]:
        """(True, the function's result), or (False, None) where the states are others now."""
        states = self._states if not self._moving else self._resolved(arguments)
        if states is None or not self._fit(states):
            return False, None
        for action in self.trace.actions:
            action()
        for array, read in zip(self._host_arrays, self._reads, strict=True):
            if read is not None:
                array[...] = np.ravel(read())
        inputs = [*(tensor.cached_data.compact() for tensor in arguments), *self._host_inputs]
        self.last = inputs, states
        autograd._modification_clock += 1
        results = self.executable.run(inputs, states, autograd._modification_clock)
        self._apply_effects(arguments, results)
        return True, self._returned(arguments, results)

    def _fit(self, states: Sequence[Tensor]) -> bool:
        if self.executable.fits(states):
            return True
        for tensor in states:
            _make_compact(tensor)
        return self.executable.fits(states)

    def _resolved(self, arguments: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """The states, those that are gradients found anew; None where one is gone."""
        states = [self.target(source, arguments) for source in self.trace.states]
        return None if any(s is None for s in states) else tuple(states)

    def target(self, source: Source, arguments: Sequence[Tensor]) -> Any:
        """The Tensor that a source of the trace is at this call; None for a gradient not there."""
        if source.argument is not None:
            return arguments[source.argument]
        if source.grad_of is not None:
            return self.target(source.grad_of, arguments).grad
        return source.tensor

    def _apply_effects(self, arguments: Sequence[Tensor], results: list[NDArray]) -> None:
        for source, index in self.trace.effects.data:
            self.target(source, arguments)._replace_data(results[index])
        for source, number in self.trace.effects.grads:
            grad = None if number is None else Tensor.make_const(results[number])
            self.target(source, arguments).grad = grad

    def _returned(self, arguments: Sequence[Tensor], results: list[NDArray]) -> Any:
        def filled(leaf: Any) -> Any:
            if isinstance(leaf, Output):
                data = results[leaf.index]
                return data if leaf.kind is NDArray else Tensor.make_const(data)
            return self.target(leaf, arguments) if isinstance(leaf, Source) else leaf

        return tree.map_leaves(filled, self.trace.returned)


class JitFunction:
    """What `jit` makes of a function; called like it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function
        # By signature; those of one signature differ in what they guard. In the order of their use.
        self._programs: OrderedDict[Any, list[CompiledProgram]] = OrderedDict()
        self.compilations = 0  # how often the function was compiled
        self._eager = False  # there is no native code for it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        chosen = mode()
        eagerly = autograd.tracer is not None or check.rehearsing or chosen == "off"
        if eagerly or (self._eager and chosen == "on"):
            return self._function(*args, **kwargs)
        native = chosen == "on" or (chosen == "check" and not self._eager)
        inputs = (args, kwargs)
        key = (signature(inputs), is_grad_enabled(), autocast_dtype(), native)
        arguments = tree.tensors(inputs)

        def run(program: CompiledProgram) -> tuple[bool, Any]:
            if chosen != "check":
                return program(arguments)
            return check.checked(
                program, self.name, lambda: self._function(*args, **kwargs), arguments
            )

        for program in self._programs.get(key, ()):
            if program.holds():
                done, result = run(program)
                if done:
                    self._programs.move_to_end(key)
                    return result
        try:
            program = self._compile(args, kwargs, arguments, native)
        except Unavailable as reason:
            self._eager = True
            instead = "runs eagerly" if chosen == "on" else "is checked with the evaluator"
            warnings.warn(f"[jit] {self.name} {instead}: {reason}", stacklevel=2)
            return self(*args, **kwargs)
        self._remember(key, program)
        done, result = run(program)
        assert done, "a fresh program does not fit its own states"
        return result

    def explain(self, profile: bool = False) -> str:
        """The program of the latest call: its kernels with their flops and bytes, its memory.

        With `profile` also the time of each, from runs on copies of the states and the latest
        arguments. Raises RuntimeError before the first call and where there is no native code.
        """
        program = self._latest_native()
        if not profile:
            return program.executable.explain()
        return program.executable.profile(*program.last)

    def source(self) -> str:
        """The C++ code of the program of the latest call. Raises as `explain`."""
        return self._latest_native().executable.code.source

    def _latest_native(self) -> Any:
        if not self._programs:
            raise RuntimeError(f"[jit] {self.name} has not been compiled yet; call it first")
        program = next(reversed(self._programs.values()))[0]
        if not isinstance(program.executable, Native):
            raise RuntimeError(f"[jit] {self.name} has no native code with NEEDLE_JIT={mode()}")
        return program

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _compile(
        self, args: Any, kwargs: Any, arguments: list[Tensor], native: bool
    ) -> CompiledProgram:
        trace = Tracing().run(self._function, args, kwargs, arguments)
        if len(trace.graph.nodes) > LARGE_GRAPH:
            warnings.warn(
                f"[jit] {self.name} has {len(trace.graph.nodes)} operations; Python loops are "
                "unrolled, so that a long one takes long to compile: use ndl.scan, a layer that "
                "covers the whole sequence, or compile the body of the loop",
                stacklevel=4,
            )
        for source in trace.states:
            _make_compact(source.tensor)
        return CompiledProgram(
            trace, make_executable(trace.graph, trace.device, "on" if native else "evaluate")
        )

    def _remember(self, key: Any, program: CompiledProgram) -> None:
        programs = self._programs.setdefault(key, [])
        programs.insert(0, program)
        del programs[MAX_PROGRAMS:]
        self._programs.move_to_end(key)
        self.compilations += 1
        if self.compilations == MAX_PROGRAMS:
            warnings.warn(
                f"[jit] {self.name} was compiled {self.compilations} times, for as many kinds "
                "of arguments (shapes, dtypes, Python values) or of surroundings; pad batches to "
                "one shape, and pass numbers that change as Tensors",
                stacklevel=3,
            )
        while len(self._programs) > MAX_PROGRAMS:
            self._programs.popitem(last=False)


def _make_compact(tensor: Tensor) -> None:
    """Programs read and update states in row-major order."""
    data = tensor.cached_data
    if not data.is_compact():
        tensor.cached_data = data.copy()
