"""`needle.func` and `needle.utils.checkpoint`, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.utils.checkpoint import checkpoint, checkpoint_sequential

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
V = np.array([1.0, 2.0, -1.0])


def calls(lib: Any, make: Any) -> dict[str, Any]:
    func, x, v = lib.func, make(X), make(V)

    def energy(x: Any, v: Any) -> Any:
        return ((x @ v) ** 3).sum()

    def with_parts(p: Any) -> Any:
        return (p["a"] ** 2).sum() * p["b"][0].sum(), p["a"] * 2

    tree = {"a": v, "b": [x]}
    found, aux = func.grad(with_parts, has_aux=True)(tree)
    both, (value, more) = func.grad_and_value(with_parts, has_aux=True)(tree)
    return {
        "grad": func.grad(energy)(x, v),
        "of the second": func.grad(energy, argnums=1)(x, v),
        "of both": func.grad(energy, argnums=(0, 1))(x, v),
        "value": func.grad_and_value(energy)(x, v),
        "tree": (found["a"], found["b"][0], aux),
        "tree and value": (both["a"], both["b"][0], value, more),
        "second": func.grad(lambda v: (func.grad(lambda v: (v**4).sum())(v) ** 2).sum())(v),
        "jacrev": func.jacrev(lambda x: x**2 @ v)(x),
        "jacfwd": func.jacfwd(lambda v, x: x @ v**2, argnums=0)(v, x),
        "hessian": func.hessian(energy, argnums=1)(x, v),
        "nested": func.grad(lambda v: (func.jacrev(lambda v: v**3)(v) ** 2).sum())(v),
    }


def flat(x: Any) -> list[Any]:
    return [leaf for item in x for leaf in flat(item)] if isinstance(x, tuple) else [x]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch
def test_values() -> None:
    torch = pytest.importorskip("torch")
    found = calls(ndl, lambda a: ndl.tensor(a))
    for name, expected in calls(torch, torch.tensor).items():
        assert len(flat(found[name])) == len(flat(expected)), name
        for a, b in zip(flat(found[name]), flat(expected), strict=True):
            assert a.shape == tuple(b.shape), name
            assert name.startswith("tree") or not a.requires_grad, name
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, err_msg=name)


def test_compiled() -> None:
    f = ndl.func.grad_and_value(lambda v: (ndl.func.grad(lambda v: (v**4).sum())(v) ** 2).sum())
    v = ndl.Tensor(V, dtype="float64")
    for a, b in zip(ndl.jit(f)(v), f(v), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_one_element() -> None:
    with pytest.raises(RuntimeError, match="one element"):
        ndl.func.grad(lambda x: x * 2)(ndl.ones(2))


# ---- functional_call ---------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.Linear(3, 3), nn.ModuleDict({"norm": nn.BatchNorm1d(3)})]
        self.shared = self.parts[0].weight

    def forward(self, x: Any, scale: float = 1.0) -> Any:
        return self.parts[1]["norm"](self.parts[0](x) @ self.shared) * scale


def test_functional_call() -> None:
    net, x = Net(), ndl.Tensor(X, dtype="float32", requires_grad=False)
    before = {name: p.numpy() for name, p in net.state_dict().items()}
    held = dict(net.named_parameters())
    others = {name: ndl.Tensor(p.numpy() * 2) for name, p in held.items()}
    mean = ndl.ones(3) * 5
    result = ndl.func.functional_call(
        net, [others, {"parts.1.norm.running_mean": mean}], x, {"scale": 3.0}
    )
    for name, p in net.named_parameters():
        assert p is held[name]
        p.data = others[name].data
    np.testing.assert_allclose(result.numpy(), net(x, scale=3.0).numpy(), rtol=1e-5)
    assert abs(mean.numpy() - 5).max() > 0.1  # the buffer that was given moved
    result.sum().backward()
    assert others["parts.0.weight"].grad is not None
    assert all(p.grad is None for p in held.values())
    after = net.running_mean if hasattr(net, "running_mean") else net.state_dict()
    assert set(after) == set(before)


def test_functional_call_puts_everything_back_after_an_error() -> None:
    net = Net()
    held = dict(net.named_parameters())
    with pytest.raises(ValueError):  # noqa: PT011 (the layer's own)
        ndl.func.functional_call(net, {"parts.0.weight": ndl.ones(5, 5)}, ndl.ones(2, 3))
    assert all(p is held[name] for name, p in net.named_parameters())
    with pytest.raises(KeyError, match=r"Net has no \['weight'\]"):
        ndl.func.functional_call(net, {"weight": ndl.ones(1)}, ndl.ones(2, 3))
    with pytest.raises(KeyError, match=r"lack \['parts.0.bias'"):
        ndl.func.functional_call(net, {"parts.0.weight": ndl.ones(1)}, ndl.ones(2, 3), strict=True)


def meta_step(x: Any, w: Any) -> Any:
    """One step of gradient descent inside, whose result is differentiated by the first weight."""
    layer = nn.Linear(3, 1, bias=False)

    def loss(p: Any) -> Any:
        return (ndl.func.functional_call(layer, p, x) ** 2).mean()

    p = {"weight": w}
    g = ndl.func.grad(loss)(p)
    return loss({"weight": w - 0.1 * g["weight"]})


def test_meta_learning() -> None:
    torch = pytest.importorskip("torch")
    x, w = ndl.Tensor(X, dtype="float64", requires_grad=False), ndl.Tensor(V[:, None] * 1.0)
    w = w.astype("float64").detach().requires_grad_()
    meta_step(x, w * 1).backward()
    tw = torch.tensor(V[:, None], requires_grad=True)
    inner = ((torch.tensor(X) @ tw) ** 2).mean()
    (g,) = torch.autograd.grad(inner, tw, create_graph=True)
    ((torch.tensor(X) @ (tw - 0.1 * g)) ** 2).mean().backward()
    np.testing.assert_allclose(w.grad.numpy(), tw.grad.numpy(), rtol=1e-6)


# ---- checkpoint ----------------------------------------------------------------------------------


def test_checkpoint_as_in_pytorch() -> None:
    layer = nn.Linear(3, 3)
    x = ndl.Tensor(X, dtype="float32")

    def block(x: Any, mask: Any, factor: float, *, shift: float = 0.0) -> Any:
        assert mask is None
        return ndl.tanh(layer(x)) * factor + shift

    for use_reentrant in (True, False, None):
        out = checkpoint(block, x, None, 2.0, shift=1.0, use_reentrant=use_reentrant)
        expected = block(x, None, 2.0, shift=1.0)
        np.testing.assert_array_equal(out.numpy(), expected.numpy())
        out.sum().backward()
        first = x.grad.numpy(), layer.weight.grad.numpy()
        expected.sum().backward()
        for a, b in zip(first, (x.grad, layer.weight.grad), strict=True):
            np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.parametrize("compiled", [False, True])
def test_checkpoint_of_several_results(compiled: bool) -> None:
    w = ndl.Tensor(V, dtype="float64")

    def block(x: Any, y: Any) -> tuple[Any, ...]:
        z = ndl.tanh(x @ w)
        return z * y, ndl.exp(y), x.sum()

    def gradients(x: Any, y: Any, run: Any) -> list[Any]:
        a, b, _ = run(x, y)
        return ndl.grad((a * a).sum() + (b * a).sum(), [x, y, w])

    def both(x: Any, y: Any) -> Any:
        return gradients(x, y, ndl.checkpoint(block)), gradients(x, y, block)

    x, y = ndl.Tensor(X, dtype="float64"), ndl.Tensor([0.5, -1.0], dtype="float64")
    for a, b in zip(*(ndl.jit(both) if compiled else both)(x, y), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    with pytest.raises(TypeError, match="a Tensor or a tuple of Tensors, got dict"):
        ndl.checkpoint(lambda x: {"x": x})(x)


def test_checkpoint_sequential() -> None:
    chain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    x = ndl.Tensor(X, dtype="float32")
    for segments in (1, 2, 3, 5):
        out = checkpoint_sequential(chain, segments, x, use_reentrant=False)
        np.testing.assert_array_equal(out.numpy(), chain(x).numpy())
        out.sum().backward()
        found = x.grad.numpy()
        chain(x).sum().backward()
        np.testing.assert_array_equal(found, x.grad.numpy())
    with pytest.raises(ValueError, match="segments must be in 1 … 5, got 6"):
        checkpoint_sequential(chain, 6, x)


@pytest.mark.parametrize("wrapped", [False, True])
def test_compiled_functions_are_differentiated(wrapped: bool) -> None:
    """They record no graph when they are called; the gradients were zeros."""

    def energy(x: Any) -> Any:
        return (x**3).sum()

    compiled = ndl.jit(energy)
    f = (lambda x: compiled(x)) if wrapped else compiled
    x, differentiate = ndl.Tensor([1.0, 2.0], requires_grad=False), ndl.autograd.functional
    assert ndl.func.grad(f)(x).tolist() == [3.0, 12.0]
    assert ndl.jit(ndl.func.grad(f))(x).tolist() == [3.0, 12.0]
    assert differentiate.jacobian(f, x).tolist() == [3.0, 12.0]
    assert differentiate.hessian(f, x).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert differentiate.hvp(f, x, x)[1].tolist() == [6.0, 24.0]
    assert differentiate.jvp(f, x, x)[1].item() == 27.0
    assert compiled(x).item() == 9.0
