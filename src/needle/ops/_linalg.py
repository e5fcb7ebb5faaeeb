"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import EllipsisType
from typing import Any

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray, Shape
from ..backend_ndarray.layout import whole
from ..given import not_a_tensor
from ..operands import Operand
from ._common import as_tensors, of_one_dtype, unbroadcast
from ._shape import permute, reshape, transpose

# Of einsum, sorted; the module `string` compiles regular expressions when it is imported.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class MatMul(TensorOp):
    """a (…, m, k) @ b (…, k, n), batch axes broadcast. dA = g·Bᵀ, dB = Aᵀ·g."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a.matmul(b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = node.inputs
        da = unbroadcast(matmul(out_grad, transpose(b)), a) if a.requires_grad else None
        db = unbroadcast(matmul(transpose(a), out_grad), b) if b.requires_grad else None
        return da, db


class Linear(TensorOp):
    """x (m, k) @ w (k, n) + b (n,) or (1, n), one pass over the result."""

    def compute(self, x: NDArray, w: NDArray, b: NDArray) -> NDArray:
        return x.matmul(w, b.reshape((b.size,)))

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        x, w, b = node.inputs
        return (
            matmul(out_grad, transpose(w)) if x.requires_grad else None,
            matmul(transpose(x), out_grad) if w.requires_grad else None,
            reshape(out_grad.sum(0), b.shape) if b.requires_grad else None,
        )


def matmul(a: Operand, b: Operand) -> Tensor:
    """Matrix product, `a @ b`, with NumPy's rules.

    Parameters
    ----------
    a : Tensor or array, shape (..., m, k) or (k,)
        The left operand; a 1-d one is a row.
    b : Tensor or array, shape (..., k, n) or (k,)
        The right operand; a 1-d one is a column. Leading axes broadcast with those of `a`.

    Returns
    -------
    Tensor, shape (..., m, n)
        Without the axis of a 1-d operand.

    Raises
    ------
    ValueError
        If an operand has no axes, the inner lengths differ or the leading axes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2], [3, 4]])
    >>> (x @ x).tolist()
    [[7.0, 10.0], [15.0, 22.0]]
    >>> ndl.matmul(ndl.ones(5, 1, 2, 3), ndl.ones(4, 3, 6)).shape
    (5, 4, 2, 6)
    """
    a, b = as_tensors(a, b, "matmul")
    row, column = len(a.shape) == 1, len(b.shape) == 1
    if not (row or column):
        return MatMul()(a, b)  # which checks the shapes
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[0 if column else -2]:
        a.realize_cached_data().matmul(b.realize_cached_data())  # the error names these shapes
    a = reshape(a, (1, -1)) if row else a
    b = reshape(b, (-1, 1)) if column else b
    out = MatMul()(a, b)
    shape = out.shape[: -2 if row else -1] + (out.shape[-1:] if not column else ())
    return reshape(out, shape)


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Affine map of the last axis: x·w + b.

    Parameters
    ----------
    x : Tensor, shape (..., k)
        The input.
    w : Tensor, shape (k, n)
        The weight.
    b : Tensor, shape (n,) or (1, n), optional
        The bias.

    Returns
    -------
    Tensor, shape (..., n)

    Raises
    ------
    TypeError
        If an operand is not a Tensor.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linear(ndl.ones(2, 3), ndl.ones(3, 4), ndl.ones(4))[0]
    needle.Tensor([4. 4. 4. 4.])
    """
    for name, value in (("x", x), ("w", w), ("b", b)):
        if not isinstance(value, Tensor) and value is not None:
            raise TypeError(f"[linear] {name} must be a Tensor, {not_a_tensor(value, name)}")
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        is_image = w.ndim == 2 and x.ndim > 2 and prod(x.shape[1:]) == w.shape[0]
        raise ValueError(
            f"[linear] x of shape {x.shape} needs a weight ({x.shape[-1] if x.ndim else '?'}, n), "
            f"got {w.shape}" + ("; x.flatten(1), or nn.Flatten(), comes first" if is_image else "")
        )
    if b is not None and b.size != w.shape[1]:
        raise ValueError(f"[linear] bias must have {w.shape[1]} elements, got shape {b.shape}")
    rows = x if x.ndim == 2 else reshape(x, (-1, x.shape[-1]))
    if b is not None and of_one_dtype(x, w, b):
        out = Linear()(rows, w, b)
    else:
        out = MatMul()(rows, w) if b is None else MatMul()(rows, w) + reshape(b, (b.size,))
    return out if x.ndim == 2 else reshape(out, (*x.shape[:-1], w.shape[1]))


