"""Augmented assignment: in place for everyone who sees the memory, recorded, or refused."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import autograd, nn, optim
from needle import backend_ndarray as nd

DEVICE = pytest.mark.parametrize("device", [ndl.cpu(), ndl.cpu_numpy()], ids=str)

# symbol: (in place, out of place, whether Tensors have it)
FORMS: dict[str, tuple[Any, Any, bool]] = {
    "+=": (operator.iadd, operator.add, True),
    "-=": (operator.isub, operator.sub, True),
    "*=": (operator.imul, operator.mul, True),
    "/=": (operator.itruediv, operator.truediv, True),
    "**=": (operator.ipow, operator.pow, True),
    "@=": (operator.imatmul, operator.matmul, True),
    "//=": (operator.ifloordiv, operator.floordiv, False),
    "%=": (operator.imod, operator.mod, False),
}
FLOATS = ("float32", "float64", "float16", "bfloat16")
A = np.array([[1.5, 2.0, 3.25], [4.0, 5.5, 6.0], [7.0, 0.5, 2.0]])
B = np.array([[2.0, 1.0, 0.5], [1.5, 2.0, 3.0], [1.0, 2.0, 1.0]])

OTHERS: dict[str, Callable[[np.ndarray, Any, str], Any]] = {
    "array": lambda b, device, dtype: nd.array(b, dtype, device),
    "number": lambda b, device, dtype: 2.0,
    "integer": lambda b, device, dtype: 2,
    "row": lambda b, device, dtype: nd.array(b[:1], dtype, device),
    "scalar array": lambda b, device, dtype: nd.array(b[0, 0], dtype, device),
    "NumPy array": lambda b, device, dtype: b.astype("float32"),
    "nested list": lambda b, device, dtype: b.tolist(),
    "integers": lambda b, device, dtype: nd.array(np.ceil(b), "int64", device),
}
MATRICES = ("array", "NumPy array", "nested list", "integers")


def _expected(symbol: str, a: np.ndarray, b: Any) -> np.ndarray:
    return FORMS[symbol][1](a, np.asarray(b, np.float64) if not np.isscalar(b) else b)


def _close(actual: Any, expected: np.ndarray, dtype: str) -> None:
    roundings = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}
    size = max(float(np.abs(expected).max()), 1.0)  # of the largest term; pow loses a few more
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=0, atol=8 * roundings[dtype] * size
    )


@DEVICE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("symbol", "other"),
    [(s, o) for s in FORMS for o in OTHERS if s != "@=" or o in MATRICES],
)
def test_an_array_is_updated_in_place(device: Any, dtype: str, other: str, symbol: str) -> None:
    in_place = FORMS[symbol][0]
    x = nd.array(A, dtype, device)
    alias, view, memory = x, x[1:, ::-1], x._handle
    y = OTHERS[other](B, device, dtype)
    expected = _expected(symbol, A, y)
    x = in_place(x, y)
    assert x is alias
    assert x._handle is memory
    assert x.dtype == dtype
    _close(x, expected, dtype)
    np.testing.assert_array_equal(np.asarray(view), np.asarray(x)[1:, ::-1])


@DEVICE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("symbol", [s for s, form in FORMS.items() if form[2]])
def test_a_tensor_is_updated_in_place(device: Any, dtype: str, symbol: str) -> None:
    in_place = FORMS[symbol][0]
    for other in ("tensor", "array", 2.0):
        if symbol == "@=" and other == 2.0:
            continue
        p = nn.Parameter(ndl.Tensor(A, device=device, dtype=dtype))
        alias, detached, rows = p, p.detach(), p.data[1:]
        y = {"tensor": ndl.Tensor(B, device=device, dtype=dtype), "array": B}.get(other, other)
        with ndl.no_grad():
            p = in_place(p, y)
        assert p is alias
        assert type(p) is nn.Parameter
        assert p.requires_grad
        assert p.dtype == dtype
        _close(p, _expected(symbol, A, B if isinstance(y, ndl.Tensor) else y), dtype)
        np.testing.assert_array_equal(detached.numpy(), p.numpy())
        np.testing.assert_array_equal(rows.numpy(), p.numpy()[1:])


@DEVICE
def test_parts_of_arrays(device: Any) -> None:
    x, expected = nd.array(A, device=device), A.astype(np.float32)
    x[1:] += 1
    expected[1:] += 1
    x[0] *= 2
    expected[0] *= 2
    x[:, ::2] -= x[:, 1:2]
    expected[:, ::2] -= expected[:, 1:2]
    x[1:] += x[:-1]  # overlap: all is read before anything is written
    expected[1:] += expected[:-1].copy()
    x.T[...] /= x
    expected.T[...] /= expected.copy()
    x[[0, 2]] += 1
    expected[[0, 2]] += 1
    x[x.compare("gt", 3)] *= 0.5
    expected[expected > 3] *= 0.5
    x[2, 1] += 5
    expected[2, 1] += 5
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    t = ndl.Tensor(A, device=device, requires_grad=False)
    t[1:] += 1
    t[0, 0] -= 0.5
    t[[0, 1]] *= 2.0
    reference = A.astype(np.float32)
    reference[1:] += 1
    reference[0, 0] -= 0.5
    reference[[0, 1]] *= 2
    np.testing.assert_array_equal(t.numpy(), reference)


# target dtype, other, forms that fit; all others are TypeErrors as in PyTorch
INTEGERS: list[tuple[str, Any, str]] = [
    ("int64", 2, "+= -= *= //= %= **="),
    ("int32", 2, "+= -= *= //= %= **="),
    ("uint8", 2, "+= -= *= //= %= **="),
    ("int32", np.array([[2]], np.int64), "+= -= *= //= %= **="),
    ("uint8", np.array([[True]]), "+= *="),
    ("int64", 2.5, ""),
    ("int64", np.float32(2.5), ""),
    ("int64", np.array([[2.5]], np.float32), ""),
    ("uint8", np.array([[2.5]], np.float64), ""),
    ("bool", 2, ""),
    ("bool", np.array([[2]], np.int32), ""),
    ("bool", 1.5, ""),
]


@DEVICE
@pytest.mark.parametrize("case", INTEGERS, ids=lambda c: f"{c[0]}-{c[1]!r}")
def test_the_dtype_stays_or_it_is_an_error(device: Any, case: Any) -> None:
    dtype, other, fits = case
    values = np.array([[1, 0], [3, 5]])
    for symbol, (in_place, out_of_place, _) in FORMS.items():
        if symbol == "@=":
            continue
        x = nd.array(values, dtype, device)
        if symbol in fits.split():
            x = in_place(x, other)
            assert x.dtype == dtype
            np.testing.assert_array_equal(
                x, out_of_place(values, np.asarray(other, np.int64)).astype(dtype)
            )
        elif symbol == "/=" or not fits:
            with pytest.raises(TypeError, match="does not fit into an array of"):
                in_place(x, other)
            np.testing.assert_array_equal(x, values.astype(dtype))


@DEVICE
@pytest.mark.parametrize("symbol", FORMS)
def test_the_target_is_not_broadcast(device: Any, symbol: str) -> None:
    in_place, _, has_tensor = FORMS[symbol]
    pairs = [((3,), (2, 3)), ((1, 3), (2, 3)), ((), (1,)), ((2, 1), (1, 2))]
    if symbol == "@=":
        pairs = [((2, 3), (3, 2)), ((2, 3), (3,)), ((2, 2), (3, 2, 2))]
    for a, b in pairs:
        for kind in (nd.NDArray, ndl.Tensor) if has_tensor else (nd.NDArray,):
            x, y = (kind(np.ones(shape, np.float32), device=device) for shape in (a, b))
            with ndl.no_grad(), pytest.raises(ValueError, match="does not fit into an array of"):
                in_place(x, y)
            np.testing.assert_array_equal(np.asarray(x), np.ones(a))


def test_what_cannot_be_an_operand_changes_nothing() -> None:
    x, wide = nd.array([1.0, 2.0]), nd.array([1.0]).broadcast_to((3,))
    with pytest.raises(ValueError, match="lie in the same place"):
        wide += 1
    for bad in ("a", None, object(), 1j):
        with pytest.raises(TypeError):
            x += bad
    with pytest.raises(ValueError, match="cannot be mixed"):
        x += nd.array([1.0, 2.0], device=ndl.cpu_numpy())
    np.testing.assert_array_equal(x, [1, 2])


# ---- graphs ---------------------------------------------------------------------------------

TENSOR_FORMS = [s for s, form in FORMS.items() if form[2]]


@pytest.mark.parametrize("symbol", TENSOR_FORMS)
def test_a_leaf_in_training_is_refused(symbol: str) -> None:
    layer = nn.Linear(3, 3)
    weight, before = layer.weight, layer.weight.numpy()
    with pytest.raises(RuntimeError, match="a leaf that requires a gradient"):
        layer.weight = FORMS[symbol][0](layer.weight, ndl.Tensor(B))
    assert layer.weight is weight
    np.testing.assert_array_equal(weight.numpy(), before)


@pytest.mark.parametrize("symbol", TENSOR_FORMS)
def test_in_a_graph_it_is_recorded(symbol: str) -> None:
    """`y += x` in a forward pass is y = y + x, with its gradients, and changes no data."""
    in_place, out_of_place, _ = FORMS[symbol]
    gradients = []
    for form in (in_place, out_of_place):
        a, b = ndl.Tensor(A), ndl.Tensor(B)
        y = a * 2.0
        alias, before = y, y.numpy()
        y = form(y, b)
        np.testing.assert_array_equal(alias.numpy(), before)
        (y * y).sum().backward()
        gradients.append((y.numpy(), a.grad.numpy(), b.grad.numpy()))
    for mine, expected in zip(*gradients, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_sums_of_losses() -> None:
    w = ndl.Tensor([1.0, 2.0])
    total: Any = 0
    for k in range(3):
        total += (w * float(k)).sum()
    constant = ndl.zeros(())
    constant += (w * w).sum()
    (total + constant).backward()
    np.testing.assert_array_equal(w.grad.numpy(), [5, 7])


def test_a_graph_notices_an_update() -> None:
    w = ndl.Tensor([1.0, 2.0])
    y = (w * w).sum()
    with ndl.no_grad():
        w -= 0.5
    with pytest.raises(RuntimeError, match="changed or replaced"):
        y.backward()
    h = w * 2.0
    z = (h * h).sum()
    h.detach()[...] += 1.0
    with pytest.raises(RuntimeError, match="changed or replaced"):
        z.backward()
    with pytest.raises(RuntimeError, match="cannot be modified in place"):
        w[0] += 1.0


def test_lazy_values_keep_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autograd, "LAZY_MODE", True)
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    alias, y = x, x * 2.0
    y += 1.0  # in place: nothing is recorded for a gradient
    x += 1.0
    assert x is alias
    np.testing.assert_array_equal(x.numpy(), [2, 3])
    np.testing.assert_array_equal(y.numpy(), [3, 5])
    late = x * 2.0
    x *= 3.0
    with pytest.raises(RuntimeError, match="changed or replaced"):
        late.numpy()


# ---- training -------------------------------------------------------------------------------


def _model() -> nn.Module:
    np.random.seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def _gradients(model: nn.Module, rows: int = 6) -> ndl.Tensor:
    x = ndl.Tensor(np.linspace(-1, 1, 4 * rows, dtype=np.float32).reshape(rows, 4))
    loss = (model(x) ** 2).sum()
    loss.backward()
    return loss


def _descend_in_place(model: nn.Module, lr: float) -> None:
    with ndl.no_grad():
        for p in model.parameters():
            p -= lr * p.grad


def _descend_by_data(model: nn.Module, lr: float) -> None:
    for p in model.parameters():
        p.data -= lr * p.grad


def _descend_by_detached(model: nn.Module, lr: float) -> None:
    for p in model.parameters():
        p.data -= lr * p.grad.data


def _descend_by_attribute(model: nn.Module, lr: float) -> None:
    with ndl.no_grad():
        for layer in (model.modules[0], model.modules[2]):
            layer.weight -= lr * layer.weight.grad
            layer.bias -= lr * layer.bias.grad


@pytest.mark.parametrize(
    "descend",
    [_descend_in_place, _descend_by_data, _descend_by_detached, _descend_by_attribute],
)
def test_gradient_descent_by_hand(descend: Callable[[nn.Module, float], None]) -> None:
    mine, reference = _model(), _model()
    optimizer = optim.SGD(reference.parameters(), lr=0.05)
    parameters = mine.parameters()
    for _ in range(3):
        _gradients(mine)
        descend(mine, 0.05)
        _gradients(reference)
        optimizer.step()
    assert all(p is q for p, q in zip(mine.parameters(), parameters, strict=True))
    for name, value in reference.state_dict().items():
        _close(mine.state_dict()[name], value.numpy().astype(np.float64), "float32")


def test_gradients_are_scaled_and_added_up() -> None:
    model = _model()
    _gradients(model)
    once = [p.grad.numpy() for p in model.parameters()]
    kept = [p.grad for p in model.parameters()]
    _gradients(model)
    for p, old in zip(model.parameters(), kept, strict=True):
        same = p.grad
        p.grad += old
        p.grad *= 0.5
        p.grad /= 2.0
        p.grad -= 0.25 * old
        assert p.grad is same
    for p, g in zip(model.parameters(), once, strict=True):
        _close(p.grad, 0.25 * g.astype(np.float64), "float32")
    optim.SGD(model.parameters(), lr=0.1).step()
    for p in model.parameters():
        p.grad = None


def test_halving_one_gradient_leaves_the_others() -> None:
    a, b = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])
    total = a + b
    total.sum().backward()
    a.grad *= 0.5
    total.grad += 2.0
    for gradient, expected in ((a.grad, 0.5), (b.grad, 1.0), (total.grad, 3.0)):
        np.testing.assert_array_equal(gradient.numpy(), [expected, expected])


def test_moments_in_lists_are_updated() -> None:
    w = ndl.Tensor([1.0, 2.0])
    moments, averages = [ndl.zeros(2)], [ndl.Tensor(w.numpy(), requires_grad=False)]
    for _ in range(2):
        (w * w).sum().backward()
        with ndl.no_grad():
            for v, average in zip(moments, averages, strict=True):
                v *= 0.5
                v += w.grad
                average *= 0.9
                average += 0.1 * w
                w -= 0.1 * v
    # g = 2w: v = 2w, w = .8w; then v = w + 1.6w, w = .8w - .26w
    np.testing.assert_allclose(moments[0].numpy(), np.array([1, 2]) * 2.6, rtol=1e-6)
    np.testing.assert_allclose(w.numpy(), np.array([1, 2]) * 0.54, rtol=1e-6)
    np.testing.assert_allclose(averages[0].numpy(), np.array([1, 2]) * 0.98, rtol=1e-6)


# ---- modules --------------------------------------------------------------------------------

REPLACEMENTS: dict[str, Callable[[ndl.Tensor], Any]] = {
    "tensor": lambda t: t.detach(),
    "result": lambda t: t * 2.0,
    "NumPy array": lambda t: t.numpy(),
    "NDArray": lambda t: t.cached_data,
    "list": lambda t: t.tolist(),
    "number": lambda t: 1.0,
}


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("by", ["assignment", "setattr"])
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_a_parameter_or_buffer_is_not_replaced_by_accident(kind: str, by: str, name: str) -> None:
    if kind in ("tensor", "result") and name.startswith("running"):
        return  # a Tensor is the buffer then
    layer = nn.BatchNorm1d(3)
    held, keys = getattr(layer, name), list(layer.state_dict())
    with pytest.raises(TypeError, match=rf"{name} is a .* cannot become .*\.data = tensor"):
        setattr(layer, name, REPLACEMENTS[kind](held))
    assert getattr(layer, name) is held
    assert list(layer.state_dict()) == keys


def test_what_may_take_the_place_of_a_parameter() -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    layer.weight = other.weight
    layer.bias = None
    assert layer.parameters() == [other.weight]
    layer.bias = nn.Parameter(ndl.ones(1, 2))
    layer.note = ndl.ones(2)
    layer.note = ndl.zeros(2)
    layer.register_buffer("note", ndl.ones(2))
    layer.register_buffer("note", ndl.zeros(2))
    assert list(layer.state_dict()) == ["weight", "bias", "note"]
    layer.note = None
    cell = nn.LSTMCell(3, 2)
    cell.W_ih = ndl.Tensor(cell.W_ih.numpy())
    h, _ = cell(ndl.ones(1, 3))
    h.sum().backward()
    assert cell.W_ih.grad.shape == (3, 8)
