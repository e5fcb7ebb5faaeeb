"""Linear algebra: values, gradients and gradients of gradients against `torch.linalg`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle import linalg

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def general(*shape):
    return RNG.normal(size=shape) + 2 * np.eye(*shape[-2:])


def low_rank(rows, columns, rank):
    return RNG.normal(size=(rows, rank)) @ RNG.normal(size=(rank, columns))


def _symmetric(x):
    return x + x.mT if isinstance(x, torch.Tensor) else x + ndl.transpose(x)


def _positive(x):
    other = x.mT if isinstance(x, torch.Tensor) else ndl.transpose(x)
    return x @ other


def _cond(m, a, p):
    """PyTorch's own `cond` has no gradient: it changes the inverse in place."""
    if m is linalg:
        return m.cond(a, p)
    return m.matrix_norm(a, p) * m.matrix_norm(m.inv(a), p)


class Case(NamedTuple):
    """`function(module, *tensors)` with `linalg` and with `torch.linalg`; the result is a list."""

    name: str
    function: Callable[..., object]
    inputs: tuple[np.ndarray, ...]
    second: bool = True  # whether gradients of gradients are compared


SQUARE, WIDE, TALL = general(2, 4, 4), general(2, 3, 5), general(2, 5, 3)
VECTORS = RNG.normal(size=(2, 4))

