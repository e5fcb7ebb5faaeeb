"""`x[key]`, `x[key] = v` and their gradients for random keys, as NumPy has them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

import needle as ndl

DTYPES = ("uint8", "int32", "int64")


class Keys:
    """Random keys for an array of some shape: for NumPy, and as a program of needle writes them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def shape(self) -> tuple[int, ...]:
        return tuple(self.random.choice((1, 2, 3, 4)) for _ in range(self.random.randint(1, 4)))

    def key(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """(NumPy's key, needle's), where arrays may be Tensors in the latter."""
        random = self.random
        together = [n for n in (3, 1) for _ in range(random.randint(0, 2))][:2]
        items: list[tuple[Any, Any]] = []
        axis = 0
        while axis < len(shape) and random.random() < 0.85:
            kind = random.choice(
                ("int", "slice", "slice", "array", "array", "list", "mask", "None", "flag")
            )
            if kind == "None":
                items.append((None, None))
                continue
            if kind == "flag":
                flag = random.random() < 0.8
                items.append((flag, random.choice((flag, np.bool_(flag), self.tensor(flag)))))
                continue
            covered = random.randint(1, len(shape) - axis) if kind == "mask" else 1
            items.append(getattr(self, kind)(shape[axis : axis + covered], together))
            axis += covered
        if random.random() < 0.4:
            items.insert(len(items) if axis < len(shape) else 0, (Ellipsis, Ellipsis))
        if len(items) == 1 and random.random() < 0.6:
            return items[0]
        return tuple(host for host, _ in items), tuple(mine for _, mine in items)

    def tensor(self, host: Any) -> ndl.Tensor:
        host = np.asarray(host)
        return ndl.Tensor(host, dtype=host.dtype)

    def int(self, shape: tuple[int, ...], together: list[int]) -> tuple[Any, Any]:
        i = self.random.randint(-shape[0], shape[0] - 1)
        return i, self.random.choice((i, np.int32(i), np.array(i), self.tensor(np.array(i))))

    def slice(self, shape: tuple[int, ...], together: list[int]) -> tuple[Any, Any]:
        n = shape[0]
        part = slice(
            self.random.choice((None, self.random.randint(-n - 1, n + 1))),
            self.random.choice((None, self.random.randint(-n - 1, n + 1))),
            self.random.choice((None, 1, 2, -1, -2)),
        )
        return part, part

    def array(self, shape: tuple[int, ...], together: list[int]) -> tuple[Any, Any]:
        n = shape[0]
        dtype = self.random.choice(DTYPES)
        low = 0 if dtype == "uint8" else -n
        lengths = self.random.choice((together, together[-1:], [3], []))
        flat = [self.random.randint(low, n - 1) for _ in range(int(np.prod(lengths)))]
        host = np.array(flat, dtype).reshape(lengths)
        return host, self.random.choice((host, self.tensor(host), host.tolist()))

    def list(self, shape: tuple[int, ...], together: list[int]) -> tuple[Any, Any]:
        n = shape[0]
        choices: list[Any] = [
            [], range(n), [True] * n, [n - 1, 0, -1], [[0], [n - 1]], [-1], range(n - 1, -1, -1)
        ]  # fmt: skip
        chosen = self.random.choice(choices)
        return chosen, chosen

    def mask(self, shape: tuple[int, ...], together: list[int]) -> tuple[Any, Any]:
        flat = [self.random.random() < 0.5 for _ in range(int(np.prod(shape)))]
        host = np.array(flat).reshape(shape)
        return host, self.random.choice((host, self.tensor(host), host.tolist()))


def outcome(function: Callable[[], Any]) -> Any:
    """The result, or None where the key is refused."""
    try:
        return function()
    except (IndexError, ValueError):
        return None


def expected_gradient(x: np.ndarray, key: Any, weight: np.ndarray) -> np.ndarray:
    places = np.arange(x.size).reshape(x.shape)[key]
    gradient = np.zeros(x.size)
    np.add.at(gradient, places.reshape(-1), weight.reshape(-1))
    return gradient.reshape(x.shape)


@pytest.mark.parametrize("seed", range(4))
def test_random_keys(seed: int, device: Any) -> None:
    keys = Keys(seed)
    taken = 0
    for _ in range(250):
        shape = keys.shape()
        host_key, key = keys.key(shape)
        x = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
        expected = outcome(lambda x=x, host_key=host_key: x[host_key])
        t = ndl.Tensor(x, dtype="float64", device=device)
        found = outcome(lambda t=t, key=key: t[key])
        note = f"shape {shape}, key {key}"
        assert (found is None) == (expected is None), note
        if expected is None:
            continue
        taken += 1
        assert found.shape == expected.shape, note
        np.testing.assert_array_equal(found.numpy(), expected, err_msg=note)
        weight = np.cos(np.arange(found.size)).reshape(found.shape)
        (found * ndl.Tensor(weight, dtype="float64", device=device)).sum().backward()
        np.testing.assert_allclose(
            t.grad.numpy(), expected_gradient(x, host_key, weight), rtol=1e-12, err_msg=note
        )
        for value in (-5.0, -1 - np.arange(found.size).reshape(found.shape) * 1.0):
            written, changed = x.copy(), ndl.tensor(x, dtype="float64", device=device)
            written[host_key] = value
            changed[key] = value
            np.testing.assert_array_equal(changed.numpy(), written, err_msg=note)
        recorded = ndl.Tensor(x, dtype="float64", device=device) * 1.0
        v = ndl.Tensor(weight, dtype="float64", device=device)
        recorded[key] = v
        written = x.copy()
        written[host_key] = weight
        np.testing.assert_array_equal(recorded.numpy(), written, err_msg=note)
    assert taken > 150


def test_random_keys_in_a_compiled_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys whose integer arrays are arguments: read, written, and the gradient."""
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    keys = Keys(10)
    for _ in range(60):
        shape = keys.shape()
        host_key, key = keys.key(shape)
        x = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
        expected = outcome(lambda x=x, host_key=host_key: x[host_key])
        items = key if isinstance(key, tuple) else (key,)
        if expected is None or any(
            isinstance(item, ndl.Tensor) and item.dtype == "bool" for item in items
        ):
            continue

        def program(x: ndl.Tensor, key: Any) -> Any:
            y = x * 1.0
            part = x[key]
            y[key] = -1.0
            return part, y, ndl.grad((part * part).sum(), [x])[0]

        note = f"shape {shape}, key {key}"
        arguments = (ndl.Tensor(x, dtype="float64"), key)
        if any(isinstance(item, np.ndarray) for item in items):
            continue
        for found, eager in zip(ndl.jit(program)(*arguments), program(*arguments), strict=True):
            np.testing.assert_array_equal(found.numpy(), eager.numpy(), err_msg=note)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (True, (1, 2, 3)), (False, (0, 2, 3)), ((None, True), (1, 1, 2, 3)),
        ((slice(None), True), (2, 1, 3)), ((True, True), (1, 2, 3)), ((True, False), (0, 2, 3)),
        ((Ellipsis, None), (2, 3, 1)), ((0, True), (1, 3)), ([], (0, 3)), ([[0], [1]], (2, 1, 3)),
        (range(2), (2, 3)), ((Ellipsis, range(1)), (2, 1)), ((), (2, 3)), (((0, 1), (0, 2)), (2,)),
        (np.uint8(1), (3,)),
    ],
)  # fmt: skip
def test_keys_that_people_type(key: Any, shape: tuple[int, ...], device: Any) -> None:
    host = np.arange(6.0).reshape(2, 3)
    x = ndl.Tensor(host, device=device)
    assert x[key].shape == host[key].shape == shape
    np.testing.assert_array_equal(x[key].numpy(), host[key])
    x = x.detach()
    x[key] = 7.0
    host[key] = 7.0
    np.testing.assert_array_equal(x.numpy(), host)


@pytest.mark.parametrize("key", [1.0, "a", [0.5], [[0], [1, 0]], (0, 1, 2), ..., {}])
def test_keys_that_are_refused(key: Any, device: Any) -> None:
    if key is ...:
        key = (..., 0, ...)
    x = ndl.Tensor(np.arange(6.0).reshape(2, 3), device=device, requires_grad=False)
    with pytest.raises((IndexError, ValueError)):
        x[key]
    with pytest.raises((IndexError, ValueError)):
        operator.setitem(x, key, 0.0)