def einsum(equation: str | Tensor, *operands: Tensor | Sequence[int | EllipsisType]) -> Tensor:
    """Einstein summation, as `numpy.einsum`.

    Letters name axes, and those missing after `->` are summed; `...` stands for further axes, which
    broadcast. Without `->` the result has the axes of `...`, then the letters that occur once, in
    alphabetical order. An axis of length 1 broadcasts against a longer one of the same letter.
    Pairs are contracted from left to right, each as one batched matrix product.

    Parameters
    ----------
    equation : str
        The axes of every operand, separated by commas, then `->` and the axes of the result.
    *operands : Tensor
        One or more. Without an equation each operand is followed by a list of numbers that name
        its axes, and the last list, which may be missing, names those of the result.

    Returns
    -------
    Tensor
        The axes that the equation names.

    Raises
    ------
    ValueError
        If the equation is malformed or the lengths of an axis differ.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.einsum("bij,bjk->bik", ndl.ones(5, 2, 3), ndl.ones(5, 3, 4)).shape
    (5, 2, 4)
    >>> ndl.einsum("ii->", ndl.Tensor([[1, 2], [3, 4]]))
    needle.Tensor(5.0)
    >>> ndl.einsum(ndl.ones(2, 3), [0, 1], ndl.ones(3, 4), [1, 2], [0, 2]).shape
    (2, 4)
    """
    if not isinstance(equation, str):
        return _einsum(*_from_lists((equation, *operands)))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return _einsum(equation, operands)


def _einsum(equation: str, operands: Any) -> Tensor:
    named = _name_ellipses(equation, [x.ndim for x in operands])
    inputs, output = _parse(named, [x.shape for x in operands])
    operands, inputs = _without_broadcast_axes(operands, inputs)
    terms, current = operands[0], inputs[0]
    terms, current = _take_diagonals_and_sum(terms, current, "".join(inputs[1:]) + output)
    for i in range(1, len(operands)):
        later = "".join(inputs[i + 1 :]) + output
        right, names = _take_diagonals_and_sum(operands[i], inputs[i], current + later)
        terms, current = _contract(terms, current, right, names, later)
    return permute(terms, [current.index(c) for c in output]) if output else terms


def _from_lists(given: tuple[Any, ...]) -> tuple[str, tuple[Tensor, ...]]:
    """The equation and the operands of `einsum(x, [0, 1], y, [1, 2], [0, 2])`."""
    operands, lists = given[0 : len(given) - len(given) % 2 : 2], given[1::2]
    for axes in (*lists, *given[len(operands) * 2 :]):
        if not isinstance(axes, (list, tuple)):
            raise TypeError(
                "[einsum] takes an equation and Tensors, or Tensors that are each followed by a "
                f"list of axes, got {type(axes).__name__} for a list"
            )

    def name(axis: int | EllipsisType) -> str:
        if axis is ...:
            return "..."
        number = whole(axis, "einsum", "an axis")
        if not 0 <= number < len(LETTERS):
            raise ValueError(f"[einsum] axes are numbers from 0 to {len(LETTERS) - 1}, got {axis}")
        return LETTERS[number]

    def named(axes: Sequence[int | EllipsisType]) -> str:
        return "".join(map(name, axes))

    equation = ",".join(map(named, lists))
    if len(given) % 2:
        equation += "->" + named(given[-1])
    return equation, operands


def _name_ellipses(equation: str, ndims: list[int]) -> str:
    """The equation with letters for the axes of `...`, the last of which have the same letters."""
    if "..." not in equation:
        return equation
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(f"[einsum] {equation!r} names {len(inputs)} operands, got {len(ndims)}")
    counts = [
        ndim - len(names.replace("...", "")) if "..." in names else 0
        for names, ndim in zip(inputs, ndims, strict=True)
    ]
    if min(counts) < 0:
        raise ValueError(f"[einsum] {equation!r} names more axes than an operand has")
    free = [c for c in LETTERS if c not in equation]
    letters = "".join(free[: max(counts)])
    if not arrow:
        once = (c for c in sorted(set(left) - set(",.")) if left.count(c) == 1)
        output = "..." + "".join(once)
    replaced = (
        names.replace("...", letters[len(letters) - n :])
        for names, n in zip(inputs, counts, strict=True)
    )
    return ",".join(replaced) + "->" + output.replace("...", letters)


