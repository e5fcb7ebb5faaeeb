"""autocast and GradScaler: dtypes, gradients, compiled functions, training."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import needle as ndl
from needle import amp, models, nn, ops, optim

RNG = np.random.RandomState(0)
native = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")


def randn(*shape: int, dtype: str = "float32", device: ndl.Device | None = None) -> ndl.Tensor:
    return ndl.Tensor(RNG.randn(*shape), dtype=dtype, device=device)


# ---- dtypes -----------------------------------------------------------------------------------

PAIR = ((3, 4), (4, 5))
SAME = ((3, 4), (3, 4))
IMAGE = ((2, 5, 5, 3), (3, 3, 3, 4))
HEADS = ((1, 2, 3, 4),) * 3
# What needle and PyTorch compute, and the shapes of the inputs. Inputs are float32 but the first,
# which is the result of a product.
AGAINST_TORCH = {
    "matmul": (lambda t, a, b: a @ b, PAIR),
    "linear": (lambda t, x, w, b: t.linear(x, w, b), ((3, 4), (4, 5), (5,))),
    "conv": (lambda t, x, w: t.conv(x, w), IMAGE),
    "attention": (lambda t, q, k, v: t.scaled_dot_product_attention(q, k, v), HEADS),
    "add": (lambda t, a, b: a + b, SAME),
    "multiply": (lambda t, a, b: a * b, SAME),
    "add number": (lambda t, a: a + 1.5, ((3, 4),)),
    "relu": (lambda t, a: t.relu(a), ((3, 4),)),
    "tanh": (lambda t, a: t.tanh(a), ((3, 4),)),
    "gelu": (lambda t, a: t.gelu(a), ((3, 4),)),
    "silu": (lambda t, a: t.silu(a), ((3, 4),)),
    "sigmoid": (lambda t, a: t.sigmoid(a), ((3, 4),)),
    "max": (lambda t, a: t.max(a), ((3, 4),)),
    "prod": (lambda t, a: t.prod(a), ((3, 4),)),
    "where": (lambda t, a, b: t.where(a > 0, a, b), SAME),
}


class _Torch:
    """PyTorch's functions under needle's names."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")

    def __getattr__(self, name: str):
        functional = self.torch.nn.functional
        return getattr(self.torch, name, None) or getattr(functional, name)

    def linear(self, x, w, b):
        return self.torch.nn.functional.linear(x, w.T, b)

    def conv(self, x, w):
        return self.torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_dtypes_are_those_of_torch(name, stored):
    theirs, (run, shapes) = _Torch(), AGAINST_TORCH[name]
    torch, arrays = theirs.torch, [RNG.randn(*shape) for shape in shapes]
    ours = [ndl.Tensor(x, dtype="float32") for x in arrays]
    peers = [torch.tensor(x, dtype=torch.float32) for x in arrays]
    if stored:
        ours[0], peers[0] = ours[0].astype("bfloat16"), peers[0].bfloat16()
    with amp.autocast("bfloat16"):
        result = run(ops, *ours)
    with torch.autocast("cpu", torch.bfloat16):
        expected = run(theirs, *peers)
    assert f"torch.{result.dtype}" == str(expected.dtype)


# PyTorch's list for CUDA, where most of what sums or exponentiates is float32.
@pytest.mark.parametrize(
    "function",
    [
        ndl.exp, ops.expm1, ndl.log, ops.log1p, ops.rsqrt, lambda x: x**2, lambda x: 2**x,
        lambda x: x**x, lambda x: 1 / x, ops.summation, ops.mean, ops.var, ops.std, ops.norm,
        ops.softmax, ops.log_softmax, ops.logsumexp, ops.softplus, lambda x: ops.cumsum(x, 0),
        lambda x: ops.cross_entropy(x, np.array([0, 1, 2])), lambda x: nn.LayerNorm(4)(x),
        lambda x: nn.BatchNorm1d(4)(x), lambda x: nn.MSELoss()(x, x * 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_sums_and_exponentials_are_float32(function, stored):
    x = ndl.Tensor(RNG.rand(3, 4) + 0.5, dtype=stored)
    with amp.autocast(stored):
        result = function(x)
    assert result.dtype == "float32"
    expected = function(x.astype("float32"))
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_integers_and_float64_are_left_alone():
    a, n = randn(3, 3, dtype="float64"), ndl.Tensor(np.arange(9).reshape(3, 3), dtype="int32")
    with amp.autocast():
        assert (a @ a).dtype == ops.softmax(a).dtype == "float64"
        assert n.sum().dtype == "int64"
        assert (n @ n).dtype == "int32"


@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers(layer, device):
    module = getattr(nn, layer)(3, 4, num_layers=2, device=device)
    x = randn(5, 2, 3, device=device)
    expected = module(x)[0].numpy()
    with amp.autocast("bfloat16"):
        output = module(x)[0]
    np.testing.assert_allclose(output.numpy(), expected, atol=0.03)
    output.sum().backward()
    assert all(p.grad.dtype == "float32" for p in module.parameters())


def test_parameters_and_gradients_stay_float32(device):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, device=device), nn.BatchNorm2d(4, device=device), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 36, 5, device=device),
    )  # fmt: skip
    x = randn(2, 1, 6, 6, device=device)
    with amp.autocast("float16"):
        loss = nn.CrossEntropyLoss()(model(x), np.array([1, 3]))
    loss.backward()
    assert loss.dtype == "float32"
    assert all(p.dtype == p.grad.dtype == "float32" for p in model.parameters())
    assert x.grad.dtype == "float32"


