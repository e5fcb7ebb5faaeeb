"""One call: by needle's function where that takes the arguments, else by NumPy's on the host."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor, is_grad_enabled
from ..backend_ndarray import NDArray
from ..ops._common import as_tensor
from ..tree import map_leaves, tensors

# Functions whose results have no gradient: what they are given may require one.
WITHOUT_GRADIENT = frozenset(
    {
        "allclose", "argpartition", "argwhere", "array2string", "array_equal", "array_equiv",
        "array_repr", "array_str", "array_split", "can_cast", "common_type", "digitize",
        "histogram", "histogram2d", "histogram_bin_edges", "histogramdd", "in1d", "iscomplex",
        "isreal", "lexsort", "may_share_memory", "min_scalar_type", "result_type", "save",
        "savetxt", "savez", "savez_compressed", "shares_memory",
    }
)  # fmt: skip

# Functions that write into their first argument.
WRITE = frozenset({"copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"})


def call(
    name: str,
    mine: Callable[..., Any] | None,
    numpys: Callable[..., Any],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    like: Tensor,
) -> Any:
    """The result of `mine` where that takes these arguments, else that of `numpys`.

    `mine` gets Tensors on the device of `like` in place of arrays. A Tensor as `out` takes the
    result, as in NumPy.
    """
    bound = None
    if mine is not None:
        try:
            bound = inspect.signature(mine).bind(*args, **options)
        except TypeError:  # needle's function lacks one of the arguments
            bound = None
    if mine is None or bound is None:
        return on_host(name, numpys, args, options)
    out = bound.arguments.pop("out", None)
    if isinstance(out, tuple) and len(out) == 1:  # a ufunc's
        out = out[0]
    if out is not None and not isinstance(out, Tensor):
        return on_host(name, numpys, args, options)
    given = map_leaves(lambda x: _tensor(x, like), [bound.args, bound.kwargs])
    if out is None:
        return mine(*given[0], **given[1])

    def result(_: Tensor, *now_given: Tensor) -> Any:  # which may be `out` as it was before
        each = iter(now_given)
        now = map_leaves(lambda x: next(each) if isinstance(x, Tensor) else x, given)
        return mine(*now[0], **now[1])

    return out._changed_by(f"{name}(out=)", result, tuple(tensors(given)))


def on_host(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    """NumPy's function on the numbers of the Tensors.

    Raises TypeError where it would lose the gradient of a Tensor, or write into one.
    """
    short = name.rpartition(".")[2]
    written = [options.get("out"), *(args[:1] if short in (*WRITE, "at") else ())]
    if tensors(written):
        raise TypeError(
            f"[{name}] cannot write into a Tensor: write t[index] = values, or t.copy_(result)"
        )
    if is_grad_enabled() and short not in WITHOUT_GRADIENT:
        for x in tensors([args, options]):
            if x.requires_grad:
                raise TypeError(
                    f"[{name}] needle has no such function, or it does not take these arguments. "
                    "NumPy's would lose the gradient of the Tensor: pass t.detach().numpy() if "
                    "the numbers alone are meant"
                )
    return function(*map_leaves(_host, args), **map_leaves(_host, options))


def _host(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, Tensor) else x


def _tensor(x: Any, like: Tensor) -> Any:
    is_array = isinstance(x, NDArray) or (isinstance(x, np.ndarray) and x.dtype.kind in "biuf")
    return as_tensor(x, like) if is_array else x


__all__ = ["call", "on_host"]