def _without_broadcast_axes(
    operands: tuple[Tensor, ...], inputs: list[str]
) -> tuple[tuple[Tensor, ...], list[str]]:
    """The operands without their axes of length 1 whose letter has another length elsewhere."""
    longest: dict[str, int] = {}
    for x, names in zip(operands, inputs, strict=True):
        for c, n in zip(names, x.shape, strict=True):
            longest[c] = n if longest.get(c, 1) == 1 else longest[c]
    found, kept_names = [], []
    for x, names in zip(operands, inputs, strict=True):
        kept = [i for i, c in enumerate(names) if not (x.shape[i] == 1 and longest[c] != 1)]
        same = len(kept) == x.ndim
        found.append(x if same else reshape(x, tuple(x.shape[i] for i in kept)))
        kept_names.append("".join(names[i] for i in kept))
    return tuple(found), kept_names


def _parse(equation: str, shapes: list[Shape]) -> tuple[list[str], str]:
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow:
        output = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if len(inputs) != len(shapes):
        raise ValueError(f"[einsum] {equation!r} names {len(inputs)} operands, got {len(shapes)}")
    sizes: dict[str, int] = {}
    for names, shape in zip(inputs, shapes, strict=True):
        if len(names) != len(shape) or not all(c.isalpha() for c in names):
            raise ValueError(f"[einsum] {names!r} in {equation!r} does not fit shape {shape}")
        for c, n in zip(names, shape, strict=True):
            if sizes.setdefault(c, n) == 1:
                sizes[c] = n
            elif n not in (1, sizes[c]):
                raise ValueError(f"[einsum] axis {c!r} in {equation!r} is both {sizes[c]} and {n}")
    if len(set(output)) != len(output) or not set(output) <= set(sizes):
        raise ValueError(f"[einsum] the output {output!r} of {equation!r} is not valid")
    return inputs, output


def _take_diagonals_and_sum(x: Tensor, names: str, needed: str) -> tuple[Tensor, str]:
    """Repeated letters become diagonals; letters that nothing else needs are summed."""
    for c in sorted(set(names)):
        while names.count(c) > 1:
            first = names.index(c)
            second = names.index(c, first + 1)
            order = [i for i in range(x.ndim) if i not in (first, second)]
            n = x.shape[first]
            moved = reshape(
                permute(x, [first, second, *order]), (n * n, *(x.shape[i] for i in order))
            )
            x = moved[:: n + 1]
            names = c + "".join(names[i] for i in order)
    summed = tuple(i for i, c in enumerate(names) if c not in needed)
    if summed:
        x = x.sum(summed)
        names = "".join(c for c in names if c in needed)
    return x, names


def _contract(a: Tensor, a_names: str, b: Tensor, b_names: str, later: str) -> tuple[Tensor, str]:
    """One pair as (batch, m, k) @ (batch, k, n)."""
    shared = [c for c in a_names if c in b_names]
    batch = [c for c in shared if c in later]
    inner = [c for c in shared if c not in later]
    rows = [c for c in a_names if c not in shared]
    columns = [c for c in b_names if c not in shared]
    size = dict(zip(a_names, a.shape, strict=True)) | dict(zip(b_names, b.shape, strict=True))

    def arranged(x: Tensor, names: str, groups: tuple[list[str], ...]) -> Tensor:
        order = permute(x, [names.index(c) for group in groups for c in group])
        return reshape(order, tuple(prod(size[c] for c in group) for group in groups))

    out = matmul(
        arranged(a, a_names, (batch, rows, inner)), arranged(b, b_names, (batch, inner, columns))
    )
    names = batch + rows + columns
    return reshape(out, tuple(size[c] for c in names)), "".join(names)


__all__ = ["Linear", "MatMul", "einsum", "linear", "matmul"]