def test_the_gradient_does_not_depend_on_where_backward_is_called():
    w, x = randn(6, 4), randn(5, 6)
    gradients = []
    for inside in (False, True):
        with amp.autocast("bfloat16"):
            loss = (ops.tanh(x @ w) ** 2).sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        gradients.append(w.grad.numpy())
    np.testing.assert_array_equal(*gradients)
    second = ndl.grad((ndl.grad(ops.tanh(x @ w).sum(), [w])[0] ** 2).sum(), [w])[0]
    with amp.autocast("bfloat16"):
        y = ops.tanh(x @ w).sum()
    second_low = ndl.grad((ndl.grad(y, [w])[0] ** 2).sum(), [w])[0]
    np.testing.assert_allclose(second_low.numpy(), second.numpy(), rtol=0.2, atol=0.2)


# ---- the context --------------------------------------------------------------------------------


def product() -> str:
    a = randn(2, 2)
    return str((a @ a).dtype)


def test_contexts_nest_and_end():
    with amp.autocast("bfloat16"):
        with amp.autocast("float16"):
            assert product() == "float16"
            with amp.autocast(enabled=False):
                assert product() == "float32"
            assert product() == "float16"
        assert product() == "bfloat16"
    assert product() == "float32"
    context = amp.autocast()
    with context, context:
        assert product() == "bfloat16"
    with pytest.raises(ZeroDivisionError), amp.autocast():
        1 / 0  # noqa: B018
    assert product() == "float32"


def test_as_a_decorator():
    assert amp.autocast("float16")(product)() == "float16"
    assert amp.autocast("float16")(product).__name__ == "product"
    assert product() == "float32"


def test_another_thread_has_its_own_mode():
    seen = []
    with amp.autocast():
        thread = threading.Thread(target=lambda: seen.append(product()))
        thread.start()
        thread.join()
    assert seen == ["float32"]


@pytest.mark.parametrize("device", [ndl.cpu_numpy()], ids=str)
def test_lazy_values_run_as_they_were_asked_for(device, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    q = randn(1, 1, 3, 4, device=device)
    with amp.autocast("bfloat16"):
        low = q @ q.transpose()
    wide = ops.scaled_dot_product_attention(q, q, q)
    with amp.autocast("bfloat16"):
        exact = wide.numpy()
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", False)
    assert low.dtype == "bfloat16"
    expected = ops.scaled_dot_product_attention(q, q, q).numpy()
    np.testing.assert_array_equal(exact, expected)


@pytest.mark.parametrize("dtype", ["float32", "int8", "gpu", np.float64])
def test_unknown_dtypes(dtype):
    with pytest.raises(ValueError, match=r"\[autocast\] dtype must be 'bfloat16' or 'float16'"):
        amp.autocast(dtype)


# ---- functions that run again, and compiled ones ------------------------------------------------


def test_a_checkpoint_runs_again_as_it_ran():
    w, x, dtypes = randn(4, 4), randn(3, 4), []

    def block(x: ndl.Tensor) -> ndl.Tensor:
        y = ops.relu(x @ w)
        dtypes.append(str(y.dtype))
        return y @ w

    gradients = []
    for function in (block, ndl.checkpoint(block)):
        with amp.autocast("bfloat16"):
            loss = function(x).sum()
        loss.backward()
        gradients.append((x.grad.numpy(), w.grad.numpy()))
    assert dtypes == ["bfloat16"] * 3
    for plain, checkpointed in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, checkpointed)


