"""NEEDLE_JIT=check: every call also runs eagerly, and the first value that differs is an error.

Rounding may decide a result. Adam divides a gradient by its own size, so a gradient that is zero
but for rounding, such as that of a bias before a BatchNorm, becomes a step of either sign; a number
near zero may pass a ReLU or not. So each call runs as it is, and again with inputs perturbed by a
few roundings. A value may differ as far as the perturbation changes it, and is wrong if it differs
in every run.

All runs but one are rehearsals: they work on copies of the Tensors that the program knows, and
their side effects (NumPy's random state, counts of steps, learning rates) are undone. Then the
program runs on the Tensors themselves. Other effects in Python (printing, appending to a list)
happen in every eager run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ... import tree
from ...autograd import Tensor, TensorTuple
from ...autograd.modes import rollback
from ...backend_ndarray import NDArray
from ...typing import HostArray
from ..ir.graph import Graph, Value
from .compiled import CompiledProgram
from .generators import State
from .instantiate import find
from .places import Holder, Key, put, read
from .program import Call, Result
from .signature import Signature
from .templates import ArgumentContainer, NewContainer, Output, Source, Template, Trace

# |compiled - eager| may be RTOL·|eager| + ATOL·max |eager| + SENSITIVITY·max |eager - perturbed|,
# with the maxima over the array. `perturbed` are eager results for inputs whose floats are each
# changed by PERTURBATION roundings (ε) up or down, at random for each of SEEDS. Sums of thousands
# of float32 products in another order differ by some 1e-6 of their largest term, and a training
# step multiplies that a few times. Integers and booleans must be equal.
RTOL = {"float32": 1e-4, "float64": 1e-10, "bfloat16": 2e-2, "float16": 2e-3}
ATOL = {"float32": 1e-5, "float64": 1e-10, "bfloat16": 1e-2, "float16": 1e-3}
SENSITIVITY, PERTURBATION, SEEDS = 16.0, 8.0, (1, 2)
# A leaf of what a function returns, or a nesting of them: an array, or any object of Python.
Leaf: TypeAlias = Any

EXACT = ("float64", "float32", "float16", "bfloat16")  # from the most exact one to the least


class _Here(threading.local):
    """Whether this thread is in a rehearsal, where compiled functions run eagerly."""

    rehearsing = False


here = _Here()


class CheckError(AssertionError):
    """A compiled program and the function itself disagree; the message names the value."""


def checked(
    program: CompiledProgram, name: str, function: Call, signature: Signature
) -> tuple[bool, Result]:
    """`program(signature, function)`, compared with `function()`, the same call run eagerly.

    Raises CheckError where they differ; the program's changes have been made then.
    """
    known = _known(program, signature.tensors)
    if known is None:
        return False, None
    places = [
        (
            signature.containers[holder.number]
            if isinstance(holder, ArgumentContainer)
            else holder,
            key,
        )
        for holder, key, _ in program.trace.effects.places
    ]
    with _rehearsal(known, NDArray.copy, places):
        eager = _outcome(function(), known)
    perturbed = []
    for seed in SEEDS:
        with _rehearsal(known, partial(_perturbed, seed), places):
            eager_perturbed = _outcome(function(), known)
        with _rehearsal(known, partial(_perturbed, seed), places):
            done, result = program(signature, function)
            if not done:
                return False, None
            perturbed.append((_outcome(result, known), eager_perturbed))
    done, result = program(signature, function)
    if done:
        runs = [(_outcome(result, known), eager), *perturbed]
        problem = _difference(program.trace, known, runs)
        if problem is not None:
            raise CheckError(f"[check] {name}: {problem}")
    return done, result


def rehearse(program: CompiledProgram, function: Call, arguments: Sequence[Tensor]) -> None:
    """Call `function()` on copies of the Tensors that `program` knows."""
    known = _known(program, arguments)
    if known is not None:
        with _rehearsal(known, NDArray.copy):
            function()


# ---- what a call can change -----------------------------------------------------------------


@dataclass
class _FoundTensor:
    """A Tensor that a program reads or changes, as it is found at one call."""

    tensor: Tensor
    source: Source | None  # None for an argument that stays what it is
    argument: int = -1


def _known(program: CompiledProgram, arguments: Sequence[Tensor]) -> list[_FoundTensor] | None:
    """The Tensors that `program` knows, each once; None where a state is gone."""
    trace = program.trace
    effects = trace.effects
    changes = (*effects.data, *effects.shared, *effects.written, *effects.grads)
    changed = [source for source, *_ in changes]
    known: dict[int, _FoundTensor] = {}
    for source in (*trace.states, *changed):
        tensor = find(source, arguments)
        if tensor is None:
            return None
        if id(tensor) not in known:
            known[id(tensor)] = _FoundTensor(tensor, source)
    for i, tensor in enumerate(arguments):
        known.setdefault(id(tensor), _FoundTensor(tensor, None, i))
    return list(known.values())


_SLOTS = ("cached_data", "grad", "inputs", "op", "requires_grad", "_modified")


@contextmanager
def _rehearsal(
    known: Iterable[_FoundTensor],
    copied: Callable[[NDArray], NDArray],
    places: Iterable[tuple[Holder, Key]] = (),
) -> Iterator[None]:
    """A context in which the Tensors have `copied` data; it undoes all changes at its end.

    `places` are (holder, key) of values on the host that a call may change.
    """
    kept = [(holder, key, read(holder, key)) for holder, key in places]
    tensors = {id(k.tensor): k.tensor for k in known}
    gradients = [t.grad for t in tensors.values() if t.grad is not None]
    tensors.update((id(gradient), gradient) for gradient in gradients)
    copies: dict[int, NDArray] = {}  # Tensors that share an array share its copy
    for tensor in tensors.values():
        data = tensor.realize_cached_data()
        if id(data) not in copies:
            copies[id(data)] = copied(data)
    before = [(tensor, [getattr(tensor, s) for s in _SLOTS]) for tensor in tensors.values()]
    random = np.random.get_state()
    for tensor in tensors.values():
        tensor.cached_data = copies[id(tensor.cached_data)]
    here.rehearsing = True
    try:
        with rollback():
            yield
    finally:
        here.rehearsing = False
        np.random.set_state(random)
        for holder, key, value in kept:
            put(holder, key, value)
        for tensor, values in before:
            for slot, value in zip(_SLOTS, values, strict=True):
                setattr(tensor, slot, value)


def _perturbed(seed: int, data: NDArray) -> NDArray:
    """A copy with every float multiplied by 1 ± PERTURBATION·ε at random.

    Whole numbers, which may be labels or indices, stay.
    """
    array = data.numpy()
    if array.dtype.kind == "f":
        signs = np.random.RandomState(seed).choice([-1.0, 1.0], array.shape)
        epsilon = 2.0**-7 if data.dtype == "bfloat16" else np.finfo(array.dtype).eps
        near = array * (1 + PERTURBATION * signs * epsilon)
        array = np.where(array == np.rint(array), array, near).astype(array.dtype)
    return NDArray(array, device=data.device, dtype=data.dtype)


# ---- what a call left -----------------------------------------------------------------------


@dataclass
class _Outcome:
    """What one call returned, and the data and gradients of the known Tensors after it."""

    result: Leaf  # the returned nesting, with arrays instead of Tensors
    data: list[NDArray]
    grads: list[NDArray | None]
    random: State  # of NumPy's generator


class _Part(NamedTuple):
    """A value of an outcome, and what a message calls it."""

    leaf: Leaf
    value: Value | None  # of the graph, if a node computed it
    what: str
    known: _FoundTensor | None = None  # completes `what`


def _outcome(result: Result, known: Sequence[_FoundTensor]) -> _Outcome:
    return _Outcome(
        tree.map_leaves(_data, result),
        [_data(k.tensor) for k in known],
        [None if k.tensor.grad is None else _data(k.tensor.grad) for k in known],
        np.random.get_state(),
    )


def _data(leaf: Leaf) -> Leaf:
    return leaf.realize_cached_data() if isinstance(leaf, (Tensor, TensorTuple)) else leaf


def _parts(trace: Trace, known: Sequence[_FoundTensor], outcome: _Outcome) -> Iterator[_Part]:
    """The comparable values of an outcome, in an order that depends only on the trace."""
    results, updates = trace.graph.results, trace.graph.updates
    for path, place, leaf in _leaves("result", trace.returned, outcome.result):
        if not isinstance(place, Source):  # that one is among the known Tensors
            value = results[place.index].value if isinstance(place, Output) else None
            yield _Part(leaf, value, path)
    written = {id(trace.states[i]): view.value for i, view in updates.items()}
    effects = (*trace.effects.written, *trace.effects.data)
    written.update((id(source), results[i].value) for source, i in effects)
    for k, data in zip(known, outcome.data, strict=True):
        yield _Part(data, written.get(id(k.source)), "the new data of ", k)
    gradients = {id(source): i for source, i in trace.effects.grads}
    for k, grad in zip(known, outcome.grads, strict=True):
        i = gradients.get(id(k.source), -1)
        if i is not None:  # None: an optimizer applied it; eager code keeps it, a program does not
            yield _Part(grad, None if i < 0 else results[i].value, "the gradient of ", k)


def _leaves(path: str, place: Template, result: Leaf) -> Iterator[tuple[str, Template, Leaf]]:
    """(path, leaf of the template `place`, leaf of the result), from left to right."""
    if isinstance(place, NewContainer) and isinstance(place.empty, (dict, list)):
        place = place.contents
    if not isinstance(place, (dict, tuple)):
        yield path, place, result
        return
    for key in place if isinstance(place, dict) else range(len(place)):
        try:
            inner = result[key]
        except (KeyError, IndexError, TypeError):  # an eager result nested in another way
            inner = None
        yield from _leaves(f"{path}[{key!r}]", place[key], inner)


def _name(known: _FoundTensor, trace: Trace) -> str:
    """What a message calls a Tensor: its path in a module that ran, if there is one."""
    source = known.source
    if source is None or source.argument is not None:
        return f"argument {known.argument if source is None else source.argument}"
    if source.grad_of is not None:
        return (
            f"the gradient of {_name(_FoundTensor(source.grad_of.tensor, source.grad_of), trace)}"
        )
    modules = [module for reference in trace.modules if (module := reference()) is not None]
    for module in modules:  # in the order of their calls: the outermost first
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor is source.tensor:
                return f"{type(module).__name__}.{path}"
    return f"a state of shape {source.tensor.shape}"


# ---- comparing ------------------------------------------------------------------------------

# (compiled, eager) of the call itself, then of the calls with perturbed inputs.
Pairs: TypeAlias = Sequence[tuple[Leaf, Leaf]]


def _difference(
    trace: Trace, known: Sequence[_FoundTensor], runs: Sequence[tuple[_Outcome, _Outcome]]
) -> str | None:
    """The first difference, as a sentence; None where there is none."""
    outcomes = [outcome for run in runs for outcome in run]
    exactness = _exactness(trace.graph)
    for parts in zip(*(_parts(trace, known, outcome) for outcome in outcomes), strict=True):
        part: _Part = parts[0]
        leaves = [each.leaf for each in parts]
        pairs = list(zip(leaves[::2], leaves[1::2], strict=True))
        problem = _compared(pairs, exactness.get(id(part.value)))
        if problem is not None:
            return part.what + ("" if part.known is None else _name(part.known, trace)) + problem
    compiled, eager = runs[0]
    states = zip(compiled.random, eager.random, strict=True)
    if not all(np.array_equal(a, b) for a, b in states):
        return "NumPy's random state differs: the compiled program draws other numbers"
    return None


def _compared(pairs: Pairs, kind: str | None) -> str | None:
    """How the first pair differs, as the rest of a sentence; None where it does not.

    Arrays differ if all pairs do, by more than floats of a kind may.
    """
    compiled, eager = pairs[0]
    if not isinstance(compiled, NDArray):
        plain = (bool, int, float, complex, str, bytes, type(None), np.generic, NDArray)
        if isinstance(compiled, plain) or isinstance(eager, plain):
            same = type(eager) is type(compiled) and bool(eager == compiled or eager != eager)
            return None if same else f" is {compiled!r} compiled, {eager!r} eagerly"
        return None  # other Python objects: whether they are equal cannot be told
    if not isinstance(eager, (NDArray, float, int)):
        return f" is an array {compiled.shape} compiled, {eager!r} eagerly"
    (a, b), *perturbed = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    if a.shape != b.shape or (isinstance(eager, NDArray) and compiled.dtype != eager.dtype):
        expected = eager.dtype if isinstance(eager, NDArray) else b.dtype
        return f" is {compiled.dtype} {a.shape} compiled, {expected} {b.shape} eagerly"
    kind = compiled.dtype.name if kind is None else kind
    sensitivity = max(_distance(b, near) for _, near in perturbed)
    problem = _elements(a, b, kind, sensitivity)
    if problem is None or not all(_elements(*pair, kind, sensitivity) for pair in perturbed):
        return None
    return f", {a.dtype} {a.shape}, differs at {problem}"


def _distance(a: HostArray, b: HostArray) -> float:
    """The largest finite difference of two arrays of numbers."""
    if a.shape != b.shape or not a.dtype.kind == b.dtype.kind == "f":
        return 0.0
    with np.errstate(invalid="ignore"):
        off = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(off[np.isfinite(off)].max(initial=0.0))


def _elements(a: HostArray, b: HostArray, kind: str, sensitivity: float) -> str | None:
    """Where and by how much `a` (compiled) is farther from `b` than `kind` of number allows."""
    rtol, atol = RTOL.get(kind, 0.0), ATOL.get(kind, 0.0)
    x, y = a.astype(np.float64), b.astype(np.float64)
    size = np.abs(y)
    largest = float(size[np.isfinite(size)].max(initial=0.0))
    with np.errstate(invalid="ignore"):
        off = np.abs(x - y)
        near = off <= rtol * size + atol * largest + SENSITIVITY * sensitivity
    wrong = ~((a == b) | near | (np.isnan(x) & np.isnan(y)))
    if not wrong.any():
        return None
    off = np.where(np.isnan(off), np.inf, off)
    at = np.unravel_index(np.argmax(np.where(wrong, off, -1.0)), a.shape)
    return (
        f"{[int(i) for i in at]}: {a[at]!s} compiled, {b[at]!s} eagerly. The difference "
        f"{off[at]:.3g} is the largest of {int(wrong.sum())} above rtol {rtol:g} of the value + "
        f"atol {atol:g} of the array's largest magnitude {largest:.3g} + {SENSITIVITY:g} times the "
        f"{sensitivity:.3g} that rounding moves it"
    )


def _exactness(graph: Graph) -> dict[int, str]:
    """The least exact floating dtype behind each value, by the value's id.

    It is the value's own dtype or that of a value from which it was computed.
    """
    coarsest: dict[int, str] = {}
    for value in graph.sources():
        if value.dtype.name in EXACT:
            coarsest[id(value)] = value.dtype.name
    for node in graph.nodes:
        carried = [coarsest[id(value)] for value in node.needed() if id(value) in coarsest]
        for view in node.outputs:
            if view.dtype.name in EXACT:
                coarsest[id(view.value)] = max([view.dtype.name, *carried], key=EXACT.index)
    return coarsest
