"""Guards: what a trace reads of Python objects, and whether it is still so at a later call.

While a function is traced, its module, its optimizer and the objects of the user that are reached
through them or through the function's variables tell a `Watch` which of their attributes are read
and written: their classes get another `__getattribute__` and `__setattr__` until the trace ends.
What was read is a guard, what was written is done again by every call of the program. So it is with
variables, slots, class attributes and what is in containers and small arrays of NumPy: they are
looked at before and after the function has run. What a program cannot do again, because it depends
on a state that no guard can see (the next number of a generator, the next item of an iterator), is
`Unrepeatable`.

A guard is a place and what was there: (dict, key) is an item, mostly an attribute in an object's
`__dict__`; (list or dict, CONTENTS) all there is in a container, where MISSING stands for any
object; (object, name) a slot or a cell of a closure. The core compares places by identity, each in
some ten nanoseconds.
"""

from __future__ import annotations

import array
import builtins
import dis
import functools
import gc
import math
import os
import random
import sys
import sysconfig
import threading
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ... import autograd
from ...autograd import Tensor
from ...autograd import Value as AutogradValue
from ...backend_ndarray import HostNumber, NDArray
from ...forks import fork_safe, in_child
from ...native import core
from .errors import Unrepeatable

# The key of a guard of all that is in a container.
CONTENTS = None
# Containers with more items than this are guarded by their identity and their length alone.
LARGEST_CONTAINER = 1000
# Bytes of larger arrays that a trace copies, to see whether the function itself writes into them.
MOST_COPIED = 1 << 26


class _Name:
    """Stands for what is no object of the user."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISSING: Any = _Name("MISSING")  # nothing is there
LENGTH: Any = _Name("LENGTH")  # the key of a guard of how many items a container has

CONTAINERS = (list, tuple, dict, set, frozenset, deque, bytearray, array.array)
# What dicts and lists may hold that a function counts on.
_PLAIN = (int, float, bool, str, type(None), HostNumber)
# Places of numbers that change: (holder, key), None for attributes, of which the objects tell.
Counters = Mapping[tuple[int, Any], tuple[Any, Any] | None]
_NUMBERS = (int, float, complex, np.generic)
_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8  # of type.__flags__
# Methods that a trace replaces in the classes it follows, and those that objects are made by.
_FOLLOWED = {"__getattribute__", "__setattr__", "__delattr__"}
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__"}
_PACKAGE = __name__.partition(".")[0]
_FOLDER = str(Path(autograd.__file__).resolve().parents[1])
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {_FOLDER}
)


def _is_installed(file: str) -> bool:
    """Whether a file is Python's, needle's or an installed package's, which is not looked into.

    Packages may come from elsewhere than this environment's own folders: from the user's, or from
    the environment below.
    """
    folders = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
    return file.startswith(_INSTALLED) or any(folder in file for folder in folders)


def _is_users(owner: Any) -> bool:
    """Whether a module, class or function is the user's, which is looked into."""
    if isinstance(owner, types.FunctionType):
        return not _is_installed(owner.__code__.co_filename)
    if isinstance(owner, type):
        module = sys.modules.get(owner.__module__)
        return _mutable(owner) and (module is None or _is_users(module))
    file = getattr(owner, "__file__", None)
    if file is None:  # made by hand or by an interpreter, where it does not say how it was found
        return getattr(owner, "__spec__", None) is None
    return not _is_installed(file)


def _first_changed(*guards: Any) -> int:
    """Without the core every guard is looked at in Python."""
    holders, start = guards[0], guards[-1]
    return start if start < len(holders) else -1


first_changed = _first_changed if core is None else core.first_changed


