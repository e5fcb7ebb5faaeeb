"""What `import needle` loads: nothing that a first program does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Packages of needle and of Python that take milliseconds each.
LATE = (
    "needle.data", "needle.distributions", "needle.fft", "needle.linalg", "needle.io",
    "needle.nn", "needle.optim", "needle.models", "needle.train", "needle.disk_cache",
    "needle.backend_ndarray.device_cuda", "needle.jit.frontend", "needle.absent_names",
    "string", "pathlib", "tempfile", "shutil", "hashlib",
    "urllib", "json", "multiprocessing", "concurrent.futures", "ctypes.util",
)  # fmt: skip


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_first_program_does_not_need_is_imported_late() -> None:
    run(
        "import sys, numpy; before = set(sys.modules); import needle; "
        f"assert not {set(LATE)!r} & (set(sys.modules) - before)"
    )


@pytest.mark.parametrize(
    "name", ["data", "distributions", "fft", "linalg", "io", "models", "nn", "optim"]
)
def test_packages_that_are_imported_late_are_attributes(name: str) -> None:
    run(f"import needle as ndl; assert ndl.{name}.__name__ == 'needle.{name}'")
    run(f"from needle import {name}; assert {name}.__name__ == 'needle.{name}'")


def test_a_star_import_and_dir_have_the_late_names() -> None:
    run(
        "from needle import *; assert data.DataLoader and linalg.inv\n"
        "import needle; assert {'data', 'linalg', 'save'} <= set(dir(needle))"
    )


def test_devices_by_name() -> None:
    run(
        "import sys, needle as ndl; assert str(ndl.device('cuda:1')) == 'cuda(1)'\n"
        "for name in ('cuda:', 'cuda:x', 'cudax', 'cuda:-1', 'cuda:１'):\n"
        "    try: ndl.device(name)\n"
        "    except ValueError: continue\n"
        "    raise AssertionError(name)"
    )


def test_no_module_takes_the_place_of_a_name() -> None:
    """Python gives a package its submodules as attributes, also long after the package's own."""
    run(
        "import importlib, pkgutil, sys, needle\n"
        "before = {(m, n): vars(sys.modules[m])[n]\n"
        "          for m in list(sys.modules) if m.split('.')[0] == 'needle'\n"
        "          for n in list(vars(sys.modules[m]))}\n"
        "for m in pkgutil.walk_packages(needle.__path__, 'needle.'):\n"
        "    if not m.name.endswith('__main__'):\n"
        "        importlib.import_module(m.name)\n"
        "taken = [key for key, value in before.items()\n"
        "         if callable(value) and vars(sys.modules[key[0]])[key[1]] is not value]\n"
        "assert not taken, taken"
    )
