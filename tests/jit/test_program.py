"""A compiled program's native call: what it checks, what it shares, what it holds on to."""

from __future__ import annotations

import gc
import sys
import threading
import time
from functools import cache

import numpy as np
import pytest

import needle as ndl
from needle import backend_ndarray as nd
from needle import ops
from needle.jit.runtime import compiler
from needle.jit.runtime.compiler import NoCompiler

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

FLOAT32, FLOAT64, INT32, INT64 = map(nd.as_dtype, ("float32", "float64", "int32", "int64"))
SHAPE = (2, 3)
SIX = (SHAPE, FLOAT32)

HEAD = """#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "kernels.h"

extern "C" void needle_program(char* const* buffers, const needle::KernelTable* kernels) {
  const auto f = [&](int i) { return reinterpret_cast<float*>(buffers[i]); };
  (void)kernels;
  (void)f;
"""
# out = 2 x, s += x
ADD = "for (int i = 0; i < 6; ++i) { f(2)[i] = 2 * f(0)[i]; f(1)[i] += f(0)[i]; }"
INCREMENT = "for (int i = 0; i < 6; ++i) f(0)[i] += 1;"


@cache
def library(body: str) -> str:
    try:
        return str(compiler.build(f"{HEAD}{body}\n}}\n"))
    except NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True, scope="module")
