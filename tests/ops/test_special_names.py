"""`needle.special` gives what `torch.special` gives, with its gradients."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl

torch = pytest.importorskip("torch")

REAL = [-50.0, -9.0, -5.0, -4.9, -1.0, 0.0, 0.3, 2.0, 7.0]
UNIT = [0.01, 0.25, 0.5, 0.9]
NAMES = {
    "entr": (UNIT,), "expit": (REAL,), "expm1": (REAL,), "gammaln": (UNIT,), "log_ndtr": (REAL,),
    "ndtr": (REAL,), "ndtri": (UNIT,), "psi": (UNIT,), "xlog1py": (UNIT, [-0.5, 0.0, 1.0, 3.0]),
    "erfinv": (UNIT,), "exp2": (UNIT,), "sinc": (UNIT,), "logit": (UNIT,),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_is_that_of_pytorch(name: str) -> None:
    xs = [ndl.tensor(x, dtype="float64", requires_grad=True) for x in NAMES[name]]
    ys = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in NAMES[name]]
    mine, theirs = getattr(ndl.special, name)(*xs), getattr(torch.special, name)(*ys)
    # PyTorch's ndtr is 0 far below 0, where needle's is small; log_ndtr has both exactly.
    atol = 1e-16 if name == "ndtr" else 0
    np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-10, atol=atol)
    mine.sum().backward()
    theirs.sum().backward()
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_edges() -> None:
    x = ndl.tensor([0.0, -1.0, 1.0])
    assert ndl.special.entr(x).tolist() == [0.0, -np.inf, 0.0]
    assert ndl.special.xlog1py(ndl.tensor([0.0]), ndl.tensor([-1.0])).item() == 0
    assert ndl.special.ndtri(ndl.tensor([0.0, 1.0])).tolist() == [-np.inf, np.inf]
    several = ndl.special.multigammaln(ndl.tensor([3.0, 4.0], dtype="float64"), 3)
    wanted = torch.special.multigammaln(torch.tensor([3.0, 4.0], dtype=torch.float64), 3)
    np.testing.assert_allclose(several.numpy(), wanted.numpy(), rtol=1e-12)


def test_compiles() -> None:
    x = ndl.tensor(UNIT)

    @ndl.jit
    def all_of(x: ndl.Tensor) -> list[ndl.Tensor]:
        return [ndl.special.entr(x), ndl.special.ndtr(x), ndl.special.log_ndtr(x * -10.0)]

    for mine, name, scale in zip(all_of(x), ("entr", "ndtr", "log_ndtr"), (1, 1, -10), strict=True):
        wanted = getattr(torch.special, name)(torch.tensor(UNIT) * scale)
        np.testing.assert_allclose(mine.numpy(), wanted.numpy(), rtol=2e-6)
