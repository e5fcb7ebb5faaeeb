"""Every line of `calls.py`: needle gives what PyTorch gives, and its gradients."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from torch_calls import CALLS, GROUPS, Call, Constant

import needle as ndl

torch = pytest.importorskip("torch")

# float64 on both sides: what differs is the order of additions.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def convert(x: Any, make: Any) -> Any:
    """The arguments with arrays made Tensors, and dtypes by name made the framework's."""
    if isinstance(x, np.ndarray):
        return make(x.copy())
    if isinstance(x, (list, tuple)) and any(isinstance(i, np.ndarray) for i in x):
        return type(x)(convert(i, make) for i in x)
    return x


def ours(x: np.ndarray, device: Any = None) -> ndl.Tensor:
    return ndl.Tensor(x, dtype=x.dtype, device=device, requires_grad=is_variable(x))


def is_variable(x: np.ndarray) -> bool:
    return x.dtype.kind == "f" and not isinstance(x, Constant)


def theirs(x: np.ndarray) -> Any:
    return torch.tensor(x, requires_grad=is_variable(x))


def arguments(c: Call, make: Any) -> tuple[list[Any], dict[str, Any]]:
    options = {key: convert(value, make) for key, value in c.options.items()}
    if make is theirs and "dtype" in options:
        options["dtype"] = getattr(torch, options["dtype"])
    return [convert(x, make) for x in c.args], options


def leaves(x: Any, kind: Any) -> list[Any]:
    if isinstance(x, kind):
        return [x]
    if isinstance(x, (list, tuple)):
        return [leaf for item in x for leaf in leaves(item, kind)]
    return leaves(list(x.values()), kind) if isinstance(x, dict) else []


