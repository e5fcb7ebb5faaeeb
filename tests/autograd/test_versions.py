"""Data that changes between a forward pass and its backward pass: never a wrong gradient.

Every way in which needle writes to memory, against everything that a gradient reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import autograd, nn, ops
from needle import backend_ndarray as nd

CHANGED = "changed or replaced after the forward pass"
DEVICE = pytest.mark.parametrize("device", [ndl.cpu(), ndl.cpu_numpy()], ids=str)

# Ways to overwrite all elements of a Tensor with what is `new`, of its shape and dtype.
WRITES: dict[str, Callable[[ndl.Tensor, np.ndarray], Any]] = {
    "data": lambda t, new: setattr(t, "data", ndl.Tensor(new, device=t.device, dtype=t.dtype)),
    "setitem under no_grad": lambda t, new: _without_grad(lambda: t.__setitem__(..., new)),
    "detach": lambda t, new: t.detach().__setitem__(..., new),
    "a view": lambda t, new: t.detach()[::-1].__setitem__(..., new[::-1]),
    "reshape": lambda t, new: t.detach().reshape(-1).__setitem__(..., new.reshape(-1)),
    "one row": lambda t, new: [t.data.__setitem__(i, new[i]) for i in range(len(new))],
    "an index array": lambda t, new: t.data.__setitem__(np.arange(len(new)), new),
    "NDArray": lambda t, new: t.cached_data.__setitem__(..., new),
    "NDArray view": lambda t, new: t.cached_data.flip(0).__setitem__(..., new[::-1]),
    "NDArray.fill": lambda t, new: t.cached_data.fill(new.flat[-1].item()),
    "flat": lambda t, new: [t.cached_data.flat.__setitem__(i, x) for i, x in enumerate(new.flat)],
    "flat of a view": lambda t, new: t.cached_data.T.flat.__setitem__(
        slice(None), new.T.reshape(-1)
    ),
    "flat of a view, one by one": lambda t, new: [
        t.cached_data.flip(0).flat.__setitem__(i, x) for i, x in enumerate(new[::-1].flat)
    ],
    "from_numpy of its memory": lambda t, new: nd.from_numpy(
        np.asarray(t.cached_data), t.device
    ).__setitem__(..., new),
    "from_dlpack of its memory": lambda t, new: nd.from_dlpack(t, t.device).__setitem__(..., new),
    "another device of the host": lambda t, new: nd.from_numpy(
        np.asarray(t.cached_data), ndl.cpu_numpy()
    ).__setitem__(..., new),
}


def _without_grad(function: Callable[[], Any]) -> None:
    with ndl.no_grad():
        function()


def _floats(device: Any, *values: Any, grad: bool = True) -> ndl.Tensor:
    return ndl.Tensor(np.array(values, np.float32), device=device, requires_grad=grad)


def _whole(device: Any, *values: Any) -> ndl.Tensor:
    return ndl.Tensor(np.array(values), device=device, dtype="int64")


# What a gradient reads besides: (the forward pass of x and the other, its values and dtype). Of
# indices, masks and labels the op keeps the array itself.
READS: dict[str, tuple[Callable[[Any, Any], Any], Any, Any]] = {
    "the other factor": (lambda x, w: x * w, [1.0, 2.0, 3.0], "float32"),
    "the divisor": (lambda x, w: x / w, [1.0, 2.0, 3.0], "float32"),
    "the exponent": (lambda x, w: x**w, [1.0, 2.0, 3.0], "float32"),
    "the other matrix": (lambda x, w: x @ w, np.ones((3, 2)), "float32"),
    "the weight of linear": (lambda x, w: ops.linear(x, w), np.ones((3, 2)), "float32"),
    "the bound": (lambda x, w: ops.maximum(x, w), [1.0, 2.0, 9.0], "float32"),
    "a condition": (lambda x, c: ops.where(c, x, 0.0), [True, False, True], "bool"),
    "an index": (lambda x, i: x[i], [2, 0, 0], "int64"),
    "an index of rows": (lambda x, i: ops.take(x.reshape(3, 1), i), [2, 0, 0], "int64"),
    "an index in a list": (lambda x, i: x[[i[0], i[1]]], [2, 0, 0], "int64"),
    "a mask": (lambda x, m: x[m], [True, False, True], "bool"),
    "an index of gather": (lambda x, i: ops.gather(x, 0, i), [2, 0, 0], "int64"),
    "an index of scatter_add": (
        lambda x, i: ops.scatter_add(ndl.zeros(3, device=x.device), 0, i, x),
        [2, 0, 0],
        "int64",
    ),
    "labels": (lambda x, y: ops.cross_entropy(x.reshape(3, 1) * W2(x), y), [1, 0, 1], "int64"),
    "labels of nll_loss": (
        lambda x, y: ops.nll_loss(x.reshape(3, 1) * W2(x), y),
        [1, 0, 1],
        "int64",
    ),
    "an attention mask": (lambda x, m: _attention(x, m), np.zeros((1, 1, 3, 3)), "float32"),
}


def W2(x: Any) -> ndl.Tensor:
    return ndl.Tensor(np.array([[1.0, -2.0]], np.float32), device=x.device, requires_grad=False)


def _attention(x: ndl.Tensor, mask: ndl.Tensor) -> ndl.Tensor:
    q = x.reshape((1, 1, 3, 1))
    return ops.scaled_dot_product_attention(q, q, q, mask=mask)


@DEVICE
@pytest.mark.parametrize("write", WRITES, ids=str)
@pytest.mark.parametrize("read", READS, ids=str)
def test_backward_refuses_what_was_changed(device: Any, read: str, write: str) -> None:
    forward, values, dtype = READS[read]
    values = np.array(values, dtype)
    x = _floats(device, 1.0, 2.0, 3.0)
    other = ndl.Tensor(values, device=device, dtype=dtype, requires_grad=False)
    y = forward(x, other).sum()
    y.backward()
    expected = x.grad.numpy()
    WRITES[write](other, values[::-1].copy())
    if write == "data" and (dtype != "float32" or read == "an attention mask"):
        y.backward()  # with the array that was there
        np.testing.assert_array_equal(x.grad.numpy(), expected)
        return
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    forward(x, other).sum().backward()  # anew, with the present values


@DEVICE
@pytest.mark.parametrize("write", WRITES, ids=str)
def test_inputs_and_outputs_are_watched(device: Any, write: str) -> None:
    new = np.array([7.0, 8.0, 9.0], np.float32)
    x = _floats(device, 1.0, 2.0, 3.0)
    y = ops.exp(x)  # its gradient reads the output
    WRITES[write](y, new)
    with pytest.raises(RuntimeError, match=CHANGED):
        y.sum().backward()
    y = (x * x).sum()
    WRITES[write](x, new)
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


@pytest.mark.parametrize("write", WRITES, ids=str)
def test_what_no_gradient_reads_may_change(write: str) -> None:
    x, b = _floats(None, 1.0, 2.0, 3.0), _floats(None, 1.0, 1.0, 1.0)
    y = (2.0 * x + b).reshape(3, 1).sum()
    WRITES[write](b, np.array([7.0, 8.0, 9.0], np.float32))
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])


@pytest.mark.parametrize("write", WRITES, ids=str)
def test_lazy_values_refuse_inputs_that_were_changed(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _floats(None, 1.0, 2.0, 3.0)
    monkeypatch.setattr(autograd, "LAZY_MODE", True)
    y = x + 1.0
    WRITES[write](x, np.array([7.0, 8.0, 9.0], np.float32))
    with pytest.raises(RuntimeError, match=CHANGED):
        y.numpy()


def test_an_embedding_s_indices_and_rows_are_watched() -> None:
    layer, index = nn.Embedding(5, 2), _whole(None, [0, 1], [2, 2])
    out = (layer(index) * layer(index)).sum()
    index.detach()[0, 0] = 4
    with pytest.raises(RuntimeError, match=CHANGED):
        out.backward()
    rows = layer(index)
    out = (rows * rows).sum()
    rows.detach()[0] = 3.0
    with pytest.raises(RuntimeError, match=CHANGED):
        out.backward()


def test_a_state_dict_shares_versions() -> None:
    layer = nn.Linear(3, 2)
    out = layer(ndl.ones(1, 3)).sum()
    (layer(ndl.ones(1, 3)) ** 2).sum().backward()  # an unchanged model
    layer.state_dict()["weight"][0, 0] = 5.0
    with pytest.raises(RuntimeError, match=CHANGED):
        out.backward()


@pytest.mark.parametrize("kind", [np.array, list], ids=["array", "list"])
def test_keys_of_the_host_are_those_of_the_forward_pass(kind: Any) -> None:
    x = _floats(None, 1.0, 2.0, 3.0)
    for forward in (lambda k: x[k], lambda k: ops.take(x, k), lambda k: x.reshape(1, 3)[:, k]):
        key = kind([0, 0, 2])
        y = forward(key).sum()
        key[0] = key[1] = 1
        y.backward()
        np.testing.assert_array_equal(x.grad.numpy(), [2, 0, 1])


def test_a_custom_op_s_arrays_are_watched() -> None:
    class Masked(ndl.autograd.TensorOp):
        saves_values = False

        def __init__(self, kept: Any) -> None:
            self.kept = kept

        def compute(self, a: Any) -> Any:
            return a * 1.0

        def gradient(self, out_grad: Any, node: Any) -> Any:
            return out_grad * self.kept["mask"][0]

    x, mask = _floats(None, 1.0, 2.0), _floats(None, 1.0, 0.0, grad=False)
    y = Masked({"mask": [mask]})(x).sum()
    mask[0] = 0.0
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()


def test_a_checkpoint_refuses_what_was_changed_before_it_runs_again() -> None:
    mask = _floats(None, 1.0, 0.0, grad=False)
    x = _floats(None, 1.0, 2.0)
    y = ndl.checkpoint(lambda x: x * x * mask)(x).sum()
    mask[0] = 5.0
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    y = ndl.checkpoint(lambda x: x * x * mask)(x).sum()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [10, 0])


def test_what_numpy_writes_is_not_seen_but_what_needle_writes_is() -> None:
    memory = np.array([1.0, 2.0], np.float32)
    x = ndl.Tensor(nd.from_numpy(memory))
    y = (x * x).sum()
    nd.from_numpy(memory)[1:].fill(4.0)
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    elsewhere = nd.from_numpy(np.zeros(2, np.float32))
    y = (x * x).sum()
    elsewhere[:] = 3.0  # other memory
    y.backward()


# ---- gradients ------------------------------------------------------------------------------


@DEVICE
def test_gradients_are_compact_and_nobody_else_s(device: Any) -> None:
    a, b = _floats(device, 1.0, 2.0, 3.0), _floats(device, 1.0, 2.0, 3.0)
    total = a + b
    seed = _floats(device, 1.0, 1.0, 1.0, grad=False)
    for backward in (lambda: total.sum().backward(), lambda: total.backward(seed)):
        backward()
        assert a.grad.cached_data.is_compact()
        a.grad[0] = 7.0
        total.grad[1] = 8.0
        b.grad.data[2] = 9.0
        np.testing.assert_array_equal(a.grad.numpy(), [7, 1, 1])
        np.testing.assert_array_equal(total.grad.numpy(), [1, 8, 1])
        np.testing.assert_array_equal(b.grad.numpy(), [1, 1, 9])
        np.testing.assert_array_equal(seed.numpy(), [1, 1, 1])


def test_a_gradient_that_an_op_keeps_is_not_written_to() -> None:
    class Constant(ndl.autograd.TensorOp):
        kept = nd.array([5.0, 6.0])

        def compute(self, a: Any) -> Any:
            return a * self.kept

        def gradient(self, out_grad: Any, node: Any) -> Any:
            return ndl.Tensor.make_const(self.kept)

    x = _floats(None, 1.0, 2.0)
    Constant()(x).sum().backward()
    x.grad[0] = 0.0
    np.testing.assert_array_equal(Constant.kept, [5, 6])
    (x * _floats(None, 3.0, 4.0, grad=False)).sum().backward()


def test_a_changed_gradient_cannot_be_differentiated() -> None:
    x = _floats(None, 1.0, 2.0)
    (x**3).sum().backward()
    x.grad[0] = 5.0
    with pytest.raises(RuntimeError, match="can no longer be differentiated"):
        (x.grad * x.grad).sum().backward()
    np.testing.assert_array_equal((x.grad.detach() * 2.0).numpy(), [10, 24])
    (x**3).sum().backward()
    (x.grad * x.grad).sum().backward()  # d (3x²)² = 36x³
    np.testing.assert_array_equal(x.grad.numpy(), [36, 288])


# ---- layouts --------------------------------------------------------------------------------

EXPANDED: dict[str, Callable[[nd.NDArray], nd.NDArray]] = {
    "broadcast": lambda x: x[:1].broadcast_to((4,)),
    "new axis": lambda x: x.reshape((1, 6)).broadcast_to((2, 6)),
    "windows": lambda x: x.as_strided((5, 2), (1, 1)),
    "a row of a broadcast": lambda x: x[:1].broadcast_to((3, 4))[1],
    "irregular": lambda x: x.as_strided((2, 3), (2, 1)),
}
APART: dict[str, Callable[[nd.NDArray], nd.NDArray]] = {
    "transposed": lambda x: x.reshape((2, 3)).permute((1, 0)),
    "flipped": lambda x: x.flip(),
    "steps": lambda x: x[::2],
    "interleaved": lambda x: x.as_strided((2, 3), (1, 2)),
    "between": lambda x: x.as_strided((2, 2), (3, 2)),
    "one repeated": lambda x: x[:1].broadcast_to((1, 1)),
    "empty": lambda x: x[:0].reshape((1, 0)).broadcast_to((3, 0)),
}


@DEVICE
@pytest.mark.parametrize("layout", EXPANDED)
def test_writing_where_elements_coincide_is_an_error(device: Any, layout: str) -> None:
    x = nd.array(np.arange(6), device=device)
    view = EXPANDED[layout](x)
    for write in (
        lambda: view.__setitem__(slice(None), np.zeros(view.shape)),
        lambda: view.__setitem__(..., 1.0),
        lambda: view.__setitem__(0, 1.0),
        lambda: view.__setitem__(0, view.copy()[0]),
        lambda: view.fill(1.0),
        lambda: view.__setitem__(np.array([0]), 1.0),
        lambda: view.flat.__setitem__(slice(None), 1.0),
        lambda: view.T.flat.__setitem__(0, 1.0),
        lambda: ndl.Tensor(view, requires_grad=False).__setitem__(..., 1.0),
    ):
        with pytest.raises(ValueError, match="lie in the same place"):
            write()
    np.testing.assert_array_equal(x, np.arange(6))
    view.copy()[...] = 0.0


@DEVICE
@pytest.mark.parametrize("layout", APART)
def test_writing_into_other_views_is_none(device: Any, layout: str) -> None:
    x = nd.array(np.arange(6), device=device)
    view = APART[layout](x)
    values = np.arange(view.size, dtype=np.float32).reshape(view.shape) + 10
    view[...] = values
    np.testing.assert_array_equal(view, values)


@DEVICE
def test_writing_one_view_into_another_of_the_same_memory(device: Any) -> None:
    """As NumPy does it: all is read before anything is written, whoever knows the memory."""
    sources: dict[str, Callable[[nd.NDArray, np.ndarray], nd.NDArray]] = {
        "itself": lambda p, memory: p,
        "from_numpy again": lambda p, memory: nd.from_numpy(memory, device),
        "a part of it": lambda p, memory: nd.from_numpy(memory[:-1], device),
        "from_dlpack": lambda p, memory: nd.from_dlpack(p, device),
        "asarray": lambda p, memory: nd.from_numpy(np.asarray(p), device),
    }
    n = 200_000  # in several blocks and threads
    for name, source in sources.items():
        for shift in (1, 3, 64):
            memory = np.arange(n, dtype=np.float32)
            p = nd.from_numpy(memory, device)
            q = source(p, memory)
            p[shift:] = q[: n - shift]
            expected = np.concatenate([np.arange(shift), np.arange(n - shift)])
            np.testing.assert_array_equal(memory, expected, err_msg=f"{name} {shift}")
        memory = np.arange(6, dtype=np.float32)
        p = nd.from_numpy(memory, device)
        p[np.arange(5) + 1] = source(p, memory)[:5]
        np.testing.assert_array_equal(memory, [0, 0, 1, 2, 3, 4], err_msg=name)
