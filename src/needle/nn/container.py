"""Modules made of modules: Sequential, Residual, and Identity, which does nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar, overload

from ..autograd import Tensor
from ..given import is_of_torch, type_name
from .module import Module
from .module_methods import ModuleMethods


class Modules(tuple[Module, ...]):
    """The modules of a Sequential: a tuple, as in the course, and a function, as in PyTorch."""

    def __new__(cls, layers: Iterable[Module], owner: Module) -> Self:
        self = super().__new__(cls, layers)
        self.owner = owner
        return self

    owner: Module

    def __call__(self) -> Iterator[Module]:
        """The Sequential itself and every module below it, each once."""
        return (module for _, module in self.owner.named_modules())


class Sequential(Module):
    """Chain of modules, each applied to the result of the one before.

    `len(model)`, `model[i]` and iteration work as on a list; a slice is a Sequential that shares
    its modules with this one.

    Parameters
    ----------
    *modules : Module
        The modules in the order in which they are applied; or one dict of modules, whose keys are
        their names, also as attributes.

    Attributes
    ----------
    modules : tuple of Module
        The modules. Called, as PyTorch's method is, it goes through this module and all below it.

    Raises
    ------
    TypeError
        If an argument is not callable.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Sequential(ndl.nn.Linear(4, 8), ndl.nn.ReLU(), ndl.nn.Linear(8, 2))
    >>> model(ndl.ones(3, 4)).shape
    (3, 2)
    >>> len(model[:2])
    2
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        # The names of modules that were given in a dict; the others are named by their positions.
        self._names: dict[Module, str] = {}
        layers: Iterable[Any] = modules
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            layers = modules[0].values()
            self._names = {module: name for name, module in modules[0].items()}
        for i, module in enumerate(layers):
            if not callable(module) or is_of_torch(module):
                raise TypeError(
                    f"[Sequential] argument {i} must be a Module, got {type_name(module)}"
                    + (": write Sequential(*list)" if isinstance(module, list) else "")
                )
        self._layers: tuple[Module, ...] = tuple(layers)

    def __getattr__(self, name: str) -> Module:
        layers: tuple[Module, ...] = vars(self).get("_layers", ())
        place = self._place(name)
        if place is not None:
            return layers[place]
        if name.isdecimal() and int(name) < len(layers):
            return layers[int(name)]
        return super().__getattr__(name)  # type: ignore[no-any-return, misc]

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; the name of a module, such as "0", puts another in its place."""
        place = self._place(name)
        if place is None:
            super().__setattr__(name, value)
        elif not callable(value):
            raise TypeError(f"[Sequential] {name} must be a Module, got {type_name(value)}")
        else:
            self[place] = value  # type: ignore[assignment]

    def __delattr__(self, name: str) -> None:
        place = self._place(name)
        if place is None:
            super().__delattr__(name)
        else:
            del self[place]

    def _place(self, name: str) -> int | None:
        """The position of the module of that name, or None."""
        own = vars(self)
        layers = own.get("_layers", ())
        for i, module in enumerate(layers):
            if own["_names"].get(module, str(i)) == name:
                return i
        return None

    @property
    def modules(self) -> Modules:
        """The modules: a tuple, which can be called as `Module.modules` can."""
        return Modules(self._layers, self)

    @modules.setter
    def modules(self, modules: Iterable[Module]) -> None:
        self._layers = tuple(modules)

    def add_module(self, name: str, module: ModuleMethods | None) -> None:
        """Add a module at the end under a name, or put it in the place of the one that has it.

        Parameters
        ----------
        name : str
            The name.
        module : Module
            The module.

        Raises
        ------
        TypeError
            If it is no Module.
        """
        if not isinstance(module, Module):
            raise TypeError(f"[add_module] {name} must be a Module, got {type(module).__name__}")
        for i, layer in enumerate(self._layers):
            if self._names.get(layer, str(i)) == name:
                self[i] = module
                return
        if name != str(len(self._layers)):
            self._names = {**self._names, module: name}
        self._layers = (*self._layers, module)

    register_module = add_module

    def append(self, module: Module) -> Self:
        """Add a module at the end. Returns this Sequential."""
        self._layers = (*self._layers, module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end. Returns this Sequential."""
        self._layers = (*self._layers, *modules)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before the one at `index`. Returns this Sequential."""
        layers = list(self._layers)
        layers.insert(index, module)
        self._layers = tuple(layers)
        return self

    def __setitem__(self, index: int, module: Module) -> None:
        layers = list(self._layers)
        if layers[index] in self._names:  # the new one takes the place and the name
            name = self._names[layers[index]]
            self._names = {**self._names, module: name}
        layers[index] = module
        self._layers = tuple(layers)

    def __delitem__(self, index: int | slice) -> None:
        layers = list(self._layers)
        del layers[index]
        self._layers = tuple(layers)

    def forward(self, x: Any) -> Any:
        """Return the last module's result; without modules that is `x`."""
        for module in self._layers:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def _attributes(self) -> Iterator[tuple[str, object]]:
        # Paths read "0.weight", not "_layers.0.weight".
        for name, value in super()._attributes():
            if name == "_layers":
                for i, module in enumerate(self._layers):
                    yield self._names.get(module, str(i)), module
            elif name != "_names":
                yield name, value


class Residual(Module):
    """Residual connection around a module: fn(x) + x.

    Parameters
    ----------
    fn : Module
        The module; its result must be addable to its input.

    Raises
    ------
    TypeError
        If `fn` is not callable.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Residual(ndl.nn.Identity())(ndl.Tensor([1, 2]))
    needle.Tensor([2. 4.])
    """

    def __init__(self, fn: Module) -> None:
        super().__init__()
        if not callable(fn):
            raise TypeError(f"[Residual] fn must be a Module, got {type(fn).__name__}")
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Return fn(x) + x, normally of the shape of `x`."""
        out: Tensor = self.fn(x) + x
        return out


Value = TypeVar("Value")


class Identity(Module):
    """Return the input unchanged.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Identity()(ndl.Tensor([1, 2]))
    needle.Tensor([1. 2.])
    """

    def forward(self, x: Value) -> Value:
        """Return `x` itself."""
        return x
