"""`autograd.functional`, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl

torch = pytest.importorskip("torch")

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
V = np.array([1.0, 2.0, -1.0])


def calls(lib: Any, make: Any) -> dict[str, Any]:
    f = lib.autograd.functional

    def one(x: Any) -> Any:
        return (x**3).sum(1)

    def two(x: Any, v: Any) -> Any:
        return (x @ v) ** 2, lib.exp(v)

    def energy(x: Any, v: Any) -> Any:
        return ((x @ v) ** 3).sum()

    x, v = make(X), make(V)
    w, z = make(np.array([2.0, -1.0])), make(np.array([0.5, 0.1, 1.0]))
    return {
        "jacobian": f.jacobian(one, x),
        "jacobian of two": f.jacobian(two, (x, v)),
        "unused": f.jacobian(lambda x, v: x.sum(), (x, v)),
        "hessian": f.hessian(lambda x: (x**4).sum(), x),
        "hessian of two": f.hessian(energy, (x, v)),
        "vjp": f.vjp(one, x, w),
        "vjp of one": f.vjp(energy, (x, v)),
        "vjp of two": f.vjp(two, (x, v), (w, z)),
        "jvp": f.jvp(one, x, x * 2),
        "jvp of two": f.jvp(two, (x, v), (x, z)),
        "hvp": f.hvp(energy, (x, v), (x * 3, z)),
        "vhp": f.vhp(energy, (x, v), (x * 3, z)),
        "of a jacobian": f.hessian(lambda v: f.jacobian(one, v * 2, create_graph=True).sum(), x),
    }


def flat(x: Any) -> list[Any]:
    return [leaf for item in x for leaf in flat(item)] if isinstance(x, tuple) else [x]


def nested(x: Any) -> Any:
    return tuple(map(nested, x)) if isinstance(x, tuple) else tuple(x.shape)


def test_values() -> None:
    found = calls(ndl, lambda a: ndl.Tensor(a, dtype="float64"))
    expected = calls(torch, torch.tensor)
    for name, result in expected.items():
        assert nested(found[name]) == nested(result), name
        for a, b in zip(flat(found[name]), flat(result), strict=True):
            assert not a.requires_grad
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)


def test_results_that_can_be_differentiated() -> None:
    def slope(lib: Any, x: Any) -> Any:
        f = lib.autograd.functional
        _, t = f.jvp(lambda x: x**3, x, x.detach() * 0 + 1, create_graph=True)
        _, h = f.hvp(lambda x: (x**4).sum(), x, x.detach() * 0 + 1, create_graph=True)
        j = f.jacobian(lambda x: (x**3).sum(1), x, create_graph=True)
        return (t * t).sum() + h.sum() + (j * j).sum()

    x, y = ndl.Tensor(X, dtype="float64"), torch.tensor(X, requires_grad=True)
    slope(ndl, x).backward()
    slope(torch, y).backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-11)


def test_compiled() -> None:
    f = ndl.autograd.functional
    x, v = ndl.Tensor(X, dtype="float64"), ndl.Tensor(V, dtype="float64")

    def all_of_them(x: Any, v: Any) -> Any:
        def energy(x: Any, v: Any) -> Any:
            return ((x @ v) ** 3).sum()

        return (
            f.hessian(energy, (x, v)),
            f.hvp(energy, (x, v), (x, v)),
            f.jvp(energy, (x, v), (x, v)),
        )

    for a, b in zip(flat(ndl.jit(all_of_them)(x, v)), flat(all_of_them(x, v)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11)


def test_mistakes() -> None:
    f, x = ndl.autograd.functional, ndl.Tensor(X)
    with pytest.raises(RuntimeError, match="may be left out"):
        f.vjp(lambda x: x * 2, x)
    with pytest.raises(RuntimeError, match=r"v must have the shapes \[\(2, 3\)\], got \[\(1,\)\]"):
        f.jvp(lambda x: x * 2, x, ndl.ones(1))
    with pytest.raises(RuntimeError, match="one element"):
        f.hessian(lambda x: x * 2, x)
    with pytest.raises(RuntimeError, match="every input"):
        f.jacobian(lambda x, y: x.sum(), (x, x), strict=True)
    with pytest.raises(TypeError, match="got float"):
        f.jacobian(lambda x: 1.0, x)