class Guards:
    """Places, and what must be there."""

    def __init__(self, entries: list[tuple[Any, Any, Any]]) -> None:
        self._holders = [holder for holder, _, _ in entries]
        self._keys = [key for _, key, _ in entries]
        self._values = [value for _, _, value in entries]

    def __len__(self) -> int:
        return len(self._holders)

    def found(self, kind: type) -> set[int]:
        """The ids of the objects of a kind that must be in the places."""
        found: list[Any] = []
        for key, value in zip(self._keys, self._values, strict=True):
            if key is not CONTENTS:
                found.append(value)
            elif not isinstance(value, np.ndarray):
                found += value.values() if isinstance(value, dict) else value
        return {id(x) for x in found if isinstance(x, kind)}

    def hold(self) -> bool:
        """Whether every place has what it had, or an equal number or text."""
        i = first_changed(self._holders, self._keys, self._values, MISSING, 0)
        while i >= 0:
            now = read(self._holders[i], self._keys[i])
            if not is_same(now, self._values[i]):
                return False
            if self._keys[i] is not CONTENTS and type(self._values[i]) is not Shape:
                self._values[i] = now  # found at once the next time
            i = first_changed(self._holders, self._keys, self._values, MISSING, i + 1)
        return True


class Shape:
    """A nesting in which objects of a kind, as the Tensors of a hidden state, may be any."""

    def __init__(self, nesting: Any, kind: type) -> None:
        self._kind = kind
        self._parts = [(path, type(x), x) for path, x in _parts(nesting)]
        self._sizes = [_size(x) for _, _, x in self._parts]
        free = (kind, list, tuple, dict)
        self._parts = [(p, t, None if isinstance(x, free) else x) for p, t, x in self._parts]

    def fits(self, nesting: Any) -> bool:
        """Whether another nesting is alike."""
        parts = list(_parts(nesting))
        return len(parts) == len(self._parts) and all(
            path == path_now
            and type(now) is kind
            and _size(now) == size
            and (x is None or is_same(now, x))
            for (path_now, now), (path, kind, x), size in zip(
                parts, self._parts, self._sizes, strict=True
            )
        )


def _parts(nesting: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, part) of a nesting of lists, tuples and dicts, itself and its leaves among them."""
    yield path, nesting
    if isinstance(nesting, dict):
        for key, item in nesting.items():
            yield from _parts(item, (*path, key))
    elif isinstance(nesting, (list, tuple)):
        for i, item in enumerate(nesting):
            yield from _parts(item, (*path, i))


def _size(part: Any) -> int:
    return len(part) if isinstance(part, (list, tuple, dict)) else 0


def _items(value: Any) -> Iterator[Any]:
    """An object, and all that is in it where it is a tuple."""
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from _items(item)


def read(holder: Any, key: Any) -> Any:
    if key is CONTENTS:
        return snapshot(holder)
    if key is LENGTH:
        return len(holder)
    if isinstance(holder, dict):
        return holder.get(key, MISSING)
    if isinstance(holder, list):
        return holder[key] if key < len(holder) else MISSING
    if isinstance(holder, type):
        return holder.__dict__.get(key, MISSING)
    try:
        return getattr(holder, key, MISSING)
    except ValueError:  # an empty cell
        return MISSING


def put(holder: Any, key: Any, value: Any) -> None:
    """Make `value` what is at a place; MISSING leaves nothing there."""
    if key is CONTENTS:
        _fill(holder, value)
    elif isinstance(holder, dict):
        if value is MISSING:
            holder.pop(key, None)
        else:
            holder[key] = value
    elif isinstance(holder, list):
        holder[key] = value
    elif value is not MISSING:
        setattr(holder, key, value)
    elif read(holder, key) is not MISSING:
        delattr(holder, key)


def _fill(container: Any, contents: Any) -> None:
    """Make `contents`, as `snapshot` gives them, all there is in a container."""
    if isinstance(container, np.ndarray):
        container[...] = contents
    elif isinstance(container, array.array):
        container[:] = array.array(container.typecode, contents)
    elif isinstance(container, list | bytearray):
        container[:] = contents
    elif isinstance(container, dict):
        container.clear()
        for key, value in contents.items():
            container[key] = value
    else:
        container.clear()
        (container.extend if isinstance(container, deque) else container.update)(contents)


def _place(holder: Any, key: Any) -> tuple[int, Any]:
    return id(holder), key if isinstance(key, (str, int)) else id(key)


def snapshot(container: Any) -> Any:
    """What the contents of a container are compared by."""
    if isinstance(container, dict):
        return dict(container)
    return container.copy() if isinstance(container, np.ndarray) else tuple(container)


def is_same(now: Any, then: Any) -> bool:
    """Whether two values are one object, or numbers, texts, arrays of NumPy or tuples alike."""
    if now is then:
        return True
    if type(then) is Shape:
        return then.fits(now)
    if type(now) is not type(then):
        return False
    if isinstance(now, (float, complex)):
        return _bits(now) == _bits(then)
    if isinstance(now, (int, str, bytes, np.generic, np.dtype)):
        return bool(now == then) or bool(now != now and then != then)
    if isinstance(now, np.ndarray):
        return now.dtype == then.dtype and np.array_equal(now, then)
    if isinstance(now, tuple):
        return len(now) == len(then) and all(
            value is MISSING or is_same(item, value) for item, value in zip(now, then, strict=True)
        )
    if type(now) is dict:
        return list(now) == list(then) and all(
            value is MISSING or is_same(now[key], value) for key, value in then.items()
        )
    if isinstance(now, types.MethodType):
        return now.__self__ is then.__self__ and now.__func__ is then.__func__
    return False


def _bits(number: complex) -> tuple[Any, ...]:
    """0.0 and -0.0 differ, a NaN is a NaN."""
    parts = (number.real, number.imag)
    return tuple((math.copysign(1, x), "nan" if x != x else x) for x in parts)


def _state(generator: Any) -> Any:
    """Where a generator of random numbers is; None for what is none."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return generator.getstate()
    return None


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    else:
        generator.setstate(state)


