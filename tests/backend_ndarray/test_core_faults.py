"""Nothing that Python can ask of the C++ core ends the process: wrong arguments, no memory, forks,
memory that other threads change, and calls at random."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from core_fuzzer import run_in_subprocess

import needle as ndl
from needle import backend_ndarray as nd
from needle.backend_ndarray import NDArray
from needle.native import core

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="sets limits as Linux has them")
WRAPPING = np.int64(2**62)


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def ones(*shape: int, dtype: str = "float32") -> NDArray:
    return nd.array(np.ones(shape), dtype=dtype, device=ndl.cpu())


def damaged(**slots: object) -> NDArray:
    x = ones(2, 3)
    for name, value in slots.items():
        setattr(x, f"_{name}", value)
    return x


# ---- arguments --------------------------------------------------------------------------------


def test_numbers_of_any_kind_fill_or_are_refused():
    device = ndl.cpu()
    for value in (ndl.Tensor(2.0), ones(1) * 2, np.float64(2), np.int8(2), 2, 2.0):
        assert device.full((3,), value).tolist() == [2, 2, 2]
        assert ones(1).pad(((1, 0),), value).tolist() == [2, 1]
    for value in (ones(2), None, "2", 10**400, 2j, object()):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            device.full((3,), value)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((WRAPPING,), (4,)),
        ((np.int64(2), WRAPPING), (WRAPPING, np.int64(4))),
        ((np.uint8(200), np.uint8(200)), (np.uint8(250), np.uint8(250))),
        ((2**62, 4), (0, 0)),
        ((2,), (2**63 - 1,)),
        ((2,), (-(2**63),)),
        ((-1,), (1,)),
        ((2, 2), (1,)),
        ((2**24, 2**24), (0, 0)),
    ],
)
def test_layouts_that_reach_outside(shape, strides):
    for device in (ndl.cpu(), ndl.cpu_numpy()):
        x = nd.array(np.ones(6), device=device)
        with pytest.raises(ValueError, match="as_strided"):
            x.as_strided(shape, strides)
        with pytest.raises(ValueError, match="make"):
            NDArray.make(shape, strides, device, x._handle)


def test_make_compares_offset_and_dtype_with_the_memory():
    for device in (ndl.cpu(), ndl.cpu_numpy()):
        x = nd.array(np.arange(6), device=device)
        for offset in (3, -1, np.int64(2**63 - 1), 2**64):
            with pytest.raises(ValueError, match="outside"):
                NDArray.make((4,), device=device, handle=x._handle, offset=offset)
        with pytest.raises(ValueError, match=r"float64.*float32"):
            NDArray.make((4,), device=device, handle=x._handle, dtype="float64")
        with pytest.raises(TypeError, match="integers"):
            NDArray.make((4,), (1.5,), device, x._handle)
        view = NDArray.make((np.int8(2),), (np.int8(2),), device, x._handle, np.int8(1))
        assert view.tolist() == [1, 3]


@pytest.mark.parametrize("shape", [(2, -3), (2**62, 3), (2**40, 2**10, 3), (-1, 3)])
def test_broadcasting_to_impossible_lengths(shape):
    for device in (ndl.cpu(), ndl.cpu_numpy()):
        x = nd.array(np.ones((1, 1)), device=device)
        with pytest.raises(ValueError, match="broadcast_to"):
            x.broadcast_to(shape)


@pytest.mark.parametrize(
    "array",
    [
        lambda: NDArray.__new__(NDArray),
        lambda: damaged(shape=None),
        lambda: damaged(shape=(2.5, 3)),
        lambda: damaged(shape=(200, 3)),
        lambda: damaged(shape=(-2, -3)),
        lambda: damaged(shape=(2**62, 2**62)),
        lambda: damaged(shape=(2**64, 3)),
        lambda: damaged(shape=(2,) * 33, strides=(0,) * 33),
        lambda: damaged(strides=(2**61, 1)),
        lambda: damaged(strides=(-3, 1)),
        lambda: damaged(strides=(1,)),
        lambda: damaged(offset=1),
        lambda: damaged(offset=-1),
        lambda: damaged(offset=2**63 - 1),
        lambda: damaged(offset=None),
        lambda: damaged(handle=3),
        lambda: damaged(handle=None),
        lambda: 3,
        lambda: None,
    ],
)
def test_arrays_whose_slots_hold_anything(array):
    x, out = array(), ones(2, 3)
    for call in (
        lambda: core.fill(x, 1.0),
        lambda: core.copy(x, out),
        lambda: core.copy(out, x),
        lambda: core.binary("add", out, x, out),
        lambda: core.matmul(x, ones(3, 3), out),
        lambda: core.softmax(out, x),
        lambda: core.view(x),
        lambda: core.sgd([x], [out], [], [out], 0.1, 0.0, 0.0, 0.0, False),
        lambda: core.Program("no library", [], [], [x], [], 0),
    ):
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            call()
    assert out.tolist() == np.ones((2, 3)).tolist()


def test_steps_of_any_size():
    for step in (2**40, 2**62, 2**70, -(2**62)):
        x = ones(3)[::step]
        assert (x.tolist(), (x + 1).tolist()) == ([1], [2])
        assert ones(3)[:0:step].tolist() == ([] if step > 0 else [1])


def test_an_index_that_changes_the_array_it_belongs_to():
    class Length:
        def __index__(self) -> int:
            x._shape = x._strides = x._handle = None
            gc.collect()
            return 2

    x = damaged(shape=(Length(), 3))
    with pytest.raises((TypeError, ValueError)):
        core.fill(x, 1.0)


F, L = "float32", "int64"
# A kernel, its arguments, and which of them is wrong for the others.
MISFITS = {
    "unary out": lambda: core.unary("exp", ones(4), ones(4, dtype="uint8")),
    "predicate out": lambda: core.unary("isnan", ones(4), ones(4)),
    "binary out": lambda: core.binary("add", ones(4), ones(4), ones(4, dtype="bool")),
    "comparison out": lambda: core.binary("eq", *[ones(4, dtype="float64")] * 2, ones(4)),
    "scalar out": lambda: core.binary_scalar("add", ones(4), 1, ones(4, dtype="uint8")),
    "where out": lambda: core.where(ones(4, dtype="bool"), ones(4), ones(4), ones(4, dtype="bool")),
    "sum out": lambda: core.reduce("sum", ones(4, 4), (0,), ones(1, 2)),
    "sum dtype": lambda: core.reduce("sum", ones(4, dtype="uint8"), (0,), ones(1, dtype="uint8")),
    "argmax out": lambda: core.argreduce("argmax", ones(4, 4), 0, ones(1, 4)),
    "argmax of nothing": lambda: core.argreduce("argmax", ones(0), 0, ones(1, dtype=L)),
    "cumsum out": lambda: core.cumsum(ones(4, dtype="float64"), 0, ones(4)),
    "argsort out": lambda: core.argsort(ones(4), 0, False, ones(4, dtype="int32")),
    "matmul out": lambda: core.matmul(ones(4, 3), ones(3, 5), ones(4, 4)),
    "matmul inner": lambda: core.matmul(ones(4, 3), ones(2, 5), ones(4, 5)),
    "matmul batch": lambda: core.matmul(ones(9, 4, 3), ones(2, 3, 5), ones(9, 4, 5)),
    "matmul dtype": lambda: core.matmul(ones(4, 3), ones(3, 5), ones(4, 5, dtype="float64")),
    "matmul strides": lambda: core.matmul(ones(4, 3), ones(3, 5), ones(5, 4).T),
    "rows": lambda: core.gather_rows(ones(4, 3), ones(2, dtype=L), ones(1, 3)),
    "row index": lambda: core.gather_rows(ones(4, 3), ones(2), ones(2, 3)),
    "rows dtype": lambda: core.scatter_add_rows(
        ones(4, 3), ones(2, dtype=L), ones(2, 3, dtype="uint8")
    ),
    "labels": lambda: core.cross_entropy(ones(4, 3), ones(2, dtype=L), ones(4), ones(4, 2), -1, 0),
    "weight": lambda: core.layer_norm(
        ones(4, 3), ones(2), ones(3), 0.1, ones(4, 3), ones(4), ones(4)
    ),
    "moments": lambda: core.adam(
        *[[ones(4)]] * 2, [ones(2)], [ones(4)], [ones(4)], 0.1, 0.9, 0.9, 0.1, 0.0, 1, False
    ),
    "convolution": lambda: core.conv2d(
        ones(1, 4, 4, 3), ones(3, 3, 2, 5), ones(1, 2, 2, 5), (1, 1), (1, 1), (0, 0), 1
    ),
    "no stride": lambda: core.conv2d(
        ones(1, 4, 4, 3), ones(3, 3, 3, 5), ones(1, 2, 2, 5), (0, 1), (1, 1), (0, 0), 1
    ),
    "no kernel": lambda: core.conv2d(
        ones(1, 4, 4, 3), ones(0, 3, 3, 5), ones(1, 2, 2, 5), (1, 1), (1, 1), (0, 0), 1
    ),
    "recurrence": lambda: core.lstm(ones(2, 3, 16), ones(4, 16), ones(3, 3, 3), ones(3, 3, 4)),
    "attention": lambda: core.attention(
        *[ones(1, 2, 3, 4)] * 2, ones(1, 2, 2, 4), None, ones(1, 2, 3, 4), ones(1, 2, 3, 2), 1, True
    ),
    "tiles": lambda: core.matmul_tiled(*[ones(64)._handle] * 3, 2**61, 8, 8),
    "more tiles": lambda: core.matmul_tiled(*[ones(64)._handle] * 3, 2**32, 2**32, 8),
    "epoch": lambda: core.softmax_regression_epoch(
        np.ones((2, 3), F), np.array([0, 9], np.uint8), np.ones((3, 4), F), 0.1, 1
    ),
    "epoch batch": lambda: core.softmax_regression_epoch(
        np.ones((2, 3), F), np.zeros(2, np.uint8), np.ones((3, 4), F), 0.1, 0
    ),
    "epoch copies": lambda: core.softmax_regression_epoch(
        np.ones((2, 3), F), np.zeros(2, np.uint8), np.ones((3, 4)), 0.1, 1
    ),
    "generator": lambda: core.advance_mt19937(12345, 1),
    "generator words": lambda: core.advance_mt19937(np.random.MT19937(0), -1),
    "threads": lambda: core.set_num_threads(100_000),
    "seconds": lambda: core.peak_flops(float("nan")),
    "surrogates": lambda: core.unary("\ud800", ones(4), ones(4)),
    "slots": lambda: core.register_values(type("Value", (), {"cached_data": 1, "_modified": 2})),
    "buffer": lambda: core.Buffer(),
    "read-only memory": lambda: core.wrap(np.broadcast_to(np.ones(1, F), (4,))),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_arguments_that_do_not_fit_each_other(name):
    with pytest.raises((TypeError, ValueError, IndexError)):
        MISFITS[name]()


def test_thread_counts_have_a_bound():
    before = ndl.get_num_threads()
    for count in (256, 100_000, 2**40):
        with pytest.raises(ValueError, match="255"):
            ndl.set_num_threads(count)
    assert ndl.get_num_threads() == before
    done = run("import needle", NEEDLE_NUM_THREADS="100000")
    assert "NEEDLE_NUM_THREADS" in done.stderr


def test_unaligned_memory_is_copied():
    memory = bytearray(4 * 5 + 1)
    a = np.frombuffer(memory, np.float32, 5, offset=1)
    x = nd.from_numpy(a)
    a[0] = 1
    assert x.tolist() == [0] * 5


def test_memory_that_is_wrapped_stays_where_it_is():
    class Memory(bytearray):
        dtype = nd.as_dtype("uint8")

    memory = Memory(b"12345678")
    handle = core.wrap(memory)
    with pytest.raises(BufferError):
        memory.clear()
    del handle
    memory.clear()


def test_deep_nesting_and_long_chains():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises((ValueError, TypeError, RecursionError)):
        nd.array(nested)
    x = ndl.Tensor([1.0])
    for _ in range(100_000):
        x = x + 1
    x.backward()
    del x
    gc.collect()


# ---- memory that other threads change ---------------------------------------------------------

RACE = """
import sys, threading, time
import numpy as np, needle as ndl
from needle import backend_ndarray as nd
sys.setswitchinterval(1e-6)
ndl.set_num_threads(2)
n = 1 << 17
index, labels, values = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.float32)
stop = False
def change():
    junk = np.random.RandomState(0).rand(n).astype(np.float32)
    while not stop:
        index[:] = 1 << 50
        labels[:] = -(1 << 50)
        values[:] = junk
        index[:] = labels[:] = 0
        values[:] = junk[::-1]
