"""Every optimizer with every option against PyTorch over twelve steps, eager and compiled."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import differences, optim

torch = pytest.importorskip("torch")

SHAPES = [(4, 3), (5,), (2, 2, 3, 4), ()]
MATRICES = [(4, 3), (3, 5), (6, 6)]
STEPS = 12

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "maximize": True, "foreach": False, "fused": False}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True}),
    ("RMSprop", {"lr": 0.1, "centered": True, "momentum": 0.8, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "maximize": True}),
    ("NAdam", {"lr": 0.1}),
    ("NAdam", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "momentum_decay": 0.02}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.1}),
    ("RAdam", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adadelta", {"lr": 0.9, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "t0": 3, "weight_decay": 0.1}),
    ("Rprop", {"lr": 0.1}),
    ("Rprop", {"lr": 0.1, "etas": (0.4, 1.3), "step_sizes": (0.01, 0.2)}),
    ("Adafactor", {"lr": 0.1}),
    ("Adafactor", {"lr": 0.5, "beta2_decay": -0.6, "d": 1.5, "weight_decay": 0.1}),
]
NAMES = [f"{name}-{'-'.join(f'{k}={v}' for k, v in options.items())}" for name, options in CASES]


def gradient(shape: tuple[int, ...], step: int) -> np.ndarray:
    return np.array(np.random.RandomState(100 + step).randn(*shape) + 0.2)


def expected(name: str, options: dict[str, Any], dtype: str) -> list[np.ndarray]:
    rng = np.random.RandomState(0)
    params = [torch.tensor(np.array(rng.randn(*s), dtype), requires_grad=True) for s in SHAPES]
    optimizer = getattr(torch.optim, name)(params, **options)
    for step in range(STEPS):
        for p in params:
            p.grad = p.detach().new_tensor(gradient(tuple(p.shape), step))
        optimizer.step()
    return [p.detach().numpy() for p in params]


def make_params(device: ndl.Device, dtype: str = "float32") -> list[ndl.Tensor]:
    rng = np.random.RandomState(0)
    return [ndl.Tensor(np.array(rng.randn(*s), dtype), device=device, dtype=dtype) for s in SHAPES]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_is_pytorchs(device: ndl.Device, name: str, options: dict[str, Any], dtype: str) -> None:
    params = make_params(device, dtype)
    optimizer = getattr(optim, name)(params, **options)
    for step in range(STEPS):
        for p in params:
            p.grad = ndl.Tensor(gradient(p.shape, step), device=device, dtype=dtype)
        optimizer.step()
    # PyTorch keeps NAdam's product of momenta and ASGD's rate in float32.
    exact_rates = dtype == "float64" and name not in ("NAdam", "ASGD")
    tolerance = 1e-11 if exact_rates else 2e-5
    for p, exact in zip(params, expected(name, options, dtype), strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.numpy(), exact, rtol=tolerance, atol=tolerance)


def test_compiled_and_resumed() -> None:
    """All optimizers in one program; half of the steps are those of a resumed copy."""

    def trained() -> tuple[list[list[ndl.Tensor]], list[optim.Optimizer]]:
        params = [make_params(ndl.default_device()) for _ in CASES]
        pairs = zip(CASES, params, strict=True)
        return params, [getattr(optim, name)(p, **options) for (name, options), p in pairs]

    def compiled(params: list[list[ndl.Tensor]], optimizers: list[optim.Optimizer]) -> Any:
        def step(gradients: list[ndl.Tensor]) -> None:
            for group in params:
                for p, g in zip(group, gradients, strict=True):
                    p.grad = g
            for optimizer in optimizers:
                optimizer.step()

        return ndl.jit(step)

    def run(step: Any, numbers: range) -> None:
        for number in numbers:
            step([ndl.Tensor(gradient(s, number), requires_grad=False) for s in SHAPES])

    params, optimizers = trained()
    run(compiled(params, optimizers), range(STEPS // 2))
    resumed, others = trained()
    for group, copied, optimizer, other in zip(params, resumed, optimizers, others, strict=True):
        for p, q in zip(group, copied, strict=True):
            q.data = p.data
        other.load_state_dict(optimizer.state_dict())
    run(compiled(resumed, others), range(STEPS // 2, STEPS))
    for (name, options), group in zip(CASES, resumed, strict=True):
        for p, exact in zip(group, expected(name, options, "float32"), strict=True):
            np.testing.assert_allclose(p.numpy(), exact, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("options", [
    {"lr": 0.1}, {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"},
])  # fmt: skip
def test_muon(device: ndl.Device, options: dict[str, Any]) -> None:
    """PyTorch iterates in bfloat16, on weights (out, in); needle's are (in, out)."""
    rng = np.random.RandomState(0)
    values = [rng.randn(*shape).astype("float32") for shape in MATRICES]
    params = [ndl.Tensor(v, device=device) for v in values]
    peers = [torch.tensor(v.T.copy(), requires_grad=True) for v in values]
    ours, theirs = optim.Muon(params, **options), torch.optim.Muon(peers, **options)
    for step in range(5):
        for p, peer in zip(params, peers, strict=True):
            g = gradient(p.shape, step).astype("float32")
            p.grad, peer.grad = ndl.Tensor(g, device=device), torch.tensor(g.T.copy())
        ours.step()
        theirs.step()
    for p, peer in zip(params, peers, strict=True):
        np.testing.assert_allclose(p.numpy(), peer.detach().numpy().T, atol=0.02)


