"""NumPy's functions on Tensors: the lines run on arrays and on Tensors, and give the same."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.numpy_calls import _arrangements, _fft, _linalg, _reductions, _selections
from needle.numpy_calls._ufuncs import ACCUMULATE, FUNCTIONS, OTHER_NAMES, REDUCE

RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "x": RNG.normal(size=(3, 4)), "y": RNG.normal(size=(3, 4)), "v": RNG.normal(size=4),
    "c": RNG.normal(size=(2, 3, 4)), "m": RNG.normal(size=(3, 3)) + 3 * np.eye(3),
    "p": RNG.uniform(0.1, 0.9, size=(3, 4)), "w": RNG.uniform(0.5, 1.5, size=3),
    "g": np.sort(RNG.normal(size=5)), "n": np.where(RNG.random((3, 4)) < 0.2, np.nan, 1.5),
    "b": RNG.normal(size=(3, 2)), "one": RNG.normal(size=(1, 3, 1)),
}  # fmt: skip
ARRAYS["s"] = ARRAYS["m"] @ ARRAYS["m"].T
INTEGERS = {"i": np.array([2, 0, 1]), "k": np.array([[0, 2, 1, 0]])}
ARRAYS |= INTEGERS

LINES = """
np.sum(x) | np.sum(x, axis=0) | np.sum(x, 1, keepdims=True) | np.sum(x, axis=(0, 1))
np.prod(x, axis=1) | np.mean(x) | np.mean(x, axis=1, keepdims=True) | np.mean(x, dtype="float64")
np.var(x) | np.var(x, axis=0, ddof=1) | np.std(x) | np.std(x, 1, ddof=1)
np.max(x) | np.max(x, axis=1) | np.amax(x, 0) | np.min(x, axis=0) | np.amin(x) | np.ptp(x, axis=0)
np.all(x > 0) | np.any(x > 0, axis=1) | np.count_nonzero(x > 0, axis=0)
np.argmax(x) | np.argmax(x, axis=1) | np.argmin(x, axis=0)
np.average(x) | np.average(x, axis=0, weights=w) | np.average(x, weights=p)
np.nansum(n) | np.nanmean(n, axis=0) | np.median(x) | np.median(x, axis=0)
np.quantile(x, 0.3) | np.quantile(x, [0.2, 0.5], axis=1) | np.percentile(x, 25, axis=0)
np.cumsum(x) | np.cumsum(x, axis=1) | np.cumprod(x, axis=0)
np.diff(x) | np.diff(x, n=2, axis=0) | np.trapezoid(x) | np.trapezoid(x, x=w, axis=0)
np.sort(x) | np.sort(x, axis=None) | np.argsort(x, axis=0) | np.cov(x) | np.corrcoef(x)
np.shape(x) | np.ndim(x) | np.size(x) | np.size(x, 1)
np.reshape(x, (4, 3)) | np.reshape(x, (2, 6), order="F") | np.reshape(x, -1) | np.ravel(x)
np.transpose(x) | np.transpose(c, (1, 0, 2)) | np.matrix_transpose(c)
np.moveaxis(c, 0, -1) | np.rollaxis(c, 2) | np.rollaxis(c, 0, 3) | np.swapaxes(c, axis1=0, axis2=2)
np.expand_dims(x, 0) | np.expand_dims(x, (0, -1)) | np.squeeze(one) | np.squeeze(one, axis=0)
np.atleast_1d(x) | np.atleast_2d(v) | np.atleast_3d(x, v)
np.broadcast_to(v, (3, 4)) | np.broadcast_arrays(x, v)
np.flip(x) | np.flip(x, axis=1) | np.fliplr(x) | np.flipud(x) | np.rot90(x) | np.rot90(c, 3, (1, 2))
np.roll(x, 2) | np.roll(x, 1, axis=1) | np.roll(x, (1, 2), axis=(0, 1)) | np.copy(x)
np.concatenate([x, y]) | np.concatenate((x, y), axis=1) | np.concatenate([x, v], axis=None)
np.append(x, y, axis=0) | np.append(x, v) | np.stack([x, y], axis=1) | np.unstack(x)
np.vstack([x, v]) | np.hstack([x, y]) | np.dstack([x, y]) | np.column_stack([w, x])
np.split(x, 2, axis=1) | np.split(x, [1, 3], axis=1) | np.array_split(x, 2) | np.hsplit(x, 2)
np.vsplit(x, 3) | np.dsplit(c, 2) | np.meshgrid(v, w) | np.meshgrid(v, w, indexing="ij")
np.tile(x, 2) | np.tile(v, (2, 2)) | np.repeat(x, 2) | np.repeat(x, [1, 0, 2], axis=0)
np.pad(x, 1) | np.pad(x, ((1, 0), (0, 2)), constant_values=5) | np.pad(x, 2, mode="edge")
np.pad(x, ((1, 2), (0, 1)), mode="reflect") | np.pad(x, 1, mode="wrap")
np.zeros_like(x) | np.ones_like(x, shape=(2,)) | np.full_like(x, 7) | np.tril(x) | np.triu(x, 1)
np.diag(v) | np.diag(x, 1) | np.diagonal(x) | np.trace(x) | np.trace(c, 1, 1, 2)
np.dot(x, v) | np.dot(v, v) | np.dot(x, np.swapaxes(c, 1, 2)) | np.dot(c, np.swapaxes(c, 1, 2))
np.dot(c, v)
np.vdot(x, y) | np.inner(x, y) | np.outer(v, w) | np.kron(x, b) | np.tensordot(x, y, axes=2)
np.tensordot(x, c, axes=(1, 2)) | np.tensordot(x, y, axes=([0], [0])) | np.cross(b[:, :1] + m, m)
np.einsum("ij,kj->ik", x, y) | np.einsum("ij->j", x)
np.where(x > 0, x, y) | np.where(x > 0, x, 0.0) | np.where(x > 0)
np.select([x > 1, x > 0], [x, y], 3.0)
np.clip(x, 0, 1) | np.clip(x, a_min=-1, a_max=None) | np.clip(x, v, 2.0) | np.clip(v, 0, x)
np.take(x, i) | np.take(x, [[0, 1], [2, 3]], axis=1) | np.take(x, i, axis=0) | np.take(v, 2)
np.take_along_axis(x, k, axis=0) | np.nonzero(x > 0) | np.flatnonzero(x > 0) | np.argwhere(x > 0)
np.unique(i) | np.unique(i, return_counts=True) | np.searchsorted(g, x) | np.isin(i, [0, 2])
np.searchsorted(g, v, side="right") | np.bincount(i, minlength=5) | np.bincount(i, weights=w)
np.isclose(x, y, atol=1.0) | np.nan_to_num(n, nan=4.0) | np.round(x, 1) | np.around(x) | np.fix(x)
np.isposinf(x) | np.isneginf(x) | np.sinc(x) | np.real(x) | np.iscomplexobj(x) | np.isrealobj(x)
np.linalg.norm(x) | np.linalg.norm(x, axis=1) | np.linalg.norm(v, 1) | np.linalg.norm(m, "nuc")
np.linalg.vector_norm(x, axis=0) | np.linalg.matrix_norm(c) | np.linalg.inv(m) | np.linalg.det(m)
np.linalg.slogdet(m) | np.linalg.solve(m, b) | np.linalg.cholesky(s) | np.linalg.svdvals(x)
np.linalg.svd(x, compute_uv=False) | np.linalg.eigvalsh(s) | np.linalg.eigh(s)[0]
np.linalg.pinv(x)
np.linalg.matrix_power(m, 3) | np.linalg.matrix_rank(x) | np.linalg.multi_dot([x, y.T, m])
np.linalg.cond(m) | abs(np.linalg.qr(x)[1])
np.add.reduce(x) | np.multiply.reduce(x, axis=1) | np.maximum.reduce(x, axis=None)
np.minimum.reduce(x, 1, keepdims=True) | np.logical_and.reduce(x > 0) | np.logical_or.reduce(x > 0)
np.logaddexp.reduce(x, axis=1) | np.add.accumulate(x) | np.multiply.accumulate(x, axis=1)
np.maximum.accumulate(x) | np.minimum.accumulate(x, 1) | np.logaddexp.accumulate(x)
np.multiply.outer(v, w) | np.subtract.outer(x, 2.0) | np.add.outer([1.0, 2.0], v)
np.divmod(x, y) | np.modf(x) | np.logaddexp(x, 0.5) | np.heaviside(0.25, x)
"""
# Shapes that depend on values, and LAPACK: such a function cannot be compiled.
ON_HOST = ("np.nonzero", "np.flatnonzero", "np.argwhere", "np.unique", "np.where(x > 0)",
           "np.linalg", "abs(np.linalg", "np.bincount")  # fmt: skip
CONSTANT = ("np.zeros_like", "np.ones_like", "np.full_like", "np.round", "np.around", "np.fix",
            "np.modf", "np.divmod", "np.bincount", "np.heaviside")  # fmt: skip
CODE = [line.strip() for line in LINES.replace("\n", "|").split("|") if line.strip()]


def run(line: str, values: dict[str, Any]) -> list[Any]:
    result = eval(line, {"np": np, **values})
    return list(result) if isinstance(result, (list, tuple)) else [result]


def tensors(**options: Any) -> dict[str, Any]:
    return {
        name: ndl.Tensor(x, dtype=x.dtype, **options)
        for name, x in ARRAYS.items()
    }  # fmt: skip


def compare(line: str, found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected), line
    for x, y in zip(found, expected, strict=True):
        if isinstance(y, (int, bool)):
            assert type(x) is type(y), line
            assert x == y, line
            continue
        assert isinstance(x, ndl.Tensor), (line, type(x))
        assert x.shape == np.shape(y), line
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-10, atol=1e-12, err_msg=line)


def test_a_line_gives_what_numpy_gives_and_keeps_gradients(device: Any) -> None:
    for line in CODE:
        given = tensors(device=device)
        found = run(line, given)
        compare(line, found, run(line, ARRAYS))
        live = [x for x in found if isinstance(x, ndl.Tensor) and x.dtype.kind == "f"]
        if live and not line.startswith(CONSTANT):
            assert all(x.requires_grad for x in live), line
            sum(x.sum() for x in live).backward()
            assert any(x.grad is not None for x in given.values()), line


def test_compiled_functions_contain_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are traced like needle's functions, which other tests compile."""
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    lines = [line for line in CODE if not line.startswith(ON_HOST)]

    @ndl.jit
    def compiled(values: dict[str, Any]) -> list[list[Any]]:
        return [run(line, values) for line in lines]

    for line, found in zip(lines, compiled(tensors(requires_grad=False)), strict=True):
        compare(line, found, run(line, ARRAYS))


