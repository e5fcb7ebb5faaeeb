"""What a compiled function depends on beside its arguments: the same numbers as eager code after
everything that a program may change between two calls."""

from __future__ import annotations

import argparse
import queue
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.jit import TraceError


@pytest.fixture(autouse=True)
def evaluator(monkeypatch) -> None:
    """What a program depends on is found by the trace: the evaluator does without a compiler."""
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")


def tensor(*shape: int, seed: int = 0, **options: Any) -> ndl.Tensor:
    return ndl.Tensor(np.random.RandomState(seed).randn(*shape).astype("float32"), **options)


# ---- a training loop with a change in it ----------------------------------------------------


class Scaled(nn.Module):
    """A module of the user with plain attributes, containers and another module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.blocks = [nn.Linear(4, 4)]
        self.named = {"last": nn.Linear(4, 4)}
        self.scale, self.offsets = 2.0, [0.5, 0.25]
        self.options = argparse.Namespace(power=1)
        self.simple = types.SimpleNamespace(factor=1.0)
        self.table = np.ones(4)
        self.function: Callable[[ndl.Tensor], ndl.Tensor] = ndl.tanh

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        x = self.linear(x)
        for block in self.blocks:
            x = x + block(x)
        for module in self.named.values():
            x = self.function(module(x))
        if hasattr(self, "extra"):
            x = x + self.extra
        for offset in self.offsets:
            x = x + offset
        x = x * ndl.Tensor(self.table, dtype="float64", requires_grad=False) * self.simple.factor
        return x**self.options.power * self.scale


@dataclass
class Run:
    """Three modules, an optimizer and a loss, with a step on them."""

    model: nn.Sequential
    optimizer: Any
    loss: Any

    @property
    def scaled(self) -> Scaled:
        return self.model.modules[0]

    def step(self, x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        loss = self.loss(self.model(x), y)
        self.optimizer.reset_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def make_run(optimizer: str = "sgd") -> Run:
    np.random.seed(0)
    model = nn.Sequential(
        Scaled(), nn.BatchNorm1d(4), nn.Dropout(0.25), nn.LayerNorm1d(4), nn.Linear(4, 3)
    )
    made = {
        "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.5),
        "adam": lambda p: optim.Adam(p, lr=0.01),
        "rmsprop": lambda p: optim.RMSProp(p, lr=0.01),
    }[optimizer](model.to(dtype="float64").parameters()[:-1])
    return Run(model, made, nn.CrossEntropyLoss())


def freeze(run: Run) -> None:
    for p in run.scaled.parameters():
        p.requires_grad = False


def move_to_eval(run: Run) -> None:
    run.model.eval()


def hook(run: Run) -> None:
    run.scaled.linear.register_forward_hook(lambda module, args, result: result * 2)


def replace_method(run: Run) -> None:
    run.scaled.linear.forward = lambda x: x * 3


def new_group(run: Run) -> None:
    run.optimizer.add_param_group({"params": [run.model.modules[4].bias], "lr": 0.5})


def other_group(run: Run) -> None:
    run.optimizer.param_groups[0]["weight_decay"] = 0.1


def no_state(run: Run) -> None:
    run.optimizer.state.clear()


def other_moment(run: Run) -> None:
    state = next(iter(run.optimizer.state.values()))
    (name,) = (name for name in state if name != "step")
    state[name] = ndl.ones_like(state[name])


def set_attribute(path: str, value: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        *names, last = path.split(".")
        owner: Any = run
        for name in names:
            owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
        setattr(owner, last, value)

    change.__name__ = path
    return change


def linear() -> nn.Linear:
    return nn.Linear(4, 4, dtype="float64")


CHANGES: list[Callable[[Run], None]] = [
    freeze, move_to_eval, hook, replace_method, new_group, other_group, no_state, other_moment,
    lambda run: run.optimizer.param_groups[0]["params"].append(run.model.modules[4].bias),
    lambda run: run.optimizer.param_groups[0]["params"].pop(),
    lambda run: run.scaled.blocks.append(linear()),
    lambda run: run.scaled.blocks.clear(),
    lambda run: run.scaled.named.update(more=linear()),
    lambda run: run.scaled.offsets.append(1.0),
    lambda run: run.scaled.offsets.__setitem__(0, -1.0),
    lambda run: run.scaled.table.__setitem__(1, 5.0),
    lambda run: run.model.modules.insert(1, nn.Tanh()) if isinstance(run.model.modules, list)
    else setattr(run.model, "modules", (run.model.modules[0], nn.Tanh(), *run.model.modules[1:])),
    set_attribute("scaled.linear", linear()),
    set_attribute("scaled.linear.weight", nn.Parameter(np.ones((4, 4)), dtype="float64")),
    set_attribute("scaled.linear.bias", None),
    set_attribute("scaled.scale", 3.0), set_attribute("scaled.extra", 1.0),
    set_attribute("scaled.options.power", 2), set_attribute("scaled.simple.factor", -1.0),
    set_attribute("scaled.function", ndl.sigmoid),
    set_attribute("model.modules.1.momentum", 0.5), set_attribute("model.modules.1.eps", 0.1),
    set_attribute("model.modules.2.p", 0.75), set_attribute("model.modules.3.eps", 0.1),
    set_attribute("model.modules.2.training", False),
    set_attribute("loss.label_smoothing", 0.2), set_attribute("loss.ignore_index", 1),
    set_attribute("loss.reduction", "sum"),
    set_attribute("loss", nn.CrossEntropyLoss(label_smoothing=0.3)),
    set_attribute("optimizer.weight_decay", 0.1), set_attribute("optimizer.lr", 0.5),
    set_attribute("optimizer.momentum", 0.9),
]  # fmt: skip


def losses(
    change: Callable[[Run], None], wrap: Callable[[Any], Any], optimizer: str
) -> list[float]:
    """The losses of three steps before the change and three after it."""
    run = make_run(optimizer)
    step = wrap(run.step)
    x = tensor(6, 4, requires_grad=False).astype("float64")
    y = ndl.Tensor(np.array([0, 1, 2, 1, 0, 1]), requires_grad=False)
    found = []
    for i in range(6):
        if i == 3:
            change(run)
        np.random.seed(i)
        found.append(step(x, y).item())
    if wrap is ndl.jit:
        assert step.compilations == (1 if change.__name__ == "optimizer.lr" else 2)
    return found


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_change_between_two_calls(change):
    for optimizer in ("sgd", "adam") if change in (new_group, no_state, freeze) else ("sgd",):
        np.random.seed(1)
        expected = losses(change, lambda f: f, optimizer)
        np.random.seed(1)
        actual = losses(change, ndl.jit, optimizer)
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_a_change_that_is_taken_back_needs_no_new_program():
    run = make_run()
    step = ndl.jit(run.step)
    x = tensor(6, 4, requires_grad=False).astype("float64")
    y = ndl.Tensor(np.zeros(6, "int64"), requires_grad=False)
    weight = run.scaled.linear.weight
    for frozen in (False, True, False, True):
        weight.requires_grad = not frozen
        before = weight.numpy()
        step(x, y)
        assert (weight.numpy() == before).all() == frozen
    handle = run.model.register_forward_hook(lambda module, args, result: result * 0)
    step(x, y)
    handle.remove()
    weight.requires_grad = True
    step(x, y)
    assert step.compilations == 3


# ---- what changes at every call -------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_an_ordinary_loop_is_compiled_once(name):
    run = make_run(name)
    schedule = optim.WarmupLR(optim.CosineLR(run.optimizer, total_steps=20), warmup_steps=3)
    scaler = ndl.amp.GradScaler(init_scale=2.0, growth_interval=2)

    @ndl.jit
    def step(x, y):
        loss = run.loss(run.model(x), y)
        run.optimizer.reset_grad()
        scaler.scale(loss).backward()
        run.optimizer.clip_grad_norm(1.0) if name == "sgd" else None
        run.optimizer.step()
        return loss

    history = []
    for i in range(10):
        x = tensor(6, 4, seed=i, requires_grad=False).astype("float64")
        history.append(step(x, ndl.Tensor(np.zeros(6, "int64"), requires_grad=False)).item())
        schedule.step()
    assert step.compilations == 1
    assert run.optimizer.state[run.optimizer.params[0]]["step"] == 10


class Counts(nn.Module):
    """A module that counts its calls and depends on the count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.total = 0, 0.5

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        self.calls += 1
        self.total = self.total + 2 * self.calls
        return x * self.calls + self.total


