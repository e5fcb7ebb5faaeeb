"""What a trace hands to later calls: a graph, where its inputs are found, what happens to outputs.

A *template* is a value that leaves the function, with placeholders for what differs from call to
call: `Output` for a result of the graph, `Source` for a Tensor that every call finds,
`ArgumentContainer` and `ArgumentObject` for arguments, `NewContainer` and `NewObject` for what
every call makes. A call *instantiates* it: it puts its own objects in their places.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...autograd import Tensor
from ...backend_ndarray import BackendDevice, NDArray
from ..ir.graph import Graph, Value
from .arguments import Action
from .guards import Guards
from .host import HostInput
from .places import Container, Holder, Key

Template: TypeAlias = Any


@dataclass(eq=False)
class Source:
    """A Tensor from outside whose data or gradient the trace reads or replaces.

    Every call finds the Tensor again in one of four ways: as argument number `argument`, as the
    gradient of the source `grad_of`, in the `place` where every call stores another Tensor (a dict,
    a key and the path in the nesting there), or as the object itself. The trace does not modify the
    Tensor, because other threads may use it.
    """

    tensor: Tensor
    before: NDArray  # its data and gradient before the trace
    grad_before: Tensor | None
    argument: int | None = None
    grad_of: Source | None = None
    place: tuple[Holder, Key, tuple[object, ...]] | None = None
    value: Value | None = None  # the value in the graph, if the trace reads the data
    view: NDArray | None = None  # the symbolic array of the original data
    # The present data (None: not read) and the present gradient inside the trace.
    data: NDArray | None = None
    grad: Tensor | None = None
    # What the function does to gradients, see `needle.autograd.unused`: it uses the one from before
    # the call, leaves one that it has not read, has replaced one of its own.
    uses_gradient: bool = False
    leaves_unread: bool = False
    loses_gradient: bool = False

    def __post_init__(self) -> None:
        self.grad = self.grad_before

    @property
    def is_fixed(self) -> bool:
        """Whether every call finds the Tensor as the object itself."""
        return self.argument is None and self.grad_of is None and self.place is None

    def release(self) -> None:
        """Drop what only the trace needed, so that a program does not keep it alive."""
        self.view = self.data = self.grad = self.grad_before = None
        self.before = None  # type: ignore[assignment]
        if self.argument is not None:
            self.tensor = None  # type: ignore[assignment]


@dataclass(eq=False)
class Output:
    """A placeholder for result number `index` of the graph."""

    index: int
    kind: type  # Tensor, a class derived from it, or NDArray
    requires_grad: bool = False  # of a leaf


@dataclass
class ArgumentContainer:
    """A placeholder for a list or dict that is one of the arguments."""

    number: int


@dataclass
class ArgumentObject:
    """A placeholder for another object among the arguments, which no program may keep alive."""

    object: weakref.ref[object]


@dataclass(eq=False)
class NewContainer:
    """A placeholder for a container that the function makes: every call makes a new one."""

    empty: Container  # one of its kind
    contents: Template = None  # as `places.snapshot` gives them


@dataclass(eq=False)
class NewObject:
    """A placeholder for an object with attributes that the function makes."""

    kind: type
    attributes: dict[str, Template] = field(default_factory=dict)


@dataclass
class Effects:
    """The side effects of a call: what it changes outside of the graph, by the graph's results."""

    data: list[tuple[Source, int]] = field(default_factory=list)  # new data
    shared: list[tuple[Source, Source]] = field(default_factory=list)  # the data of another one
    grads: list[tuple[Source, int | None]] = field(default_factory=list)  # new .grad, or None
    written: list[tuple[Source, int]] = field(default_factory=list)  # new contents of the memory
    # Values stored in Python objects: (holder, key, template). The holder may be an
    # `ArgumentContainer`.
    places: list[tuple[Holder, Key, Template]] = field(default_factory=list)
    reshaped: set[int] = field(default_factory=set)  # ids of containers that get other contents
    # Gradients that continue into the history of a Tensor from outside.
    continued: list[tuple[Source, int]] = field(default_factory=list)


@dataclass
class Trace:
    """A graph, the origin of its inputs and the destination of its outputs."""

    graph: Graph
    device: BackendDevice
    taken: list[int]  # the arguments that the graph takes, by their number
    # Arguments that the function also reaches from outside: the program is for these objects only.
    fixed: list[tuple[int, Source]]
    states: list[Source]
    fixed_containers: list[tuple[int, Container]]  # as `fixed`
    # Ids of the Tensors, and of the containers, that the function finds by identity.
    outside: set[int]
    outside_containers: set[int]
    empty: list[Source]  # the sources that must have no gradient
    effects: Effects
    actions: list[Action]  # run on the host at every call, in order
    host_inputs: list[HostInput]  # arguments that the host makes
    guards: Guards
    modules: list[weakref.ref[Any]]  # the called modules, in the order of first calls
    returned: Template  # what the function returned
