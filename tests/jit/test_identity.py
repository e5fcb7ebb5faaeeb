"""Which objects are one: a compiled function gives what the function gives, whichever are given.

Each scenario builds Tensors, wraps functions with `wrap` and says what came of some calls. It runs
with functions as they are and with compiled ones, and must come to the same.
"""

from __future__ import annotations

import copy
import itertools
import operator
import pickle
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.backend_ndarray import from_numpy
from needle.jit.frontend.signature import Signature
from needle.jit.frontend.trace import TraceError

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
SCENARIOS: list[Any] = []


def scenario(function: Callable[[Wrap], Any]) -> Callable[[Wrap], Any]:
    SCENARIOS.append(pytest.param(function, "evaluate", id=function.__name__))
    return function


def native_too(function: Callable[[Wrap], Any]) -> Callable[[Wrap], Any]:
    """A scenario that also depends on what runs the program: whose memory it writes."""
    SCENARIOS.append(pytest.param(function, "on", id=f"{function.__name__}-native"))
    return scenario(function)


def const(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(numbers, "float32"), requires_grad=False)


def leaf(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(numbers, "float32"))


def seen(tree: Any) -> Any:
    """The nesting with lists of numbers in the place of Tensors."""
    if isinstance(tree, (list, tuple)):
        return [seen(x) for x in tree]
    return tree.tolist() if isinstance(tree, ndl.Tensor) else tree


# ---- arguments that are one object --------------------------------------------------------------


@scenario
def the_same_argument_twice(wrap):
    f, a, b = wrap(lambda x, y: x + y), const(1, 2), const(10, 20)
    return [f(a, a), f(a, b), f(a, a), f(b, a), f(b, b)]


@scenario
def the_same_argument_in_nestings(wrap):
    f, a, b = wrap(lambda d, more=(): d["a"] + 2 * d["b"][0] + sum(more)), const(1, 2), const(3, 5)
    return [
        f({"a": x, "b": [y]}, more=(z,))
        for x in (a, b)
        for y in (a, b)
        for z in (a, b, const(0, 1))
    ]


@native_too
def the_same_argument_written_in_place(wrap):
    def f(x, y):
        x[0] = y[1] + 1
        return x * 1, y * 1

    f, a, b = wrap(f), const(1, 2), const(10, 20)
    return [f(a, b), f(a, a), f(b, a), a, b]


@scenario
def the_same_argument_with_new_data(wrap):
    def f(x, y):
        x.data = y * 2
        return x + y

    f, a, b = wrap(f), const(1, 2), const(10, 20)
    return [f(a, b), f(a, a), f(b, a), a, b]


@scenario
def gradients_of_the_same_argument(wrap):
    def f(x, y):
        (x * y).sum().backward()
        return x.grad, y.grad

    f, a, b = wrap(f), leaf(1, 2), leaf(3, 4)
    return [f(a, b), f(a, a), f(b, a), a.grad, b.grad]


@scenario
def the_same_list_twice(wrap):
    def f(xs, ys):
        xs.append(xs[0] * 2)
        return len(ys), ys[-1] + 1

    f = wrap(f)
    first, second = [const(1)], [const(2)]
    return [f([*first], [*second]), (lambda same: f(same, same))([*first])]


@scenario
def keywords_in_another_order(wrap):
    f = wrap(lambda **named: next(iter(named.values())) * 1)
    return [f(a=const(1), b=const(2)), f(b=const(2), a=const(1))]


@scenario
def what_is_returned_is_the_argument(wrap):
    f, a, b = wrap(lambda x, y: [y, x]), const(1), const(2)
    return [list(map(operator.is_, f(x, y), (y, x))) for x, y in ((a, b), (a, a), (b, a))]


# ---- arguments that are also found outside ------------------------------------------------------


@scenario
def a_state_is_given_first(wrap):
    w, b = const(1, 2), const(10, 20)
    f = wrap(lambda x: x * w)
    return [f(w), f(b), f(w), f(const(5, 5))]


@scenario
def a_state_is_given_later(wrap):
    w, b = const(1, 2), const(10, 20)
    f = wrap(lambda x: x * w)
    return [f(b), f(w), f(b), f(w)]