# The generators behind `numpy.random.rand()` and `random.random()`.
_GLOBAL_GENERATORS = (np.random.rand.__self__, random.seed.__self__)  # type: ignore[attr-defined]


def _describe(generator: Any) -> str:
    names = dict(zip(map(id, _GLOBAL_GENERATORS), ("numpy.random", "random"), strict=True))
    return names.get(id(generator), f"a {type(generator).__name__}")


def _namespace(cls: type) -> dict[str, Any]:
    """The dict behind the read-only view that is `cls.__dict__`."""
    return gc.get_referents(cls.__dict__)[0]


def _in_class(cls: type, name: str) -> Any:
    """What a class and those it is derived from have by a name."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), MISSING)


def _mutable(cls: type) -> bool:
    """Whether attributes of the class can be set."""
    return bool(cls.__flags__ & _HEAP_TYPE) and not cls.__flags__ & _IMMUTABLE_TYPE


def _is_slot(cls: type, name: str) -> bool:
    return isinstance(_in_class(cls, name), types.MemberDescriptorType)


def _is_empty(obj: Any, attributes: dict[str, Any] | None) -> bool:
    """Whether an object has no attributes of its own."""
    if attributes:
        return False
    return not _slots(obj)


def _slots(obj: Any) -> dict[str, Any]:
    """What is in the slots of an object."""
    slots = {
        name: _in_slot(obj, name)
        for base in type(obj).__mro__
        if _mutable(base)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    }
    return {name: value for name, value in slots.items() if value is not MISSING}


def _in_slot(obj: Any, name: str) -> Any:
    try:
        return _in_class(type(obj), name).__get__(obj)
    except AttributeError:
        return MISSING


# The watches that are on, by their threads, and the classes that tell them of their objects'
# attributes, with what they had before.
_watches: dict[int, Watch] = {}
_followed: dict[type, dict[str, Any]] = {}
_following = fork_safe(threading.Lock())


def _follow(cls: type) -> None:
    """Objects of the class tell of their attributes from now on."""
    with _following:
        if not _mutable(cls) or any(issubclass(cls, known) for known in _followed):
            return
        read: Callable[[Any, str], Any] = cls.__getattribute__  # type: ignore[assignment]
        write: Callable[[Any, str, Any], None] = cls.__setattr__  # type: ignore[assignment]
        remove: Callable[[Any, str], None] = cls.__delattr__  # type: ignore[assignment]

        def get(obj: Any, name: str) -> Any:
            watch = _watches.get(threading.get_ident())
            return read(obj, name) if watch is None else watch.attribute(obj, name, read)

        def set_(obj: Any, name: str, value: Any) -> None:
            watch = _watches.get(threading.get_ident())
            if watch is not None:
                watch.wrote(obj, name)
            write(obj, name, value)

        def delete(obj: Any, name: str) -> None:
            watch = _watches.get(threading.get_ident())
            if watch is not None:
                watch.wrote(obj, name)
            remove(obj, name)

        new = {"__getattribute__": get, "__setattr__": set_, "__delattr__": delete}
        _followed[cls] = {name: cls.__dict__.get(name, MISSING) for name in new}
        for name, function in new.items():
            setattr(cls, name, function)


def _end_following() -> None:
    """Give the classes back what they had, where nobody watches any more."""
    with _following:
        if _watches:
            return
        for cls, before in reversed(_followed.items()):
            for name, function in before.items():
                if function is MISSING:
                    delattr(cls, name)
                else:
                    setattr(cls, name, function)
        _followed.clear()


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread: the traces of the others ended with them."""
    for thread in [key for key in _watches if key != threading.get_ident()]:
        del _watches[thread]
    _end_following()


