"""Compiled code on disk among other users, odd files, full and read-only disks, bad compilers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import disk_cache
from needle.jit.frontend import program
from needle.jit.runtime import compiler
from needle.jit.runtime.compiler import NoCompiler, build, built

pytestmark = [
    pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built"),
    pytest.mark.skipif(os.name == "nt", reason="POSIX permissions"),
]
needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can act as another user"
)
SOMEBODY = 65534

SOURCE = """#include "kernels.h"
extern "C" void needle_program(char* const* buffers, const needle::KernelTable*) {{
  *reinterpret_cast<int*>(buffers[0]) = {number};
}}
"""


def source(number: int = 1) -> str:
    return SOURCE.format(number=number)


def value(library: Path) -> int:
    """What the library's program gives."""
    result = [((), ndl.array_api.as_dtype("int32"))]
    return compiler.core.Program(str(library), [], [], [], result, 0).run([], [], 0)[0].item()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEEDLE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> dict[int, bytes]:
    """Whole libraries of two sources."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NEEDLE_CACHE", str(tmp_path_factory.mktemp("whole") / "cache"))
        return {number: build(source(number)).read_bytes() for number in (1, 666)}


def entry(cache: Path, content: bytes) -> Path:
    """Where a library with that content would be found for `source()`."""
    key = compiler._key(source(), compiler.find_compiler())
    return cache / f"{key}-{disk_cache._digest(content)}{disk_cache.LIBRARY}"


def planted_file(path: Path, content: bytes, owner: int = -1, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)
    if owner != -1:
        os.chown(path, owner, owner)


def planted_link(path: Path, content: bytes) -> None:
    elsewhere = path.parent.parent / "elsewhere.so"
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)


def planted_folder(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "inside").write_bytes(content)


PLANTS = {
    "of somebody else": lambda path, content: planted_file(path, content, SOMEBODY),
    "of somebody else, readable": lambda p, c: planted_file(p, c, SOMEBODY, 0o755),
    "writable by the group": lambda path, content: planted_file(path, content, mode=0o620),
    "writable by all": lambda path, content: planted_file(path, content, mode=0o602),
    "a link": planted_link,
    "a dangling link": lambda path, content: path.symlink_to("nowhere"),
    "a loop": lambda path, content: path.symlink_to(path.name),
    "a pipe": lambda path, content: os.mkfifo(path),
    "a folder": planted_folder,
}


@pytest.mark.parametrize("kind", PLANTS)
def test_what_others_planted_is_not_loaded(kind, cache, libraries):
    if "somebody" in kind and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    cache.mkdir(mode=0o700)
    planted = entry(cache, libraries[666])
    PLANTS[kind](planted, libraries[666])
    # Also in the places where the true library and its source will be.
    PLANTS[kind](entry(cache, libraries[1]), libraries[666]) if kind != "a link" else None
    assert value(build(source())) == 1
    assert not planted.is_symlink()
    assert not planted.exists()
    for path in cache.iterdir():
        status = path.lstat()
        assert stat.S_ISREG(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_uid == os.geteuid()
    assert disk_cache.cache_info().entries == 1


def test_the_true_library_is_loaded(cache, libraries):
    """So that the tests above show what they say."""
    cache.mkdir(mode=0o700)
    planted_file(entry(cache, libraries[666]), libraries[666])
    assert value(build(source())) == 666


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_replaced(mode, cache, libraries):
    cache.mkdir()
    cache.chmod(mode)
    planted_file(entry(cache, libraries[666]), libraries[666])
    with pytest.raises(PermissionError, match=r"may have put code there; chmod 700.*empty"):
        build(source())
    with pytest.warns(UserWarning, match=r"not kept on disk.*chmod 700.*empty"):
        library = built(source())
    assert value(library) == 1
    assert not library.is_relative_to(cache)
    with pytest.raises(PermissionError):
        disk_cache.clear_cache()
    cache.chmod(0o700)
    assert disk_cache.clear_cache() == 1
    assert build(source()).is_relative_to(cache)


@needs_root
def test_a_folder_of_somebody_else_is_replaced(cache):
    cache.mkdir(mode=0o755)
    os.chown(cache, SOMEBODY, SOMEBODY)
    with pytest.warns(UserWarning, match=f"not kept on disk.*belongs to user {SOMEBODY}"):
        assert value(built(source())) == 1
    with pytest.raises(PermissionError):
        disk_cache.clear_cache()
    assert not list(cache.iterdir())


@pytest.mark.parametrize("inside", ["needle", "needle/jit"])
def test_folders_up_to_the_root_of_the_default_cache(inside, tmp_path, monkeypatch):
    monkeypatch.delenv("NEEDLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        folder = disk_cache.open_folder()
    finally:
        os.umask(before)
    assert folder == tmp_path / "a" / "b" / "needle" / "jit"
    for made in (folder, *list(folder.parents)[:3]):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (tmp_path / "a" / "b" / inside).chmod(0o770)
    with pytest.raises(PermissionError, match="can be written by others"):
        disk_cache.open_folder()


def obstacles(tmp_path: Path) -> dict[str, str]:
    """Names for NEEDLE_CACHE under which there can be no folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    names = {name: str(tmp_path / name) for name in ("file", "loop", "dangling", "pipe")}
    return {
        **names, "below a file": str(tmp_path / "file" / "cache"), "in proc": "/proc/cache",
        "long": str(tmp_path / ("x" * 300)), "no such user": "~nobody-of-that-name/cache",
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["file", "loop", "dangling", "pipe", "below a file", "in proc", "long", "no such user"],
)
def test_no_folder_is_no_end(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE", obstacles(tmp_path)[kind])
    with pytest.raises(OSError, match="NEEDLE_CACHE"):
        build(source())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert value(built(source())) == 1
        assert value(built(source(2))) == 2
    assert len(caught) == 1
    assert "temporary folder" in str(caught[0].message)


@pytest.fixture
def anybodys():
    """A folder that every user can reach, as a test's own is not."""
    needed = [Path(compiler.__file__), Path(sys.executable), Path(tempfile.gettempdir(), "x")]
    for folder in (parent for path in needed for parent in path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"other users cannot reach {folder}")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


TRAIN = """
import os, sys, warnings
import needle as ndl, numpy as np
{before}
w = ndl.Tensor([2.0])
@ndl.jit
def step(x):
    w.grad = None
    (w * x).sum().backward()
    return w.grad * 3
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for n in (1, 2):
        assert step(ndl.Tensor(np.ones(n))).numpy().tolist() == [3.0 * n]
print(step.compilations, *[str(w.message) for w in caught], sep="\\n")
"""


@needs_root
@pytest.mark.parametrize("kind", ["unwritable cache", "unwritable home", "no home"])
def test_another_user_without_a_place_to_write(kind, anybodys):
    """A process of a user who may not write where the cache should be; root may everywhere."""
    home, temporary = anybodys / "home", anybodys / "tmp"
    home.mkdir(mode=0o755), temporary.mkdir()
    os.chown(temporary, SOMEBODY, SOMEBODY)
    environment = {"HOME": str(home), "TMPDIR": str(temporary)}
    if kind == "unwritable cache":
        environment["NEEDLE_CACHE"] = str(home / "cache")
    if kind == "no home":
        del environment["HOME"]
    # Python itself may lie where only root can read: what is needed is imported before.
    become = f"""
import pwd, tempfile
ndl.jit(lambda x: x)(ndl.Tensor([1.0]))
for name in ("NEEDLE_CACHE", "XDG_CACHE_HOME", "HOME"):
    os.environ.pop(name, None)
os.environ.update({environment!r})
os.setgroups([]), os.setgid({SOMEBODY}), os.setuid({SOMEBODY})
tempfile.tempdir = None
if {kind == "no home"}:
    pwd.getpwuid = lambda uid: {{}}[uid]
"""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN.format(before=become)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compiled, *warned = done.stdout.splitlines()
    assert compiled == "2"
    assert len(warned) == 1
    assert "temporary folder" in warned[0]
    assert not list(home.iterdir())
    assert not list(temporary.iterdir()), "it is removed at the end"


@needs_root
def test_a_full_disk(tmp_path):
    """The cache on a disk of 32 KiB: programs go to the temporary folder; with that full too, the
    function runs eagerly."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], check=False).returncode:
        pytest.skip("needs a file system of its own")
    small = tmp_path / "small"
    small.mkdir()
    for temporary, words in ((tmp_path, "temporary folder"), (small, "runs eagerly")):
        script = (
            f"mount -t tmpfs -o size=32k,mode=700 none {small} && exec {sys.executable} -c "
            "\"import os; exec(os.environ['CODE'])\""
        )
        environment = {
            **os.environ, "CODE": TRAIN.format(before=""), "NEEDLE_CACHE": str(small / "cache"),
            "TMPDIR": str(temporary),
        }  # fmt: skip
        done = subprocess.run(
            [unshare, "-m", "sh", "-c", script], capture_output=True, text=True, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "No space left on device" in done.stdout
        assert words in done.stdout
        assert done.stdout.count("No space left") <= 2


def test_a_forked_child_leaves_its_parents_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(disk_cache.tempfile, "tempdir", None)
    monkeypatch.setattr(disk_cache, "_temporary", {})
    with pytest.warns(UserWarning, match="temporary folder"):
        folder = disk_cache.temporary_folder(OSError("a reason"))
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as a child would see it
    assert disk_cache.temporary_folder(OSError("a reason")) != folder
    disk_cache._remove_temporary(-1)
    assert list(tmp_path.iterdir()) == [folder]


# ---- compilers --------------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch):
    """Compilers get no longer than a second to answer."""
    monkeypatch.setattr(compiler, "PROBE_SECONDS", 1)
    compiler._search.cache_clear()
    yield
    compiler._search.cache_clear()


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def no_compilers(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Values of CXX, and what is said of them."""
    (tmp_path / "notes").write_text("no program")
    return {
        "missing": (str(tmp_path / "missing"), "No such file"),
        "missing on the path": ("no-such-compiler-anywhere", "No such file"),
        "a folder": (str(tmp_path), "Permission denied"),
        "no program": (str(tmp_path / "notes"), "Permission denied"),
        "a text": (script(tmp_path / "text", "no program"), "Exec format error"),
        "false": ("/bin/false", "exit status 1"),
        "true": ("/bin/true", "made no file"),
        "echo": ("echo", "made no file"),
        "cat": ("cat", "option"),
        "killed": (script(tmp_path / "killed", "#!/bin/sh\nkill -9 $$\n"), "killed by signal 9"),
        "hangs": (script(tmp_path / "hangs", "#!/bin/sh\nsleep 1000\n"), "no answer in 1 s"),
        "half a quotation": ("'c++", "No closing quotation"),
    }


@pytest.mark.parametrize(
    "kind",
    ["missing", "missing on the path", "a folder", "no program", "a text", "false", "true", "echo",
     "cat", "killed", "hangs", "half a quotation"],
)  # fmt: skip
def test_what_is_no_compiler_is_named(kind, tmp_path, monkeypatch, patience):
    cxx, words = no_compilers(tmp_path)[kind]
    monkeypatch.setenv("CXX", cxx)
    began = time.monotonic()
    with pytest.raises(NoCompiler, match=r"Install one.*set CXX") as caught:
        build(source())
    assert cxx in str(caught.value)
    assert words in str(caught.value)
    assert time.monotonic() - began < 20
    function = ndl.jit(lambda x: x + 1)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert function(ndl.Tensor([1.0])).numpy() == [2]


def test_a_compiler_that_hangs_or_fails_later(tmp_path, monkeypatch, patience):
    real = compiler.find_compiler().command[0]
    monkeypatch.setattr(compiler, "COMPILE_SECONDS", 1)
    for number, (then, words) in enumerate(
        (("sleep 1000", "no answer in 1 s"), ("echo 'error: out of luck'>&2; exit 1", "luck"))
    ):
        fake = script(
            tmp_path / f"fake{number}",
            f'#!/bin/sh\ncase "$*" in *-dM*) exec {real} "$@";; esac\n{then}\n',
        )
        monkeypatch.setenv("CXX", fake)
        function = ndl.jit(lambda x: x + 1)
        with pytest.warns(UserWarning, match="runs eagerly") as caught:
            assert function(ndl.Tensor([1.0])).numpy() == [2]
        assert fake in str(caught[0].message)
        assert words in str(caught[0].message)


@pytest.mark.parametrize("kind", ["killed", "a part killed", "refuses"])
def test_a_compiler_that_was_killed_is_tried_again(kind, tmp_path, monkeypatch):
    """Where the program itself is refused, it is not."""
    real, armed, calls = compiler.find_compiler().command[0], tmp_path / "armed", tmp_path / "calls"
    then = {
        "killed": "kill -9 $$",
        "a part killed": "echo 'fatal error: Killed signal terminated program cc1plus' >&2; exit 1",
        "refuses": "echo 'error: no' >&2; exit 1",
    }[kind]
    fake = script(
        tmp_path / "fake",
        f'#!/bin/sh\ncase "$*" in *-dM*|*probe.cpp*) exec {real} "$@";; esac\n'
        f'echo >> {calls}\nif [ -e {armed} ]; then {then}; fi\nexec {real} "$@"\n',
    )
    armed.touch()
    monkeypatch.setenv("CXX", fake)
    now = [0.0]
    monkeypatch.setattr(program, "monotonic", lambda: now[0])
    function, x = ndl.jit(lambda x: x + 1), ndl.Tensor([1.0])
    with pytest.warns(UserWarning, match="runs eagerly"):
        function(x)
    attempts = [calls.read_text().count("\n")]
    for now[0], is_there in ((59.0, False), (61.0, False), (100.0, True), (182.0, True)):
        armed.unlink() if is_there and armed.exists() else None
        assert function(x).numpy() == [2]
        attempts.append(calls.read_text().count("\n"))
    grew = [b > a for a, b in pairwise(attempts)]
    assert grew == ([False] * 4 if kind == "refuses" else [False, True, False, True])
    assert function.compilations == (kind != "refuses")


def test_a_compiler_that_fails_on_one_program(tmp_path, monkeypatch):
    monkeypatch.setattr(
        compiler, "built", lambda source: build("#error nothing compiles\n" + source)
    )
    with pytest.warns(UserWarning, match="runs eagerly: .*could not compile"):
        assert ndl.jit(lambda x: x + 1)(ndl.Tensor([1.0])).numpy() == [2]


def test_a_relative_path_of_a_compiler(tmp_path, monkeypatch):
    real = compiler.find_compiler().command[0]
    script(tmp_path / "mine", f'#!/bin/sh\nexec {real} "$@"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "./mine")
    assert value(build(source(3))) == 3


def test_a_library_that_cannot_be_loaded_is_no_end(monkeypatch, tmp_path):
    (tmp_path / "none.so").write_bytes(b"no library")
    monkeypatch.setattr(compiler, "built", lambda source: tmp_path / "none.so")
    with pytest.warns(UserWarning, match="runs eagerly"):
        np.testing.assert_array_equal(ndl.jit(lambda x: x + 1)(ndl.Tensor([1.0])).numpy(), [2])
