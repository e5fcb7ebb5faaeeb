"""The programs in `examples/` learn what they say, and the tables of them are complete."""

from __future__ import annotations

import ast
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from needle.data import DigitsDataset

FOLDER = Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(FOLDER.glob("*.py"))
LINES = 150


def docstring(program: Path) -> str:
    return ast.get_docstring(ast.parse(program.read_text())) or ""


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def write_idx(path: Path, array: np.ndarray) -> None:
    header = [8, array.ndim, *(n >> 8 * i & 255 for n in array.shape for i in (3, 2, 1, 0))]
    path.write_bytes(gzip.compress(bytes([0, 0, *header]) + array.tobytes(), compresslevel=1))


@pytest.fixture(scope="session")
def folder_of_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full data sets, or small ones in their formats, made of digits and a document."""
    if folder := os.environ.get("NEEDLE_DATA"):
        return Path(folder)
    root = tmp_path_factory.mktemp("data")
    for name in ("mnist", "cifar-10-batches-py", "tinyshakespeare"):
        (root / name).mkdir()
    for prefix, train in (("train", True), ("t10k", False)):
        images, labels = DigitsDataset(train)[:]
        enlarged = np.kron(np.round(255 * images[..., 0]), np.ones((1, 3, 3))).astype("uint8")
        pixels = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))
        repeats = (1 if train else 2, 1, 1)
        write_idx(root / f"mnist/{prefix}-images-idx3-ubyte.gz", np.tile(pixels, repeats))
        write_idx(root / f"mnist/{prefix}-labels-idx1-ubyte.gz", np.tile(labels, repeats[0]))
    images, labels = DigitsDataset()[:]
    colors = np.kron(np.round(255 * images.transpose(0, 3, 1, 2)), np.ones((1, 3, 4, 4)))
    rows = np.concatenate([labels[:, None], colors.reshape(-1, 3072).astype("uint8")], axis=1)
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (root / f"cifar-10-batches-py/{name}.bin").write_bytes(rows[i::6].tobytes())
    text = (FOLDER.parent / "docs" / "jit.md").read_text()
    (root / "tinyshakespeare/input.txt").write_text(10 * text)
    return root


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_learns_in_its_short_mode(
    program: Path, folder_of_data: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", program, "--short"],
        env={**os.environ, "NEEDLE_DATA": str(folder_of_data)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.iterdir()), "short modes write nothing"


@pytest.mark.parametrize("name", ["mlp", "gcn", "lstm_forecast"])
def test_the_check_of_a_program_fails_where_nothing_is_learnt(name: str) -> None:
    code = f"""
import runpy, sys
import needle as ndl

ndl.optim.Optimizer.step = lambda self: None
ndl.Tensor.__isub__ = lambda self, other: self
sys.argv = ["{name}.py", "--short", "--eager"]
runpy.run_path({str(FOLDER / name)!r} + ".py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AssertionError" in done.stderr


def test_the_programs_are_short_and_say_what_they_reach() -> None:
    assert len(PROGRAMS) >= 15
    table = in_one_line((FOLDER / "README.md").read_text())
    for program in PROGRAMS:
        assert len(program.read_text().splitlines()) < LINES, program.name
        paragraphs = [in_one_line(part) for part in docstring(program).split("\n\n")]
        assert paragraphs[-1].startswith("Reaches "), program.name
        assert f"[`{program.name}`]({program.name})" in table, program.name
        assert paragraphs[-1].removeprefix("Reaches ").rstrip(".") in table, program.name