@native_too
def a_state_is_given_and_written_in_place(wrap):
    w, b = const(1, 2), const(10, 20)

    def f(x):
        x[0] = x[0] + 5
        return x + w

    f = wrap(f)
    return [f(b), f(w), f(b), f(w), w, b]


@scenario
def a_state_is_given_new_data(wrap):
    w, b = const(1, 2), const(10, 20)

    def f(x):
        w.data = x * 2
        return x * 1

    f = wrap(f)
    return [f(b), f(w), w, f(b), w, f(w), w]


@native_too
def gradients_of_a_state_that_is_given(wrap):
    w, b = leaf(1, 2), leaf(10, 20)

    def f(x):
        (x * w).sum().backward()
        return x.grad, w.grad

    f = wrap(f)
    return [[seen(f(x)), seen([w.grad, x.grad])] for x in (b, w, b, w)]


@scenario
def a_parameter_is_given_and_an_optimizer_has_it(wrap):
    w, x = leaf(1, 2), const(1, 3)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.5)

    def f(p, x):
        loss = (p * p * x).sum()
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    f = wrap(f)
    return [f(w, x), f(w, x), w]


@scenario
def two_states_given_in_both_orders(wrap):
    v, w = const(1, 2), const(3, 5)
    f = wrap(lambda x, y: x - v + 2 * (y - w))
    return [f(x, y) for x in (v, w) for y in (v, w)] + [f(const(0, 1), w), f(v, const(1, 1))]


@scenario
def a_state_in_a_frozen_dataclass_and_a_partial(wrap):
    @dataclass(frozen=True)
    class Pair:
        a: ndl.Tensor
        scale: float

    f, w, v = wrap(lambda pair, g: g(pair.a) * pair.scale), const(1, 2), const(3, 4)
    add = lambda x, y: x + y  # noqa: E731
    pairs = (Pair(w, 2.0), Pair(w, 3.0), Pair(v, 2.0))
    return [f(pair, partial(add, y)) for pair in pairs for y in (w, v)]


# ---- gradients as arguments ---------------------------------------------------------------------


@scenario
def a_gradient_is_given_with_its_tensor(wrap):
    w, results = leaf(1, 2), []
    f = wrap(lambda p, g: (p.grad * 2 + g, p - g))
    for k in (1.0, 2.0):
        (w * k).sum().backward()
        results += [f(w, w.grad), f(w, const(1, 1))]
    return results


@scenario
def a_gradient_is_given_and_found(wrap):
    w, results = leaf(1, 2), []
    f = wrap(lambda g: w.grad * 2 + g)
    for k in (1.0, 2.0):
        (w * k).sum().backward()
        results += [f(w.grad), f(const(1, 1)), f(w.grad)]
    return results


@scenario
def gradients_are_summed_up(wrap):
    w = leaf(1, 2)

    def f(x):
        before = w.grad
        (w * x).sum().backward()
        if before is not None:
            w.grad = before + w.grad

    f = wrap(f)
    results = []
    for x in (const(1, 2), const(3, 4), const(5, 6)):
        f(x)
        results.append(seen(w.grad))
    w.grad = None
    f(const(1, 1))
    return [*results, w.grad]


@scenario
def what_an_argument_was_made_from(wrap):
    y, results = leaf(1, 2), []

    def f(z):
        (z * z).sum().backward()
        return z.grad

    f = wrap(f)
    for k in (3, 5):
        z = y * k
        results += [seen(f(z)), seen(y.grad)]
    return results


# ---- Tensors that share memory ------------------------------------------------------------------


@native_too
def a_write_is_seen_outside(wrap):
    w = const(1, 2, 3)
    v, part = w.detach(), w[1:]

    def f():
        w[1] = w[1] + 1

    f = wrap(f)
    f(), f()
    return [w, v, part]


@native_too
def a_write_through_a_strided_view(wrap):
    w = ndl.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=False)
    v = w.transpose()

    def f():
        v[0] = v[0] + 1

    f = wrap(f)
    f(), f()
    return [w, v]


@native_too
def a_strided_state_goes_on_sharing_memory(wrap):
    w = ndl.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=False)
    v = w.transpose()
    f = wrap(lambda: v * 1)
    first = f()
    w[0, 0] = 100
    return [first, f(), v]


