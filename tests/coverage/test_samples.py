"""The sample inputs of PyTorch's own tests: results, dtypes and gradients of needle's functions.

PyTorch keeps a table of its operators with arguments for each (`op_db`). A sample that needle
refuses raises a named error and belongs to an operator of `REFUSED`, with the reason. Samples of
complex numbers, of dtypes that needle lacks and of random results are left out.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import linalg
from needle.nn import functional

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db

MOST = 24  # samples of an operator, spread over its list

DIFFERENT = {
    "equal": "element by element, as in NumPy; the method is PyTorch's",
    "split": "the course's",
    "put": "takes an index of any kind; `x[i] = y` in PyTorch",
    "where": "the sample's order of arguments is not that of the function",
    "linalg.lstsq": "residuals, ranks and singular values do not depend on the driver",
    "linalg.pinv.hermitian": "the gradient is of the triangle that is read",
    "linalg.pinv.singular": "its sample is a product that the operator makes",
    "linalg.eigh": "the sign of a vector is free",
    "linalg.svd": "the sign of a vector is free",
    "nn.functional.ctc_loss": "PyTorch's gradient takes in that of the softmax before it",
    "quantile": "the quantiles are constants",
    "linalg.norm.subgradients_at_zero": "negative orders at 0",
}
RANDOM = ("dropout", "rrelu", "rand", "normal", "bernoulli", "multinomial", "empty", "fractional",
          "uniform", "exponential", "cauchy", "geometric")  # fmt: skip
REFUSED = {
    "the axis 0 of a 0-d Tensor, outside of reductions": (
        "cumsum cumprod cummax cummin kthvalue max min median quantile aminmax softmax log_softmax "
        "nn.functional.softmin logcumsumexp sort argsort topk transpose argmax argmin "
        "gather scatter scatter_add scatter_reduce index_fill index_copy index_select index_add "
        "masked_select unique_consecutive mode nanmedian"
    ),
    "the sample calls another function than the name's": (
        "polygamma special.polygamma einsum meshgrid nn.functional.embedding "
        "nn.functional.embedding_bag nn.functional.triplet_margin_with_distance_loss"
    ),
    "lists where Tensors are arguments": "atleast_1d atleast_2d atleast_3d tensor_split",
    "sizes that are a mistake": (
        "nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.batch_norm "
        "nn.functional.multi_margin_loss nn.functional.multilabel_margin_loss cat tensordot "
        "nn.functional.conv_transpose2d nn.functional.conv_transpose3d"
    ),
    "padding by a negative amount in modes other than constant": "nn.functional.pad",
    "the nuclear norm, which is in linalg": "norm",
    "cubic interpolation and volumes": "nn.functional.grid_sample",
}
MAY_REFUSE = {name for names in REFUSED.values() for name in names.split()}


def _function(name: str) -> Any:
    for prefix, module in (
        ("nn.functional.", functional), ("linalg.", linalg), ("special.", ndl),
    ):  # fmt: skip
        if name.startswith(prefix):
            return getattr(module, name.removeprefix(prefix), None)
    found = None if "." in name or name.startswith("_") else getattr(ndl, name, None)
    return found if callable(found) else None


def _full_name(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


KINDS = (torch.float64, torch.float32, torch.int64, torch.bool)
OPS = [
    op
    for op in op_db
    if _function(op.name) is not None
    and not any(word in op.name for word in RANDOM)
    and any(kind in op.dtypes for kind in KINDS)
    and not {op.name, _full_name(op)} & DIFFERENT.keys()
]


class Unsupported(Exception):
    """A sample with a value that needle has no counterpart of."""


def _converted(value: Any, leaves: list[tuple[Any, ndl.Tensor]]) -> Any:
    if isinstance(value, torch.Tensor):
        if value.dtype in (torch.int8, torch.int16) or value.dtype.is_complex:
            raise Unsupported
        tensor = ndl.tensor(value.detach().numpy().copy(), requires_grad=value.requires_grad)
        if value.requires_grad:
            leaves.append((value, tensor))
        return tensor
    if isinstance(value, (list, tuple)):
        parts = [_converted(x, leaves) for x in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, (complex, torch.memory_format, torch.layout, torch.device)):
        raise Unsupported
    return value


def _tensors(value: Any, kind: type) -> list[Any]:
    if isinstance(value, kind):
        return [value]
    return [x for part in value for x in _tensors(part, kind)] if isinstance(value, tuple) else []


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value)


def _numbers(tensor: Any, like: Any) -> np.ndarray:
    return np.zeros(like.shape) if tensor is None else np.asarray(tensor.numpy(force=True))


def _same(ours: np.ndarray, theirs: np.ndarray, digits: float) -> bool:
    if ours.shape != theirs.shape:
        return False
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return bool(np.allclose(a, b, rtol=digits, atol=digits / 10, equal_nan=True))


def _difference(op: Any, sample: Any) -> str | None:
    """What is wrong with needle's result or gradient. Raises what needle's function raises."""
    leaves: list[tuple[Any, ndl.Tensor]] = []
    arguments = [_converted(x, leaves) for x in (sample.input, *sample.args)]
    options = {name: _converted(x, leaves) for name, x in sample.kwargs.items()}
    if options.get("dropout_p"):
        raise Unsupported
    theirs = _tensors(op(sample.input, *sample.args, **sample.kwargs), torch.Tensor)
    if not theirs or any(x.dtype.is_complex for x in theirs):
        raise Unsupported
    ours = _tensors(_function(op.name)(*arguments, **options), ndl.Tensor)
    if len(ours) != len(theirs):
        return f"{len(ours)} results instead of {len(theirs)}"
    given = [x for x in (sample.input, *sample.args, *sample.kwargs.values())
             if isinstance(x, torch.Tensor)]  # fmt: skip
    single = any(x.dtype == torch.float32 for x in given + theirs)
    digits = 1e-4 if single else 1e-7
    for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        if str(x.dtype) != str(y.dtype).removeprefix("torch."):
            return f"result {i} is {x.dtype} instead of {y.dtype}"
        if not _same(x.detach().numpy(), y.detach().numpy(), digits):
            return f"result {i} is {x} instead of {y}"
    return _gradient_difference(ours, theirs, leaves, 10 * digits)


def _gradient_difference(
    ours: list[ndl.Tensor], theirs: list[Any], leaves: list[tuple[Any, ndl.Tensor]], digits: float
) -> str | None:
    pairs = [(x, y) for x, y in zip(ours, theirs, strict=True) if y.requires_grad]
    if not pairs or not leaves:
        return None
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(y.shape) for _, y in pairs]
    seeds = [torch.tensor(w, dtype=y.dtype) for w, (_, y) in zip(weights, pairs, strict=True)]
    expected = torch.autograd.grad(
        [y for _, y in pairs], [leaf for leaf, _ in leaves], seeds, allow_unused=True
    )
    expected = [_numbers(g, leaf) for g, (leaf, _) in zip(expected, leaves, strict=True)]
    flowing = [(x, w) for (x, _), w in zip(pairs, weights, strict=True) if x.requires_grad]
    if flowing:
        loss = sum((x * ndl.tensor(w.astype(x.dtype))).sum() for x, w in flowing)
        found = ndl.autograd.grad(loss, [t for _, t in leaves], allow_unused=True)
    else:
        found = [None] * len(leaves)  # a constant, such as a number of elements
    for i, (g, (leaf, _)) in enumerate(zip(found, leaves, strict=True)):
        value = np.zeros(leaf.shape) if g is None else g.numpy()
        if not _same(value, expected[i], digits):
            return f"gradient {i} is {value} instead of {expected[i]}"
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", OPS, ids=_full_name)
def test_samples_of_pytorch(op: Any):
    kind = next(d for d in KINDS if d in op.dtypes)
    grad = op.supports_autograd and kind.is_floating_point
    samples = list(op.sample_inputs("cpu", kind, requires_grad=grad))
    refused, compared, wrong = [], 0, []
    for sample in samples[:: max(1, -(-len(samples) // MOST))]:
        call = ", ".join(
            [_shown(x) for x in (sample.input, *sample.args)]
            + [f"{name}={_shown(x)}" for name, x in sample.kwargs.items()]
        )
        try:
            difference = _difference(op, sample)
        except Unsupported:
            continue
        except (TypeError, ValueError, IndexError, NotImplementedError) as error:
            refused.append(f"{op.name}({call}): {error!r}")
            continue
        compared += 1
        if difference is not None:
            wrong.append(f"{op.name}({call}): {difference}")
    assert not wrong, "\n".join(wrong)
    assert op.name in MAY_REFUSE or not refused, "\n".join(refused)