def leaves_detached(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.detach()
    if isinstance(x, dict):
        return {key: leaves_detached(value) for key, value in x.items()}
    return type(x)(map(leaves_detached, x)) if isinstance(x, (list, tuple)) else x


def results(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def compare(result: Any, expected: Any, inputs: list[Any], references: list[Any]) -> None:
    if type(expected).__module__ == "torch.return_types":
        assert result._fields == type(expected).__match_args__
    result, expected = results(result), results(expected)
    assert len(result) == len(expected)
    total = reference_total = None
    for x, y in zip(result, expected, strict=True):
        if not isinstance(y, torch.Tensor):
            assert x == y
            continue
        host = y.detach().numpy()
        assert x.shape == host.shape
        assert x.dtype.name == str(y.dtype).removeprefix("torch.")
        np.testing.assert_allclose(x.numpy(), host, **CLOSE)
        if y.requires_grad:
            weight = np.cos(np.arange(host.size)).reshape(host.shape).astype(host.dtype)
            part = (x * ndl.Tensor(weight, dtype=x.dtype, device=x.device)).sum()
            reference = (y * torch.tensor(weight)).sum()
            total = part if total is None else total + part
            reference_total = reference if reference_total is None else reference_total + reference
    if total is None or not np.isfinite(total.item()):
        return
    if not total.requires_grad:
        with suppress(RuntimeError):  # PyTorch has no derivative here
            reference_total.backward()
        assert all(y.grad is None or not y.grad.any() for y in references)
        return
    total.backward()
    try:
        reference_total.backward()
    except RuntimeError:  # PyTorch has no derivative here
        return
    for x, y in zip(inputs, references, strict=True):
        if y.requires_grad and y.grad is not None:
            mine = np.zeros(y.shape) if x.grad is None else x.grad.numpy()
            np.testing.assert_allclose(mine, y.grad.numpy(force=True), **CLOSE)


def run(c: Call, form: str, device: Any = None) -> None:
    """Run a call with both frameworks and compare."""

    def mine(x: np.ndarray) -> ndl.Tensor:
        return ours(x, device)

    args, options = arguments(c, mine)
    their_args, their_options = arguments(c, theirs)
    if form == "function":
        expected = getattr(torch, c.name, None) or getattr(torch.nn.functional, c.name)
        function = getattr(ndl, c.name)
        result = function(*args, **options)
    else:
        expected = getattr(torch.Tensor, c.name)
        result = getattr(args[0], c.name)(*args[1:], **options)
    their_result = expected(*their_args, **their_options)
    compare(
        result, their_result, leaves([args, options], ndl.Tensor),
        leaves([their_args, their_options], torch.Tensor),
    )  # fmt: skip


FUNCTIONS = [c for c in CALLS if c.is_function]


@pytest.mark.parametrize("c", FUNCTIONS, ids=[str(c) for c in FUNCTIONS])
def test_function(c: Call, device: Any) -> None:
    run(c, "function", device)


# A 0-d Tensor counts less than others in PyTorch, and like them in needle.
MIXED = [
    c for c in FUNCTIONS
    if sum(is_variable(x) and x.ndim > 0 for x in leaves([c.args, c.options], np.ndarray)) > 1
]  # fmt: skip


@pytest.mark.parametrize("narrow", ["float32", "float16", "int64"])
def test_mixed_dtypes(narrow: str) -> None:
    """Each Tensor in turn is of another dtype: the result's, and that of each gradient."""
    compared = 0
    for c in MIXED:
        arrays = leaves([c.args, c.options], np.ndarray)
        for chosen in (x for x in arrays if is_variable(x) and x.ndim):
            compared += _compare_mixed(c, chosen, narrow)
    assert compared > 20


def _compare_mixed(c: Call, chosen: np.ndarray, narrow: str) -> bool:
    wide = "float64" if narrow != "int64" else "float16"

    def changed(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.astype(narrow if x is chosen else wide) if is_variable(x) else x
        if isinstance(x, (list, tuple)):
            return type(x)(map(changed, x))
        return x

    mixed = Call(c.name, changed(c.args), {k: changed(v) for k, v in c.options.items()})
    args, options = arguments(mixed, theirs)
    reference = getattr(torch, c.name, None) or getattr(torch.nn.functional, c.name)
    try:
        expected = results(reference(*args, **options))
    except (RuntimeError, TypeError):  # PyTorch wants one dtype
        return False
    args, options = arguments(mixed, ours)
    found = results(getattr(ndl, c.name)(*args, **options))
    for x, y in zip(found, expected, strict=True):
        if isinstance(y, torch.Tensor):
            assert x.dtype.name == str(y.dtype).removeprefix("torch."), mixed
    parts = [x.sum() for x in found if isinstance(x, ndl.Tensor) and x.requires_grad]
    live = [x for x in leaves([args, options], ndl.Tensor) if x.requires_grad]
    if parts and live:
        sum(parts).backward()
        for x in live:
            assert x.grad is None or x.grad.dtype is x.dtype, mixed
    return True


METHODS = [c for c in CALLS if c.is_method and hasattr(torch.Tensor, c.name)]


@pytest.mark.parametrize("c", METHODS, ids=[str(c) for c in METHODS])
def test_method(c: Call) -> None:
    run(c, "method")


def value_and_gradients(c: Call, args: list[Any], options: dict[str, Any]) -> list[Any]:
    result = results(getattr(ndl, c.name)(*args, **options))
    live = [x for x in leaves(args, ndl.Tensor) if x.requires_grad]
    parts = [x.sum() for x in result if isinstance(x, ndl.Tensor) and x.requires_grad]
    return [*result, *(ndl.grad(sum(parts), live) if parts and live else ())]


@pytest.mark.parametrize("group", GROUPS)
def test_compiled(group: str) -> None:
    """All calls of a group in one program, which is compiled once."""
    calls = [c for c in GROUPS[group] if c.compiles and c.is_function]
    given = [arguments(c, ours) for c in calls]

    @ndl.jit
    def compiled(inputs: list[Any]) -> list[list[Any]]:
        return [
            value_and_gradients(c, args, options)
            for c, args, (_, options) in zip(calls, inputs, given, strict=True)
        ]

    actual = compiled([args for args, _ in given])
    for c, found, (args, options) in zip(calls, actual, given, strict=True):
        for x, y in zip(found, value_and_gradients(c, args, options), strict=True):
            if isinstance(y, ndl.Tensor):
                assert x.dtype is y.dtype, c
                np.testing.assert_allclose(x.numpy(), y.numpy(), err_msg=str(c), **CLOSE)
            else:
                assert x == y, c


IN_PLACE = [
    c for c in METHODS
    if hasattr(torch.Tensor, c.name + "_") and c.name not in ("squeeze", "unsqueeze", "transpose",
                                                              "t", "swapaxes", "swapdims")
]  # fmt: skip


def changes(c: Call) -> bool:
    """Whether PyTorch's form with an underscore takes these arguments."""
    args, options = arguments(c, theirs)
    try:
        getattr(args[0].detach().clone(), c.name + "_")(*leaves_detached(args[1:]), **options)
    except (RuntimeError, TypeError):
        return False
    return True


@pytest.mark.parametrize("c", [c for c in IN_PLACE if changes(c)], ids=str)
def test_in_place(c: Call) -> None:
    """The Tensor changes, its aliases see it, and gradients flow as PyTorch's do."""
    args, options = arguments(c, ours)
    their_args, their_options = arguments(c, theirs)
    plain, alias = args[0].detach(), args[0].detach()
    expected = getattr(their_args[0].detach().clone(), c.name + "_")(
        *leaves_detached(their_args[1:]), **leaves_detached(their_options)
    )
    data = ndl.Tensor(plain.numpy(), dtype=plain.dtype, requires_grad=False)
    alias = data.detach()
    with ndl.no_grad():
        assert getattr(data, c.name + "_")(*args[1:], **options) is data
    np.testing.assert_allclose(data.numpy(), expected.numpy(), **CLOSE)
    np.testing.assert_allclose(alias.numpy(), expected.numpy(), **CLOSE)

    if args[0].dtype.kind != "f":
        return
    live, their_live = args[0] * 1.0, their_args[0] * 1.0
    getattr(live, c.name + "_")(*args[1:], **options)
    getattr(their_live, c.name + "_")(*their_args[1:], **their_options)
    compare(
        live * 1.0 if live.dtype.kind == "f" else live, their_live, leaves([args], ndl.Tensor),
        leaves([their_args], torch.Tensor),
    )  # fmt: skip
