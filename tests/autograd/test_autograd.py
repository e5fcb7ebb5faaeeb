"""Tensors, the recorded graph and reverse mode."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
from numeric import check_gradients

import needle as ndl
from needle import autograd


def tensor(values, device=None, **options):
    return ndl.Tensor(np.asarray(values, dtype="float64"), device=device, **options)


# ---- Tensor -----------------------------------------------------------------------------------


def test_construction_and_dtypes(device):
    assert ndl.Tensor([1.0, 2.0], device=device).dtype == "float32"
    assert ndl.Tensor([1, 2], device=device).dtype == "float32"
    assert ndl.Tensor(np.array([1, 2]), device=device).dtype == "int64"
    assert ndl.Tensor(np.array([1, 2], "int16"), device=device).dtype == "int32"
    assert ndl.Tensor(np.array([True]), device=device).dtype == "bool"
    assert ndl.Tensor([1, 2], device=device, dtype="float64").dtype == "float64"
    assert ndl.Tensor(3.0, device=device).shape == ()
    assert ndl.Tensor([[1.0]], device=device).device == device
    for bad in ("text", None, object(), [1j]):
        with pytest.raises(TypeError):
            ndl.Tensor(bad, device=device)


def test_a_tensor_is_copied_from_numpy_and_shares_with_a_tensor(device):
    x = np.zeros(2, dtype="float32")
    t = ndl.Tensor(x, device=device)
    x[0] = 1
    assert t.tolist() == [0, 0]
    assert ndl.Tensor(t).realize_cached_data() is t.realize_cached_data()


def test_integers_need_no_gradient(device):
    assert ndl.Tensor([1.0], device=device).requires_grad
    assert not ndl.Tensor(np.array([1]), device=device).requires_grad
    assert not ndl.Tensor([1.0], device=device, requires_grad=False).requires_grad


def test_str_and_repr(device):
    t = ndl.Tensor([[1.0, 2.0]], device=device)
    assert str(t) == "[[1. 2.]]"
    assert repr(t).startswith("needle.Tensor(")
    assert repr(ndl.make_tuple(t, t)).startswith("needle.TensorTuple(")


def test_data_and_detach(device):
    t = ndl.Tensor([1.0, 2.0], device=device)
    y = t * 2
    for constant in (y.data, y.detach()):
        assert constant.is_leaf()
        assert not constant.requires_grad
        assert constant.tolist() == [2, 4]
    t.data = ndl.Tensor([5.0, 6.0], device=device)
    assert t.tolist() == [5, 6]
    with pytest.raises(TypeError, match="float64"):
        t.data = ndl.Tensor([5.0, 6.0], device=device, dtype="float64")
    with pytest.raises(TypeError, match="list"):
        t.data = [1.0, 2.0]


def test_python_protocols(device):
    t = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    assert (len(t), t.ndim, t.size) == (2, 2, 4)
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert float(t[0, 1]) == 2.0
    assert t.T.tolist() == [[1, 3], [2, 4]]
    assert t.flatten().shape == (4,)
    assert (t == t).tolist() == [[True, True], [True, True]]
    assert (t > 2).sum().item() == 2
    assert bool(t[0, 0])
    assert t in [t]
    assert len({t, t}) == 1
    assert (t != None) is True  # noqa: E711
    np.testing.assert_array_equal(np.asarray(t), [[1, 2], [3, 4]])
    assert (np.ones((2, 2)) * t).tolist() == [[1, 2], [3, 4]]
    assert isinstance(np.float32(2) * t, ndl.Tensor)


def test_copies_have_data_and_no_history(device):
    t = ndl.Tensor([1.0, 2.0], device=device)
    y = t * 2
    for clone in (copy.deepcopy(y), copy.copy(y), pickle.loads(pickle.dumps(y))):
        assert clone.tolist() == [2, 4]
        assert clone.is_leaf()
        assert clone.requires_grad
        assert clone.device == device


def test_to_moves_between_devices_with_gradients():
    devices = [d for d in ndl.all_devices() if d.enabled()]
    t = ndl.Tensor([1.0, 2.0], device=devices[0])
    for target in devices:
        moved = (t * 3).to(target)
        assert moved.device == target
        moved.sum().backward()
        assert t.grad.device == t.device
        assert t.grad.tolist() == [3, 3]


# ---- recording --------------------------------------------------------------------------------


def test_ops_remember_their_inputs(device):
    a, b = tensor([1.0], device), tensor([2.0], device)
    y = a * b
    assert isinstance(y.op, ndl.ops.EWiseMul)
    assert list(y.inputs) == [a, b]
    assert not y.is_leaf()
    assert y.op.gradient_as_tuple(tensor([1.0], device), y)[0].tolist() == [2]


def test_nothing_is_recorded_where_nothing_needs_a_gradient(device):
    a = tensor([1.0], device, requires_grad=False)
    assert (a + a).is_leaf()
    with ndl.no_grad():
        b = tensor([1.0], device)
        assert (b * 2).is_leaf()
        with ndl.enable_grad():
            assert not (b * 2).is_leaf()
        assert (b * 2).is_leaf()
    assert not (b * 2).is_leaf()


def test_no_grad_is_a_decorator_and_survives_exceptions(device):
    @ndl.no_grad()
    def f(x):
        if x is None:
            raise KeyError
        return x * 2

    a = tensor([1.0], device)
    assert f(a).is_leaf()
    with pytest.raises(KeyError):
        f(None)
    assert autograd.is_grad_enabled()


def test_no_grad_is_of_one_thread():
    import threading

    seen = []
    with ndl.no_grad():
        thread = threading.Thread(target=lambda: seen.append(autograd.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_topological_order_is_post_order_left_to_right(device):
    a, b = tensor(1.0, device), tensor(2.0, device)
    c = a + b
    d = c * a
    e = b + c
    f = d + e
    assert autograd.find_topo_sort([f]) == [a, b, c, d, e, f]


def test_lazy_mode_computes_when_asked(device):
    autograd.LAZY_MODE = True
    try:
        a = tensor([2.0], device)
        y = (a * a + 1) * a
        assert y.cached_data is None
        deep = a
        for _ in range(5000):
            deep = deep + 0.0
        assert deep.item() == 2
        assert y.item() == 10
        y.backward()
        assert a.grad.item() == 13
    finally:
        autograd.LAZY_MODE = False


# ---- reverse mode -----------------------------------------------------------------------------


def test_a_chain_of_100_000_nodes(device):
    x = y = ndl.Tensor([1.0], device=device)
    for _ in range(100_000):
        y = y + 0.0
    y.backward()
    assert x.grad.item() == 1
    del y
    gc.collect()


def test_a_tensor_used_many_times_accumulates(device):
    x = tensor([3.0], device)
    y = x * x + x
    z = y * x - x
    z.backward()
    assert x.grad.item() == pytest.approx(3 * 9 + 2 * 3 - 1)


def test_backward_sets_the_gradient_of_inner_values_and_replaces_old_ones(device):
    x = tensor([2.0], device)
    y = x * x
    z = y * 3
    z.backward()
    assert (y.grad.item(), x.grad.item(), z.grad.item()) == (3, 12, 1)
    (x * 5).backward()
    assert x.grad.item() == 5


def test_backward_takes_a_seed(device):
    x = tensor([1.0, 2.0], device)
    (x * x).backward(tensor([10.0, 1.0], device))
    assert x.grad.tolist() == [20, 4]


def test_a_diamond_of_broadcasts_and_views(device):
    def function(a, b):
        wide = a.broadcast_to((4, 3)) * b
        left, right = wide[:2], wide[2:].transpose()
        return (left @ right).sum(0) + wide.reshape((3, 4))[:, 1].sum() + b[::-2].sum()

    rng = np.random.RandomState(0)
    check_gradients(function, [rng.randn(1, 3), rng.randn(4, 3)], device)


def test_gradients_of_gradients(device):
    x = tensor([2.0], device)
    y = x**4
    y.backward()
    first = x.grad
    assert first.item() == 32
    first.backward()
    second = x.grad
    assert second.item() == 48
    second.backward()
    third = x.grad
    assert third.item() == 48
    third.backward()
    assert x.grad.item() == 24


def test_the_gradient_of_a_gradient_penalty(device):
    def penalty(w, x):
        with ndl.enable_grad():
            live = [
                w if w.requires_grad else ndl.Tensor(w),
                x if x.requires_grad else ndl.Tensor(x),
            ]
            y = ndl.tanh(live[1] @ live[0]).sum()
            (g,) = ndl.grad(y, [live[1]])
            return ((g * g).sum() - 1.0) ** 2

    rng = np.random.RandomState(1)
    check_gradients(penalty, [rng.randn(3, 2), rng.randn(4, 3)], device, tolerance=1e-5)


def test_grad_leaves_dot_grad_alone(device):
    x, unused = tensor([3.0], device), tensor([1.0], device)
    y = x * x
    assert [None if g is None else g.item() for g in ndl.grad(y, [x, unused])] == [6, None]
    assert x.grad is None


def test_gradients_hold_no_graph_unless_asked(device):
    x = tensor([1.0], device)
    gc.collect()
    before = autograd.TENSOR_COUNTER
    for _ in range(3):
        y = (x * 2).exp().sum()
        y.backward()
        x.grad = None
        del y
    gc.collect()
    assert before == autograd.TENSOR_COUNTER


def test_the_number_of_tensors_is_flat_over_a_training_loop(device):
    np.random.seed(0)
    model = ndl.nn.Sequential(
        ndl.nn.Linear(8, 16, device=device), ndl.nn.BatchNorm1d(16, device=device), ndl.nn.ReLU(),
        ndl.nn.Dropout(0.1), ndl.nn.Linear(16, 3, device=device),
    )  # fmt: skip
    optimizer = ndl.optim.Adam(model.parameters())
    x = ndl.Tensor(np.random.randn(10, 8), device=device)
    labels, counts = np.arange(10) % 3, []
    for _ in range(100):
        loss = ndl.nn.SoftmaxLoss()(model(x), labels)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        counts.append(autograd.TENSOR_COUNTER)
    assert counts[99] == counts[1]


def test_tuples_carry_gradients(device):
    x = tensor([[1.0, 2.0], [3.0, 4.0]], device)
    parts = ndl.split(x, 0)
    assert len(parts) == 2
    first, second = parts
    (first * second * 2).sum().backward()
    assert x.grad.tolist() == [[6, 8], [2, 4]]
    added = parts + parts
    assert added[1].tolist() == [6, 8]
    assert [a.tolist() for a in parts.detach().numpy()] == [[1, 2], [3, 4]]


def test_an_op_of_ones_own(device):
    class Cube(ndl.autograd.TensorOp):
        def compute(self, x):
            return x * x * x

        def gradient(self, out_grad, node):
            (x,) = node.inputs
            return out_grad * 3 * x * x

    check_gradients(lambda x: Cube()(x), [np.array([1.5, -2.0])], device)
    x = tensor([2.0], device)
    Cube()(x).backward()
    x.grad.backward()
    assert x.grad.item() == 12


# ---- mistakes ---------------------------------------------------------------------------------


def test_backward_of_a_constant(device):
    with pytest.raises(RuntimeError, match="nothing was recorded"):
        tensor([1.0], device, requires_grad=False).backward()
    with ndl.no_grad():
        y = tensor([1.0], device) * 2
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()


def test_backward_through_integers(device):
    with pytest.raises(TypeError, match="int64"):
        ndl.Tensor(np.array([1, 2]), device=device).backward()
    x = tensor([1.6, 2.6], device)
    assert x.astype("int64").is_leaf()


@pytest.mark.parametrize(
    ("seed", "error", "words"),
    [
        (np.ones(2), TypeError, "ndarray"),
        (ndl.Tensor([1.0, 2.0, 3.0], dtype="float64"), ValueError, r"\(3,\)"),
    ],
)
def test_a_seed_that_does_not_fit(seed, error, words, device):
    x = tensor([1.0, 2.0], device)
    if isinstance(seed, ndl.Tensor):
        seed = seed.to(device)
    with pytest.raises(error, match=words):
        (x * 2).backward(seed)
    assert x.grad is None


def test_devices_do_not_mix():
    devices = [d for d in ndl.all_devices() if d.enabled()]
    if len(devices) < 2:
        pytest.skip("needs two devices")
    a, b = (tensor([1.0], d) for d in devices)
    for op in (ndl.add, ndl.multiply, ndl.maximum):
        with pytest.raises(ValueError, match="cannot be mixed"):
            op(a, b)
    with pytest.raises(ValueError, match="is on"):
        (a * 2).backward(b)


def test_a_value_replaced_between_forward_and_backward(device):
    w = tensor([2.0], device)
    y = w * w
    w.data = tensor([7.0], device)
    with pytest.raises(RuntimeError, match="replaced after the forward pass"):
        y.backward()
    total = w + w
    w.data = tensor([1.0], device)
    total.backward()  # a sum does not need the values
    assert w.grad.item() == 2


def test_writing_into_a_recorded_tensor(device):
    w = tensor([2.0, 3.0], device)
    with pytest.raises(RuntimeError, match="no_grad"):
        w[0] = 5
    y = w * w
    with ndl.no_grad():
        w[0] = 5
    assert w.tolist() == [5, 3]
    with pytest.raises(RuntimeError, match="replaced"):
        y.sum().backward()


def test_the_gradient_of_a_graph_that_is_gone(device):
    x = tensor([2.0], device)
    y = x * x
    z = y * y
    z.backward()
    inner = y.grad
    x.grad = None  # which keeps z alive
    del z
    gc.collect()
    with pytest.raises(RuntimeError, match="is gone"):
        inner.backward()


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda t: t + "x", TypeError, "str"),
        (lambda t: t @ 3.0, (TypeError, ValueError), ""),
        (lambda t: ndl.add(1, 2), TypeError, "Tensor"),
        (lambda t: t @ t, ValueError, "inner dimensions 3 and 2"),
        (lambda t: t + ndl.Tensor(np.ones((2, 2)), device=t.device), ValueError, "add"),
        (lambda t: t.reshape(5), ValueError, ""),
        (lambda t: t.sum(3), (ValueError, IndexError), "3"),
        (lambda t: t[4], IndexError, "4"),
        (lambda t: ndl.stack([t, t[0]], 0), ValueError, "equal"),
        (lambda t: ndl.concatenate([t, t.T], 0), ValueError, "differ"),
        (lambda t: ndl.einsum("ij,jk", t), ValueError, "2 operands"),
        (lambda t: ndl.gather(t, 0, np.array([[0.5]])), TypeError, "integers"),
        (lambda t: ndl.cross_entropy(t, np.array([0, 3])), IndexError, "3"),
        (lambda t: ndl.cross_entropy(t, np.array([0.5, 1])), TypeError, "whole"),
        (lambda t: ndl.cross_entropy(t, np.array([1])), ValueError, "labels"),
        (lambda t: ndl.cross_entropy(t[0], np.array([1])), ValueError, "classes"),
        (lambda t: ndl.topk(t, 9), ValueError, "9"),
        (lambda t: ndl.dilate(t, (0,), -1), ValueError, "-1"),
        (lambda t: ndl.gelu(t, "fast"), ValueError, "fast"),
        (lambda t: ndl.linear(t, t), ValueError, "weight"),
        (lambda t: t.item(), ValueError, "one element"),
    ],
)
def test_mistakes_are_named(act, error, words, device):
    t = ndl.Tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], device=device)
    with pytest.raises(error, match=words or None):
        act(t)


def test_a_tensor_given_several_times_to_an_op_defined_by_others():
    """Its gradient is counted once: by checkpointed functions and by ops with kernels."""
    rng = np.random.RandomState(0)
    y = ndl.Tensor(rng.randn(3, 3), dtype="float64")
    expected = ndl.grad(ndl.tanh(y @ y).sum(), [y])[0]
    for function in (
        lambda: ndl.checkpoint(lambda a, b: ndl.tanh(a @ b))(y, y),
        lambda: ndl.checkpoint(lambda a: ndl.tanh(a @ y))(y),
    ):
        gradient = ndl.grad(function().sum(), [y])[0]
        np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-12)
    q = ndl.Tensor(rng.randn(1, 2, 4, 8), dtype="float64")

    def attention(q):
        return (ndl.scaled_dot_product_attention(q, q, q) ** 2).sum()

    def by_parts(q):
        p = ndl.softmax(q @ q.transpose() / np.sqrt(8), 3)
        return ((p @ q) ** 2).sum()

    actual, expected = (ndl.grad(f(q), [q])[0].numpy() for f in (attention, by_parts))
    np.testing.assert_allclose(actual, expected, rtol=1e-10)
