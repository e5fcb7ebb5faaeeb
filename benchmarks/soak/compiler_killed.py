"""The compiler, or the whole program, is killed while a function compiles: the cache stays good.

python benchmarks/soak/compiler_killed.py [--short]
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from soak import main

# Runs the real compiler, and kills it after `delay` seconds where a program is compiled.
WRAPPER = """#!/bin/sh
case " $* " in *" -o "*) ;; *) exec {compiler} "$@" ;; esac
if [ -e {armed} ]; then
  {compiler} "$@" &
  sleep {delay}
  kill -9 $! 2>/dev/null
  kill -9 $$
fi
exec {compiler} "$@"
"""

# Compiles a function that no other run has, compares it, and says how it ran.
PROGRAM = """
import os, sys, warnings
import numpy as np
import needle as ndl
factor = float(sys.argv[1])
x = ndl.tensor(np.linspace(-1, 1, 1000, dtype="float32"))

def function(x):
    return (ndl.tanh(x * factor) + ndl.exp(x)).sum()

expected = function(x).item()
for call in range(2):
    f = ndl.jit(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            assert abs(f(x).item() - expected) < 1e-3 * abs(expected)
    how = f"eagerly: {' '.join(str(told[0].message).split())}" if told else "native"
    print(f"{f.compilations} {how}", flush=True)
    if len(sys.argv) > 2 and os.path.exists(sys.argv[2]):
        os.remove(sys.argv[2])  # the compiler lives from here on
"""


def run(factor: float, cache: Path, *more: str, cxx: str = "") -> subprocess.Popen[str]:
    """Start the program with a cache of its own."""
    env = {**os.environ, "NEEDLE_CACHE": str(cache), "NEEDLE_JIT": "on"}
    if cxx:
        env["CXX"] = cxx
    command = [sys.executable, "-c", PROGRAM, str(factor), *more]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines_of(program: subprocess.Popen[str]) -> list[str]:
    """What a program that must succeed prints."""
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, f"the program failed: {err[-1000:]}"
    return out.splitlines()


def check_cache(cache: Path, factor: float) -> None:
    """The same function is native in a new process, and no half-done files are left."""
    assert lines_of(run(factor, cache)) == ["1 native"] * 2, "the cache is damaged"
    kinds = {path.suffix for path in cache.iterdir() if path.is_file()}
    assert kinds <= {".so", ".cpp"}, f"the cache has files of the kinds {kinds}"


def test(short: bool) -> Iterator[str]:
    """First the compiler alone is killed, then the program with it."""
    random.seed(0)
    compiler = shlex.quote(shutil.which(os.environ.get("CXX", "c++")) or "c++")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache, armed, wrapper = folder / "cache", folder / "armed", folder / "cxx"
        rounds = 1 if short else 15
        for i in range(rounds):
            delay = f"{random.uniform(0, 0.4):.3f}"
            wrapper.write_text(WRAPPER.format(compiler=compiler, armed=armed, delay=delay))
            wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
            armed.touch()
            first, second = lines_of(run(2 + i, cache, str(armed), cxx=str(wrapper)))
            assert "killed by signal 9" in first, f"the warning does not say why: {first}"
            assert second == "1 native", f"the next function is not compiled: {second}"
            check_cache(cache, 2 + i)
        yield f"compiler killed {rounds} times: a warning, right results, then native code"
        yield f"  {first}"
        for i in range(rounds := 0 if short else 25):
            program = run(-2 - i, cache)
            time.sleep(random.uniform(0.2, 1.5))
            program.kill()
            program.communicate()
            check_cache(cache, -2 - i)
        yield f"program killed {rounds} times while it compiled: the next one finds a good cache"


if __name__ == "__main__":
    main("compiler killed", test)
