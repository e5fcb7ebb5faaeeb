"""The overhead of small eager operations: needle and PyTorch take turns in one process.

Both use one thread, and arrays so small that the time is that of the calls and not of the kernels.

    python benchmarks/overhead.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from rows import Row, Target, print_rows, summary

import needle as ndl

Call = Callable[[], object]
Case = tuple[str, Call, Call]  # its name, needle's and PyTorch's

TARGET = 0.6  # of PyTorch's time
SEED = 0
WIDTH = 16  # of the network
ROUNDS, QUICK_ROUNDS = 9, 3
BLOCK_SECONDS = 0.02


def operations() -> Iterator[Case]:
    """One operation each: on 10 elements, or on an 8×8 matrix."""
    rng = np.random.default_rng(SEED)
    vector, matrix = (rng.standard_normal(s).astype("float32") for s in ((10,), (8, 8)))
    x, y, m = (ndl.Tensor(a, requires_grad=False) for a in (vector, vector, matrix))
    tx, ty, tm = (torch.tensor(a) for a in (vector, vector, matrix))
    gx, gy, gm = (ndl.Tensor(a) for a in (vector, vector, matrix))
    tgx, tgy, tgm = (torch.tensor(a, requires_grad=True) for a in (vector, vector, matrix))
    bias, tbias = ndl.Tensor(matrix[0]), torch.tensor(matrix[0], requires_grad=True)
    yield "x + y", lambda: x + y, lambda: tx + ty
    yield "x + y, recorded", lambda: gx + gy, lambda: tgx + tgy
    yield "x + 1.0", lambda: x + 1.0, lambda: tx + 1.0
    yield "x * y", lambda: x * y, lambda: tx * ty
    yield "add(x, y)", lambda: ndl.add(x, y), lambda: torch.add(tx, ty)
    yield "x + row", lambda: m + bias, lambda: tm + tbias
    yield "relu", lambda: x.relu(), lambda: tx.relu()
    yield "exp, recorded", lambda: gx.exp(), lambda: tgx.exp()
    yield "sum", lambda: x.sum(), lambda: tx.sum()
    yield "sum, recorded", lambda: gx.sum(), lambda: tgx.sum()
    yield "reshape", lambda: m.reshape(4, 16), lambda: tm.reshape(4, 16)
    yield "reshape, recorded", lambda: gm.reshape(4, 16), lambda: tgm.reshape(4, 16)
    yield "transpose", lambda: m.transpose(0, 1), lambda: tm.transpose(0, 1)
    yield "slice", lambda: m[2:5], lambda: tm[2:5]
    yield "slices, recorded", lambda: gm[2:5, 1:3], lambda: tgm[2:5, 1:3]
    yield "index", lambda: m[3], lambda: tm[3]
    yield "matmul", lambda: m @ m, lambda: tm @ tm
    yield "matmul, recorded", lambda: gm @ gm, lambda: tgm @ tgm
    linear = torch.nn.functional.linear
    yield "linear, recorded", lambda: ndl.linear(m, gm, bias), lambda: linear(tm, tgm, tbias)
    yield "(x * y).sum().backward()", lambda: (gx * gy).sum().backward(), _torch_backward(tgx, tgy)


def _torch_backward(x: torch.Tensor, y: torch.Tensor) -> Call:
    def step() -> None:
        x.grad = y.grad = None
        (x * y).sum().backward()

    return step


def networks() -> Iterator[Case]:
    """A network of three layers, its loss, and optimizers of small parameters."""
    rng = np.random.default_rng(SEED)
    values = rng.standard_normal((8, WIDTH)).astype("float32")
    labels = rng.integers(0, WIDTH, 8)
    x, y = ndl.Tensor(values, requires_grad=False), ndl.Tensor(labels, dtype="int64")
    tx, ty = torch.tensor(values), torch.tensor(labels)
    model, torch_model = _network(ndl.nn), _network(torch.nn)
    loss, torch_loss = ndl.nn.SoftmaxLoss(), torch.nn.CrossEntropyLoss()
    sgd = ndl.optim.SGD(model.parameters(), lr=0.01)
    torch_sgd = torch.optim.SGD(torch_model.parameters(), lr=0.01)

    def backward() -> None:
        sgd.reset_grad()
        loss(model(x), y).backward()

    def torch_backward() -> None:
        torch_sgd.zero_grad()
        torch_loss(torch_model(tx), ty).backward()

    def step() -> None:
        backward()
        sgd.step()

    def torch_step() -> None:
        torch_backward()
        torch_sgd.step()

    yield "softmax loss", lambda: loss(x, y), lambda: torch_loss(tx, ty)
    yield "network, forward", lambda: model(x), lambda: torch_model(tx)
    yield "network, forward and backward", backward, torch_backward
    yield "network, step of SGD", step, torch_step
    yield "Adam, 20 parameters", *_adam(foreach=None)
    yield "Adam, 20 parameters, PyTorch's fused", *_adam(fused=True)
    yield "LSTM cell by hand, 8 steps and backward", _lstm(ndl), _lstm(torch)


def _network(nn) -> Callable[..., object]:  # type: ignore[no-untyped-def]
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(3)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _adam(**options: bool | None) -> tuple[Call, Call]:
    matrix = np.ones((8, 8), "float32")
    params = [ndl.nn.Parameter(matrix) for _ in range(20)]
    torch_params = [torch.nn.Parameter(torch.tensor(matrix)) for _ in range(20)]
    for p, q in zip(params, torch_params, strict=True):
        p.grad, q.grad = ndl.Tensor(matrix, requires_grad=False), torch.tensor(matrix)
    adam = ndl.optim.Adam(params, lr=1e-3)
    return adam.step, torch.optim.Adam(torch_params, lr=1e-3, **options).step


def _lstm(lib) -> Call:  # type: ignore[no-untyped-def]
    """A cell written in tensor operations, which both libraries spell alike."""
    rng = np.random.default_rng(SEED)
    arrays = [rng.standard_normal(s).astype("float32") * 0.1 for s in ((16, 64), (16, 64), (64,))]
    w, u, b = (lib.tensor(a, requires_grad=True) for a in arrays)
    xs = [lib.tensor(rng.standard_normal((4, 16)).astype("float32")) for _ in range(8)]
    zeros = lib.tensor(np.zeros((4, 16), "float32"))

    def step() -> None:
        h = c = zeros
        for x in xs:
            gates = x @ w + h @ u + b
            i, f, g, o = (gates[:, 16 * k : 16 * (k + 1)] for k in range(4))
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        w.grad = u.grad = b.grad = None
        (h * h).sum().backward()

    return step


def seconds(calls: tuple[Call, Call], rounds: int) -> list[float]:
    """The median time of a call of each, which take turns."""
    counts = [max(1, int(BLOCK_SECONDS / max(_block(call, 20), 1e-8))) for call in calls]
    times: list[list[float]] = [[], []]
    for turn in range(rounds):
        for i in (0, 1) if turn % 2 else (1, 0):
            times[i].append(_block(calls[i], counts[i]))
    return [statistics.median(of_one) for of_one in times]


def _block(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def rows(quick: bool = False) -> list[Row]:
    """A row of the report for each case."""
    before = ndl.get_num_threads(), torch.get_num_threads()
    ndl.set_num_threads(1)
    torch.set_num_threads(1)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    found = []
    try:
        for name, ours, theirs in (*operations(), *networks()):
            needle, pytorch = (1e9 * s for s in seconds((ours, theirs), rounds))
            peers, targets = {"PyTorch": pytorch}, (Target("<=", TARGET),)
            found.append(Row("overhead", name, needle, "ns", peers, targets=targets))
    finally:
        ndl.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    found = rows(parser.parse_args().quick)
    print_rows(found)
    print(summary(found))


if __name__ == "__main__":
    main()
