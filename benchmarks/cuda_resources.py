"""What every kernel takes of a GPU: registers, spilled ones, shared memory. No GPU is needed.

    python benchmarks/cuda_resources.py           print what has changed since the record
    python benchmarks/cuda_resources.py --write   write the record, results/cuda_resources.json

The kernels are those of `tests/cuda/test_compile.py` for float32, and the products of bfloat16; the
numbers are the assembler's, in NVRTC's log.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from cuda.test_compile import ARCHITECTURES, everything, products, recorded, resources

from needle.backend_ndarray.device_cuda import CudaDevice, compiler
from needle.backend_ndarray.dtypes import BFLOAT16, FLOAT32

RECORD = Path(__file__).parent / "results" / "cuda_resources.json"
Resources = dict[str, dict[str, int]]  # by architecture


def names(sources: dict[str, str]) -> dict[str, str]:
    """The sources by what they do; a number tells apart those that do the same."""
    found: dict[str, str] = {}
    for source, what in sources.items():
        name = what.split(" of ")[0] + _call(source)
        same = sum(other.split(" #")[0] == name for other in found)
        found[f"{name} #{same + 1}" if same else name] = source
    return found


def _call(source: str) -> str:
    """The function of the headers that a kernel is made of, where the name does not say it."""
    calls = re.findall(r"^  (\w+(?:<[^;(]*>)?)\(", source, re.MULTILINE)
    return f": {calls[-1]}" if calls else ""


def _on_record(device: CudaDevice) -> None:
    everything(device, FLOAT32)
    products(device, BFLOAT16)


def measured(architectures: tuple[str, ...] = ARCHITECTURES) -> dict[str, Resources]:
    """The resources of all kernels, by name."""
    kernels = names(recorded(_on_record))
    return {
        name: {architecture: resources(source, architecture) for architecture in architectures}
        for name, source in kernels.items()
    }


def changes(now: dict[str, Resources], before: dict[str, Resources]) -> list[str]:
    """The differences, a line each.

    A difference of two registers is none: the compiler's choice can change from run to run.
    """
    slack = {"registers": 2}
    lines = [f"{name}: gone" for name in before if name not in now]
    for name, by_architecture in now.items():
        if name not in before:
            lines.append(f"{name}: new")
            continue
        for architecture, used in by_architecture.items():
            old = before[name].get(architecture, used)
            lines += [
                f"{name}, {architecture}: {what} {old[what]} -> {count}"
                for what, count in used.items()
                if abs(old[what] - count) > slack.get(what, 0)
            ]
    return lines


def record() -> dict[str, Any]:
    """What was written last: NVRTC's version, and the kernels' resources."""
    return json.loads(RECORD.read_text())


def main() -> None:
    """Print the changes, or write the record anew."""
    os.environ["NEEDLE_CUDA_MATMUL"] = "own"  # needle's own product is on record
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the record anew")
    options = parser.parse_args()
    now = measured()
    if RECORD.exists():
        print("\n".join(changes(now, record()["kernels"])) or "nothing has changed")
    if options.write:
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(used)}" for name, used in now.items())
        head = f'"nvrtc": {json.dumps(compiler.version())}'
        RECORD.write_text(f'{{\n {head},\n "kernels": {{\n{rows}\n }}\n}}\n')


if __name__ == "__main__":
    main()
