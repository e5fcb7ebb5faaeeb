"""Compiled programs: a trace and the executable of its graph, run by later calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...autograd import Tensor
from ...autograd.modes import rollback_on_error, timestamp
from ...autograd.reverse import continue_backward
from ...autograd.unused import is_unread, note_lost
from ...backend_ndarray import NDArray, cpu_numpy, from_numpy, versions
from ...backend_ndarray.device_cuda import CudaDevice
from ..runtime.executable import Executable, overwrite
from .host_random import Draw
from .instantiate import Instantiation, find
from .overlaps import Overlaps
from .places import Container, put
from .program import Call, Program, Result
from .signature import Signature
from .templates import Output, Trace


class CompiledProgram(Program):
    """A trace and what runs it."""

    def __init__(self, trace: Trace, executable: Executable) -> None:
        super().__init__()
        self.trace, self.executable = trace, executable
        self._host_arrays = [np.zeros(value.size, dtype) for value, _, dtype in trace.host_inputs]
        used = executable.graph.used()
        self._reads = [read if id(v) in used else None for v, read, _ in trace.host_inputs]
        for draw in trace.actions:
            if isinstance(draw, Draw):
                draw.is_needed = draw.read in self._reads
        # These share the memory of the host arrays; a GPU's program uploads it.
        on_gpu = isinstance(executable.device, CudaDevice)
        host = cpu_numpy() if on_gpu else executable.device
        self._host_inputs = [from_numpy(a, host) for a in self._host_arrays]
        self._states = tuple(source.tensor for source in trace.states)
        # States that every call finds anew.
        self._moving = [i for i, s in enumerate(trace.states) if s.grad_of or s.place]
        self.holds = trace.guards.hold  # type: ignore[method-assign]
        self._takes_any_tensors = not (trace.fixed or trace.empty or self._moving)
        self._overlaps = Overlaps(trace)
        self._overwrites = bool(self._overlaps)
        self._sharing = trace.effects.shared
        # Most gradients are those of parameters, which an optimizer has applied: the fast path.
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
        self._has_effects = bool(
            effects.written or effects.shared or effects.data or effects.places
            or effects.continued or self._new_grads
        )  # fmt: skip
        returned = trace.returned  # a loss, mostly
        is_tensor = (
            type(returned) is Output and returned.kind is Tensor and not returned.requires_grad
        )
        self._returns_tensor = is_tensor and not self._has_effects

    def __call__(self, signature: Signature, eagerly: Call) -> tuple[bool, Result]:
        """See `Program`."""
        arguments = signature.tensors
        states = self._states if not self._moving else self._found_states(arguments)
        if states is None or not self._matches(signature, states):
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
        # While these are referenced, the program replaces the data instead of overwriting it.
        shared = [_present(find(other, arguments)).cached_data for _, other in self._sharing]
        results = self._results(arguments, states)
        for tensor in in_place:
            versions.written(tensor.cached_data._handle)
        for tensor, row_major in copies:
            overwrite(tensor, row_major.cached_data)
        if self._returns_tensor:
            self._forget_gradients()
            return True, Tensor.make_const(results[self.trace.returned.index])
        # Before the effects, which may store other Tensors where this call finds its own.
        instantiate = Instantiation(signature, results)
        returned = instantiate(self.trace.returned)
        if self._has_effects:
            self._apply_effects(signature, shared, instantiate)
        else:
            self._forget_gradients()
        return True, returned

    # ---- whether it fits ------------------------------------------------------------------------

    def _found_states(self, arguments: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """The states, found anew; None where one is gone."""
        found = [find(source, arguments) for source in self.trace.states]
        states = tuple(state for state in found if state is not None)
        return states if len(states) == len(found) else None

    def _matches(self, signature: Signature, states: Sequence[Tensor]) -> bool:
        """Whether the same arguments and states are one object as in the trace."""
        if signature.containers and not self._containers_match(signature.containers):
            return False
        if self._takes_any_tensors:
            return self.trace.outside.isdisjoint(signature.ids)
        arguments, ids = signature.tensors, signature.ids
        for i, source in self.trace.fixed:
            if arguments[i] is not find(source, arguments):
                return False
            ids = ids - {id(arguments[i])}
        if not self.trace.outside.isdisjoint(ids):
            return False
        if any(id(states[i]) in ids for i in self._moving):
            return False
        owners = [find(source, arguments) for source in self.trace.empty]
        return all(owner is not None and owner.grad is None for owner in owners)

    def _containers_match(self, containers: list[Container]) -> bool:
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
        """The states with row-major data, which programs need.

        With them come pairs (state, its copy) of the states in whose memory, which others may see,
        the copy's data must be written after the run.
        """
        graph, compact, copies = self.executable.graph, list(states), []
        for i, tensor in enumerate(states):
            data = tensor.cached_data
            if data.is_compact():
                continue
            if i in graph.updates and i not in graph.in_place:
                tensor.cached_data = data.copy()  # it gets new memory anyway
                continue
            compact[i] = Tensor.make_const(data.copy())
            if i in graph.in_place:
                copies.append((tensor, compact[i]))
        return tuple(compact), copies

    # ---- running --------------------------------------------------------------------------------

    def _results(self, arguments: Sequence[Tensor], states: Sequence[Tensor]) -> list[NDArray]:
        """The results of the graph. The host's actions run before; an error takes them back."""
        if not self.trace.actions:
            return self._run(arguments, states)
        with rollback_on_error():
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
        return self.executable.run(inputs, states, timestamp())

    # ---- side effects ---------------------------------------------------------------------------

    def _forget_gradients(self) -> None:
        for tensor in self._forgotten:
            tensor._grad = None

    def _apply_effects(
        self, signature: Signature, shared: list[NDArray], instantiate: Instantiation
    ) -> None:
        effects, arguments, results = self.trace.effects, signature.tensors, instantiate.results
        # Everything is found before anything is stored.
        places = [
            (instantiate.holder(holder), key, instantiate(value))
            for holder, key, value in effects.places
        ]
        continued = [_present(find(source, arguments)) for source, _ in effects.continued]
        for source, index in effects.written:
            overwrite(_present(find(source, arguments)), results[index])
        for (source, _), data in zip(effects.shared, shared, strict=True):
            _present(find(source, arguments))._replace_data(data)
        for source, index in effects.data:
            _present(find(source, arguments))._replace_data(results[index])
        self._forget_gradients()
        for source, number in self._new_grads:
            grad = None if number is None else instantiate.tensor(number)
            owner = _present(find(source, arguments))
            if source.loses_gradient or (not source.uses_gradient and is_unread(owner)):
                note_lost(owner)
            owner.grad = grad
            owner._unread = source.leaves_unread
        for holder, key, value in places:
            put(holder, key, value)
        if continued:
            gradients = [Tensor.make_const(results[index]) for _, index in effects.continued]
            continue_backward(continued, gradients)


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "a program fits only where all its Tensors are found"
    return tensor
