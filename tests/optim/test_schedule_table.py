"""Every schedule against PyTorch over 50 steps with two groups, eager and inside compiled steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import needle as ndl
from needle import optim
from needle.differences import forget_told
from needle.optim import lr_scheduler

torch = pytest.importorskip("torch")

STEPS = 50
RATES = (0.5, 0.02)
Make = Callable[[Any, Any], Any]

CASES: dict[str, Make] = {
    "lambda": lambda m, o: m.LambdaLR(o, lambda step: 0.9**step),
    "lambda-each": lambda m, o: m.LambdaLR(o, [lambda n: 0.9**n, lambda n: 1 / (n + 1)]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda step: 1 - 0.01 * (step % 5)),
    "step": lambda m, o: m.StepLR(o, 7.0, gamma=0.3),
    "multi-step": lambda m, o: m.MultiStepLR(o, [30, 5, 5, 12], gamma=0.5),
    "constant": lambda m, o: m.ConstantLR(o, factor=0.25, total_iters=9),
    "linear": lambda m, o: m.LinearLR(o, start_factor=0.1, end_factor=0.7, total_iters=20),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "polynomial": lambda m, o: m.PolynomialLR(o, total_iters=30, power=1.7),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, T_max=17, eta_min=0.001),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, T_0=8, T_mult=2, eta_min=0.001),
    "restarts-even": lambda m, o: m.CosineAnnealingWarmRestarts(o, T_0=8),
    "cyclic": lambda m, o: m.CyclicLR(o, 0.1, 0.9, 4, 7, cycle_momentum=False),
    "cyclic-halved": lambda m, o: m.CyclicLR(
        o, [0.1, 0.2], [0.9, 0.4], 4, mode="triangular2", cycle_momentum=False),
    "cyclic-exp": lambda m, o: m.CyclicLR(
        o, 0.1, 0.9, 4, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "cyclic-own": lambda m, o: m.CyclicLR(
        o, 0.1, 0.9, 4, scale_fn=lambda n: 1 / n, cycle_momentum=False),
    "one-cycle": lambda m, o: m.OneCycleLR(o, 0.9, total_steps=STEPS + 1, cycle_momentum=False),
    "one-cycle-each": lambda m, o: m.OneCycleLR(
        o, [0.9, 0.3], epochs=3, steps_per_epoch=17, anneal_strategy="linear", three_phase=True,
        cycle_momentum=False, div_factor=10.0),
    "sequential": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, total_iters=5), m.CosineAnnealingLR(o, 30), m.ExponentialLR(o, 0.9)],
        milestones=[5, 30],
    ),
    "chained": lambda m, o: m.ChainedScheduler(
        [m.ConstantLR(o, 0.1, total_iters=5), m.ExponentialLR(o, 0.9), m.StepLR(o, 10)]),
}  # fmt: skip


def ours() -> optim.Optimizer:
    return optim.SGD([{"params": [ndl.Tensor([1.0])], "lr": lr} for lr in RATES], lr=0.5)


def expected(make: Make) -> list[list[float]]:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in RATES]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(STEPS):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def assert_equal(found: list[list[float]], exact: list[list[float]]) -> None:
    for step, (a, b) in enumerate(zip(found, exact, strict=True)):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12), step


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of its SequentialLR
@pytest.mark.parametrize("name", CASES)
def test_is_pytorchs(name: str) -> None:
    schedule = CASES[name](lr_scheduler, ours())
    found = []
    for step in range(STEPS):
        assert schedule.last_epoch == step
        found.append(schedule.get_last_lr())
        schedule.step()
    assert_equal(found, expected(CASES[name]))


@pytest.mark.filterwarnings("ignore")
def test_inside_of_a_compiled_step() -> None:
    schedules = [make(lr_scheduler, ours()) for make in CASES.values()]

    @ndl.jit
    def step() -> None:
        for schedule in schedules:
            for group in schedule.optimizer.param_groups:
                for p in group["params"]:
                    p.grad = p * 0 + 1.0
            schedule.optimizer.step()
            schedule.step()

    found: list[list[list[float]]] = [[] for _ in schedules]
    for _ in range(STEPS):
        for rates, schedule in zip(found, schedules, strict=True):
            rates.append(schedule.get_last_lr())
        step()
    for name, rates, schedule in zip(CASES, found, schedules, strict=True):
        exact = expected(CASES[name])
        assert_equal(rates, exact)
        for i, p in enumerate(schedule.optimizer.params):
            moved = sum(rates[i] for rates in exact)
            assert p.item() == pytest.approx(1 - moved, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("name", CASES)
def test_state_and_last_epoch(name: str) -> None:
    make = CASES[name]
    schedule = make(lr_scheduler, ours())
    for _ in range(9):
        schedule.step()
    resumed = make(lr_scheduler, ours())
    resumed.load_state_dict(schedule.state_dict())
    for _ in range(9):
        assert resumed.get_last_lr() == schedule.get_last_lr()
        resumed.step()
        schedule.step()


def test_last_epoch_goes_on() -> None:
    schedule = lr_scheduler.ExponentialLR(ours(), 0.5, last_epoch=1)
    assert schedule.last_epoch == 2
    assert schedule.get_last_lr() == [0.125, 0.005]


def test_a_rate_that_the_program_sets_is_the_base_of_the_next_schedule() -> None:
    optimizer = ours()
    lr_scheduler.ConstantLR(optimizer, 0.5)
    assert lr_scheduler.ConstantLR(optimizer, 0.1).get_last_lr() == [0.05, 0.002]
    optimizer.lr = 2.0
    assert lr_scheduler.ConstantLR(optimizer, 0.5).get_last_lr() == [1.0, 1.0]


CYCLES: dict[str, Make] = {
    "one-cycle": lambda m, o: m.OneCycleLR(o, [0.05, 0.02], total_steps=14),
    "one-cycle-three": lambda m, o: m.OneCycleLR(
        o, 0.05, 14, None, None, 0.4, "linear", True, [0.7, 0.6], 0.9, 5.0, 100.0, True),
    "cyclic": lambda m, o: m.CyclicLR(
        o, 0.001, 0.05, 3, 4, "triangular2", 1.0, None, "cycle", True, 0.6, [0.9, 0.8]),
    "sequential": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.5), m.CyclicLR(o, 0.01, 0.05, 3), m.ConstantLR(o, 0.5)], [3, 9]),
}  # fmt: skip
CYCLED: dict[str, Make] = {
    "sgd": lambda m, p: m.SGD(p, lr=0.1, momentum=0.9, dampening=0),
    "sgd-without": lambda m, p: m.SGD(p, lr=0.1, dampening=0),
    "nesterov": lambda m, p: m.SGD(p, lr=0.1, momentum=0.9, dampening=0, nesterov=True),
    "rmsprop": lambda m, p: m.RMSprop(p, lr=0.1),
    "adam": lambda m, p: m.Adam(p, lr=0.1, betas=(0.5, 0.99)),
    "adamw": lambda m, p: m.AdamW(p, lr=0.1, amsgrad=True),
    "radam": lambda m, p: m.RAdam(p, lr=0.1),
    "adamax": lambda m, p: m.Adamax(p, lr=0.1),
}


def cycled(m: Any, schedules: Any, parameters: list[Any]) -> list[tuple[Any, Any]]:
    """Each optimizer with each schedule of the momentum; two of the parameters for each."""
    pairs, members = [], iter(parameters)
    for make in CYCLES.values():
        for make_optimizer in CYCLED.values():
            optimizer = make_optimizer(m, [{"params": [next(members)]} for _ in range(2)])
            pairs.append((optimizer, make(schedules, optimizer)))
    return pairs


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of its SequentialLR
@pytest.mark.parametrize("wrap", [lambda f: f, ndl.jit], ids=["eager", "compiled"])
def test_the_momentum_cycles_as_pytorchs(wrap: Callable[[Any], Any]) -> None:
    number = 2 * len(CYCLES) * len(CYCLED)
    ours = [ndl.nn.Parameter([1.0, -2.0]) for _ in range(number)]
    theirs = [torch.tensor([1.0, -2.0], requires_grad=True) for _ in range(number)]
    pairs = cycled(optim, lr_scheduler, ours)
    peers = cycled(torch.optim, torch.optim.lr_scheduler, theirs)

    def train() -> None:
        for optimizer, _ in pairs:
            optimizer.zero_grad()
        for p in ours:
            (p**2 + p).sum().backward()
        for optimizer, schedule in pairs:
            optimizer.step()
            schedule.step()

    step = wrap(train)
    for _ in range(13):
        step()
        for peer, _ in peers:
            peer.zero_grad()
        for q in theirs:
            (q**2 + q).sum().backward()
        for peer, schedule in peers:
            peer.step()
            schedule.step()
        for (optimizer, _), (peer, _) in zip(pairs, peers, strict=True):
            for group, other in zip(optimizer.param_groups, peer.param_groups, strict=True):
                option = "betas" if "betas" in other else "momentum"
                assert group[option] == pytest.approx(other[option], rel=1e-9)
        if wrap is ndl.jit:
            assert sum(map(len, step._programs.values())) == 1  # it serves every momentum
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        name = [(a, b) for a in CYCLES for b in CYCLED][i // 2]
        assert p.numpy() == pytest.approx(q.detach().numpy(), rel=1e-4, abs=1e-5), name


def test_a_step_of_the_schedule_before_the_first_of_the_optimizer_is_told_once() -> None:
    forget_told()
    p = ndl.nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)
    schedule.step()  # a program that only looks at the rates
    p.sum().backward()
    with pytest.warns(UserWarning, match="optimizer.step"):
        schedule.step()
    schedule.step()
    forget_told()
    optimizer.step()
    schedule.step()


@pytest.mark.parametrize("options", [
    {"patience": 2},
    {"patience": 1, "mode": "max", "factor": 0.5, "cooldown": 2},
    {"patience": 1, "threshold": 0.3, "threshold_mode": "abs", "min_lr": [0.1, 0.001]},
    {"patience": 0, "mode": "max", "threshold": 0.1, "eps": 0.01},
])  # fmt: skip
def test_plateau(options: dict[str, Any]) -> None:
    measures = [3, 2, 2, 1.9, 1.9, 1.9, 2.1, 1.5, 1.5, 1.6, 1.7, 1.4, 1.4, 1.4, 2.9, 3.3, 3, 3, 3]
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in RATES]
    peer = torch.optim.SGD(groups, lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, **options)
    schedule = lr_scheduler.ReduceLROnPlateau(ours(), **options)
    for i, measure in enumerate(measures):
        if i == 9:
            resumed = lr_scheduler.ReduceLROnPlateau(schedule.optimizer, **options)
            resumed.load_state_dict(schedule.state_dict())
            schedule = resumed
        schedule.step(ndl.Tensor(measure) if i % 2 else measure)
        theirs.step(measure)
        assert schedule.get_last_lr() == pytest.approx([g["lr"] for g in peer.param_groups])
        assert schedule.num_bad_epochs == theirs.num_bad_epochs
    with pytest.raises(RuntimeError, match="outside"):
        ndl.jit(lambda: schedule.step(1.0))()


def test_swalr() -> None:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in RATES]
    peer = torch.optim.SGD(groups, lr=0.5)
    for strategy in ("cos", "linear"):
        options = {"swa_lr": 0.05, "anneal_epochs": 6, "anneal_strategy": strategy}
        for group, lr in zip(peer.param_groups, RATES, strict=True):
            group["lr"] = group["initial_lr"] = lr
        theirs = torch.optim.swa_utils.SWALR(peer, **options)
        schedule = optim.swa_utils.SWALR(ours(), **options)
        for _ in range(9):
            peer.step()
            theirs.step()
            schedule.step()
            rates = [group["lr"] for group in peer.param_groups]
            assert schedule.get_last_lr() == pytest.approx(rates)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, "optimizer", lambda: lr_scheduler.ExponentialLR(3, 0.5)),
        (TypeError, "lr_lambda", lambda: lr_scheduler.LambdaLR(ours(), [0.5, 0.5])),
        (ValueError, "3 functions", lambda: lr_scheduler.LambdaLR(ours(), [abs] * 3)),
        (ValueError, "start_factor", lambda: lr_scheduler.LinearLR(ours(), 0.0)),
        (ValueError, "factor", lambda: lr_scheduler.ConstantLR(ours(), 2.0)),
        (ValueError, "T_0", lambda: lr_scheduler.CosineAnnealingWarmRestarts(ours(), 0)),
        (TypeError, "T_max", lambda: lr_scheduler.CosineAnnealingLR(ours(), 1.5)),
        (ValueError, "mode", lambda: lr_scheduler.CyclicLR(ours(), 0.1, 1.0, mode="sine")),
        (ValueError, "no momentum.*cycle_momentum=False", lambda: lr_scheduler.CyclicLR(
            optim.Adagrad([ndl.nn.Parameter([1.0])]), 0.1, 1.0)),
        (ValueError, "max_momentum", lambda: lr_scheduler.CyclicLR(
            ours(), 0.1, 1.0, max_momentum=1.0)),
        (ValueError, "2 parameter groups", lambda: lr_scheduler.CyclicLR(ours(), [0.1] * 3, 1.0)),
        (ValueError, "total_steps", lambda: lr_scheduler.OneCycleLR(ours(), 1.0, epochs=3)),
        (ValueError, "milestones", lambda: lr_scheduler.SequentialLR(ours(), [], [3])),
        (ValueError, "same optimizer", lambda: lr_scheduler.ChainedScheduler(
            [lr_scheduler.StepLR(ours(), 1), lr_scheduler.StepLR(ours(), 1)])),
        (TypeError, "last_epoch", lambda: lr_scheduler.StepLR(ours(), 1, last_epoch=0.5)),
        (ValueError, "factor", lambda: lr_scheduler.ReduceLROnPlateau(ours(), factor=1.0)),
    ],
)  # fmt: skip
def test_wrong_arguments(error: type[Exception], match: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=match):
        call()