@pytest.mark.parametrize("compiled", [False, True])
def test_muon_with_adamw_is_each_on_its_groups(compiled: bool) -> None:
    def trained(make: Any) -> list[np.ndarray]:
        np.random.seed(0)
        model = ndl.nn.Sequential(ndl.nn.Embedding(7, 4), ndl.nn.Linear(4, 6), ndl.nn.LayerNorm(6))
        optimizers = make(model)
        ids = ndl.Tensor(np.arange(7), requires_grad=False)

        def step() -> ndl.Tensor:
            model.zero_grad()
            loss = (model(ids) ** 3).sum()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss

        run = ndl.jit(step) if compiled else step
        for _ in range(4):
            for optimizer in optimizers:
                optimizer.lr *= 0.9
            run()
        return [p.numpy() for p in model.parameters()]

    def apart(model: ndl.nn.Module) -> list[optim.Optimizer]:
        embedding, matrix, *rest = model.parameters()
        groups = [{"params": [embedding]}, {"params": rest, "weight_decay": 0.0}]
        muon = optim.Muon(
            [matrix], lr=0.1, weight_decay=0.2, eps=1e-8, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, optim.AdamW(groups, lr=0.1, weight_decay=0.2)]

    def together(model: ndl.nn.Module) -> list[optim.Optimizer]:
        return [optim.MuonWithAdamW(optim.muon_groups(model), lr=0.1, weight_decay=0.2)]

    for got, wanted in zip(trained(together), trained(apart), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_lion(device: ndl.Device) -> None:
    p = ndl.Tensor([1.0, -2.0, 0.5], device=device, dtype="float64")
    optimizer = optim.Lion([p], lr=0.1, betas=(0.8, 0.9), weight_decay=0.5)
    value, m = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    for step in range(STEPS):
        g = gradient((3,), step)
        p.grad = ndl.Tensor(g, device=device, dtype="float64")
        optimizer.step()
        value = value * (1 - 0.1 * 0.5) - 0.1 * np.sign(0.8 * m + 0.2 * g)
        m = 0.9 * m + 0.1 * g
        np.testing.assert_allclose(p.numpy(), value, rtol=1e-12)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs(device: ndl.Device, search: str | None) -> None:
    start = np.array([-1.2, 1.0, 0.5])
    options = {"lr": 1.0 if search else 1e-3, "line_search_fn": search, "history_size": 4}

    def rosenbrock(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    x = ndl.Tensor(start, device=device, dtype="float64")
    y = torch.tensor(start, requires_grad=True)
    ours, theirs = optim.LBFGS([x], **options), torch.optim.LBFGS([y], **options)

    def closure_of(optimizer: Any, point: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = rosenbrock(point)
            loss.backward()
            return loss

        return closure

    for _ in range(2):
        loss = ours.step(closure_of(ours, x))
        peer = theirs.step(closure_of(theirs, y))
        np.testing.assert_allclose(loss.item(), peer.item(), rtol=1e-6)
        np.testing.assert_allclose(x.numpy(), y.detach().numpy(), rtol=1e-6)
    again = optim.LBFGS([ndl.Tensor(x.numpy(), device=device, dtype="float64")], **options)
    again.load_state_dict(pickle.loads(pickle.dumps(ours.state_dict())))
    ours.step(closure_of(ours, x))
    again.step(closure_of(again, again.params[0]))
    np.testing.assert_array_equal(x.numpy(), again.params[0].numpy())
    with pytest.raises(RuntimeError, match="compile the closure"):
        ndl.jit(lambda: ours.step(closure_of(ours, x)))()


# ---- options ------------------------------------------------------------------------------------


def test_a_closure_is_called_first(device: ndl.Device) -> None:
    p = ndl.Tensor([1.0], device=device)
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> ndl.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with ndl.no_grad():
        loss = optimizer.step(closure)
    assert loss is not None
    assert loss.item() == 1.0
    assert p.item() == 0.5


def test_zero_grad_may_keep_the_gradients(device: ndl.Device) -> None:
    p, q = ndl.Tensor([1.0], device=device), ndl.Tensor([1.0], device=device)
    p.grad = ndl.Tensor([2.0], device=device)
    optimizer = optim.SGD([p, q], lr=0.1)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0
    assert q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_momentum_that_is_not_pytorchs_is_told_to_who_uses_its_names() -> None:
    differences.forget_told()
    p = ndl.Tensor([1.0])
    optim.SGD([p], momentum=0.9).reset_grad()  # a course program hears nothing
    for options in ({"momentum": 0.9, "dampening": 0.0}, {"momentum": 0.9, "nesterov": True}, {}):
        optim.SGD([p], lr=0.1, **options).zero_grad()
    with pytest.warns(ndl.DifferenceWarning, match=r"dampening=0\.0"):
        optim.SGD([p], lr=0.1, momentum=0.9).zero_grad()
    optim.SGD([p], lr=0.1, momentum=0.9).zero_grad()  # once a process


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_rate_that_is_not_pytorchs_is_told_to_who_uses_its_names(name: str) -> None:
    differences.forget_told()
    make, p = getattr(optim, name), ndl.Tensor([1.0])
    assert make([p]).lr == make([p]).defaults["lr"] == 0.01
    make([p]).reset_grad()  # a course program hears nothing
    make([p], lr=0.01).zero_grad()
    make([{"params": [p], "lr": 0.5}]).zero_grad()
    optim.lr_scheduler.LambdaLR(scheduled := make([p]), lambda step: 0.5)
    scheduled.zero_grad()
    with pytest.warns(ndl.DifferenceWarning, match=r"0\.001 in PyTorch") as told:
        make([p]).zero_grad()
    assert told[0].filename == __file__
    make([p]).zero_grad()  # once a process


def test_an_optimizer_prints_its_groups() -> None:
    a, b = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    shown = repr(optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], lr=0.25, momentum=0.9))
    assert shown.startswith("SGD (\nParameter Group 0\n    dampening: ")
    assert "    lr: 0.5\n    maximize: False\n    momentum: 0.9\n" in shown
    assert "Parameter Group 1\n" in shown
    assert "    lr: 0.25\n" in shown


def test_groups_have_decays_of_their_own() -> None:
    a, b = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    groups = [{"params": [a], "betas": (0.5, 0.6)}, {"params": [b], "amsgrad": True}]
    optimizer = optim.Adam(groups, lr=0.1, betas=(0.7, 0.8))
    assert [(g["beta1"], g["beta2"]) for g in optimizer.param_groups] == [(0.5, 0.6), (0.7, 0.8)]
    assert optim.Adam([a], 0.1, (0.3, 0.4)).beta2 == 0.4


def test_a_state_of_before_an_option_loads() -> None:
    p = ndl.Tensor([1.0])
    state = optim.Adam([p]).state_dict()
    for option in ("amsgrad", "maximize"):
        del state["param_groups"][0][option]
    optim.Adam([p]).load_state_dict(state)


P = [ndl.Tensor([1.0])]


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "differentiable", lambda: optim.Adam(P, differentiable=True)),
        (ValueError, "differentiable", lambda: optim.RAdam(P, differentiable=True)),
        (TypeError, "betas", lambda: optim.NAdam(P, betas=0.9)),
        (ValueError, "beta2", lambda: optim.Adamax(P, betas=(0.9, 1.0))),
        (ValueError, "rho", lambda: optim.Adadelta(P, rho=1.0)),
        (ValueError, "etas", lambda: optim.Rprop(P, etas=(1.2, 0.5))),
        (ValueError, "matrices", lambda: optim.Muon(P)),
        (ValueError, "matrices", lambda: optim.MuonWithAdamW([{"params": P, "muon": True}])),
        (ValueError, "adjust_lr_fn", lambda: optim.Muon(P, adjust_lr_fn="mean")),
        (ValueError, r"\bd\b", lambda: optim.Adafactor(P, d=0.5)),
        (ValueError, "line_search_fn", lambda: optim.LBFGS(P, line_search_fn="armijo")),
        (TypeError, "closure", lambda: optim.LBFGS(P).step()),
        (ValueError, "one parameter group", lambda: optim.LBFGS(
            [{"params": P}, {"params": [ndl.Tensor([1.0])]}])),
    ],
)  # fmt: skip
def test_wrong_arguments(error: type[Exception], match: str, call: Any) -> None:
    with pytest.raises(error, match=match):
        call()


