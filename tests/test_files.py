"""Files are whole or not there, with the mode, the links and the neighbours of any other file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from needle.files import check_writable, user_cache_folder, written_whole

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX files")


def write(path, content=b"new"):
    with written_whole(path) as file:
        file.write(content)


def in_a_process(code: str, **options) -> subprocess.CompletedProcess:
    code = f"from needle.files import written_whole\nimport os, resource\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


def test_a_new_file_and_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write(str(path))
    assert path.read_bytes() == b"new"
    write(path, b"newer")
    assert path.read_bytes() == b"newer"
    check_writable(path)
    check_writable(path.with_name("other"))
    assert list(path.parent.iterdir()) == [path]


@posix
@pytest.mark.parametrize("umask", [0, 0o022, 0o027, 0o077])
def test_the_mode_is_that_of_any_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    (tmp_path / "file").chmod(0o640)
    write(tmp_path / "file")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640, "one that was there keeps its"


@posix
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "dangling"])
def test_symbolic_links_are_followed(tmp_path, there):
    (tmp_path / "far").mkdir()
    file, link, second = tmp_path / "far" / "file", tmp_path / "link", tmp_path / "second"
    if there:
        file.write_bytes(b"old")
    link.symlink_to("far/file")
    second.symlink_to(link)
    write(second)
    assert link.is_symlink()
    assert second.is_symlink()
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


@posix
def test_what_is_no_regular_file_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"old")
    for name in ("fifo", "folder", "loop", "file/below"):
        with pytest.raises(OSError, match=name.partition("/")[0]):
            check_writable(tmp_path / name)
        with pytest.raises(OSError, match=name.partition("/")[0]), written_whole(tmp_path / name):
            pytest.fail("it was opened")
    with pytest.raises(OSError, match="not a regular file"):
        write("/dev/null")
    assert not stat.S_ISREG(os.stat("/dev/null").st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "file", "folder", "loop"]


@pytest.mark.parametrize("error", [OSError(28, "disk full"), ValueError(), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with written_whole(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert str(path) in str(caught.value)


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = in_a_process(
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\n"
        f"with written_whole({str(path)!r}) as file: file.write(bytes(10**6))"
    )
    assert "File too large" in done.stderr
    assert str(path) in done.stderr.splitlines()[-1]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "file"
    done = in_a_process(
        f"with written_whole({str(path)!r}) as file: file.write(b'half'); os.kill(os.getpid(), 9)"
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    others = [tmp_path / name for name in ("file.part", "file2.0123abcd.part", "file.part.txt")]
    for other in others:
        other.write_bytes(b"somebody's")
    os.mkfifo(tmp_path / "file.01234567.part")  # would hang whoever opens it
    write(path)
    assert not left.exists()
    assert all(other.exists() for other in others)


@posix
def test_a_part_that_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with written_whole(path) as first:
        first.write(b"first")
        write(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once(tmp_path):
    path = tmp_path / "file"

    def write_often(letter: bytes) -> None:
        for _ in range(20):
            write(path, letter * 10_000)

    threads = [
        threading.Thread(target=write_often, args=(letter,)) for letter in (b"a", b"b", b"c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert content == content[:1] * 10_000
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_names(tmp_path):
    for name in ("x" * 255, "é" * 127):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_of_caches(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home
    with pytest.raises(OSError, match="no home folder"):
        user_cache_folder()