@scenario
def a_write_into_a_part_that_is_given(wrap):
    def f(x):
        x[0] = 9.0
        return x * 2

    f = wrap(f)
    w = ndl.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=False)
    return [f(w[1]), f(w.transpose()[0]), w]


@scenario
def arguments_that_share_memory(wrap):
    w = const(1, 2, 3)
    v = w.detach()

    def f(x, y):
        x[0] = x[0] + 1
        return y * 2

    f = wrap(f)
    return [f(w, v), f(w, const(7, 7, 7)), f(w, w), f(v, w), f(w[:2], w[1:]), w, v]


@native_too
def states_that_share_memory(wrap):
    w, x = const(1, 2, 3), const(1, 1, 1)
    v = w.detach()

    def f(x):
        w[0] = w[0] + x[0]
        return v * 2

    f = wrap(f)
    first = [f(x), f(v)]
    v.data = const(4, 4, 4)  # its own memory from here on
    return [*first, f(x), f(v), v, w]


@native_too
def an_argument_shares_the_memory_of_a_state(wrap):
    w = const(1, 2, 3)

    def f(x):
        w[0] = x[1] + 1
        return x * 2

    f = wrap(f)
    return [f(const(5, 6, 7)), f(w.detach()), f(w[:]), f(w), w]


@native_too
def memory_of_numpy(wrap):
    array = np.arange(4, dtype="float32")
    a, b = (ndl.Tensor(from_numpy(array), requires_grad=False) for _ in range(2))

    def f(x, y):
        x[1:] = x[1:] * 2
        return y + 1

    f = wrap(f)
    return [f(a, b), f(b, a), array.tolist()]


@native_too
def data_of_another_state(wrap):
    v, w, x = const(1, 2), const(3, 4), const(0, 0)

    def share(x):
        w.data = v
        x.data = w
        return w + 1

    share = wrap(share)
    results = [seen(share(x))]
    v[0] = 9
    results += [seen([v, w, x]), seen(share(const(5, 5)))]
    v[1] = 8
    return [*results, v, w, x]


@native_too
def written_and_then_given_other_data(wrap):
    w = const(1, 2)
    v = w.detach()

    def f(x):
        w[0] = 7
        w.data = x * 2
        return w + 1

    f = wrap(f)
    return [f(const(3, 4)), v, w, f(const(5, 6)), v, w]


# ---- what is returned ---------------------------------------------------------------------------


@scenario
def a_state_that_is_only_returned(wrap):
    w = const(1, 1)
    f, g = wrap(lambda x: w), wrap(lambda: {"w": [w, w.detach()]})
    results = [seen(f(w)), seen(g()["w"])]
    w.data = const(5, 5)
    results += [seen(f(const(3, 3))), seen(g()["w"]), f(w) is w, g()["w"][0] is w]
    w[0] = 8
    return [*results, f(w), g()["w"]]


@scenario
def parameters_are_returned(wrap):
    model = nn.Linear(2, 2)
    f, g = wrap(lambda: list(model.parameters())), wrap(lambda: model.state_dict())
    results = []
    for k in (1.0, 2.0):
        model.weight.data = ndl.Tensor(np.full((2, 2), k), dtype="float32")
        results += [seen(f()[0]), seen(g()["weight"])]
    return [*results, [a is b for a, b in zip(f(), model.parameters(), strict=True)]]


@scenario
def gradients_are_returned(wrap):
    w = leaf(1, 2)
    f = wrap(lambda: [w.grad])
    results = [f()]
    for k in (1.0, 2.0):
        (w * k).sum().backward()
        results += [seen(f()), f()[0] is w.grad]
    w.grad = None
    return [*results, f()]


@scenario
def nestings_of_other_classes(wrap):
    Pair = namedtuple("Pair", "a b")

    def f(pair, named):
        found = defaultdict(list, {"x": [pair.a, named["k"]]})
        return Pair(pair.b * 2, found), OrderedDict(named)

    pair, named = wrap(f)(Pair(const(1), const(2)), OrderedDict(k=const(3)))
    kinds = [type(x).__name__ for x in (pair, pair.b, named)]
    return [kinds, pair.a, pair.b["x"], pair.b["new"], named["k"]]


