"""`ndl.compile`: what it compiles and what it leaves eager, with the same gradients."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def test_a_training_step() -> None:
    """A function of the whole step is compiled once and trains as the eager one does."""

    def weights(compiled: bool) -> np.ndarray:
        ndl.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: ndl.Tensor) -> ndl.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = ndl.compile(step, mode="max-autotune", dynamic=False) if compiled else step
        losses = [run(ndl.Tensor(X)).item() for _ in range(3)]
        assert losses[2] < losses[0]
        if compiled:
            assert run.program.compilations == 1
            assert run.__name__ == "step"
        return model.weight.numpy()

    np.testing.assert_allclose(weights(True), weights(False), rtol=1e-5)


def test_a_module() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    names, x = list(model.state_dict()), ndl.Tensor(X)
    made = ndl.compile(model)
    assert made is model
    assert list(model.state_dict()) == names
    model.eval()
    with ndl.no_grad():
        expected = _eager(model, x)
        np.testing.assert_allclose(model(x).numpy(), expected.numpy(), rtol=1e-6)
    assert model._compiled.program.compilations == 1
    with pytest.warns(RuntimeWarning, match=r"Sequential .* run eagerly: .*ndl\.jit"):
        model(x).sum().backward()
    assert model[0].weight.grad is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x).sum().backward()  # said once
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with ndl.no_grad():
            np.testing.assert_allclose(other(x).numpy(), expected.numpy(), rtol=1e-6)


def _eager(model: Any, x: ndl.Tensor) -> ndl.Tensor:
    held = vars(model).pop("_compiled")
    try:
        result: ndl.Tensor = model(x)
    finally:
        model._compiled = held
    return result


def test_a_function_inside_of_a_model() -> None:
    """A call with a Tensor that is part of a graph runs eagerly, so that gradients flow."""

    @ndl.compile
    def activation(x: ndl.Tensor) -> ndl.Tensor:
        return ndl.tanh(x) * x

    w, x = ndl.Tensor(X), ndl.Tensor(X, requires_grad=False)
    activation(w * x).sum().backward()
    z = X * X
    expected = (np.tanh(z) + z * (1 - np.tanh(z) ** 2)) * X
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert activation.program.compilations == 0
    assert activation(x).shape == (4, 3)
    assert activation.program.compilations == 1
    step = ndl.jit(lambda x: activation(x) + 1)  # inside of another one it is a part of that
    np.testing.assert_allclose(step(x).numpy(), np.tanh(X) * X + 1, rtol=1e-5, atol=1e-6)


def test_a_function_that_needs_values() -> None:
    def branch(x: ndl.Tensor) -> ndl.Tensor:
        return x * 2 if x.sum().item() > 0 else x

    x = ndl.ones(2)
    run = ndl.compile(branch)
    with pytest.warns(RuntimeWarning, match="branch runs eagerly"):
        first = run(x)
    assert first.tolist() == [2.0, 2.0]
    assert run(-x).tolist() == [-1.0, -1.0]
    with pytest.raises(RuntimeError):
        ndl.compile(branch, fullgraph=True)(x)


def test_methods_and_options() -> None:
    class Scaled:
        factor = 3.0

        @ndl.compile(fullgraph=True, mode="default")
        def __call__(self, x: ndl.Tensor) -> ndl.Tensor:
            return x * self.factor

    assert Scaled()(ndl.ones(1)).tolist() == [3.0]
    assert ndl.compile(abs, disable=True) is abs
    assert ndl.compile(abs, backend="eager") is abs
    with pytest.raises(ValueError, match=r"mode must be one of .* got 'fast'"):
        ndl.compile(abs, mode="fast")
    with pytest.raises(TypeError, match="backend must be a name"):
        ndl.compile(abs, backend=abs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a function or a Module, got int"):
        ndl.compile(3)  # type: ignore[arg-type]


def test_a_module_with_several_results() -> None:
    model, x = nn.LSTM(3, 2).eval(), ndl.Tensor(X[:, None])
    with ndl.no_grad():
        expected, (h, _) = model(x)
        model.compile(fullgraph=True, mode="default")
        output, (last, _) = model(x)
    np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last.numpy(), h.numpy(), rtol=1e-5, atol=1e-6)
