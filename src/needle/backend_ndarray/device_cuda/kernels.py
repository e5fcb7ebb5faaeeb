"""The primitives as kernels: source text, number of blocks, parameters.

A kernel is compiled for each operation, combination of dtypes and number of axes. Shapes and
strides are parameters, so that a model compiles dozens of kernels and not thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...typing import Shape
from ..dtypes import INT64, c_type, is_stored, kernel_scalar, widened
from ..layout import is_compact, joined_axes
from ..primitives import PRIMITIVES, REDUCTIONS
from .arrays import Array, CudaBuffer, address, reshaped, scratch
from .context import Context, Parameter
from .pinned import NOTHING_BAD

if TYPE_CHECKING:
    from .device import CudaDevice

THREADS, WARP = 256, 32
BLOCKS_PER_MULTIPROCESSOR = 8
TENSOR_CORES = (8, 0)  # the least compute capability with the instructions of mma.cuh
# The grid-size cap in multiples of BLOCKS_PER_MULTIPROCESSOR. Kernels with more than 32 registers
# a thread have fewer resident blocks; several waves of shorter blocks shorten the tail, in which
# the last blocks leave most of the GPU idle.
WAVES = 4
ACCESS = 16  # bytes of the widest memory access of a thread
REDUCED_PER_PART = 1024  # the least elements of a part of a reduction
MANY_PARTS = 32  # from so many parts on, a block adds them up instead of a thread

# The functions that launch the fused kernels, by name. They take the device and the operands.
LAUNCHERS: dict[str, Callable[..., None]] = {}


def launcher(function: Callable[..., None]) -> Callable[..., None]:
    """A decorator of the function that launches the fused kernel of its name.

    The function takes the context of the GPU, then the kernel's operands (see `primitives`).
    """

    def launch_on(device: CudaDevice, *operands: object) -> None:
        function(device.context, *operands)

    launcher_of_device(launch_on, function.__name__)
    return function


def launcher_of_device(function: Callable[..., None], name: str = "") -> Callable[..., None]:
    """`launcher` of a function that takes the whole device.

    It reads the device's settings, or runs another of its primitives.
    """
    name = name or function.__name__
    assert name in PRIMITIVES, name
    LAUNCHERS[name] = function
    return function


class Axes(NamedTuple):
    """Axes that a kernel iterates over: their lengths, and the strides of each operand."""

    shape: Shape
    strides: tuple[Shape, ...]


def type_of(x: Array) -> str:
    """The C++ type of an array's elements."""
    return c_type(x._dtype)


def merged(shape: Shape, *strides: Shape, sort: bool = True) -> Axes:
    """The axes longer than 1, with axes merged where every operand is evenly strided over both.

    Gives at least one axis. With `sort` the axes are in the memory order of the first operand, the
    fastest last.
    """
    axes = [(n, tuple(s[i] for s in strides), None) for i, n in enumerate(shape) if n != 1]
    if sort:
        axes.sort(key=lambda axis: -abs(axis[1][0]))
    joined = joined_axes(axes) or [(1, (0,) * len(strides), None)]
    return Axes(
        tuple(n for n, _, _ in joined),
        tuple(tuple(steps[i] for _, steps, _ in joined) for i in range(len(strides))),
    )


def source(header: str, parameters: Sequence[str], *body: str, resident: str = "2") -> str:
    """The text of a kernel with these parameters and statements.

    At least `resident` blocks must fit on a multiprocessor, which limits the registers of a thread.
    """
    lines = "\n".join(f"  {line}" for line in body)
    return (
        f'#include "{header}"\nusing namespace needle;\n\n'
        f'extern "C" __global__ void __launch_bounds__({THREADS}, {resident})\n'
        f"kernel({', '.join(parameters)}) {{\n"
        f"{lines}\n}}\n"
    )


Operand = tuple[str, Parameter]  # a declaration and a value


def input_operand(name: str, x: Array, i: int = 0) -> Operand:
    """A compact array that a kernel reads, from x[i] on."""
    return f"const {type_of(x)}* {name}", _start(x, i)


def output_operand(name: str, x: Array, i: int = 0) -> Operand:
    """A compact array that a kernel writes, from x[i] on."""
    return f"{type_of(x)}* {name}", _start(x, i)


def _start(x: Array, i: int) -> int:
    return address(x) + (i * x._strides[0] * x._dtype.itemsize if i else 0)


