"""A training step of a case by needle and by each of its peers, as a function that gives the loss.

Every builder takes a fresh `Case` and prepares everything but the step: data is where the library
wants it before the first call, and a call ends when the loss is a Python float.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from cases import Case
from harness import Step, jax_or_none, torch_or_none

import needle as ndl
from needle import optim


def needle_step(case: Case, jit: bool = False) -> Step:
    """Eager needle, or the whole step compiled by `ndl.jit`."""
    step = needle_training(case, jit)
    return lambda: step().item()


def needle_training(
    case: Case, jit: bool = False, device: ndl.Device | None = None, cast: str | None = None
) -> Callable[[], ndl.Tensor]:
    """The step on a device, its forward pass under autocast to `cast`; gives the loss unread."""
    if device is not None:
        case.model.to(device)
    optimizer = getattr(optim, case.optimizer)(case.model.parameters(), **case.options)
    logits = case.logits

    def train_step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        with ndl.amp.autocast(cast) if cast else nullcontext():  # type: ignore[attr-defined]
            loss = ndl.cross_entropy(logits(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    compiled = ndl.jit(train_step) if jit else train_step  # type: ignore[attr-defined]
    x, y = (ndl.Tensor(array, device=device, requires_grad=False) for array in (case.x, case.y))
    return lambda: compiled(x, y)


def torch_step(
    case: Case, mode: str | None = None, channels_last: bool = False, fused: bool | None = None
) -> Step:
    """Eager PyTorch, or with forward, loss, backward and update compiled in that mode.

    `fused` asks for the optimizer's hand-written kernel. torch.compile leaves `nn.LSTM` eager (a
    graph break) and compiles what is around it.
    """
    step = torch_training(case, mode, channels_last, fused)
    return lambda: step().item()


def torch_training(
    case: Case, mode: str | None = None, channels_last: bool = False, fused: bool | None = None,
    device: str = "cpu", cast: str | None = None,
) -> Callable[[], Any]:  # fmt: skip
    """As `torch_step`, on a device, under autocast to `cast`; gives the loss unread."""
    import torch_networks

    torch: Any = torch_or_none()
    network = getattr(torch_networks, case.network)(**case.sizes)
    torch_networks.copy_weights(case.model.parameters(), network)
    network = network.to(device)
    x, y = (torch.from_numpy(array).to(device) for array in (case.x, case.y))
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    make_optimizer = getattr(torch.optim, case.optimizer)
    optimizer = make_optimizer(network.parameters(), fused=fused, **case.options)

    def loss_of(x: Any, y: Any) -> Any:
        dtype = getattr(torch, cast or "float32")
        with torch.autocast(device, dtype, enabled=cast is not None):
            return torch.nn.functional.cross_entropy(network(x), y)

    def update() -> None:
        optimizer.step()

    if mode:
        loss_of, update = torch.compile(loss_of, mode=mode), torch.compile(update, mode=mode)

    def step() -> Any:
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        update()
        return loss

    return step


def jax_step(case: Case) -> Step:
    """The step as one function under `jax.jit`, to which the weights and moments are donated."""
    jax: Any = jax_or_none()
    import jax_networks

    jnp, network = jax.numpy, getattr(jax_networks, case.network)(**case.sizes)
    optimizer, options = case.optimizer, case.options  # the step does not keep the case's model

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        statistics: list[Any] = []
        logits = network(iter(weights), x, statistics)
        hot = jax.nn.one_hot(y, logits.shape[1])  # no scatter in the gradient: faster
        return -(hot * jax.nn.log_softmax(logits)).sum(1).mean(), statistics

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: Any, x: Any, y: Any) -> Any:
        weights, moments, running = state
        (loss, found), grads = jax.value_and_grad(loss_of, has_aux=True)(weights, x, y)
        weights, moments = jax_networks.update(optimizer, options, weights, grads, moments)
        running = [0.9 * old + 0.1 * new for old, new in zip(running, found, strict=True)]
        return loss, (weights, moments, running)

    weights, running = (
        [jnp.array(t.numpy()) for t in tensors]
        for tensors in (case.model.parameters(), case.model.buffers())
    )
    state = weights, jax_networks.initial_state(case.optimizer, weights), running
    x = jnp.array(case.x.transpose(0, 2, 3, 1) if case.x.ndim == 4 else case.x)
    y = jnp.array(case.y)

    def step() -> float:
        nonlocal state
        loss, state = train_step(state, x, y)
        return float(loss)

    return step


# Steps by the names under which the report shows them, and what their processes import first.
CONTENDERS: dict[str, Callable[[Case], Step]] = {
    "needle jit": partial(needle_step, jit=True),
    "needle eager": needle_step,
    "PyTorch": partial(torch_step, fused=True),
    "PyTorch, channels last": partial(torch_step, fused=True, channels_last=True),
    "torch.compile": partial(torch_step, mode="default"),
    "JAX": jax_step,
}
IMPORTS = {
    who: {"n": ["needle"], "J": ["jax.numpy", "jax_networks"]}.get(who[0], ["torch_networks"])
    for who in CONTENDERS
}