threads = [threading.Thread(target=change, daemon=True) for _ in range(2)]
for t in threads: t.start()
rows, out = nd.array(np.ones((3, 2))), nd.array(np.zeros((3, 2)))
shared = nd.from_numpy(index)
src = nd.array(np.ones((n, 2)))
logits = ndl.Tensor(np.zeros((n, 3)))
keys = nd.from_numpy(values)
end = time.time() + 1.5
rounds = 0
while time.time() < end:
    for call in (lambda: rows[shared], lambda: out._device.scatter_add_rows(out, shared, src),
                 lambda: ndl.cross_entropy(logits, nd.from_numpy(labels)), lambda: keys.argsort(0)):
        try:
            call()
        except IndexError:
            pass
    rounds += 1
stop = True
for t in threads: t.join()
print("alive", rounds > 0)
"""


def test_indices_that_another_thread_changes():
    done = run(RACE)
    assert done.stdout.strip() == "alive True", done.stderr


def test_thread_counts_that_change_during_a_compiled_call():
    code = """
import threading, time
import numpy as np, needle as ndl
from needle import nn, optim
model = nn.Sequential(nn.Linear(64, 256), nn.LayerNorm1d(256), nn.ReLU(), nn.Linear(256, 10))
opt = optim.SGD(model.parameters(), lr=0.01)
@ndl.jit
def step(x, y):
    opt.reset_grad()
    loss = ndl.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss
