"""What has a shape that depends on values: static forms are compiled, others name a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

X = np.arange(24.0).reshape(4, 3, 2)
ROWS = np.array([True, False, True, False])
PAIRS = X[:, :, 0] % 4 == 0
Key = Callable[[Any, Any], Any]
# Keys of a mask of rows and one of rows and columns, and what all that they select gets.
WRITES: list[tuple[Key, Any]] = [
    (lambda m, p: m, 5.0), (lambda m, p: p, 5.0), (lambda m, p: (m, 0), 5.0),
    (lambda m, p: (m, slice(1), 1), 5.0), (lambda m, p: (slice(None), p[0]), 5.0),
    (lambda m, p: (..., p[1, :2]), 5.0), (lambda m, p: (None, m), 5.0), (lambda m, p: m[0], 5.0),
    (lambda m, p: (0, p[0]), 5.0), (lambda m, p: (p, slice(None, None, -1)), np.array([1.0, 2.0])),
    (lambda m, p: (slice(1, None), p[0]), np.array([[3.0, 4.0]])),
    (lambda m, p: (slice(0, 4, 2), p[0], 1), 5.0), (lambda m, p: (m, Ellipsis), X[1]),
]  # fmt: skip


def write_all(x: Any, m: Any, p: Any, values: list[Any]) -> list[Any]:
    results = []
    for (key, _), value in zip(WRITES, values, strict=True):
        y = x * 1.0
        y[key(m, p)] = value
        results.append(y)
    return results


def test_masks_write_one_value() -> None:
    arguments = [ndl.tensor(v) for v in (X, ROWS, PAIRS)]
    values = [v if isinstance(v, float) else ndl.tensor(v) for _, v in WRITES]
    expected = write_all(X, ROWS, PAIRS, [v for _, v in WRITES])
    for run in (write_all, ndl.jit(write_all)):
        for i, (found, wanted) in enumerate(zip(run(*arguments, values), expected, strict=True)):
            np.testing.assert_array_equal(found.numpy(), wanted, err_msg=str(i))


def test_masks_write_into_what_is_recorded() -> None:
    def step(x: Any, m: Any, v: Any) -> Any:
        y, z = x * 2.0, x * 3.0
        y[m] = v
        z[:, 0] = 0.0
        z[m, 1:] = 7.0
        return ndl.grad((y * y).sum() + (z * z).sum(), [x, v])

    arguments = ndl.Tensor(X), ndl.tensor(ROWS), ndl.Tensor(np.ones((3, 2)))
    for found, expected in zip(ndl.jit(step)(*arguments), step(*arguments), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)


REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a selection": (lambda x, m: x[m].sum(), r"ndl\.where\(mask, x, 0\).*nonzero_static"),
    "masked_select": (lambda x, m: ndl.masked_select(x, m[:, None, None]), r"ndl\.where"),
    "nonzero": (lambda x, m: ndl.nonzero(m), r"nonzero_static\(x, size=n\)"),
    "np.where": (lambda x, m: np.where(m), r"nonzero_static"),
    "unique": (lambda x, m: ndl.unique(x), r"outside of ndl\.jit"),
    "bincount": (lambda x, m: ndl.bincount(m.long()), "give minlength"),
    "histc": (lambda x, m: ndl.histc(x), "give min and max"),
    "repeat_interleave": (lambda x, m: ndl.repeat_interleave(x, m.long(), 0), "give output_size"),
    "x[mask] += y": (lambda x, m: augmented(x, m), r"x = ndl\.where\(mask, x \+ y, x\)"),
    "values": (lambda x, m: written(x, m), r"ndl\.where\(mask, values, x\).*masked_scatter"),
    "recorded values": (lambda x, m: written(x * 1.0, m), r"masked_scatter"),
}


def augmented(x: Any, m: Any) -> Any:
    y = x * 1.0
    y[m] += 1.0
    return y


def written(x: Any, m: Any) -> Any:
    y = x.detach() * 1.0 if not x.requires_grad or x.op is None else x
    y[m] = x.detach()[:2]
    return y


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_values_names_a_way_out(name: str) -> None:
    function, words = REFUSED[name]
    with pytest.raises(RuntimeError, match=rf"(?s){words}.*test_static_sizes"):
        ndl.jit(function)(ndl.Tensor(X), ndl.tensor(ROWS))


def test_experts_take_their_share_of_the_tokens() -> None:
    """A mixture of experts of a fixed capacity, with its gradient."""
    router, experts = nn.Linear(4, 3), [nn.Linear(4, 4) for _ in range(3)]

    def step(x: Any) -> Any:
        scores = ndl.softmax(router(x), 1)
        chosen = scores.argmax(1)
        out = ndl.zeros_like(x)
        for i, expert in enumerate(experts):
            rows = ndl.nonzero_static(chosen == i, size=len(x), fill_value=len(x))[:, 0]
            padded = ndl.concatenate([x, ndl.zeros(1, 4)], 0)
            results = (
                expert(padded[rows])
                * ndl.concatenate([scores, ndl.zeros(1, 3)], 0)[rows, i][:, None]
            )
            out = ndl.index_add(ndl.concatenate([out, ndl.zeros(1, 4)], 0), 0, rows, results)[:-1]
        load = ndl.bincount(chosen, minlength=3)
        loss = (out * out).sum()
        return loss, load, ndl.grad(loss, [router.weight, experts[0].weight])[0]

    x = ndl.tensor(np.random.RandomState(0).randn(8, 4).astype("float32"))
    for found, expected in zip(ndl.jit(step)(x), step(x), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_numbers_beyond_the_size_are_an_error() -> None:
    count = ndl.jit(lambda i: ndl.bincount(i, minlength=3))
    assert count(ndl.tensor([0, 2, 2])).tolist() == [1, 0, 2]
    for wrong in ([0, 3, 1], [0, -1, 1]):
        with pytest.raises((IndexError, ValueError)):
            count(ndl.tensor(wrong))
    with pytest.raises(ValueError, match="must not be negative"):
        ndl.nonzero_static(ndl.ones(2), size=-1)
    with pytest.raises(ValueError, match="sum to 3"):
        ndl.repeat_interleave(ndl.ones(2), [1, 2], output_size=4)


def test_indices_that_are_computed_inside() -> None:
    def step(x: Any) -> list[Any]:
        order, largest, sign = x.argsort(1), x.argmax(1), (x > 0).long()
        y, z = x * 1.0, x * 1.0
        y[largest % 4, largest] += 1.0
        z[largest % 4] = 0.0
        zeros = ndl.zeros_like(x)
        results = [
            y, z, ndl.gather(x, 1, order), ndl.scatter(zeros, 1, order, x * 2.0),
            ndl.index_add(ndl.zeros(5, 5, dtype=x.dtype), 0, largest, x),
            ndl.scatter_add(zeros, 1, sign, x), x[largest % 4, largest],
            ndl.take_along_dim(x, order, 1), ndl.index_select(x, 1, largest),
            ndl.scatter_reduce(zeros, 1, sign, x, "amax"),
        ]  # fmt: skip
        return [*results, ndl.grad(sum((r * r).sum() for r in results), [x])[0]]

    x = ndl.Tensor(np.random.RandomState(0).randn(4, 5), dtype="float64")
    for i, (found, expected) in enumerate(zip(ndl.jit(step)(x), step(x), strict=True)):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-10, err_msg=str(i))