def test_every_function_has_a_line() -> None:
    text = " ".join(CODE)
    for prefix, module in (
        ("np.", _reductions), ("np.", _arrangements), ("np.", _selections),
        ("np.linalg.", _linalg),
    ):  # fmt: skip
        missing = [name for name in module.__all__ if f"{prefix}{name}(" not in text]
        assert {*missing} <= {"trapz", "logsumexp"}, missing
    for table, name in ((REDUCE, "reduce"), (ACCUMULATE, "accumulate")):
        assert not [each for each in table if f"np.{each}.{name}(" not in text]


UFUNCS = [x for x in vars(np).values() if isinstance(x, np.ufunc) and FUNCTIONS[x] is not None]


def test_functions_of_numbers() -> None:
    """Each ufunc that needle has, on every kind of operand that NumPy's takes."""
    assert len({ufunc.__name__ for ufunc in UFUNCS}) > 70
    assert all(FUNCTIONS[getattr(np, name)] for name in OTHER_NAMES if hasattr(np, name))
    x, y = RNG.uniform(0.2, 0.8, size=(2, 3)), RNG.uniform(0.2, 0.8, size=3)
    i, j = np.array([5, 3, 12]), np.array([2, 1, 3])
    for ufunc in dict.fromkeys(UFUNCS):
        bits = ufunc.__name__.startswith(("bitwise", "left_shift", "right_shift", "invert", "gcd",
                                          "lcm"))  # fmt: skip
        a, b = (i, j) if bits else (x, y)
        a = a + 1 if ufunc is np.arccosh else a
        if ufunc.signature is not None and ufunc not in (np.matmul, getattr(np, "vecdot", None)):
            continue
        ours = [ndl.Tensor(v, dtype=v.dtype) for v in (a, b)]
        if ufunc.nin == 1:
            cases: list[tuple[Any, ...]] = [(ours[0],)]
            hosts: list[tuple[Any, ...]] = [(a,)]
        else:
            cases = [tuple(ours), (ours[0], b), (a, ours[1])]
            hosts = [(a, b)] * 3
            if ufunc.signature is None and ufunc is not np.ldexp:
                number = b.reshape(-1)[0]
                cases += [(ours[0], number), (number, ours[0])]
                hosts += [(a, number), (number, a)]
        for case, host in zip(cases, hosts, strict=True):
            found, expected = ufunc(*case), ufunc(*host)
            for f, e in zip(*([r] if ufunc.nout == 1 else r for r in (found, expected))):  # noqa: B905
                assert type(f) is ndl.Tensor, ufunc
                np.testing.assert_allclose(f.numpy(), e, rtol=1e-6, err_msg=str(ufunc))


