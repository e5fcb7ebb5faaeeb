"""Layers that pad the last axes."""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_ndarray.layout import wholes
from ..typing import Extent, Shape
from . import functional
from .arguments import finite
from .module import Module


def sides(layer: str, padding: Extent, axes: int) -> Shape:
    """(before, after) of each of `axes` axes, one after the other. Raises ValueError."""
    lengths: Shape = tuple(wholes(padding, layer, "padding"))
    if isinstance(padding, (tuple, list)) and len(lengths) == 2 * axes:
        return lengths
    if len(lengths) != 1:
        raise ValueError(f"[{layer}] padding must be an int or {2 * axes} ints, got {padding!r}")
    return lengths * (2 * axes)


class ZeroPad1d(Module):
    """Pad sequences (N, C, L) with zeros.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ZeroPad1d(1)(ndl.ones(2, 3, 4)).shape
    (2, 3, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ZeroPad1d", padding, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(Module):
    """Pad images (N, C, H, W) with zeros.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ZeroPad2d(1)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ZeroPad2d", padding, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad3d(Module):
    """Pad volumes (N, C, D, H, W) with zeros.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ZeroPad3d(1)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 6, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ZeroPad3d", padding, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(Module):
    """Pad sequences (N, C, L) with a constant.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).
    value : float
        What comes in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ConstantPad1d(1, 0.5)(ndl.ones(2, 3, 4)).shape
    (2, 3, 6)
    """

    def __init__(self, padding: Extent, value: float) -> None:
        super().__init__()
        self.padding = sides("ConstantPad1d", padding, 1)
        self.value = finite("ConstantPad1d", "value", value)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(Module):
    """Pad images (N, C, H, W) with a constant.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).
    value : float
        What comes in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ConstantPad2d(1, 0.5)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 6, 6)
    """

    def __init__(self, padding: Extent, value: float) -> None:
        super().__init__()
        self.padding = sides("ConstantPad2d", padding, 2)
        self.value = finite("ConstantPad2d", "value", value)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad3d(Module):
    """Pad volumes (N, C, D, H, W) with a constant.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).
    value : float
        What comes in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ConstantPad3d(1, 0.5)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 6, 6, 6)
    """

    def __init__(self, padding: Extent, value: float) -> None:
        super().__init__()
        self.padding = sides("ConstantPad3d", padding, 3)
        self.value = finite("ConstantPad3d", "value", value)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad1d(Module):
    """Pad sequences (N, C, L) with their mirror image, without the edge.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReflectionPad1d(1)(ndl.ones(2, 3, 4)).shape
    (2, 3, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReflectionPad1d", padding, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "reflect")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad2d(Module):
    """Pad images (N, C, H, W) with their mirror image, without the edge.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReflectionPad2d(1)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReflectionPad2d", padding, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "reflect")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad3d(Module):
    """Pad volumes (N, C, D, H, W) with their mirror image, without the edge.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReflectionPad3d(1)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 6, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReflectionPad3d", padding, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "reflect")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReplicationPad1d(Module):
    """Pad sequences (N, C, L) with their edges.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReplicationPad1d(1)(ndl.ones(2, 3, 4)).shape
    (2, 3, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReplicationPad1d", padding, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "replicate")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReplicationPad2d(Module):
    """Pad images (N, C, H, W) with their edges.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReplicationPad2d(1)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReplicationPad2d", padding, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "replicate")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReplicationPad3d(Module):
    """Pad volumes (N, C, D, H, W) with their edges.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReplicationPad3d(1)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 6, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("ReplicationPad3d", padding, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "replicate")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class CircularPad1d(Module):
    """Pad sequences (N, C, L) with their other ends.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.CircularPad1d(1)(ndl.ones(2, 3, 4)).shape
    (2, 3, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("CircularPad1d", padding, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "circular")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class CircularPad2d(Module):
    """Pad images (N, C, H, W) with their other ends.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.CircularPad2d(1)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("CircularPad2d", padding, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "circular")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class CircularPad3d(Module):
    """Pad volumes (N, C, D, H, W) with their other ends.

    Parameters
    ----------
    padding : int or tuple of int
        Lengths on each side; an int pads all sides alike. Given for the last axis first:
        (before, after, …).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.CircularPad3d(1)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 6, 6, 6)
    """

    def __init__(self, padding: Extent) -> None:
        super().__init__()
        self.padding = sides("CircularPad3d", padding, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its last axes padded."""
        return functional.pad(x, self.padding, "circular")

    def extra_repr(self) -> str:
        return f"{self.padding}"
