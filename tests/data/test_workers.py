"""The loader's worker processes: same batches, errors with tracebacks, nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import data_samples as samples
import numpy as np
import pytest

from needle import data

SHARED = Path("/dev/shm")
METHODS = ["fork", "spawn"]


def segments():
    """Names of this process's segments of shared memory."""
    return sorted(SHARED.glob(f"ndl_{os.getpid():x}_*")) if SHARED.exists() else []


def nothing_is_left():
    return not multiprocessing.active_children() and not segments()


@pytest.fixture(autouse=True)
def _clean():
    yield
    gc.collect()
    assert nothing_is_left()


def loader(dataset, method="fork", **options):
    options = {"num_workers": 2, "batch_size": 2, **options}
    return data.DataLoader(dataset, multiprocessing_context=method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_processes_give_the_batches_of_no_workers(method):
    def run(**options):
        found = data.DataLoader(
            samples.Noisy(), 3, shuffle=True, generator=np.random.default_rng(3), **options
        )
        return [(x.numpy().tolist(), y.tolist()) for _ in range(2) for x, y in found]

    expected = run()
    assert run(num_workers=3, multiprocessing_context=method) == expected
    assert run(num_workers=1, multiprocessing_context=method, prefetch_factor=1) == expected
    assert run(num_workers=2) == expected


def test_structured_samples():
    batches = list(loader(samples.Structured(4)))
    assert len(batches) == 2
    assert batches[1]["name"] == ["n2", "n3"]
    assert batches[1]["x"].tolist() == [[2] * 4, [3] * 4]
    assert batches[1]["pair"][0].tolist() == [2, 3]
    assert batches[1]["pair"][1][0].dtype == "float32"
    assert batches[1]["pair"][1][1] == [b"b", b"b"]


def test_arrays_larger_than_the_last_get_a_larger_segment():
    for batch_size in (None, 1):
        for i, x in enumerate(loader(samples.Ragged(9), batch_size=batch_size)):
            assert x.numpy().reshape(-1).tolist() == list(range(i * 1000))


@pytest.mark.parametrize("method", METHODS)
def test_an_error_has_the_traceback_of_the_worker(method):
    with pytest.raises(KeyError, match="sample 5") as caught:
        list(loader(samples.Broken(), method))
    (note,) = caught.value.__notes__
    assert 'raise KeyError("sample 5")' in note
    assert "in worker 0" in note
    assert nothing_is_left()


def test_an_error_that_cannot_be_pickled():
    with pytest.raises(RuntimeError, match="Local: of this function"):
        list(loader(samples.Unpicklable()))


def test_what_cannot_be_pickled_for_a_spawned_worker():
    with pytest.raises((AttributeError, TypeError)) as caught:
        list(loader(samples.Noisy(), "spawn", collate_fn=lambda x: x))
    assert "top level of a module" in caught.value.__notes__[0]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_an_error(persistent):
    batches = loader(samples.Dying(), persistent_workers=persistent)
    with pytest.raises(RuntimeError, match=r"worker 0 \(pid \d+\) was killed by signal 9"):
        list(batches)
    assert nothing_is_left()


def test_a_worker_that_is_killed_between_batches():
    batches = iter(loader(samples.Noisy(40)))
    next(batches)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="was killed by signal 9"):
        list(batches)


@pytest.mark.parametrize("method", ["fork", None])
def test_timeout(method):
    if method is None:

        class Late(samples.Noisy):
            def __getitem__(self, i):
                time.sleep(0.5)

        slow = Late()
    else:
        slow = samples.Slow()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        next(iter(loader(slow, method, timeout=0.2)))
    assert time.monotonic() - start < 10


def leave_by_error():
    for _ in loader(samples.Noisy(100)):
        raise ZeroDivisionError


def test_a_loop_that_is_left_leaves_nothing():
    for _ in loader(samples.Noisy(100)):
        assert len(multiprocessing.active_children()) == 2
        break
    assert nothing_is_left()
    with pytest.raises(ZeroDivisionError):
        leave_by_error()
    assert nothing_is_left()
    batches = iter(loader(samples.Noisy(100)))
    next(batches)
    batches.close()
    assert nothing_is_left()


def test_the_rest_of_a_loop_that_was_left():
    batches = loader(samples.Noisy(10))
    for _, y in batches:
        assert y.tolist() == [0, 1]
        break
    assert [y.tolist() for _, y in iter(lambda: next(batches, None), None)] == [
        [2, 3], [4, 5], [6, 7], [8, 9],
    ]  # fmt: skip


