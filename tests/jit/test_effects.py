"""What a function changes in Python: a compiled one changes the same, call after call.

A scene builds its objects, wraps a function with `wrap`, and says what came of some calls. It runs
with the function as it is and compiled, and must come to the same. It names how many programs the
compiled function needs; where there can be none it runs eagerly, and a warning says why.
"""

from __future__ import annotations

import array
import collections
import io
import itertools
import queue
import random
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit.frontend.function import JitFunction

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
SCENES: list[Any] = []


def scene(programs: int, warning: str = "") -> Callable[[Callable[[Wrap], Any]], Any]:
    def add(function: Callable[[Wrap], Any]) -> Callable[[Wrap], Any]:
        SCENES.append(pytest.param(function, programs, warning, id=function.__name__))
        return function

    return add


def const(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(numbers, "float32"), requires_grad=False)


def seen(tree: Any) -> Any:
    """The nesting with lists of numbers in the place of Tensors and arrays, pairs for dicts."""
    if isinstance(tree, (list, tuple, collections.deque)):
        return [seen(x) for x in tree]
    if isinstance(tree, dict):
        return [(key, seen(value)) for key, value in tree.items()]
    return tree.tolist() if isinstance(tree, (ndl.Tensor, np.ndarray)) else tree


def calls(function: Callable[..., Any], look: Callable[[], Any] = lambda: None, n: int = 5) -> Any:
    """The results of some calls, with what `look` gives after each."""
    return [(seen(function(const(i, 2))), seen(look())) for i in range(n)]


# ---- numbers and items that come from outside ---------------------------------------------------


@scene(0, "draws numbers of numpy.random itself")
def numbers_of_numpy(wrap):
    np.random.seed(3)
    dropout = nn.Dropout(0.5)
    return calls(wrap(lambda x: dropout(x) * np.random.uniform(-1, 1)))


@scene(0, "draws numbers of random itself")
def numbers_of_python(wrap):
    random.seed(3)
    return calls(wrap(lambda x: x * random.random()))


@scene(0, "draws numbers of a Generator itself")
def numbers_of_a_generator(wrap):
    generator = np.random.default_rng(0)
    return calls(wrap(lambda x: x * generator.random()))


@scene(0, "draws numbers of a RandomState itself")
def numbers_of_a_random_state_in_an_attribute(wrap):
    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.state = np.random.RandomState(0)

        def forward(self, x):
            return x + ndl.Tensor(self.state.randn(2), dtype="float32", requires_grad=False)

    return calls(wrap(Noise()))


@scene(0, "draws numbers of a PCG64 itself")
def numbers_of_a_bit_generator(wrap):
    generator = np.random.PCG64(0)
    return calls(wrap(lambda x: x * float(generator.random_raw() % 10)))


@scene(0, "draws numbers of a Random itself")
def numbers_of_a_generator_of_python(wrap):
    generator = {"it": random.Random(0)}
    return calls(wrap(lambda x: x * generator["it"].gauss(0, 1)))


@scene(1)
def generators_that_are_there(wrap):
    generator, other = np.random.default_rng(0), random.Random(0)
    return calls(wrap(lambda x: x * 2 if generator is not other else x))


def _iterators(make: Callable[[], Any]) -> Callable[[Wrap], Any]:
    def play(wrap):
        iterator = make()
        return calls(wrap(lambda x: x * next(iterator)))

    return play


ITERATORS: dict[str, Callable[[], Any]] = {
    "list_iterator": lambda: iter([1.0, 2.0, 3.0, 4.0, 5.0]),
    "generator": lambda: (float(i) for i in range(9)),
    "count": itertools.count,
    "cycle": lambda: itertools.cycle([1.0, 2.0]),
    "map": lambda: map(len, ["a", "bb", "ccc", "", "d"]),
    "chain": lambda: itertools.chain([1.0, 2.0], [3.0, 4.0, 5.0]),
}
for name, make in ITERATORS.items():
    kind = type(make()).__name__
    SCENES.append(pytest.param(_iterators(make), 0, f"uses a {kind}", id=f"iterator_{name}"))


@scene(0, "uses a StringIO")
def a_file_that_is_written(wrap):
    file = io.StringIO()

    def f(x):
        file.write("call ")
        return x * 2

    return calls(wrap(f), file.getvalue)


# ---- containers and arrays ----------------------------------------------------------------------

GROWS = "changes what is in a list, dict, set, deque or array at every call"


@scene(1, GROWS)
def a_list_grows(wrap):
    kept = []

    def f(x):
        kept.append(x * 2)
        return x + len(kept)

    return calls(wrap(f), lambda: kept)