x, y = ndl.Tensor(np.ones((512, 64)), requires_grad=False), np.zeros(512, np.int64)
y = ndl.Tensor(y, dtype="int64", requires_grad=False)
step(x, y)
stop = False
def change():
    n = 1
    while not stop:
        ndl.set_num_threads(n % 8 + 1)
        n += 1
t = threading.Thread(target=change, daemon=True)
t.start()
end = time.time() + 1.0
while time.time() < end:
    loss = step(x, y)
stop = True
t.join()
print(np.isfinite(loss.item()))
"""
    done = run(code)
    assert done.stdout.strip() == "True", done.stderr


# ---- forks ------------------------------------------------------------------------------------

FORKED = """
import os, signal, threading, time
import numpy as np, needle as ndl
ndl.set_num_threads(2)
x = ndl.Tensor(np.ones((256, 256)), requires_grad=False)
double = ndl.jit(lambda x: (x @ x + x).sum())
generator = ndl.Generator(0)
eager, compiled = (x @ x).sum().item(), double(x).item()
stop = False
def work():
    while not stop:
        double(x)
        (x @ x).sum()
        ndl.init.rand(100, generator=generator)
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for t in threads: t.start()
time.sleep(0.05)
codes = []
for i in range(6):
    child = os.fork()
    if child == 0:
        signal.alarm(120)  # ends a child that hangs; it compiles, which may take long
        if i % 2:
            ndl.set_num_threads(2)
        good = (x @ x).sum().item() == eager and double(x).item() == compiled
        good = good and ndl.jit(lambda x: x.sum() * 2)(x).item() == 2 * 256 * 256
        ndl.init.rand(100, generator=generator), ndl.Generator(1)
        os._exit(0 if good else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for t in threads: t.join()
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_threads_compute():
    done = run(FORKED)
    assert done.stdout.strip() == str([0] * 6), done.stderr


# ---- no memory --------------------------------------------------------------------------------

# Leaves `room` bytes of address space beyond what the process has.
LIMITED = """
import resource
import numpy as np, needle as ndl
from needle import backend_ndarray as nd
ndl.set_num_threads(2)
def limit(room):
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
def fails(call):
    try:
        call()
    except MemoryError as error:
        return str(error)
    raise SystemExit("no MemoryError")
"""
STARVED = {
    "arrays": """
x = nd.array(np.ones(1000))
x.exp() @ x
limit(64 << 20)
kept = []
def more():
    while True:
        kept.append(nd.empty((1 << 20,)))
text = fails(more)
assert "4194304 bytes" in text and "in use" in text and "pool" in text, text
for _ in range(3):
    fails(more)
del kept[:]
assert nd.empty((1 << 20,)).size == 1 << 20
""",
    "the pool is emptied": """
limit(64 << 20)
small = [nd.empty((1 << 18,)) for _ in range(40)]
del small
assert nd.empty((12 << 20,)).size == 12 << 20
""",
    "many small arrays": """
limit(8 << 20)
kept = []
def more():
    while True:
        kept.append(nd.empty((8,)))
fails(more)
fails(more)
kept.clear()
assert (nd.array(np.ones(8)) + 1).tolist() == [2] * 8
""",
    "scratch of kernels": """
x = nd.array(np.ones((64, 64)))
x @ x
image = nd.array(np.ones((2, 64, 64, 16)))
kernel = nd.array(np.ones((3, 3, 16, 16)))
a, b, long = nd.empty((2000, 2000)), nd.empty((2000, 2000)), nd.empty((3 << 20,))
a.fill(1); b.fill(1); long.fill(1)
out, order = nd.empty((2000, 2000)), nd.empty((3 << 20,), "int64")
limit(1 << 20)
core = ndl.cpu()
for call in (lambda: core.matmul(a.T, b.T, out), lambda: core.argsort(long, 0, False, order)):
    try:
        call()
    except MemoryError as error:
        assert "bytes" in str(error), error
limit(512 << 20)
core.matmul(a.T, b.T, out)
assert out[0, 0].item() == 2000
""",
    "a compiled program": """
import needle.init as init
w = ndl.Tensor(np.ones((400, 400)), requires_grad=False)
f = ndl.jit(lambda x: ((x @ w).exp() / ((x @ w).exp() + 1)).reshape((-1,)).sum() + (x @ w) @ w)
x = ndl.Tensor(np.zeros((4000, 400)), requires_grad=False)
expected = f(x).numpy()
limit(0)
kept = []
def more():
    while True:
        kept.append(f(x))
fails(more)
fails(more)
kept.clear()
limit(256 << 20)
assert (f(x).numpy() == expected).all()
""",
    "backward": """
limit(200 << 20)
def train():
    x = ndl.Tensor(np.ones((1 << 20,)))
    y = x
    for _ in range(100):
        y = (y * 1.01).exp().log()
    y.sum().backward()
fails(train)
fails(train)
x = ndl.Tensor(np.ones(4)); (x * x).sum().backward()
assert x.grad.tolist() == [2] * 4
""",
}


@linux_only
@pytest.mark.parametrize("name", STARVED)
def test_without_memory_there_is_a_memory_error(name):
    done = run(f"{LIMITED}{STARVED[name]}\nprint('alive')")
    assert done.stdout.strip() == "alive", (done.returncode, done.stderr)


# ---- calls at random --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1])
def test_random_calls(seed):
    assert "calls of seed" in run_in_subprocess(5_000, seed)
