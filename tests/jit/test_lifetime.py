"""What compiled functions keep alive: no object that is an argument, no instance of a method."""

from __future__ import annotations

import gc
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


scaled = ndl.jit(lambda thing, x: thing.w * x)
returned = ndl.jit(lambda thing, x: (thing, thing.w * x))
called = ndl.jit(lambda function, x: function(x))
nested = ndl.jit(lambda things, x: things["a"][0].w * x)
stepped = ndl.jit(lambda schedule, x: (schedule.step(), x * 2)[1])
USES: dict[str, tuple[Callable[[], Any], Callable[[Any, ndl.Tensor], Any]]] = {
    "method": (Plain, lambda o, x: o.scaled(x)),
    "call": (Plain, lambda o, x: o(x)),
    "method that returns itself": (Plain, lambda o, x: o.itself(x)),
    "step": (Plain, lambda o, x: o.step(x)),
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
