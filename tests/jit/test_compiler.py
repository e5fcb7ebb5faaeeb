"""The compiler and its cache: what is found, what is refused, what is made anew."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time

import pytest

import needle as ndl
from needle import disk_cache
from needle.disk_cache import CacheInfo, cache_info, clear_cache
from needle.jit.runtime import compiler
from needle.jit.runtime.compiler import CompileError, NoCompiler, build, load

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")


def why_no_compiler() -> str:
    try:
        compiler.find_compiler()
    except NoCompiler as error:
        return str(error)
    return ""


needs_compiler = pytest.mark.skipif(bool(why_no_compiler()), reason=why_no_compiler())

SOURCE = """#include "kernels.h"
extern "C" void needle_program(char* const* buffers, const needle::KernelTable*) {{
  *reinterpret_cast<int*>(buffers[0]) = {number};
}}
"""


def source(number: int) -> str:
    return SOURCE.format(number=number)


def run(library, number: int) -> None:
    """Fails unless the library's program gives `number`."""
    result = [((), ndl.array_api.as_dtype("int32"))]
    program = compiler.core.Program(str(library), [], [], [], result, 0)
    assert program.run([], [], 0)[0].item() == number


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEEDLE_CACHE", str(folder))
    return folder


@pytest.fixture
def compilations(monkeypatch):
    """A list that grows by one with every program that is compiled."""
    seen = []
    compile_ = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *a: seen.append(1) or compile_(*a))
    return seen


def program(number: int) -> dict[str, object]:
    int32 = ndl.array_api.as_dtype("int32")
    return dict(
        source=source(number), arguments=[], states=[], constants=[],
        results=[((), int32)], arena_bytes=0,
    )  # fmt: skip


@needs_compiler
def test_a_program_is_compiled_once(cache, compilations):
    first = build(source(1))
    assert build(source(1)) == first
    assert len(compilations) == 1
    run(first, 1)
    key = first.stem.partition("-")[0]
    assert (cache / f"{key}.cpp").read_text() == source(1), "the source lies beside it"
    assert len(list(cache.iterdir())) == 2, "nothing temporary is left"
    other = build(source(2))
    assert other != first
    run(other, 2)


PARTS = """#include "kernels.h"
int number();
#if NEEDLE_PART != 2
int number() {{ return {number}; }}
#endif
#if NEEDLE_PART != 1
extern "C" void needle_program(char* const* buffers, const needle::KernelTable*) {{
  *reinterpret_cast<int*>(buffers[0]) = number();
}}
#endif
"""


