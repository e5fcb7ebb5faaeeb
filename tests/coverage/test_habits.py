"""Lines that people type without thinking."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn


def test_devices_and_dtypes_by_name() -> None:
    device = ndl.device("cuda" if ndl.cuda.is_available() else "cpu")
    assert device in ndl.all_devices()
    assert ndl.cuda.device_count() >= 0
    x = ndl.ones(2, 3, dtype=ndl.float64, device=device)
    assert x.dtype == ndl.double == "float64"
    assert x.to(device, ndl.float16).dtype == ndl.half
    assert x.to(device="cpu", dtype=ndl.bfloat16).dtype == ndl.bfloat16
    assert x.to(ndl.zeros(1)).dtype == ndl.float32
    assert x.to(x) is x
    assert x.to("cpu", copy=True) is not x
    assert ndl.arange(3).dtype == ndl.long
    assert (x > 0).dtype == ndl.bool
    assert ndl.is_tensor(x)
    assert ndl.numel(x) == 6
    with pytest.raises(TypeError, match="needs a device or a dtype"):
        x.to()


def test_numbers_as_text() -> None:
    loss = ndl.Tensor([1.0, 2.0]).mean()
    assert f"{loss:.3f} {loss}" == "1.500 1.5"
    assert f"{round(loss, 0)}" == "2.0"
    assert +loss is loss


def test_gradients_accumulate_when_asked() -> None:
    model = nn.Linear(3, 2)
    x = ndl.tensor(np.random.RandomState(0).randn(4, 3).astype("float32"))
    model(x).sum().backward()
    once = model.weight.grad.numpy().copy()

    @ndl.jit
    def step(x: ndl.Tensor) -> None:
        model(x).sum().backward(accumulate=True)

    step(x)
    np.testing.assert_allclose(model.weight.grad.numpy(), 2 * once, rtol=1e-6)
    model(x).sum().backward(accumulate=True)
    np.testing.assert_allclose(model.weight.grad.numpy(), 3 * once, rtol=1e-6)
    model(x).sum().backward(retain_graph=True)
    np.testing.assert_allclose(model.weight.grad.numpy(), once, rtol=1e-6)


def test_hooks_see_and_replace_gradients() -> None:
    x = ndl.Tensor([1.0, 2.0])
    h = x * 3.0
    seen = []
    see = h.register_hook(lambda g: seen.append(g.tolist()))
    scale = h.register_hook(lambda g: g * 10.0)
    h.sum().backward()
    assert seen == [[1.0, 1.0]]
    np.testing.assert_array_equal(x.grad.numpy(), [30, 30])
    np.testing.assert_array_equal(h.grad.numpy(), [10, 10])
    scale.remove()
    see.remove()
    see.remove()
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    with pytest.raises(RuntimeError, match="requires no gradient"):
        ndl.zeros(2).register_hook(print)


EQUATIONS = [
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("...ij,jk", (2, 3, 4), (4, 5)),
    ("b...i,i->b...", (2, 3, 7, 4), (4,)), ("ij,ij->ij", (1, 4), (3, 4)), ("...i->...", (2, 3)),
    ("bij,bjk->bik", (1, 3, 4), (5, 4, 2)), ("...,...", (2, 1), (3,)),
]  # fmt: skip


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda case: case[0])
def test_einsum(case: tuple) -> None:
    torch = pytest.importorskip("torch")
    equation, *shapes = case
    arrays = [np.random.RandomState(i).randn(*shape) for i, shape in enumerate(shapes)]
    ours = [ndl.Tensor(x, dtype="float64") for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    result, expected = ndl.einsum(equation, *ours), torch.einsum(equation, *theirs)
    np.testing.assert_allclose(result.numpy(), expected.detach().numpy(), rtol=1e-12)
    result.sum().backward()
    expected.sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)
