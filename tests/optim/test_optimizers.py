"""Optimizers over ten steps against PyTorch and formulas, groups, state, bad input."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle as ndl
from needle import optim

SHAPES = [(4, 3), (1, 3), (5,), ()]


def make_params(device, dtype="float32"):
    rng = np.random.RandomState(0)
    return [ndl.Tensor(rng.randn(*s), device=device, dtype=dtype) for s in SHAPES]


def set_gradients(params, step):
    """The same gradients for our parameters and PyTorch's."""
    rng = np.random.RandomState(100 + step)
    for p in params:
        grad = rng.randn(*p.shape)
        if isinstance(p, ndl.Tensor):
            p.grad = ndl.Tensor(grad, device=p.device, dtype=p.dtype)
        else:
            p.grad = p.detach().new_tensor(grad)


def run_both(device, ours, theirs, dtype="float32", steps=10):
    torch = pytest.importorskip("torch")
    params = make_params(device, dtype)
    peers = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    our_optimizer, their_optimizer = ours(params), theirs(torch.optim, peers)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for step in range(steps):
        set_gradients(params, step)
        set_gradients(peers, step)
        our_optimizer.step()
        their_optimizer.step()
    for p, peer in zip(params, peers, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.numpy(), peer.detach().numpy(), rtol=rtol, atol=rtol)