@scene(1, GROWS)
def a_list_of_an_object_grows(wrap):
    class Step:
        def __init__(self) -> None:
            self.losses = []

        def run(self, x):
            self.losses.append(1)
            return x * len(self.losses)

    step = Step()
    return calls(wrap(step.run), lambda: step.losses)


@scene(1, GROWS)
def a_list_in_a_slot_grows(wrap):
    class Step:
        __slots__ = ("losses",)

    step = Step()
    step.losses = []

    def f(x):
        step.losses.append(x * 1)
        return sum(step.losses)

    return calls(wrap(f), lambda: step.losses)


@scene(1, GROWS)
def a_default_grows(wrap):
    def g(x, kept=[]):  # noqa: B006
        kept.append(1)
        return x * len(kept)

    return calls(wrap(lambda x: g(x)))


@scene(1, GROWS)
def a_list_shrinks(wrap):
    left = [1.0, 2.0, 3.0, 4.0, 5.0]
    return calls(wrap(lambda x: x * left.pop()), lambda: left)


@scene(1, GROWS)
def a_deque_moves_on(wrap):
    latest = collections.deque(maxlen=2)

    def f(x):
        latest.append(x * 1)
        return sum(latest)

    return calls(wrap(f), lambda: latest)


@scene(1, GROWS)
def a_queue_is_emptied(wrap):
    waiting: queue.Queue[float] = queue.Queue()
    for i in range(9):
        waiting.put(float(i))
    return calls(wrap(lambda x: x * waiting.get()), waiting.qsize)


@scene(1, GROWS)
def a_dict_is_turned_round(wrap):
    numbers = {"a": 1.0, "b": 2.0}

    def f(x):
        first = next(iter(numbers))
        numbers[first] = numbers.pop(first)
        return x * numbers[first]

    return calls(wrap(f), lambda: numbers)


@scene(1, GROWS)
def an_array_is_written(wrap):
    table = np.ones(2)

    def f(x):
        table[0] += 1
        return x * float(table[0])

    return calls(wrap(f), lambda: table)


@scene(0, "changes a ndarray of more than 1000 items")
def a_large_array_is_written(wrap):
    table = np.ones(5000)

    def f(x):
        table[0] += 1
        return x * float(table[0])

    return calls(wrap(f), lambda: table[:2])


@scene(0, "changes a list of more than 1000 items")
def a_large_list_grows(wrap):
    numbers = [1.0] * 5000

    def f(x):
        numbers.append(1.0)
        return x * len(numbers)

    return calls(wrap(f), lambda: len(numbers))


@scene(2)
def a_large_list_grows_outside(wrap):
    numbers = [1.0] * 5000
    f = wrap(lambda x: x * len(numbers))
    results = [seen(f(const(1)))]
    numbers.append(1.0)
    return [*results, f(const(1))]


@scene(1, GROWS)
def bytes_are_written(wrap):
    counts = bytearray(2)

    def f(x):
        counts[0] += 1
        return x * counts[0]

    return calls(wrap(f), lambda: list(counts))


@scene(1, GROWS)
def an_array_of_python_is_written(wrap):
    counts = array.array("d", [1.0, 2.0])

    def f(x):
        counts[0] += 1
        return x * counts[0]

    return calls(wrap(f), lambda: list(counts))


@scene(2)
def a_set_that_grows_once(wrap):
    names = set()

    def f(x):
        names.add("a")
        return x * len(names)

    return calls(wrap(f), lambda: sorted(names))


@scene(4)
def a_dict_that_remembers(wrap):
    tables = {}

    def f(x):
        n = x.shape[0]
        if n not in tables:
            tables[n] = ndl.Tensor(np.arange(n), dtype="float32", requires_grad=False)
        return x * tables[n]

    f = wrap(f)
    return [(seen(f(const(*range(1 + i % 2)))), seen(tables)) for i in range(6)]


@scene(2)
def a_counter_counts(wrap):
    counts = collections.Counter()

    def f(x):
        counts["calls"] += 1
        return x * counts["calls"]

    return calls(wrap(f), lambda: counts)


@scene(2)
def a_dict_gets_a_tensor(wrap):
    results = {}

    def f(x):
        results["double"] = x * 2
        return x

    return calls(wrap(f), lambda: results)


@scene(1)
def tensors_are_replaced_in_a_list_and_a_dict(wrap):
    hidden, named = [const(1, 1), "text"], {"h": const(2, 2)}

    def f(x):
        hidden[0] = ndl.tanh(hidden[0] + x)
        named["h"] = named["h"] * 0.5 + hidden[0]
        return named["h"]

    return calls(wrap(f), lambda: (hidden, named))


