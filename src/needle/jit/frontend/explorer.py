"""The objects that a traced function can reach: through its variables, attributes and containers.

Nothing reports which variables a function reads, nor which attributes of modules, classes and
functions. So the explorer reads the function's code: it notes every variable that the code names,
and of the user's modules, classes and functions every attribute whose name occurs in such code.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable

import numpy as np

from ...autograd import Tensor, Value
from ...backend_ndarray import NDArray
from .attributes import in_class, is_mutable, namespace_of
from .errors import Unrepeatable
from .following import REPLACED, follow
from .generators import state_of
from .journal import Journal
from .places import CONTAINERS, MISSING, Container, Holder, Key, place_id, read
from .user_code import is_users, names_in

_PACKAGE = __name__.partition(".")[0]
# Objects that do nothing but call others.
_WRAPPERS = (types.MethodType, functools.partial, staticmethod, classmethod, property)
_CONSTRUCTORS = frozenset(("__init__", "__new__", "__post_init__"))
_IMMUTABLE = (int, float, str, bool, type(None))


class Explorer:
    """Notes in a journal what the function reads of the objects that it reaches."""

    def __init__(self, journal: Journal, found: Callable[[object], None]) -> None:
        """`found` is called with each Tensor and container from outside."""
        self.tensors: list[Tensor] = []  # that were found in attributes, containers and variables
        self._journal, self._found = journal, found
        self._class_reads: set[tuple[type, str]] = set()
        self._names: set[str] = set()  # of attributes in the code of functions
        # Modules, classes and functions, by their ids and whether they construct objects.
        self._owners: dict[tuple[int, bool], object] = {}

    def close(self) -> None:
        """Report nothing more to `found`, which may keep the arguments of the trace alive."""
        self._found = lambda _: None

    def item(self, holder: Holder, key: Key) -> None:
        """Note that the function reads a place."""
        place = place_id(holder, key)
        if not self._journal.knows(place):
            value = read(holder, key)
            self._journal.reads[place] = (holder, key, value)
            self.reached(value)

    def contents(self, container: Container) -> None:
        """Note that the function reads a container."""
        if id(container) in self._journal.explored:
            return
        self._found(container)
        contents = self._journal.read_contents(container)
        if contents is not None:
            for item in contents.values() if isinstance(contents, dict) else contents:
                self.reached(item)

    def reached(self, value: object) -> None:
        """Note that the function can use `value`; follow what it reads there."""
        cls = type(value)
        if cls in _IMMUTABLE:
            return
        if isinstance(value, Value | NDArray):
            if isinstance(value, Tensor):
                self.tensors.append(value)
                self._found(value)
        elif isinstance(value, CONTAINERS):
            self.contents(value)
        elif isinstance(value, np.ndarray):
            if id(value) not in self._journal.explored:
                self._journal.read_contents(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, _WRAPPERS):
            for part in _wrapped(value):
                self.reached(part)
        elif hasattr(cls, "__next__") and not is_mutable(cls):
            raise Unrepeatable(
                f"it uses a {cls.__name__}, whose next item is not known beforehand: take the item "
                "outside and pass it"
            )
        elif state_of(value) is not None:
            self._journal.read_generator(value)
        elif isinstance(value, type | types.ModuleType):
            self._owner(value, constructs=True)
        else:
            self._object(value, cls)

    def _object(self, value: object, cls: type) -> None:
        self._journal.found_outside(value)
        if cls.__module__.partition(".")[0] == _PACKAGE:
            wrapped = getattr(value, "__wrapped__", None)  # another compiled function
            if wrapped is not None:
                self.reached(wrapped)
        elif is_mutable(cls):
            follow(cls)  # also where the class is not the user's
            self._owner(cls)
            if "__call__" in vars(cls):
                self.class_attribute(cls, "__call__")
        elif hasattr(value, "__dict__"):  # a SimpleNamespace
            self.contents(vars(value))

    # ---- functions ------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> None:
        """Note what a function of the user is, and the variables that it can read."""
        explored = self._journal.explored
        if id(function) in explored or not is_users(function):
            return
        explored[id(function)] = function
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.item(function, name)
        for cell in function.__closure__ or ():
            self.item(cell, "cell_contents")
        names = names_in(function.__code__, function.__globals__)
        for name in names.variables:
            self.item(function.__globals__, name)
        for name in names.imports:
            if name in sys.modules:
                self.reached(sys.modules[name])
        self._use(names.attributes)
        self._owner(function)

    def _use(self, names: set[str]) -> None:
        """The function may read attributes of these names, of any owner."""
        new = names - self._names
        self._names |= new
        for owner in list(self._owners.values()):
            for name in new:
                self._named(owner, name)

    # ---- modules, classes and functions as owners of attributes ---------------------------------

    def _owner(self, owner: object, constructs: bool = False) -> None:
        """Note the attributes of a module, class or function of the user that code names.

        Of a class also the methods behind its operators; and, if the function `constructs` objects
        of it, its constructors.
        """
        key = id(owner), constructs
        if key in self._owners or not is_users(owner):
            return
        self._owners[key] = owner
        if isinstance(owner, type) and not issubclass(owner, (type, *CONTAINERS)):
            follow(owner)  # before it makes objects, which are known by that
        for name in list(self._names):
            self._named(owner, name)
        if isinstance(owner, type):
            self._operators(owner, () if constructs else _CONSTRUCTORS)
            for other in (type(owner), *owner.__mro__[1:]):
                self._owner(other, constructs)

    def _operators(self, cls: type, but: Iterable[str]) -> None:
        """Note the special methods of a class, which no code names."""
        unnoted = REPLACED.union(but)
        for name, value in list(vars(cls).items()):
            is_special = name.startswith("__") and isinstance(value, types.FunctionType)
            if is_special and name not in unnoted:
                self.class_attribute(cls, name)

    def _named(self, owner: object, name: str) -> None:
        if not isinstance(owner, type):
            if name in vars(owner):
                self.item(vars(owner), name)
        elif name not in REPLACED and in_class(owner, name) is not MISSING:
            self.class_attribute(owner, name)

    def class_attribute(self, cls: type, name: str) -> None:
        """Note that an attribute of a class is read: of the first base that has it."""
        if (cls, name) in self._class_reads:
            return
        self._class_reads.add((cls, name))
        for base in cls.__mro__:
            namespace = namespace_of(base)
            if is_mutable(base):
                self._journal.classes[id(namespace)] = base
                self.item(namespace, name)
            if name in namespace:
                return


def _wrapped(wrapper: object) -> tuple[object, ...]:
    """The objects that a wrapper calls, with the arguments that it has for them."""
    if isinstance(wrapper, types.MethodType):
        return wrapper.__self__, wrapper.__func__
    if isinstance(wrapper, functools.partial):
        return wrapper.func, wrapper.args, wrapper.keywords
    if isinstance(wrapper, property):
        return (wrapper.fget,)
    return (wrapper.__func__,) if isinstance(wrapper, (staticmethod, classmethod)) else ()