@needs_compiler
@pytest.mark.parametrize("cores", [1, 2])
def test_a_program_in_two_parts(cores, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    run(build(PARTS.format(number=5)), 5)
    with pytest.raises(CompileError, match=r"error.*nobody"):
        build(PARTS.format(number="nobody"))


@needs_compiler
def test_what_a_library_depends_on(monkeypatch):
    def key(number: int = 1) -> str:
        return compiler._key(source(number), compiler.find_compiler())

    before = key()
    assert key(2) != before
    for owner, name, other in (
        (disk_cache, "digest_of_sources", lambda *args: b"other headers"),
        (compiler, "_processor", lambda: "another"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, other)
            assert key() != before
    assert key() == before


@needs_compiler
def test_two_processes_at_once(cache):
    code = f"""
import sys
from needle.jit.runtime import compiler
sys.stdin.readline()  # both start together
path = compiler.build({source(3)!r})
compiler.core.Program(str(path), [], [], [], [], 0)
print(path)
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    time.sleep(0.5)
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    paths = [worker.communicate(timeout=120)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    for path in paths:
        run(path, 3)
    assert cache_info().entries == 1
    assert not list(cache.glob(f"{disk_cache.SCRATCH}*"))


@needs_compiler
def test_threads_at_once():
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(build(source(4)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 3
    run(paths[0], 4)


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty"])
def test_a_damaged_library_is_made_anew(damage, compilations):
    path = build(source(5))
    whole = path.read_bytes()
    path.unlink()  # a file of its own: the old one may be loaded
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "overwritten": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
            "empty": b"",
        }[damage]
    )
    run(build(source(5)), 5)
    assert len(compilations) == 2


@needs_compiler
def test_a_library_that_does_not_load_is_made_anew_once(monkeypatch, compilations):
    path = build(source(6))
    path.unlink()
    path = path.with_name(
        f"{path.stem.partition('-')[0]}-{disk_cache.hashlib.sha256(b'no ELF').hexdigest()[:16]}"
        f"{disk_cache.LIBRARY}"
    )
    path.write_bytes(b"no ELF")  # whole, but not for this system
    assert load(**program(6)).run([], [], 0)[0].item() == 6
    assert len(compilations) == 2
    monkeypatch.setattr(compiler, "build", lambda _: path)
    with pytest.raises(OSError, match=r"cannot open shared object|no suitable image"):
        load(**program(6))


@needs_compiler
def test_errors_of_the_compiler(cache):
    with pytest.raises(CompileError) as caught:
        build(source(7) + "int broken() { return nothing_here; }")
    assert "nothing_here" in str(caught.value)
    assert caught.value.source.parent == cache
    assert "int broken()" in caught.value.source.read_text()
    assert str(caught.value.source) in str(caught.value)


@needs_compiler
def test_the_oldest_used_programs_make_room(monkeypatch, compilations):
    for number in (1, 2, 3):
        build(source(number))
        time.sleep(0.01)
    build(source(1))  # used again: 2 is the oldest now
    size = cache_info().bytes
    monkeypatch.setattr(disk_cache, "_limit", lambda: size)
    build(source(4))
    assert len(compilations) == 4
    for number in (1, 3, 4):
        build(source(number))
    assert len(compilations) == 4
    build(source(2))
    assert len(compilations) == 5
    assert cache_info().bytes <= size


@needs_compiler
def test_a_program_larger_than_the_limit_is_kept_until_the_next(monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE_LIMIT", "0")
    for number in (1, 2):
        run(build(source(number)), number)
        assert cache_info().entries == 1


@needs_compiler
def test_what_a_killed_process_left_is_swept(cache):
    build(source(1))
    new, old = cache / f"{disk_cache.SCRATCH}new", cache / f"{disk_cache.SCRATCH}old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "half.so").write_bytes(b"half")
    os.utime(old, (0, 0))
    build(source(2))
    assert new.exists()
    assert not old.exists()


@needs_compiler
def test_info_and_clear(cache):
    assert cache_info() == CacheInfo(cache, 0, 0, 512 * 2**20)
    assert clear_cache() == 0
    build(source(1)), build(source(2))
    (cache / "mine.cpp").write_text("not the cache's")
    held = cache_info()
    assert held.entries == 2
    assert held.bytes == sum(p.stat().st_size for p in cache.iterdir() if p.stem != "mine")
    assert clear_cache() == 2
    assert [p.name for p in cache.iterdir()] == ["mine.cpp"]


@needs_compiler
def test_cxx_may_have_arguments(monkeypatch):
    command = compiler.find_compiler().command
    monkeypatch.setenv("CXX", f"env LC_ALL=C {command[0]}")
    run(build(source(8)), 8)


@needs_compiler
@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_nobody_else_can_write_to_the_folder(cache):
    build(source(1))
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    cache.chmod(0o770)
    for use in (lambda: build(source(1)), clear_cache):
        with pytest.raises(PermissionError, match=r"can be written by others.*NEEDLE_CACHE"):
            use()
    cache.chmod(0o755)
    build(source(1))


@needs_compiler
@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_of_somebody_else_is_refused(monkeypatch):
    build(source(1))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(PermissionError, match=f"belongs to user {mine}.*NEEDLE_CACHE"):
        build(source(1))


@needs_compiler
def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"cannot be made.*NEEDLE_CACHE"):
        build(source(1))


def test_the_folder_comes_from_the_environment(tmp_path, monkeypatch):
    assert cache_info().folder == tmp_path / "cache"
    monkeypatch.delenv("NEEDLE_CACHE")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_info().folder == tmp_path / "xdg" / "needle" / "jit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert cache_info().folder == tmp_path / "home" / ".cache" / "needle" / "jit"
    assert not list(tmp_path.iterdir()), "looking makes nothing"


@pytest.mark.parametrize("bad", ["much", "-1", "1.5", ""])
def test_bad_limits(bad, monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE_LIMIT", bad)
    with pytest.raises(ValueError, match="NEEDLE_CACHE_LIMIT must be"):
        cache_info()


def test_without_a_compiler_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    with pytest.raises(NoCompiler, match=r"no-such-compiler: No such file.*apt install g\+\+"):
        build(source(1))
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler._search.cache_clear()
    try:
        with pytest.raises(NoCompiler, match=r"c\+\+: .*g\+\+: .*clang\+\+: .*xcode-select"):
            build(source(1))
    finally:
        compiler._search.cache_clear()


@pytest.mark.skipif(os.name == "nt", reason="the fake compiler is a shell script")
def test_a_compiler_that_is_too_old_or_has_no_linker(tmp_path, monkeypatch):
    fake = tmp_path / "fake"
    monkeypatch.setenv("CXX", str(fake))
    for script, words in (
        ("echo 'fake: error: unrecognized option -std=c++20' >&2; exit 1", "unrecognized option"),
        # Knows every flag, has no linker.
        ('case "$*" in *-shared*) echo "fake: error: no ld" >&2; exit 1;; esac', "no ld"),
    ):
        compiler._search.cache_clear()
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        with pytest.raises(NoCompiler, match=f"{words}.*Install one"):
            build(source(1))
    compiler._search.cache_clear()


@needs_compiler
@pytest.mark.skipif(os.name == "nt", reason="the fake compiler is a shell script")
def test_a_compiler_without_openmp_or_the_newest_flags(tmp_path, monkeypatch):
    real = compiler.find_compiler().command[0]
    fake = tmp_path / "fake"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *-fopenmp*|*-fno-gnu-unique*|*-mprefer-vector-width*) '
        f'echo "fake: error: unknown flag" >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    run(build(source(9)), 9)
    flags = compiler.find_compiler().flags
    assert "-fno-gnu-unique" not in flags
    assert "-fvisibility-inlines-hidden" in flags


def test_importing_looks_for_no_compiler():
    code = (
        "import subprocess; subprocess.run = None; subprocess.Popen = None\n"
        "from needle import disk_cache, jit\ndisk_cache.cache_info()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_core(monkeypatch):
    monkeypatch.setattr(compiler, "core", None)
    with pytest.raises(NoCompiler, match="without its C\\+\\+ core"):
        build(source(1))
