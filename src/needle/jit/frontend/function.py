"""`jit`: a function that is traced once for each kind of input and then runs as one program."""

from __future__ import annotations

import copy
import functools
import math
import sys
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Sequence

from ...autograd import Tensor, is_grad_enabled
from ...autograd.modes import autocast_dtype, runs_as_written
from ...autograd.tracing import current_trace
from ...backend_ndarray import default_device
from ...environment import jit_mode
from ...forks import fork_safe
from ..runtime.executable import Unavailable
from ..runtime.explain import Cost, cost_of_graph
from ..runtime.native import Native
from ..runtime.pipeline import make_executable
from . import check
from .arrays import Arrays
from .cache import MAX_PROGRAMS, CallKey, ProgramCache
from .compiled import CompiledProgram
from .errors import FunctionRaised, Unrepeatable
from .options import DEFAULTS, Options
from .program import Call, EagerProgram, Function, Program, ProgramOwner, Result, keeper_of
from .signature import HasArrays, Part, Signature, without_numbers
from .templates import Trace
from .trace import traced

# Programs that differ in nothing but the numbers among the arguments, of which a warning tells.
MANY_NUMBERS = 5
# Seconds of eager calls after a compiler was killed, say, until it is tried again: the first time,
# and at most. They double with each failure.
PATIENCE, MOST_PATIENCE = 60.0, 3600.0
# Operations in a graph beyond which a warning says so: some ten times those of the models here.
LARGE_GRAPH = 20_000


