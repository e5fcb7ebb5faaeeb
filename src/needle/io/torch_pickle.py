"""An interpreter of the pickles that `torch.save` writes, which calls nothing but what it is given.

A pickle is a program for a stack machine; Python's own interpreter of it can call any function.
This one knows the instructions that data need. A name in the pickle is looked up in a table of a
few functions, and any other name is an error.
"""

from __future__ import annotations

import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

PLAIN_KEYS = (str, int, float, bool, bytes, type(None))
MARK = object()


class Function:
    """A function of the table, on the stack. `name` is what the pickle calls it."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call


class Marker:
    """A name of the table that is an argument and no data, such as the type of a storage."""

    def __init__(self, name: str) -> None:
        self.name = name


class Refused(ValueError):
    """The pickle asks for what is not admitted."""


def read_pickle(
    encoded: bytes, names: Mapping[str, object], storage: Callable[[object], Any]
) -> Any:
    """The value of a pickle.

    `names` maps "module name" to a Function, a Marker or the value itself; `storage` makes what the
    pickle refers to by a persistent identity. Raises Refused for a name that is not in the table,
    ValueError for a pickle that is damaged or needs more than plain data do.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in damaged texts
            return _Machine(names, storage).run(encoded)
    except Refused:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"holds a damaged pickle: {reason or type(error).__name__}") from None


class _Machine:
    """The stack, the memo and one method or table entry per instruction."""

    def __init__(self, names: Mapping[str, object], storage: Callable[[object], Any]) -> None:
        self.names = names
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, encoded: bytes) -> Any:
        for code, argument, _ in pickletools.genops(encoded):
            if code.name == "STOP":
                break
            self.step(code.name, argument)
        (value,) = self.stack
        _check_is_data(value)
        return value

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self.named(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self.named(f"{module} {attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, Function) or type(arguments) is not tuple:
                raise ValueError("it calls what is no function")
            stack.append(function.call(*arguments))
        elif name == "BINPERSID":
            stack.append(self.storage(stack.pop()))
        elif name == "BUILD":
            attributes = stack.pop()  # of a state_dict: the versions of its layers
            if type(stack[-1]) is not OrderedDict or type(attributes) is not dict:
                raise ValueError("it sets attributes of what has none")
        else:
            self.collect(name)

    def named(self, name: str) -> object:
        if name not in self.names:
            raise Refused(
                f"needs {name.replace(' ', '.', 1)[:200]!r}, which would run code: a file may hold "
                "Tensors, Parameters, numbers, texts and plain containers. In PyTorch save the "
                "numbers alone, as in torch.save(model.state_dict(), path)"
            )
        return self.names[name]

    # ---- containers -----------------------------------------------------------------------------

    def collect(self, name: str) -> None:
        """The instructions that fill containers."""
        stack = self.stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = stack[-count:]
            if len(items) < count or any(item is MARK for item in items):
                raise ValueError("its stack is empty")
            stack[-count:] = [tuple(items)]
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self.since_mark()
            stack.append(_FILLED[name](items))
        elif name == "DICT":
            stack.append({})
            self.set_items(self.since_mark(above=1))
        elif name == "APPEND":
            item = stack.pop()
            self.top(list).append(item)
        elif name == "APPENDS":
            items = self.since_mark()
            self.top(list).extend(items)
        elif name == "SETITEM":
            item, key = stack.pop(), stack.pop()
            self.set_items([key, item])
        elif name == "SETITEMS":
            self.set_items(self.since_mark())
        elif name == "ADDITEMS":
            items = self.since_mark()
            self.top(set).update(plain_set(items))
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name} is not one that data need")

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"it fills a {type(self.stack[-1]).__name__} as a {kind.__name__}")
        return self.stack[-1]

    def since_mark(self, above: int = 0) -> list[Any]:
        """Pop what lies above the last mark, and the mark; `above` values stay on top."""
        kept = [self.stack.pop() for _ in range(above)]
        items: list[Any] = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        self.stack.extend(reversed(kept))
        return items[::-1]

    def set_items(self, flat: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[plain_key(key)] = value


_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set,
    "MARK": lambda: MARK,
}  # fmt: skip
_LITERALS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
     "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
)  # fmt: skip


def plain_key(key: object) -> Any:
    """A key of a dict: a number, a text, or a tuple of such. Hashing a deep one never returns."""
    parts = key if type(key) is tuple else (key,)
    if not all(type(part) in PLAIN_KEYS for part in parts):
        raise ValueError(
            f"a key is a {type(key).__name__}, not a number, a text or a tuple of such"
        )
    return key


def plain_set(items: list[Any]) -> set[Any]:
    """A set of numbers, texts or tuples of such."""
    return {plain_key(item) for item in items}


_FILLED: dict[str, Callable[[list[Any]], object]] = {
    "TUPLE": tuple, "LIST": list, "FROZENSET": plain_set,
}  # fmt: skip


def _check_is_data(root: object) -> None:
    """Raises ValueError where a function or a marker is left among the data."""
    waiting, seen = [root], {id(root)}
    while waiting:
        value = waiting.pop()
        if isinstance(value, (Function, Marker)) or value is MARK:
            raise ValueError(f"{getattr(value, 'name', 'a mark')!r} is no data")
        inside = list(value.values()) if isinstance(value, dict) else value
        if isinstance(inside, (list, tuple, set)):
            fresh = [item for item in inside if id(item) not in seen]
            seen.update(map(id, fresh))
            waiting += fresh