# ---- copies -------------------------------------------------------------------------------------


@scenario
def copied_tensors(wrap):
    f, x = wrap(lambda x: 2 * x), const(1, 2)
    copies = [copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))]
    return [f(c) for c in copies] + [wrap(lambda c=c: c * 3)() for c in copies]


@native_too
def a_copied_model_is_trained(wrap):
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    x, y = (ndl.Tensor(np.random.rand(5, n), requires_grad=False) for n in (3, 2))
    copies = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    optimizers = [optim.Adam(m.parameters(), lr=0.1) for m in copies]

    def step(m, o):
        loss = ((m(x) - y) ** 2).mean()
        o.reset_grad()
        loss.backward()
        o.step()
        return loss

    step = wrap(step)
    turns = list(zip(copies, optimizers, strict=True)) * 2
    return [round(step(m, o).item(), 5) for m, o in turns]


@scenario
def a_copied_function(wrap):
    class Doubler:
        def __init__(self):
            self.factor = const(2)
            self.run = wrap(self.scale)

        def scale(self, x):
            return x * self.factor

    first = Doubler()
    results = [first.run(const(1))]
    second = copy.deepcopy(first)
    second.factor.data = const(3)
    return [*results, second.run(const(1)), first.run(const(1)), copy.copy(first.run)(const(4))]


@pytest.mark.parametrize(("scene", "mode"), SCENARIOS)
def test_compiled_equals_eager(scene, mode, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", mode)
    assert seen(scene(ndl.jit)) == seen(scene(lambda f: f))


def test_one_program_serves_all_arguments_that_are_apart():
    w = const(1, 2)
    f = ndl.jit(lambda x, y: (x + y) * w)
    tensors = [const(i, i) for i in range(4)]
    for a, b in itertools.pairwise(tensors):
        f(a, b)
    assert f.compilations == 1
    f(w, a)
    f(w, b)
    f(a, b)
    assert f.compilations == 2


def test_an_argument_is_not_kept():
    x = leaf(1, 2)
    f = ndl.jit(lambda x: (x * x).sum().backward())
    f(x)
    gone = weakref.ref(x)
    del x
    assert gone() is None


@pytest.mark.parametrize("device", [ndl.cpu(), ndl.cpu_numpy(), ndl.cuda(), ndl.cuda(1)], ids=str)
def test_a_device_is_one_object(device):
    for same in (copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))):
        assert same(device) is device
    assert copy.deepcopy({"device": [device]})["device"][0] is device


def test_gpus_are_numbered():
    assert ndl.cuda() is ndl.cuda(0) is ndl.cuda(ordinal=np.int64(0))
    assert ndl.cuda(1) is ndl.cuda(True) is not ndl.cuda()
    with pytest.raises(ValueError, match="numbered from 0, got -1"):
        ndl.cuda(-1)
    with pytest.raises(TypeError):
        ndl.cuda(1.5)


# ---- other leaves -------------------------------------------------------------------------------

NAN = float("nan")
# What is equal within a row is one argument, across rows another.
LEAVES = [
    [1], [True], [1.0], [np.float64(1.0)], [np.float32(1.0)], [np.int64(1)], [1 + 0j], ["1"],
    [b"1"], [0.0], [-0.0], [0], [False], [NAN, float("nan"), -NAN], [np.float32("nan")],
    [float("inf")],
    [complex(0.0, -0.0)], [complex(0.0, 0.0)], [None], [...], [slice(1), slice(None, 1)],
    [slice(1.0)], [slice(0, -1)], [(1,)], [(True,)], [[1]], [{1: 2}], [{True: 2}], [{1.0: 2}],
    [{0.0: 2}], [{-0.0: 2}], [{1: 2.0}], [range(3), range(0, 3)], [frozenset((0.0,))],
    [frozenset((-0.0,))], [np.dtype("float32"), ndl.Tensor([1.0]).dtype], [np.dtype("float64")],
    [ndl.cpu(), copy.copy(ndl.cpu())], [ndl.cpu_numpy()], [len], [nn.Linear],
    [Fraction(1)], [Decimal("1")], [Decimal("1.0")], [Path("a"), Path("a")],
]  # fmt: skip


