"""A model over batches in eval mode: measured, or asked for its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..backend_selection import Device
from ..given import type_name
from .loaders import Batches
from .steps import Sums, samples_of, split


def measure_batches(
    model: nn.Module,
    measure: Callable[[Any, Any], Tensor],
    sums: Sums,
    batches: Batches,
    device: Device | None,
) -> dict[str, float | np.ndarray]:
    """The mean loss and the metrics. `measure` gives a batch's loss and statistics."""
    sums.reset()
    with eval_mode(model):
        for batch in batches:
            inputs, target = split(batch, device, "evaluate")
            sums.add(samples_of(inputs, target), measure(inputs, target))
    found = sums.results()
    if not found:
        raise ValueError("[evaluate] batches gave no batch")
    return found


def predict_batches(
    model: nn.Module, forward: Callable[[Any], Any], batches: Batches, device: Device | None
) -> np.ndarray:
    """The outputs of all batches, one after the other."""
    outputs = []
    with eval_mode(model):
        for batch in batches:
            is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
            inputs, _ = split(batch if is_pair else (batch, None), device, "predict")
            output = forward(inputs)
            if not isinstance(output, Tensor) or not output.shape:
                kind = "a number" if isinstance(output, Tensor) else type_name(output)
                raise TypeError(
                    f"[predict] the model must return one Tensor with a row a sample, got {kind}"
                )
            outputs.append(np.asarray(output))
    if not outputs:
        raise ValueError("[predict] batches gave no batch")
    return np.concatenate(outputs)


@contextmanager
def own_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in the mode, train or eval, that it was in before."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """A context in which the model is in eval mode."""
    with own_modes(model):
        model.eval()
        yield