def _libraries(tmp_path_factory):
    """A cache of this file's own."""
    compiler.core.register_values(ndl.autograd.Value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEEDLE_CACHE", str(tmp_path_factory.mktemp("programs")))
        yield


def make(body, arguments=(), states=(), constants=(), results=(), arena_bytes=0):
    return compiler.core.Program(
        library(body), list(arguments), list(states), list(constants), list(results), arena_bytes
    )


def adder():
    return make(ADD, [SIX], [(*SIX, True, False)], [], [SIX])


def incrementer(count: int = 1):
    body = f"for (int s = 0; s < {count}; ++s) for (int i = 0; i < 6; ++i) f(s)[i] += 1;"
    return make(body, states=[(*SIX, True, False)] * count)


def six(start: float = 0.0) -> nd.NDArray:
    return nd.array(np.arange(6, dtype="float32").reshape(SHAPE) + start)


def owned(value: float = 0.0) -> ndl.Tensor:
    """A Tensor that is alone with its memory, which is the pool's."""
    return ndl.Tensor.make_const(nd.full(SHAPE, value))


def pointer(tensor: ndl.Tensor) -> int:
    return tensor.cached_data._handle.ptr()


# ---- one call -------------------------------------------------------------------------------


def test_results_and_updated_states():
    program, state, x = adder(), owned(1.0), six()
    before = pointer(state)
    (out,) = program.run([x], (state,), 42)
    np.testing.assert_array_equal(out.numpy(), 2 * x.numpy())
    np.testing.assert_array_equal(state.numpy(), 1 + x.numpy())
    assert state._modified == 42
    assert pointer(state) == before, "updated in place"
    # The result is an array like any other.
    assert type(out) is nd.NDArray
    assert out.device is x.device
    assert (out.shape, out.strides, out._offset) == (SHAPE, (3, 1), 0)
    assert out.dtype is FLOAT32
    np.testing.assert_array_equal((out + x).T.numpy(), 3 * x.numpy().T)
    again = program.run((x,), [state], 43)[0]
    assert again._handle.ptr() != out._handle.ptr()
    assert state._modified == 43


def test_buffers_come_in_order():
    body = (
        "for (int i = 0; i < 6; ++i) f(4)[i] = f(0)[i] + 10 * f(1)[i] + 100 * f(2)[i]"
        " + 1000 * f(3)[i];"
        "reinterpret_cast<int64_t*>(buffers[5])[0] = reinterpret_cast<int64_t>(buffers[6]) % 64;"
        "std::memset(buffers[6], 1, 1000);"
    )
    states = [(*SIX, False, False), (*SIX, True, False)]
    program = make(body, [SIX], states, [six(4)], [SIX, ((), INT64)], 1000)
    assert program.arena_bytes == 1000
    read, written = owned(2), owned(3)
    out, misaligned = program.run([six(1)], [read, written], 7)
    expected = (
        1.0 * np.arange(6).reshape(SHAPE)
        + 1
        + 20
        + 300
        + 1000 * (4 + np.arange(6.0).reshape(SHAPE))
    )
    np.testing.assert_array_equal(out.numpy(), expected)
    assert misaligned.item() == 0
    assert (read._modified, written._modified) == (0, 7)


def test_scalars_empty_arrays_and_every_dtype():
    for dtype in nd.DTYPES:
        size = dtype.itemsize
        program = make(
            f"std::memcpy(buffers[2], buffers[0], {3 * size}); (void)buffers[1];",
            [((3,), dtype), ((0, 4), dtype)],
            results=[((3,), dtype), ((0, 4), dtype), ((), dtype)],
        )
        x = nd.array(np.array([1, 0, 1]), dtype=dtype)
        out, empty, scalar = program.run([x, nd.empty((0, 4), dtype=dtype)], [], 0)
        assert out.dtype is dtype
        np.testing.assert_array_equal(out.numpy(), x.numpy())
        assert empty.numpy().shape == (0, 4)
        assert scalar.shape == scalar.strides == ()


def test_the_kernels_and_threads_of_the_core():
    body = """
      const needle::View x{buffers[0], needle::DType::Float32, 1, {6}, {1}};
      const needle::View out{buffers[1], needle::DType::Float32, 1, {6}, {1}};
      kernels->unary(needle::UnaryOp::exp, x, out);
      *reinterpret_cast<int*>(buffers[2]) = needle_threads->num_threads();
    """
    threads = 'extern "C" { const needle::Threads* needle_threads = nullptr; }\n'
    source = HEAD.replace('extern "C" void', f'#include "threads.h"\n{threads}extern "C" void')
    try:
        path = compiler.build(f"{source}{body}\n}}\n")
    except NoCompiler as error:
        pytest.skip(str(error))
    program = compiler.core.Program(str(path), [SIX], [], [], [SIX, ((), INT32)], 0)
    before = ndl.get_num_threads()
    try:
        ndl.set_num_threads(3)
        out, threads = program.run([six()], [], 0)
    finally:
        ndl.set_num_threads(before)
    np.testing.assert_array_equal(out.numpy(), six().exp().numpy())
    assert threads.item() == 3


# ---- arguments and states that do not fit ---------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: nd.array(np.zeros((3, 2))), r"\(3, 2\)"),
        (lambda: nd.array(np.zeros(6)), r"\(6,\)"),
        (lambda: nd.array(np.zeros(SHAPE), dtype="float64"), "float64"),
        (lambda: nd.array(np.zeros((3, 2))).T, r"strides \(1, 2\)"),
        (lambda: nd.array(np.zeros((2, 6)))[:, ::2], r"strides \(6, 2\)"),
        (lambda: nd.array(np.zeros((1, 3))).broadcast_to(SHAPE), r"strides \(0, 1\)"),
        (lambda: nd.array(np.zeros(SHAPE), device=ndl.cpu_numpy()), r"cpu_numpy\(\)"),
        (lambda: np.zeros(SHAPE, "float32"), "ndarray"),
        (lambda: ndl.zeros(*SHAPE), "Tensor"),
        (lambda: None, "NoneType"),
    ],
)
def test_arguments_that_do_not_fit(wrong, words):
    program, state = make(ADD, [SIX], [(*SIX, True, False)], [], [SIX]), owned()
    message = rf"argument 0 must be a compact float32 array of shape \(2, 3\).*got.*{words}"
    with pytest.raises(ValueError, match=message):
        program.run([wrong()], [state], 1)
    assert (state.numpy().max(), state._modified) == (0, 0)


def test_an_argument_is_named_by_its_number():
    program = make("", [SIX, SIX, ((), INT64)])
    with pytest.raises(ValueError, match=r"argument 2 must be a compact int64 array"):
        program.run([six(), six(), six()], [], 0)
    with pytest.raises(ValueError, match="takes 3 arguments, got 1"):
        program.run([six()], [], 0)
    with pytest.raises(ValueError, match="takes 0 states, got 1"):
        program.run([six(), six(), nd.array(1, dtype="int64")], [owned()], 0)
    with pytest.raises(TypeError, match="must be a tuple or a list"):
        program.run(iter([]), [], 0)


