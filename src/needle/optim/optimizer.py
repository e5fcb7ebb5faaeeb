"""Optimizer: what SGD, Adam and the others share.

Parameters lie in groups with hyperparameters of their own. `step` checks everything first, then
hands each group's parameters of one dtype, device and age to `_update` as one `Batch`, so that a
device with a fused kernel updates all of them in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np

from .. import autograd
from ..autograd import Tensor, unwatched
from ..backend_ndarray import HostNumber, NDArray, is_float, widened
from ..differences import tell
from ..given import is_of_torch, shown, type_name
from ..typing import Shape
from .groups import ParameterGroup, beta_options

# The options of parameters and the parameters; what is kept of a parameter between steps.
Group: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]
Saved: TypeAlias = Mapping[str, Any]
# The parameters, or groups of them with options of their own.
Params: TypeAlias = Iterable[Tensor | Mapping[str, Any]]


@dataclass
class Batch:
    """Parameters that are updated together, in parallel lists; their arrays are compact, and
    float32 (as is what is remembered of them) where the parameters are float16 or bfloat16.

    `step` counts their updates, this one included. `states` holds what the optimizer remembers of
    each parameter. `is_traced` tells that calls of a compiled function find the moments there, and
    make none.
    """

    step: int
    is_traced: bool = False
    params: list[Tensor] = field(default_factory=list)
    data: list[NDArray] = field(default_factory=list)
    grads: list[NDArray] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def fused(self, name: str) -> Callable[..., Any] | None:
        """The device's kernel of that name for whole lists of parameters, or None."""
        return self.data[0]._device.fused(name)

    def outputs(self) -> list[NDArray]:
        """Uninitialized arrays for the new data."""
        return [NDArray._empty(x._shape, x._device, x._dtype) for x in self.data]

    def moments(self, name: str, initial: float = 0.0, shape: Shape | None = None) -> list[NDArray]:
        """The state of that name of each parameter, filled with `initial` when it is new.

        Its shape is the parameter's where none is given.
        """
        found = []
        for data, state in zip(self.data, self.states, strict=True):
            tensor = state.get(name)
            if tensor is None:
                with autograd.untraced() if self.is_traced else nullcontext():
                    like = data._shape if shape is None else shape
                    fresh = data._device.full(like, initial, data._dtype)
                tensor = state[name] = Tensor.make_const(fresh)
            found.append(tensor.realize_cached_data())
        return found

    def part(self, index: int) -> Batch:
        """One of the parameters as a batch of its own."""
        return Batch(
            self.step, self.is_traced, [self.params[index]], [self.data[index]],
            [self.grads[index]], [self.states[index]],
        )  # fmt: skip

    def count(self) -> int:
        """Note one more update of each parameter; returns how many there have been."""
        self._add_steps(1)
        autograd.log_undo(lambda: self._add_steps(-1))
        step: int = self.states[0]["step"]
        return step

    def _add_steps(self, number: int) -> None:
        for state in self.states:
            state["step"] += number

    def set_moments(self, name: str, values: list[NDArray]) -> None:
        """Replace the state of that name of each parameter."""
        for state, value in zip(self.states, values, strict=True):
            state[name]._replace_data(value)


def hyperparameter(name: str) -> Any:
    """A property that reads the first group's value and sets every group's."""

    def get(self: Optimizer) -> Any:
        tracer = self._tracer()
        if tracer is None or name == "lr":
            return self.param_groups[0][name]
        group = unwatched(self, "param_groups")[0]  # the learning rate beside it is no guard
        tracer.guard_items(group, (name,))
        return group[name]

    def set_all(self: Optimizer, value: Any) -> None:
        checked = self._checked({**self.param_groups[0], name: value})[name]
        for group in self.param_groups:
            group[name] = checked

    return property(get, set_all, doc=f"`{name}` of the parameter groups; setting it sets all.")