def strided(name: str, x: Array, const: bool = True) -> Operand:
    """An array of any strides that a kernel reads; without `const` one that it writes."""
    element = f"const {type_of(x)}" if const else type_of(x)
    return f"Array<{element}, {len(x._shape)}> {name}", (address(x), *x._strides)


def launch(
    context: Context, what: str, header: str, function: str, operands: Sequence[Operand],
    blocks: int, resident: str = "1", threads: int = THREADS,
) -> None:  # fmt: skip
    """Launch a device function of a header on these operands; `resident` as in `source`."""
    declarations = [declaration for declaration, _ in operands]
    names = ", ".join(declaration.split()[-1].lstrip("*") for declaration in declarations)
    text = source(header, declarations, f"{function}({names});", resident=resident)
    context.launch(what, text, blocks, threads, [value for _, value in operands])


def grid(context: Context, threads: int) -> int:
    """The grid size for so many threads, capped at `WAVES` times the blocks that run at once."""
    needed = -(-threads // THREADS)
    return max(min(needed, context.multiprocessors * BLOCKS_PER_MULTIPROCESSOR * WAVES), 1)


def index_type(size: int) -> str:
    """The integer type of a grid-stride index over so many elements."""
    return "uint32_t" if size < 2**31 else "uint64_t"


def shapes_of(*arrays: Array) -> str:
    """The dtypes and shapes of arrays, for a message."""
    return ", ".join(f"{x._dtype} {x._shape}" for x in arrays)


# ---- element-wise -----------------------------------------------------------------------------


def elementwise(
    context: Context, what: str, expression: str, out: Array, *inputs: Array,
    scalar: float | None = None,
) -> None:  # fmt: skip
    """out = expression of a, b, c (elements of the inputs) and s (the scalar in out's type).

    Inputs have out's shape. `T` in the expression is the type of the last input, or of out.
    """
    if out.size == 0:
        return
    axes = merged(out._shape, out._strides, *(x._strides for x in inputs))
    operands = (out, *inputs)
    types = [type_of(x) for x in operands]
    packed = axes.strides == ((1,),) * len(operands) and all(
        address(x) % ACCESS == 0 for x in operands
    )
    n = len(axes.shape)
    parameters = ["int64_t size"]
    values: list[Parameter] = [out.size]
    names = ["out", "a", "b", "c"][: len(operands)]
    if packed:
        parameters += [
            f"{'const ' if i else ''}{t}* {name}"
            for i, (t, name) in enumerate(zip(types, names, strict=True))
        ]
        values += [address(x) for x in operands]
        width = ACCESS // max(x._dtype.itemsize for x in operands)
        call = f"map_packed<{width}>(function, size, {', '.join(names)});"
    else:
        parameters.append(f"Shape<{n}> shape")
        values.append(axes.shape)
        parameters += [
            f"Array<{'const ' if i else ''}{t}, {n}> {name}"
            for i, (t, name) in enumerate(zip(types, names, strict=True))
        ]
        values += [(address(x), *s) for x, s in zip(operands, axes.strides, strict=True)]
        index = index_type(out.size)
        call = f"map_strided<{index}>(function, size, shape, {', '.join(names)});"
    kind = types[-1]
    if scalar is not None:
        parameters.append("Scalar number")
        values.append(kernel_scalar(scalar))
    arguments = ", ".join(f"{t} {name}" for t, name in zip(types[1:], names[1:], strict=True))
    text = source(
        "elementwise.cuh", parameters,
        f"using T = {kind};",
        *(["const T s = number.as<T>();"] if scalar is not None else []),
        f"const auto function = [=]({arguments}) {{",
        f"  return static_cast<{types[0]}>({expression});",
        "};",
        call,
    )  # fmt: skip
    context.launch(f"{what} of {shapes_of(*inputs, out)}", text, grid(context, out.size), THREADS,
                   values)  # fmt: skip


def copy(context: Context, x: Array, out: Array) -> None:
    """out = x, converted; a tiled transpose where x and out are contiguous along different axes."""
    axes = merged(out._shape, out._strides, x._strides)
    (*_, out_last), (*_, x_last) = axes.strides
    row = axes.strides[1].index(1) if 1 in axes.strides[1] else None
    if row is None or (out_last, x_last) == (1, 1) or out_last != 1 or not _is_wide(axes, row):
        elementwise(context, "copy", f"f::convert<{type_of(out)}>(a)", out, x)
        return
    rest = [i for i in range(len(axes.shape) - 1) if i != row]
    shape = tuple(axes.shape[i] for i in rest) or (1,)
    steps, x_steps = (tuple(s[i] for i in rest) or (0,) for s in axes.strides)
    n, rows, cols = len(shape), axes.shape[row], axes.shape[-1]
    tiles = prod(shape) * -(-rows // WARP) * -(-cols // WARP)
    operands: list[Operand] = [
        ("int64_t rows", rows), ("int64_t cols", cols), (f"Shape<{n}> batch", shape),
        ("int64_t matrices", prod(shape)),
        (f"Array<{type_of(out)}, {n}> out", (address(out), *steps)),
        ("int64_t out_row", axes.strides[0][row]),
        (f"Array<const {type_of(x)}, {n}> in", (address(x), *x_steps)), ("int64_t in_col", x_last),
    ]  # fmt: skip
    blocks = min(tiles, context.multiprocessors * BLOCKS_PER_MULTIPROCESSOR)
    what = f"copy of {shapes_of(x, out)}"
    launch(context, what, "elementwise.cuh", f"copy_turned<{n}>", operands, blocks)


def _is_wide(axes: Axes, row: int) -> bool:
    """Whether both axes of a transpose are long enough to fill half of a tile."""
    return min(axes.shape[row], axes.shape[-1]) >= WARP // 2


# ---- reductions -------------------------------------------------------------------------------


def reduce(context: Context, op: str, x: Array, axes: tuple[int, ...], out: Array) -> None:
    """A reduction of x over `axes`."""
    results, count = out.size, prod(x._shape[i] for i in axes)
    if results == 0:
        return
    kept_axes = [i for i in range(len(x._shape)) if i not in axes]
    kept = _axes_of(x, kept_axes, sort=False)
    reduced = _axes_of(x, axes, sort=True)
    rows = abs(reduced.strides[0][-1]) <= abs(kept.strides[0][-1]) or results < 32
    wanted = context.multiprocessors * BLOCKS_PER_MULTIPROCESSOR * (1 if rows else THREADS)
    parts = max(min(wanted // results, count // REDUCED_PER_PART), 1)
    if parts == 1 and is_compact(out._shape, out._strides):
        _reduce_into(context, op, x, kept, reduced, count, results, parts, rows, out)
        return
    sums = scratch(context, (results * parts,), out._dtype)
    _reduce_into(context, op, x, kept, reduced, count, results, parts, rows, sums)
    if parts > 1:
        final = scratch(context, (results,), out._dtype)
        across = Axes((results,), ((1,),)), Axes((parts,), ((results,),))
        _reduce_into(context, op, sums, *across, parts, results, 1, parts >= MANY_PARTS, final)
        sums = final
    elementwise(context, op, "a", out, reshaped(sums, out._shape))


def _axes_of(x: Array, which: Sequence[int], sort: bool) -> Axes:
    shape, strides = (tuple(t[i] for i in which) for t in (x._shape, x._strides))
    return merged(shape, strides, sort=sort)


def _reduce_into(
    context: Context, op: str, x: Array, kept: Axes, reduced: Axes, count: int, results: int,
    parts: int, rows: bool, out: Array,
) -> None:  # fmt: skip
    kind, k, r = type_of(x), len(kept.shape), len(reduced.shape)
    width = _pack_width(x, kept, reduced) if rows else 1
    name = f"reduce_blocks<{width}, " if rows else "reduce_threads<"
    text = source(
        "reduce.cuh",
        (
            "int64_t results", f"Shape<{k}> kept", f"Array<const {kind}, {k}> x", "int64_t count",
            f"Shape<{r}> reduced", f"Array<const {kind}, {r}> along", "int64_t parts",
            f"{type_of(out)}* out",
        ),
        f"{name}{REDUCTIONS[op].cuda}, {type_of(out)}, {index_type(max(count, results))}>("
        f"{REDUCTIONS[op].cuda}{{}}, results, kept, x, count, reduced, along, parts, out);",
    )  # fmt: skip
    jobs = results * parts
    threads = _threads_a_row(count // parts // width) if rows else THREADS
    per_multiprocessor = 64 * THREADS // threads
    blocks = (
        min(jobs, context.multiprocessors * per_multiprocessor) if rows else grid(context, jobs)
    )
    data = address(x)
    context.launch(
        f"{op} of {shapes_of(x)}", text, blocks, threads,
        (
            results, kept.shape, (data, *kept.strides[0]), count, reduced.shape,
            (data, *reduced.strides[0]), parts, address(out),
        ),
    )  # fmt: skip


def _pack_width(x: Array, kept: Axes, reduced: Axes) -> int:
    """The elements of a 16-byte access where all rows are aligned for it, else 1."""
    width = ACCESS // x._dtype.itemsize
    steps = (reduced.shape[-1], *kept.strides[0])
    aligned = address(x) % ACCESS == 0 and all(step % width == 0 for step in steps)
    return width if aligned and reduced.strides == ((1,),) else 1


def _threads_a_row(loads: int) -> int:
    """Threads of a block for a row of so many loads: whole warps, about four loads a thread."""
    threads = WARP
    while threads < THREADS and threads * 4 < loads:
        threads *= 2
    return threads


# ---- along one axis ---------------------------------------------------------------------------


def along_axis(
    context: Context, what: str, call: str, x: Array, axis: int, out: Array,
    extra: Sequence[Operand] = (), out_stride: bool = True,
) -> None:  # fmt: skip
    """Launch a function of reduce.cuh with one block for each slice of x along `axis`.

    `extra` holds operands, pairs of a declaration and a value, that follow the length and stride.
    """
    others = [i for i in range(len(x._shape)) if i != axis]
    shape = tuple(x._shape[i] for i in others) or (1,)
    n, lines, length = len(shape), prod(shape), x._shape[axis]
    if lines == 0 or length == 0:
        return
    from_strides, to_strides = (tuple(v._strides[i] for i in others) or (0,) for v in (x, out))
    names = [declaration.split()[-1] for declaration, _ in extra]
    ends = ["out", "out_stride"] if out_stride else ["out"]
    arguments = ["lines", "kept", "x", "length", "stride", *names, *ends]
    parameters = [
        "int64_t lines", f"Shape<{n}> kept", f"Array<const {type_of(x)}, {n}> x", "int64_t length",
        "int64_t stride", *(declaration for declaration, _ in extra),
        f"Array<{type_of(out)}, {n}> out", *(["int64_t out_stride"] if out_stride else []),
    ]  # fmt: skip
    values = [
        lines, shape, (address(x), *from_strides), length, x._strides[axis],
        *(value for _, value in extra), (address(out), *to_strides),
        *([out._strides[axis]] if out_stride else []),
    ]  # fmt: skip
    text = source("reduce.cuh", parameters, f"{call}({', '.join(arguments)});")
    blocks = min(lines, context.multiprocessors * 64)
    context.launch(f"{what} of {shapes_of(x)}", text, blocks, THREADS, values)


# ---- products ---------------------------------------------------------------------------------


def matmul(
    context: Context, a: Array, b: Array, out: Array, bias: Array | None, tf32: bool = False
) -> None:
    """out = a @ b + bias for a batch of matrices of one dtype; see gemm.cuh and gemm_mma.cuh.

    With `tf32` float32 operands may be rounded to TF32 before they are multiplied.
    """
    if out.size == 0:
        return
    batch = out._shape[:-2] or (1,)
    n, kind = len(batch), type_of(out)
    operands: list[Operand] = [
        (f"Shape<{n}> batch", batch), ("int64_t m", out._shape[-2]), ("int64_t n", out._shape[-1]),
        ("int64_t k", a._shape[-1]),
    ]  # fmt: skip
    for name, x in (("a", a), ("b", b), ("out", out)):
        element = kind if name == "out" else f"const {kind}"
        strides = x._strides[:-2] or (0,)
        operands += [
            (f"Array<{element}, {n}> {name}", (address(x), *strides)),
            (f"int64_t {name}_row", x._strides[-2]), (f"int64_t {name}_col", x._strides[-1]),
        ]  # fmt: skip
    operands += [
        (f"const {kind}* bias", 0 if bias is None else address(bias)),
        ("int64_t bias_stride", 0 if bias is None else bias._strides[0]),
    ]
    header, function, tile, resident = _product(context, a, b, out, tf32)
    blocks = -(-out._shape[-2] // tile) * -(-out._shape[-1] // tile) * prod(batch)
    launch(context, f"matmul of {shapes_of(a, b)}", header, function, operands, blocks, resident)


def _product(
    context: Context, a: Array, b: Array, out: Array, tf32: bool
) -> tuple[str, str, int, str]:
    """The kernel of a product: (header, function, side of a block's tile, `resident` blocks)."""
    resident = "(__CUDA_ARCH__ < 900 ? 1 : 2)"  # before Hopper 128 registers are too few
    rounded = is_stored(out._dtype) or (tf32 and out._dtype.name == "float32")
    if rounded and context.capability >= TENSOR_CORES:
        turned = a._strides[-2] == 1, b._strides[-1] == 1
        flags = ", ".join(str(flag).lower() for flag in turned)
        return "gemm_mma.cuh", f"gemm_mma<{flags}>", 128, resident
    sums = c_type(widened(out._dtype))
    function, tile = f"gemm<{max(len(out._shape) - 2, 1)}, {sums}>", 128 if sums == "float" else 64
    return "gemm.cuh", function, tile, resident


# ---- rows by index ----------------------------------------------------------------------------


def gather_rows(context: Context, x: Array, index: Array, out: Array, bad: int) -> None:
    """out[i] = x[index[i]]; see index.cuh."""
    kind = type_of(x)
    text = source(
        "index.cuh",
        (
            "int64_t count", "int64_t columns", "int64_t rows", f"Array<const {kind}, 2> x",
            "const int64_t* index", f"Array<{kind}, 2> out", "unsigned long long* bad",
        ),
        "gather_rows(count, columns, rows, x, index, out, bad);",
    )  # fmt: skip
    count, columns = out._shape
    context.launch(
        f"take of {shapes_of(x, index)}", text, grid(context, max(out.size, 1)), THREADS,
        (
            count, columns, x._shape[0], (address(x), *x._strides), address(index),
            (address(out), *out._strides), bad,
        ),
    )  # fmt: skip


def check_rows(context: Context, index: Array, rows: int, bad: int) -> None:
    """Write the position of the first index out of range to `bad`."""
    text = source(
        "index.cuh",
        ("int64_t count", "int64_t rows", "const int64_t* index", "unsigned long long* bad"),
        "check_rows(count, rows, index, bad);",
    )
    context.launch(
        f"the check of {shapes_of(index)}", text, grid(context, index.size), THREADS,
        (index.size, rows, address(index), bad),
    )  # fmt: skip


def scatter_add_rows(context: Context, out: Array, index: Array, order: Array, src: Array) -> None:
    """out[index[i]] += src[i]; `order` sorts the index stably."""
    kind = type_of(out)
    text = source(
        "index.cuh",
        (
            "int64_t count", "int64_t columns", "int64_t rows", f"Array<{kind}, 2> out",
            "const int64_t* index", "const int64_t* order", f"Array<const {kind}, 2> src",
        ),
        "scatter_add_rows(count, columns, rows, out, index, order, src);",
    )  # fmt: skip
    count, columns = src._shape
    context.launch(
        f"scatter-add of {shapes_of(src, index)}", text, grid(context, max(src.size, 1)), THREADS,
        (
            count, columns, out._shape[0], (address(out), *out._strides), address(index),
            address(order), (address(src), *src._strides),
        ),
    )  # fmt: skip


# ---- indices out of range ---------------------------------------------------------------------


def first_bad(context: Context, launch: Callable[[int], None]) -> int | None:
    """The smallest position that a kernel reports as bad; None if there is none.

    `launch` launches the kernel; it takes the address of the word that the kernel writes. Waits
    for the GPU, except inside of a program, which checks its word later.
    """
    here = context.streams.current
    if here.watch is not None:
        launch(here.watch)
        return None
    first = np.full(1, NOTHING_BAD, np.uint64)
    bad = CudaBuffer(context, 1, first.dtype)
    with here.together():
        context.upload(first, bad.use_address())
    launch(bad.use_address())
    context.download(bad.use_address(), first)
    return None if first[0] == NOTHING_BAD else int(first[0])


def integer_at(context: Context, x: Array, position: int) -> int:
    """An element of a compact array of int64, when all work is done."""
    host = np.empty(1, INT64)
    context.download(address(x) + position * INT64.itemsize, host)
    return int(host[0])
