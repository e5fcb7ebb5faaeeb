"""What an argument is and what to write instead of it, in the words of an error."""

from __future__ import annotations

import numpy as np


def not_a_tensor(value: object, name: str = "x") -> str:
    """What `value` is where a Tensor belongs, and the line that makes one of it.

    >>> not_a_tensor([1.0, 2.0], "target")
    'got list: write ndl.tensor(target)'
    """
    instead = _tensor_instead(value, name)
    return f"got {type_name(value)}" + (f": {instead}" if instead else "")


def type_name(value: object) -> str:
    """The name of the type, which tells PyTorch's classes from needle's.

    >>> type_name(1.5)
    'float'
    """
    name = type(value).__name__
    return f"torch.{name}" if is_of_torch(value) else name


def is_of_torch(value: object) -> bool:
    """Whether PyTorch defines its type."""
    return type(value).__module__.partition(".")[0] == "torch"


def shown(value: object) -> str:
    """The value, or its type and shape where it is an array: errors do not print all numbers.

    >>> shown("3"), shown(np.zeros((2, 3)))
    ("'3'", 'a ndarray of shape (2, 3)')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"a {type_name(value)} of shape {tuple(shape)}"
    return repr(value)


def _tensor_instead(value: object, name: str) -> str:
    if is_of_torch(value) and hasattr(value, "detach"):
        return f"write ndl.tensor({name}.detach().cpu())"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"take one of its members, as in {name}.{value._fields[0]}"
    if isinstance(value, (list, tuple)) and any(hasattr(x, "requires_grad") for x in value):
        return f"write ndl.stack({name}) for one Tensor of these Tensors"
    if isinstance(value, (np.ndarray, np.generic, int, float, list, tuple)):
        return f"write ndl.tensor({name})"
    if value is None:
        return "a function that lacks its return gives None"
    if isinstance(value, str):
        return f"write float({name}) for the number in a text"
    if isinstance(value, type):
        return f"{value.__name__} is a class; make one first, as in {value.__name__}()(x)"
    if hasattr(value, "forward"):
        return f"a layer is no Tensor; call it, as in {type_name(value)}(…)(x)"
    return f"write {name}() for what it returns" if callable(value) else ""
