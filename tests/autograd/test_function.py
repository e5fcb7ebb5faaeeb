"""Functions with gradients of their own, compared with PyTorch's `autograd.Function`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl

torch = pytest.importorskip("torch")

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
Y = np.array([[1.0, 2.0, -1.0], [0.2, -0.4, 0.9]])


def functions(lib: Any) -> dict[str, Any]:
    """The same classes for either framework."""

    class Cube(lib.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.save_for_backward(x)
            ctx.factor = factor
            return factor * x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * ctx.factor * x**2 * g, None

    class Exp(lib.autograd.Function):  # saves its result
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = lib.exp(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    class SinCos(lib.autograd.Function):  # several results, one without a gradient
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return lib.sin(x) * y, lib.cos(y), (x > 0)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.mark_non_differentiable(output[2])
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any, _: Any) -> Any:
            x, y = ctx.saved_tensors
            by_x = lib.cos(x) * y * g if ctx.needs_input_grad[0] else None
            return by_x, lib.sin(x) * g - lib.sin(y) * h

    class Straight(lib.autograd.Function):  # a straight-through estimator
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return lib.round(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    return {
        "cube": lambda x, y: (Cube.apply(x, 2.0) * y).sum(),
        "exp": lambda x, y: (Exp.apply(x) * y).sum(),
        "sin": lambda x, y: (SinCos.apply(x, y)[0] ** 2).sum() + SinCos.apply(x, y)[1].sum(),
        "constant": lambda x, y: SinCos.apply(x.detach(), y)[0].sum() + x.sum(),
        "straight": lambda x, y: (Straight.apply(x) * y * x).sum(),
        "nested": lambda x, y: Cube.apply(Exp.apply(Straight.apply(x) * y), 0.5).sum(),
        "same twice": lambda x, y: SinCos.apply(x, x)[0].sum() + (x * y).sum(),
    }


def derivatives(lib: Any, f: Any, x: Any, y: Any) -> list[Any]:
    """The result, the first derivatives, and the gradients of a function of those."""
    grad = lib.grad if lib is ndl else torch.autograd.grad
    value = f(x, y)
    first = grad(value, [x, y], create_graph=True)
    slope = sum((g**2).sum() for g in first) + (x * y).sum() * 0
    return [value, *first, *grad(slope, [x, y])]


@pytest.mark.parametrize("name", functions(ndl))
def test_derivatives(name: str) -> None:
    inputs = [ndl.Tensor(a, dtype="float64") for a in (X, Y)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (X, Y)]
    found = derivatives(ndl, functions(ndl)[name], *inputs)
    expected = derivatives(torch, functions(torch)[name], *theirs)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_compiled() -> None:
    cases = functions(ndl)
    inputs = [ndl.Tensor(a, dtype="float64") for a in (X, Y)]

    @ndl.jit
    def everything(x: Any, y: Any) -> list[Any]:
        return [derivatives(ndl, f, x, y) for f in cases.values()]

    eager = [derivatives(ndl, f, *inputs) for f in cases.values()]
    for name, found, expected in zip(cases, everything(*inputs), eager, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12, err_msg=name)


def test_nothing_is_recorded_without_need() -> None:
    f = functions(ndl)["cube"]
    x, y = (ndl.Tensor(a, requires_grad=False) for a in (X, Y))
    assert not f(x, y).requires_grad
    with ndl.no_grad():
        assert not f(ndl.Tensor(X), y).requires_grad


class Returning(ndl.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, gradient: Any) -> Any:
        ctx.gradient = gradient
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return ctx.gradient


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (ndl.ones(2), RuntimeError, r"for each of the 2 arguments of forward; it returned 1"),
        ((ndl.ones(2), None), RuntimeError, r"shape \(2,\) for an argument of shape \(3,\)"),
        ((1.0, None), TypeError, "Tensors or None, got float"),
        ((ndl.ones(3), None, ndl.ones(1)), RuntimeError, "it returned 3"),
    ],
)
def test_wrong_gradients(gradient: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"\[Returning\].*{message}"):
        Returning.apply(ndl.ones(3, requires_grad=True), gradient).sum().backward()


def test_mistakes() -> None:
    class Nothing(ndl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, how: Any) -> Any:
            return how(ctx, x)

    x = ndl.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"\[Nothing\] forward must return Tensors, got float"):
        Nothing.apply(x, lambda ctx, x: 1.0)
    with pytest.raises(RuntimeError, match="return a new Tensor"):
        Nothing.apply(x, lambda ctx, x: ctx.mark_dirty(x))
    with pytest.raises(TypeError, match="attribute of ctx"):
        Nothing.apply(x, lambda ctx, x: ctx.save_for_backward(3))
    with pytest.raises(NotImplementedError, match="define backward"):
        Nothing.apply(x, lambda ctx, x: x * 1).sum().backward()


def test_a_saved_tensor_that_changes() -> None:
    x, y = ndl.Tensor([1.0]), ndl.Tensor([2.0], requires_grad=False)

    class Product(ndl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            ctx.save_for_backward(y)
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0], None

    out = Product.apply(x, y)
    y.fill_(5)
    with pytest.raises(RuntimeError, match="changed or replaced after the forward pass"):
        out.backward()


def test_gradients_that_are_not_made() -> None:
    class Two(ndl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            assert g is None
            return h * 2

    x = ndl.Tensor([1.0])
    Two.apply(x)[1].backward()
    assert x.grad.tolist() == [2.0]