def test_a_scan_is_differentiated_as_it_ran():
    w, xs, h = randn(4, 4), randn(5, 2, 4), randn(2, 4)

    def loss() -> ndl.Tensor:
        with amp.autocast("bfloat16"):
            last, _ = ndl.scan(lambda h, x: ((ops.tanh(h @ w) + x).astype("float32"), x), h, xs)
        value = last.sum()
        value.backward()
        return value

    results = []
    for function in (loss, ndl.jit(loss)):
        value = function()
        results.append((value.numpy(), w.grad.numpy(), xs.grad.numpy()))
    for eager, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=2e-2, atol=2e-2)


@native
def test_a_compiled_function_has_a_program_for_each_dtype():
    a = randn(8, 8)
    f = ndl.jit(lambda a: a @ a)
    dtypes = []
    for _ in range(2):
        for context in (amp.autocast("bfloat16"), amp.autocast("float16"), ndl.enable_grad()):
            with context:
                dtypes.append(str(f(a).dtype))
    assert dtypes == ["bfloat16", "float16", "float32"] * 2
    assert f.compilations == 3


@native
def test_compiled_steps_pass_the_check(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "check")
    x, y = randn(64, 16), ndl.Tensor(RNG.randint(0, 10, 64), dtype="int64")
    train(mlp, x, y, "bfloat16", True, 3)


# ---- training -----------------------------------------------------------------------------------


def train(make, x, y, dtype: str | None, compiled: bool, steps: int) -> float:
    np.random.seed(0)
    model = make()
    optimizer, loss_fn = optim.AdamW(model.parameters(), lr=5e-3), nn.CrossEntropyLoss()

    def step(x, y):
        with amp.autocast(dtype or "bfloat16", enabled=dtype is not None):
            logits = model(x)
            loss = loss_fn(logits.reshape((-1, logits.shape[-1])), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = ndl.jit(step) if compiled else step
    for _ in range(steps):
        loss = run(x, y)
    assert loss.dtype == "float32"
    assert all(p.dtype == "float32" for p in model.parameters())
    return loss.item()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))


def gpt() -> nn.Module:
    return models.GPT(17, 16, width=32, num_layers=2, num_heads=2)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=native)])
@pytest.mark.parametrize("kind", ["mlp", "gpt"])
def test_training_reaches_the_loss_of_float32(kind, compiled):
    rng = np.random.RandomState(1)
    if kind == "mlp":
        x = ndl.Tensor(rng.randn(128, 16), requires_grad=False)
        y, make = rng.randint(0, 10, 128), mlp
    else:
        x = ndl.Tensor(rng.randint(0, 17, (8, 16)), dtype="int64")
        y, make = rng.randint(0, 17, 128), gpt
    labels = ndl.Tensor(y, dtype="int64")
    first = train(make, x, labels, None, compiled, 1)
    wide = train(make, x, labels, None, compiled, 40)
    low = train(make, x, labels, "bfloat16", compiled, 40)
    assert wide < 0.7 * first
    assert abs(low - wide) < 0.05 * first


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW, optim.RMSProp, optim.Adagrad])
def test_parameters_of_16_bits_are_updated_in_float32(make, dtype, device):
    start, slope = RNG.randn(8), RNG.randn(8)
    stored = ndl.Tensor(start, dtype=dtype, device=device)
    wide = ndl.Tensor(stored.numpy(), dtype="float32", device=device)
    for p in (stored, wide):
        optimizer = make([p], lr=0.1)
        (p * ndl.Tensor(slope, dtype=dtype, device=device).astype(p.dtype)).sum().backward()
        optim.clip_grad_norm([p], 1e9)
        optimizer.step()
        kept = [x for x in optimizer.state[p].values() if isinstance(x, ndl.Tensor)]
        assert all(x.dtype == "float32" for x in kept)
        optimizer.step()
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored.numpy(), wide.numpy(), rtol=2e-2, atol=2e-2)


def test_a_model_of_16_bits(device):
    model = models.GPT(17, 16, width=32, num_layers=1, num_heads=2, dropout=0.1, device=device)
    tokens = ndl.Tensor(RNG.randint(0, 17, (2, 16)), dtype="int64", device=device)
    out = model.to("bfloat16")(tokens)
    out.sum().backward()
    assert out.dtype == "bfloat16"
    assert all(p.grad.dtype == "bfloat16" for p in model.parameters())


# ---- GradScaler ---------------------------------------------------------------------------------


def parameter(value: float = 1.0) -> ndl.Tensor:
    return ndl.Tensor(np.full(3, value, "float32"))


