"""The extension module: types of the functions that csrc/cpu/module.cpp defines.

`tests/backend_ndarray/test_core_stub.py` compares this file with the module. Parameters before a
`/` have no names in the module; they are named here as in the C++ code.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from needle.backend_ndarray import BackendDevice, NDArray

# ---- memory -------------------------------------------------------------------------------------

@final
class Buffer:
    """The memory of NDArrays on `cpu()`."""

    version: int
    shared: bool
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    def ptr(self) -> int: ...

def allocate(size: int, dtype: np.dtype, /) -> Buffer: ...
def wrap(array: np.ndarray, /) -> Buffer: ...
def view(x: NDArray, /) -> np.ndarray: ...
def memory_stats() -> dict[str, int]: ...
def empty_cache() -> None: ...

# ---- primitives ---------------------------------------------------------------------------------

def fill(out: NDArray, value: float | np.number, /) -> None: ...
def copy(x: NDArray, out: NDArray, /) -> None: ...
def unary(op: str, x: NDArray, out: NDArray, /) -> None: ...
def binary(op: str, a: NDArray, b: NDArray, out: NDArray, /) -> None: ...
def binary_scalar(
    op: str, x: NDArray, scalar: float | np.number, out: NDArray, reverse: bool = False
) -> None: ...
def where(cond: NDArray, a: NDArray, b: NDArray, out: NDArray, /) -> None: ...
def reduce(op: str, x: NDArray, axes: tuple[int, ...], out: NDArray, /) -> None: ...
def argreduce(op: str, x: NDArray, axis: int, out: NDArray, /) -> None: ...
def cumsum(x: NDArray, axis: int, out: NDArray, /) -> None: ...
def argsort(x: NDArray, axis: int, descending: bool, out: NDArray, /) -> None: ...
def matmul(a: NDArray, b: NDArray, out: NDArray, bias: NDArray | None = None) -> None: ...
def gather_rows(x: NDArray, index: NDArray, out: NDArray, /) -> None: ...
def scatter_add_rows(out: NDArray, index: NDArray, src: NDArray, /) -> None: ...

# ---- fused kernels ------------------------------------------------------------------------------

def softmax(x: NDArray, out: NDArray, /) -> None: ...
def log_softmax(x: NDArray, out: NDArray, /) -> None: ...
def cross_entropy(
    logits: NDArray,
    labels: NDArray,
    losses: NDArray,
    lse: NDArray,
    ignore_index: int,
    smoothing: float,
    /,
) -> None: ...
def cross_entropy_grad(
    logits: NDArray,
    labels: NDArray,
    scale: NDArray,
    lse: NDArray,
    out: NDArray,
    ignore_index: int,
    smoothing: float,
    /,
) -> None: ...
def batch_norm(
    x: NDArray,
    weight: NDArray,
    bias: NDArray,
    eps: float,
    out: NDArray,
    mean: NDArray,
    var: NDArray,
    /,
) -> None: ...
def batch_norm_grad(
    g: NDArray,
    x: NDArray,
    weight: NDArray,
    mean: NDArray,
    var: NDArray,
    eps: float,
    dx: NDArray,
    dweight: NDArray,
    dbias: NDArray,
    /,
) -> None: ...
def layer_norm(
    x: NDArray,
    weight: NDArray,
    bias: NDArray,
    eps: float,
    out: NDArray,
    mean: NDArray,
    rstd: NDArray,
    /,
) -> None: ...
def layer_norm_grad(
    g: NDArray,
    x: NDArray,
    weight: NDArray,
    mean: NDArray,
    rstd: NDArray,
    dx: NDArray,
    dweight: NDArray,
    dbias: NDArray,
    /,
) -> None: ...
def conv2d(
    x: NDArray,
    w: NDArray,
    out: NDArray,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    groups: int,
    /,
) -> None: ...
def conv2d_input_grad(
    g: NDArray,
    w: NDArray,
    out: NDArray,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    groups: int,
    /,
) -> None: ...
def conv2d_weight_grad(
    x: NDArray,
    g: NDArray,
    out: NDArray,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    groups: int,
    /,
) -> None: ...
def lstm(gates: NDArray, w: NDArray, h: NDArray, c: NDArray, /) -> None: ...
def lstm_grad(
    gates: NDArray,
    w: NDArray,
    h: NDArray,
    c: NDArray,
    dh: NDArray,
    dh0: NDArray,
    dc0: NDArray,
    /,
) -> None: ...
def rnn(gates: NDArray, w: NDArray, h: NDArray, relu: bool, /) -> None: ...
def rnn_grad(
    gates: NDArray, w: NDArray, h: NDArray, dh: NDArray, dh0: NDArray, relu: bool, /
) -> None: ...
def attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: NDArray | None,
    out: NDArray,
    lse: NDArray,
    scale: float,
    causal: bool,
    /,
) -> None: ...
def attention_grad(
    g: NDArray,
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: NDArray | None,
    out: NDArray,
    lse: NDArray,
    dq: NDArray,
    dk: NDArray,
    dv: NDArray,
    scale: float,
    causal: bool,
    /,
) -> None: ...

# ---- optimizer steps ----------------------------------------------------------------------------

def sgd(
    params: list[NDArray],
    grads: list[NDArray],
    momenta: list[NDArray],
    outs: list[NDArray],
    lr: float,
    momentum: float,
    weight_decay: float,
    dampening: float,
    nesterov: bool,
    /,
) -> None: ...
def adam(
    params: list[NDArray],
    grads: list[NDArray],
    ms: list[NDArray],
    vs: list[NDArray],
    outs: list[NDArray],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    decoupled: bool,
    /,
) -> None: ...

# ---- the course's kernels -----------------------------------------------------------------------

TILE_SIZE: int

def matmul_tiled(a: Buffer, b: Buffer, out: Buffer, m: int, n: int, p: int, /) -> None: ...
def softmax_regression_epoch(
    x: np.ndarray, y: np.ndarray, theta: np.ndarray, lr: float, batch: int
) -> None: ...

# ---- compiled programs --------------------------------------------------------------------------

class Program:
    """A compiled function, loaded from a shared library."""

    def __init__(
        self,
        path: str,
        arguments: Sequence[object],
        states: Sequence[object],
        constants: Sequence[NDArray],
        results: Sequence[object],
        arena_bytes: int,
    ) -> None: ...
    @property
    def arena_bytes(self) -> int: ...
    def fits(self, states: Sequence[object]) -> bool: ...
    def run(
        self, arguments: Sequence[object], states: Sequence[object], clock: int
    ) -> list[NDArray] | None: ...

def first_changed(
    holders: list[object],
    keys: list[object],
    values: list[object],
    missing: object,
    start: int,
    /,
) -> int: ...
def advance_mt19937(generator: np.random.BitGenerator, words: int, /) -> None: ...

# ---- the process --------------------------------------------------------------------------------

class Setting:
    """A context in which an attribute of an object has another value."""

    def __init__(self, target: object, name: str, value: object, outer: str) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

def register(ndarray: type[NDArray], dtypes: list[np.dtype], device: BackendDevice, /) -> None: ...
def register_values(value: type[object], /) -> None: ...
def register_autograd(tensor: type[object], modes: dict[str, object], /) -> None: ...
def direct_kernel(kind: str, name: str, /) -> int: ...
def eager_view(op_class: type[object], x: object, argument: object) -> Any: ...

class EagerCall:
    """The base of ops whose calls the core makes; see `needle.autograd.op`."""

def environment_variable(name: str, /) -> str | None: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def simd_level() -> str: ...
def simd_levels() -> list[str]: ...
def peak_flops(seconds: float, /) -> float: ...