def test_layouts_that_are_compact_all_the_same():
    program = make(ADD, [SIX], [(*SIX, True, False)], [], [SIX])
    whole = nd.array(np.arange(24, dtype="float32").reshape(4, 6))
    part = whole[2].reshape(SHAPE)  # an offset
    out = program.run([part], [owned()], 0)[0]
    np.testing.assert_array_equal(out.numpy(), 2 * part.numpy())

    copy = "std::memcpy(f(1), f(0), 12);"
    ones = make(copy, [((1, 3, 1), FLOAT32)], results=[((3,), FLOAT32)])
    odd = nd.array(np.arange(3.0)).as_strided((1, 3, 1), (17, 1, 5))
    np.testing.assert_array_equal(ones.run([odd], [], 0)[0].numpy(), np.arange(3.0))

    empty = make("", [((2, 0, 3), FLOAT32)])
    assert empty.run([nd.empty((3, 0, 2)).permute((2, 1, 0))], [], 0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: nd.array(np.zeros((3, 2))),
        lambda: nd.array(np.zeros(SHAPE), dtype="float64"),
        lambda: nd.array(np.zeros((3, 2))).T,
        lambda: nd.array(np.zeros(SHAPE), device=ndl.cpu_numpy()),
        lambda: None,
        lambda: (six(), six()),
    ],
)
def test_states_that_do_not_fit_change_nothing(wrong):
    program = make(
        "for (int s = 0; s < 2; ++s) for (int i = 0; i < 6; ++i) f(s)[i] += 1;",
        states=[(*SIX, True, False)] * 2,
    )
    good, bad = owned(), ndl.Tensor.make_const(wrong())
    snapshot = good.detach()  # would give `good` memory of its own
    data = good.cached_data
    assert program.run([], [good, bad], 5) is None
    assert good.cached_data is data
    assert good._modified == bad._modified == 0
    assert snapshot.numpy().max() == 0
    bad.cached_data = nd.full(SHAPE, 0.0)
    assert program.run([], [good, bad], 5) == []
    assert (good.numpy().min(), bad.numpy().min(), snapshot.numpy().max()) == (1, 1, 0)


def test_states_must_be_tensors():
    program = incrementer()
    for wrong in (six(), None, np.zeros(SHAPE)):
        with pytest.raises(TypeError, match="state 0 must be a Tensor"):
            program.run([], [wrong], 0)


# ---- memory that is shared ------------------------------------------------------------------

