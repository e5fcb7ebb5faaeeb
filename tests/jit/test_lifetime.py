"""What compiled functions keep alive: no object that is an argument, no instance of a method."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim


@pytest.fixture(autouse=True)
def _evaluator(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")


def weights(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(numbers, "float32"))


class Plain:
    def __init__(self, *numbers: float) -> None:
        self.w = weights(*(numbers or (1, 2)))
        self.optimizer = optim.SGD([self.w], lr=0.1)
        self.schedule = optim.CosineLR(self.optimizer, total_steps=9)

    @ndl.jit
    def scaled(self, x):
        return x * self.w

    @ndl.jit
    def __call__(self, x):
        return x + self.w

    @ndl.jit
    def itself(self, x):
        return self, x * self.w

    @ndl.jit
    def step(self, x):
        loss = (x * self.w).sum()
        self.optimizer.reset_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss

    def eager(self, x):
        return x * self.w

    def owned(self):
        """A schedule that leads to its owner."""
        self.schedule.owner = self
        return self.schedule


class Cyclic(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.child = Plain()
        self.child.parent = self
        self.parts = [self.child, self]

    @ndl.jit
    def deep(self, x):
        return x * self.child.parent.w

    @ndl.jit
    def listed(self, x):
        return sum((part.w for part in self.parts), x)

    @ndl.jit
    def kept(self, x):
        self.last = x * self.w
        return self.last * self.child.parent.w


class Slots:
    __slots__ = ("__weakref__", "other", "w")

    def __init__(self) -> None:
        self.w = weights(1, 2)
        self.other = self

    @ndl.jit
    def scaled(self, x):
        return x * self.w

    @ndl.jit
    def deep(self, x):
        return x * self.other.w


@dataclass
class Unhashable:
    w: ndl.Tensor

    @ndl.jit
    def scaled(self, x):
        return x * self.w


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.w = self.inner.weight

    @ndl.jit
    def forward(self, x):
        return self.inner(x)


class Hooked(Layer):
    """A module whose hook leads to it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.register_forward_hook(lambda module, inputs, output: output + self.w)


scaled = ndl.jit(lambda thing, x: thing.w * x)
reached = ndl.jit(lambda thing, x: thing.child.parent.w * x)
returned = ndl.jit(lambda thing, x: (thing, thing.w * x))
called = ndl.jit(lambda function, x: function(x))
nested = ndl.jit(lambda things, x: things["a"][0].w * x)
stepped = ndl.jit(lambda schedule, x: (schedule.step(), x * 2)[1])
USES: dict[str, tuple[Callable[[], Any], Callable[[Any, ndl.Tensor], Any]]] = {
    "method": (Plain, lambda o, x: o.scaled(x)),
    "call": (Plain, lambda o, x: o(x)),
    "method that returns itself": (Plain, lambda o, x: o.itself(x)),
    "step": (Plain, lambda o, x: o.step(x)),
    "cycle": (Cyclic, lambda o, x: o.deep(x)),
    "list of itself": (Cyclic, lambda o, x: o.listed(x)),
    "new attribute": (Cyclic, lambda o, x: o.kept(x)),
    "slots": (Slots, lambda o, x: o.scaled(x)),
    "slots in a cycle": (Slots, lambda o, x: o.deep(x)),
    "slots as an argument": (Slots, scaled),
    "hook": (Hooked, lambda o, x: o(x)),
    "owned schedule": (Plain, lambda o, x: stepped(o.owned(), x)),
    "step with an owned schedule": (Plain, lambda o, x: (o.owned(), o.step(x))),
    "cycle in an argument": (Cyclic, lambda o, x: reached(o, x)),
    "dataclass": (lambda: Unhashable(weights(1, 2)), lambda o, x: o.scaled(x)),
    "module": (Layer, lambda o, x: o(x)),
    "argument": (Plain, scaled),
    "returned argument": (Plain, returned),
    "bound method": (Plain, lambda o, x: called(o.eager, x)),
    "argument in a dict": (Plain, lambda o, x: nested({"a": [o, "text"]}, x)),
    "schedule": (Plain, lambda o, x: stepped(o.schedule, x)),
}


@pytest.mark.parametrize("name", USES)
def test_what_was_used_is_not_kept(name):
    make, use = USES[name]
    x = weights(3, 4)
    kept = []
    for _ in range(2):
        thing = make()
        use(thing, x)
        kept += [weakref.ref(thing), weakref.ref(thing.w)]
    del thing
    gc.collect()
    assert [reference() for reference in kept] == [None] * 4


def test_programs_go_with_their_function_and_with_their_arguments():
    thing, x = Plain(), weights(3, 4)
    function = ndl.jit(lambda thing, x: thing.w * x)
    function(thing, x)
    assert len(thing.w._programs) == 1
    del function
    gc.collect()
    assert not thing.w._programs
    other = Plain()
    other.w = thing.w  # shared, and alive all the time
    scaled(other, x)
    assert len(thing.w._programs) == 1
    del other
    gc.collect()
    assert not thing.w._programs


@pytest.mark.filterwarnings("ignore:.*each value of the numbers")
def test_programs_beyond_the_limit_go():
    thing, x = Plain(), weights(3, 4)
    function = ndl.jit(lambda thing, x, k: thing.w * x + k)
    for k in range(31):
        function(thing, x, k)
    with pytest.warns(UserWarning, match="was compiled 32 times"):
        function(thing, x, 31)
    for k in range(32, 40):
        function(thing, x, k)
    assert len(thing.w._programs) == 32


def test_a_copied_weight_has_no_programs():
    thing, x = Plain(), weights(3, 4)
    scaled(thing, x)
    for copied in (copy.deepcopy(thing.w), copy.copy(thing.w), pickle.loads(pickle.dumps(thing.w))):
        assert not hasattr(copied, "_programs")


def test_instances_that_come_after_each_other_are_not_taken_for_one():
    x = weights(1, 1)
    for k in range(8):  # each at the address of the one before
        assert scaled(Plain(k, 1), x).tolist() == [k, 1]
        assert Plain(k, 1).scaled(x).tolist() == [k, 1]


@pytest.mark.filterwarnings("error:.*was compiled")
def test_every_instance_has_programs_of_its_own():
    x = weights(1, 1)
    instances = [Plain(k, 1) for k in range(40)]
    for _ in range(2):
        assert [o.scaled(x).tolist() for o in instances] == [[k, 1] for k in range(40)]
    assert {o.scaled.compilations for o in instances} == {1}


def test_methods_of_all_kinds():
    class Base:
        factor = weights(2)

        @classmethod
        @ndl.jit
        def inner(cls, x):
            return x * cls.factor

        @ndl.jit
        @classmethod
        def outer(cls, x):
            return x * cls.factor

        @staticmethod
        @ndl.jit
        def inner_static(x):
            return x * 3

        @ndl.jit
        @staticmethod
        def outer_static(x):
            return x * 3

    class Derived(Base):
        factor = weights(5)

    x = weights(1)
    for thing, factor in ((Base, 2), (Derived, 5), (Base(), 2), (Derived(), 5)):
        assert thing.inner(x).item() == thing.outer(x).item() == factor
        assert thing.inner_static(x).item() == thing.outer_static(x).item() == 3


def test_a_bound_method_is_like_one():
    a, b = Plain(1, 2), Plain(3, 4)
    assert a.scaled == a.scaled != b.scaled
    assert len({a.scaled, a.scaled, b.scaled}) == 2
    assert a.scaled.__self__ is a
    assert a.scaled.__name__ == "scaled"
    assert Plain.scaled(a, weights(1, 1)).tolist() == [1, 2]
