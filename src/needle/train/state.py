"""Everything that a checkpoint holds: gathered from a trainer, and given back to it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray
from ..backend_selection import cpu
from ..nn import Module
from ..random import Generator, set_states, states_of
from ..tree import map_leaves
from ..typing import Json

if TYPE_CHECKING:
    from .trainer import Trainer

AnyGenerator: TypeAlias = "Generator | np.random.Generator | np.random.RandomState"
KINDS = (Generator, np.random.Generator, np.random.RandomState)


# ---- random numbers -----------------------------------------------------------------------------


def generators_of(model: Module, objects: Mapping[str, Any], **loaders: Any) -> Json:
    """The generators that training draws from, by names that are the same in another process.

    They are those among `objects`, and the attributes of modules, of loaders and of their samplers
    and data sets.
    """
    found: dict[int, tuple[str, AnyGenerator]] = {}
    for name, value in _named(model, objects, loaders):
        if isinstance(value, KINDS):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _named(
    model: Module, objects: Mapping[str, Any], loaders: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for name, value in objects.items():
        yield f"state.{name}", value
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            yield f"model.{path}.{name}", value
    for name, loader in loaders.items():
        yield from _of_loader(name, loader, 3)


def _of_loader(path: str, loader: Any, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in getattr(loader, "__dict__", {}).items():
        yield f"{path}.{name}", value
        if depth and name in ("sampler", "batch_sampler", "dataset"):
            yield from _of_loader(f"{path}.{name}", value, depth - 1)


def random_states(generators: Mapping[str, Any]) -> Json:
    """Where the generators are, and those of NumPy and Python that belong to the process."""
    return {
        "numpy": np.random.get_state(legacy=False),
        "python": random.getstate(),
        "generators": states_of(generators),
    }


def storable(states: Json) -> Json:
    """Random states for a file: the hundreds of numbers of Python's generator as an array."""
    version, words, normal = states["python"]
    return {**states, "python": (version, np.array(words, np.uint32), normal)}


def set_random_states(states: Json, generators: Mapping[str, Any]) -> None:
    """Go on from `random_states`; a generator that is not in them stays where it is."""
    np.random.set_state(states["numpy"])
    version, words, normal = states["python"]
    random.setstate((version, tuple(int(word) for word in words), normal))
    set_states(generators, states["generators"])


# ---- the whole state ----------------------------------------------------------------------------


def gather(trainer: Trainer) -> Json:
    """The state of a trainer between two steps, as copies that nothing else changes."""
    objects = {
        name: value.state_dict()
        for name, value in trainer.objects.items()
        if not isinstance(value, KINDS)
    }
    state = {
        "config": trainer.config,
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "kinds": _kinds(trainer),
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "scaler": None if trainer.scaler is None else trainer.scaler.state_dict(),
        "callbacks": dict(zip(_names(trainer.callbacks), _states(trainer.callbacks), strict=True)),
        "objects": objects,
        "data": trainer.data_state(),
        "random": storable(random_states(trainer.generators)),
        "progress": trainer.progress.state_dict(),
        "metrics": trainer.metrics_state(),
        "history": {"rows": len(trainer.history.rows)},
    }
    copied: Json = copy(state)
    return copied


def restore(trainer: Trainer, state: Json) -> None:
    """Give a trainer the state of another; the position in the data and random numbers come later.

    Raises ValueError where the model, the optimizer or the callbacks are others; what differs is
    listed. Nothing has been changed then.
    """
    _check_model(trainer.model, state["model"])
    _check_presence("schedule", trainer.schedule, state)
    _check_presence("scaler", trainer.scaler, state)
    _check_kinds(trainer, state)
    missing = [name for name in trainer.objects if _is_missing(name, trainer, state)]
    if missing:
        raise ValueError(f"[resume] the checkpoint has no state of {', '.join(missing)}")
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.model.load_state_dict(state["model"])
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(state["schedule"])
        # Some schedules set the rate as they load; the optimizer's own is the one that was used.
        trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.scaler is not None:
        trainer.scaler.load_state_dict(state["scaler"])
    for name, callback in zip(_names(trainer.callbacks), trainer.callbacks, strict=True):
        if name in state["callbacks"]:
            callback.load_state_dict(state["callbacks"][name])
    for name, value in trainer.objects.items():
        if not isinstance(value, KINDS):
            value.load_state_dict(state["objects"][name])
    trainer.progress.load_state_dict(state["progress"])


def _is_missing(name: str, trainer: Trainer, state: Json) -> bool:
    if isinstance(trainer.objects[name], KINDS):
        return f"state.{name}" not in state["random"]["generators"]
    return name not in state["objects"]


def _check_presence(name: str, value: object, state: Json) -> None:
    if (value is None) != (state[name] is None):
        was, now = ("no", "a") if state[name] is None else ("a", "no")
        raise ValueError(
            f"[resume] the checkpoint is of a run with {was} {name}, this trainer has {now} {name}"
        )


def _kinds(trainer: Trainer) -> Json:
    """The classes whose states only they understand."""
    return {
        "optimizer": type(trainer.optimizer).__name__, "schedule": type(trainer.schedule).__name__
    }  # fmt: skip


def _check_kinds(trainer: Trainer, state: Json) -> None:
    own = _kinds(trainer)
    for name, saved in state.get("kinds", own).items():  # older files have none
        if saved != own[name]:
            raise ValueError(
                f"[resume] the {name} is another one: {saved} in the checkpoint, here {own[name]}"
            )


def _check_model(model: Module, saved: Mapping[str, Any]) -> None:
    """Raises ValueError, which lists all differences, unless the model is the saved one."""
    own = model.state_dict()
    problems = [f"{name} is missing in the checkpoint" for name in own if name not in saved]
    problems += [f"{name} is unexpected: the model has none" for name in saved if name not in own]
    problems += [
        f"{name} has shape {saved[name].shape} in the checkpoint and {value.shape} in the model"
        for name, value in own.items()
        if name in saved and tuple(saved[name].shape) != tuple(value.shape)
    ]
    if problems:
        raise ValueError(f"[resume] the model is another one: {'; '.join(problems)}")


def _names(callbacks: Iterable[object]) -> list[str]:
    """Class names, numbered where there are several of one."""
    names: list[str] = []
    for callback in callbacks:
        name, number = type(callback).__name__, 1
        while (numbered := name if number == 1 else f"{name}-{number}") in names:
            number += 1
        names.append(numbered)
    return names


def _states(callbacks: Iterable[Any]) -> list[Any]:
    return [callback.state_dict() for callback in callbacks]


def copy(tree: Any) -> Any:
    """The same nesting with Tensors and arrays of its own, in the host's memory."""
    return map_leaves(_copied, tree)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        data = NDArray(value.realize_cached_data(), device=cpu())
        return type(value).make_const(data, requires_grad=value.requires_grad)
    return value.copy() if isinstance(value, np.ndarray) else value