SNAPSHOTS = {
    "detach": lambda t: t.detach(),
    "the array": lambda t: t.cached_data,
    "a view": lambda t: t.cached_data.reshape((3, 2)),
    "part of it": lambda t: t.cached_data[1:, :1],
    "NumPy": lambda t: np.asarray(t.cached_data),
    "NumPy's view": lambda t: np.asarray(t.cached_data)[::2].T,
    "DLPack": lambda t: np.from_dlpack(t),
    "a tensor's view": lambda t: ndl.reshape(t.detach(), (6,)),
    "a buffer": lambda t: nd.NDArray.make(SHAPE, handle=t.cached_data._handle),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_what_was_taken_from_a_state_stays_as_it_was(name):
    program, state = incrementer(), owned(5)
    program.run([], [state], 1)
    snapshot = SNAPSHOTS[name](state)
    shared = pointer(state)
    for clock in (2, 3):
        program.run([], [state], clock)
    assert pointer(state) != shared
    np.testing.assert_array_equal(state.numpy(), np.full(SHAPE, 8.0))
    values = snapshot if isinstance(snapshot, np.ndarray) else snapshot.numpy()
    assert (values == 6).all()
    assert (state.shape, state.cached_data.strides) == (SHAPE, (3, 1))
    own = pointer(state)
    del snapshot, values
    program.run([], [state], 4)
    assert pointer(state) == own, "alone again, it is updated in place"


def test_a_snapshot_that_is_gone_costs_no_copy():
    program, state = incrementer(), owned()
    before = pointer(state)
    snapshot = state.detach()
    view = state.cached_data.T
    host = np.asarray(state.cached_data)
    del snapshot, view, host
    program.run([], [state], 1)
    assert pointer(state) == before


def test_memory_of_somebody_else_is_not_written():
    program = incrementer()
    for make_array in (nd.from_numpy, lambda host: nd.NDArray(host, device=ndl.cpu())):
        host = np.zeros(SHAPE, "float32")
        state = ndl.Tensor.make_const(make_array(host))
        program.run([], [state], 1)
        own = pointer(state)
        program.run([], [state], 2)
        assert pointer(state) == own
        assert (host.max(), state.numpy().min()) == (0, 2)


def test_two_states_that_share_their_data():
    program = incrementer(2)
    first, second = owned(), owned()
    second.cached_data = first.cached_data  # one array
    program.run([], [first, second], 1)
    assert pointer(first) != pointer(second)
    second.cached_data = first.cached_data.reshape((6,)).reshape(SHAPE)  # two, one buffer
    program.run([], [first, second], 2)
    assert pointer(first) != pointer(second)
    for state in (first, second):
        np.testing.assert_array_equal(state.numpy(), np.full(SHAPE, 2.0))


def test_a_written_state_that_is_also_read_argument_or_constant():
    state = owned(1)
    # s += read + argument + constant: all three are the old s.
    program = make(
        "for (int i = 0; i < 6; ++i) f(2)[i] += f(0)[i] + f(1)[i] + f(3)[i];",
        [SIX], [(*SIX, False, False), (*SIX, True, False)], [state.cached_data],
    )  # fmt: skip
    reader = state.detach()
    program.run([state.cached_data], [reader, state], 1)
    np.testing.assert_array_equal(state.numpy(), np.full(SHAPE, 4.0))
    np.testing.assert_array_equal(reader.numpy(), np.full(SHAPE, 1.0))


def test_a_state_that_is_a_view_alone_with_its_buffer():
    program = incrementer()
    state = ndl.Tensor.make_const(nd.full((4, 3), 0.0)[2:])
    gc.collect()
    program.run([], [state], 1)
    np.testing.assert_array_equal(state.numpy(), np.ones(SHAPE))


def test_references_are_given_back():
    program = make(ADD, [SIX], [(*SIX, True, False)], [six()], [SIX], 64)
    x, state = six(), owned()
    arguments, states = [x], [state]
    program.run(arguments, states, 1)
    array = state.cached_data
    objects = [x, x._handle, state, array, array._handle, array._shape, x._device, FLOAT32,
               nd.NDArray, program]  # fmt: skip
    del array
    before = [sys.getrefcount(o) for o in objects]
    live = ndl.memory_stats()["in_use"]
    objects[3] = objects[4] = None  # which would make the state shared
    for clock in range(1000, 1100):
        program.run(arguments, states, clock)
        with pytest.raises(ValueError, match="argument 0"):
            program.run([None], states, clock)
        assert program.run(arguments, [ndl.Tensor.make_const(None)], clock) is None
    objects[3], objects[4] = state.cached_data, state.cached_data._handle
    assert [sys.getrefcount(o) for o in objects] == before
    assert ndl.memory_stats()["in_use"] == live
    objects[3] = objects[4] = None
    for clock in range(100):  # each gives the state a new array
        keep = state.detach()
        program.run(arguments, states, clock)
    del keep
    assert ndl.memory_stats()["in_use"] == live


def test_a_steady_loop_asks_the_system_for_nothing():
    states = [ndl.Tensor(np.zeros(SHAPE)) for _ in range(20)]
    body = "for (int s = 1; s < 21; ++s) for (int i = 0; i < 6; ++i) f(s)[i] += f(0)[i];"
    program = make(body, [SIX], [(*SIX, True, False)] * 20, [], [SIX] * 3, 1 << 20)
    x = six()
    before = ndl.memory_stats()["in_use"]
    for clock in range(3):
        results = program.run([x], states, clock)
    settled = ndl.memory_stats()
    assert settled["in_use"] - before >= 1 << 20, "the arena is kept"
    for clock in range(100):
        results = program.run([x], states, clock)
    after = ndl.memory_stats()
    assert after["allocations"] == settled["allocations"]
    assert after["in_use"] == settled["in_use"]
    assert len(results) == 3
    del program
    assert settled["in_use"] - ndl.memory_stats()["in_use"] >= 1 << 20


def test_the_arena_is_allocated_when_it_is_needed():
    before = ndl.memory_stats()["in_use"]
    program = make("std::memset(buffers[0], 0, 1000);", arena_bytes=1000)
    assert ndl.memory_stats()["in_use"] == before
    program.run([], [], 0)
    assert ndl.memory_stats()["in_use"] > before
    del program
    assert ndl.memory_stats()["in_use"] == before


# ---- errors and threads ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thrown", "error"), [("out_of_range", IndexError), ("invalid_argument", ValueError)]
)
def test_what_a_program_throws(thrown, error):
    body = f'if (f(0)[0] > 0) throw std::{thrown}("[take] row 9"); f(1)[0] += 1;'
    program, state = make(body, [SIX], [(*SIX, True, False)]), owned()
    snapshot = state.detach()
    program.run([six()], [state], 1)
    with pytest.raises(error, match=r"\[take\] row 9"):
        program.run([six(1)], [state], 2)
    assert (state.numpy()[0, 0], state._modified, snapshot.numpy().max()) == (1, 1, 0)
    program.run([six()], [state], 3)  # the lock was given back
    assert state.numpy()[0, 0] == 2


SLEEP = "std::this_thread::sleep_for(std::chrono::milliseconds(%d));"