CASES = {
    "sgd": (lambda p: optim.SGD(p, lr=0.1), lambda o, p: o.SGD(p, lr=0.1)),
    "sgd-decay": (
        lambda p: optim.SGD(p, lr=0.1, weight_decay=0.2),
        lambda o, p: o.SGD(p, lr=0.1, weight_decay=0.2),
    ),
    "sgd-momentum": (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1, dampening=0.0),
        lambda o, p: o.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1),
    ),
    "sgd-nesterov": (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True),
        lambda o, p: o.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True),
    ),
    "adam": (lambda p: optim.Adam(p, lr=0.1), lambda o, p: o.Adam(p, lr=0.1)),
    "adam-options": (
        lambda p: optim.Adam(p, lr=0.1, beta1=0.7, beta2=0.9, eps=1e-3, weight_decay=0.3),
        lambda o, p: o.Adam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.3),
    ),
    "adamw": (
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.3),
        lambda o, p: o.AdamW(p, lr=0.1, weight_decay=0.3),
    ),
    "adamw-default": (lambda p: optim.AdamW(p, lr=0.1), lambda o, p: o.AdamW(p, lr=0.1)),
    "rmsprop": (lambda p: optim.RMSProp(p, lr=0.1), lambda o, p: o.RMSprop(p, lr=0.1)),
    "rmsprop-options": (
        lambda p: optim.RMSProp(p, lr=0.1, alpha=0.8, eps=1e-3, weight_decay=0.1, momentum=0.7),
        lambda o, p: o.RMSprop(p, lr=0.1, alpha=0.8, eps=1e-3, weight_decay=0.1, momentum=0.7),
    ),
    "adagrad": (lambda p: optim.Adagrad(p, lr=0.1), lambda o, p: o.Adagrad(p, lr=0.1)),
    "adagrad-options": (
        lambda p: optim.Adagrad(p, 0.1, lr_decay=0.1, weight_decay=0.1,
                                initial_accumulator_value=0.5, eps=1e-3),
        lambda o, p: o.Adagrad(p, 0.1, lr_decay=0.1, weight_decay=0.1,
                               initial_accumulator_value=0.5, eps=1e-3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_ten_steps_against_torch(device, name, dtype):
    run_both(device, *CASES[name], dtype=dtype)


def test_momentum_is_a_moving_average(device):
    p = ndl.Tensor([1.0], device=device, dtype="float64")
    optimizer = optim.SGD([p], lr=0.5, momentum=0.9, weight_decay=0.1)
    value, u = 1.0, 0.0
    for grad in (2.0, -1.0, 0.5):
        p.grad = ndl.Tensor([grad], device=device, dtype="float64")
        optimizer.step()
        u = 0.9 * u + 0.1 * (grad + 0.1 * value)
        value -= 0.5 * u
        np.testing.assert_allclose(p.numpy(), [value], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    decay=st.sampled_from([0.0, 0.1]),
    steps=st.integers(1, 4),
)
def test_sgd_of_any_sizes(seed, sizes, momentum, decay, steps):
    rng = np.random.RandomState(seed)
    values = [rng.randn(n) for n in sizes]
    params = [ndl.Tensor(v, dtype="float64") for v in values]
    optimizer = optim.SGD(params, lr=0.1, momentum=momentum, weight_decay=decay)
    velocities = [np.zeros(n) for n in sizes]
    for _ in range(steps):
        for i, p in enumerate(params):
            grad = rng.randn(sizes[i])
            p.grad = ndl.Tensor(grad, dtype="float64")
            velocities[i] = momentum * velocities[i] + (1 - momentum) * (grad + decay * values[i])
            values[i] = values[i] - 0.1 * velocities[i]
        optimizer.step()
    for p, value in zip(params, values, strict=True):
        np.testing.assert_allclose(p.numpy(), value, rtol=1e-10, atol=1e-12)


ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSProp, optim.Adagrad]


@pytest.mark.parametrize("kind", ALL)
def test_skips_parameters_without_gradient_and_keeps_gradients(device, kind):
    params = make_params(device)
    set_gradients(params, 0)
    params[1].grad = None
    before = [p.numpy().copy() for p in params]
    grads = [None if p.grad is None else p.grad.numpy().copy() for p in params]
    optimizer = kind(params, lr=0.1)
    optimizer.step()
    for i, p in enumerate(params):
        assert np.array_equal(p.numpy(), before[i]) == (i == 1)
        if grads[i] is not None:
            np.testing.assert_array_equal(p.grad.numpy(), grads[i])
    optimizer.reset_grad()
    assert all(p.grad is None for p in params)
    optimizer.step()  # nothing to do


@pytest.mark.parametrize("kind", ALL)
def test_a_late_parameter_starts_with_fresh_moments(device, kind):
    """Bias correction counts a parameter's own updates."""
    early, late = (ndl.Tensor([1.0], device=device) for _ in range(2))
    optimizer = kind([early, late], lr=0.1)
    for step in range(5):
        early.grad = ndl.Tensor([0.5], device=device)
        late.grad = ndl.Tensor([0.5], device=device) if step == 4 else None
        optimizer.step()
        if step == 0:
            first = early.numpy().copy()
    np.testing.assert_allclose(late.numpy(), first, rtol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_the_tensor_count_stays(device, kind):
    model = ndl.nn.Sequential(
        ndl.nn.Linear(3, 4), ndl.nn.BatchNorm1d(4), ndl.nn.ReLU(), ndl.nn.Linear(4, 2)
    ).to(device)
    optimizer = kind(model.parameters(), lr=0.01)
    x = ndl.Tensor(np.random.randn(6, 3), device=device)
    y = ndl.Tensor(np.array([0, 1, 0, 1, 0, 1]), device=device)
    counts = []
    gc.collect()  # what earlier tests left in reference cycles
    for _ in range(6):
        optimizer.reset_grad()
        ndl.nn.SoftmaxLoss()(model(x), y).backward()
        optimizer.step()
        counts.append(ndl.autograd.TENSOR_COUNTER)
    assert len(set(counts[1:])) == 1
    assert all(p.is_leaf() and p.requires_grad for p in model.parameters())
    assert all(p.grad.is_leaf() for p in model.parameters())


def test_gradients_of_another_width_are_converted(device):
    p = ndl.Tensor([1.0, 2.0], device=device, dtype="float32")
    p.grad = ndl.Tensor([1.0, 1.0], device=device, dtype="float64")
    optim.SGD([p], lr=0.5).step()
    assert p.dtype == "float32"
    np.testing.assert_allclose(p.numpy(), [0.5, 1.5])


def test_gradients_and_parameters_with_strides(device):
    p = ndl.Tensor(np.arange(6.0).reshape(2, 3), device=device)
    p.data = ndl.Tensor(np.arange(6.0).reshape(3, 2), device=device).transpose().detach()
    before = p.numpy().copy()
    p.sum().backward()  # the gradient is a broadcast view
    for kind in ALL:
        value = p.numpy().copy()
        kind([p], lr=0.5).step()
        assert (p.numpy() < value).all()
    assert before.shape == p.shape


def test_mixed_dtypes_and_devices_in_one_optimizer():
    params = [
        ndl.Tensor([1.0, 2.0], device=device, dtype=dtype)
        for device in ndl.all_devices()
        if device.enabled()
        for dtype in ("float32", "float64")
    ]
    for p in params:
        p.grad = ndl.Tensor([1.0, -1.0], device=p.device, dtype=p.dtype)
    optim.Adam(params, lr=0.1).step()
    for p in params:
        np.testing.assert_allclose(p.numpy(), [0.9, 2.1], rtol=1e-6)


# ---- groups ---------------------------------------------------------------------------------


def test_parameter_groups(device):
    a, b, c = (ndl.Tensor([1.0], device=device) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.0})
    assert [id(p) for p in optimizer.params] == [id(a), id(b), id(c)]
    for p in (a, b, c):
        p.grad = ndl.Tensor([0.5], device=device)
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [0.95, 0.5, 1.0], rtol=1e-6)
    assert optimizer.lr == 0.1
    optimizer.lr = 0.2
    assert [group["lr"] for group in optimizer.param_groups] == [0.2] * 3
    assert optimizer.momentum == 0.0