# ---- clipping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_clip_grad_norm_(norm_type: float, max_norm: float, compiled: bool) -> None:
    params = make_params(ndl.default_device())
    peers = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    for p, peer in zip(params, peers, strict=True):
        p.grad = ndl.Tensor(gradient(p.shape, 0).astype("float32"))
        peer.grad = torch.tensor(p.grad.numpy())

    def clip() -> ndl.Tensor:
        return optim.clip_grad_norm_(params, max_norm, norm_type)

    norm = (ndl.jit(clip) if compiled else clip)()
    exact = torch.nn.utils.clip_grad_norm_(peers, max_norm, norm_type)
    np.testing.assert_allclose(norm.numpy(), exact.numpy(), rtol=1e-5)
    for p, peer in zip(params, peers, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), peer.grad.numpy(), rtol=1e-5)


def test_a_norm_that_is_not_finite() -> None:
    p = ndl.Tensor([1.0])
    p.grad = ndl.Tensor([np.inf])
    with pytest.raises(RuntimeError, match="norm of the gradients is inf"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    optim.clip_grad_value_(p, 2.0)
    assert p.grad.item() == 2.0


# ---- averages of weights ------------------------------------------------------------------------


def batch_norm_net() -> ndl.nn.Module:
    return ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.BatchNorm1d(4), ndl.nn.Linear(4, 2))