@scene(1)
def tensors_change_places(wrap):
    pair = [const(1, 1), const(2, 2)]

    def f(x):
        pair[0], pair[1] = pair[1], pair[0]
        return x * pair[0]

    return calls(wrap(f), lambda: pair)


@scene(2)
def the_order_of_a_dict(wrap):
    numbers = {"a": 1.0, "b": 2.0}
    f = wrap(lambda x: x * next(iter(numbers.values())))
    results = [seen(f(const(1)))]
    numbers["a"] = numbers.pop("a")
    return [*results, f(const(1))]


@scene(1)
def what_was_replaced_is_returned(wrap):
    w = ndl.Tensor(np.ones(2), dtype="float32")
    kept, named = [const(1, 1)], {"h": const(1, 1)}

    def f(x):
        before = kept[0], named["h"], w.grad
        kept[0], named["h"] = x * 2, kept[0]
        (w * x).sum().backward()
        w.grad = w.grad * 1
        return before

    w.grad = const(5, 5)
    return calls(wrap(f), lambda: (kept, named, w.grad))


# ---- objects ------------------------------------------------------------------------------------


@scene(2)
def an_object_without_attributes(wrap):
    class Step:
        calls = 0

        def run(self, x):
            self.calls += 1
            self.result = x * self.calls
            return x

    step = Step()
    return calls(wrap(step.run), lambda: (step.calls, step.result))


@scene(2)
def an_attribute_is_deleted(wrap):
    class Step:
        def __init__(self) -> None:
            self.first = 3.0

        def run(self, x):
            if hasattr(self, "first"):
                x = x * self.first
                del self.first
            return x

    step = Step()
    return calls(wrap(step.run), lambda: vars(step))


# ---- containers among the arguments -------------------------------------------------------------


def _on_dicts(function: Callable[[Any], Any]) -> Callable[[Wrap], Any]:
    def play(wrap):
        f, results = wrap(function), []
        for i in range(3):
            given = {"x": const(i, 1), "inner": {"list": [const(7, 7), 2.0]}, "n": 1}
            result = f(given)
            results.append((seen(result), seen(given), result is given, result is given.get("x")))
        return results

    return play


def _adds(d):
    d["new"] = d["x"] * 2
    return d["new"]


def _replaces(d):
    d["x"] = d["x"] * 2
    return d["x"]


def _removes(d):
    return d.pop("x") * d.setdefault("factor", 2)


def _goes_deep(d):
    d["inner"]["list"][0] = d["x"] + d["inner"]["list"][0]
    d["inner"]["list"].append("text")
    d["inner"]["other"] = [d["x"], d["inner"]["list"]]
    del d["n"]
    return d


def _counts(d):
    d["n"] += 1
    d["inner"]["list"].sort(key=lambda x: isinstance(x, ndl.Tensor))
    return d["x"] * d["n"]


for function in (_adds, _replaces, _removes, _goes_deep, _counts):
    SCENES.append(pytest.param(_on_dicts(function), 1, "", id=f"argument{function.__name__}"))


@scene(2)
def a_list_that_is_given_grows(wrap):
    def f(x, kept):
        kept.append(x * 2)
        return x

    f, kept = wrap(f), []
    results = calls(lambda x: f(x, kept), lambda: kept, 2)
    return [*results, kept[0] is kept[1]]


@scene(4)
def a_list_that_is_given_and_found(wrap):
    found = [const(1)]
    f = wrap(lambda x: x[0] * (2 if x is found else 3))
    results = [f(x) for x in (found, [const(1)], found, [found[0]])]
    g = wrap(lambda x: found.append(const(5)) or sum(x))
    return [*results, g([const(2)]), found]


@scene(2)
def objects_that_are_given(wrap):
    class Batch:
        pass

    def f(x, batch):
        batch.double, batch.n = x * 2, getattr(batch, "n", 0) + 1
        return x * batch.n

    f, batch = wrap(f), Batch()
    return calls(lambda x: f(x, batch), lambda: (batch.double, batch.n))


# ---- which objects are one ----------------------------------------------------------------------


@scene(1)
def one_result_twice(wrap):
    def f(x):
        y = x * 2
        return y, [y], {"y": y}

    f = wrap(f)
    results = [f(const(i)) for i in range(2)]
    return [(a, a is b, a is c["y"]) for a, [b], c in results]