def test_parameters_given_twice_or_by_a_generator():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    optimizer = optim.SGD((p for p in (a, b, a)), lr=0.1)
    assert len(optimizer.params) == 2
    a.grad = ndl.Tensor([1.0])
    optimizer.step()
    assert a.item() == pytest.approx(0.9)


def test_a_course_style_subclass():
    class Halve(optim.Optimizer):
        def __init__(self, params, lr=0.5):
            super().__init__(params)
            self.lr = lr

        def step(self):
            for p in self.params:
                p.data = p.data - self.lr * p.grad.data

    p = ndl.Tensor([1.0, 2.0])
    optimizer = Halve([p])
    (p * p).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), [0, 0])
    optimizer.reset_grad()
    assert p.grad is None
    p.grad = ndl.Tensor([1.0, 1.0])
    with pytest.raises(NotImplementedError, match=r"\[Optimizer\]"):
        optim.Optimizer([p]).step()


# ---- state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_state_round_trip(device, kind):
    params = make_params(device)
    optimizer = kind(params, lr=0.1)
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
    state = optimizer.state_dict()
    copies = [ndl.Tensor(p.numpy(), device=device) for p in params]
    resumed = kind(copies, lr=0.7)
    resumed.load_state_dict(state)
    assert resumed.lr == 0.1
    for step in range(3, 6):
        for group, stepped in ((params, optimizer), (copies, resumed)):
            set_gradients(group, step)
            stepped.step()
    for p, copy in zip(params, copies, strict=True):
        np.testing.assert_array_equal(p.numpy(), copy.numpy())


WIDTHS = ("float16", "bfloat16", "float32", "float64")


@pytest.mark.filterwarnings("ignore:.*has no compiler")
@pytest.mark.parametrize(
    ("kind", "dtype", "compiled"),
    [
        *((kind, dtype, False) for kind in ALL for dtype in WIDTHS),
        *((optim.Adam, dtype, True) for dtype in WIDTHS[:2]),
    ],
)
def test_every_width_resumes_exactly(device, kind, dtype, compiled):
    """Moments of 16-bit parameters are float32: a resumed optimizer has all of their bits."""

    def trained(seed):
        values = np.random.RandomState(seed).randn(5, 3)
        return ndl.Tensor(values, device=device, dtype=dtype)

    def stepper(param, optimizer):
        def step(x):
            optimizer.reset_grad()
            (param * param * x).sum().backward()
            optimizer.step()

        return ndl.jit(step) if compiled else step

    xs = [ndl.Tensor(x, device=device, dtype=dtype, requires_grad=False)
          for x in np.random.RandomState(1).rand(6, 5, 3) + 0.1]  # fmt: skip
    param = trained(0)
    optimizer = kind([param], lr=0.01)
    step = stepper(param, optimizer)
    for x in xs[:3]:
        step(x)
    state = optimizer.state_dict()
    kept = {k: np.array(v) for k, v in state["state"].get(0, {}).items()}
    copy = ndl.Tensor(param.numpy(), device=device, dtype=dtype)
    resumed = kind([copy], lr=0.7)
    resumed.load_state_dict(state)
    step_resumed = stepper(copy, resumed)
    for x in xs[3:]:
        step(x)
        step_resumed(x)
    np.testing.assert_array_equal(param.numpy(), copy.numpy())
    for name, value in optimizer.state[param].items():
        np.testing.assert_array_equal(np.array(value), np.array(resumed.state[copy][name]))
    for name, value in kept.items():
        np.testing.assert_array_equal(np.array(state["state"][0][name]), value)


def test_the_state_is_a_copy_and_has_names(device):
    params = make_params(device)
    optimizer = optim.Adam(params)
    set_gradients(params, 0)
    optimizer.step()
    state = optimizer.state_dict()
    assert sorted(state["state"]) == [0, 1, 2, 3]
    assert sorted(state["state"][0]) == ["m", "step", "v"]
    assert state["state"][0]["step"] == 1
    kept = state["state"][0]["m"].numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(state["state"][0]["m"].numpy(), kept)
    assert state["param_groups"][0]["params"] == [0, 1, 2, 3]
    # Checkpoints write keys as text and moments as arrays.
    as_text = {
        "state": {
            str(i): {k: v.numpy() if isinstance(v, ndl.Tensor) else v for k, v in entry.items()}
            for i, entry in state["state"].items()
        },
        "param_groups": state["param_groups"],
    }
    other = optim.Adam(make_params(device), lr=0.9)
    other.load_state_dict(as_text)
    assert other.lr == 0.01
    np.testing.assert_array_equal(other.state[other.params[0]]["m"].numpy(), kept)


