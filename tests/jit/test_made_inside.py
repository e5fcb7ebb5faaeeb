"""What a compiled function makes itself, every call makes anew: it is no guard, and no state."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import amp, nn, optim


@pytest.fixture(autouse=True)
def evaluator(monkeypatch) -> None:
    """What a program depends on is found by the trace: the evaluator does without a compiler."""
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")


def tensor(*shape: int, seed: int = 0, **options: Any) -> ndl.Tensor:
    return ndl.Tensor(np.random.RandomState(seed).randn(*shape).astype("float32"), **options)


class Net(nn.Module):
    def __init__(self) -> None:
        self.norm, self.layers, self.calls = nn.LayerNorm1d(4), [nn.ReLU(), nn.LayerNorm1d(4)], 0

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        self.calls += 1
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) * self.calls


class Counting:
    def __init__(self, x: Any) -> None:
        self.x, self.calls, self.seen = x, 0, {}

    def __call__(self, y: ndl.Tensor) -> ndl.Tensor:
        self.calls += 1
        self.seen["last"] = y
        return self.x + y * self.calls

    @functools.cached_property
    def double(self) -> Any:
        return self.x * 2


class Updated:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class AttributeDict(dict):
    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.__dict__ = self


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a


@dataclasses.dataclass
class Pair:
    a: Any
    b: int = 1


@dataclasses.dataclass(frozen=True)
class FrozenPair:
    a: Any
    b: int = 1


Named = collections.namedtuple("Named", "a b")
# Objects of the same classes that were there before.
net, counting, updated, slots, pair = Net(), Counting(1.0), Updated(a=1.0), Slots(1.0), Pair(1.0)
holder = types.SimpleNamespace(counting=counting, make=Counting)
linear = nn.Linear(4, 4)


def module(x):
    return nn.Sequential(nn.LayerNorm1d(4), nn.ReLU(), nn.Dropout(0.0), nn.BatchNorm1d(4))(x)


def own_module(x):
    return Net()(x)


def module_beside_known(x):
    made = Net()
    return made(x) + made(x) + net.norm(x)


def module_in_eval(x):
    made = nn.Dropout(0.5)
    made.eval()
    return made(x)


def module_class(x):
    class Made(nn.Module):
        def __init__(self) -> None:
            self.norm = nn.LayerNorm1d(4)

        def forward(self, x: ndl.Tensor) -> ndl.Tensor:
            return self.norm(x)

    return Made()(x)


def parameters(x):
    made = nn.Linear(4, 4)
    made.load_state_dict(linear.state_dict())
    return made(x) + sum((p * p).sum() for p in made.parameters())


def hooks(x):
    made = nn.LayerNorm1d(4)
    hook = made.register_forward_hook(lambda module, args, result: result * 2)
    y = made(x)
    hook.remove()
    return y + made(x)


def attributes(x):
    made = nn.Module()
    for i in range(3):
        setattr(made, f"norm{i}", nn.LayerNorm1d(4))
    del made.norm1
    vars(made)["factor"] = 2
    return made.norm0(x) + made.norm2(x) * made.factor


def deep_copy(x):
    return copy.deepcopy(linear)(x) + copy.copy(linear)(x)


def changed_copy(x):
    made = copy.deepcopy(linear)
    made.weight.data = made.weight.data * 2
    made.factor = 3
    return made(x) * made.factor


def trained(optimizer):
    def function(x):
        w = ndl.Tensor(np.ones((4, 4), np.float32))
        made = optimizer([w])
        for _ in range(3):
            made.reset_grad()
            ((x @ w) ** 2).sum().backward()
            made.step()
        return w.detach()

    return function


def scheduled(x):
    w = ndl.Tensor(np.ones((4, 4), np.float32))
    made = optim.SGD([w], lr=0.1)
    schedule = optim.StepLR(made, 1)
    for _ in range(2):
        (x @ w).sum().backward()
        made.step()
        schedule.step()
    return w.detach() * made.lr


def trained_module(x):
    made = copy.deepcopy(linear)
    optimizer = optim.Adam(made.parameters(), lr=0.1)
    made(x).sum().backward()
    optimizer.step()
    return made(x)


def scaled(x):
    scaler = amp.GradScaler(init_scale=2.0)
    y = scaler.scale(x)
    scaler.update(new_scale=4.0)
    return y + scaler.scale(x)


def tensors(x):
    return x + ndl.Tensor([1.0, 2, 3, 4]) + ndl.ones(4) + ndl.Tensor(np.float32([4, 3, 2, 1]))


def containers(x):
    items, table, last = [], collections.defaultdict(list), collections.deque(maxlen=2)
    number = collections.Counter(a=1)
    for i in range(3):
        items.append(x * i)
        table["a"].append(x + i)
        last.append(x - i)
        number["a"] += 1
    return sum(items) + table["a"][1] * last[0] * number["a"]


def closure(x):
    count = 0

    def inner(y):
        nonlocal count
        count += 1
        return y * count

    return inner(x) + inner(x)


def local_class(x):
    class Made:
        number = 0

        def __init__(self, x):
            self.x = x
            Made.number += 1

    return Made(x).x * Made.number + Made(x).x * Made.number


def functions(x):
    @functools.lru_cache
    def successor(n):
        return n + 1

    triple = functools.partial(lambda a, b: a * b, b=3)
    return (lambda a, b=2: a * b)(x) + triple(x) * successor(1) * successor(1)


def compiled(x):
    return ndl.jit(lambda y: nn.LayerNorm1d(4)(y))(x)


def objects(x):
    made = Counting(x)
    return made(x) + made(x) + made.double + made.double + counting.x


def objects_of_a_class_found_late(x):
    made, other = Counting(x), holder.make(x)
    made(x), other(x)
    return made(x) + other(x) + holder.counting.x


def through_dict(x):
    made = Updated(a=x)
    made.b = 2
    made.__dict__["c"] = 3
    return made.a * made.b * vars(made)["c"] * updated.a


def attribute_dict(x):
    made = AttributeDict(a=x, b=2)
    made.c = 3
    return made.a * made.b * made["c"]


def in_slots(x):
    made = Slots(x)
    made.b = 2
    made.b += 1
    return made.a * made.b * slots.a


def data_classes(x):
    made = Pair(x, 2)
    made.b += 1
    frozen = dataclasses.replace(FrozenPair(x), b=made.b)
    return made.a * frozen.b * pair.a + Named(x, 2)._replace(b=3).b


def namespaces(x):
    made = types.SimpleNamespace(a=x)
    made.b = 2
    made.b += 1
    return made.a * made.b


def iterators(x):
    items = iter([x, x * 2])
    return next(items) + next(items) + sum(a * 2 for a in (x, x))


def enumeration(x):
    class Kind(enum.Enum):
        A, B = 1, 2

    return x * Kind.B.value


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "RMSProp": lambda p: optim.RMSProp(p, lr=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
}
FUNCTIONS = [
    module, own_module, module_beside_known, module_in_eval, module_class, parameters, hooks,
    attributes, deep_copy, changed_copy, scheduled, trained_module, scaled, tensors, containers,
    closure, local_class, functions, compiled, objects, objects_of_a_class_found_late,
    through_dict, attribute_dict, in_slots, data_classes, namespaces, iterators, enumeration,
]  # fmt: skip
TABLE = {f.__name__: f for f in FUNCTIONS} | {k: trained(f) for k, f in OPTIMIZERS.items()}


@pytest.mark.parametrize("name", TABLE)
def test_one_program(name):
    """Five calls give what eager code gives, by one program; there is nothing to warn of."""
    function, x = TABLE[name], tensor(3, 4, requires_grad=False)
    compiled_function = ndl.jit(function)
    before = counting.calls, net.calls, set(vars(linear))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(5):
            scaled_x = x * (i + 1)
            expected = function(scaled_x).numpy()
            np.testing.assert_allclose(
                compiled_function(scaled_x).numpy(), expected, rtol=1e-5, atol=1e-5
            )
    assert compiled_function.compilations == 1
    assert (counting.calls, net.calls, set(vars(linear))) == before


def test_a_slot_that_is_only_written():
    """Each call writes a slot, whatever is in it before, and reads it not."""
    slots = Slots(1.0)

    def function(x):
        slots.b = x * slots.a
        return x

    compiled_function = ndl.jit(function)
    for i in range(3):
        slots.b = i
        x = tensor(2, seed=i, requires_grad=False)
        compiled_function(x)
        np.testing.assert_array_equal(slots.b.numpy(), x.numpy())
    assert compiled_function.compilations == 1


def test_a_copy_of_a_tensor_inside():
    """`copy.deepcopy` gives a Tensor of its own."""
    w = tensor(3)

    def function(x):
        twin = copy.deepcopy(w)
        twin.data = twin.data + x
        return twin.detach(), w.detach()

    x = tensor(3, seed=1, requires_grad=False)
    changed, kept = ndl.jit(function)(x)
    np.testing.assert_array_equal(kept.numpy(), w.numpy())
    np.testing.assert_allclose(changed.numpy(), w.numpy() + x.numpy(), rtol=1e-6)


# ---- what leaves the function ---------------------------------------------------------------


def in_a_data_class():
    def function(x):
        return Pair(x * 2, 3)

    return function, lambda out: (out.a.numpy(), out.b)


def in_slots_twice():
    def function(x):
        made = Slots(x * 2)
        made.b = made
        return {"made": made, "again": [made]}

    return function, lambda out: (
        out["made"].a.numpy(), out["again"][0] is out["made"], out["made"].b is out["made"]
    )  # fmt: skip


def a_module():
    def function(x):
        made = copy.deepcopy(linear)
        return made, made(x)

    def seen(out):
        made, y = out
        return made(tensor(2, 4)).numpy(), y.numpy(), type(made.weight), made.weight.requires_grad

    return function, seen


def an_optimizer():
    def function(x):
        w = nn.Parameter(np.ones((3, 4), np.float32))
        made = optim.Adam([w], lr=0.1)
        (w * x).sum().backward()
        made.step()
        return made, w

    def seen(out):
        made, w = out
        made.reset_grad()
        (w * 2).sum().backward()
        made.step()
        return w.numpy(), made.params[0] is w, list(made.state) == [w], made.state[w]["step"]

    return function, seen


def made_when_it_is_needed():
    kept: dict[str, Any] = {}
    model = types.SimpleNamespace(norm=None)
    w = nn.Parameter(np.ones(4, np.float32))

    def function(x):
        if model.norm is None:
            model.norm = nn.LayerNorm1d(4)
            kept["optimizer"] = optim.SGD([w, *model.norm.parameters()], lr=0.1, momentum=0.9)
        kept["optimizer"].reset_grad()
        loss = ((model.norm(x) * w - 1) ** 2).mean()
        loss.backward()
        kept["optimizer"].step()
        return loss.detach()

    return function, lambda loss: (loss.numpy(), w.numpy(), model.norm.weight.numpy())


LEAVING = {
    f.__name__: (f, n)
    for f, n in [
        (in_a_data_class, 1), (in_slots_twice, 1), (a_module, 1), (an_optimizer, 1),
        (made_when_it_is_needed, 2),
    ]
}  # fmt: skip


@pytest.mark.parametrize("name", LEAVING)
def test_what_leaves_is_new_at_every_call(name):
    """Objects that are returned or kept have the call's own Tensors, also when seen later."""
    make, programs = LEAVING[name]
    (eager, eager_seen), (function, seen) = make(), make()
    compiled_function = ndl.jit(function)
    results = []
    for i in range(4):
        x = tensor(3, 4, seed=i, requires_grad=False)
        results.append((eager(x), compiled_function(x)))
        if programs > 1:  # what was kept changes with the next call
            _assert_same(seen(results[-1][1]), eager_seen(results[-1][0]))
    if programs == 1:
        for expected, got in results:
            _assert_same(seen(got), eager_seen(expected))
    assert compiled_function.compilations == programs


def _assert_same(got: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for a, b in zip(got, expected, strict=True):
        if isinstance(b, np.ndarray):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        else:
            assert a == b


def test_a_generator_runs_after_the_call():
    """So that it is eager code's, with a warning."""

    def function(x):
        for i in range(2):
            yield x * i

    compiled_function = ndl.jit(function)
    with pytest.warns(UserWarning, match="returns or keeps a generator"):
        first = compiled_function(tensor(2))
    for results in (first, compiled_function(tensor(2))):
        assert [r.numpy().tolist() for r in results] == [
            (tensor(2) * i).numpy().tolist() for i in range(2)
        ]