def test_a_count_goes_on_at_every_call():
    x, plain, module = tensor(3), Counts(), Counts()
    forward = ndl.jit(lambda x: (module(x), module.calls))
    for i in range(4):
        result, calls = forward(x)
        np.testing.assert_allclose(result.numpy(), plain(x).numpy(), rtol=1e-6)
        assert (calls, module.calls, module.total) == (i + 1, plain.calls, plain.total)
    assert forward.compilations == 1
    module.calls = plain.calls = 10
    np.testing.assert_allclose(forward(x)[0].numpy(), plain(x).numpy(), rtol=1e-6)


def test_a_count_that_decides_what_is_computed():
    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls = (self.calls + 1) % 3
            return -x if self.calls == 0 else x

    x, plain, module = tensor(3), Alternating(), Alternating()
    forward = ndl.jit(lambda x: module(x))
    for _ in range(7):
        np.testing.assert_array_equal(forward(x).numpy(), plain(x).numpy())
        assert module.calls == plain.calls
    assert forward.compilations == 3


# ---- what the function itself sets ----------------------------------------------------------


class Remembers(nn.Module):
    """A module with a state that it replaces, and with what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: ndl.Tensor | None = None
        self.seen: Any = None

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        hidden = x if self.hidden is None else ndl.tanh(self.hidden + x)
        self.hidden, self.seen = hidden.detach(), (x * 2, "text")
        return hidden


def test_tensors_that_the_function_keeps_in_attributes():
    plain, module = Remembers(), Remembers()
    forward = ndl.jit(lambda x: module(x))
    for i in range(5):
        x = tensor(3, seed=i)
        np.testing.assert_allclose(forward(x).numpy(), plain(x).numpy(), rtol=1e-6)
        np.testing.assert_allclose(module.hidden.numpy(), plain.hidden.numpy(), rtol=1e-6)
        np.testing.assert_array_equal(module.seen[0].numpy(), plain.seen[0].numpy())
        assert module.seen[1] == "text"
    assert forward.compilations == 2, "without a hidden state, and with one"
    module.hidden = plain.hidden = tensor(3, seed=9, requires_grad=False)
    np.testing.assert_allclose(forward(x).numpy(), plain(x).numpy(), rtol=1e-6)
    assert forward.compilations == 2


def test_modes_that_the_function_sets_and_puts_back():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))

    @ndl.jit
    def evaluate(x):
        was = model.training
        model.eval()
        result = model(x)
        model.train(was)
        return result

    @ndl.jit
    def evaluate_only(x):
        model.eval()
        return model(x)

    x = tensor(5, 3)
    for training in (True, False, True):
        model.train(training)
        np.testing.assert_allclose(evaluate(x).numpy(), x.numpy(), rtol=1e-4)
        assert model.training == model.modules[1].training == training
        np.testing.assert_allclose(evaluate_only(x).numpy(), x.numpy(), rtol=1e-4)
        assert not model.training
        assert not model.modules[1].training
    assert evaluate.compilations == 2
    assert evaluate_only.compilations == 1


def test_a_failed_trace_leaves_attributes_as_they_were():
    module = Counts()

    @ndl.jit
    def bad(x):
        module.eval()
        return module(x).numpy()

    with pytest.raises(RuntimeError, match="value is needed"):
        bad(tensor(2))
    assert (module.calls, module.training) == (0, True)


# ---- the variables of functions -------------------------------------------------------------

FACTOR = 2.0
SETTINGS = {"factor": 2.0}


class Settings:
    factor = 2.0


def scaled_by_global(x: ndl.Tensor) -> ndl.Tensor:
    return x * FACTOR


def scaled_by_itself(x: ndl.Tensor) -> ndl.Tensor:
    return x * scaled_by_itself.factor


scaled_by_itself.factor = 2.0


def test_global_variables(monkeypatch):
    x = ndl.Tensor([1.0])
    by_global = ndl.jit(lambda x: scaled_by_global(x))
    by_item = ndl.jit(lambda x: x * SETTINGS["factor"])
    by_class = ndl.jit(lambda x: x * Settings.factor)
    by_itself = ndl.jit(scaled_by_itself)
    functions = by_global, by_item, by_class, by_itself
    assert [f(x).item() for f in functions] == [2, 2, 2, 2]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    monkeypatch.setitem(SETTINGS, "factor", 4.0)
    monkeypatch.setattr(Settings, "factor", 5.0)
    monkeypatch.setattr(scaled_by_itself, "factor", 6.0)
    assert [f(x).item() for f in functions] == [3, 4, 5, 6]
    monkeypatch.setitem(globals(), "scaled_by_global", lambda x: -x)
    assert by_global(x).item() == -1


def test_variables_of_the_function_around():
    factor, settings, layers = 2.0, Settings(), [nn.Identity()]
    x = ndl.Tensor([1.0])

    def run(x):
        for layer in layers:
            x = layer(x)
        return [x * factor, x * settings.factor][which]

    which = 0
    compiled = ndl.jit(run)
    assert compiled(x).item() == 2
    factor = 3.0
    assert compiled(x).item() == 3
    which = 1
    settings.factor = 7.0
    assert compiled(x).item() == 7
    layers.append(nn.ReLU())
    assert compiled(-x).item() == 0


def test_what_is_imported_during_a_trace_stays(tmp_path, monkeypatch):
    """A package that imports its parts when they are asked for, as NumPy does."""
    package = tmp_path / "lazy_package"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "def __getattr__(name):\n"
        "    if name != 'part':\n"
        "        raise AttributeError(name)\n"
        "    import lazy_package.part as part\n"
        "    return lazy_package.part\n"
        "import sys\n"
        "lazy_package = sys.modules[__name__]\n"
    )
    package.joinpath("part.py").write_text("factor = 3.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import lazy_package

    def fails(x):
        lazy_package.part.factor  # noqa: B018
        raise KeyError("a trace that fails")

    with pytest.raises(KeyError):
        ndl.jit(fails)(tensor(2))
    assert lazy_package.part.factor == 3
    assert "part" in vars(lazy_package)
    f = ndl.jit(lambda x: x * lazy_package.part.factor)
    x = tensor(2)
    for _ in range(2):
        np.testing.assert_array_equal(f(x).numpy(), 3 * x.numpy())


def test_methods_of_the_user(monkeypatch):
    class Trainer:
        def __init__(self) -> None:
            self.scale, self.weight = 2.0, ndl.Tensor([3.0])

        def run(self, x):
            return x * self.weight * self.factor()

        def factor(self):
            return self.scale

    trainer, x = Trainer(), ndl.Tensor([1.0])
    run = ndl.jit(trainer.run)
    assert run(x).item() == 6
    trainer.scale = 5.0
    assert run(x).item() == 15
    trainer.weight = ndl.Tensor([1.0])
    assert run(x).item() == 5
    monkeypatch.setattr(Trainer, "factor", lambda self: 7.0)
    assert run(x).item() == 7


# ---- gradients of tensors from outside ------------------------------------------------------


def test_whether_there_is_a_gradient():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    update = ndl.jit(lambda: optimizer.step())
    for expected in ((0, 2), (-1, 1), (-1, 0)):
        optimizer.reset_grad()
        (a * 1 if expected == (0, 2) else b * 1 if expected[1] == 0 else a + b).backward()
        update()
        assert (a.item(), b.item()) == expected


def test_a_gradient_that_the_function_assigns():
    w, other = ndl.Tensor([1.0, 2.0]), ndl.Tensor([5.0, 5.0])

    @ndl.jit
    def run(x):
        w.grad = x * 2
        other.grad = None

    for i in (1.0, 2.0):
        other.grad = ndl.Tensor([1.0, 1.0])
        run(ndl.Tensor([i, i]))
        np.testing.assert_array_equal(w.grad.numpy(), [2 * i, 2 * i])
        assert other.grad is None


def test_gradients_go_on_through_what_arguments_were_computed_from():
    results = []
    for wrap in (lambda f: f, ndl.jit):
        w, v = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])

        def step(x, h, v=v):
            loss = (x * h * v).sum()
            loss.backward()
            return loss

        step, found = wrap(step), []
        for i in range(3):
            x = w * float(i + 1)
            h = ndl.tanh(x) + w
            found += [step(x, h).item(), *(t.grad.numpy() for t in (w, v, x, h))]
        results.append(found)
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_leaf_and_a_computed_argument_are_two_programs():
    def step(x):
        (x * x).sum().backward()

    w = ndl.Tensor([3.0])
    compiled = ndl.jit(step)
    compiled(ndl.Tensor([1.0]))
    compiled(w * 2)
    assert w.grad.item() == 24


def test_gradients_that_are_not_there_before_the_end():
    w = ndl.Tensor([1.0, 2.0])
    optimizer = optim.SGD([w], lr=0.1)

    @ndl.jit
    def step(x):
        (x * x).sum().backward()
        optimizer.step()  # reads w.grad

    with pytest.raises(TraceError, match=r"test_guards.py:\d+: optimizer.step\(\)"):
        step(w * 2)
    with pytest.raises(TraceError, match="computed outside"):
        ndl.jit(lambda x: ndl.autograd.grad((x * x).sum(), [w]))(w * 2)


def test_gradients_are_reset_before_parameters_are_read():
    results = []
    for wrap in (lambda f: f, ndl.jit):
        run = make_run("adam")

        @wrap
        def step(x, y, run=run):
            run.optimizer.reset_grad()
            loss = run.loss(run.model(x), y)
            loss.backward()
            run.optimizer.step()
            return loss

        np.random.seed(0)
        x = tensor(6, 4, requires_grad=False).astype("float64")
        y = ndl.Tensor(np.array([0, 1, 2, 1, 0, 1]), requires_grad=False)
        results.append([step(x, y).item() for _ in range(3)])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


# ---- tensors that stay inside ---------------------------------------------------------------


def leaked(make: Callable[[ndl.Tensor], Any] = lambda x: x * 2.0) -> Any:
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()  # nobody sees what is in it

    @ndl.jit
    def run(x):
        kept.put(make(x))
        return x + 1

    run(tensor(2, 2))
    return kept.get()


USES: list[Callable[[ndl.Tensor], Any]] = [
    lambda t: t.numpy(), lambda t: t + 1, lambda t: 1 - t, lambda t: tensor(2, 2) @ t, repr,
    lambda t: t.sum(), lambda t: t.backward(), lambda t: t.shape, lambda t: t[0], bool, len, list,
    lambda t: np.asarray(t), lambda t: ndl.Tensor(t), lambda t: t.detach(), lambda t: t.data,
    lambda t: ndl.jit(lambda x: x * t)(tensor(2, 2)), lambda t: ndl.jit(lambda x: x * 2)(t),
    lambda t: ndl.jit(lambda x: [x, t])(tensor(2, 2)), lambda t: ndl.stack([t, t], 0),
    lambda t: setattr(tensor(2, 2), "data", t), lambda t: optim.SGD([t]), lambda t: t.item(),
    lambda t: tensor(2, 2, requires_grad=False).__setitem__(0, t), lambda t: nn.Linear(2, 2)(t),
]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=range(len(USES)))
def test_a_tensor_that_stayed_inside_names_the_lines(use):
    with pytest.raises(TraceError, match=r"made in .*test_guards.py:\d+: .*x \* 2.0") as error:
        use(leaked())
    assert "used in" in str(error.value)
    assert "test_guards.py" in str(error.value).partition("used in")[2]


def test_tuples_and_gradients_that_stayed_inside():
    with pytest.raises(TraceError, match="did not leave it"):
        leaked(lambda x: ndl.split(x, 0))[0]

    def with_gradient(x):
        y = x * 2
        (y * y).sum().backward()
        return y.grad

    with pytest.raises(TraceError, match="did not leave it"):
        leaked(with_gradient) * 1


def _variables(kind):
    """A function that goes on with what an earlier call has left in variables, and a look at
    these."""
    count, flag, total = 0, True, tensor(2, 3, seed=1, requires_grad=False)
    fields, items = {"n": 0, "name": "a"}, [1, 2.5]

    class Kept:
        n = 0

    class Slots:
        __slots__ = ("n", "t")

    slots = Slots()
    slots.n, slots.t = 0, tensor(2, 3, seed=2, requires_grad=False)

    def counted(x):
        nonlocal count
        count += 1
        return x * count

    def first_only(x):
        nonlocal flag
        y = x * 2 if flag else x * 3
        flag = False
        return y

    def running(x):
        nonlocal total
        total = total * 0.5 + x
        return total

    def in_dict(x):
        fields["n"] += 1
        return x * fields["n"]

    def in_list(x):
        items[1] *= 2.0
        return x * items[1] + items[0]

    def of_class(x):
        Kept.n += 1
        return x * Kept.n

    def in_slots(x):
        slots.n += 1
        slots.t = slots.t + x
        return slots.t * slots.n

    def in_text(x):
        fields["name"] = "b" if fields["name"] == "a" else "a"
        return x * 2 if fields["name"] == "a" else x

    functions = [counted, first_only, running, in_dict, in_list, of_class, in_slots, in_text]
    function = next(f for f in functions if f.__name__ == kind)
    return function, lambda: (count, flag, total, fields, items, Kept.n, slots.n, slots.t)


@pytest.mark.parametrize(
    ("kind", "programs"),
    [("counted", 1), ("first_only", 2), ("running", 1), ("in_dict", 1), ("in_list", 1),
     ("of_class", 1), ("in_slots", 1), ("in_text", 2)],
)  # fmt: skip
def test_variables_that_the_function_sets_go_on(kind, programs):
    x = tensor(2, 3, requires_grad=False)
    (eager, expected), (function, left) = _variables(kind), _variables(kind)
    compiled = ndl.jit(function)
    for _ in range(4):
        np.testing.assert_allclose(compiled(x).numpy(), eager(x).numpy(), rtol=1e-5)
        for have, want in zip(left(), expected(), strict=True):
            if isinstance(want, ndl.Tensor):
                np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-5)
            else:
                assert have == want
    assert compiled.compilations == programs


def _decays(optimizer):
    optimizer.lr *= 0.5


def _decays_groups(optimizer):
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] / 2 + 0.01


def _sets(optimizer):
    optimizer.lr = 0.05


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("change", [_decays, _decays_groups, _sets])
def test_learning_rates_that_the_function_sets(change, before):
    def setting():
        w = tensor(2, 3)
        optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x):
            if before:
                change(optimizer)
            optimizer.reset_grad()
            (w * w * x).sum().backward()
            optimizer.step()
            if not before:
                change(optimizer)
            return w

        return step, optimizer

    x = tensor(2, 3, requires_grad=False)
    (eager, theirs), (function, ours) = setting(), setting()
    compiled = ndl.jit(function)
    for _ in range(4):
        np.testing.assert_allclose(compiled(x).numpy(), eager(x).numpy(), rtol=1e-5)
        assert ours.lr == pytest.approx(theirs.lr)
    assert compiled.compilations == 1


def _new_defaults(function):
    function.__defaults__ = (3.0,)


def _new_code(function):
    function.__code__ = (lambda x, k=2.0: x * k + 1).__code__


@pytest.mark.parametrize("change", [_new_defaults, _new_code])
def test_what_a_function_is_itself(change):
    def function(x, k=2.0):
        return x * k

    compiled, x = ndl.jit(function), tensor(2, 3, requires_grad=False)
    np.testing.assert_allclose(compiled(x).numpy(), function(x).numpy())
    change(function)
    np.testing.assert_allclose(compiled(x).numpy(), function(x).numpy())


def test_attributes_of_functions_and_classes_around():
    class Scale:
        of = 2.0

    def function(x):
        return x * function.k * Scale.of

    function.k = 2.0
    compiled, x = ndl.jit(function), tensor(2, 3, requires_grad=False)
    for k, scale in [(2.0, 2.0), (3.0, 2.0), (3.0, 5.0)]:
        function.k, Scale.of = k, scale
        np.testing.assert_allclose(compiled(x).numpy(), function(x).numpy(), rtol=1e-6)


# ---- what modules, classes and functions have ---------------------------------------------------


class Meta(type):
    factor = 2.0


class Base(metaclass=Meta):
    scale = 2.0

    def __len__(self) -> int:
        return 2

    def times(self, x):
        return x * type(self).scale

    def of_class(self, x):
        return x * self.__class__.scale

    def of_metaclass(self, x):
        return x * type(self).factor

    @classmethod
    def by_class(cls, x):
        return x * cls.scale


class Derived(Base):
    def __init__(self) -> None:
        self.number = 2.0

    def times(self, x):
        return super().times(x)


class Slots:
    __slots__ = ("number",)

    def __init__(self, number: float) -> None:
        self.number = number


BASE, CLASSES, SLOTS = Base(), {"base": Base}, [Slots(1.0), Slots(2.0)]
HERE = sys.modules[__name__]
MADE = types.ModuleType("made_by_a_test")
MADE.inner = types.ModuleType("made_by_a_test.inner")
MADE.inner.factor = MADE.factor = 2.0


def with_local_names(x):
    made, base = MADE, Base
    return x * made.inner.factor * base.scale


def with_an_import(x):
    import made_by_a_test

    return x * made_by_a_test.factor


def with_an_import_from(x):
    from made_by_a_test import factor

    return x * factor


def other_init(self):
    self.number = 7.0


OWNED: list[tuple[Callable[..., Any], Any, str, Any]] = [
    (lambda x: x * type(BASE).scale, Base, "scale", 5.0),
    (lambda x: BASE.times(x), Base, "scale", 5.0),
    (lambda x: BASE.of_class(x), Base, "scale", 5.0),
    (lambda x: Base.by_class(x), Base, "scale", 5.0),
    (lambda x: x * Base.factor, Meta, "factor", 5.0),
    (lambda x: BASE.of_metaclass(x), Meta, "factor", 5.0),
    (lambda x: Derived().times(x), Base, "times", lambda self, x: x * 9),
    (lambda x: x * Derived().number, Derived, "__init__", other_init),
    (lambda x: x * Derived.scale, Derived, "scale", 5.0),
    (lambda x: x * len(BASE), Base, "__len__", lambda self: 5),
    (lambda x: x * getattr(Base, "scale"), Base, "scale", 5.0),  # noqa: B009
    (lambda x: x * globals()["SCALE"], HERE, "SCALE", 5.0),
    (lambda x: x * CLASSES["base"].scale, Base, "scale", 5.0),
    (lambda x: x * MADE.factor, MADE, "factor", 5.0),
    (with_local_names, MADE.inner, "factor", 5.0),
    (with_local_names, Base, "scale", 5.0),
    (with_an_import, MADE, "factor", 5.0),
    (with_an_import_from, MADE, "factor", 5.0),
    (lambda x: x * SLOTS[0].number * SLOTS[1].number, SLOTS[1], "number", 5.0),
]
SCALE = 2.0


@pytest.mark.parametrize(("function", "owner", "name", "value"), OWNED, ids=range(len(OWNED)))
def test_attributes_of_what_the_function_names(function, owner, name, value, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_by_a_test", MADE)
    x, compiled = ndl.Tensor([1.0]), ndl.jit(function)
    before = function(x).item()
    assert compiled(x).item() == before
    monkeypatch.setattr(owner, name, value, raising=False)
    assert function(x).item() != before
    assert compiled(x).item() == function(x).item()
    assert compiled(x).item() == function(x).item()
    assert compiled.compilations == 2