class JitFunction(ProgramOwner):
    """A compiled function; it is called like the function itself.

    Threads may call it at the same time: their calls run one after the other. The programs of a
    method belong to its instance and are freed with it, and so are programs that are specialized to
    an object among the arguments.
    """

    def __init__(self, function: Function, options: Options = DEFAULTS) -> None:
        super().__init__()
        self.options = options
        self._binds_class = isinstance(function, classmethod)
        self._binds_nothing = isinstance(function, staticmethod)
        if isinstance(function, classmethod):
            function = function.__func__
        functools.update_wrapper(self, function)
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._programs = ProgramCache()
        # The functions with the programs of one instance, by the instance's id.
        self._instances: dict[int, tuple[weakref.ref[object], JitFunction]] = {}
        self.compilations = 0  # how often the function was compiled
        # How often, for each kind of arguments without the values of their numbers.
        self._by_numbers: Counter[Part] = Counter()
        self._reported: set[str] = set()  # why there is no native code
        self._patience = PATIENCE
        self._unrepeatable: set[str] = set()  # why it runs eagerly
        self._lock = fork_safe(threading.RLock())

    def __call__(self, *args: object, **kwargs: object) -> Result:
        return self._call(args, kwargs)

    def _call(self, args: tuple[object, ...], kwargs: dict[str, object], own: int = 0) -> Result:
        """A call, whose first `own` arguments are the instance that the programs belong to."""
        chosen = jit_mode()
        if chosen == "off" or current_trace() is not None:
            return self._function(*args, **kwargs)
        if check.here.rehearsing or runs_as_written():
            return self._function(*args, **kwargs)
        described = args[own:] if own else args
        try:
            signature = Signature((described, kwargs) if kwargs else (described,))
        except HasArrays:
            arrays = Arrays((args, kwargs))
            result = self._call(arrays.args, arrays.kwargs, own)
            arrays.write_back()
            return result
        native = chosen == "on" or (chosen == "check" and not self._reported)
        key = (signature.key, is_grad_enabled(), autocast_dtype(), native, default_device().name)

        def eagerly() -> Result:
            return self._function(*args, **kwargs)

        with self._lock:
            for reference in self._programs.get(key, ()):
                program = reference()
                if program is not None and program.holds():
                    done, result = self._run(program, signature, eagerly, chosen)
                    if done:
                        self._programs.move_to_end(key)
                        return result
            objects = [*args[:own], *signature.objects]
            error: Exception | None = None
            self._warn_of_numbers(signature, args, kwargs)
            try:
                made = self._compile(args, kwargs, key, signature, objects, native)
            except FunctionRaised as raised:
                made, error = None, raised.error
            if error is not None:  # the trace has changed nothing; eager code does, up to its error
                result = eagerly()
                reason = f"a trace of it raises {type(error).__name__}: {error}"
                self._remember(key, self._eager_program(reason), signature.objects)
                return result
            if made is None:  # to be checked with the evaluator
                return self._call(args, kwargs, own)
            self._remember(key, made, signature.objects)
            done, result = self._run(made, signature, eagerly, chosen)
            assert done, "a fresh program does not fit its own states"
            return result

    def _run(
        self, program: Program, signature: Signature, eagerly: Call, chosen: str
    ) -> tuple[bool, Result]:
        if chosen == "check" and isinstance(program, CompiledProgram):
            return check.checked(program, self.name, eagerly, signature)
        try:
            return program(signature, eagerly)
        except IndexError:  # before anything was updated
            if isinstance(program, CompiledProgram):
                check.rehearse(program, eagerly, signature.tensors)  # raises what eager code raises
            raise

    def explain(self, profile: bool = False) -> str:
        """The program of the latest call: its kernels with their flops and bytes, its memory.

        With `profile` also the time of each, from runs on copies of the states and the latest
        arguments. Raises RuntimeError before the first call and where there is no native code.
        """
        program, native = self._latest_native()
        return native.profile(*program.last) if profile else native.explain()

    def cost(self) -> Cost:
        """The work of the program of the latest call. Raises RuntimeError before the first call."""
        program = self._programs.latest()
        if not isinstance(program, CompiledProgram):
            raise RuntimeError(f"[jit] {self.name} has no program yet; call it first")
        return cost_of_graph(program.executable.graph)

    def source(self) -> str:
        """The C++ code of the program of the latest call. Raises as `explain`."""
        _, native = self._latest_native()
        return native.code.source

    def _latest_native(self) -> tuple[CompiledProgram, Native]:
        program = self._programs.latest()
        if program is None:
            raise RuntimeError(f"[jit] {self.name} has not been compiled yet; call it first")
        if isinstance(program, CompiledProgram) and isinstance(program.executable, Native):
            return program, program.executable
        raise RuntimeError(f"[jit] {self.name} has no native code with NEEDLE_JIT={jit_mode()}")

    # ---- methods and copies ---------------------------------------------------------------------

    def __get__(self, instance: object, owner: type | None = None) -> JitFunction | JitMethod:
        if self._binds_class:
            instance = owner
        if instance is None or self._binds_nothing:
            return self
        return JitMethod(self._of(instance), instance)

    def _of(self, instance: object) -> JitFunction:
        """The function with the programs of one instance."""
        known = self._instances.get(id(instance))
        if known is not None and known[0]() is instance:
            return known[1]
        if not _has_identity(instance):
            return self
        ours, number = weakref.ref(self), id(instance)

        def forget(dead: weakref.ref[object]) -> None:
            function = ours()
            if function is not None and function._instances.get(number, (None,))[0] is dead:
                del function._instances[number]

        function = JitFunction(self._function, self.options)
        # If two threads ask at the same time, both get the same function.
        return self._instances.setdefault(number, (weakref.ref(instance, forget), function))[1]

    def __copy__(self) -> JitFunction:
        return JitFunction(self._function, self.options)

    def __deepcopy__(self, memo: dict[int, object]) -> JitFunction:
        function = copy.deepcopy(self._function, memo)
        return self if function is self._function else JitFunction(function, self.options)

    def __reduce__(self) -> str | tuple[Callable[..., JitFunction], tuple[Function, Options]]:
        place: str = getattr(self, "__qualname__", "")
        found: object = sys.modules.get(self.__module__)
        for name in place.split("."):
            found = getattr(found, name, None)
        return place if found is self else (JitFunction, (self._function, self.options))

    # ---- programs -------------------------------------------------------------------------------

    def _compile(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        key: CallKey,
        signature: Signature,
        objects: list[object],
        native: bool,
    ) -> Program | None:
        """The program of a call: native, the evaluator's, or eager.

        Without native code there is a warning; None if that is to be checked with the evaluator.
        """
        try:
            trace = traced(
                self._function, args, kwargs, signature.tensors, objects, signature.containers
            )
            self._refuse_growth(key, trace)
        except Unrepeatable as reason:
            return self._eager_program(str(reason))
        if len(trace.graph.nodes) > LARGE_GRAPH:
            warnings.warn(
                f"[jit] {self.name} has {len(trace.graph.nodes)} operations; Python loops are "
                "unrolled, so that a long one takes long to compile: use ndl.scan, a layer that "
                "covers the whole sequence, or compile the body of the loop",
                stacklevel=4,
            )
        program: Program
        try:
            executable = make_executable(
                trace.graph, trace.device, "on" if native else "evaluate", self.options.memory
            )
        except Unavailable as reason:
            eagerly = jit_mode() == "on"
            instead = "runs eagerly" if eagerly else "is checked with the evaluator"
            if str(reason) not in self._reported:
                self._reported.add(str(reason))
                warnings.warn(f"[jit] {self.name} {instead}: {reason}", stacklevel=4)
            if not eagerly:
                return None
            seconds = self._patience if reason.may_pass else math.inf
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            program = EagerProgram([s.tensor for s in trace.states if s.grad_of is None], seconds)
        else:
            self.compilations += 1
            self._patience = PATIENCE
            program = CompiledProgram(trace, executable)
        program.keep(self, keeper_of(objects, trace))
        return program

    def _eager_program(self, reason: str) -> Program:
        """A program that runs the function itself; a warning says why."""
        if reason not in self._unrepeatable:
            self._unrepeatable.add(reason)
            warnings.warn(f"[jit] {self.name} runs eagerly: {reason}", stacklevel=5)
        program = EagerProgram()
        program.keep(self, None)
        return program

    def _refuse_growth(self, key: CallKey, trace: Trace) -> None:
        """Raises Unrepeatable where a container gets other contents at every call.

        Each call would need a program of its own.
        """
        reshaped = trace.effects.reshaped
        for program in self._programs.alive(key) if reshaped else ():
            if isinstance(program, CompiledProgram) and not reshaped.isdisjoint(
                program.trace.effects.reshaped
            ):
                raise Unrepeatable(
                    "it changes what is in a list, dict, set, deque or array at every call, as by "
                    "append(); return what is to be kept, or replace items"
                )

    def _warn_of_numbers(
        self, signature: Signature, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Warn where a number among the arguments has another value at every call."""
        kind = without_numbers(signature.key)
        self._by_numbers[kind] += kind != signature.key
        if self._by_numbers[kind] == MANY_NUMBERS:
            numbers = [x for x in (*args, *kwargs.values()) if isinstance(x, (int, float))]
            warnings.warn(
                f"[jit] {self.name} is compiled anew for each value of the numbers among its "
                f"arguments, now for the {MANY_NUMBERS}th: {numbers}. A number that changes from "
                "call to call should be a Tensor, ndl.tensor(number), or a NumPy array",
                stacklevel=4,
            )

    def _remember(self, key: CallKey, program: Program, objects: Sequence[object]) -> None:
        self._programs.add(key, program, objects)
        if self.compilations == MAX_PROGRAMS and isinstance(program, CompiledProgram):
            warnings.warn(
                f"[jit] {self.name} was compiled {self.compilations} times, for as many kinds "
                "of arguments (shapes, dtypes, Python values) or of surroundings; pad batches to "
                "one shape, and pass numbers that change as Tensors",
                stacklevel=4,
            )


class JitMethod:
    """A compiled method: a compiled function bound to an instance."""

    def __init__(self, function: JitFunction, instance: object) -> None:
        functools.update_wrapper(self, function)
        self.__func__, self.__self__ = function, instance
        self.explain, self.source = function.explain, function.source

    @property
    def compilations(self) -> int:
        """How often the method was compiled for this instance."""
        return self.__func__.compilations

    def __call__(self, *args: object, **kwargs: object) -> Result:
        own = _has_identity(self.__self__)
        return self.__func__._call((self.__self__, *args), kwargs, own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JitMethod):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, str]]:
        return getattr, (self.__self__, self.__func__.name)


def _has_identity(instance: object) -> bool:
    """Whether an instance counts by its identity, and weak references to it are possible."""
    is_nesting = isinstance(instance, (Tensor, list, tuple, dict))
    return not is_nesting and type(instance).__weakrefoffset__ != 0