CASES = [
    Case("inv", lambda m, a: m.inv(a), (SQUARE,)),
    Case("det", lambda m, a: m.det(a), (SQUARE,)),
    Case("det of singular", lambda m, a: m.det(a), (low_rank(4, 4, 3),), second=False),
    Case("det of rank 2", lambda m, a: m.det(a), (low_rank(4, 4, 2),), second=False),
    Case("det of 1×1", lambda m, a: m.det(a), (general(1, 1),), second=False),
    Case("slogdet", lambda m, a: m.slogdet(a), (SQUARE,)),
    Case("solve", lambda m, a, b: m.solve(a, b), (SQUARE, general(2, 4, 3))),
    Case("solve vector", lambda m, a, b: m.solve(a, b), (general(4, 4), RNG.normal(size=4))),
    Case("solve vectors", lambda m, a, b: m.solve(a, b), (SQUARE, VECTORS)),
    Case("solve broadcast", lambda m, a, b: m.solve(a, b), (general(4, 4), general(3, 2, 4, 2))),
    Case("solve broadcast A", lambda m, a, b: m.solve(a, b), (general(3, 1, 4, 4), general(4, 2))),
    Case("solve right", lambda m, a, b: m.solve(a, b, left=False), (SQUARE, general(2, 3, 4))),
    Case("cholesky", lambda m, a: m.cholesky(_positive(a)), (SQUARE,)),
    Case("cholesky upper", lambda m, a: m.cholesky(_positive(a), upper=True), (SQUARE,)),
    Case("qr", lambda m, a: m.qr(a), (SQUARE,)),
    Case("qr tall", lambda m, a: m.qr(a), (TALL,)),
    Case("qr wide", lambda m, a: m.qr(a), (WIDE,)),
    Case("qr complete", lambda m, a: m.qr(a, mode="complete"), (WIDE,)),
    Case("q alone", lambda m, a: m.qr(a)[0], (WIDE,)),
    Case("r alone", lambda m, a: m.qr(a)[1], (TALL,)),
    Case("svd", lambda m, a: _signless(m.svd(a, full_matrices=False)), (SQUARE,)),
    Case("svd tall", lambda m, a: _signless(m.svd(a, full_matrices=False)), (TALL,)),
    Case("svd wide", lambda m, a: _signless(m.svd(a, full_matrices=False)), (WIDE,)),
    Case("svd full", lambda m, a: m.svd(a)[1], (WIDE,)),
    Case("svdvals", lambda m, a: m.svdvals(a), (TALL,)),
    Case("eigh", lambda m, a: _signless(m.eigh(_symmetric(a))), (SQUARE,)),
    Case("eigh of U", lambda m, a: _signless(m.eigh(_symmetric(a), UPLO="U")), (SQUARE,)),
    Case("eigvalsh", lambda m, a: m.eigvalsh(_symmetric(a)), (SQUARE,)),
    Case("pinv", lambda m, a: m.pinv(a), (TALL,)),
    Case("pinv wide", lambda m, a: m.pinv(a), (WIDE,)),
    Case("pinv of rank 2", lambda m, a: m.pinv(a), (low_rank(5, 4, 2),), second=False),
    Case("lstsq", lambda m, a, b: m.lstsq(a, b)[0], (TALL, general(2, 5, 2))),
    Case("lstsq wide", lambda m, a, b: m.lstsq(a, b)[0], (WIDE, general(2, 3, 2))),
    Case("matrix_exp", lambda m, a: m.matrix_exp(a), (SQUARE,)),
    Case("matrix_exp of small", lambda m, a: m.matrix_exp(a * 0.01), (SQUARE,)),
    Case("matrix_exp of large", lambda m, a: m.matrix_exp(a * -4.0), (SQUARE,)),
    *(
        Case(f"matrix_power {n}", lambda m, a, n=n: m.matrix_power(a, n), (SQUARE,), abs(n) > 1)
        for n in (-3, -1, 0, 1, 2, 5, 6)
    ),
    Case(
        "multi_dot", lambda m, *x: m.multi_dot(x),
        (general(2, 7), general(7, 3), general(3, 5), general(5, 4)),
    ),
    Case(
        "multi_dot of vectors", lambda m, *x: m.multi_dot(x),
        (RNG.normal(size=4), general(4, 3), RNG.normal(size=3)),
    ),
    *(
        Case(
            f"solve_triangular {upper} {left} {unit}",
            lambda m, a, b, u=upper, s=left, one=unit: m.solve_triangular(
                a, b, upper=u, left=s, unitriangular=one
            ),
            (SQUARE, general(2, 4, 3) if left else general(2, 3, 4)),
        )
        for upper in (False, True)
        for left in (False, True)
        for unit in (False, True)
    ),
    *(
        Case(f"vector_norm {ord}", lambda m, x, o=ord: m.vector_norm(x, o, dim=1), (VECTORS,),
             ord not in (0, 1, math.inf, -math.inf))
        for ord in (2, 1, 3, 0.5, -1, math.inf, -math.inf, 0)
    ),
    *(
        Case(f"matrix_norm {ord}", lambda m, a, o=ord: m.matrix_norm(a, o), (TALL,),
             ord in ("fro", "nuc", 2, -2))
        for ord in ("fro", "nuc", 2, -2, 1, -1, math.inf, -math.inf)
    ),
    Case("matrix_norm of axes", lambda m, a: m.matrix_norm(a, 1, dim=(2, 0), keepdim=True), (TALL,),
         second=False),
    Case("norm", lambda m, a: m.norm(a), (TALL,)),
    Case("norm of matrix", lambda m, a: m.norm(a, 2), (general(3, 4),)),
    Case("norm of vector", lambda m, a: m.norm(a, 3), (VECTORS[0],)),
    Case("norm of axis", lambda m, a: m.norm(a, 1, dim=-1), (VECTORS,), second=False),
    Case("cond", lambda m, a: m.cond(a), (TALL,)),
    Case("cond -2", lambda m, a: m.cond(a, -2), (TALL,)),
    *(Case(f"cond {p}", lambda m, a, p=p: _cond(m, a, p), (SQUARE,), p == "fro")
      for p in ("fro", "nuc", 1, -1, math.inf)),
]  # fmt: skip


def _signless(factors):
    """Singular vectors and eigenvectors up to their signs, which are not determined."""
    return [x * x if x.ndim > 2 else x for x in factors]


def results(x):
    return list(x) if isinstance(x, (tuple, list)) else [x]


