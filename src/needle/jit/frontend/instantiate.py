"""Templates instantiated: a call puts its own Tensors, numbers and containers in their places."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ...autograd import Tensor
from ...backend_ndarray import HostNumber, NDArray
from ...tree import like
from .places import CONTENTS, Container, Holder, put, read
from .signature import Signature
from .templates import (
    ArgumentContainer,
    ArgumentObject,
    NewContainer,
    NewObject,
    Output,
    Source,
    Template,
)


class Instantiation:
    """The objects of one call. What is one object in the templates is one object in the call."""

    __slots__ = ("_made", "_signature", "_tensors", "results")

    def __init__(self, signature: Signature, results: list[NDArray]) -> None:
        self.results = results
        self._signature = signature
        self._tensors: dict[int, Tensor] = {}  # by the numbers of results
        self._made: dict[object, object] = {}  # containers and objects, by their placeholders

    def tensor(
        self, number: int, kind: type[Tensor] = Tensor, requires_grad: bool = False
    ) -> Tensor:
        """The Tensor of result number `number`."""
        made = self._tensors.get(number)
        if made is None:
            data = self.results[number]
            made = self._tensors[number] = kind.make_const(data, requires_grad=requires_grad)
        return made

    def holder(self, holder: Holder) -> Holder:
        """The object that has a place."""
        is_argument = type(holder) is ArgumentContainer
        return self._signature.containers[holder.number] if is_argument else holder

    def __call__(self, template: Template) -> Any:
        """The value that a template stands for."""
        kind = type(template)
        if kind is Output:
            if template.kind is NDArray:
                return self.results[template.index]
            return self.tensor(template.index, template.kind, template.requires_grad)
        if kind is Source:
            return find(template, self._signature.tensors)
        if kind is HostNumber:
            return template.read()
        if kind is NewContainer:
            return self._container(template)
        if kind is NewObject:
            return self._object(template)
        if kind is ArgumentContainer:
            return self._signature.containers[template.number]
        if kind is ArgumentObject:
            return template.object()
        if isinstance(template, tuple):
            return like(template, [self(item) for item in template])
        if kind is dict:
            return {self._key(key): self(x) for key, x in template.items()}
        return template

    def _key(self, key: Template) -> object:
        return self(key) if type(key) in (Output, Source) else key

    def _object(self, template: NewObject) -> object:
        if template not in self._made:
            made: object = object.__new__(template.kind)
            self._made[template] = made
            for name, value in self(template.attributes).items():
                object.__setattr__(made, name, value)
        return self._made[template]

    def _container(self, template: NewContainer) -> Container:
        if template not in self._made:
            self._made[template] = copy.copy(template.empty)
            put(self._made[template], CONTENTS, self(template.contents))
        return self._made[template]


def find(source: Source, arguments: Sequence[Tensor]) -> Tensor | None:
    """The Tensor that a source of the trace is at this call; None where there is none."""
    if source.argument is not None:
        return arguments[source.argument]
    if source.grad_of is not None:
        owner = find(source.grad_of, arguments)
        gradient: Tensor | None = None if owner is None else owner.grad
        return gradient
    if source.place is not None:
        return _find_in_place(source)
    return source.tensor


def _find_in_place(source: Source) -> Tensor | None:
    """The Tensor that a call finds in the place where the call before has stored one."""
    assert source.place is not None
    holder, key, path = source.place
    found = read(holder, key)
    for step in path:
        found = found[step]
    if not isinstance(found, Tensor) or found.op is not None:
        return None
    return found if found.requires_grad == source.tensor.requires_grad else None
