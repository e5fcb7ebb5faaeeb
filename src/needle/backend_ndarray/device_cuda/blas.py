"""Matrix products by cuBLASLt, where it is installed.

cuBLASLt reference: https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api. Its matrices are
column-major. A row-major product out = a · b is computed as outᵀ = bᵀ · aᵀ, without a copy. The
library's heuristic chooses a kernel once for each shape, layout and alignment.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64
from ctypes import c_void_p as _pointer
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ...environment import cuda_matmul
from ..dtypes import NAMES
from .arrays import Array, address
from .driver import CudaError
from .kernels import merged, shapes_of
from .library import CUBLASLT, CudaUnavailable, load

if TYPE_CHECKING:
    from .context import Context

OLDEST_VERSION = 120000
# cublasComputeType_t and cudaDataType. Products of 16-bit types are accumulated in float32.
COMPUTE_FLOAT, COMPUTE_DOUBLE, COMPUTE_TF32 = 68, 70, 77
DATA_TYPES = {d.name: names.cuda for d, names in NAMES.items() if names.cuda is not None}
# cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t.
DESC_TRANSPOSE_A, DESC_TRANSPOSE_B, DESC_EPILOGUE, DESC_BIAS = 3, 4, 7, 8
EPILOGUE_PLAIN, EPILOGUE_RELU, EPILOGUE_BIAS = 1, 2, 4
# cublasLtMatrixLayoutAttribute_t, cublasLtMatmulPreferenceAttributes_t.
LAYOUT_BATCH_COUNT, LAYOUT_BATCH_OFFSET = 5, 6
PREFERENCE_WORKSPACE, PREFERENCE_ALIGNMENTS = 1, (5, 6, 7, 8)  # of A, B, C, D
# The type in which split-k kernels may add up their parts (cublasLtReductionScheme_t).
PREFERENCE_REDUCTION, REDUCTION_IN_COMPUTE_TYPE = 3, 2
BEST_ALIGNMENT = 256
WORKSPACE, WORKSPACE_HOPPER = 8 << 20, 32 << 20  # bytes; Hopper's kernels want more
STATUS = {
    1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
}  # fmt: skip

_SIGNATURES: dict[str, tuple[type[object], ...]] = {
    "cublasLtCreate": (POINTER(_pointer),),
    "cublasLtMatmulDescCreate": (POINTER(_pointer), c_int, c_int),
    "cublasLtMatmulDescSetAttribute": (_pointer, c_int, _pointer, c_size_t),
    "cublasLtMatrixLayoutCreate": (POINTER(_pointer), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": (_pointer, c_int, _pointer, c_size_t),
    "cublasLtMatmulPreferenceCreate": (POINTER(_pointer),),
    "cublasLtMatmulPreferenceSetAttribute": (_pointer, c_int, _pointer, c_size_t),
    "cublasLtMatmulPreferenceDestroy": (_pointer,),
    "cublasLtMatmulAlgoGetHeuristic": (
        *(_pointer,) * 7, c_int, _pointer, POINTER(c_int),
    ),
    "cublasLtMatmul": (*(_pointer,) * 14, c_size_t, _pointer),
}  # fmt: skip


class Choice(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: one of the library's kernels for a product."""

    _fields_ = (
        ("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int),
        ("waves", c_float), ("reserved", c_int * 4),
    )  # fmt: skip


class Layout(NamedTuple):
    """A matrix for cuBLASLt: `step` is the distance of its rows, or columns if `by_columns`."""

    by_columns: bool
    step: int
    batch_step: int


class Product(NamedTuple):
    """The key for the choice of a kernel for (m, k) times (k, n)."""

    kind: str
    m: int
    n: int
    k: int
    batch: int
    a: Layout
    b: Layout
    out: Layout
    epilogue: int
    tf32: bool
    alignments: tuple[int, int, int]  # of a, b and out


class _Plan(NamedTuple):
    descriptor: _pointer
    a: _pointer
    b: _pointer
    out: _pointer
    choice: Choice


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """cuBLASLt and its version. Raises CudaUnavailable."""
    library = load(CUBLASLT, "cuBLASLt", "Install it with pip install 'needle-dl[cuda]'")
    try:
        for name, types in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, c_int
        library.cublasLtGetVersion.restype = c_size_t
    except AttributeError as error:
        raise CudaUnavailable(f"cuBLASLt is not what was expected: {error}") from None
    version = library.cublasLtGetVersion()
    if version < OLDEST_VERSION:
        raise CudaUnavailable(f"cuBLASLt {_readable(version)} is too old, 12.0 or later is needed")
    return library, version


def _readable(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


class Blas:
    """cuBLASLt for one GPU. `missing` says why it cannot be used, or is None."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._plans: dict[Product, _Plan | None] = {}
        self._workspace_bytes = WORKSPACE_HOPPER if context.capability >= (9, 0) else WORKSPACE
        self.missing: str | None = None
        self.version = ""
        if cuda_matmul() == "own":
            self.missing = "NEEDLE_CUDA_MATMUL is own"
            return
        self._lock = context.lock  # a capture holds it while it calls `matmul`
        try:
            self._functions, version = _library()
            context.activate()
            self._handle = self._create("cublasLtCreate")
            self.version = _readable(version)
        except (CudaUnavailable, CudaError) as error:
            self.missing = str(error).removeprefix("cuda() is not available: ")

    def status(self) -> str:
        """Which library multiplies matrices, in words."""
        if self.missing is None:
            return f"products by cuBLASLt {self.version}"
        return f"products by needle's own kernel: {self.missing}"

    def matmul(
        self, a: Array, b: Array, out: Array, bias: Array | None = None, relu: bool = False,
        tf32: bool = False,
    ) -> bool:  # fmt: skip
        """out = a @ b + bias, followed by a ReLU with `relu`; returns whether it was computed.

        All arrays have one float dtype; 16-bit results are rounded once, at the end. Returns False
        for other dtypes, for layouts that cuBLASLt does not support, and where it has no kernel.
        Raises CudaError if the kernel cannot be launched.
        """
        product = None if self.missing else product_of(a, b, out, bias, relu, tf32)
        if product is None:
            return False
        with self._lock:
            self._context.activate()
            fresh = product not in self._plans
            if fresh:
                self._plans[product] = self._plan(product)
            plan = self._plans[product]
            if plan is None:
                return False
            here = self._context.streams.current
            if plan.choice.workspace and here.workspace is None:
                here.workspace = self._context.memory.allocate(self._workspace_bytes)
            try:
                if not here.rehearsing:
                    self._launch(plan, a, b, address(out), bias)
                elif fresh:
                    self._warm_up(plan, a, b, out, bias)
            except CudaError as error:
                error.args = (f"{error.args[0]} in matmul of {shapes_of(a, b)}",)
                raise
        return True

    # ---- calls ------------------------------------------------------------------------------

    def _call(self, name: str, *args: object) -> None:
        code = getattr(self._functions, name)(*args)
        if code:
            raise CudaError(name, code, f"CUBLAS_STATUS_{STATUS.get(code, code)}", "cuBLASLt")

    def _create(self, name: str, *args: object) -> _pointer:
        value = _pointer()
        self._call(name, byref(value), *args)
        return value

    def _set(
        self, what: str, handle: _pointer, attribute: int, value: ctypes._SimpleCData[int]
    ) -> None:
        name = f"cublasLt{what}SetAttribute"
        self._call(name, handle, attribute, byref(value), ctypes.sizeof(value))

    def _plan(self, p: Product) -> _Plan | None:
        """The library's kernel for a product, and the descriptors; None if it has no kernel."""
        scale, compute = "float32", COMPUTE_TF32 if p.tf32 else COMPUTE_FLOAT
        if p.kind == "float64":
            scale, compute = "float64", COMPUTE_DOUBLE
        descriptor = self._create("cublasLtMatmulDescCreate", compute, DATA_TYPES[scale])
        # The first operand is bᵀ, the second aᵀ: a row-major matrix is a column-major transpose.
        self._set("MatmulDesc", descriptor, DESC_TRANSPOSE_A, c_int32(p.b.by_columns))
        self._set("MatmulDesc", descriptor, DESC_TRANSPOSE_B, c_int32(p.a.by_columns))
        self._set("MatmulDesc", descriptor, DESC_EPILOGUE, c_int32(p.epilogue))
        a = self._layout(p, p.a, p.m, p.k)
        b = self._layout(p, p.b, p.k, p.n)
        out = self._layout(p, p.out, p.m, p.n)
        preference = self._preference(p, sums=scale)
        choice, found = Choice(), c_int(0)
        code = self._functions.cublasLtMatmulAlgoGetHeuristic(
            self._handle, descriptor, b, a, out, out, preference, 1, byref(choice), byref(found)
        )
        self._call("cublasLtMatmulPreferenceDestroy", preference)
        if code or not found.value or choice.state:
            return None
        return _Plan(descriptor, a, b, out, choice)

    def _preference(self, p: Product, sums: str) -> _pointer:
        """The limits and guarantees for the choice of a kernel that accumulates in `sums`."""
        preference = self._create("cublasLtMatmulPreferenceCreate")
        self._set(
            "MatmulPreference", preference, PREFERENCE_WORKSPACE, c_uint64(self._workspace_bytes)
        )
        if sums != p.kind:  # parts in the results' type would be rounded
            self._set(
                "MatmulPreference", preference, PREFERENCE_REDUCTION,
                ctypes.c_uint32(REDUCTION_IN_COMPUTE_TYPE),
            )  # fmt: skip
        of_a, of_b, of_out = p.alignments
        for attribute, alignment in zip(
            PREFERENCE_ALIGNMENTS, (of_b, of_a, of_out, of_out), strict=True
        ):
            self._set("MatmulPreference", preference, attribute, ctypes.c_uint32(alignment))
        return preference

    def _layout(self, p: Product, x: Layout, rows: int, cols: int) -> _pointer:
        lengths = (rows, cols) if x.by_columns else (cols, rows)
        layout = self._create("cublasLtMatrixLayoutCreate", DATA_TYPES[p.kind], *lengths, x.step)
        self._set("MatrixLayout", layout, LAYOUT_BATCH_COUNT, c_int32(p.batch))
        self._set("MatrixLayout", layout, LAYOUT_BATCH_OFFSET, c_int64(x.batch_step))
        return layout

    def _warm_up(self, plan: _Plan, a: Array, b: Array, out: Array, bias: Array | None) -> None:
        """The product into memory that nobody reads: its first run loads the library's kernel,
        which must not happen while a stream is captured."""
        last = sum((n - 1) * step for n, step in zip(out._shape, out._strides, strict=True))
        block = self._context.memory.allocate((last + 1) * out._dtype.itemsize)
        self._launch(plan, a, b, block.address, bias)
        self._context.memory.free(block)

    def _launch(self, plan: _Plan, a: Array, b: Array, out: int, bias: Array | None) -> None:
        if bias is not None:
            self._set("MatmulDesc", plan.descriptor, DESC_BIAS, c_uint64(address(bias)))
        here = self._context.streams.current
        workspace = here.workspace.address if here.workspace else 0
        number = c_double if a._dtype.name == "float64" else c_float
        one, zero = number(1), number(0)
        self._call(
            "cublasLtMatmul", self._handle, plan.descriptor, byref(one), address(b), plan.b,
            address(a), plan.a, byref(zero), out, plan.out, out, plan.out,
            byref(plan.choice), workspace, plan.choice.workspace, here.handle,
        )  # fmt: skip
        here.issued += 1


def product_of(
    a: Array, b: Array, out: Array, bias: Array | None, relu: bool, tf32: bool
) -> Product | None:
    """The key of a product; None where cuBLASLt does not support its dtype or layouts."""
    kind = out._dtype.name
    (m, n), k = out._shape[-2:], a._shape[-1]
    if kind not in DATA_TYPES or not out.size or not k:
        return None
    if bias is not None and bias._strides[0] != 1 and n > 1:
        return None
    batch = merged(out._shape[:-2], *(x._strides[:-2] for x in (a, b, out)), sort=False)
    if len(batch.shape) > 1:
        return None
    of_a, of_b, of_out = (
        layout_of(x, steps[0]) for x, steps in zip((a, b, out), batch.strides, strict=True)
    )
    if of_a is None or of_b is None or of_out is None or of_out.by_columns:
        return None
    epilogue = (EPILOGUE_RELU if relu else 0) | (EPILOGUE_BIAS if bias is not None else 0)
    return Product(
        kind, m, n, k, batch.shape[0], of_a, of_b, of_out, epilogue or EPILOGUE_PLAIN,
        tf32 and kind == "float32", (alignment(a), alignment(b), alignment(out)),
    )  # fmt: skip


def alignment(x: Array) -> int:
    """The largest power of two, up to BEST_ALIGNMENT, that divides the address of x."""
    return min(address(x) & -address(x), BEST_ALIGNMENT)


def layout_of(x: Array, batch_step: int) -> Layout | None:
    """The layout of the matrices of x; None where neither rows nor columns are contiguous."""
    if batch_step < 0:
        return None
    for by_columns in (False, True):
        (lines, length), (step, along) = x._shape[-2:], x._strides[-2:]
        if by_columns:
            lines, length, step, along = length, lines, along, step
        if (along == 1 or length == 1) and (step >= length or lines == 1):
            return Layout(by_columns, max(step, length) if lines > 1 else length, batch_step)
    return None
