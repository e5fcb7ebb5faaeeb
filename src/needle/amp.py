"""Mixed precision: products in bfloat16 or float16, all else in float32.

    with ndl.autocast("cpu", dtype=ndl.bfloat16):
        loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()

`autocast("bfloat16")` says the dtype alone. Parameters, gradients and optimizers stay in float32.
float16 has few exponents: its small gradients become 0 unless the loss is scaled up, for which
there is `GradScaler`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from . import autograd
from .autograd import Tensor, autocast_dtype, autocasting
from .backend_ndarray import NDArray, as_dtype, is_stored, is_traced
from .backend_ndarray.layout import whole
from .backend_selection import Device, as_device, cuda
from .contexts import decorated
from .tree import map_leaves
from .typing import DTypeLike

if TYPE_CHECKING:
    from .optim import Optimizer

Function = TypeVar("Function", bound=Callable[..., object])


Outputs = TypeVar("Outputs")


@autograd.watched
class autocast(autocasting):
    """A context (and decorator) in which ops choose the dtype they run in.

    Products (matrix products, linear layers, convolutions, attention, recurrent layers) round their
    inputs to `dtype` and so return it; exponentials, powers, sums, norms, softmax and losses run in
    float32 and return that; all others run in the widest dtype of their inputs. The table is in
    `needle.ops._precision`. float64 and integers are left alone. Gradients have the dtypes of what
    they are gradients of, so `backward` may be called inside or outside.

    Holds for this thread; an inner context replaces an outer one, and `enabled=False` turns it off.
    A compiled function is compiled for the dtype it is called under.

    PyTorch's `autocast(device_type, dtype=None, enabled=True)` is understood, too. The dtype is
    then float16 by default for "cuda" and bfloat16 for "cpu"; float32 changes nothing; and where
    there is no GPU `autocast("cuda")` changes nothing and warns. It is no filter: ops on every
    device choose their dtype. `cache_enabled` changes nothing: no conversions are cached.

    Raises ValueError for a dtype that is not "bfloat16" or "float16".
    """

    def __init__(
        self,
        device_type: DTypeLike | Device | None = None,
        dtype: DTypeLike | bool | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        kind = _device_type(device_type)
        given: object = dtype
        if isinstance(dtype, bool):  # autocast("bfloat16", False)
            given, enabled = None, dtype
        if kind is None and device_type is not None:
            if given is not None:
                raise ValueError(
                    f"[autocast] {device_type!r} is neither 'cuda' nor 'cpu', and dtype is given"
                )
            given = device_type
        if given is None:
            given = "float16" if kind == "cuda" else "bfloat16"
        try:
            self.dtype = as_dtype(given)
        except TypeError:
            raise _unknown(given) from None
        if kind is not None and self.dtype == "float32":
            enabled = False
        elif not is_stored(self.dtype):
            raise _unknown(given)
        self.enabled = enabled and _can_run(kind, "autocast")
        super().__init__(self.dtype if self.enabled else None)

    def __call__(self, function: Function) -> Function:
        wrapped: Function = decorated(function, lambda: self, "autocast")
        return wrapped


def _device_type(given: object) -> str | None:
    """ "cuda" or "cpu" where a device, or the name of one, is given."""
    device = given if isinstance(given, Device) else None
    if isinstance(given, str) and given.startswith(("cpu", "cuda")):
        device = as_device(given)
    return None if device is None else device.type


def _can_run(kind: str | None, what: str) -> bool:
    """Whether there is a device of a kind; a warning where a GPU is asked for and there is none."""
    if kind != "cuda" or cuda().enabled():
        return True
    warnings.warn(
        f"[{what}] 'cuda' is asked for and there is no GPU: it changes nothing", stacklevel=3
    )
    return False


def _unknown(dtype: object) -> ValueError:
    return ValueError(f"[autocast] dtype must be 'bfloat16' or 'float16', got {dtype!r}")


@autograd.watched
class GradScaler:
    """Scales losses up so that float16 gradients do not vanish, and gradients down again.

        scaler.scale(loss).backward()
        scaler.step(optimizer)  # nothing happens where a gradient is infinite or NaN
        scaler.update()

    The scale is multiplied by `backoff_factor` after a step with an infinite or NaN gradient, by
    `growth_factor` after `growth_interval` steps without. With `enabled=False` it changes nothing.
    PyTorch's `GradScaler("cuda", …)` is understood, too: where there is no GPU it changes nothing
    and warns. Raises ValueError for factors on the wrong side of 1.
    """

    def __init__(
        self,
        device: str | Device | None = None,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        kind = _device_type(device)
        if kind is None and device is not None:
            raise TypeError(
                f"[GradScaler] device must be a device or its name, got {device!r}; name the other "
                "arguments: GradScaler(init_scale=…)"
            )
        enabled = enabled and _can_run(kind, "GradScaler")
        if not (init_scale > 0 and math.isfinite(init_scale)):
            raise ValueError(f"[GradScaler] init_scale must be positive, got {init_scale}")
        if not growth_factor > 1:
            raise ValueError(f"[GradScaler] growth_factor must be above 1, got {growth_factor}")
        if not 0 < backoff_factor < 1:
            raise ValueError(f"[GradScaler] backoff_factor must be in (0, 1), got {backoff_factor}")
        growth_interval = whole(growth_interval, "GradScaler", "growth_interval")
        if growth_interval < 1:
            raise ValueError(
                f"[GradScaler] growth_interval must be an int of at least 1, got {growth_interval}"
            )
        self._scale = float(init_scale)
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval, self.enabled = growth_interval, enabled
        self._good_steps = 0  # since the scale has changed
        # Since the last update, by an optimizer's id: it, and whether its gradients are finite.
        self._unscaled: dict[int, tuple[Optimizer, bool]] = {}
        self._stepped: set[int] = set()

    def is_enabled(self) -> bool:
        """Whether it scales."""
        return self.enabled

    def get_scale(self) -> float:
        """The present scale; 1 where the scaler is not enabled."""
        return self._scale if self.enabled else 1.0

    def scale(self, outputs: Outputs) -> Outputs:
        """Tensors, in lists, tuples and dicts, times the scale; differentiable.

        May be part of a compiled function, which reads the scale at every call.
        """
        return map_leaves(self._scaled, outputs) if self.enabled else outputs

    def _scaled(self, x: object) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"[GradScaler] scale needs Tensors, got {type(x).__name__}")
        data = x.realize_cached_data()
        trace = autograd.current_trace()
        if trace is None or trace.has_made(self):
            factor = data._device.full((), self._scale, "float32")
        else:
            number = trace.host_number(self.get_scale)
            factor = number.as_array(number, data._device, as_dtype("float32"))
        return x * Tensor.make_const(factor)

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, as for clipping them.

        `step` does it otherwise. Raises RuntimeError the second time before `update`, after `step`,
        and in a function that is being compiled: whether gradients are finite is seen on the host.
        """
        if not self.enabled:
            return
        if id(optimizer) in self._unscaled:
            raise RuntimeError("[GradScaler] unscale_ or step was called already since update()")
        gradients = list(_gradients(optimizer))
        if any(is_traced(p.grad.realize_cached_data()) for p in gradients):
            raise autograd.Untraceable(
                "[GradScaler] unscale_ and step look at the gradients' values: compile the "
                "function up to backward() and call them outside of it"
            )
        inverse = 1.0 / self._scale
        for p in gradients:
            p.grad = Tensor.make_const(p.grad.realize_cached_data() * inverse)
        finite = all(_is_finite(p.grad.realize_cached_data()) for p in gradients)
        self._unscaled[id(optimizer)] = optimizer, finite

    def step(self, optimizer: Optimizer) -> None:
        """`optimizer.step()` with gradients divided by the scale, if all of them are finite.

        The optimizer's state stays as it is otherwise. Raises RuntimeError where it is called twice
        before `update`.
        """
        if not self.enabled:
            optimizer.step()
            return
        if id(optimizer) in self._stepped:
            raise RuntimeError("[GradScaler] step was called already since update()")
        if id(optimizer) not in self._unscaled:
            self.unscale_(optimizer)
        self._stepped.add(id(optimizer))
        if self._unscaled[id(optimizer)][1]:
            optimizer.step()

    def update(self, new_scale: float | None = None) -> None:
        """Adjust the scale to what the steps since the last update have met, or set it.

        Raises RuntimeError where there was no step.
        """
        if not self.enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._unscaled:
            raise RuntimeError("[GradScaler] update needs a step (or unscale_) before it")
        elif all(finite for _, finite in self._unscaled.values()):
            self._grow()
        else:
            self._scale, self._good_steps = self._scale * self.backoff_factor, 0
        self._unscaled.clear()
        self._stepped.clear()

    def _grow(self) -> None:
        self._good_steps += 1
        if self._good_steps == self.growth_interval:
            grown = self._scale * self.growth_factor
            # A scale above the largest float32 would make every gradient infinite.
            self._scale = grown if grown < 2.0**128 else self._scale
            self._good_steps = 0

    def state_dict(self) -> dict[str, float]:
        """The scale and the count of good steps, and the settings, under PyTorch's names."""
        if not self.enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self._good_steps,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a `state_dict`. Raises ValueError where an entry is missing."""
        if not self.enabled:
            return
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ValueError(f"[GradScaler] the state has no {missing}")
        self._scale = float(state["scale"])
        self.growth_factor = float(state["growth_factor"])
        self.backoff_factor = float(state["backoff_factor"])
        self.growth_interval = int(state["growth_interval"])
        self._good_steps = int(state["_growth_tracker"])


def _gradients(optimizer: Optimizer) -> Iterator[Tensor]:
    """The parameters that have a gradient."""
    return (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None)


def _is_finite(x: NDArray) -> bool:
    return not x.size or math.isfinite(abs(x).max().item())


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether ops choose their dtype here; `device_type` is accepted as in PyTorch."""
    return autocast_dtype() is not None


__all__ = ["GradScaler", "autocast", "is_autocast_enabled"]