def test_steps_are_those_without_scaling():
    x = RNG.randn(3).astype("float32")
    results = []
    for enabled in (True, False):
        p = parameter()
        optimizer, scaler = optim.Adam([p], lr=0.1), amp.GradScaler(enabled=enabled)
        for _ in range(3):
            optimizer.reset_grad()
            scaler.scale((p * p * ndl.Tensor(x)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append(p.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_against_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = parameter(), torch.ones(3, requires_grad=True)
    options = dict(init_scale=8.0, growth_interval=2)
    scaler, peer = amp.GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    optimizer = optim.SGD([ours], lr=0.1)
    peer_optimizer = torch.optim.SGD([theirs], lr=0.1)
    for factor in (1.0, 2.0, np.inf, 1.0, np.nan, 1.0, 3.0, 1.0, 1.0):
        optimizer.reset_grad()
        peer_optimizer.zero_grad()
        scaler.scale((ours * float(factor)).sum()).backward()
        peer.scale((theirs * float(factor)).sum()).backward()
        scaler.step(optimizer)
        peer.step(peer_optimizer)
        scaler.update()
        peer.update()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-6)
        assert scaler.get_scale() == peer.get_scale()
        assert scaler.state_dict() == peer.state_dict()


def test_a_skipped_step_leaves_everything_as_it_was():
    p = parameter()
    optimizer, scaler = optim.Adam([p], lr=0.1), amp.GradScaler(init_scale=4.0)

    def step(factor: float) -> None:
        optimizer.reset_grad()
        scaler.scale((p * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(1.0)
    before = p.numpy(), {k: np.array(v) for k, v in optimizer.state[p].items()}
    step(float("inf"))
    np.testing.assert_array_equal(p.numpy(), before[0])
    for name, value in before[1].items():
        np.testing.assert_array_equal(np.array(optimizer.state[p][name]), value)
    assert scaler.get_scale() == 2.0
    step(1.0)
    assert optimizer.state[p]["step"] == 2
    assert np.isfinite(p.numpy()).all()


def test_clipping_between_unscale_and_step():
    p = parameter(3.0)
    optimizer, scaler = optim.SGD([p], lr=1.0), amp.GradScaler()
    scaler.scale((p * 10).sum()).backward()
    scaler.unscale_(optimizer)
    optim.clip_grad_norm([p], 1.0)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(p.numpy(), 3 - 1 / np.sqrt(3), rtol=1e-5)


def test_float16_keeps_small_gradients():
    x, w = ndl.Tensor(np.full((1, 4), 1e-4)), ndl.Tensor(np.full((4, 1), 1e-4))
    found = []
    for scaler in (amp.GradScaler(enabled=False), amp.GradScaler()):
        w.grad = None
        with amp.autocast("float16"):
            loss = ops.relu(x @ w).astype("float32").sum() * 1e-4
        scaler.scale(loss).backward()
        scaler.unscale_(optim.SGD([w]))
        found.append(w.grad.numpy())
    assert (found[0] == 0).all()  # 1e-8 is below the smallest float16
    np.testing.assert_allclose(found[1], 1e-8, rtol=1e-2)


@native
def test_the_scale_of_a_compiled_function_moves():
    p = parameter()
    optimizer, scaler = optim.SGD([p], lr=0.1), amp.GradScaler(init_scale=4.0)

    @ndl.jit
    def backward() -> None:
        optimizer.reset_grad()
        scaler.scale((p * p).sum()).backward()

    for scale in (4.0, 32.0):
        scaler._scale = scale
        before = p.numpy()
        backward()
        np.testing.assert_allclose(p.grad.numpy(), 2 * before * scale, rtol=1e-6)
        scaler.step(optimizer)
        scaler.update()
        np.testing.assert_allclose(p.numpy(), before - 0.2 * before, rtol=1e-6)
    assert backward.compilations == 1

    @ndl.jit
    def whole_step() -> None:
        backward._function()
        scaler.step(optimizer)

    with pytest.raises(RuntimeError, match=r"\[GradScaler\] .* compile the function up to"):
        whole_step()


def test_saving_a_scaler():
    scaler, p = amp.GradScaler(init_scale=4.0, growth_interval=3), parameter()
    optimizer = optim.SGD([p])
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    other = amp.GradScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    with pytest.raises(ValueError, match=r"the state has no .*'growth_factor'"):
        other.load_state_dict({"scale": 1.0})
    assert amp.GradScaler(enabled=False).state_dict() == {}


def test_errors_of_the_scaler():
    p = parameter()
    optimizer, scaler = optim.SGD([p]), amp.GradScaler()
    with pytest.raises(RuntimeError, match="update needs a step"):
        scaler.update()
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="called already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="called already"):
        scaler.step(optimizer)
    with pytest.raises(TypeError, match="scale needs Tensors, got float"):
        scaler.scale(1.0)
    for options in (
        {"init_scale": 0}, {"growth_factor": 1}, {"backoff_factor": 1}, {"growth_interval": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            amp.GradScaler(**options)
