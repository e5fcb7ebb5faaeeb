"""Random calls of every function of `needle._core` and of NDArray's methods: nothing may crash.

    python tests/core_fuzzer.py [calls] [seed]      # 60,000 and 0 by default

A call begins as one that the kernel takes, on arrays of any layout between guard bytes; then some
arguments are replaced by others of the wrong kind, size, dtype or layout, or by arrays whose slots
hold anything. It may raise an ordinary error. It may not end the process, raise SystemError, or
change a guard byte. Each call is written to a file before it is made, and the one that was running
when the process died is printed by the parent.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import needle as ndl
from needle.autograd import Value
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.dtypes import DTYPES as ALL_DTYPES
from needle.native import core

GUARD = 192  # bytes on either side of an array's memory
DTYPES = {dtype.name: dtype for dtype in ALL_DTYPES}
ORDINARY = (
    TypeError, ValueError, IndexError, OverflowError, MemoryError, BufferError, AttributeError,
    RuntimeError, ZeroDivisionError, OSError, KeyError,
)  # fmt: skip
FLOATS = ("float32", "float64")
COMPUTED = (*FLOATS, "int32", "int64", "uint8", "bool")
UNARY = (
    "neg", "abs", "sign", "exp", "sin", "tanh", "erf", "relu", "floor", "round", "square", "atan",
    "erfc",
)  # fmt: skip
PREDICATES = ("isnan", "isfinite", "logical_not")
BINARY = (
    "add", "sub", "mul", "div", "floor_div", "mod", "pow", "maximum", "minimum", "relu_grad",
    "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift",
)  # fmt: skip
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or")
# Large numbers are so large that no loop of that length begins.
INTEGERS = (-(2**63), -(2**31) - 1, -3, -1, 0, 1, 2, 3, 5, 7, 2**46 + 1, 2**62, 2**63 - 1, 2**64)


class Fuzzer:
    """Makes calls from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.RandomState(seed)
        self.memory: list[np.ndarray] = []  # of the arrays of the present call
        self.dtype = ""

    # ---- arguments ------------------------------------------------------------------------------

    def length(self) -> int:
        return self.random.choice((0, 1, 1, 2, 3, 4, 5, 8, 17, 33))

    def shape(self, ndim: int | None = None) -> tuple[int, ...]:
        ndim = self.random.choice((0, 1, 2, 2, 3, 4)) if ndim is None else ndim
        return tuple(self.length() for _ in range(ndim))

    def buffer(self, size: int, dtype: str) -> Any:
        """A Buffer of `size` small numbers between guard bytes."""
        item = DTYPES[dtype].itemsize
        memory = np.full(size * item + 2 * GUARD, 0xA5, np.uint8)
        inside = memory[GUARD : GUARD + size * item]
        if dtype == "bool":
            inside[:] = self.numbers.randint(0, 2, size)
        elif dtype == "bfloat16":
            inside.view(np.uint16)[:] = 0x3F80
        else:
            values = self.numbers.randint(0, 4, size).astype(dtype)
            if dtype in FLOATS and size and self.random.random() < 0.1:
                values[self.random.randrange(size)] = self.random.choice((np.nan, np.inf, -np.inf))
            inside.view(dtype)[:] = values
        self.memory.append(memory)
        if dtype == "bfloat16":
            return core.allocate(size, DTYPES[dtype])
        return core.wrap(inside.view(dtype))

    def array(self, *shape: int, dtype: str | None = None, compact: bool = False) -> NDArray:
        """An array of that shape; of any layout unless `compact`."""
        dtype = dtype or self.dtype
        order = list(range(len(shape)))
        step = 1
        if not compact and self.random.random() < 0.4:
            self.random.shuffle(order)
            step = self.random.choice((1, 1, 2))
        strides = [0] * len(shape)
        size = step
        for axis in reversed(order):
            strides[axis] = size
            size *= max(shape[axis], 1)
        offset = self.random.choice((0, 0, 3))
        handle = self.buffer(offset + size, dtype)
        x = NDArray._view(shape, tuple(strides), offset, handle, ndl.cpu(), DTYPES[dtype])
        return x.flip(None) if not compact and shape and self.random.random() < 0.1 else x

    def compact(self, *shape: int, dtype: str | None = None) -> NDArray:
        return self.array(*shape, dtype=dtype, compact=True)

    def damaged(self) -> Any:
        """An array whose slots hold anything."""
        x = self.array(*self.shape(), dtype=self.random.choice(tuple(DTYPES)))
        ndim = len(x._shape)
        for _ in range(self.random.randint(1, 2)):
            slot = self.random.choice(("_shape", "_strides", "_offset", "_handle", "_dtype"))
            value: Any = self.junk(arrays=False)
            if slot in ("_shape", "_strides") and self.random.random() < 0.7:
                value = tuple(self.random.choice(INTEGERS) for _ in range(ndim))
            elif slot == "_offset" and self.random.random() < 0.7:
                value = self.random.choice(INTEGERS)
            if self.random.random() < 0.1:
                delattr(x, slot) if hasattr(x, slot) else None
            else:
                setattr(x, slot, value)
        return x

    def junk(self, arrays: bool = True) -> Any:
        """An argument of any kind."""
        choice = self.random.randrange(14 if arrays else 9)
        if choice < 3:
            return self.random.choice(INTEGERS)
        if choice == 3:
            return self.random.choice((0.5, -1.5, float("nan"), float("inf"), 1e300, 10**400))
        if choice == 4:
            return self.random.choice((None, True, "add", "\ud800", b"x", (), [], {}, object()))
        if choice == 5:
            return tuple(self.random.choice(INTEGERS) for _ in range(self.random.randrange(10)))
        if choice == 6:
            return self.random.choice((np.int64(2**62), np.float32(2), np.bool_(True), np.zeros(3)))
        if choice == 7:
            return self.random.choice((*DTYPES.values(), np.dtype("complex64")))
        if choice == 8:
            return self.buffer(self.length(), self.random.choice(COMPUTED))
        if choice == 9:
            return NDArray.__new__(NDArray)
        if choice == 10:
            return self.damaged()
        if choice == 11:
            return [self.array(*self.shape(), dtype="float32") for _ in range(self.length() % 4)]
        return self.array(*self.shape(), dtype=self.random.choice(tuple(DTYPES)))

    # ---- calls that the kernels take ------------------------------------------------------------

    def primitives(self) -> dict[str, Callable[[], tuple[Any, ...]]]:
        a, c, r = self.array, self.compact, self.random

        def reduction() -> tuple[Any, ...]:
            shape = self.shape()
            axes = tuple(i for i in range(len(shape)) if r.random() < 0.5)
            op = r.choice(("sum", "prod", "max", "min"))
            wide = op in ("sum", "prod") and self.dtype not in FLOATS
            kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
            return op, a(*shape), axes, a(*kept, dtype="int64" if wide else self.dtype)

        def along() -> tuple[tuple[int, ...], int]:
            shape = self.shape(r.choice((1, 2, 3)))
            return shape, r.randrange(len(shape))

        def argreduce() -> tuple[Any, ...]:
            shape, axis = along()
            kept = tuple(1 if i == axis else n for i, n in enumerate(shape))
            return r.choice(("argmax", "argmin")), a(*shape), axis, a(*kept, dtype="int64")

        def product() -> tuple[Any, ...]:
            batch = self.shape(r.choice((0, 0, 1, 2)))
            m, k, n = self.shape(3)
            bias = r.choice((None, a(n)))
            return a(*batch, m, k), a(*batch, k, n), c(*batch, m, n), bias

        def rows() -> tuple[Any, ...]:
            n, d, m = 4, self.length(), self.length()
            return a(n, d), a(m, dtype="int64"), a(m, d)

        def element_wise(arity: int) -> tuple[Any, ...]:
            shape = self.shape()
            compares = r.random() < 0.3
            op = r.choice(COMPARISONS if compares else BINARY)
            out = "bool" if compares and r.random() < 0.5 else self.dtype
            if arity == 1:
                return op, a(*shape), r.choice((2, 0.5)), a(*shape, dtype=out), r.random() < 0.5
            return op, a(*shape), a(*shape), a(*shape, dtype=out)

        def unary() -> tuple[Any, ...]:
            shape, predicate = self.shape(), r.random() < 0.2
            op = r.choice(PREDICATES if predicate else UNARY)
            return op, a(*shape), a(*shape, dtype="bool" if predicate else self.dtype)

        def pair(*dtypes: str) -> tuple[NDArray, ...]:
            shape = self.shape()
            return tuple(a(*shape, dtype=d) for d in dtypes)

        def lanes(name: str) -> tuple[Any, ...]:
            shape, axis = along()
            out = a(*shape, dtype="int64" if name == "argsort" else self.dtype)
            return (a(*shape), axis, *([r.random() < 0.5] if name == "argsort" else []), out)

        any_dtype = lambda: r.choice(tuple(DTYPES))  # noqa: E731
        return {
            "fill": lambda: (*pair(any_dtype()), r.choice((1, 2.5, True, np.float32(1)))),
            "copy": lambda: pair(any_dtype(), any_dtype()),
            "view": lambda: pair(r.choice(COMPUTED)),
            "allocate": lambda: (self.length(), DTYPES[any_dtype()]),
            "wrap": lambda: (np.zeros(self.length(), r.choice(COMPUTED)),),
            "unary": unary,
            "binary": lambda: element_wise(2),
            "binary_scalar": lambda: element_wise(1),
            "where": lambda: pair("bool", *[any_dtype()] * 3),
            "reduce": reduction,
            "argreduce": argreduce,
            "cumsum": lambda: lanes("cumsum"),
            "argsort": lambda: lanes("argsort"),
            "matmul": product,
            "gather_rows": rows,
            "scatter_add_rows": rows,
        }

    def fused(self) -> dict[str, Callable[[], tuple[Any, ...]]]:
        a, c, r = self.array, self.compact, self.random

        def matrix(*roles: str) -> tuple[NDArray, ...]:
            """Arrays of a (n, d) matrix's shape, of its rows or of its columns."""
            n, d = self.length(), self.length()
            shapes = {"x": (n, d), "rows": (n,), "columns": (d,), "terms": (n, 2)}
            return tuple(c(*shapes[role]) for role in roles)

        def losses(*roles: str) -> tuple[Any, ...]:
            logits, *rest = matrix("x", *roles)
            labels = c(logits.shape[0], dtype="int64")
            return (logits, labels, *rest, r.choice((-100, 0, 3)), r.choice((0.0, 0.1)))

        def norm(count: int, statistics: str, gradient: bool) -> tuple[Any, ...]:
            if gradient:
                roles = ("x", "x", "columns", statistics, statistics, "x", "columns", "columns")
                arrays = matrix(*roles)
                eps = (1e-5,) if statistics == "columns" else ()
                return (*arrays[:count], *eps, *arrays[count:])
            arrays = matrix("x", "columns", "columns", "x", statistics, statistics)
            return (*arrays[:3], 1e-5, *arrays[3:])

        def convolution(name: str) -> tuple[Any, ...]:
            groups, stride, dilation = r.choice((1, 1, 2)), r.randint(1, 2), r.randint(1, 2)
            n, h, w = self.length() % 4, self.length() % 9, self.length() % 9
            kh, kw, channels, filters = (
                r.randint(1, 3),
                r.randint(1, 3),
                r.randint(1, 5),
                groups * 3,
            )
            oh, ow = self.length() % 7, self.length() % 7
            x_shape, w_shape = (n, h, w, groups * channels), (kh, kw, channels, filters)
            y_shape = (n, oh, ow, filters)
            arrays = {
                "conv2d": lambda: (a(*x_shape), c(*w_shape), c(*y_shape)),
                "conv2d_input_grad": lambda: (c(*y_shape), c(*w_shape), c(*x_shape)),
                "conv2d_weight_grad": lambda: (a(*x_shape), c(*y_shape), c(*w_shape)),
            }[name]()
            padding = (r.randint(-1, 2), r.randint(-1, 2))
            return (*arrays, (stride, stride), (dilation, dilation), padding, groups)

        def recurrence(gates: int, gradient: bool) -> tuple[Any, ...]:
            t, b, h = self.length() % 5, self.length() % 9, self.length()
            states = [c(t + 1, b, h) for _ in range(2 if gates == 4 else 1)]
            arrays = (c(t, b, gates * h), c(h, gates * h), *states)
            if gradient:
                arrays = (*arrays, c(t, b, h), *(c(b, h) for _ in states))
            return arrays if gates == 4 else (*arrays, r.random() < 0.5)

        def attention(gradient: bool) -> tuple[Any, ...]:
            b, h, t, s, d, e = (self.length() % 6 for _ in range(6))
            q, k, v = (b, h, t, d), (b, h, s, d), (b, h, s, e)
            mask = a(b, h, t, s) if r.random() < 0.5 else None
            arrays = (a(*q), a(*k), a(*v), mask, c(b, h, t, e), c(b, h, t, 2))
            if gradient:
                arrays = (a(b, h, t, e), *arrays, c(*q), c(*k), c(*v))
            return (*arrays, 0.5, r.random() < 0.5)

        def optimizer(moments: int, *options: Any) -> tuple[Any, ...]:
            shapes = [self.shape() for _ in range(r.randrange(3))]
            lists = [[c(*shape) for shape in shapes] for _ in range(3 + moments)]
            return (*lists, *options)

        def tiled() -> tuple[Any, ...]:
            m, n, p = (8 * r.randrange(3) for _ in range(3))
            sizes = (m * n, n * p, m * p)
            return (*(self.buffer(size, "float32") for size in sizes), m, n, p)

        def epoch() -> tuple[Any, ...]:
            n, d, k = self.length(), self.length(), r.randint(1, 20)
            labels = self.numbers.randint(0, k, n).astype(np.uint8)
            theta = np.zeros((d, k), np.float32)
            return np.ones((n, d), np.float32), labels, theta, 0.1, r.randint(1, 40)

        return {
            "softmax": lambda: matrix("x", "x"),
            "log_softmax": lambda: matrix("x", "x"),
            "cross_entropy": lambda: losses("rows", "terms"),
            "cross_entropy_grad": lambda: losses("rows", "terms", "x"),
            "batch_norm": lambda: norm(3, "columns", False),
            "batch_norm_grad": lambda: norm(5, "columns", True),
            "layer_norm": lambda: norm(3, "rows", False),
            "layer_norm_grad": lambda: norm(5, "rows", True),
            "conv2d": lambda: convolution("conv2d"),
            "conv2d_input_grad": lambda: convolution("conv2d_input_grad"),
            "conv2d_weight_grad": lambda: convolution("conv2d_weight_grad"),
            "lstm": lambda: recurrence(4, False),
            "lstm_grad": lambda: recurrence(4, True),
            "rnn": lambda: recurrence(1, False),
            "rnn_grad": lambda: recurrence(1, True),
            "attention": lambda: attention(False),
            "attention_grad": lambda: attention(True),
            "sgd": lambda: optimizer(r.randrange(2), 0.1, 0.9, 0.0, 0.0, r.random() < 0.5),
            "adam": lambda: optimizer(2, 0.1, 0.9, 0.99, 1e-8, 0.0, 1, r.random() < 0.5),
            "matmul_tiled": tiled,
            "softmax_regression_epoch": epoch,
            "advance_mt19937": lambda: (np.random.MT19937(0), r.randrange(2000)),
            "set_num_threads": lambda: (r.randint(1, 3),),
            "register": lambda: (NDArray, list(DTYPES.values()), ndl.cpu()),
            "register_values": lambda: (Value,),
            "Program": lambda: ("no library", [((3,), DTYPES["float32"])], [], [c(2)], [], 64),
            "memory_stats": lambda: (),
            "empty_cache": lambda: (),
        }

    def methods(self) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
        """Methods of NDArray with arguments of any kind."""
        names = (
            "reshape", "permute", "broadcast_to", "as_strided", "squeeze", "unsqueeze", "flip",
            "swapaxes", "pad", "tile", "astype", "fill", "clip", "sum", "max", "mean",
            "argmax", "cumsum", "argsort", "matmul", "__getitem__", "__setitem__", "__add__",
            "__pow__", "compare", "make", "full", "empty", "one_hot",
        )  # fmt: skip
        while True:
            name = self.random.choice(names)
            x = self.array(*self.shape(), dtype=self.random.choice(COMPUTED))
            target: Any = ndl.cpu() if name in ("full", "empty", "one_hot") else x
            yield (
                name,
                getattr(target, name),
                tuple(self.junk() for _ in range(self.random.randrange(1, 3))),
            )

    # ---- running --------------------------------------------------------------------------------

    def call(self, number: int) -> tuple[str, Callable[[], Any]]:
        """The description of call `number`, and what makes it."""
        self.memory.clear()
        self.dtype = self.random.choice(COMPUTED if self.random.random() < 0.5 else FLOATS)
        if self.random.random() < 0.2:
            name, function, arguments = next(self.methods())
        else:
            table = {**self.primitives(), **self.fused()}
            name = self.random.choice(tuple(table))
            if name in self.fused():
                self.dtype = self.random.choice(FLOATS)
            function, arguments = getattr(core, name), table[name]()
            if self.random.random() < 0.6:
                arguments = self.changed(name, arguments)
        text = f"{number}: {name}({', '.join(map(describe, arguments))})"
        return text, lambda: function(*arguments)

    def changed(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """One or two arguments replaced."""
        items = list(arguments)
        for _ in range(self.random.randint(1, 2)):
            at = self.random.randrange(len(items) + 1)
            if at == len(items) or (self.random.random() < 0.1 and items):
                items.insert(at, self.junk())
            elif isinstance(items[at], list) and items[at] and self.random.random() < 0.7:
                items[at] = [*items[at][:-1], self.junk()]
            else:
                items[at] = self.junk()
        # What would run for hours is no crash.
        if name == "advance_mt19937" and isinstance(items[-1], (int, np.integer)):
            items[-1] = min(items[-1], 2000)
        return tuple(items)

    def check_guards(self) -> None:
        for memory in self.memory:
            if not (memory[:GUARD] == 0xA5).all() or not (memory[-GUARD:] == 0xA5).all():
                raise SystemError("a kernel wrote outside of its array")


def describe(value: Any) -> str:
    """An argument in a line, whatever its slots hold."""
    if isinstance(value, NDArray):
        slots = {n: getattr(value, n, "unset") for n in ("_shape", "_strides", "_offset", "_dtype")}
        handle = getattr(value, "_handle", None)
        return f"NDArray({slots}, buffer of {getattr(handle, 'size', handle)!r})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe, value))}]"
    return repr(value)


def run(calls: int, seed: int, log: str) -> None:
    """Make the calls. The last line of `log` is the one that runs."""
    fuzzer = Fuzzer(seed)
    worked = 0
    with open(log, "wb", buffering=0) as file:
        for number in range(calls):
            text, make = fuzzer.call(number)
            file.seek(0)
            file.write(text.encode("utf-8", "backslashreplace")[:4000].ljust(4000) + b"\n")
            try:
                make()
                worked += 1
            except ORDINARY:
                pass
            fuzzer.check_guards()
    # Most calls must reach their kernels, or nothing is tested.
    print(f"{calls} calls of seed {seed}, {worked} without an error")
    if worked < calls // 4:
        raise SystemExit("too few calls work: the generator does not fit the functions any more")


def run_in_subprocess(calls: int, seed: int) -> str:
    """What the calls print. Raises AssertionError with the call that was running if they crash."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "call")
        command = [sys.executable, "-X", "faulthandler", __file__, str(calls), str(seed), log]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            with open(log, encoding="utf-8") as file:
                raise AssertionError(
                    f"exit code {done.returncode} in call {file.read().strip()}\n{done.stderr}"
                )
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) > 3:
        run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        total, first = int((sys.argv[1:2] or [60_000])[0]), int((sys.argv[2:3] or [0])[0])
        part = 5_000
        for begin in range(0, total, part):
            print(run_in_subprocess(min(part, total - begin), first + begin // part), end="")