def test_averaged_models() -> None:
    model = batch_norm_net()
    mean = optim.swa_utils.AveragedModel(model)
    tools = optim.swa_utils
    moving = tools.AveragedModel(model, avg_fn=tools.get_ema_avg_fn(0.75))
    listed = tools.AveragedModel(model, "cpu", multi_avg_fn=tools.get_ema_multi_avg_fn(0.75))
    with pytest.raises(ValueError, match="avg_fn or multi_avg_fn"):
        tools.AveragedModel(
            model, avg_fn=tools.get_swa_avg_fn(), multi_avg_fn=tools.get_swa_multi_avg_fn()
        )
    history = []
    for step in range(4):
        for p in model.parameters():
            p.data = ndl.Tensor(gradient(p.shape, step).astype("float32"))
        history.append([p.numpy().copy() for p in model.parameters()])
        mean.update_parameters(model)
        moving.update_parameters(model)
        listed.update_parameters(model)
    ema = copy.deepcopy(history[0])
    for values in history[1:]:
        ema = [0.75 * a + 0.25 * v for a, v in zip(ema, values, strict=True)]
    for i, (p, q) in enumerate(zip(mean.parameters(), moving.parameters(), strict=True)):
        np.testing.assert_allclose(p.numpy(), np.mean([h[i] for h in history], 0), rtol=1e-5)
        np.testing.assert_allclose(q.numpy(), ema[i], rtol=1e-5)
    for p, q in zip(listed.parameters(), moving.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert mean.n_averaged.item() == 4
    batches = [ndl.Tensor(gradient((8, 3), step)) for step in range(3)]
    mean.eval()
    optim.swa_utils.update_bn([(x, None) for x in batches], mean)
    assert not mean.module.training
    inputs = [mean.module.modules[0](x).numpy() for x in batches]
    np.testing.assert_allclose(
        mean.module.modules[1].running_mean.numpy(), np.mean([x.mean(0) for x in inputs], 0),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_betas_of_a_group_are_a_pair():
    """As PyTorch programs read and change them, also between calls of a compiled step."""
    draws = np.random.RandomState(0).randn(6, 3).astype("float32")
    results = []
    for compiled in (False, True):
        p = ndl.nn.Parameter(np.ones(3, "float32"))
        optimizer = optim.AdamW([p], lr=0.1, betas=(0.7, 0.9))
        group = optimizer.param_groups[0]
        assert group["betas"] == group.get("betas") == (0.7, 0.9)
        assert "betas" in group
        assert group.get("momentum", 3) == 3

        def step(x, p=p, optimizer=optimizer):
            optimizer.zero_grad()
            (p * x).sum().backward()
            optimizer.step()

        run = ndl.jit(step) if compiled else step
        for i, x in enumerate(draws):
            if i == 3:
                group["betas"] = (0.5, 0.8)
                assert optimizer.beta1 == 0.5
            run(ndl.tensor(x))
        other = optim.AdamW([p], lr=0.1)
        other.load_state_dict(optimizer.state_dict())
        assert other.param_groups[0]["betas"] == (0.5, 0.8)
        results.append(p.numpy())
    peer = torch.ones(3, requires_grad=True)
    theirs = torch.optim.AdamW([peer], lr=0.1, betas=(0.7, 0.9))
    for i, x in enumerate(draws):
        if i == 3:
            theirs.param_groups[0]["betas"] = (0.5, 0.8)
        peer.grad = torch.tensor(x)
        theirs.step()
    assert "betas" not in optim.SGD([p]).param_groups[0]
    with pytest.raises(KeyError):
        optim.SGD([p]).param_groups[0]["betas"]
    for result in results:
        np.testing.assert_allclose(result, peer.detach().numpy(), rtol=1e-4)