def test_garbage_collection_ends_persistent_workers():
    batches = loader(samples.Noisy(), persistent_workers=True)
    list(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    gc.collect()
    assert nothing_is_left()


@pytest.mark.parametrize("method", ["fork", None])
def test_persistent_workers(method):
    def pids():
        return {int(p) for batch in batches for p in batch[4].tolist()}

    batches = loader(samples.Seeds(), method, persistent_workers=True)
    first = pids()
    assert pids() == first
    for _ in batches:  # its answers are thrown away by the next loop
        break
    assert pids() == first
    assert (first == {os.getpid()}) == (method is None)
    inner = [(a[0].shape, b[0].shape) for a in batches for b in batches]
    assert len(inner) == 36
    assert len(loader(samples.Seeds(), method)) == 6


def test_seeds_of_workers_follow_from_the_generator():
    def run(seed, n=8):
        batches = loader(samples.Seeds(n), generator=np.random.default_rng(seed))
        return [[[row.tolist() for row in batch[:4]] for batch in batches] for _ in range(2)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    first, second = run(1)
    assert first != second
    ids, seeds, randoms, _ = first[0]
    assert ids == [0, 0]
    assert seeds[0] + 1 == first[1][1][0]
    assert len({x for batch in first for x in batch[2]}) == 8, randoms


@pytest.mark.parametrize("method", [*METHODS, None])
def test_worker_init_fn(method):
    samples.INITIALIZED.clear()
    batches = loader(
        samples.Initialized(), method, worker_init_fn=samples.note, persistent_workers=True,
        num_workers=1,
    )  # fmt: skip
    for _ in range(2):
        for number, calls, last in batches:
            assert (number.tolist(), calls.tolist(), last.tolist()) == ([0, 0], [1, 1], [0, 0])
    assert bool(samples.INITIALIZED) == (method is None)
    with pytest.raises(RuntimeError, match=r"init of [01]"):
        list(loader(samples.Noisy(), method, worker_init_fn=samples.fail))


@pytest.mark.parametrize("method", ["fork", None])
@pytest.mark.parametrize("workers", [1, 3])
def test_streams(method, workers):
    def numbers(**options):
        found = loader(samples.Numbers(), method, num_workers=workers, **options)
        return [batch.tolist() for _ in range(2) for batch in found]

    for persistent in (False, True):
        batches = numbers(persistent_workers=persistent)
        assert sorted(i for batch in batches for i in batch) == sorted([*range(10)] * 2)
        assert batches == numbers()
    assert sorted(numbers(batch_size=None)) == sorted([*range(10)] * 2)
    assert all(len(batch) == 2 for batch in numbers(drop_last=True))


def test_a_stream_that_was_left_is_at_its_end():
    batches = loader(samples.Numbers())
    for _ in batches:
        break
    assert next(batches, None) is None


def test_ctrl_c_ends_the_program_and_its_workers():
    code = (
        "import os, sys, multiprocessing, data_samples\n"
        "from needle import data\n"
        "loader = data.DataLoader(data_samples.Slow(), num_workers=2,\n"
        "    multiprocessing_context='fork')\n"
        "print(os.getpid(), flush=True)\n"
        "try:\n"
        "    next(iter(loader))\n"
        "except KeyboardInterrupt:\n"
        "    print(multiprocessing.active_children())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(samples.__file__).parent)}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=env, start_new_session=True,
    )  # fmt: skip
    pid = int(program.stdout.readline())
    deadline = time.monotonic() + 20
    while len(children(pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(pid, signal.SIGINT)  # as a terminal does
    out, err = program.communicate(timeout=20)
    assert (out, err, program.returncode) == ("[]\n", "", 0)
    assert not list(SHARED.glob(f"ndl_{pid:x}_*"))


def test_workers_end_when_the_program_is_killed():
    code = (
        "import os, data_samples\n"
        "from needle import data\n"
        "loader = data.DataLoader(data_samples.Noisy(1000), num_workers=2,\n"
        "    multiprocessing_context='fork')\n"
        "for _ in loader:\n"
        "    print(os.getpid(), flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(samples.__file__).parent)}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=env,
    )  # fmt: skip
    pid = int(program.stdout.readline())
    workers = children(pid)
    assert len(workers) >= 2
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) or list(SHARED.glob(f"ndl_{pid:x}_*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor=2 needs num_workers"),
        ({"persistent_workers": True}, ValueError, "persistent_workers=True needs"),
        ({"multiprocessing_context": "fork"}, ValueError, "multiprocessing_context='fork' needs"),
        ({"timeout": 3}, ValueError, "timeout=3 needs num_workers"),
        ({"timeout": -1, "num_workers": 1}, ValueError, "not be negative"),
        ({"prefetch_factor": 0, "num_workers": 1}, ValueError, "at least 1"),
        ({"multiprocessing_context": "forks", "num_workers": 1}, ValueError, "fork, spawn"),
        ({"batch_size": None, "drop_last": True}, ValueError, "drop_last needs batches"),
    ],
)  # fmt: skip
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        data.DataLoader(samples.Noisy(), **options)