def test_leaves_are_told_apart_by_what_they_are():
    keys = [[Signature((leaf,)).key for leaf in row] for row in LEAVES]
    for row, same in zip(LEAVES, keys, strict=True):
        assert len(set(same)) == 1, row
    assert len({row[0] for row in keys}) == len(LEAVES)


@dataclass(frozen=True)
class Options:
    scale: float
    names: tuple[str, ...] = ()


def test_frozen_dataclasses_and_partials_are_told_apart_by_their_fields():
    def key(leaf: Any) -> Any:
        return Signature((leaf,)).key

    assert key(Options(1.0, ("a",))) == key(Options(1.0, ("a",))) != key(Options(1, ("a",)))
    assert key(Options(0.0)) != key(Options(-0.0))
    assert key(partial(max, 1)) == key(partial(max, 1)) != key(partial(max, 2))


def test_numbers_of_numpy_are_plain_values():
    f = ndl.jit(lambda x, n: x * float(n))
    for n in (np.float32(2), np.int64(3), np.bool_(True)):
        assert f(const(1, 2), n).tolist() == [float(n), 2 * float(n)]


@pytest.mark.parametrize("leaf", [{1, 2}, bytearray(b"1"), ndl.cpu().ones((2,))])
def test_what_may_change_is_no_argument(leaf):
    with pytest.raises(TypeError, match=r"\[jit\] an argument"):
        ndl.jit(lambda x: x)(leaf)


# ---- constants and devices ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_constants_made_inside_have_values(dtype, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    table = nn.Embedding(4, 2)

    def f(x):
        index = ndl.Tensor(np.arange(2), dtype=dtype, requires_grad=False)
        total = index.sum().item()
        if (index == 1).astype("int32").sum() > 0:
            total += 10
        with ndl.no_grad():
            index[0] = index[1]
        return table(index) * x + total, index.numpy().tolist(), ndl.ones_like(index).tolist()

    x = const(1, 2)
    assert seen(ndl.jit(f)(x)) == seen(f(x))


def test_a_device_without_a_compiler_makes_one_call_eager():
    w = const(2)
    f = ndl.jit(lambda x: x * 2)
    with pytest.warns(UserWarning, match="runs eagerly: cpu_numpy"):
        assert f(const(1).to(ndl.cpu_numpy())).item() == 2
    assert f(const(1)).item() == 2
    assert f(const(3).to(ndl.cpu_numpy())).item() == 6
    assert f.compilations == 1
    g = ndl.jit(lambda: w * 2)
    w.data = w.to(ndl.cpu_numpy())
    with pytest.warns(UserWarning, match="runs eagerly: cpu_numpy"):
        assert g().item() == 4
    w.data = w.to(ndl.cpu())
    assert g().item() == 4
    assert g.compilations == 1


def test_the_gradient_of_an_argument_that_is_known_by_another_name(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    w, other = ndl.Tensor([2.0, 3.0]), ndl.Tensor([1.0, 4.0])

    def function(x):
        return ndl.grad((x * x).sum(), [w, x])

    compiled = ndl.jit(function)
    for x in (other, w, other, w):
        ours, theirs = compiled(x), function(x)
        assert [g is None for g in ours] == [g is None for g in theirs] == [x is other, False]
        assert ours[1].tolist() == theirs[1].tolist()


@pytest.mark.parametrize("from_argument", [False, True])
def test_a_gradient_through_what_was_computed_outside_is_refused(from_argument, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    w = ndl.Tensor([2.0, 3.0])
    x = w * w
    function = ndl.jit(lambda x, v: ndl.grad((x * v).sum(), [x, v if from_argument else w]))
    direct = ndl.jit(lambda x: ndl.grad((x * w).sum(), [x, w]))
    with pytest.raises(TraceError, match="goes through a tensor computed outside"):
        function(x, w)
    with pytest.raises(TraceError, match="goes through a tensor computed outside"):
        direct(x)
    inside = ndl.jit(lambda x: ndl.grad((x * 3).sum(), [x]))
    assert inside(x)[0].tolist() == [3, 3]