def test_other_threads_run_meanwhile():
    program = make(SLEEP % 300)
    program.run([], [], 0)
    thread = threading.Thread(target=program.run, args=([], [], 0))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive(), "this thread ran before the program was done"
    thread.join()


def test_threads_take_turns():
    # What a run leaves in the arena and in the state, another must not disturb.
    body = f"""
      float* arena = f(2);
      *arena = *f(0) + 1;
      {SLEEP % 1}
      *f(0) = *arena;
      *f(1) = *arena;
    """
    program = make(
        body, states=[((), FLOAT32, True, False)], results=[((), FLOAT32)], arena_bytes=4
    )
    state, seen = ndl.Tensor.make_const(nd.full((), 0.0)), []

    def work():
        for _ in range(20):
            seen.append(program.run([], [state], 1)[0].item())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 81))
    assert state.item() == 80


def test_data_replaced_during_a_run():
    program, state = make(f"{SLEEP % 200} f(0)[0] = 1;", states=[(*SIX, True, False)]), owned()
    thread = threading.Thread(target=program.run, args=([], [state], 1))
    thread.start()
    time.sleep(0.05)
    state.cached_data = nd.full(SHAPE, 7.0)  # the old memory is still the program's
    other = nd.full(SHAPE, 0.0)
    thread.join()
    assert other.numpy().max() == 0
    assert state.numpy().min() == 7


# ---- loading --------------------------------------------------------------------------------


def test_libraries_that_cannot_be_loaded(tmp_path):
    program = compiler.core.Program
    with pytest.raises(OSError, match="nothing"):
        program(str(tmp_path / "nothing.so"), [], [], [], [], 0)
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(OSError, match=r"text\.so"):
        program(str(tmp_path / "text.so"), [], [], [], [], 0)
    library("")
    other = compiler.build('extern "C" int nothing() { return 0; }')
    with pytest.raises(OSError, match="has no function needle_program"):
        program(str(other), [], [], [], [], 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (dict(arguments=[((-1,), FLOAT32)]), ValueError),
        (dict(arguments=[((2**40, 2**40), FLOAT32)]), ValueError),
        (dict(arguments=[((1,) * 33, FLOAT32)]), ValueError),
        (dict(arguments=[((1.5,), FLOAT32)]), TypeError),
        (dict(arguments=[((1,), "complex64")]), TypeError),
        (dict(arguments=[((1,),)]), IndexError),
        (dict(states=[SIX]), IndexError),
        (dict(constants=[np.zeros(3)]), TypeError),
        (dict(constants=[nd.array(np.zeros((3, 2))).T]), ValueError),
        (dict(constants=[nd.array(np.zeros(3), device=ndl.cpu_numpy())]), ValueError),
        (dict(arena_bytes=-1), ValueError),
    ],
)
def test_specifications_that_are_wrong(options, error):
    library("")
    with pytest.raises(error):
        make("", **options)


def test_an_array_without_a_buffer_is_explained():
    strange = nd.NDArray._view(SHAPE, (3, 1), 0, object(), ndl.cpu(), FLOAT32)
    with pytest.raises(ValueError, match=r"another device.*inside a function compiled by jit"):
        strange + strange


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "uint8"])
def test_a_choice_of_the_row(dtype):
    """A condition that is one along a row chooses without a branch; what is not chosen, be it NaN,
    leaves no trace."""
    condition = np.array([True, False, True])
    x = np.arange(3 * 40).reshape(3, 40)
    y = np.full((3, 40), 7)
    if dtype.startswith("float"):
        x = np.where(condition[:, None], x, np.nan)
        y = np.where(condition[:, None], np.inf, -0.0)

    @ndl.jit
    def choose(c, a, b):
        return ops.where(c.reshape((3, 1)).broadcast_to((3, 40)), a * 1, b)

    args = [
        ndl.Tensor(v, dtype=d, requires_grad=False)
        for v, d in ((condition, "bool"), (x, dtype), (y, dtype))
    ]
    found = choose(*args).numpy()
    assert "choose<" in choose.source()
    np.testing.assert_array_equal(found, np.where(condition[:, None], x, y).astype(found.dtype))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(np.where(condition[:, None], x, y)))


def test_zeros_of_both_signs_are_two_numbers():
    """The code of one is not taken for that of the other, within a program or from one before."""
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    compiled = ndl.jit(lambda x: (x * 0.0, x * -0.0, 0.0 - x * 0.0, -0.0 - x * 0.0))
    for ours, sign in zip(compiled(x), (1.0, -1.0, 1.0, -1.0), strict=True):
        assert np.copysign(1.0, ours.numpy()).tolist() == [sign, sign]
