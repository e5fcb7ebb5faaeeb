"""Random programs, forward and gradient: eager code, the evaluator and native code agree."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jit import random_programs
from jit.random_programs import Knobs, Program, random_program, tolerance

import needle as ndl
from needle import ops
from needle.jit.codegen.cpp import write_program
from needle.jit.frontend.trace import Tracing
from needle.jit.passes import optimize
from needle.jit.schedule import fuse as fusion
from needle.jit.schedule.memory_plan import make_plan
from needle.jit.schedule.rematerialize import units_of

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

# Many programs are one function: a compilation takes as long as hundreds of small programs run.
BATCH = 12
ROUNDS = max(1, settings().max_examples // 60)  # more in a search, see conftest.py
CALLS = 2  # the second runs on memory that was used, and on states that were updated

Outcome = list[list[np.ndarray]]  # by call: results, then what is in the inputs and states


def run(programs: Sequence[Program], wrap: Any) -> list[Outcome]:
    """What each program gives at each call of one function made of all of them."""
    inputs = [p.tensors(p.inputs) for p in programs]
    states = [p.tensors(p.states) for p in programs]
    knobs = [Knobs(Knobs()) for _ in programs]

    @wrap
    def function(inputs):
        given = zip(programs, inputs, states, knobs, strict=True)
        return [p.run(x, s, m) for p, x, s, m in given]

    outcomes: list[Outcome] = [[] for _ in programs]
    for call in range(max(CALLS, *(len(p.changes) + 1 for p in programs))):
        for i, results in enumerate(function(inputs)):
            left = [*inputs[i].values(), *states[i].values()]
            outcomes[i].append([x.numpy() for x in (*results, *left)])
            programs[i].change(call, inputs[i], states[i], knobs[i])
    return outcomes


def rounding(program: Program) -> float:
    """The tolerance for a program."""
    inputs, states = program.tensors(program.inputs), program.tensors(program.states)
    with ndl.no_grad():
        variables = program.variables(inputs, states, knobs=Knobs(Knobs()))
    return tolerance(program, variables)


def compare(program: Program, actual: Outcome, expected: Outcome) -> None:
    limit = rounding(program)
    for call, (ours, theirs) in enumerate(zip(actual, expected, strict=True), 1):
        assert len(ours) == len(theirs)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            largest = np.abs(b.astype("float64")).max(initial=1) if b.dtype != "bool" else 1
            np.testing.assert_allclose(
                a, b, limit, limit * largest, err_msg=f"result {i} of call {call}:\n{program}"
            )


def plan_alone(program: Program) -> str:
    """The C++ code of one program, which finds those that break the compiler."""
    inputs, states = program.tensors(program.inputs), program.tensors(program.states)
    trace = Tracing().run(program.run, (inputs, states), {}, list(inputs.values()))
    graph = optimize(trace.graph)
    units = units_of(graph)
    return write_program(graph, units, make_plan(graph, units)).source


def culprit(programs: Sequence[Program]) -> str:
    """The first program that cannot be compiled alone."""
    for program in programs:
        try:
            plan_alone(program)
        except Exception as error:
            return f"{type(error).__name__} in\n{program}"
    return "each program by itself gets code; together they do not"


@given(seed=st.integers(0, 2**32 - 1), pure=st.booleans())
def test_the_evaluator_equals_eager_code(seed, pure):
    program = random_program(Random(seed), pure)
    (expected,) = run([program], lambda f: f)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NEEDLE_JIT", "evaluate")
        (actual,) = run([program], ndl.jit)
    compare(program, actual, expected)


@given(seed=st.integers(0, 2**32 - 1), pure=st.booleans())
def test_what_is_changed_between_calls(seed, pure):
    program = random_program(Random(seed), pure, changes=4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NEEDLE_JIT", "evaluate")
        patched.setattr(random_programs, "NUMBER", 1.0)
        (expected,) = run([program], lambda f: f)
        patched.setattr(random_programs, "NUMBER", 1.0)
        (actual,) = run([program], ndl.jit)
        patched.setattr(random_programs, "NUMBER", 1.0)
        compare(program, actual, expected)


# Whether the programs are pure, whether their arrays are large, and from how many elements on
# fusion takes the readers of one array into one loop (few arrays have as many as it needs).
KINDS = [(True, False, 1), (True, True, fusion.SMALL), (False, False, 1)]


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize(("pure", "large", "small"), KINDS)
def test_native_code_equals_eager_code(pure, large, small, round_):
    first = 1000 * (KINDS.index((pure, large, small)) + len(KINDS) * round_)
    programs = [random_program(Random(first + i), pure, large) for i in range(BATCH)]
    expected = run(programs, lambda f: f)
    with patch.object(fusion, "SMALL", small):
        try:
            actual = run(programs, ndl.jit)
        except Exception as error:
            raise AssertionError(culprit(programs)) from error
    for program, ours, theirs in zip(programs, actual, expected, strict=True):
        compare(program, ours, theirs)


# ---- numbers that random programs keep clear of ---------------------------------------------

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1e38, -1e38, 88.5,
     -104.0, 20.0, -20.0]
)  # fmt: skip
FUNCTIONS = (
    ndl.exp, ndl.log, ndl.log1p, ndl.expm1, ndl.sqrt, ndl.rsqrt, ndl.abs, ndl.sign, ndl.floor,
    ndl.ceil, ndl.round, ndl.tanh, ndl.sigmoid, ndl.erf, ndl.relu, ndl.softplus, ndl.gelu,
    lambda x: ndl.clip(x, -1.0, 1.0), lambda x: 1.0 / x, lambda x: x**2, lambda x: x**-1,
    lambda x: x**0, lambda x: 2.0**x,
)  # fmt: skip
OF_TWO = (
    ndl.add, ndl.multiply, ndl.divide, ndl.maximum, ndl.minimum, ndl.less, ndl.greater_equal,
    ndl.equal, ndl.not_equal, lambda a, b: ndl.where(a, b, a),
)  # fmt: skip


def same_natively(function: Any, *arrays: np.ndarray) -> None:
    """Whether compiled code gives what eager code gives, NaN for NaN and infinity for infinity."""
    tensors = [ndl.Tensor(x, dtype=x.dtype, requires_grad=False) for x in arrays]
    for ours, theirs in zip(ndl.jit(function)(*tensors), function(*tensors), strict=True):
        limit = {"float32": 1e-5, "float64": 1e-12}.get(str(theirs.dtype), 0.0)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), limit, limit / 1e30)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_numbers(dtype):
    a, b = (x.ravel().astype(dtype) for x in np.meshgrid(SPECIAL, SPECIAL))
    same_natively(lambda a, b: [*(f(a) for f in FUNCTIONS), *(f(a, b) for f in OF_TWO)], a, b)


def test_reductions_of_special_numbers():
    x = np.random.RandomState(0).randn(6, 40).astype("float32")
    x[2, 3] = x[4, 39] = np.nan
    x[3, 7], x[5, 0] = np.inf, -np.inf
    same_natively(
        lambda x: [
            getattr(ops, op)(x * 0.5, axes)
            for op in ("summation", "prod", "amax", "amin")
            for axes in (0, 1, None)
        ],
        x,
    )


def test_reductions_of_truths():
    x = np.random.RandomState(0).rand(6, 40) < 0.1
    reductions = (ops.amax, ops.amin, ops.summation)
    same_natively(lambda x: [f(x, axes) for f in reductions for axes in (0, 1, None)], x)
