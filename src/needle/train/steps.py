"""The steps of training and of measuring, as compiled programs.

A step returns one vector (1 + k,), the loss and the statistics of the metrics. Nobody waits for it:
`Sums` reads the vectors of many steps at once, when a row of measurements is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from typing import Any

import numpy as np

from .. import nn, optim
from ..amp import GradScaler, autocast
from ..autograd import Tensor, no_grad
from ..backend_selection import Device
from ..given import type_name
from ..jit import Cost, jit
from ..ops import concatenate, stack
from ..tree import map_leaves, tensors
from ..typing import Json, Shape
from .metrics import Metric

Loss = Callable[[Any, Any], Tensor]
Metrics = Mapping[str, Metric]
MOST_PENDING = 256  # steps whose statistics are not read yet


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """The model's output: a tuple holds its arguments, a dict those with names."""
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def split(batch: Any, device: Device | None, what: str) -> tuple[Any, Any]:
    """(inputs, target) of a batch, on the device. Raises TypeError for what is no such pair."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"[{what}] a batch must be (inputs, target), got a {type(batch).__name__}{size}"
        )
    inputs, target = batch
    if isinstance(inputs, list):
        inputs = tuple(inputs)
    if device is not None:
        inputs, target = map_leaves(lambda x: _on(x, device), (inputs, target))
    return inputs, target


def _on(x: Any, device: Device) -> Any:
    return x.to(device) if isinstance(x, Tensor) else x


def samples_of(inputs: Any, target: Any) -> int:
    """How many samples a batch has: the length of its targets, or else of its inputs."""
    for x in (target, inputs):
        for leaf in (x,) if isinstance(x, (Tensor, np.ndarray)) else tensors(x):
            if leaf.shape:
                return int(leaf.shape[0])
    return 1


class Sums:
    """The sums of what steps return, as exact as float64: the loss by samples, and statistics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shapes: dict[str, Shape] = {}
        self._pending: list[tuple[int, Tensor]] = []
        self.last: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._pending.clear()
        self.samples = 0
        self._totals: np.ndarray | None = None

    def note_shapes(self, statistics: Mapping[str, Tensor]) -> None:
        """Keep the shapes of the metrics' statistics; called when a step is traced."""
        self._shapes = {name: x.shape for name, x in statistics.items()}

    def add(self, samples: int, vector: Tensor) -> None:
        """Count what a step has returned. Its values are read later."""
        self.last = vector
        self.samples += samples
        self._pending.append((samples, vector))
        if len(self._pending) >= MOST_PENDING:  # the older half: the device has passed it
            self._read(MOST_PENDING // 2)

    def _read(self, count: int) -> None:
        read, self._pending = self._pending[:count], self._pending[count:]
        if not read:
            return
        vectors = [vector for _, vector in read]
        on_host = vectors[0].device.type == "cpu"
        host = [v.numpy() for v in vectors] if on_host else np.asarray(stack(vectors))
        found = np.array(host, np.float64)
        found[:, 0] *= [samples for samples, _ in read]
        if self._totals is not None:
            found = np.concatenate([self._totals[np.newaxis], found])
        # One after the other, so that the sums do not depend on how many are read at a time.
        self._totals = np.add.accumulate(found)[-1]

    def results(self) -> dict[str, float | np.ndarray]:
        """The mean loss and the metrics; empty where nothing was counted. Waits for the device."""
        self._read(len(self._pending))
        if not self.samples or self._totals is None:
            return {}
        found: dict[str, float | np.ndarray] = {"loss": float(self._totals[0] / self.samples)}
        start = 1
        for name, metric in self._metrics.items():
            shape = self._shapes[name]
            part = self._totals[start : start + prod(shape)].reshape(shape)
            start += prod(shape)
            value = metric.result(part)
            found[name] = float(value) if np.ndim(value) == 0 else np.asarray(value)
        return found

    def state_dict(self) -> Json:
        """The sums so far."""
        self._read(len(self._pending))
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"samples": self.samples, "totals": self._totals, "shapes": shapes}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`; sums of other metrics are left out."""
        self.reset()
        if set(state["shapes"]) == set(self._metrics):
            self.samples = int(state["samples"])
            self._totals = None if state["totals"] is None else np.asarray(state["totals"])
            self._shapes = {name: tuple(shape) for name, shape in state["shapes"].items()}


class TrainingStep:
    """Forward pass, backward pass and update of a model with its optimizer.

    Where nothing comes between them they are one program. With `accumulate` above 1 the update is a
    program of its own. With float16 the update runs op by op, because whether there is one depends
    on the gradients' values: the scaler reads them. Profiles show the programs under their names.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        loss: Loss,
        sums: Sums,
        metrics: Metrics,
        *,
        amp: str | None,
        scaler: GradScaler | None,
        accumulate: int,
        clip: float | None,
        compiled: bool,
        on_gradients: Sequence[Callable[[], object]] = (),
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.sums, self.metrics = sums, metrics
        self.amp, self.scaler, self.clip = amp, scaler, clip
        self.accumulate, self.on_gradients = accumulate, tuple(on_gradients)
        self.is_whole = accumulate == 1 and scaler is None
        wrap = jit if compiled else _as_it_is
        self._backward = wrap(self.step if self.is_whole else self.forward_and_backward)
        self._apply = wrap(self.optimizer_step) if scaler is None else self.scaled_optimizer_step

    def __call__(self, inputs: Any, target: Any) -> Tensor:
        """Add a batch's gradients, and where the step is whole update the model with them."""
        vector: Tensor = self._backward(inputs, target)
        return vector

    def cost(self) -> Cost | None:
        """The work of the program of the last batch; None where there is none."""
        cost: Callable[[], Cost] | None = getattr(self._backward, "cost", None)
        try:
            return None if cost is None else cost()
        except RuntimeError:  # it runs eagerly: there is no compiler, say
            return None

    def begin(self) -> None:
        """Forget the batches of a step that an error has ended."""
        self.optimizer.reset_grad()

    def update(self, batches: int) -> None:
        """Update the model with the mean of the gradients of some batches."""
        if not self.is_whole:
            self._apply(batches)

    def step(self, inputs: Any, target: Any) -> Tensor:
        """The whole step as one program."""
        self.optimizer.reset_grad()
        vector = self.forward_and_backward(inputs, target)
        self.optimizer_step(1)
        return vector

    def forward_and_backward(self, inputs: Any, target: Any) -> Tensor:
        """Add a batch's gradients; returns its loss and statistics."""
        with autocast(self.amp) if self.amp else nullcontext():
            output = call(self.model, inputs)
            loss = self.loss(output, target)
        vector = vector_of(loss, output, target, self.metrics, self.sums)
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward(accumulate=self.accumulate > 1)
        return vector

    def optimizer_step(self, batches: int) -> None:
        """Update the model with the gradients."""
        self._scale_down(batches)
        self._show_gradients()
        if self.clip is not None:
            optim.clip_grad_norm(self.optimizer.params, self.clip)
        self.optimizer.step()
        if not self.is_whole:
            self.optimizer.reset_grad()

    def scaled_optimizer_step(self, batches: int) -> None:
        """Update the model with the gradients of a scaled loss, unless they are not finite."""
        assert self.scaler is not None
        self.scaler.unscale_(self.optimizer)
        self._scale_down(batches)
        self._show_gradients()
        if self.clip is not None:
            optim.clip_grad_norm(self.optimizer.params, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.reset_grad()

    def _show_gradients(self) -> None:
        for look in self.on_gradients:
            look()

    def _scale_down(self, batches: int) -> None:
        """Make sums of gradients their means."""
        if batches == 1:
            return
        for p in self.optimizer.params:
            if p.grad is not None:
                p.grad = Tensor.make_const(p.grad.realize_cached_data() * (1.0 / batches))


class ClosureStep(TrainingStep):
    """The step of an optimizer that asks for the loss several times, as LBFGS; not compiled."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "compiled": False})
        self.is_whole = False
        self._batches: list[tuple[Any, Any]] = []

    def __call__(self, inputs: Any, target: Any) -> Tensor:
        """Keep a batch for the update; returns its loss and statistics."""
        self._batches.append((inputs, target))
        with no_grad(), autocast(self.amp) if self.amp else nullcontext():
            output = call(self.model, inputs)
            loss = self.loss(output, target)
        return vector_of(loss, output, target, self.metrics, self.sums)

    def begin(self) -> None:
        """Forget the batches of a step that an error has ended."""
        super().begin()
        self._batches.clear()

    def update(self, batches: int) -> None:
        """Update the model so that the mean loss of the batches falls."""

        def closure() -> Tensor:
            self.optimizer.reset_grad()
            losses = [self.loss(call(self.model, x), y) for x, y in self._batches]
            loss = sum(losses[1:], losses[0]) / len(losses)
            loss.backward()
            return loss

        self.optimizer.step(closure)
        self._batches.clear()


def make_measure(
    model: Callable[..., Any],
    loss: Loss,
    sums: Sums,
    metrics: Metrics,
    amp: str | None,
    compiled: bool,
) -> Callable[[Any, Any], Tensor]:
    """A function of a batch that returns its loss and statistics, and records nothing."""

    def evaluation_step(inputs: Any, target: Any) -> Tensor:
        with no_grad():
            with autocast(amp) if amp else nullcontext():
                output = call(model, inputs)
                found = loss(output, target)
            return vector_of(found, output, target, metrics, sums)

    return jit(evaluation_step) if compiled else evaluation_step


def make_forward(
    model: Callable[..., Any], amp: str | None, compiled: bool
) -> Callable[[Any], Any]:
    """A function of inputs that returns the outputs, and records nothing."""

    def prediction_step(inputs: Any) -> Any:
        with no_grad(), autocast(amp) if amp else nullcontext():
            return call(model, inputs)

    return jit(prediction_step) if compiled else prediction_step


@no_grad()
def vector_of(loss: Tensor, output: Any, target: Any, metrics: Metrics, sums: Sums) -> Tensor:
    """The loss and the statistics in one vector, float32. Raises ValueError for no scalar loss."""
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"[Trainer] loss must return a Tensor with one number, got {type_name(loss)}"
        )
    if loss.size != 1:
        raise ValueError(
            f"[Trainer] loss must return a Tensor with one number, got one of shape {loss.shape}"
        )
    statistics = {name: metric.statistics(output, target) for name, metric in metrics.items()}
    sums.note_shapes(statistics)
    values: Iterable[Tensor] = [loss, *statistics.values()]
    parts = [x.detach().reshape((x.size,)).astype("float32") for x in values]
    return parts[0] if len(parts) == 1 else concatenate(parts)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
