"""summary: what a model is made of, with the shapes that pass through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from .. import init
from ..autograd import Tensor, TensorTuple, no_grad
from ..backend_ndarray import Shape
from ..typing import DTypeLike
from .module import Module
from .module_hooks import Hook

# The shape of a result; of several results a list.
Shapes: TypeAlias = "Shape | list[Shapes | None]"


@dataclass
class SummaryRow:
    """One module: where it is, its class, the shape of its result, its own parameters' elements."""

    path: str
    kind: str
    depth: int = 0
    name: str = ""
    output_shape: Shapes | None = None
    parameters: int = 0


@dataclass
class Summary:
    """The rows of a model in the order of its tree; prints as a table."""

    rows: list[SummaryRow] = field(default_factory=list)
    total_parameters: int = 0

    def __str__(self) -> str:
        header = ("Module", "Output shape", "Parameters")
        table = [
            ("  " * row.depth + _label(row), _shown(row.output_shape), f"{row.parameters:,}")
            for row in self.rows
        ]
        total = f"{self.total_parameters:,}"
        widths = [max(len(cells[i]) for cells in [header, *table]) for i in range(3)]
        widths[2] = max(widths[2], len(total))
        rule = "─" * (sum(widths) + 4)
        lines = [_line(header, widths), rule, *[_line(cells, widths) for cells in table], rule]
        return "\n".join([*lines, _line(("Total", "", total), widths)])

    __repr__ = __str__


def summary(
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    dtype: DTypeLike | None = "float32",
) -> Summary:
    """Run `model` once on zeros and describe it: print the result to see the table.

    `input_shape` includes the batch axis; a sequence of shapes stands for several inputs. The
    model runs in evaluation mode and is left as it was; nothing is drawn or recorded. Raises
    TypeError if `model` is not a Module, and what the model raises for a shape it can't take.
    """
    if not isinstance(model, Module):
        raise TypeError(f"[summary] model must be a Module, got {type(model).__name__}")
    shapes = _as_shapes(input_shape)
    parameters = model.parameters()
    device = parameters[0].device if parameters else None
    inputs = [init.zeros(*shape, device=device, dtype=dtype) for shape in shapes]
    rows = _describe(model)
    _record_shapes(model, inputs, rows)
    return Summary(list(rows.values()), sum(p.size for p in parameters))


def _describe(model: Module) -> dict[Module, SummaryRow]:
    """The row of every module, each shared parameter counted in the first module that holds it."""
    rows: dict[Module, SummaryRow] = {}
    by_path: dict[str, SummaryRow] = {}
    for path, module in model.named_modules():
        row = SummaryRow(path, type(module).__name__)
        if path:
            owner = _owner(path, by_path)
            row.depth = owner.depth + 1
            row.name = path[len(owner.path) :].lstrip(".")
        rows[module] = by_path[path] = row
    for path, parameter in model.named_parameters():
        _owner(path, by_path).parameters += parameter.size
    return rows


def _owner(path: str, by_path: dict[str, SummaryRow]) -> SummaryRow:
    """The innermost module around `path`; lists and dicts on the way are none: "heads.0.key"."""
    while True:
        path = path.rpartition(".")[0]
        if path in by_path:
            return by_path[path]


def _record_shapes(model: Module, inputs: list[Tensor], rows: dict[Module, SummaryRow]) -> None:
    def record(module: Module, args: tuple[object, ...], result: object) -> None:
        rows[module].output_shape = _shape_of(result)

    modes = [(module, module.training) for module in rows]
    hooks: list[Hook] = []
    try:
        hooks.extend(module.register_forward_hook(record) for module in rows)
        model.eval()
        with no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode


def _as_shapes(input_shape: Sequence[int] | Sequence[Sequence[int]]) -> list[Sequence[int]]:
    if len(input_shape) > 0 and isinstance(input_shape[0], (tuple, list)):
        return list(cast(Sequence[Sequence[int]], input_shape))
    return [cast(Sequence[int], input_shape)]


def _shape_of(result: object) -> Shapes | None:
    """The shape of a Tensor, the shapes of several, None for anything else."""
    if isinstance(result, (tuple, list, TensorTuple)):
        return [_shape_of(item) for item in result]
    return result.shape if isinstance(result, Tensor) else None


def _label(row: SummaryRow) -> str:
    return f"{row.name}: {row.kind}" if row.name else row.kind


def _shown(shape: Shapes | None) -> str:
    if isinstance(shape, list):
        return ", ".join(_shown(item) for item in shape)
    return "-" if shape is None else str(shape)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"{cells[0]:<{widths[0]}}  {cells[1]:<{widths[1]}}  {cells[2]:>{widths[2]}}"
