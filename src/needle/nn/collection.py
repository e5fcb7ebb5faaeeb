"""Lists and dicts of modules and parameters, under PyTorch's names.

Plain lists and dicts work as well: `Module` looks through them. These classes are modules
themselves, so that paths, `repr`, `apply` and `for` loops are those of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from ..autograd import Tensor
from .module import Module
from .module_methods import ModuleMethods
from .parameter import Parameter

Item = TypeVar("Item", bound=Module | Parameter)


class _Collection(Module, Generic[Item]):
    """Members by name, which `Module` finds under these names."""

    _member: type[Item]

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, Item] = {}

    def forward(self, *args: object) -> object:
        """Raise an error: a collection computes nothing.

        Parameters
        ----------
        *args : object
            Anything.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"[{type(self).__name__}] computes nothing itself; call its members, or use Sequential"
        )

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """The member of that name."""
            members = vars(self).get("members", {})
            return members[name] if name in members else super().__getattr__(name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; the name of a member puts another in its place."""
        if name in vars(self).get("members", {}):
            self.members = {**self.members, name: self._checked(name, value)}
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self).get("members", {}):
            self.members = {k: v for k, v in self.members.items() if k != name}
        else:
            super().__delattr__(name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.members]

    def _checked(self, name: str, item: object) -> Item:
        if self._member is Parameter and isinstance(item, Tensor):
            return item if isinstance(item, Parameter) else Parameter(item)  # type: ignore[return-value]
        if not isinstance(item, self._member):
            kind = self._member.__name__
            raise TypeError(
                f"[{type(self).__name__}] {name} must be a {kind}, got {type(item).__name__}"
            )
        return item

    def _attributes(self) -> Iterator[tuple[str, object]]:
        # Paths read "0.weight", not "members.0.weight".
        for name, value in super()._attributes():
            if name == "members":
                yield from self.members.items()
            else:
                yield name, value

    def __len__(self) -> int:
        return len(self.members)

    def add_module(self, name: str, module: ModuleMethods | None) -> None:
        """Add a member under a name.

        Parameters
        ----------
        name : str
            The name.
        module : Module
            The member.

        Raises
        ------
        TypeError
            If it is none of the kind that the collection has.
        """
        self.members = {**self.members, name: self._checked(name, module)}

    register_module = add_module


class _List(_Collection[Item]):
    """A list whose members are named by their positions."""

    def __init__(self, items: Iterable[Item] | None = None) -> None:
        super().__init__()
        self.extend(items or ())

    def _rename(self, items: Iterable[Item]) -> None:
        self.members = {str(i): item for i, item in enumerate(items)}

    def append(self, item: Item) -> Self:
        """Add an item at the end. Returns this list."""
        name = str(len(self))
        self.members = {**self.members, name: self._checked(name, item)}
        return self

    def extend(self, items: Iterable[Item]) -> Self:
        """Add items at the end. Returns this list."""
        added = [self._checked(str(len(self) + i), item) for i, item in enumerate(items)]
        self._rename([*self.members.values(), *added])
        return self

    def insert(self, index: int, item: Item) -> None:
        """Put an item before the one at `index`."""
        items = list(self.members.values())
        items.insert(index, self._checked(str(index), item))
        self._rename(items)

    def pop(self, index: int = -1) -> Item:
        """Take the item at `index` out and return it."""
        items = list(self.members.values())
        item = items.pop(index)
        self._rename(items)
        return item

    def __iter__(self) -> Iterator[Item]:
        return iter(self.members.values())

    def __iadd__(self, items: Iterable[Item]) -> Self:
        return self.extend(items)

    def __add__(self, items: Iterable[Item]) -> Self:
        return type(self)([*self, *items])

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Item | Self:
        found = list(self.members.values())[index]
        return type(self)(found) if isinstance(found, list) else found

    def __setitem__(self, index: int, item: Item) -> None:
        items = list(self.members.values())
        items[index] = self._checked(str(index), item)
        self._rename(items)

    def __delitem__(self, index: int | slice) -> None:
        items = list(self.members.values())
        del items[index]
        self._rename(items)


class _Dict(_Collection[Item]):
    """A dict with strings as keys, in the order of insertion."""

    def __init__(
        self, items: Mapping[str, Item] | Iterable[tuple[str, Item]] | None = None
    ) -> None:
        super().__init__()
        self.update(items or {})

    def update(self, items: Mapping[str, Item] | Iterable[tuple[str, Item]]) -> None:
        """Add or replace items."""
        new = dict(items.items() if isinstance(items, Mapping) else items)
        for key in new:
            if not isinstance(key, str):
                raise TypeError(f"[{type(self).__name__}] keys must be strings, got {key!r}")
        self.members = {**self.members, **{k: self._checked(k, v) for k, v in new.items()}}

    def keys(self) -> Iterable[str]:
        """The keys."""
        return self.members.keys()

    def values(self) -> Iterable[Item]:
        """The items."""
        return self.members.values()

    def items(self) -> Iterable[tuple[str, Item]]:
        """The pairs (key, item)."""
        return self.members.items()

    def pop(self, key: str) -> Item:
        """Take the item of `key` out and return it."""
        item = self.members[key]
        del self[key]
        return item

    def clear(self) -> None:
        """Take all items out."""
        self.members = {}

    def __getitem__(self, key: str) -> Item:
        return self.members[key]

    def __setitem__(self, key: str, item: Item) -> None:
        self.update({key: item})

    def __delitem__(self, key: str) -> None:
        self.members = {k: v for k, v in self.members.items() if k != key}

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __contains__(self, key: object) -> bool:
        return key in self.members


class ModuleList(_List[Module]):
    """List of modules, which are found by `parameters()` and the other methods of Module.

    Parameters
    ----------
    items : iterable of Module, optional
        The modules at first.

    Raises
    ------
    TypeError
        If an item is no Module.

    Examples
    --------
    >>> import needle as ndl
    >>> layers = ndl.nn.ModuleList([ndl.nn.Linear(4, 4) for _ in range(3)])
    >>> len(layers), len(layers.parameters())
    (3, 6)
    """

    _member = Module


class ModuleDict(_Dict[Module]):
    """Dict of modules, which are found by `parameters()` and the other methods of Module.

    Parameters
    ----------
    items : mapping or iterable of (str, Module), optional
        The modules at first.

    Raises
    ------
    TypeError
        If a key is no string or an item no Module.

    Examples
    --------
    >>> import needle as ndl
    >>> heads = ndl.nn.ModuleDict({"digit": ndl.nn.Linear(4, 10), "parity": ndl.nn.Linear(4, 2)})
    >>> heads["parity"](ndl.ones(1, 4)).shape
    (1, 2)
    """

    _member = Module


class ParameterList(_List[Parameter]):
    """List of parameters; Tensors become Parameters.

    Parameters
    ----------
    items : iterable of Tensor, optional
        The parameters at first.

    Raises
    ------
    TypeError
        If an item is no Tensor.

    Examples
    --------
    >>> import needle as ndl
    >>> weights = ndl.nn.ParameterList([ndl.ones(2), ndl.ones(3)])
    >>> [name for name, _ in weights.named_parameters()]
    ['0', '1']
    """

    _member = Parameter


class ParameterDict(_Dict[Parameter]):
    """Dict of parameters; Tensors become Parameters.

    Parameters
    ----------
    items : mapping or iterable of (str, Tensor), optional
        The parameters at first.

    Raises
    ------
    TypeError
        If a key is no string or an item no Tensor.

    Examples
    --------
    >>> import needle as ndl
    >>> weights = ndl.nn.ParameterDict({"scale": ndl.ones(2)})
    >>> weights["scale"].shape
    (2,)
    """

    _member = Parameter
