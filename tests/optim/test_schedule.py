"""Schedules against PyTorch's, step by step."""

import pytest

import needle as ndl
from needle import optim

STEPS = 25


def sgd(*lrs):
    groups = [{"params": [ndl.Tensor([1.0])], "lr": lr} for lr in lrs]
    return optim.SGD(groups, lr=0.5)


def rates(schedule, steps=STEPS):
    found = []
    for _ in range(steps):
        found.append(schedule.lrs)
        schedule.step()
    return found


def torch_rates(make, lrs, steps=STEPS):
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def one_cycle(**options):
    return (
        lambda o: optim.OneCycleLR(o, 0.9, STEPS, **options),
        lambda t, o: t.OneCycleLR(
            o,
            0.9,
            STEPS,
            cycle_momentum=False,
            **{("anneal_strategy" if k == "anneal" else k): v for k, v in options.items()},
        ),
    )


CASES = {
    "step": (
        lambda o: optim.StepLR(o, 4, gamma=0.3),
        lambda t, o: t.StepLR(o, 4, gamma=0.3),
    ),
    "cosine": (
        lambda o: optim.CosineLR(o, STEPS, min_lr=0.01),
        lambda t, o: t.CosineAnnealingLR(o, STEPS, eta_min=0.01),
    ),
    "one-cycle": one_cycle(),
    "one-cycle-linear": one_cycle(anneal="linear", pct_start=0.5, div_factor=10.0),
    "one-cycle-down": one_cycle(pct_start=0.0, final_div_factor=100.0),
    "warm-up": (
        lambda o: optim.WarmupLR(o, 6, start_factor=0.1),
        lambda t, o: t.LinearLR(o, start_factor=0.1, total_iters=6),
    ),
    "warm-up-then-cosine": (
        lambda o: optim.WarmupLR(optim.CosineLR(o, 19), 6, start_factor=0.1),
        lambda t, o: t.SequentialLR(
            o,
            [t.LinearLR(o, start_factor=0.1, total_iters=6), t.CosineAnnealingLR(o, 19)],
            milestones=[6],
        ),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lrs", [(0.5,), (0.5, 0.02)])
def test_against_torch(name, lrs):
    ours, theirs = CASES[name]
    found = rates(ours(sgd(*lrs)))
    expected = torch_rates(theirs, lrs)
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


def test_rates_stay_at_the_end():
    for schedule in (
        optim.CosineLR(sgd(0.5), 5, min_lr=0.1),
        optim.OneCycleLR(sgd(0.5), 1.0, 5, div_factor=2.0, final_div_factor=5.0),
    ):
        assert rates(schedule, 9)[5:] == [[pytest.approx(0.1)]] * 4


def test_warm_up_from_zero():
    found = [lr for [lr] in rates(optim.WarmupLR(optim.StepLR(sgd(1.0), 2, 0.5), 4), 9)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 0.5, 0.5, 0.25])


@pytest.mark.parametrize("name", CASES)
def test_state_round_trip(name):
    make, _ = CASES[name]
    schedule = make(sgd(0.5, 0.02))
    rates(schedule, 9)
    resumed = make(sgd(0.5, 0.02))
    resumed.load_state_dict(schedule.state_dict())
    assert rates(resumed, 9) == rates(schedule, 9)
    with pytest.raises(ValueError, match="groups"):
        make(sgd(0.5)).load_state_dict(schedule.state_dict())


def add_group(schedule, lr):
    schedule.optimizer.add_param_group({"params": [ndl.Tensor([1.0])], "lr": lr})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("late", [0, 3])
def test_a_group_that_is_added_later_joins_at_the_next_step(name, late):
    make, _ = CASES[name]
    both, later = make(sgd(0.5, 0.02)), make(sgd(0.5))
    rates(both, late)
    rates(later, late)
    add_group(later, 0.02)
    assert later.lrs == [both.lrs[0], 0.02], "until then it has its own rate"
    assert rates(later, 9)[1:] == rates(both, 9)[1:]
    fresh = make(sgd(0.5))
    add_group(fresh, 0.3)
    fresh.load_state_dict(later.state_dict())
    assert rates(fresh) == rates(later)


@pytest.mark.parametrize("mode", ["on", "evaluate", "check"])
def test_a_group_that_is_added_between_compiled_steps(monkeypatch, mode):
    monkeypatch.setenv("NEEDLE_JIT", mode)
    schedule = optim.StepLR(sgd(0.8), 1, gamma=0.5)
    step = ndl.jit(schedule.step)
    step()
    add_group(schedule, 0.1)
    step()
    step()
    assert schedule.lrs == pytest.approx([0.1, 0.0125])


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, r"\[StepLR\] optimizer", lambda: optim.StepLR(3, 2)),
        (ValueError, r"\[StepLR\] step_size must be at least 1", lambda: optim.StepLR(sgd(1), 0)),
        (TypeError, r"\[StepLR\] step_size", lambda: optim.StepLR(sgd(1), 1.5)),
        (ValueError, r"\[StepLR\] gamma", lambda: optim.StepLR(sgd(1), 1, gamma=-1)),
        (ValueError, r"\[CosineLR\] min_lr", lambda: optim.CosineLR(sgd(1), 1, min_lr=-1)),
        (ValueError, "pct_start", lambda: optim.OneCycleLR(sgd(1), 1, 5, pct_start=2)),
        (ValueError, "div_factor", lambda: optim.OneCycleLR(sgd(1), 1, 5, div_factor=0)),
        (ValueError, "anneal", lambda: optim.OneCycleLR(sgd(1), 1, 5, anneal="sine")),
        (ValueError, "start_factor", lambda: optim.WarmupLR(sgd(1), 5, start_factor=2)),
        (TypeError, r"\[WarmupLR\] optimizer", lambda: optim.WarmupLR(None, 5)),
        (NotImplementedError, r"\[Schedule\]", lambda: optim.Schedule(sgd(1))),
    ],
)
def test_bad_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()
