"""`checkpoint` with PyTorch's arguments; `needle.checkpoint` makes a function of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .. import ops
from ..autograd import Tensor

Results = TypeVar("Results")


def checkpoint(
    function: Callable[..., Results],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Results:
    """`function(*args, **kwargs)`, whose inner values the backward pass computes again.

    Parameters
    ----------
    function : callable
        Returns a Tensor, or a tuple of them.
    *args, **kwargs : object
        What it takes.
    use_reentrant : bool, optional
        Accepted as in PyTorch; the second run always happens inside of the backward pass.
    preserve_rng_state : bool, default True
        Accepted as in PyTorch; the second run always draws the random numbers of the first.

    Returns
    -------
    Tensor or tuple of Tensor

    Raises
    ------
    TypeError
        If the function does not return Tensors.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([0.0])
    >>> ndl.utils.checkpoint.checkpoint(ndl.exp, x, use_reentrant=False).backward()
    >>> x.grad
    needle.Tensor([1.])
    """
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]

    def of_tensors(*tensors: Tensor) -> Results:
        given = list(args)
        for place, x in zip(places, tensors, strict=True):
            given[place] = x
        return function(*given, **kwargs)

    return ops.checkpoint(of_tensors)(*[args[i] for i in places])


def checkpoint_sequential(
    functions: Sequence[Callable[..., Tensor]],
    segments: int,
    input: Tensor,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Tensor:
    """Functions one after the other, in segments whose inner values are computed again.

    Parameters
    ----------
    functions : sequence of callable, or Sequential
        Each takes what the one before returns.
    segments : int
        How many. The inner values of the last one are kept, as in PyTorch.
    input : Tensor
        What the first one takes.
    use_reentrant, preserve_rng_state : optional
        Accepted as in PyTorch.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        Unless 1 ≤ segments ≤ the number of functions.

    Examples
    --------
    >>> import needle as ndl
    >>> f = [ndl.exp, ndl.sin, ndl.cos]
    >>> ndl.utils.checkpoint.checkpoint_sequential(f, 2, ndl.zeros(1)).shape
    (1,)
    """
    chain = list(functions)
    if not 1 <= segments <= len(chain):
        raise ValueError(
            f"[checkpoint_sequential] segments must be in 1 … {len(chain)}, got {segments}"
        )
    size = len(chain) // segments

    def run(part: Sequence[Callable[..., Tensor]], x: Tensor) -> Tensor:
        for function in part:
            x = function(x)
        return x

    for start in range(0, size * (segments - 1), size):
        part = chain[start : start + size]
        input = ops.checkpoint(lambda x, part=part: run(part, x))(input)
    return run(chain[size * (segments - 1) :], input)


__all__ = ["checkpoint", "checkpoint_sequential"]