class Watch:
    """What one trace reads and writes of Python objects.

    `counters` are numbers that the function is known to count on, as `counted` gives them: reading
    one gives a HostNumber, so that the program need not be another one for every count.
    """

    def __init__(
        self, counters: Counters | None = None, found: Callable[[Any], None] = lambda _: None
    ) -> None:
        """`found` is told of the Tensors and containers that are found outside."""
        self._counters = counters or {}
        self._found = found
        self._placed: list[tuple[Any, Any, Any]] = []  # counters that are no attributes, before
        self._classes: dict[int, type] = {}  # by the ids of their namespaces
        self.tensors: list[Tensor] = []  # that were found in attributes, containers and variables
        self._first: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}  # what was read, by place
        self._written: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}  # with what was there
        self._unlisted: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}  # those by `find_changed`
        self._found_anew: set[tuple[int, Any]] = set()  # states that the program finds there
        self._shapes: dict[tuple[int, Any], tuple[Any, Any, Shape]] = {}  # of nestings there
        self._walked: dict[int, Any] = {}  # what was looked through
        self._class_reads: set[tuple[type, str]] = set()
        self._used: set[str] = set()  # names of attributes in the code of functions
        self._owners: dict[tuple[int, bool], Any] = {}  # modules, classes and functions
        # Objects with slots alone, and the `__dict__`s of others, by their ids: those that were
        # there before the trace, and those that it has made.
        self._outside: dict[int, Any] = {}
        self._made: dict[int, Any] = {}
        self._managed: set[int] = set()  # ids of containers whose guards needle itself gives
        self._large: dict[int, tuple[Any, Any]] = {}  # containers, with what was in them
        self._may_copy = MOST_COPIED
        self._generators: dict[int, tuple[Any, Any]] = {}  # of random numbers, with their states

    def __enter__(self) -> Watch:
        _watches[threading.get_ident()] = self
        for generator in _GLOBAL_GENERATORS:
            self._generator(generator)
        for cls in autograd.watched_classes:
            _follow(cls)
        return self

    def __exit__(self, *exc: object) -> None:
        self._found = lambda _: None
        del _watches[threading.get_ident()]
        _end_following()

    def place_counters(self) -> None:
        """Put HostNumbers where the function will find those of its counters that are no
        attributes, until `restore`."""
        trace = autograd.current_trace()
        assert trace is not None
        for place in self._counters.values():
            if place is not None:
                self._placed.append((*place, read(*place)))
                put(*place, trace.host_number(functools.partial(read, *place)))
        self._written.clear()  # slots tell of what was put there

    # ---- what happens ---------------------------------------------------------------------------

    def attribute(self, obj: Any, name: str, read: Callable[[Any, str], Any]) -> Any:
        if name.startswith("__") and name != "__dict__":
            return read(obj, name)
        attributes = _attributes(obj)
        is_made = self._has_made(obj, attributes)
        if name == "__dict__":
            if attributes is not None and not is_made:
                self.contents(attributes)
            return read(obj, name)
        if attributes is None or name not in attributes:
            if attributes is not None and not is_made:
                self.item(attributes, name)
            self._class_attribute(type(obj), name)
            if not is_made and _is_slot(type(obj), name):
                return self._slot(obj, name, read)
            return read(obj, name)
        if is_made:
            return read(obj, name)
        key = (id(attributes), name)
        if key in self._counters and key not in self._written:
            if key not in self._first:
                trace = autograd.current_trace()
                assert trace is not None
                number = trace.host_number(lambda: attributes[name])
                self._first[key] = (attributes, name, number)
            return self._first[key][2]
        self.item(attributes, name)
        return read(obj, name)

    def has_made(self, obj: Any) -> bool:
        """Whether the trace has made an object, of which nothing is a guard, and nothing is written
        again: it was empty when it was first seen, and the function has found it nowhere."""
        return self._has_made(obj, _attributes(obj))

    def attributes_made(self, obj: Any) -> dict[str, Any] | None:
        """What an object that the trace has made has; None for others, and for those that are made
        of more than attributes."""
        attributes = _attributes(obj)
        is_made = id(obj if attributes is None else attributes) in self._made
        if not is_made or type(obj).__new__ is not object.__new__:
            return None
        return {**_slots(obj), **(attributes or {})}

    def _has_made(self, obj: Any, attributes: dict[str, Any] | None) -> bool:
        holder = obj if attributes is None else attributes
        key = id(holder)
        if key not in self._outside and key not in self._made:
            (self._made if _is_empty(obj, attributes) else self._outside)[key] = holder
        return key in self._made

    def _slot(self, obj: Any, name: str, read: Callable[[Any, str], Any]) -> Any:
        place = _place(obj, name)
        is_known = place in self._first or place in self._written
        if not is_known:
            self._first[place] = (obj, name, MISSING)
        value = read(obj, name)
        if not is_known:
            self._first[place] = (obj, name, value)
            self.reached(value)
        return value

    def wrote(self, obj: Any, name: str) -> None:
        attributes = _attributes(obj)
        if self._has_made(obj, attributes):
            return
        is_slot = _is_slot(type(obj), name)
        holder = obj if is_slot else attributes
        place = _place(holder, name)
        if holder is None or place in self._written:
            return
        before = _in_slot(obj, name) if is_slot else holder.get(name, MISSING)
        self._written[place] = holder, name, before
        if is_slot:
            self._unlisted[place] = self._written[place]

    def _class_attribute(self, cls: type, name: str) -> None:
        if (cls, name) in self._class_reads:
            return
        self._class_reads.add((cls, name))
        for base in cls.__mro__:
            namespace = _namespace(base)
            if _mutable(base):
                self._classes[id(namespace)] = base
                self.item(namespace, name)
            if name in namespace:
                return

    def item(self, holder: Any, key: Any) -> None:
        """The trace holds only while the item or the slot `key` of `holder` is what it is."""
        place = _place(holder, key)
        if place not in self._first and place not in self._written:
            value = read(holder, key)
            self._first[place] = (holder, key, value)
            self.reached(value)

    def contents(self, container: Any) -> None:
        """The trace holds only while the same objects are in `container`."""
        if id(container) in self._walked:
            return
        self._walked[id(container)] = container
        self._found(container)
        if len(container) > LARGEST_CONTAINER:
            self._look_later(container)
            self._first[id(container), id(LENGTH)] = (container, LENGTH, len(container))
            return
        first = snapshot(container)
        if not isinstance(container, (tuple, frozenset)):
            self._first[id(container), CONTENTS] = (container, CONTENTS, first)
        for item in first.values() if isinstance(first, dict) else first:
            self.reached(item)

    def reached(self, value: Any) -> None:
        """The function has got hold of `value`: what it reads there is to be noted, too."""
        cls = type(value)
        if cls in (int, float, str, bool, type(None)):
            return
        if isinstance(value, AutogradValue | NDArray):
            if isinstance(value, Tensor):
                self.tensors.append(value)
                self._found(value)
            return
        if isinstance(value, CONTAINERS):
            self.contents(value)
        elif isinstance(value, np.ndarray):
            if id(value) in self._walked:
                return
            self._walked[id(value)] = value
            if value.size <= LARGEST_CONTAINER:
                self._first[id(value), CONTENTS] = (value, CONTENTS, value.copy())
            elif value.nbytes <= self._may_copy:
                self._may_copy -= value.nbytes
                self._look_later(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self.reached(value.__self__)
            self.reached(value.__func__)
        elif isinstance(value, functools.partial):
            self.reached((value.func, value.args, value.keywords))
        elif isinstance(value, staticmethod | classmethod):
            self.reached(value.__func__)
        elif isinstance(value, property):
            self.reached(value.fget)
        elif hasattr(cls, "__next__") and not _mutable(cls):
            raise Unrepeatable(
                f"it uses a {cls.__name__}, whose next item is not known beforehand: take the item "
                "outside and pass it"
            )
        elif _state(value) is not None:
            self._generator(value)
        elif isinstance(value, type | types.ModuleType):
            self._owner(value, constructs=True)
        else:
            self._object(value, cls)

    def _look_later(self, container: Any) -> None:
        """Whether the function itself changes a large container is seen at the end."""
        self._large[id(container)] = container, snapshot(container)

    def _generator(self, generator: Any) -> None:
        """Whether it draws numbers is seen by its state."""
        self._generators.setdefault(id(generator), (generator, _state(generator)))

    def _object(self, value: Any, cls: type) -> None:
        attributes = _attributes(value)
        holder = value if attributes is None else attributes
        if id(holder) not in self._made:
            self._outside[id(holder)] = holder
        if cls.__module__.partition(".")[0] == _PACKAGE:
            wrapped = getattr(value, "__wrapped__", None)  # another compiled function
            if wrapped is not None:
                self.reached(wrapped)
        elif _mutable(cls):
            _follow(cls)  # also where the class is not the user's
            self._owner(cls)
            if "__call__" in vars(cls):
                self._class_attribute(cls, "__call__")
        elif hasattr(value, "__dict__"):  # a SimpleNamespace
            self.contents(vars(value))

    # ---- the variables of functions -------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> None:
        """Note the variables that a function of the user can read, and what it is itself."""
        code = function.__code__
        if id(function) in self._walked or _is_installed(code.co_filename):
            return
        self._walked[id(function)] = function
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.item(function, name)
        for cell in function.__closure__ or ():
            self.item(cell, "cell_contents")
        self._names(code, function.__globals__)
        self._owner(function)

    def _names(self, code: types.CodeType, variables: dict[str, Any]) -> None:
        """Note what the code names: variables, and attributes of whatever has some."""
        named = set(code.co_names)
        texts = {x for x in code.co_consts if isinstance(x, str)}  # as in getattr(C, "factor")
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                if name in variables or not hasattr(builtins, name):
                    self.item(variables, name)
            elif instruction.opname == "IMPORT_NAME" and name in sys.modules:
                self.reached(sys.modules[name])
        if "globals" in named:
            for name in texts & variables.keys():
                self.item(variables, name)
        self._use(named | texts)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._names(constant, variables)

    # ---- the attributes of modules, classes and functions ---------------------------------------

    def _use(self, names: set[str]) -> None:
        """The function may read attributes of these names. Of classes, modules and functions
        nothing tells which are read, so that each that has one of these names is noted."""
        new = names - self._used
        self._used |= new
        for owner in list(self._owners.values()):
            for name in new:
                self._named(owner, name)

    def _owner(self, owner: Any, constructs: bool = False) -> None:
        """Note the attributes of a module, class or function of the user that have used names, and
        the methods behind operators of a class; how it `constructs` objects, too."""
        key = id(owner), constructs
        if key in self._owners or not _is_users(owner):
            return
        self._owners[key] = owner
        if isinstance(owner, type) and not issubclass(owner, (type, *CONTAINERS)):
            _follow(owner)  # before it makes objects, which are known by that
        for name in list(self._used):
            self._named(owner, name)
        if isinstance(owner, type):
            for name, value in list(vars(owner).items()):
                is_operator = name.startswith("__") and isinstance(value, types.FunctionType)
                if is_operator and name not in _FOLLOWED | (set() if constructs else _CONSTRUCTORS):
                    self._class_attribute(owner, name)
            for other in (type(owner), *owner.__mro__[1:]):
                self._owner(other, constructs)

    def _named(self, owner: Any, name: str) -> None:
        if not isinstance(owner, type):
            if name in vars(owner):
                self.item(vars(owner), name)
        elif name not in _FOLLOWED and _in_class(owner, name) is not MISSING:
            self._class_attribute(owner, name)

    # ---- the end --------------------------------------------------------------------------------

    def find_changed(self) -> None:
        """Note what the function has written that no object tells of: variables, class attributes
        and slots that were read, and what is in containers."""
        for place, (holder, key, first) in list(self._first.items()):
            if key is CONTENTS:
                self._find_changed_items(holder, first)
            elif key is not LENGTH and place not in self._written:
                now = read(holder, key)
                if first is MISSING and isinstance(now, types.ModuleType):
                    continue  # imported meanwhile, for good
                if now is not first and not is_same(now, first):
                    holder = self._classes.get(id(holder), holder)
                    self._written[place] = self._unlisted[place] = holder, key, first

    def _find_changed_items(self, container: Any, first: Any) -> None:
        now = snapshot(container)
        if isinstance(container, dict):
            items: Iterable[tuple[Any, Any]] = [
                *first.items(), *((key, MISSING) for key in now if key not in first)
            ]  # fmt: skip
            if list(now) != [key for key, _ in items]:
                if id(container) not in self._managed:
                    self._note(container, CONTENTS, first, now)
                return
        elif isinstance(container, list) and len(now) == len(first):
            items = enumerate(first)
        else:
            self._note(container, CONTENTS, first, now)
            return
        for key, before in items:
            value = now[key]
            if self._is_managed(container, before, value):
                continue
            if _place(container, key) not in self._written and not is_same(value, before):
                self._first.setdefault(_place(container, key), (container, key, before))
                self._note(container, key, before, value)

    def _note(self, holder: Any, key: Any, before: Any, now: Any) -> None:
        """Every call makes another value of what was at a place."""
        place = _place(holder, key)
        if place not in self._written and now is not before and not is_same(now, before):
            self._written[place] = self._unlisted[place] = holder, key, before

    def manage(self, container: Any) -> None:
        """What happens to the objects in `container` is needle's own affair: its moments."""
        self._managed.add(id(container))

    def _is_managed(self, container: Any, before: Any, now: Any) -> bool:
        return id(container) in self._managed and not (
            type(before) in _PLAIN and type(now) in _PLAIN
        )

    def containers(self) -> set[int]:
        """The ids of the containers and arrays that the function has found."""
        return set(self._walked)

    def check_unseen(self) -> None:
        """Raises Unrepeatable where the function has changed what no guard can tell of: drawn
        numbers itself, or written into a large container."""
        for container, before in self._large.values():
            if not is_same(snapshot(container), before):
                kind = type(container).__name__
                raise Unrepeatable(f"it changes a {kind} of more than {LARGEST_CONTAINER} items")
        for generator, state in self._generators.values():
            if not is_same(_state(generator), state):
                raise Unrepeatable(
                    f"it draws numbers of {_describe(generator)} itself (needle's functions and "
                    "ndl.Generator can be compiled)"
                )

    def is_written(self, holder: Any, key: Any) -> bool:
        """Whether every call writes the place, as far as is known by now."""
        return _place(holder, key) in self._written

    def counted(self) -> Counters:
        """The places of numbers that were read and then made others: (holder, key), None for
        attributes, of which the objects tell."""
        return {
            place: self._unlisted[place][:2] if place in self._unlisted else None
            for place, (holder, key, before) in self._written.items()
            if place in self._first
            and not isinstance(self._first[place][2], HostNumber)
            and type(before) in (int, float)
            and type(read(holder, key)) in (int, float)
            and read(holder, key) != before
        }

    def writes(self) -> Iterator[tuple[Any, Any, Any]]:
        """(holder, key, value at the end) of each place that every call writes, of objects that
        were there before the trace."""
        for place, (holder, key, before) in self._written.items():
            value = read(holder, key)
            if value is MISSING and isinstance(holder, list):
                continue  # it has become shorter, which is another write
            is_changed = place not in self._first or not is_same(value, before)
            if is_changed and id(holder) not in self._made:
                yield holder, key, value

    def reshaped(self) -> set[int]:
        """The ids of the containers that every call makes longer, shorter or of other contents."""
        return {
            id(holder)
            for holder, key, _ in self.writes()
            if key is CONTENTS
            or (id(holder) in self._walked and self._written[_place(holder, key)][2] is MISSING)
        }

    def restore(self) -> None:
        """Give objects and variables from before the trace what they had then."""
        written = [*self._written.values(), *self._placed]
        written.sort(key=lambda entry: entry[1] is not CONTENTS)  # lists have their lengths first
        for holder, key, before in written:
            if id(holder) not in self._made:
                put(holder, key, before)
        for container, contents in self._large.values():
            if not is_same(snapshot(container), contents):
                put(container, CONTENTS, contents)
        for generator, state in self._generators.values():
            if not is_same(_state(generator), state):
                _set_state(generator, state)

    def replaced(self, kind: type) -> Iterator[tuple[Any, Any, tuple[Any, ...], Any]]:
        """(holder, key, path, object before) of each object of that kind at a place that was read
        and then written, or in the nesting there, where nothing else read has the object."""
        seen = Counter(id(x) for x in self._read_objects())
        for place, (holder, key, before) in self._written.items():
            if place not in self._first or key is CONTENTS or read(holder, key) is before:
                continue
            parts = list(_parts(before))
            leaves = [(path, leaf) for path, leaf in parts if isinstance(leaf, kind)]
            own = [x for _, x in parts if isinstance(x, (kind, list, dict))]
            if not leaves or any(seen[id(x)] != 1 for x in own):
                continue
            self._found_anew.add(place)
            self._found_anew.update((id(x), CONTENTS) for x in own if isinstance(x, (list, dict)))
            if before is not leaves[0][1]:
                self._shapes[place] = holder, key, Shape(before, kind)
            for path, leaf in leaves:
                yield holder, key, path, leaf

    def _read_objects(self) -> Iterator[Any]:
        """What was read, as often as there are places of it; the items of tuples with them."""
        for holder, key, first in list(self._first.values()):
            if key is not CONTENTS:
                yield from _items(first)
            elif not isinstance(first, np.ndarray):
                for at, item in first.items() if isinstance(first, dict) else enumerate(first):
                    if _place(holder, at) not in self._first:
                        yield from _items(item)

    def is_outside(self, container: Any) -> bool:
        """Whether the function has found a list, dict or array, the same one at every call."""
        return id(container) in self._walked and (id(container), CONTENTS) not in self._found_anew

    def guards(self, last: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any, Any]]:
        """The entries of `Guards`, `last` with what is there now; what the function itself changes
        in containers is none. To be asked for after `restore`.
        """
        found = [(holder, key, read(holder, key)) for holder, key in last]
        found += self._shapes.values()
        for place, (holder, key, first) in self._first.items():
            if isinstance(first, HostNumber) or place in self._found_anew:
                continue
            now = read(holder, key)
            if key is CONTENTS and isinstance(holder, dict):
                # What the function sets there may be anything before.
                own = ((k, v, _place(holder, k) in self._written) for k, v in first.items())
                first = {k: MISSING if written else v for k, v, written in own}
            elif key is CONTENTS and isinstance(holder, list):
                written_at = {i for i in range(len(first)) if self.is_written(holder, i)}
                first = tuple(MISSING if i in written_at else v for i, v in enumerate(first))
            if is_same(now, first):
                found.append((holder, key, first))
            elif key is CONTENTS and isinstance(holder, dict):
                found += [(holder, k, v) for k, v in first.items() if now.get(k, MISSING) is v]
        return found


def _attributes(obj: Any) -> dict[str, Any] | None:
    try:
        return object.__getattribute__(obj, "__dict__")
    except AttributeError:  # it has slots alone
        return None