# ---- what differs ---------------------------------------------------------------------------


def test_a_function_that_needle_lacks_computes_on_the_host(device: Any) -> None:
    x = ndl.tensor([1.0, 2.0], device=device)
    assert type(np.interp(x, [0, 4], [0, 8])) is np.ndarray
    assert type(np.sum(x, where=[True, False])) is np.float32
    assert type(np.add(x, 1, dtype="float64")) is np.ndarray
    assert type(np.add.reduceat(x, [0])) is np.ndarray
    with ndl.no_grad():
        assert np.interp(ndl.Tensor([1.0]), [0, 4], [0, 8]).tolist() == [2]


@pytest.mark.parametrize(
    "line",
    [
        "np.interp(t, [0, 4], [0, 8])", "np.sum(t, where=[True, False])", "np.exp(t, dtype='f8')",
        "np.add.reduceat(t, [0])", "np.convolve(t, t)", "np.add(a, t, out=a)", "np.sum(t, out=z)",
        "np.multiply.at(a, [0, 1], t)", "exec('a += t')",
        "np.max(t, initial=0.0)", "np.linalg.tensorinv(t)",
    ],
)  # fmt: skip
def test_a_gradient_is_not_lost_without_a_word(line: str) -> None:
    names = {"np": np, "t": ndl.Tensor([1.0, 2.0]), "a": np.ones(2), "z": np.zeros(())}
    with pytest.raises(TypeError, match=r"lose the gradient.*t\.detach\(\)\.numpy\(\)"):
        eval(line, names)
    names["t"] = names["t"].detach()
    if "tensorinv" not in line:
        eval(line, names)


