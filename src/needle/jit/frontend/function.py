"""`jit`: a function that is traced once for each kind of input and then runs as one program."""

from __future__ import annotations

import copy
import functools
import gc
import operator
import sys
import threading
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import autograd, tree
from ...autograd import Tensor, autocast_dtype, is_grad_enabled
from ...backend_ndarray import HostNumber, NDArray, cpu_numpy, default_device, from_numpy, versions
from ...environment import jit_mode
from ...forks import fork_safe
from ..runtime.executable import Executable, Unavailable, overwrite
from ..runtime.native import Native
from ..runtime.pipeline import make_executable
from . import check
from .errors import FunctionRaised, Unrepeatable
from .host_random import Draw
from .places import CONTENTS, put, read
from .signature import Signature
from .templates import (
    ArgumentContainer,
    ArgumentObject,
    NewContainer,
    NewObject,
    Output,
    Source,
    Trace,
)
from .trace import traced

# Programs that one function keeps. Beyond it the one unused for longest is forgotten.
MAX_PROGRAMS = 32
# Operations in a graph beyond which a warning says so: some ten times those of the models here.
LARGE_GRAPH = 20_000


class Program:
    """What runs a function for one kind of arguments.

    It is of use only as long as all the objects live that it knows by their identity, and it leads
    to them. Kept alive by the function it would keep them alive, too; so one of them, a Tensor,
    keeps it: the garbage collector sees what is a circle of their own.
    """

    executable: Any  # an Executable, or None

    def __init__(self) -> None:
        self._keeper: Callable[[], Any] = lambda: None
        self._function: Callable[[], Any] = lambda: None

    def keep(self, function: JitFunction, keeper: Tensor | None) -> None:
        """Live until `keeper` dies, or the function, which is the keeper where that is None."""
        programs = function._own
        if keeper is not None:
            if not hasattr(keeper, "_programs"):
                keeper._programs = set()
            programs = keeper._programs
        programs.add(self)
        ours = weakref.ref(self)

        def forget(_: weakref.ref[Any]) -> None:
            _release(ours)

        self._keeper = weakref.ref(function if keeper is None else keeper)
        self._function = weakref.ref(function, forget)

    def release(self) -> None:
        """Nobody needs the program any more."""
        keeper = self._keeper()
        if keeper is not None:
            (keeper._own if isinstance(keeper, JitFunction) else keeper._programs).discard(self)

    def holds(self) -> bool:
        """Whether it is true of the world outside."""
        raise NotImplementedError

    def __call__(self, given: Signature, eagerly: Callable[[], Any]) -> tuple[bool, Any]:
        """(True, the function's result), or (False, None) where other Tensors are the same now, or
        the states are others. `eagerly` runs the function itself.
        """
        raise NotImplementedError


def _release(program: weakref.ref[Program]) -> None:
    alive = program()
    if alive is not None:
        alive.release()


# Objects in which no Tensor is looked for that is to keep a program.
MOST_LOOKED_AT = 10_000


def _keeper(objects: Sequence[Any], trace: Trace) -> Tensor | None:
    """Of the Tensors that a trace knows by identity the one nearest to one of `objects`; where it
    knows none of theirs, the nearest that is trained, for these are rarely replaced.
    """
    known = {id(s.tensor) for s in trace.states if s.is_fixed} | trace.guards.found(Tensor)
    seen: set[int] = set()
    trained: Tensor | None = None
    level = list(objects)
    while level and len(seen) < MOST_LOOKED_AT:
        following: list[Any] = []
        for thing in level:
            if id(thing) in known:
                return thing
            if id(thing) in seen or isinstance(thing, (type, types.ModuleType)):
                continue
            seen.add(id(thing))
            if trained is None and isinstance(thing, Tensor) and thing.requires_grad:
                trained = thing if thing.is_leaf() else None
            is_function = isinstance(thing, types.FunctionType)
            following += [thing.__closure__] if is_function else gc.get_referents(thing)
        level = following
    return trained