def test_a_bad_state_changes_nothing(device):
    params = make_params(device)
    optimizer = optim.Adam(params, lr=0.1)
    set_gradients(params, 0)
    optimizer.step()
    good = optimizer.state_dict()

    def broken(**changes):
        return {**good, **changes}

    wrong_shape = {0: {"step": 1, "m": np.zeros(7), "v": np.zeros((4, 3))}}
    group = good["param_groups"][0]
    for state, match in [
        ({"state": {}}, "param_groups"),
        (broken(param_groups=[]), "sizes"),
        (broken(param_groups=[{**group, "params": [0]}]), "sizes"),
        (broken(param_groups=[{**group, "momentum": 1}]), "momentum"),
        (broken(param_groups=[{**group, "lr": -1}]), r"lr must be in \[0, inf\)"),
        (broken(state=wrong_shape), r"'m' of parameter 0 has shape \(7,\), expected \(4, 3\)"),
        (broken(state={9: {}}), "parameter 9 of 4"),
    ]:
        with pytest.raises(ValueError, match=match):
            optimizer.load_state_dict(state)
    assert optimizer.lr == 0.1
    assert optimizer.state[params[0]]["m"].shape == (4, 3)


# ---- bad input ------------------------------------------------------------------------------


def one():
    return [ndl.Tensor([1.0])]


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, r"\[SGD\] lr must be in \[0, inf\), got -1", lambda: optim.SGD(one(), lr=-1)),
        (ValueError, r"\[SGD\] lr", lambda: optim.SGD(one(), lr=float("nan"))),
        (ValueError, r"\[SGD\] lr", lambda: optim.SGD(one(), lr=float("inf"))),
        (TypeError, r"\[SGD\] lr must be a number", lambda: optim.SGD(one(), lr="fast")),
        (ValueError, r"\[SGD\] momentum", lambda: optim.SGD(one(), momentum=1.0)),
        (ValueError, r"\[SGD\] nesterov", lambda: optim.SGD(one(), nesterov=True)),
        (ValueError, r"\[SGD\] dampening", lambda: optim.SGD(one(), dampening=2)),
        (ValueError, r"\[Adam\] beta1", lambda: optim.Adam(one(), beta1=1.0)),
        (ValueError, r"\[AdamW\] weight_decay", lambda: optim.AdamW(one(), weight_decay=-1)),
        (ValueError, r"\[RMSProp\] alpha", lambda: optim.RMSProp(one(), alpha=-0.1)),
        (ValueError, r"\[Adagrad\] eps", lambda: optim.Adagrad(one(), eps=-0.1)),
        (ValueError, "empty", lambda: optim.SGD([])),
        (TypeError, "iterable of Tensors", lambda: optim.SGD(one()[0])),
        (TypeError, "must be Tensors, got float", lambda: optim.SGD([1.0])),
        (TypeError, "floating-point", lambda: optim.SGD([ndl.Tensor(np.array([1]))])),
        (ValueError, "unknown options", lambda: optim.SGD([{"params": one(), "beta1": 0.1}])),
        (TypeError, "'params'", lambda: optim.SGD([{"lr": 0.1}])),
    ],
)
def test_bad_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_bad_settings_later():
    optimizer = optim.SGD(one())
    with pytest.raises(ValueError, match="lr"):
        optimizer.lr = -1
    assert optimizer.lr == 0.01
    p = optimizer.params[0]
    with pytest.raises(ValueError, match="two parameter groups"):
        optimizer.add_param_group({"params": [p]})


def test_gradients_that_do_not_fit_update_nothing(device):
    a, b = (ndl.Tensor([1.0, 2.0], device=device) for _ in range(2))
    optimizer = optim.Adam([a, b])
    a.grad = ndl.Tensor([1.0, 1.0], device=device)
    b.grad = ndl.Tensor([1.0], device=device)
    with pytest.raises(ValueError, match=r"shape \(2,\) has a gradient of shape \(1,\)"):
        optimizer.step()
    b.grad = np.ones(2)
    with pytest.raises(TypeError, match="grad must be a Tensor"):
        optimizer.step()
    np.testing.assert_array_equal(a.numpy(), [1, 2])


def test_parameters_that_changed_under_the_optimizer(device):
    p = ndl.Tensor([1.0, 2.0], device=device)
    optimizer = optim.Adam([p])
    p.grad = ndl.Tensor([1.0, 1.0], device=device)
    optimizer.step()
    p.data = ndl.Tensor([1.0, 2.0, 3.0], device=device)
    p.grad = ndl.Tensor([1.0, 1.0, 1.0], device=device)
    with pytest.raises(ValueError, match="the state 'm'"):
        optimizer.step()