def test_what_has_no_gradient_takes_any_tensor(tmp_path: Any) -> None:
    t = ndl.Tensor([1.0, 2.0])
    assert np.array_equal(t, [1, 2])
    assert np.allclose(t, t.numpy())
    assert type(np.allclose(t, [1, 2])) is bool
    assert np.array2string(t) == "[1. 2.]"
    np.save(tmp_path / "t.npy", t)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), [1, 2])
    assert np.histogram(t, bins=2)[0].tolist() == [1, 1]
    np.testing.assert_allclose(t, [1, 2])
    np.testing.assert_array_equal(np.asarray(t), np.array(t))


def test_results_are_written_where_out_says() -> None:
    t = ndl.tensor([1.0, 2.0])
    out, alias = ndl.zeros(2), None
    alias = out.detach()
    assert np.add(t, 1, out=out) is out
    assert alias.tolist() == [2, 3]
    np.cumsum(t, out=out)
    assert alias.tolist() == [1, 3]
    host = np.zeros(2)
    assert np.exp(t, out=host) is host
    np.testing.assert_allclose(host, np.exp([1, 2]), rtol=1e-6)
    host += t
    assert type(host) is np.ndarray
    np.add.at(out, [0, 0], ndl.tensor([5.0, 6.0]))
    assert alias.tolist() == [12, 3]
    with pytest.raises(ValueError, match="shape"):
        np.sum(t, out=out)
    with pytest.raises(TypeError, match="out"):
        np.add(t, 0.5, out=ndl.zeros(2, dtype="int64"))
    for line in ("np.copyto(t, [1, 2])", "np.fill_diagonal(t, 0)", "np.multiply.at(t, [0], 2)",
                 "np.put(t, [0], 1)", "np.interp([1, 2], t, t, out=t)"):  # fmt: skip
        with pytest.raises(TypeError, match=r"cannot write into a Tensor|unexpected keyword"):
            eval(line, {"np": np, "t": t})


def test_every_gradient_of_a_recorded_out() -> None:
    x = ndl.Tensor([1.0, 2.0])
    y = x * 3
    np.multiply(y, y, out=y)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [18, 36])


def test_operators_beside_numbers_are_needles() -> None:
    t = ndl.Tensor([1.0, 2.0])
    for other, order in itertools.product((np.float32(2), np.float64(2), np.int64(2)), (0, 1)):
        pair = (other, t) if order else (t, other)
        for function in (np.add, np.multiply, np.less, np.power):
            assert function(*pair).dtype == (bool if function is np.less else "float32")


class Other:
    """Of another library that knows NumPy's protocol."""

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> str:
        return "the other's"


def test_other_libraries_get_their_turn() -> None:
    assert np.concatenate([ndl.tensor([1.0]), Other()]) == "the other's"


def test_transforms() -> None:
    x = RNG.normal(size=(4, 6))
    t = ndl.Tensor(x, dtype="float64")
    for name in _fft.__all__:
        function = getattr(np.fft, name)
        given: Any = x
        ours: Any = t
        if name.startswith("irfft"):
            continue
        if name in ("ifft", "ifft2", "ifftn"):
            given, ours = x + 0j, t
        np.testing.assert_allclose(function(ours).numpy(), function(given), atol=1e-12)
    np.testing.assert_allclose(np.fft.irfft(t, 8).numpy(), np.fft.irfft(x, 8), atol=1e-12)


def test_broadcast_arrays_with_what_is_no_tensor(device: Any) -> None:
    """plt.bar(x, heights) gives it the texts and None of its options, too."""
    x = ndl.tensor([1.0, 2.0], device=device)
    found = np.broadcast_arrays(x, None, "red", 3)
    assert [list(y) for y in found] == [[1.0, 2.0], [None] * 2, ["red"] * 2, [3, 3]]
