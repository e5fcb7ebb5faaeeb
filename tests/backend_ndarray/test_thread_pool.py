"""The pool of threads behind the kernels: more threads than cores, forks, several callers."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from needle.native import core

pytestmark = pytest.mark.skipif(core is None, reason="the C++ core was not built")

SETUP = """
import os, threading
import numpy as np
import needle as ndl
from needle.backend_ndarray.device_cpu import set_num_threads

rng = np.random.default_rng(0)
x = rng.standard_normal((300, 700)).astype(np.float32)
a = ndl.NDArray(x)

def results():
    return [(a + a).numpy(), (a @ a.T).numpy(), a.sum(axis=0).numpy(), a.exp().numpy()]

def same(first, second):
    return all(np.array_equal(p, q) for p, q in zip(first, second, strict=True))
"""


def run(code: str, threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{SETUP}\nset_num_threads({threads})\n{code}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_many_loops_give_the_same_from_run_to_run(threads):
    run(
        "expected = results()\n"
        "assert np.allclose(expected[1], x.astype(np.float64) @ x.T, rtol=0, atol=700 * 1e-5)\n"
        "assert all(same(results(), expected) for _ in range(100))",
        threads,
    )


def test_callers_in_several_threads():
    run(
        "expected, wrong = results(), []\n"
        "def call():\n"
        "    wrong.extend(1 for _ in range(40) if not same(results(), expected))\n"
        "callers = [threading.Thread(target=call) for _ in range(4)]\n"
        "[t.start() for t in callers]\n"
        "[t.join() for t in callers]\n"
        "assert not wrong",
        3,
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_child_begins_with_one_thread_and_may_have_more():
    run(
        "expected = results()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    fine = ndl.get_num_threads() == 1\n"
        "    results()\n"
        "    set_num_threads(3)\n"
        "    os._exit(0 if fine and same(results(), expected) else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert same(results(), expected)",
        3,
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_a_daemon_thread_computes_when_the_interpreter_ends(compiled):
    code = f"""
        import time
        c = ndl.Tensor(np.ones((300, 300), np.float32), requires_grad=False)
        step = ndl.jit(lambda c: c @ c) if {compiled} else lambda c: c @ c
        step(c)
        ready = threading.Event()

        def work():
            while True:
                step(c)
                ready.set()

        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        ready.wait()
        time.sleep(0.05)
    """
    run(textwrap.dedent(code), threads=2)