@scene(1)
def one_list_twice(wrap):
    def f(x):
        inner = [x * 2]
        return inner, {"inner": inner}

    f = wrap(f)
    results = [f(const(i)) for i in range(2)]
    return [results, results[0][0] is results[0][1]["inner"], results[0][0] is results[1][0]]


@scene(1)
def a_result_that_is_kept(wrap):
    class Step:
        kept = None

        def run(self, x):
            self.kept = [x * 2]
            return self.kept, self.kept[0]

    step = Step()
    f = wrap(step.run)
    results = [f(const(i)) for i in range(3)]
    return [results, [r[0] is step.kept for r in results], results[-1][1] is step.kept[0]]


@scene(1)
def a_list_from_outside_is_returned(wrap):
    kept = [const(1), 2]
    f = wrap(lambda x: (x * 2, kept))
    return [f(const(i))[1] is kept for i in range(2)]


@scene(1)
def a_gradient_is_returned(wrap):
    w = ndl.Tensor(np.ones(2), dtype="float32")

    def f(x):
        w.grad = None
        (w * x).sum().backward()
        return w.grad

    f = wrap(f)
    return [(seen(g := f(const(i, 1))), g is w.grad) for i in range(3)]


@scene(1)
def containers_that_are_made_inside(wrap):
    f = wrap(lambda x: (np.zeros(2), {1}, collections.deque([x * 2], 3), [], bytearray(1)))
    results = []
    for i in range(3):
        array, members, latest, kept, counts = f(const(i))
        array += 1
        members.add(i)
        latest.append(i)
        kept.append(i)
        counts[0] += 1
        results.append([seen(array), sorted(members), seen(latest), latest.maxlen, kept, counts])
    return results


@scene(2)
def an_argument_is_the_state_or_not(wrap):
    w, ws = const(1, 2), [const(3, 4)]
    f = wrap(lambda x: x * 2 if x is w or any(x is y for y in ws) else x)
    return [f(x) for x in (const(1, 2), w, const(1, 3), w)]


@scene(3)
def an_argument_is_in_a_list_or_not(wrap):
    ws = [const(3, 4), const(5, 6)]
    f = wrap(lambda x: [x is w for w in ws])
    return [f(x) for x in (ws[0], const(1, 2), ws[1], ws[0], const(1, 3))]


# ---- hidden states ------------------------------------------------------------------------------


def _hidden(nest: Callable[..., Any], parts: Callable[[Any], Any]) -> Callable[[Wrap], Any]:
    def play(wrap):
        class Cell:
            def __init__(self) -> None:
                self.state = nest(const(0, 0), const(1, 1))

            def run(self, x):
                h, c = parts(self.state)
                before, self.state = self.state, nest(h * 0.5 + x, c * 0.5 + h)
                return before

        cell = Cell()
        f = wrap(cell.run)
        results = calls(f, lambda: cell.state)
        cell.state = nest(const(5, 5), const(6, 6))
        return [*results, *calls(f, lambda: cell.state, 2)]

    return play


HIDDEN: dict[str, Any] = {
    "tuple": (lambda h, c: (h, c), lambda s: s),
    "list": (lambda h, c: [h, c], lambda s: s),
    "dict": (lambda h, c: {"h": h, "c": c}, dict.values),
    "tuple_of_lists": (
        lambda h, c: ([h, "text"], (2, {"c": c})),
        lambda s: (s[0][0], s[1][1]["c"]),
    ),
}
for name, functions in HIDDEN.items():
    SCENES.append(pytest.param(_hidden(*functions), 1, "", id=f"hidden_{name}"))


@scene(3)
def a_hidden_state_that_becomes_longer(wrap):
    class Cell:
        state = (const(1, 1), 2.0)

    cell = Cell()

    def f(x):
        cell.state = (*(s * 0.5 + x for s in cell.state[:-1]), cell.state[-1])
        return sum(cell.state)

    f = wrap(f)
    results = calls(f, lambda: cell.state, 2)
    cell.state = (const(1, 1), const(2, 2), 2.0)
    return [*results, *calls(f, lambda: cell.state, 2)]


@pytest.mark.parametrize(("play", "programs", "warning"), SCENES)
def test_compiled_equals_eager(play, programs, warning, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    compiled: list[JitFunction] = []

    def wrap(function):
        compiled.append(ndl.jit(function))
        return compiled[-1]

    expected = play(lambda f: f)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert seen(play(wrap)) == seen(expected)
    assert sum(f.compilations for f in compiled) == programs
    messages = [str(w.message) for w in caught]
    assert len(messages) == bool(warning)
    assert all(re.search(f"runs eagerly: .*{warning}", m) for m in messages)
