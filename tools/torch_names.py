"""Writes `docs/pytorch-names.md`: for every public name of PyTorch whether needle has it.

python tools/torch_names.py             write the file; needs PyTorch
python tools/torch_names.py --check     exit with 1 where it is not up to date

With it `src/needle/torch_namespace.py`, PyTorch's names alone, from which errors know them.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.utils.data

import needle as ndl
from needle import data, distributions, fft, linalg, nn, optim
from needle.absent_names import reason
from needle.nn import functional, init
from needle.optim import lr_scheduler

FILE = Path(__file__).parents[1] / "docs" / "pytorch-names.md"
NAMESPACE = Path(__file__).parents[1] / "src" / "needle" / "torch_namespace.py"

# Names that both have and that do not mean the same.
DIFFERS: dict[str, dict[str, str]] = {
    "torch": {
        "argsort": "always stable",
        "equal": "element by element, as in NumPy; `x.equal(y)` is PyTorch's",
        "gru": "one layer from its arrays",
        "layer_norm": "weight and bias before eps, no shape; `F.layer_norm` is PyTorch's",
        "lstm": "one layer from its arrays",
        "manual_seed": "seeds NumPy's global generator, from which needle draws",
        "max_pool2d": "no `return_indices`; `F.max_pool2d` is PyTorch's",
        "split": "`split(x, axis)` is the course's; `split(x, size, axis)` is PyTorch's",
        "transpose": "the last two axes by default",
    },
    "torch.Tensor": {
        "backward": "replaces `.grad`; `accumulate=True` adds",
        "retain_grad": "does nothing: every Tensor keeps its gradient",
        "T": "reverses all axes, as in NumPy",
        "type": "gives the name of the dtype",
    },
    "torch.nn": {
        "BatchNorm1d": "`momentum` in the course's sense is PyTorch's; `dim` is `num_features`",
        "Conv1d": "the weight is (k, in, out)",
        "Conv2d": "the weight is (kh, kw, in, out)",
        "Conv3d": "the weight is (kd, kh, kw, in, out)",
        "Linear": "the weight is (in, out)",
        "TransformerEncoderLayer": "a mask is True where a key is visible",
        "Transformer": "the course's language model; `TransformerEncoder` and "
        "`TransformerDecoder` are PyTorch's",
        "TransformerDecoderLayer": "a mask is True where a key is visible",
    },
    "torch.optim": {
        "SGD": "momentum is m·u + (1 - m)·g unless `dampening` is given",
    },
}


def functions(x: object) -> bool:
    """Whether it is one of PyTorch's functions, written in C++ or Python."""
    return inspect.isfunction(x) or inspect.isbuiltin(x)


def names(module: object, kind: Callable[[object], bool]) -> list[str]:
    """The public names of a module or class."""
    return [n for n in dir(module) if n[0] != "_" and kind(getattr(module, n, None))]


GROUPS: dict[str, tuple[list[str], ModuleType | type]] = {
    "torch": (names(torch, functions), ndl),
    "torch.Tensor": (names(torch.Tensor, lambda x: True), ndl.Tensor),
    "torch.nn": (names(torch.nn, inspect.isclass), nn),
    "torch.nn.functional": (names(torch.nn.functional, callable), functional),
    "torch.nn.init": ([n for n in names(torch.nn.init, callable) if n.endswith("_")], init),
    "torch.optim": (names(torch.optim, inspect.isclass), optim),
    "torch.optim.lr_scheduler": (names(torch.optim.lr_scheduler, inspect.isclass), lr_scheduler),
    "torch.utils.data": (names(torch.utils.data, inspect.isclass), data),
    "torch.linalg": (names(torch.linalg, functions), linalg),
    "torch.fft": (names(torch.fft, functions), fft),
    "torch.distributions": (names(torch.distributions, inspect.isclass), distributions),
}


def page() -> Iterator[str]:
    """The lines of the file."""
    yield "# PyTorch's names in needle"
    yield ""
    version = torch.__version__.split("+")[0]
    yield f"Written by `tools/torch_names.py` from PyTorch {version}; a test checks it."
    yield "[pytorch.md](pytorch.md) shows what to write instead of what differs."
    yield ""
    yield "| group | names | same | differ | absent: not for needle | absent: not written yet |"
    yield "|---|---|---|---|---|---|"
    details: list[str] = []
    for group, (all_names, ours) in GROUPS.items():
        differs = {n: how for n, how in DIFFERS.get(group, {}).items() if n in all_names}
        absent: dict[str, list[str]] = {}
        for name in all_names:
            if not hasattr(ours, name):
                absent.setdefault(reason(group, name), []).append(name)
        missing = absent.get("not written yet", [])
        elsewhere = sum(map(len, absent.values())) - len(missing)
        same = len(all_names) - elsewhere - len(missing) - len(differs)
        yield (
            f"| [`{group}`](#{group.replace('.', '').lower()}) | {len(all_names)} | {same} | "
            f"{len(differs)} | {elsewhere} | {len(missing)} |"
        )
        details += ["", f"## {group}"]
        details += ["", "| differs | how |", "|---|---|"] if differs else []
        details += [f"| `{name}` | {how} |" for name, how in differs.items()]
        details += ["", "| absent | names |", "|---|---|"] if absent else []
        details += [
            f"| {why} | {' '.join(f'`{n}`' for n in found)} |"
            for why, found in sorted(absent.items())
        ]
    yield from details


def text() -> str:
    """The text of the file."""
    return "\n".join(page()) + "\n"


def namespace() -> str:
    """The text of the file of PyTorch's names."""
    lines = [
        '"""The public names of PyTorch\'s modules; `tools/torch_names.py` writes this file."""',
        "",
        "from __future__ import annotations",
        "",
        "NAMES: dict[str, str] = {",
    ]
    for group in GROUPS:
        if group != "torch.Tensor":
            found = " ".join(n for n in dir(importlib.import_module(group)) if n[0] != "_")
            lines.append(f'    "{group}": """')
            lines += textwrap.wrap(found, 98, break_long_words=False, break_on_hyphens=False)
            lines.append('""",')
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(FILE.read_text() != text() or NAMESPACE.read_text() != namespace())
    FILE.write_text(text())
    NAMESPACE.write_text(namespace())
