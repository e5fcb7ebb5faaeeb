"""From a finished run of the function to its `Trace`: results, side effects and templates."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from copy import copy
from itertools import compress

import numpy as np

from ...autograd import Tensor, TensorTuple
from ...backend_ndarray import NDArray, default_device
from ...tree import like
from ..ir.graph import whole
from .arguments import Arguments
from .errors import Unrepeatable
from .guards import Guards
from .host import Host
from .places import CONTAINERS, CONTENTS, Contents, Holder, Key, snapshot
from .recorder import Recorder
from .templates import (
    ArgumentContainer,
    ArgumentObject,
    Effects,
    NewContainer,
    NewObject,
    Output,
    Source,
    Template,
    Trace,
)
from .tracer import Tracer
from .watch import Watch


class Outputs:
    """Makes the outputs of the graph, and the templates of what the function returns and keeps."""

    def __init__(
        self, recorder: Recorder, tracer: Tracer, host: Host, watch: Watch, arguments: Arguments
    ) -> None:
        self._recorder, self._tracer, self._host = recorder, tracer, host
        self._watch, self._journal, self._arguments = watch, watch.journal, arguments
        self._graph = recorder.program
        self._made: dict[int, NewContainer | NewObject] = {}  # by the ids of what was made
        self._numbers: dict[int, tuple[Tensor, int]] = {}  # of results, by the Tensor's id

    def trace(self, returned: object, tensors: Sequence[Tensor]) -> Trace:
        """The trace of a function that has `returned`, without guards.

        `tensors` are the Tensors among the arguments.
        """
        tracer, journal = self._tracer, self._journal
        journal.find_changed()
        replaced = list(journal.replaced(Tensor))
        template = self._template(returned)
        fixed = [(i, tracer.source(x)) for i, x in self._arguments.aliased_tensors(tensors)]
        effects = self._effects()
        self._place_states(replaced)
        self._settle_device()
        self._graph.arguments.extend(whole(value) for value, _, _ in self._host.inputs)
        sources = tracer.sources.values()
        fixed_ids = {id(s.tensor) for s in sources if s.is_fixed}
        moving_ids = {id(s.tensor) for s in sources} - fixed_ids
        return Trace(
            graph=self._graph,
            device=self._recorder.device or default_device(),
            taken=tracer.taken,
            fixed=fixed,
            states=tracer.states,
            fixed_containers=self._arguments.aliased_containers(),
            outside=fixed_ids | set(map(id, self._watch.tensors)) - moving_ids,
            outside_containers=set(journal.explored),
            empty=tracer.empty,
            effects=effects,
            actions=self._host.actions,
            host_inputs=self._host.inputs,
            guards=Guards([]),
            modules=list(tracer.modules.values()),
            returned=template,
        )

    def _place_states(self, replaced: list[tuple[Holder, Key, tuple[object, ...], Tensor]]) -> None:
        """Let calls find a state in the place in which the function replaces it."""
        for holder, key, path, tensor in replaced:
            source = self._tracer.sources.get(id(tensor))
            if source is not None and source.argument is None and source.grad_of is None:
                source.place = holder, key, path

    def _settle_device(self) -> None:
        """Determine the program's device: its nodes' or, without nodes, that of its outputs.

        Unused arguments on other devices are removed from the program.
        """
        graph, tracer, recorder = self._graph, self._tracer, self._recorder
        used = graph.used()
        needed = [id(view.value) in used for view in graph.arguments]
        devices = [s.before._device for s in tracer.sources.values() if s.argument is not None]
        states = [s.before._device for s in tracer.states]
        constants = [array._device for value, array in graph.constants if id(value) in used]
        for device in (*compress(devices, needed), *states, *constants):
            recorder.check_device(device, "what the function returns or keeps")
        kept = [
            is_needed or device is recorder.device
            for device, is_needed in zip(devices, needed, strict=True)
        ]
        tracer.taken = list(compress(tracer.taken, kept))
        graph.arguments[:] = compress(graph.arguments, kept)

    # ---- side effects ---------------------------------------------------------------------------

    def _effects(self) -> Effects:
        effects = Effects()
        states = {id(s.tensor): i for i, s in enumerate(self._tracer.states) if s.grad_of is None}
        for source in list(self._tracer.sources.values()):
            state = states.get(id(source.tensor))
            if _is_written(source):
                self._add_contents(source, state, effects)
            if source.data is not source.view:
                self._add_data(source, state, effects)
            grad = source.grad
            source.leaves_unread = id(source.tensor) in self._tracer.unread_gradients
            source.loses_gradient = id(source.tensor) in self._tracer.lost_gradients
            if grad is not source.grad_before:
                if grad is not None and self._tracer.is_applied(grad):
                    grad = None
                effects.grads.append((source, None if grad is None else self._number(grad)))
        for holder, key, value in self._journal.repeated_writes():
            write = self._contents if key is CONTENTS else self._template
            effects.places.append((holder, key, write(value)))
        for number, contents in self._arguments.changed_copies():
            effects.places.append((ArgumentContainer(number), CONTENTS, self._contents(contents)))
        effects.reshaped = self._journal.reshaped()
        effects.continued = [
            (source, self._recorder.result(gradient.cached_data))
            for source, gradient in self._tracer.continued
        ]
        return effects

    def _add_contents(self, source: Source, state: int | None, effects: Effects) -> None:
        """Add an in-place write: every Tensor that shares the memory sees it."""
        assert source.view is not None
        if state is not None:
            self._graph.updates[state] = self._recorder.own_view(source.view)
            self._graph.in_place.add(state)
        else:
            effects.written.append((source, self._recorder.result(source.view)))

    def _add_data(self, source: Source, state: int | None, effects: Effects) -> None:
        """Add new data of a Tensor."""
        data = source.data
        assert data is not None
        for other in self._tracer.sources.values():
            if data is other.view and other is not source:  # after `w.data = v` both share memory
                effects.shared.append((source, other))
                return
        is_alike = data._shape == source.before._shape and data._dtype is source.before._dtype
        if state is not None and is_alike and not _is_written(source):
            self._graph.updates[state] = self._recorder.own_view(data)
        else:
            effects.data.append((source, self._recorder.result(data)))

    def _number(self, tensor: Tensor) -> int:
        """The index of a Tensor among the graph's results."""
        if id(tensor) not in self._numbers:
            self._numbers[id(tensor)] = tensor, self._recorder.result(tensor.cached_data)
        return self._numbers[id(tensor)][1]

    # ---- templates ------------------------------------------------------------------------------

    def _template(self, value: object) -> Template:
        """The template of a value that leaves the function; see `templates`."""
        if isinstance(value, tuple):
            items = [self._template(item) for item in value]
            same = all(x is y for x, y in zip(items, value, strict=True))
            return value if same else like(value, items)
        if not isinstance(value, (*CONTAINERS, np.ndarray)) or isinstance(value, frozenset):
            attributes = self._journal.attributes_made(value)
            return self._leaf(value) if attributes is None else self._new_object(value, attributes)
        number = self._arguments.container_number(value)
        if number is not None:
            return ArgumentContainer(number)
        return value if self._journal.is_outside(value) else self._new_container(value)

    def _new_container(self, container: object) -> Template:
        if id(container) not in self._made:
            empty = copy(container)
            if hasattr(empty, "clear"):
                empty.clear()  # a program must not keep the user's objects alive
            made = self._made[id(container)] = NewContainer(empty)
            made.contents = self._contents(snapshot(container))
        return self._made[id(container)]

    def _new_object(self, value: object, attributes: dict[str, object]) -> Template:
        if id(value) not in self._made:
            made = self._made[id(value)] = NewObject(type(value))
            made.attributes = self._contents(attributes)
        return self._made[id(value)]

    def _contents(self, contents: Contents) -> Template:
        """The template of the contents of a container."""
        if isinstance(contents, dict):
            return {
                self._leaf(key) if isinstance(key, Tensor) else key: self._template(item)
                for key, item in contents.items()
            }
        return contents if isinstance(contents, np.ndarray) else self._template(contents)

    def _leaf(self, leaf: object) -> Template:
        """The template of a value without parts."""
        if isinstance(leaf, Tensor):
            if leaf._created < self._tracer.since or not self._recorder.is_inside(leaf.cached_data):
                return self._tracer.source(leaf)
            is_trained = leaf.requires_grad and leaf.op is None
            return Output(self._number(leaf), type(leaf) if is_trained else Tensor, is_trained)
        if isinstance(leaf, NDArray):
            return Output(self._recorder.result(leaf), NDArray)
        if isinstance(leaf, TensorTuple):
            return tuple(Output(self._recorder.result(x), Tensor) for x in leaf.cached_data)
        if isinstance(leaf, (Iterator, Coroutine)):
            kind = type(leaf).__name__
            raise Unrepeatable(f"it returns or keeps a {kind}, which runs after the call")
        reference = self._arguments.reference(leaf)
        return leaf if reference is None else ArgumentObject(reference)


def _is_written(source: Source) -> bool:
    """Whether the data was written in place, as by `t[0] = 1`."""
    return source.view is not None and source.view._handle.value is not source.value