def refuse_differentiable(owner: str, differentiable: bool) -> None:
    """Raises ValueError where a step is to be differentiated."""
    if differentiable:
        raise ValueError(
            f"[{owner}] differentiable=True is not supported: write the step as a function of "
            "Tensors and differentiate that"
        )


DEFAULT_LR = 0.01  # of SGD, Adam and AdamW, as in the course


@autograd.watched
class Optimizer:
    """Base class of optimizers, which update parameters from their gradients.

    A subclass passes its hyperparameters to `__init__` and defines `_update`, or `step` itself.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    **defaults : object
        The hyperparameters of the groups that do not set their own.

    Attributes
    ----------
    params : list of Tensor
        All parameters.
    param_groups : list of dict
        The groups, each with "params" and its hyperparameters.
    state : dict
        What the optimizer remembers of each parameter, such as moments.

    Raises
    ------
    TypeError
        If a parameter is not a floating-point Tensor.
    ValueError
        If there are no parameters or one is in two groups.

    Examples
    --------
    >>> import needle as ndl
    >>> v, w = ndl.nn.Parameter([1.0]), ndl.nn.Parameter([2.0])
    >>> groups = [{"params": [v], "lr": 0.5}, {"params": [w]}]
    >>> optimizer = ndl.optim.SGD(groups, lr=0.25)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.5, 0.25]
    """

    # The interval that each numeric hyperparameter must lie in, such as "[0, 1)".
    _ranges: ClassVar[Mapping[str, str]] = {}

    lr = hyperparameter("lr")

    def __init__(self, params: Params, **defaults: object) -> None:
        self._name = type(self).__name__
        self._assumes_lr = "lr" in defaults and defaults["lr"] is None
        if self._assumes_lr:
            defaults["lr"] = DEFAULT_LR
        self._defaults = defaults
        # Options that schedules change: a compiled step reads them at every call.
        self._varied = {"lr"}
        self.params: list[Tensor] = []
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(
                f"[{self._name}] params must be an iterable of Tensors or of dicts, "
                f"got a {type_name(params)}: write {_params_instead(params)}"
            )
        entries = list(params)
        if not entries:
            raise ValueError(
                f"[{self._name}] params is empty: there is nothing to optimize. A module finds "
                "nn.Parameters, not plain Tensors; an iterator is empty after its first use"
            )
        if isinstance(entries[0], Mapping):
            for group in entries:
                self.add_param_group(cast(Saved, group))
        else:
            self.add_param_group({"params": entries})

    @property
    def defaults(self) -> dict[str, Any]:
        """The hyperparameters of a parameter group that is given none."""
        return self._checked(dict(self._defaults))

    def add_param_group(self, group: Saved) -> None:
        """Add a group of parameters with hyperparameters of its own.

        Parameters
        ----------
        group : dict
            The list "params", and hyperparameters; the optimizer's defaults stand for those it
            lacks.

        Raises
        ------
        TypeError
            If `group` is not a dict with "params" or a parameter is not a floating-point Tensor.
        ValueError
            If a hyperparameter is unknown or out of range or a parameter is in another group.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"[{self._name}] a parameter group must be a dict with 'params'")
        group = dict(group)
        if "betas" in group and "beta1" in self._defaults:
            group.update(beta_options(group.pop("betas")))
        unknown = sorted(group.keys() - self._defaults.keys() - {"params"})
        if unknown:
            raise ValueError(
                f"[{self._name}] a parameter group has unknown options {unknown}; "
                f"known are {sorted(self._defaults)}"
            )
        options = self._checked({**self._defaults, **group})
        members = group["params"]
        options["params"] = self._unique([members] if isinstance(members, Tensor) else members)
        self.param_groups.append(ParameterGroup(options))
        self.params.extend(options["params"])

    def _unique(self, members: Iterable[object]) -> list[Tensor]:
        """The group's members, each once, checked."""
        elsewhere = {id(p) for p in self.params}
        params: dict[int, Tensor] = {}
        for p in members:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"[{self._name}] params must be Tensors, got {type_name(p)}{_member_instead(p)}"
                )
            if p.op is not None:
                raise ValueError(
                    f"[{self._name}] params must be leaves, got a Tensor of shape {p.shape} that "
                    "was computed; write nn.Parameter(x) for a leaf with its values"
                )
            if not is_float(p.dtype):
                raise TypeError(f"[{self._name}] params must be floating-point, got {p.dtype}")
            if id(p) in elsewhere:
                raise ValueError(
                    f"[{self._name}] a parameter of shape {p.shape} is in two parameter groups"
                )
            params[id(p)] = p
        return list(params.values())

    def _checked(self, options: Group) -> Group:
        """`options` with the values in range. Raises TypeError or ValueError that names one."""
        checked = dict(options)
        for name, interval in self._ranges.items():
            if name == "lr" and isinstance(options[name], HostNumber):
                continue  # known at every call of a compiled function
            checked[name] = _in_range(self._name, name, options[name], interval)
        return checked

    # ---- one step -------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient. The gradients keep their values.

        Parameters
        ----------
        closure : callable, optional
            Is called first: it clears the gradients, computes the loss and calls `backward`.

        Returns
        -------
        Tensor or None
            What the closure returned.

        Raises
        ------
        TypeError
            If a gradient is not a Tensor.
        ValueError
            If a gradient or a stored moment does not fit its parameter. Nothing has been updated
            then.
        """
        loss = None
        if closure is not None:
            with autograd.enable_grad():
                loss = closure()
        autograd.tell_of_lost(self._name, unwatched(self, "params"))
        groups = unwatched(self, "param_groups")  # learning rates are no guards, see `_guard`
        work = [(group, batch) for group in groups for batch in self._batches(group)]
        tracer = self._tracer()
        for group, batch in work:
            options = group if tracer is None else self._traced(batch, group, tracer)
            for p, data in zip(batch.params, self._update(batch, options), strict=True):
                p._replace_data(data.astype(p.dtype))
                p.grad._drop_graph()
            if tracer is None:
                batch.count()
        if tracer is not None:
            self._guard(tracer)
        return loss

    def _tracer(self) -> autograd.Tracer | None:
        """The trace whose calls all have this optimizer, and go on with its state."""
        tracer = autograd.current_trace()
        return None if tracer is None or tracer.has_made(self) else tracer

    def _guard(self, tracer: autograd.Tracer) -> None:
        """A compiled step is for these parameters, options and moments; it reads learning rates
        and counts of steps at every call."""
        attributes = unwatched(self, "__dict__")
        tracer.guard_items(attributes, ("param_groups", "state"))
        groups, states = attributes["param_groups"], attributes["state"]
        tracer.guard_contents(groups)
        for group in groups:
            tracer.guard_items(group, group.keys() - unwatched(self, "_varied"))
            tracer.guard_contents(group["params"])
        tracer.guard_contents(states)
        for state in states.values():
            tracer.guard_items(state, state.keys() - {"step"})

    def _traced(self, batch: Batch, group: Group, tracer: autograd.Tracer) -> Group:
        """The group for a trace: varied options and the count of steps are new at every call."""
        batch.step = tracer.host_number(batch.count)  # type: ignore[assignment]
        # An option that the function sets comes to it after the host's numbers.
        varied = [n for n in unwatched(self, "_varied") if not tracer.is_set(group, n)]
        now = {name: tracer.host_number(partial(group.__getitem__, name)) for name in varied}
        return {**group, **now}

    # ---- the momentum as schedules cycle it ------------------------------------------------------

    def _momentum_option(self) -> str | None:
        """The option that is the momentum, or None."""
        return next((name for name in ("beta1", "momentum") if name in self._defaults), None)

    def _vary_momentum(self, schedule: str) -> None:
        """Prepare for a schedule of the momentum. Raises ValueError where there is none."""
        option = self._momentum_option()
        if option is None:
            raise ValueError(
                f"[{schedule}] {self._name} has no momentum to cycle: pass cycle_momentum=False"
            )
        self._varied.add(option)

    def _momenta(self) -> list[float] | None:
        option = self._momentum_option()
        return None if option is None else [group[option] for group in self.param_groups]

    def _set_momenta(self, momenta: list[float]) -> None:
        option = self._momentum_option()
        if option is not None:
            for group, momentum in zip(self.param_groups, momenta, strict=True):
                group[option] = momentum

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        """The new data of the batch's parameters; moments are updated on the way."""
        raise NotImplementedError(f"[{self._name}] defines neither step nor _update")

    def _batches(self, group: Group) -> Iterable[Batch]:
        """The group's parameters that have a gradient, by dtype, device and age."""
        batches: dict[tuple[object, ...], Batch] = {}
        states = unwatched(self, "state")
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            data = p.realize_cached_data()
            grad = self._gradient(grad, data)
            state = states.get(p)
            if state is None:
                state = states[p] = {"step": 0}
            self._check_state(state, data)
            step = state["step"] + 1
            key = (data._dtype, data._device.name, step)
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = Batch(step, is_traced=self._tracer() is not None)
            batch.params.append(p)
            batch.data.append(data.astype(widened(data._dtype)).compact())
            batch.grads.append(-grad if group.get("maximize") else grad.compact())
            batch.states.append(state)
        return batches.values()

    def _gradient(self, gradient: object, data: NDArray) -> NDArray:
        """The data of a gradient, checked against its parameter's, in the dtype of the update."""
        if not isinstance(gradient, Tensor):
            raise TypeError(f"[{self._name}] grad must be a Tensor, got {type(gradient).__name__}")
        grad = gradient.realize_cached_data()
        if grad._shape != data._shape:
            raise ValueError(
                f"[{self._name}] a parameter of shape {data._shape} has a gradient of shape "
                f"{grad._shape}"
            )
        if grad._device is not data._device and grad._device != data._device:
            raise ValueError(
                f"[{self._name}] a parameter on {data._device} has a gradient on {grad._device}"
            )
        return grad.astype(widened(data._dtype))

    def _check_state(self, state: State, data: NDArray) -> None:
        for name, value in state.items():
            if isinstance(value, Tensor):
                kept = value.realize_cached_data()
                if (
                    kept._shape != self._state_shape(name, data._shape)
                    or kept._dtype is not widened(data._dtype)
                    or (kept._device is not data._device and kept._device != data._device)
                ):
                    raise ValueError(
                        f"[{self._name}] the state {name!r} is {kept._dtype} {kept._shape} on "
                        f"{kept._device}, but its parameter is now {data._dtype} {data._shape} on "
                        f"{data._device}; make a new optimizer after moving a model"
                    )

    def _state_shape(self, name: str, shape: Shape) -> Shape:
        """The shape of the state of that name of a parameter."""
        return shape

    def reset_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for p in self.params:
            p.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradient of every parameter to None: `reset_grad` by PyTorch's name.

        A program that uses this name is told once if it trains at a rate that it has not given, or
        with a momentum that is not PyTorch's.

        Parameters
        ----------
        set_to_none : bool, default True
            Whether to take the gradients away; otherwise they become zeros.
        """
        for difference, text in self._differences():
            tell(difference, text, stacklevel=2)
        if set_to_none:
            self.reset_grad()
            return
        for p in self.params:
            gradient = p.grad
            if gradient is not None:
                p.grad = None
                p.grad = Tensor.make_const(gradient.realize_cached_data() * 0)

    def _differences(self) -> Iterator[tuple[str, str]]:
        """What a program that knows PyTorch would not notice: a key of each, and the text."""
        groups = unwatched(self, "param_groups")  # a compiled step does not depend on this
        if unwatched(self, "_assumes_lr") and any(g["lr"] == DEFAULT_LR for g in groups):
            yield (
                "learning rate",
                f"[{self._name}] no lr was given: it is {DEFAULT_LR} here and 0.001 in PyTorch. "
                "Write the one that is meant, such as lr=0.001",
            )

    # ---- saving ---------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The hyperparameters of each group, as PyTorch prints them."""
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])

    def state_dict(self) -> State:
        """What training needs to go on: {"state": {i: {...}}, "param_groups": [...]}.

        `i` counts the parameters in the order of `params`; moments are copies, as Tensors.
        """
        position = {id(p): i for i, p in enumerate(self.params)}
        state = {position[id(p)]: _copied(s) for p, s in self.state.items()}
        groups = [
            {**group, "params": [position[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Saved) -> None:
        """Go on from a `state_dict` of an optimizer over parameters of the same shapes.

        Raises ValueError where groups, shapes or options differ; nothing is changed then.
        """
        groups = [self._checked_group(*pair) for pair in self._paired_groups(state_dict)]
        state = {
            self._param_at(i): self._loaded(self._param_at(i), int(i), entry)
            for i, entry in state_dict["state"].items()
        }
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)
        self.state = state

    def _paired_groups(self, state_dict: Saved) -> Iterator[tuple[Group, Group]]:
        if not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError(
                f"[{self._name}] a state must have 'state' and 'param_groups', "
                f"got {sorted(state_dict)}"
            )
        saved = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved]
        if sizes != saved_sizes:
            raise ValueError(
                f"[{self._name}] the state is of parameter groups of sizes {saved_sizes}, "
                f"this optimizer has {sizes}"
            )
        return zip(self.param_groups, saved, strict=True)

    def _checked_group(self, group: Group, saved: Group) -> Group:
        if "betas" in saved and "beta1" in group:
            saved = {**beta_options(saved["betas"]), **saved}
            del saved["betas"]
        unknown = sorted(saved.keys() - group.keys())
        if unknown:
            raise ValueError(f"[{self._name}] the state has unknown options {unknown}")
        options = self._checked({**group, **saved})  # an older state lacks newer options
        del options["params"]
        return options

    def _param_at(self, index: int | str) -> Tensor:
        try:
            return self.params[int(index)]
        except (ValueError, IndexError):
            raise ValueError(
                f"[{self._name}] the state names parameter {index!r} of {len(self.params)}"
            ) from None

    def _loaded(self, p: Tensor, index: int, entry: Saved) -> State:
        loaded: State = {}
        for name, value in entry.items():
            if name == "step":
                loaded[name] = int(value)
                continue
            array = value.realize_cached_data() if isinstance(value, Tensor) else np.asarray(value)
            expected = self._state_shape(name, p.shape)
            if tuple(array.shape) != expected:
                raise ValueError(
                    f"[{self._name}] the state {name!r} of parameter {index} has shape "
                    f"{tuple(array.shape)}, expected {expected}"
                )
            dtype = widened(p.dtype)  # as `Batch.moments` makes them
            loaded[name] = Tensor.make_const(NDArray(array, device=p.device, dtype=dtype))
        loaded.setdefault("step", 0)
        return loaded


def _params_instead(params: object) -> str:
    if isinstance(params, Tensor):
        return "[x]"
    if isinstance(params, Mapping):
        return "[group]"
    return "model.parameters()" if hasattr(params, "forward") else "model.parameters(), called"


def _member_instead(p: object) -> str:
    if isinstance(p, tuple):
        return ": write parameters(), not named_parameters()"
    if is_of_torch(p):
        return ": PyTorch's cannot be trained here; copy the values by nn.from_torch_state_dict"
    return ": write nn.Parameter(x)" if isinstance(p, (np.ndarray, list)) else ""


def _copied(state: Saved) -> State:
    return {
        name: Tensor.make_const(value.cached_data.copy()) if isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def _in_range(owner: str, name: str, value: object, interval: str) -> float:
    """`value` as a float inside an interval written as "[0, 1)"."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"[{owner}] {name} must be a number, got {shown(value)}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if not (above and below and math.isfinite(value)):
        raise ValueError(f"[{owner}] {name} must be in {interval}, got {value}")
    return float(value)
