"""Random programs on Tensors, for comparing the ways to run them.

A program is text, one operation a line: what fails can be read, pasted and cut down. It is drawn
line by line and run while it grows, so that the next line fits the shapes and dtypes that are
there, and nothing overflows.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import needle as ndl
from needle import init, ops

NAMES: dict[str, Any] = {
    "ndl": ndl, "np": np, "init": init, "ops": ops, "copy": copy, "pickle": pickle
}  # fmt: skip
LENGTH = 16
LARGEST = 50.0  # a line with larger numbers is not taken: they would hide what is small
SMALL_DIMS, LARGE_DIMS = (2, 3, 4, 6, 8, 17, 40), (5, 33, 64, 70, 130)
NUMBERS = ("1", "1.0", "0.5", "-2.0", "0", "0.0", "-0.0", "2", "3.0", "-1")
# Continuous, so that another rounding of x is no other result.
FUNCTIONS = (
    "ndl.tanh({x})", "ndl.sigmoid({x})", "ndl.sin({x})", "ndl.exp(-{x} * {x})", "ndl.relu({x})",
    "-{x}", "{x} + {c}", "{c} - {x}", "{x} * {c}", "{x} - {c}", "{x} / 3", "{x} ** 2", "{x} ** 1",
    "ndl.sqrt({x} * {x} + 1)", "ndl.log1p({x} * {x})", "ndl.gelu({x})", "ndl.silu({x})",
    "ndl.clip({x}, -0.9, 1.1)", "ndl.erf({x})", "1 / ({x} * {x} + 0.5)",
)  # fmt: skip
PAIRS = (
    "{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / ({b} * {b} + 1)", "ndl.maximum({a}, {b})",
    "ndl.minimum({a}, {b})",
)  # fmt: skip
# Of integers, with numbers that their dtype may not hold.
INTEGERS = (
    "{x} < 300", "{x} >= -1", "{x} == 2.5", "ndl.clip({x}, -5, 300)", "{x} - np.uint8(1)",
    "{x} * 3", "ndl.where({x} > 1, {x}, 7)", "ops.floor({x})", "ops.mean({x})", "{x} ** 2",
    "ndl.softplus({x})", "{x}.astype('float32') * np.float64(0.5)",
)  # fmt: skip
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
REDUCTIONS = ("summation", "mean", "amax", "amin", "logsumexp", "norm", "prod")


# What a program reads of an object, and what may be done to that and the states between two calls.
READS = (
    "{x} * m.number", "{x} + m.numbers[0]", "{x} if m.flag else -{x}", "m.function({x})",
    "{x} * sum(m.numbers)", "{x} * m.options['a']", "{x} - len(m.options)", "{x} * m.inner.number",
    "{x} + m.extra if hasattr(m, 'extra') else {x}", "{x} * m.total()", "{x} * NUMBER",
    "m.remembered({x})", "{x} + 0.5 * m.turned()", "{x} * type(m).kind",
)  # fmt: skip
CHANGES = (
    "m.number = 0.25", "m.numbers[0] = -1.0", "m.numbers.append(0.5)", "m.flag = not m.flag",
    "m.function = ops.tanh", "m.options['a'] = 2.0", "m.options['b'] = 1.0", "m.extra = 0.5",
    "m.inner.number = -0.5", "m.inner = Knobs()", "m.total = lambda: 0.125",
    "m.signs.reverse()",
    "globals_['NUMBER'] = globals_['NUMBER'] / 2", "s0.requires_grad = False",
    "s0.requires_grad = True", "s1.requires_grad = False", "pass",
)  # fmt: skip
# What may be done to the Tensors themselves, {b} of the shape and dtype of {a}: an argument becomes
# the same as another one or as a state, another one over the same memory, a copy.
IDENTITIES = ("{a} = {b}", "{a} = {b}", "{a} = {b}.detach()", "{a} = {b}.detach()[:]")
COPIES = (
    "{a} = copy.deepcopy({a})", "{a} = copy.copy({a})", "{a} = pickle.loads(pickle.dumps({a}))",
    "{a} = ndl.Tensor({a}.numpy(), dtype={a}.dtype, requires_grad={a}.requires_grad)",
)  # fmt: skip
# What a program does to its inputs and states after their gradients; exact, so that what is read in
# the next call has no rounding errors.
UPDATES = ("{x} *= 0.5", "{x}.data = {x} * 0.5", "{x}[...] = {x} * 0.5", "{x}.grad = None", "pass")
NUMBER = 1.0


class Knobs:
    """An object whose attributes programs read."""

    def __init__(self, inner: Knobs | None = None) -> None:
        self.number, self.numbers, self.flag = 0.5, [1.0, -0.5], True
        self.function: Callable[[ndl.Tensor], ndl.Tensor] = ops.sigmoid
        self.options, self.inner = {"a": 0.5}, inner
        self.memory: dict[Any, ndl.Tensor] = {}
        self.signs = [1.0, -1.0]

    kind = 0.5

    def remembered(self, x: ndl.Tensor) -> ndl.Tensor:
        """The Tensor of this shape and dtype that was given before, in an earlier call maybe."""
        kind = x.shape, str(x.dtype)
        before = self.memory.get(kind, x)
        self.memory[kind] = x.detach() * 1
        return before

    def turned(self) -> float:
        self.signs[0], self.signs[1] = self.signs[1], self.signs[0]
        return self.signs[0]

    def total(self) -> float:
        return self.number + sum(self.numbers)


NAMES["Knobs"] = Knobs


@dataclass(repr=False)
class Program:
    """Arrays that go in, lines, and the names that come out.

    `states` are Tensors from outside of the program. Where it is `pure`, the lines change nothing
    and `run` also gives gradients. `changes` are what is done between two calls, `updates` what is
    done at the end of each; with them gradients are those that `backward` adds up.
    """

    inputs: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    lines: list[str]
    outputs: list[str]
    pure: bool
    changes: list[str]
    updates: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = [
            f"# {name}: {array.dtype}{list(array.shape)}"
            for name, array in (*self.inputs.items(), *self.states.items())
        ]
        changes = [f"# then: {change}" for change in self.changes]
        updates = [f"# after the gradients: {update}" for update in self.updates]
        returned = f"return {', '.join(self.outputs)}"
        return "\n".join([*kinds, *self.lines, *updates, returned, *changes])

    __repr__ = __str__

    def __post_init__(self) -> None:
        self._code = compile("\n".join(self.lines), "<random program>", "exec")

    def tensors(self, arrays: dict[str, np.ndarray]) -> dict[str, ndl.Tensor]:
        """Fresh Tensors of the inputs or states, on the default device."""
        return {
            name: ndl.Tensor(array, dtype=array.dtype, requires_grad=self.pure)
            for name, array in arrays.items()
        }

    def change(
        self, call: int, inputs: dict[str, ndl.Tensor], states: dict[str, ndl.Tensor], knobs: Knobs
    ) -> None:
        """What is done after call number `call`, from 0 on."""
        for change in self.changes[call : call + 1]:
            names = {**NAMES, **inputs, **states, "m": knobs, "globals_": globals()}
            exec(change, names)
            for tensors in (inputs, states):
                tensors.update({name: names[name] for name in tensors})

    def variables(
        self, *tensors: dict[str, ndl.Tensor], knobs: Knobs | None = None
    ) -> dict[str, Any]:
        """All variables after the last line."""
        variables = {**NAMES, "m": knobs, "NUMBER": NUMBER}
        for named in tensors:
            variables.update(named)
        exec(self._code, variables)
        return variables

    def run(
        self, inputs: dict[str, ndl.Tensor], states: dict[str, ndl.Tensor],
        knobs: Knobs | None = None,
    ) -> list[ndl.Tensor]:  # fmt: skip
        """The results and, of a pure program, the gradients of a weighted sum of them."""
        if not self.pure:
            with ndl.no_grad():
                variables = self.variables(inputs, states, knobs=knobs)
            return [variables[name] for name in self.outputs]
        variables = self.variables(inputs, states, knobs=knobs)
        results = [variables[name] for name in self.outputs]
        losses = [(r * _weights(r)).sum() for r in results if r.requires_grad]
        sources = [x for x in (*inputs.values(), *states.values()) if x.requires_grad]
        if not losses or not sources:
            return results
        loss = sum(losses[1:], losses[0])
        if self.updates:
            loss.backward()
            gradients = [x.grad for x in sources]
            with ndl.no_grad():
                for update in self.updates:
                    exec(update, {**inputs, **states})
        else:
            gradients = ndl.grad(loss, sources)
        return [*results, *(g for g in gradients if g is not None)]


def _weights(x: ndl.Tensor) -> ndl.Tensor:
    """Numbers that differ from element to element."""
    numbers = np.cos(np.arange(x.size)).reshape(x.shape)
    return ndl.Tensor(numbers, device=x.device, dtype=x.dtype, requires_grad=False)


def random_program(
    random: Random, pure: bool = True, large: bool = False, changes: int = 0
) -> Program:
    """A program of up to `LENGTH` lines; one that is not pure also writes into Tensors.

    Arrays have up to 2,000 elements, large ones up to 20,000: as many as kernels cut into blocks.
    One with `changes`, of what is around it, reads attributes and variables.
    """
    writer = _Writer(random, pure, large, bool(changes))
    for _ in range(LENGTH):
        writer.line()
    between = [
        random.choice((random.choice(CHANGES), *writer.new_tensors())) for _ in range(changes)
    ]
    program = Program(writer.inputs, writer.states, writer.lines, writer.outputs(), pure, between)
    if changes:
        if pure and random.random() < 0.5:
            arrays = {**writer.inputs, **writer.states}
            chosen = random.sample([x for x in arrays if arrays[x].dtype.kind == "f"], 3)
            program.updates = [random.choice(UPDATES).format(x=x) for x in chosen]
        _keep_tame(program)
    return program


def _keep_tame(program: Program) -> None:
    """Take back the first change after which numbers are large, and those that follow."""
    inputs, states = program.tensors(program.inputs), program.tensors(program.states)
    knobs = Knobs(Knobs())
    for call in range(len(program.changes) + 1):
        with ndl.no_grad():
            variables = program.variables(inputs, states, knobs=knobs)
        if not all(_tame(x) for x in variables.values() if isinstance(x, ndl.Tensor)):
            at = max(call - 1, 0)
            program.changes[at:] = ["pass"] * (len(program.changes) - at)
            return
        program.change(call, inputs, states, knobs)


class _Writer:
    """A program that grows."""

    def __init__(self, random: Random, pure: bool, large: bool, reads: bool = False) -> None:
        self.random, self.pure, self.reads = random, pure, reads
        self.most_elements = 20_000 if large else 2000
        self.lines: list[str] = []
        self.expressions: list[tuple[str, bool]] = []
        self.dtype = random.choice(("float32", "float64"))
        self.dims = [
            random.choice((1, 3, 8)),
            *random.sample(LARGE_DIMS if large else SMALL_DIMS, 2),
        ]
        arrays = [self._input(i) for i in range(4)]
        self.inputs = {f"x{i}": array for i, array in enumerate(arrays)}
        # Names whose numbers are free of rounding: what jumps may depend on these only.
        self.exact = set(self.inputs)
        self.states = {f"s{i}": self._floats(self._shape(2)) for i in range(2)}
        if reads:  # some may be one
            self.inputs["x1"] = self._floats(self.inputs["x0"].shape)
            self.inputs["x2"] = self._floats(self.states["s0"].shape)
        self.exact |= set(self.states)
        program = Program(self.inputs, self.states, [], [], False, [])
        self.values: dict[str, Any] = program.tensors(self.inputs) | program.tensors(self.states)
        self.knobs = {"m": Knobs(Knobs()), "NUMBER": NUMBER}

    def _shape(self, ndim: int) -> tuple[int, ...]:
        return tuple(self.random.choice(self.dims) for _ in range(ndim))

    def _floats(self, shape: tuple[int, ...], dtype: str | None = None) -> np.ndarray:
        numbers = np.random.RandomState(self.random.randrange(2**31)).randn(*shape)
        return np.asarray(numbers, dtype or self.dtype)

    def _input(self, number: int) -> np.ndarray:
        shape = self._shape(self.random.choice((1, 2, 2, 2, 3)))
        if number < 3:
            return self._floats(shape)
        kind = self.random.choice(("float32", "float64", "int32", "int64", "uint8", "bool"))
        scale = 1 if kind.startswith("float") else 3
        return np.asarray(np.abs(self._floats(shape)) * scale).astype(kind)

    def new_tensors(self) -> tuple[str, ...]:
        """Some changes of which Tensors the inputs and states are."""
        arrays = {**self.inputs, **self.states}
        pairs = [(a, b) for a in self.inputs for b in arrays if a != b and self._may_be_one(a, b)]
        copied = self.random.choice(COPIES).format(a=self.random.choice(list(arrays)))
        if not pairs:
            return (copied,)
        a, b = self.random.choice(pairs)
        return self.random.choice(IDENTITIES).format(a=a, b=b), copied

    def _may_be_one(self, a: str, b: str) -> bool:
        """Whether two inputs or states are one Tensor in some calls."""
        arrays = {**self.inputs, **self.states}
        return self.reads and all(
            getattr(arrays[a], what) == getattr(arrays[b], what) for what in ("shape", "dtype")
        )

    # ---- lines ------------------------------------------------------------------------------

    def line(self) -> None:
        """Add a line, unless it fits nowhere."""
        kinds: list[Callable[[], Any]] = [
            self.function, self.function, self.pair, self.pair, self.pair, self.reduction,
            self.reduction, self.view, self.view, self.product, self.join, self.row_op,
            self.constant, self.choice, self.cast, self.again, self.lookup, self.scan,
            self.integers,
        ]  # fmt: skip
        if self.reads:
            kinds += [self.read] * 12
        if not self.pure:
            kinds += [self.write, self.write, self.update, self.update, self.snapshot]
            kinds += [self.augment, self.augment]
        self.random.choice(kinds)()

    def add(self, expression: str, exact: bool = False) -> None:
        """A new variable, where its numbers are fit to go on with."""
        try:
            with ndl.no_grad():
                value = eval(expression, {**NAMES, **self.knobs}, self.values)
        except (ValueError, IndexError):  # a reduction of nothing
            return
        if value.size > self.most_elements or not _tame(value):
            return
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self.expressions.append((expression, exact))
        self.values[name] = value
        if exact or not _is_float(value):
            self.exact.add(name)

    def pick(self, fits: Callable[[ndl.Tensor], bool], exact: bool = False) -> str | None:
        """A variable, a recent one more often than not."""
        names = [n for n, v in self.values.items() if fits(v) and (n in self.exact or not exact)]
        if not names:
            return None
        return self.random.choice(names[-4:] if self.random.random() < 0.6 else names)

    def is_exact(self, *names: str) -> bool:
        return self.exact.issuperset(names)

    def function(self) -> None:
        x = self.pick(_is_float)
        if x is not None:
            form, number = self.random.choice(FUNCTIONS), self.random.choice(NUMBERS)
            self.add(form.format(x=x, c=number), form == "-{x}" and x in self.exact)

    def integers(self) -> None:
        x = self.pick(lambda v: v.dtype.kind in "iu")
        if x is not None:
            self.add(self.random.choice(INTEGERS).format(x=x))

    def pair(self) -> None:
        a = self.pick(_is_number)
        b = a and self.pick(lambda v: _is_number(v) and _broadcast(v, self.values[a]))
        if b:
            form = self.random.choice(PAIRS)
            self.add(form.format(a=a, b=b), "imum" in form and self.is_exact(a, b))

    def reduction(self) -> None:
        op = self.random.choice(REDUCTIONS)
        fits = {"logsumexp": _is_float, "norm": _is_float, "mean": _is_number}
        x = self.pick(fits.get(op, lambda v: True))
        if x is None:
            return
        ndim = self.values[x].ndim
        axes = tuple(sorted(self.random.sample(range(ndim), self.random.randint(0, ndim))))
        shown = self.random.choice((axes, None)) if len(axes) == ndim else axes
        keepdims = self.random.random() < 0.5
        inside = f"{x} * {x} + 1" if op == "norm" else x  # no root of 0, whose slope is infinite
        self.add(
            f"ops.{op}({inside}, {shown}, keepdims={keepdims})",
            op in ("amax", "amin") and self.is_exact(x),
        )

    def row_op(self) -> None:
        x = self.pick(lambda v: _is_float(v) and v.ndim > 0 and v.size > 0)
        if x is None:
            return
        shape = self.values[x].shape
        axis = self.random.randrange(len(shape))
        n = shape[-1]
        forms = [f"ndl.softmax({x}, {axis})", f"ndl.log_softmax({x}, {axis})",
                 f"ndl.cumsum({x}, {axis})", f"ops.var({x}, {axis}, correction=0)"]  # fmt: skip
        weights = [
            self.pick(lambda v: v.shape == (n,) and v.dtype == self.values[x].dtype)
            for _ in range(2)
        ]
        if None not in weights:
            w, b = weights
            numbers = self.values[x].numpy()
            # Numbers that are all but equal are divided by all but nothing.
            if numbers.var(-1).min() > 0.01:
                forms.append(f"ndl.layer_norm({x}, {w}, {b})")
            if len(shape) == 2 and numbers.var(0).min() > 0.01:
                forms.append(f"ndl.batch_norm({x}, {w}, {b})[0]")
        if len(shape) == 2:
            labels = [self.random.randrange(n) for _ in range(shape[0])]
            smoothing = self.random.choice((0.0, 0.1))
            forms.append(f"ndl.cross_entropy({x}, np.array({labels}), label_smoothing={smoothing})")
        self.add(self.random.choice(forms))

    def view(self) -> None:
        x = self.pick(lambda v: v.ndim > 0)
        if x is None:
            return
        shape = self.values[x].shape
        n, random = len(shape), self.random
        order = tuple(random.sample(range(n), n))
        axis = random.randrange(n)
        forms = [
            f"ndl.permute({x}, {order})", f"ndl.flip({x}, {axis})", f"{x}[{self.key(shape)}]",
            f"ndl.unsqueeze({x}, {axis})", f"ndl.reshape({x}, {self.other_shape(shape)})",
            f"ndl.broadcast_to({x}, {(random.choice(self.dims), *shape)})", f"ndl.squeeze({x})",
        ]  # fmt: skip
        self.add(random.choice(forms), x in self.exact)

    def key(self, shape: Sequence[int]) -> str:
        """Slices and integers for the first axes."""
        parts = []
        for n in shape[: self.random.randint(1, len(shape))]:
            at = self.random.randrange(n + 1)
            forms = [":", f"{at}:", f"::{self.random.choice((2, 3))}", "::-1", f":{at}"]
            parts.append(self.random.choice([*forms, str(at % n)] if n else [":"]))
        return ", ".join(parts)

    def other_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        size = math.prod(shape)
        inner = self.random.choice([d for d in range(1, size + 1) if size % d == 0] or [0])
        return self.random.choice([(size,), (size // max(inner, 1), inner), (inner, 1, -1)])

    def product(self) -> None:
        a = self.pick(lambda v: _is_float(v) and v.ndim > 1)
        if a is None:
            return
        k, dtype = self.values[a].shape[-1], self.values[a].dtype
        b = self.pick(lambda v: v.ndim > 1 and v.shape[-2] == k and v.dtype == dtype)
        bias = None if b is None else self.pick(
            lambda v: v.shape == self.values[b].shape[-1:] and v.dtype == dtype
        )  # fmt: skip
        if b is None or self.random.random() < 0.2:
            # Its own transpose, or the first rows of it.
            self.add(f"{a} @ {a}.transpose()[..., {self.random.choice((':', ':3'))}] / 4")
        elif bias is not None and self.values[b].ndim == 2:
            self.add(f"ndl.linear({a}, {b}, {bias})")
        else:
            self.add(f"{a} @ {b}")

    def join(self) -> None:
        x = self.pick(lambda v: v.ndim > 0)
        if x is None:
            return
        value = self.values[x]
        y = self.pick(lambda v: v.shape == value.shape and v.dtype == value.dtype) or x
        axis = self.random.randrange(value.ndim)
        pads = tuple((self.random.randint(0, 2), self.random.randint(0, 2)) for _ in value.shape)
        forms = [
            f"ndl.concatenate([{x}, {y}], {axis})", f"ndl.concatenate([{x}, {y}[:1]], 0)",
            f"ndl.stack([{x}, {y}], {axis})", f"ndl.dilate({x}, ({axis},), 1)",
            f"ndl.pad({x}, {pads}, {self.random.choice(('0.0', '1', '0'))})",
            f"ndl.tile({x}, {(2,) * value.ndim})",
        ]  # fmt: skip
        self.add(self.random.choice(forms), self.is_exact(x, y))

    def read(self) -> None:
        x = self.pick(_is_float)
        if x is not None:
            self.add(self.random.choice(READS).format(x=x))

    def lookup(self) -> None:
        x = self.pick(lambda v: v.ndim > 0 and v.shape[0] > 0)
        if x is None:
            return
        rows = [self.random.randrange(self.values[x].shape[0]) for _ in range(3)]
        self.add(f"ndl.take({x}, np.array({rows}), 0)", x in self.exact)

    def scan(self) -> None:
        x = self.pick(lambda v: _is_float(v) and v.ndim > 1 and 0 < v.shape[0] < 20)
        if x is None:
            return
        like, step = self.values[x], self.values[x].shape[1:]
        y = self.pick(lambda v: v.dtype == like.dtype and _fits_into(v.shape, step)) or f"{x}[0]"
        forms = [  # all outputs depend on y: else its gradient is 0 compiled, and none eagerly
            f"lambda h, x, y={y}: (ndl.tanh(h + x * y), h * x + y)",
            f"lambda h, x, y={y}: (ndl.sigmoid(h * ndl.exp(-y * y)) + x / 2, (h - x) * y)",
            f"lambda h, x, y={y}: (h + ndl.tanh(x * y), x / 3 + y)",
        ]
        w = self.pick(lambda v: v.dtype == like.dtype and v.shape == (step[-1],) * 2)
        if w is not None and len(step) == 2:
            forms += [
                f"lambda h, x, w={w}: (ndl.tanh(x @ w + h @ w), h @ w)",
                f"lambda h, x, w={w}: (ndl.cat([ndl.tanh(h @ w)[:, :1], x[:, 1:]], 1), x @ w)",
            ]
        self.add(
            f"ndl.scan({self.random.choice(forms)}, {x}[0], {x}, {self.random.random() < 0.5})"
            f"[{self.random.randrange(2)}]"
        )

    def constant(self) -> None:
        shape, dtype = self._shape(self.random.randint(0, 2)), self.dtype
        number = self.random.choice(NUMBERS)
        size = math.prod(shape)
        like = self.pick(lambda v: True)
        forms = [f"init.constant(*{shape}, c={number}, dtype='{dtype}')", f"ndl.ones_like({like})",
                 f"ndl.zeros_like({like})", f"init.ones(*{shape}, dtype='{dtype}')",
                 f"ndl.Tensor(np.arange({size}.0).reshape({shape}) / 8 - 1, dtype='{dtype}', "
                 "requires_grad=False)"]  # fmt: skip
        self.add(self.random.choice(forms), exact=True)

    def choice(self) -> None:
        a = self.pick(_is_number, exact=True)
        b = a and self.pick(lambda v: _is_number(v) and _broadcast(v, self.values[a]), exact=True)
        if not b:
            return
        condition = f"ndl.{self.random.choice(COMPARISONS)}({a}, {b})"
        x = self.pick(lambda v: v.ndim > 0 and _broadcast(v, self.values[a], self.values[b]))
        if x is None or self.random.random() < 0.2:
            self.add(condition, exact=True)
        else:
            other = self.random.choice((x, "0.0", "1"))
            if self.values[x].dtype != "bool":
                self.add(f"ndl.where({condition}, {x}, {other})", x in self.exact)

    def cast(self) -> None:
        x = self.pick(lambda v: True, exact=self.random.random() < 0.5)
        if x is None:
            return
        kinds = ["float32", "float64"]
        if x in self.exact:
            kinds += ["int32", "int64", "bool"]
        kind = self.random.choice(kinds)
        if x in self.exact and self.values[x].ndim > 0 and self.random.random() < 0.3:
            self.add(f"ndl.argmax({x}, 0)", exact=True)
        else:
            # The rounding to float32 is exact only where there is nothing to round.
            self.add(f"{x}.astype('{kind}')", x in self.exact)

    def again(self) -> None:
        if self.expressions:
            self.add(*self.random.choice(self.expressions))

    # ---- effects ----------------------------------------------------------------------------

    def do(self, statement: str, written: str, exact: bool) -> None:
        """A line that changes a variable, and all that share its memory."""
        with ndl.no_grad():
            exec(statement, dict(NAMES), self.values)
        self.lines.append(statement)
        if exact:
            return
        written_to = self.values[written].cached_data._handle
        own = {n: self.values[n].cached_data._handle for n in (*self.inputs, *self.states)}
        handles = [written_to]
        for a, handle in own.items():
            if handle is written_to:
                handles += [own[b] for b in own if self._may_be_one(a, b)]
        for name, value in self.values.items():
            if any(value.cached_data._handle is handle for handle in handles):
                self.exact.discard(name)

    def write(self) -> None:
        x = self.pick(lambda v: _is_float(v) and v.ndim > 0 and _writable(v))
        if x is None:
            return
        value = self.values[x]
        key = self.key(value.shape)
        part = eval(f"{x}[{key}]", {}, self.values)
        y = self.pick(lambda v: v.dtype == value.dtype and _fits_into(v.shape, part.shape))
        if y is None or self.random.random() < 0.3:
            self.do(f"{x}[{key}] = {self.random.choice(NUMBERS)}", x, True)
        else:
            self.do(f"{x}[{key}] = {y}", x, y in self.exact)

    def update(self) -> None:
        s = self.random.choice(sorted(self.states))
        value = self.values[s]
        # Tensors from outside that share memory are not known to be one by a compiled function.
        outside = [self.values[n].cached_data._handle for n in (*self.inputs, *self.states)]
        x = self.pick(
            lambda v: (
                v.shape == value.shape
                and v.dtype == value.dtype
                and not any(v.cached_data._handle is handle for handle in outside)
            )
        )
        if x is None or self.random.random() < 0.5:
            y = self.pick(lambda v: v.dtype == value.dtype and _fits_into(v.shape, value.shape))
            self.do(f"{s}.data = {s} * 0.5 + {y} * 0.25", s, False)
        else:
            self.do(f"{s}.data = {x}", s, x in self.exact)

    def augment(self) -> None:
        x = self.pick(lambda v: _is_float(v) and v.ndim > 0 and _writable(v))
        if x is None:
            return
        value = self.values[x]
        target = x
        if self.random.random() < 0.5:
            target = f"{x}[{self.key(value.shape)}]"
            value = eval(target, {}, self.values)
        y = self.pick(lambda v: v.dtype == value.dtype and _fits_into(v.shape, value.shape))
        form = self.random.choice(("*= -0.5", "/= 2.0", "-= 0.25", "+= {} * 0.25", "-= {} * 0.5"))
        if y is not None or "{" not in form:
            self.do(f"{target} {form.format(y)}", x, False)

    def snapshot(self) -> None:
        self.add(f"{self.random.choice(sorted(self.states))}.detach()")

    # ---- the end ----------------------------------------------------------------------------

    def outputs(self) -> list[str]:
        """Some variables; the rest is dead code unless these need it."""
        names = list(self.values)
        chosen = self.random.choices(names, k=self.random.randint(1, 4))
        return [*names[-2:], *chosen]


def _is_float(x: ndl.Tensor) -> bool:
    return x.dtype.kind == "f"


def _is_number(x: ndl.Tensor) -> bool:
    return x.dtype != "bool"


def _tame(x: ndl.Tensor) -> bool:
    numbers = x.numpy().astype("float64")
    return bool(np.isfinite(numbers).all()) and np.abs(numbers).max(initial=0) <= LARGEST


def _broadcast(*values: ndl.Tensor) -> bool:
    try:
        np.broadcast_shapes(*(v.shape for v in values))
    except ValueError:
        return False
    return True


def _fits_into(shape: Sequence[int], target: Sequence[int]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == tuple(target)
    except ValueError:
        return False


def _writable(x: ndl.Tensor) -> bool:
    """Whether no two elements share memory."""
    data = x.cached_data
    return all(n <= 1 or s != 0 for n, s in zip(data.shape, data.strides, strict=True))


def tolerance(program: Program, variables: dict[str, Any]) -> float:
    """How far rounding may take two runs apart: generous, wrong code is wrong by far more.

    A chain of operations multiplies errors by their slopes, all of them bounded by LARGEST.
    """
    tensors = [x for x in variables.values() if isinstance(x, ndl.Tensor)]
    single = any(x.dtype == "float32" for x in tensors)
    size = max((np.abs(x.numpy().astype("float64")).max(initial=1) for x in tensors), default=1)
    return float((2e-5 if single else 1e-10) * max(1.0, size))
