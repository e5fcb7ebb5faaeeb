"""How many kernels and copies are in a compiled training step on `cuda()`. No GPU is needed.

    python benchmarks/cuda_launches.py           counts of the steps of `cases.py`
    python benchmarks/cuda_launches.py gpt       what each kernel of one of them is

Small steps take as long as their kernels are many: between two of a captured graph that wait for
each other, a GPU idles for a microsecond or more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cases
import numpy as np
from cuda.test_compile import Recorder

import needle as ndl
from needle import nn, optim
from needle.backend_ndarray.device_cuda import CudaDevice
from needle.backend_ndarray.device_cuda.kernels import shapes_of
from needle.backend_ndarray.device_cuda.memory import Block
from needle.jit.frontend.trace import Tracing
from needle.jit.runtime.cuda_launcher import launch_on
from needle.jit.runtime.pipeline import planned_for
from needle.jit.schedule.target import GPU

CASES: dict[str, Callable[[], cases.Case]] = {
    "two_layer": cases.two_layer,
    "mlp_resnet": cases.mlp_resnet,
    "lstm": lambda: cases.lstm(vocabulary=100, length=8),
    "gpt": cases.gpt,
    "resnet9": lambda: cases.resnet9(batch=8),
}


class Counter(Recorder):
    """A recorder of all launches, in order, and of the number of copies.

    It remembers what is uploaded: passes look at constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self._end = 1 << 20
        self._uploaded: dict[int, bytes] = {}  # by address
        self.launches: list[tuple[str, str]] = []  # what each is for, its source
        self.copies = 0

    def launch(self, what: str, source: str, blocks: int, threads: int, parameters: Any) -> None:
        super().launch(what, source, blocks, threads, parameters)
        self.launches.append((what, source))

    def allocate(self, nbytes: int) -> Block:
        block = Block(self._end, nbytes)
        self._end += -(-nbytes // 256) * 256
        return block

    def upload(self, array: np.ndarray, address: int, non_blocking: bool = False) -> None:
        self._uploaded[address] = array.tobytes()

    def download(self, address: int, array: np.ndarray) -> None:
        data = self._uploaded.get(address, bytes(array.nbytes))
        array[...] = np.frombuffer(data, array.dtype).reshape(array.shape)

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Count a copy."""
        self.copies += bool(nbytes) and source != target


class Products:
    """Stands for cuBLASLt, which has one kernel for a product and what it does with the result."""

    def __init__(self, counter: Counter) -> None:
        self._launches = counter.launches

    def matmul(self, a: Any, b: Any, *operands: Any, **options: Any) -> bool:
        """Count a kernel."""
        self._launches.append((f"matmul of {shapes_of(a, b)}", ""))
        return True


@contextmanager
def counting(device: CudaDevice) -> Iterator[Counter]:
    """Inside, the device runs nothing: all that it would launch is counted."""
    before, counter = (device._context, device._blas), Counter()
    device._context, device._blas = counter, (counter, Products(counter))  # type: ignore
    try:
        yield counter
    finally:
        device._context, device._blas = before


def record(case: cases.Case) -> Counter:
    """What the compiled step of a case launches."""
    device = ndl.cuda()
    with counting(device) as counter:
        model = case.model.to(device)
        optimizer = getattr(optim, case.optimizer)(model.parameters(), **case.options)
        x, y = (
            ndl.Tensor(a, device=device, dtype=a.dtype, requires_grad=False)
            for a in (case.x, case.y)
        )

        def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
            loss = nn.CrossEntropyLoss()(case.logits(x), y)
            optimizer.reset_grad()
            loss.backward()
            optimizer.step()
            return loss

        graph = Tracing().run(step, (x, y), {}, [x, y]).graph
        planned = planned_for(graph, GPU)
        counter.launches.clear()
        counter.copies = 0
        counter.watch = 8  # as inside of a program
        launch_on(planned, device)
    return counter


def main(names: Sequence[str]) -> None:
    """Print the counts of all cases, or the kernels of some."""
    for name in names or CASES:
        counter = record(CASES[name]())
        print(f"{name}: {len(counter.launches)} kernels, {counter.copies} copies")
        if names:
            print("\n".join(what for what, _ in counter.launches))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}")
    main(parser.parse_args().cases)
