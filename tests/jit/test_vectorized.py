"""The compiler vectorizes every loop that a model's training step is made of."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import models, nn, optim
from needle.jit.codegen.cpp import write_program
from needle.jit.frontend.trace import Tracing
from needle.jit.runtime import compiler
from needle.jit.runtime.pipeline import planned_for
from needle.jit.schedule.target import CPU

PROCESSORS = {
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
PRAGMA = "#pragma omp simd"
STRIDED = re.compile(r"\[j\d* \* \d+\]")  # a point that is read from a transposed matrix
REFUSED = "couldn't vectorize loop"  # loops that the compiler unrolled or removed are not reported


def is_gcc_for_x86() -> bool:
    """Whether the compiler is the one whose report this test reads."""
    try:
        macros = compiler.find_compiler().macros
    except compiler.NoCompiler:
        return False
    return "__x86_64__" in macros and "__clang__" not in macros


pytestmark = pytest.mark.skipif(not is_gcc_for_x86(), reason="needs GCC for x86-64")


class Lstm(nn.Module):
    """An LSTM language model whose logits are longer than a stretch of a row."""

    def __init__(self) -> None:
        self.model = models.LanguageModel(20, 2000, 24, 1, "lstm")

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """Return the logits, of shape (tokens, 2000)."""
        return self.model(x)[0]


class Gpt(nn.Module):
    """A small GPT, with dropout."""

    def __init__(self) -> None:
        self.model = models.GPT(65, 16, 32, 1, 2, dropout=0.1)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """Return the logits, of shape (tokens, 65)."""
        return self.model.predict_tokens(x)


def tokens(vocabulary: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(np.prod(shape)).reshape(shape) % vocabulary
    return x, x.reshape(-1)


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(shape, np.float32), np.arange(shape[0]) % 10


STEPS: list[
    tuple[Callable[[], nn.Module], type[optim.Optimizer], tuple[np.ndarray, np.ndarray]]
] = [
    (lambda: models.MLPResNet(48, 32, num_blocks=1), optim.Adam, images(100, 48)),
    (models.ResNet9, optim.AdamW, images(16, 3, 32, 32)),
    (Lstm, optim.SGD, tokens(2000, 8, 16)),
    (Gpt, optim.AdamW, tokens(65, 4, 16)),
]


def source_of_step(
    make: Callable[[], nn.Module],
    optimizer: type[optim.Optimizer],
    batch: tuple[np.ndarray, np.ndarray],
) -> str:
    """The C++ of a training step."""
    model = make()
    update = optimizer(model.parameters(), lr=0.01)

    def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        loss = ndl.cross_entropy(model(x), y)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return source_of(step, *batch)


def source_of(function: Callable[..., Any], *arrays: np.ndarray) -> str:
    """The C++ of a function of tensors."""
    tensors = [ndl.Tensor(a, requires_grad=False) for a in arrays]
    planned = planned_for(Tracing().run(function, tensors, {}, tensors).graph, CPU)
    return write_program(planned.graph, planned.units, planned.plan).source


def choices(x: ndl.Tensor, y: ndl.Tensor, mask: ndl.Tensor) -> list[ndl.Tensor]:
    """Selects of selects, and bools in memory: both easily become branches."""
    largest = ndl.max_pool2d(x, 2, layout="NHWC")
    between = ndl.minimum(ndl.maximum(ndl.maximum(x, y), x * 2), y * 3)
    both = ndl.logical_and(mask, x < y)
    return [largest, between, ndl.where(mask, x, y), x * mask, both, ndl.where(both, x, 0.0)]


def only_loops(source: str, namespace: str) -> str:
    """The loops of a program and the epilogues of its products, without the products.

    A member function that nothing calls has no code, so each is named.
    """
    source = source[source.index("NEEDLE_LOOP") : source.index('extern "C" void needle_program')]
    source = re.sub(r"^#(if|endif).*$", "", source, flags=re.MULTILINE)
    epilogues = re.findall(r"^struct (\w+) \{$", source, flags=re.MULTILINE)
    uses = [f"auto use_{e} = &{e}::operator();" for e in epilogues]
    return "\n".join([f"namespace {namespace} {{", source, *uses, "}"])


def line_numbers(lines: list[str], pragma: int) -> range:
    """The numbers, from 1 on, of the lines of the loop that follows a pragma in `lines`.

    The pragma's own line does not count: there stand the loops that join a reduction's lanes.
    """
    start = lines[pragma + 1]
    if not start.endswith("{"):
        return range(pragma + 2, pragma + 3)
    indent = start[: len(start) - len(start.lstrip())]
    return range(pragma + 2, lines.index(indent + "}", pragma) + 1)


def lines_with(text: str, report: list[str]) -> set[int]:
    """The lines of `loops.cpp` of which the compiler's report says `text`."""
    return {int(r.split(":")[1]) for r in report if r.startswith("loops.cpp:") and text in r}


@pytest.fixture(scope="module")
def loops() -> str:
    """The loops of all steps as one file."""
    parts = [only_loops(source_of_step(*step), f"step_{i}") for i, step in enumerate(STEPS)]
    pixels = np.ones((16, 28, 28, 16), np.float32)
    parts.append(only_loops(source_of(choices, pixels, pixels, pixels > 0), "choices"))
    header = ["#define NEEDLE_ISA jit", '#include "kernels/program_runtime.h"',
              '#include "kernels/static_gemm.h"', '#include "kernels/static_convolution.h"',
              "using namespace needle;", "using namespace needle::jit;"]  # fmt: skip
    return "\n".join([*header, *parts]) + "\n"


@pytest.mark.parametrize("level", PROCESSORS)
def test_loops_of_models_are_vectorized(loops: str, level: str, tmp_path: Path) -> None:
    (tmp_path / "loops.cpp").write_text(loops)
    found = compiler.find_compiler()
    flags = [f for f in found.flags if not f.startswith(("-march", "-mtune", "-mprefer"))]
    include = str(compiler._include() / "cpu")
    options = ("-fopt-info-vec-all=report.txt", "-I", include, "-S", "-o", "loops.s", "loops.cpp")
    command = [*found.command, *flags, *PROCESSORS[level], *options]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    report = (tmp_path / "report.txt").read_text().splitlines()
    vectorized, refused = lines_with("loop vectorized", report), lines_with(REFUSED, report)
    lines = loops.splitlines()
    bodies = [line_numbers(lines, i) for i, line in enumerate(lines) if PRAGMA in line]
    slow = [body for body in bodies if refused & set(body) and not vectorized & set(body)]
    slow = [body for body in slow if not any(STRIDED.search(lines[i - 1]) for i in body)]
    assert sum(bool(vectorized & set(body)) for body in bodies) > 40
    assert not slow, "\n\n".join("\n".join(lines[i - 1] for i in body) for body in slow)