def projections(shapes):
    """Numbers that make one number of each result."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape) for shape in shapes]


def of_torch(case):
    inputs = [torch.tensor(x, requires_grad=True) for x in case.inputs]
    out = results(case.function(torch.linalg, *inputs))
    weights = projections([tuple(x.shape) for x in out])
    total = sum((x * torch.tensor(w)).sum() for x, w in zip(out, weights, strict=True))
    if not total.requires_grad:
        return [x.detach().numpy() for x in out], None, None
    first = torch.autograd.grad(total, inputs, create_graph=case.second, allow_unused=True)
    second = None
    if case.second:
        penalty = sum((g**2).sum() for g in first)
        second = torch.autograd.grad(penalty, inputs, allow_unused=True)
    return [x.detach().numpy() for x in out], first, second


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_and_gradients_are_those_of_pytorch(case, dtype):
    expected, first, second = of_torch(case)
    inputs = [ndl.Tensor(x, dtype=dtype) for x in case.inputs]
    out = results(case.function(linalg, *inputs))
    tolerance = dict(rtol=1e-7, atol=1e-9) if dtype == "float64" else dict(rtol=2e-2, atol=2e-3)
    assert len(out) == len(expected)
    for x, y in zip(out, expected, strict=True):
        assert x.shape == y.shape
        assert x.dtype == dtype
        np.testing.assert_allclose(x.numpy(), y, **tolerance)
    if first is None or dtype == "float32":
        return
    weights = projections([x.shape for x in out])
    total = sum(
        (x * ndl.Tensor(w, dtype=dtype, requires_grad=False)).sum()
        for x, w in zip(out, weights, strict=True)
    )
    if not total.requires_grad:
        assert all(g is None or not g.any() for g in first)
        return
    gradients = ndl.grad(total, inputs)
    for g, y in zip(gradients, first, strict=True):
        np.testing.assert_allclose(_ours(g, y), _numbers(y, g), rtol=1e-6, atol=1e-8)
    if second is not None:
        penalty = sum((g * g).sum() for g in gradients)
        for g, y in zip(ndl.grad(penalty, inputs), second, strict=True):
            np.testing.assert_allclose(_ours(g, y), _numbers(y, g), rtol=1e-5, atol=1e-6)


def _ours(ours, theirs):
    """None is a gradient of 0."""
    return np.zeros(theirs.shape) if ours is None else ours.numpy()


def _numbers(theirs, ours):
    return np.zeros(ours.shape) if theirs is None else theirs.detach().numpy()


@pytest.mark.parametrize("case", CASES[:8], ids=lambda c: c.name)
def test_every_device(case, device):
    inputs = [ndl.Tensor(x, device=device, dtype="float32") for x in case.inputs]
    out = results(case.function(linalg, *inputs))
    assert all(x.device == device for x in out)
    for x, y in zip(out, of_torch(case)[0], strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=2e-2, atol=2e-3)


def test_results_have_names():
    a = ndl.Tensor(general(3, 3))
    assert linalg.qr(a).Q.shape == (3, 3)
    assert linalg.svd(a).Vh.shape == (3, 3)
    assert linalg.eigh(a).eigenvalues.shape == (3,)
    assert linalg.slogdet(a).logabsdet.shape == ()


def test_full_matrices():
    a = ndl.Tensor(general(2, 5, 3), dtype="float64")
    u, s, vh = linalg.svd(a)
    assert (u.shape, s.shape, vh.shape) == ((2, 5, 5), (2, 3), (2, 3, 3))
    with pytest.raises(RuntimeError, match="full_matrices=False"):
        ndl.grad(u.sum(), [a])
    q, r = linalg.qr(a, "complete")
    assert (q.shape, r.shape) == ((2, 5, 5), (2, 5, 3))
    with pytest.raises(RuntimeError, match="no gradient"):
        ndl.grad(q.sum(), [a])


def test_ranks_and_least_squares():
    a = ndl.Tensor(low_rank(5, 4, 2), dtype="float64")
    assert linalg.matrix_rank(a).item() == 2
    assert linalg.matrix_rank(a, atol=1e9).item() == 0
    assert linalg.matrix_rank(ndl.Tensor(SQUARE)).tolist() == [4, 4]
    tall, b = ndl.Tensor(TALL, dtype="float64"), ndl.Tensor(general(2, 5, 2), dtype="float64")
    ours = linalg.lstsq(tall, b)
    theirs = torch.linalg.lstsq(torch.tensor(tall.numpy()), torch.tensor(b.numpy()), driver="gelsd")
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-8)
    assert linalg.lstsq(a, ndl.ones(5, 1, dtype="float64")).residuals.shape == (0,)


def test_equal_eigenvalues_have_finite_gradients():
    a = ndl.Tensor(np.eye(3))
    for function in (linalg.eigvalsh, linalg.svdvals):
        (g,) = ndl.grad(function(a).sum(), [a])
        np.testing.assert_allclose(g.numpy(), np.eye(3), atol=1e-6)


def test_16_bit_matrices_are_computed_in_float32():
    a = ndl.Tensor(general(3, 3), dtype="bfloat16")
    inverse = linalg.inv(a)
    assert inverse.dtype == "float32"
    (g,) = ndl.grad(inverse.sum(), [a])
    assert g.dtype == "bfloat16"


def test_a_compiled_function_refuses_the_host_and_takes_norms():
    a = ndl.Tensor(general(3, 3))
    for function in (linalg.inv, linalg.svdvals, linalg.matrix_exp, linalg.det):
        with pytest.raises(RuntimeError, match=r"outside of ndl\.jit"):
            ndl.jit(function)(a)

    def f(x):
        y = linalg.matrix_power(x, 3) + linalg.multi_dot([x, x, x])
        return linalg.norm(y) + linalg.matrix_norm(y, 1) + linalg.vector_norm(y, 3)

    np.testing.assert_allclose(ndl.jit(f)(a).item(), f(a).item(), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: linalg.inv(ndl.ones(2, 3)), ValueError, "square"),
        (lambda: linalg.inv(ndl.ones(3)), ValueError, "two axes"),
        (lambda: linalg.inv(ndl.ones(2, 2)), np.linalg.LinAlgError, "singular"),
        (lambda: linalg.inv(np.eye(2)), TypeError, "must be a Tensor"),
        (lambda: linalg.inv(ndl.ones(2, 2, dtype="int64")), TypeError, "floating"),
        (lambda: linalg.solve(ndl.ones(2, 2), ndl.ones(2)), np.linalg.LinAlgError, "singular"),
        (lambda: linalg.solve(ndl.ones(2, 2), ndl.ones(3, 1)), ValueError, "do not fit"),
        (lambda: linalg.solve(ndl.ones(2, 2), ndl.ones(2, 1, dtype="float64")), TypeError,
         "convert"),
        (lambda: linalg.cholesky(-ndl.ones(2, 2)), np.linalg.LinAlgError, "positive definite"),
        (lambda: linalg.qr(ndl.ones(2, 2), "r"), ValueError, "reduced or complete"),
        (lambda: linalg.eigh(ndl.ones(2, 2), "X"), ValueError, "UPLO"),
        (lambda: linalg.matrix_norm(ndl.ones(2, 2), 3), ValueError, "ord must be"),
        (lambda: linalg.matrix_norm(ndl.ones(2, 2), axis=(0, 0)), ValueError, "different"),
        (lambda: linalg.norm(ndl.ones(2, 2, 2), 2), ValueError, "3 axes"),
        (lambda: linalg.multi_dot([ndl.ones(2, 2)]), ValueError, "at least two"),
        (lambda: linalg.multi_dot([ndl.ones(2, 2), ndl.ones(3, 2)]), ValueError, "do not fit"),
        (lambda: linalg.matrix_power(ndl.ones(2, 2), 0.5), TypeError, "integer"),
        (lambda: linalg.solve_triangular(ndl.zeros(2, 2), ndl.ones(2, 1), upper=True),
         np.linalg.LinAlgError, "singular"),
    ],
)  # fmt: skip
def test_what_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        function()