class CompiledProgram(Program):
    """A trace and what runs it."""

    def __init__(self, trace: Trace, executable: Executable) -> None:
        super().__init__()
        self.executable: Executable
        self.trace, self.executable = trace, executable
        self._host_arrays = [np.zeros(value.size, dtype) for value, _, dtype in trace.host_inputs]
        used = executable.graph.used()
        self._reads = [read if id(v) in used else None for v, read, _ in trace.host_inputs]
        for draw in trace.actions:
            if isinstance(draw, Draw):
                draw.is_needed = draw.read in self._reads
        # The very memory of the arrays; a GPU's program uploads it.
        host = executable.device if executable.device.shares_memory else cpu_numpy()
        self._host_inputs = [from_numpy(a, host) for a in self._host_arrays]
        self._states = tuple(source.tensor for source in trace.states)
        self._moving = [i for i, s in enumerate(trace.states) if s.grad_of or s.place]
        self.holds = trace.guards.hold  # type: ignore[method-assign]
        self._for_any = not (trace.fixed or trace.empty or self._moving)
        self._overlaps = Overlaps(trace)
        self._overwrites = bool(self._overlaps)
        self._sharing = trace.effects.shared
        # Most gradients are those of parameters, applied: a short way to forget them.
        self._forgotten = [
            source.tensor
            for source, number in trace.effects.grads
            if number is None and source.is_fixed
        ]
        self._new_grads = [
            (source, number)
            for source, number in trace.effects.grads
            if number is not None or not source.is_fixed
        ]
        effects = trace.effects
        self._changes_more = bool(
            effects.written or effects.shared or effects.data or effects.places
            or effects.continued or self._new_grads
        )  # fmt: skip
        returned = trace.returned  # a loss, mostly
        is_one = type(returned) is Output and returned.kind is Tensor and not returned.requires_grad
        self._returns_one = is_one and not self._changes_more

    def __call__(self, given: Signature, eagerly: Callable[[], Any]) -> tuple[bool, Any]:
        """See `Program`."""
        arguments = given.tensors
        states = self._states if not self._moving else self._resolved(arguments)
        if states is None or not self._takes(given, states):
            return False, None
        in_place = [states[i] for i in self.executable.graph.in_place]
        for tensor in in_place:
            tensor._take_memory()
        if self._overwrites and self._overlaps.found(arguments, states):
            return True, eagerly()
        copies: list[tuple[Tensor, Tensor]] = []
        if not self.executable.fits(states):
            states, copies = self._made_compact(states)
            if not self.executable.fits(states):
                return False, None
        # Held, so that the program replaces them instead of writing into them.
        shared = [self.target(other, arguments).cached_data for _, other in self._sharing]
        results = self._results(arguments, states)
        for tensor in in_place:
            versions.written(tensor.cached_data._handle)
        for tensor, row_major in copies:
            overwrite(tensor, row_major.cached_data)
        if self._returns_one:
            self._forget()
            return True, Tensor.make_const(results[self.trace.returned.index])
        # Before the effects, which may put others in the places where Tensors are found.
        fill = _Filling(self, given, results)
        returned = fill(self.trace.returned)
        if self._changes_more:
            self._apply_effects(given, shared, fill)
        else:
            self._forget()
        return True, returned

    def _forget(self) -> None:
        for tensor in self._forgotten:
            tensor._grad = None

    def _results(self, arguments: Sequence[Tensor], states: Sequence[Tensor]) -> list[NDArray]:
        """What the program computes, after the host's actions, which an error takes back."""
        if not self.trace.actions:
            return self._run(arguments, states)
        with autograd.rollback_on_error():
            for action in self.trace.actions:
                action()
            for array, read in zip(self._host_arrays, self._reads, strict=True):
                if read is not None:
                    now = read()
                    array[...] = now if type(now) in (int, float) else np.ravel(now)
            return self._run(arguments, states)

    def _run(self, arguments: Sequence[Tensor], states: Sequence[Tensor]) -> list[NDArray]:
        taken = [arguments[i].cached_data.compact() for i in self.trace.taken]
        inputs = taken + self._host_inputs if self._host_inputs else taken
        self.last = inputs, states
        return self.executable.run(inputs, states, autograd.timestamp())

    def _takes(self, given: Signature, states: Sequence[Tensor]) -> bool:
        """Whether the same Tensors are one as in the trace, among arguments and states."""
        if given.containers and not self._takes_containers(given.containers):
            return False
        if self._for_any:
            return self.trace.outside.isdisjoint(given.ids)
        arguments, ids = given.tensors, given.ids
        for i, source in self.trace.fixed:
            if arguments[i] is not self.target(source, arguments):
                return False
            ids = ids - {id(arguments[i])}
        if not self.trace.outside.isdisjoint(ids):
            return False
        if any(id(states[i]) in ids for i in self._moving):
            return False
        owners = [self.target(source, arguments) for source in self.trace.empty]
        return all(owner is not None and owner.grad is None for owner in owners)

    def _takes_containers(self, containers: list[Any]) -> bool:
        """Whether the same lists and dicts as in the trace are those that the function finds."""
        fixed = self.trace.fixed_containers
        if any(containers[i] is not container for i, container in fixed):
            return False
        inside = {i for i, _ in fixed}
        outside = self.trace.outside_containers
        return not any(id(c) in outside for i, c in enumerate(containers) if i not in inside)

    def _made_compact(
        self, states: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, Tensor]]]:
        """The states with row-major data, which programs need, and (state, its copy) of those whose
        memory, which others may see, is to be overwritten with the copy's.
        """
        graph, compact, copies = self.executable.graph, list(states), []
        for i, tensor in enumerate(states):
            data = tensor.cached_data
            if data.is_compact():
                continue
            if i in graph.updates and i not in graph.in_place:
                tensor.cached_data = data.copy()  # it is to have new memory anyway
                continue
            compact[i] = Tensor.make_const(data.copy())
            if i in graph.in_place:
                copies.append((tensor, compact[i]))
        return tuple(compact), copies

    def _resolved(self, arguments: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """The states, those that are gradients found anew; None where one is gone."""
        states = [self.target(source, arguments) for source in self.trace.states]
        return None if any(s is None for s in states) else tuple(states)

    def target(self, source: Source, arguments: Sequence[Tensor]) -> Any:
        """The Tensor that a source of the trace is at this call; None for a gradient not there."""
        if source.argument is not None:
            return arguments[source.argument]
        if source.grad_of is not None:
            owner = self.target(source.grad_of, arguments)
            return None if owner is None else owner.grad
        if source.place is not None:
            holder, key, path = source.place
            found = read(holder, key)
            for step in path:
                found = found[step]
            if not isinstance(found, Tensor) or not found.is_leaf():
                return None
            return found if found.requires_grad == source.tensor.requires_grad else None
        return source.tensor

    def _apply_effects(self, given: Signature, shared: list[NDArray], fill: _Filling) -> None:
        effects, arguments, results = self.trace.effects, given.tensors, fill.results
        # Found before anything is put anywhere.
        places = [(fill.holder(h), key, fill(value)) for h, key, value in effects.places]
        continued = [self.target(source, arguments) for source, _ in effects.continued]
        for source, index in effects.written:
            overwrite(self.target(source, arguments), results[index])
        for (source, _), data in zip(effects.shared, shared, strict=True):
            self.target(source, arguments)._replace_data(data)
        for source, index in effects.data:
            self.target(source, arguments)._replace_data(results[index])
        self._forget()
        for source, number in self._new_grads:
            grad = None if number is None else fill.tensor(number)
            self.target(source, arguments).grad = grad
        for holder, key, value in places:
            put(holder, key, value)
        if continued:
            autograd.continue_backward(
                continued, [Tensor.make_const(results[index]) for _, index in effects.continued]
            )


class _Filling:
    """Puts this call's Tensors, numbers and containers in the places of the trace's.

    What is one object in the trace is one in the call.
    """

    __slots__ = ("_given", "_made", "_program", "results")

    def __init__(self, program: CompiledProgram, given: Signature, results: list[NDArray]) -> None:
        self.results = results
        self._program, self._given = program, given
        # Tensors by the numbers of results, containers and objects by their placeholders.
        self._made: dict[Any, Any] = {}

    def tensor(
        self, number: int, kind: type[Tensor] = Tensor, requires_grad: bool = False
    ) -> Tensor:
        """The Tensor of result number `number`."""
        made = self._made.get(number)
        if made is None:
            data = self.results[number]
            made = self._made[number] = kind.make_const(data, requires_grad=requires_grad)
        return made

    def holder(self, holder: Any) -> Any:
        """What has a place."""
        return (
            self._given.containers[holder.number] if type(holder) is ArgumentContainer else holder
        )

    def __call__(self, template: Any) -> Any:
        kind = type(template)
        if kind is Output:
            if template.kind is NDArray:
                return self.results[template.index]
            return self.tensor(template.index, template.kind, template.requires_grad)
        if kind is Source:
            return self._program.target(template, self._given.tensors)
        if kind is HostNumber:
            return template.read()
        if kind is NewContainer:
            return self._container(template)
        if kind is NewObject:
            return self._object(template)
        if kind is ArgumentContainer:
            return self._given.containers[template.number]
        if kind is ArgumentObject:
            return template.object()
        if isinstance(template, tuple):
            return tree.like(template, [self(item) for item in template])
        if kind is dict:
            return {self._key(key): self(x) for key, x in template.items()}
        return template

    def _key(self, key: Any) -> Any:
        return self(key) if type(key) in (Output, Source) else key

    def _object(self, template: NewObject) -> Any:
        if template not in self._made:
            made: Any = object.__new__(template.kind)
            self._made[template] = made
            for name, value in self(template.attributes).items():
                object.__setattr__(made, name, value)
        return self._made[template]

    def _container(self, made: NewContainer) -> Any:
        if made not in self._made:
            self._made[made] = copy.copy(made.empty)
            put(self._made[made], CONTENTS, self(made.contents))
        return self._made[made]


class EagerProgram(Program):
    """In the place of a program where there can be none, as without a compiler for the device."""

    executable = None

    def __init__(self, states: Sequence[Tensor]) -> None:
        super().__init__()
        self._states = [(tensor, tensor.device) for tensor in states]

    def holds(self) -> bool:
        """Whether the states are where they were."""
        return all(tensor.device is device for tensor, device in self._states)

    def __call__(self, given: Signature, eagerly: Callable[[], Any]) -> tuple[bool, Any]:
        """As a program's, but the function itself runs."""
        return True, eagerly()


class Overlaps:
    """Whether Tensors that a program takes for different ones share memory that it writes in place.

    The program reads and writes them in an order of its own.
    """

    def __init__(self, trace: Trace) -> None:
        written = {id(source) for source, _ in trace.effects.written}
        written.update(id(trace.states[i]) for i in trace.graph.in_place)
        self._taken = trace.taken
        self._states = [id(source) in written for source in trace.states]
        arguments = {s.argument for s, _ in trace.effects.written if s.argument is not None}
        self._arguments = [i in arguments for i in trace.taken]
        self._apart: list[NDArray] = []  # of the states, found to share no memory

    def __bool__(self) -> bool:
        return any(self._states) or any(self._arguments)

    def found(self, arguments: Sequence[Tensor], states: Sequence[Tensor]) -> bool:
        """Whether there are such Tensors among those of a call."""
        kept = [state.cached_data for state in states]
        given = [arguments[i].cached_data for i in self._taken]
        spans = _spans(kept, self._states)
        if len(kept) != len(self._apart) or any(map(operator.is_not, kept, self._apart)):
            if _is_any_overwritten(spans):
                return True
            self._apart = kept
        return bool(given) and _is_any_overwritten(spans + _spans(given, self._arguments))


def _spans(arrays: Sequence[NDArray], written: Sequence[bool]) -> list[tuple[int, int, bool]]:
    """Where the buffers of arrays begin and end, and which of them are written."""
    buffers = [array._handle for array in arrays]
    starts = [buffer.ptr() for buffer in buffers]
    sizes = [b.size * a._dtype.itemsize for a, b in zip(arrays, buffers, strict=True)]
    return [(s, s + n, w) for s, n, w in zip(starts, sizes, written, strict=True) if n]


def _is_any_overwritten(spans: list[tuple[int, int, bool]]) -> bool:
    """Whether a written span overlaps another one."""
    end, end_of_written = -1, -1
    for start, stop, written in sorted(spans):
        if start < (end if written else end_of_written):
            return True
        end = max(end, stop)
        if written:
            end_of_written = max(end_of_written, stop)
    return False


class JitFunction:
    """What `jit` makes of a function; called like it.

    Threads may call it at the same time: their calls run one after the other. A method's programs
    belong to the instance, and go with it; so do those for arguments that are no plain values.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._binds_class = isinstance(function, classmethod)
        self._binds_nothing = isinstance(function, staticmethod)
        if self._binds_class:
            function = function.__func__  # type: ignore[attr-defined]
        functools.update_wrapper(self, function)
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        # By signature; those of one signature differ in what they guard. In the order of their use.
        self._programs: OrderedDict[Any, list[weakref.ref[Program]]] = OrderedDict()
        self._own: set[Program] = set()  # those that no Tensor keeps
        # Objects that are known by their identity, by that: the keys that tell of it.
        self._objects: dict[int, tuple[weakref.ref[Any], set[Any]]] = {}
        self._instances: dict[int, tuple[weakref.ref[Any], JitFunction]] = {}
        self.compilations = 0  # how often the function was compiled
        self._reported: set[str] = set()  # why there is no native code
        self._unrepeatable: set[str] = set()  # why it runs eagerly
        self._lock = fork_safe(threading.RLock())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], own: int = 0) -> Any:
        """A call, whose first `own` arguments are the instance that the programs belong to."""
        chosen = jit_mode()
        if chosen == "off" or autograd.current_trace() is not None or check.here.rehearsing:
            return self._function(*args, **kwargs)
        described = args[own:] if own else args
        given = Signature((described, kwargs) if kwargs else (described,))
        native = chosen == "on" or (chosen == "check" and not self._reported)
        key = (given.key, is_grad_enabled(), autocast_dtype(), native, default_device().name)

        def eagerly() -> Any:
            return self._function(*args, **kwargs)

        with self._lock:
            for reference in self._programs.get(key, ()):
                program = reference()
                if program is not None and program.holds():
                    done, result = self._run(program, given, eagerly, chosen)
                    if done:
                        self._programs.move_to_end(key)
                        return result
            objects = [*args[:own], *given.objects]
            error: Exception | None = None
            try:
                made = self._compile(args, kwargs, key, given, objects, native)
            except FunctionRaised as raised:
                made, error = None, raised.error
            if error is not None:  # the trace has left no mark: eager code leaves its own
                result = eagerly()
                reason = f"a trace of it raises {type(error).__name__}: {error}"
                self._remember(key, self._eager_program(reason), given.objects)
                return result
            if made is None:  # to be checked with the evaluator
                return self._call(args, kwargs, own)
            self._remember(key, made, given.objects)
            done, result = self._run(made, given, eagerly, chosen)
            assert done, "a fresh program does not fit its own states"
            return result

    def _run(
        self,
        program: Program,
        given: Signature,
        eagerly: Callable[[], Any],
        chosen: str,
    ) -> tuple[bool, Any]:
        if chosen == "check" and isinstance(program, CompiledProgram):
            return check.checked(program, self.name, eagerly, given)
        try:
            return program(given, eagerly)
        except IndexError:  # before anything was updated
            if isinstance(program, CompiledProgram):
                check.rehearse(program, eagerly, given.tensors)  # raises what eager code raises
            raise

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
        for references in reversed(self._programs.values()):
            alive = [p for reference in references if (p := reference()) is not None]
            if alive:
                break
        else:
            raise RuntimeError(f"[jit] {self.name} has not been compiled yet; call it first")
        program = alive[0]
        if not isinstance(program.executable, Native):
            raise RuntimeError(f"[jit] {self.name} has no native code with NEEDLE_JIT={jit_mode()}")
        return program

    # ---- methods and copies -----------------------------------------------------------------

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if self._binds_class:
            instance = owner
        if instance is None or self._binds_nothing:
            return self
        return JitMethod(self._of(instance), instance)

    def _of(self, instance: Any) -> JitFunction:
        """The function with the programs of one instance."""
        known = self._instances.get(id(instance))
        if known is not None and known[0]() is instance:
            return known[1]
        if not _has_identity(instance):
            return self
        ours, number = weakref.ref(self), id(instance)

        def forget(dead: weakref.ref[Any]) -> None:
            function = ours()
            if function is not None and function._instances.get(number, (None,))[0] is dead:
                del function._instances[number]

        function = JitFunction(self._function)
        # One thread's, where two ask at the same time.
        return self._instances.setdefault(number, (weakref.ref(instance, forget), function))[1]

    def __copy__(self) -> JitFunction:
        return JitFunction(self._function)

    def __deepcopy__(self, memo: dict[int, Any]) -> JitFunction:
        function = copy.deepcopy(self._function, memo)
        return self if function is self._function else JitFunction(function)

    def __reduce__(self) -> Any:
        place = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for name in place.split("."):
            found = getattr(found, name, None)
        return place if found is self else (JitFunction, (self._function,))

    # ---- programs -----------------------------------------------------------------------------

    def _compile(
        self,
        args: Any,
        kwargs: Any,
        key: Any,
        given: Signature,
        objects: list[Any],
        native: bool,
    ) -> Program | None:
        """What runs the function from now on, native or the evaluator. Without native code for
        it there is a warning, and None where it is to be checked.
        """
        program: Program
        try:
            trace = traced(self._function, args, kwargs, given.tensors, objects, given.containers)
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
        try:
            executable = make_executable(trace.graph, trace.device, "on" if native else "evaluate")
        except Unavailable as reason:
            eagerly = jit_mode() == "on"
            instead = "runs eagerly" if eagerly else "is checked with the evaluator"
            if str(reason) not in self._reported:
                self._reported.add(str(reason))
                warnings.warn(f"[jit] {self.name} {instead}: {reason}", stacklevel=4)
            if not eagerly:
                return None
            program = EagerProgram([s.tensor for s in trace.states if s.grad_of is None])
        else:
            self.compilations += 1
            program = CompiledProgram(trace, executable)
        program.keep(self, _keeper(objects, trace))
        return program

    def _eager_program(self, reason: str) -> Program:
        """In the place of a program; a warning says why."""
        if reason not in self._unrepeatable:
            self._unrepeatable.add(reason)
            warnings.warn(f"[jit] {self.name} runs eagerly: {reason}", stacklevel=5)
        program = EagerProgram([])
        program.keep(self, None)
        return program

    def _refuse_growth(self, key: Any, trace: Trace) -> None:
        """Raises Unrepeatable where the contents of a container are others at every call, so that
        each would need a program of its own."""
        reshaped = trace.effects.reshaped
        for reference in self._programs.get(key, ()) if reshaped else ():
            program = reference()
            if isinstance(program, CompiledProgram) and not reshaped.isdisjoint(
                program.trace.effects.reshaped
            ):
                raise Unrepeatable(
                    "it changes what is in a list, dict, set, deque or array at every call, as by "
                    "append(); return what is to be kept, or replace items"
                )

    def _remember(self, key: Any, program: Program, objects: Sequence[Any]) -> None:
        alive = [p for p in self._programs.get(key, ()) if p() is not None]
        self._programs[key] = [weakref.ref(program), *alive[: MAX_PROGRAMS - 1]]
        for unused in alive[MAX_PROGRAMS - 1 :]:
            _release(unused)
        self._programs.move_to_end(key)
        for thing in objects:
            self._watch(thing).add(key)
        if self.compilations == MAX_PROGRAMS and isinstance(program, CompiledProgram):
            warnings.warn(
                f"[jit] {self.name} was compiled {self.compilations} times, for as many kinds "
                "of arguments (shapes, dtypes, Python values) or of surroundings; pad batches to "
                "one shape, and pass numbers that change as Tensors",
                stacklevel=4,
            )
        while len(self._programs) > MAX_PROGRAMS:
            oldest = next(iter(self._programs))
            self._forget(oldest)
            for _, keys in self._objects.values():
                keys.discard(oldest)

    def _forget(self, key: Any) -> None:
        for program in self._programs.pop(key, ()):
            _release(program)

    def _watch(self, thing: Any) -> set[Any]:
        """The keys of programs that an object is part of: they are gone when it is."""
        known = self._objects.get(id(thing))
        if known is not None:
            return known[1]
        ours, number = weakref.ref(self), id(thing)

        def forget(_: weakref.ref[Any]) -> None:
            function = ours()
            if function is not None:
                for key in function._objects.pop(number)[1]:
                    function._forget(key)

        self._objects[number] = weakref.ref(thing, forget), set()
        return self._objects[number][1]


class JitMethod:
    """A compiled function bound to an instance, as a method is; called like it."""

    def __init__(self, function: JitFunction, instance: Any) -> None:
        functools.update_wrapper(self, function)
        self.__func__, self.__self__ = function, instance
        self.explain, self.source = function.explain, function.source

    @property
    def compilations(self) -> int:
        """How often the method was compiled for this instance."""
        return self.__func__.compilations

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = _has_identity(self.__self__)
        return self.__func__._call((self.__self__, *args), kwargs, own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JitMethod):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> Any:
        return getattr, (self.__self__, self.__func__.name)


def _has_identity(instance: Any) -> bool:
    """Whether an instance is told from others by what it is, and can be referred to weakly."""
    is_nesting = isinstance(instance, (Tensor, list, tuple, dict))
    return not is_nesting and type(instance).__weakrefoffset__ != 0
