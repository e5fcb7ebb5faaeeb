"""Kernels and training steps on a GPU, beside PyTorch's where it is there and sees the GPU.

Times are the GPU's own, between two events on needle's stream; PyTorch's between two of its own.
The contenders take turns, and the medians are compared.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.util
import json
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import needle as ndl
from needle import nn, optim

Run = Callable[[], Any]
DEVICE = ndl.cuda()


class Events:
    """The milliseconds that the GPU takes for what is called."""

    def __init__(self) -> None:
        self.context = DEVICE.context
        self._ends = [ctypes.c_void_p() for _ in range(2)]
        for end in self._ends:
            self.context.call("cuEventCreate", ctypes.byref(end), 0)

    def __call__(self, run: Run) -> float:
        start, stop = self._ends
        self.context.call("cuEventRecord", start, self.context.stream)
        run()
        self.context.call("cuEventRecord", stop, self.context.stream)
        self.context.call("cuEventSynchronize", stop)
        elapsed = ctypes.c_float()
        self.context.call("cuEventElapsedTime", ctypes.byref(elapsed), start, stop)
        return max(elapsed.value, 1e-6)


def torch_on_gpu() -> Any:
    """PyTorch, or None where it is not there or sees no GPU."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def torch_timer(torch: Any) -> Callable[[Run], float]:
    """As `Events`, by PyTorch's."""

    def time(run: Run) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop)

    return time


# ---- what is timed --------------------------------------------------------------------------


def kernels(torch: Any, small: bool) -> dict[str, tuple[Run, Run | None, float, str]]:
    """(needle's, PyTorch's, work, its unit) by name; work is in GB or TFLOP."""
    n, side = (1 << 12, 64) if small else (1 << 26, 4096)
    random = np.random.RandomState(0)
    flat, square = random.rand(n).astype("float32"), random.rand(side, side).astype("float32")
    x, m = (ndl.Tensor(a, device=DEVICE, requires_grad=False) for a in (flat, square))
    tx, tm = (torch.tensor(a, device="cuda") for a in (flat, square)) if torch else (None, None)
    gb, tflop = 4 * n / 1e9, 2 * side**3 / 1e12
    rows = x.reshape((-1, min(n, 4096)))
    cases: dict[str, tuple[Run, Run | None, float, str]] = {
        "copy": (lambda: x.realize_cached_data().copy(), lambda: tx.clone(), 2 * gb, "GB/s"),
        "add": (lambda: x + x, lambda: tx + tx, 3 * gb, "GB/s"),
        "exp": (lambda: ndl.exp(x), lambda: tx.exp(), 2 * gb, "GB/s"),
        "transposed copy": (
            lambda: rows.realize_cached_data().permute((1, 0)).compact(),
            lambda: tx.reshape(rows.shape).T.contiguous(), 2 * gb, "GB/s",
        ),
        "sum": (lambda: x.sum(), lambda: tx.sum(), gb, "GB/s"),
        "sum of columns": (lambda: rows.sum(0), lambda: tx.reshape(rows.shape).sum(0), gb, "GB/s"),
        "sum of rows": (lambda: rows.sum(1), lambda: tx.reshape(rows.shape).sum(1), gb, "GB/s"),
        "softmax": (
            lambda: ndl.softmax(rows), lambda: tx.reshape(rows.shape).softmax(-1), 2 * gb, "GB/s",
        ),
        "matmul float32": (lambda: m @ m, lambda: tm @ tm, tflop, "TFLOP/s"),
        "matmul of a transpose": (lambda: m.transpose() @ m, lambda: tm.T @ tm, tflop, "TFLOP/s"),
    }  # fmt: skip
    return {
        name: (ours, theirs if torch else None, work, unit)
        for name, (ours, theirs, work, unit) in cases.items()
    }


def mlp_steps(torch: Any, widths: tuple[int, ...], batch: int) -> tuple[Run, Run | None]:
    """A step of a network of linear layers and ReLUs with Adam: needle's and PyTorch's."""
    random = np.random.RandomState(0)
    x = random.rand(batch, widths[0]).astype("float32")
    y = random.randint(0, widths[-1], batch)
    np.random.seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(DEVICE)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    images = ndl.Tensor(x, device=DEVICE, requires_grad=False)
    labels = ndl.Tensor(y, device=DEVICE, dtype="int64")

    def ours() -> None:
        loss = nn.CrossEntropyLoss()(model(images), labels)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()

    return ours, torch_mlp_step(torch, widths, x, y) if torch else None


def torch_mlp_step(torch: Any, widths: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> Run:
    """The same step in PyTorch."""
    layers = []
    for a, b in pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = torch.tensor(x, device="cuda"), torch.tensor(y, device="cuda")

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


# ---- the table ------------------------------------------------------------------------------


def measure(ours: Run, theirs: Run | None, rounds: int, torch: Any) -> tuple[float, float | None]:
    """Median milliseconds of both, in turns, after two runs of each to warm up."""
    timers = [(ours, Events())]
    if theirs is not None:
        timers.append((theirs, torch_timer(torch)))
    times: list[list[float]] = [[] for _ in timers]
    for turn in range(rounds + 2):
        for list_, (run, timer) in zip(times, timers, strict=True):
            elapsed = timer(run)
            if turn >= 2:
                list_.append(elapsed)
    medians = [statistics.median(list_) for list_ in times]
    return medians[0], medians[1] if theirs is not None else None


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, for the emulated GPU")
    parser.add_argument("--rounds", type=int, default=20, help="turns that each contender takes")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the numbers there")
    options = parser.parse_args()
    torch = torch_on_gpu()
    if torch:
        torch.backends.cuda.matmul.allow_tf32 = False
    rounds = 2 if options.small else options.rounds
    table = []
    for name, (ours, theirs, work, unit) in kernels(torch, options.small).items():
        table.append((name, *measure(ours, theirs, rounds, torch), work, unit))
    for name, widths, batch in (
        ("two-layer step", (784, 100, 10), 100),
        ("wide MLP step", (784, 64, 64, 10) if options.small else (784, 1024, 1024, 10), 256),
    ):
        table.append((name, *measure(*mlp_steps(torch, widths, batch), rounds, torch), None, ""))
    print(f"{DEVICE.context.name}; PyTorch {torch.__version__ if torch else 'not at hand'}\n")
    print("| what | needle ms | rate | PyTorch ms | needle / PyTorch |\n|---|---|---|---|---|")
    for name, mine, peer, work, unit in table:
        rate = f"{work / mine * 1e3:.1f} {unit}" if work else ""
        against = ("", "") if peer is None else (f"{peer:.3f}", f"{mine / peer:.2f}")
        print(f"| {name} | {mine:.3f} | {rate} | {against[0]} | {against[1]} |")
    if options.json:
        rows = [
            {"what": name, "needle_ms": mine, "torch_ms": peer} for name, mine, peer, *_ in table
        ]
        result = {
            "gpu": DEVICE.context.name, "date": datetime.date.today().isoformat(),
            "torch": torch.__version__ if torch else None, "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
