"""Random numbers that follow from a seed alone, on every device and in compiled functions.

All other random numbers of needle are those of NumPy's global generator, drawn on the host.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .autograd import Tensor, Untraceable, current_trace, log_undo
from .backend_ndarray import NDArray, Shape, as_dtype, is_float, widened
from .backend_ndarray.layout import checked_shape, whole
from .backend_ndarray.philox import blocks_of, numbers
from .backend_selection import Device, as_device
from .forks import fork_safe
from .typing import Json

# How many bits of a number in [0, 1) the stored dtypes hold.
BITS = {"float16": 11, "bfloat16": 8}


_seeded_with: int | None = None  # the seed that `manual_seed` or `seed` gave last


def manual_seed(seed: int) -> None:
    """Seed the stream that all draws without a `generator` use: NumPy's global generator.

    Parameters
    ----------
    seed : int
        Not negative.

    Returns
    -------
    None

    Raises
    ------
    TypeError
        For a seed that is no integer.
    ValueError
        For a negative one.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.manual_seed(0)
    >>> ndl.rand(2).shape
    (2,)
    """
    value = whole(seed, "manual_seed", "seed")
    if value < 0:
        raise ValueError(f"[manual_seed] seed must not be negative, got {seed}")
    global _seeded_with
    _seeded_with = value
    np.random.seed(value % 2**32)


def seed() -> int:
    """Seed NumPy's global generator with a number of the system's, and return that.

    Returns
    -------
    int

    Examples
    --------
    >>> import needle as ndl
    >>> chosen = ndl.seed()
    >>> chosen == ndl.initial_seed()
    True
    """
    chosen = int.from_bytes(os.urandom(4), "little")
    manual_seed(chosen)
    return chosen


def initial_seed() -> int:
    """The seed that `manual_seed` or `seed` gave last; one is chosen where there was none.

    Returns
    -------
    int

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.manual_seed(3)
    >>> ndl.initial_seed()
    3
    """
    return seed() if _seeded_with is None else _seeded_with


@contextmanager
def fork_rng(devices: object = None, enabled: bool = True) -> Iterator[None]:
    """A context at whose end the random numbers go on as if nothing had been drawn inside.

    Parameters
    ----------
    devices : object, optional
        Accepted as in PyTorch: there is one generator, on the host.
    enabled : bool, default True
        Whether it does so.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.manual_seed(0)
    >>> with ndl.random.fork_rng():
    ...     first = ndl.rand(2)
    >>> bool((ndl.rand(2) == first).all())
    True
    """
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)


def get_rng_state() -> object:
    """Where the stream is that all draws without a `generator` use: NumPy's global generator.

    Returns
    -------
    object
        What `set_rng_state` takes.

    Examples
    --------
    >>> import needle as ndl
    >>> state = ndl.get_rng_state()
    >>> first = ndl.rand(3)
    >>> ndl.set_rng_state(state)
    >>> bool((ndl.rand(3) == first).all())
    True
    """
    return np.random.get_state()


def set_rng_state(state: Any) -> None:
    """Go on from where `get_rng_state` was called.

    Parameters
    ----------
    state : object
        What `get_rng_state` has given.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.set_rng_state(ndl.get_rng_state())
    """
    np.random.set_state(state)


def host_generator(generator: Any, what: str) -> Any:
    """A generator of NumPy's, its global one for None.

    A Generator of this module, which draws Tensors, gives the seed of one, another each time: what
    draws repeatedly asks for it whenever it begins, so that a new seed or state is followed. Raises
    TypeError for others: they have other methods.
    """
    generator = checked_generator(generator, what)
    if isinstance(generator, Generator):
        return np.random.default_rng(generator.next_block())
    return generator


def checked_generator(generator: Any, what: str) -> Any:
    """What `host_generator` takes, as it is; NumPy's global generator for None."""
    if generator is None or generator is np.random:
        return np.random
    if not isinstance(generator, (Generator, np.random.Generator, np.random.RandomState)):
        raise TypeError(
            f"[{what}] generator must be one of needle or of numpy.random, got "
            f"{type(generator).__module__}.{type(generator).__name__}"
        )
    return generator


def state_of(generator: Any) -> Any:
    """Where a generator of NumPy's or needle's is, as numbers that a file can hold."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state(**({} if isinstance(generator, Generator) else {"legacy": False}))


def set_state_of(generator: Any, state: Any) -> None:
    """Go on from a `state_of`."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def states_of(generators: Mapping[str, Any]) -> Json:
    """Where the generators are."""
    return {name: state_of(generator) for name, generator in generators.items()}


def set_states(generators: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Go on from `states_of`; a generator without a state stays where it is."""
    for name, generator in generators.items():
        if name in states:
            set_state_of(generator, states[name])


_alive: weakref.WeakSet[Generator] = weakref.WeakSet()
_alive_lock = fork_safe(threading.Lock())


class Generator:
    """A stream of random numbers for `device` (the default device), by Philox4x32-10.

    A seed gives the same numbers on every device: uniform ones bit for bit, normal ones up to
    rounding. They are made where they are needed: `cuda()` has a kernel, and a compiled step moves
    the stream on in the GPU's memory. A draw of n numbers takes ⌈n/4⌉ blocks of the stream, of
    float64 ⌈n/2⌉. `needle.init`'s functions and `nn.Dropout` take one as `generator=`.

    The seed may be given later, as in `Generator().manual_seed(1)`; it is 0 until then. A device in
    its place, as in PyTorch's `Generator("cuda")`, is the device.

    Raises TypeError for a seed that is no int, ValueError unless 0 ≤ seed < 2⁶⁴, and RuntimeError
    inside of a function that is being compiled: that is where one draws.
    """

    def __init__(self, seed: int | Device | str = 0, device: Device | str | None = None) -> None:
        is_place = isinstance(seed, (Device, str))
        self.device = as_device(seed if is_place else device)  # type: ignore[arg-type]
        # Compiled functions find them by identity: what changes is their data.
        self._seed, self._offset = (
            Tensor(np.zeros(1, np.int64), device=self.device, dtype="int64", requires_grad=False)
            for _ in range(2)
        )
        self._lock = fork_safe(threading.Lock())  # two threads never draw the same numbers
        self.manual_seed(0 if is_place else seed)  # type: ignore[arg-type]
        with _alive_lock:
            _alive.add(self)

    def manual_seed(self, seed: int) -> Generator:
        """Begin the stream of `seed`; returns the generator. Raises as the constructor."""
        if isinstance(seed, bool):
            raise TypeError(f"[Generator] the seed must be an int, got {seed!r}")
        self.set_state((whole(seed, "Generator", "the seed"), 0))
        return self

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return self.get_state()[0]

    def next_block(self) -> tuple[int, int]:
        """(seed, offset) of the next numbers, which are passed over."""
        seed, offset = self.get_state()
        self.set_state((seed, (offset + 1) % 2**64))
        return seed, offset

    def get_state(self) -> tuple[int, int]:
        """(seed, offset): where the stream is. Waits for the device."""
        seed, offset = (_unsigned(x.numpy()) for x in (self._seed, self._offset))
        return seed, offset

    def set_state(self, state: tuple[int, int]) -> None:
        """Go on from where `get_state` was called. RuntimeError inside of a compiled function."""
        if current_trace() is not None:
            raise Untraceable("[Generator] make and seed it outside of a compiled function")
        for name, value in zip(("seed", "offset"), state, strict=True):
            if not 0 <= value < 2**64:
                raise ValueError(f"[Generator] the {name} must be in 0 … 2**64 - 1, got {value}")
        self._store(*state)

    def _store(self, *state: int) -> None:
        for tensor, value in zip((self._seed, self._offset), state, strict=True):
            host = np.array([value], np.uint64).view(np.int64)
            tensor._replace_data(NDArray(host, device=self.device, dtype="int64"))

    def rand(self, *shape: int, dtype: Any = "float32") -> NDArray:
        """Uniform numbers in [0, 1), of a floating dtype."""
        dtype = as_dtype(dtype)
        drawn = self._numbers(False, shape, widened(dtype))
        if dtype is widened(dtype):
            return drawn
        levels = 2.0 ** BITS[dtype.name]  # rounding to nearest would give 1
        return (drawn * levels // 1 / levels).astype(dtype)

    def randn(self, *shape: int, dtype: Any = "float32") -> NDArray:
        """Standard normal numbers, of a floating dtype."""
        return self._numbers(True, shape, dtype)

    def _numbers(self, normal: bool, shape: Shape, dtype: Any) -> NDArray:
        dtype, shape = as_dtype(dtype), checked_shape("Generator", shape)
        if not is_float(dtype):
            raise TypeError(f"[Generator] dtype must be a floating one, got {dtype}")
        has_kernel = self.device.fused("philox") is not None
        draw = _Draw(self, normal, widened(dtype), on_host=not has_kernel)
        return self.device.draw(draw, shape, dtype, on_host=not has_kernel)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restored, (self.get_state(), self.device)

    def __repr__(self) -> str:
        return f"<Generator on {self.device}>"


def _restored(state: tuple[int, int], device: Device) -> Generator:
    generator = Generator(0, device)
    generator.set_state(state)
    return generator


@dataclass(frozen=True)
class _Draw:
    """What is drawn, as a function of the shape that moves the stream on."""

    generator: Generator
    normal: bool
    dtype: np.dtype
    on_host: bool

    def __call__(self, *shape: int) -> Any:
        with self.generator._lock:
            return self._by_numpy(shape) if self.on_host else self._by_kernel(shape)

    def _by_kernel(self, shape: Shape) -> NDArray:
        g = self.generator
        out, (seed, offset) = g.device.empty(shape, self.dtype), _arrays(g)
        g.device.fused("philox")(self.normal, seed, offset, out)  # type: ignore[misc]
        g._offset._replace_data(offset + blocks_of(out.size, self.dtype))
        return out

    def _by_numpy(self, shape: Shape) -> np.ndarray:
        g, before = self.generator, self.generator.get_state()
        seed, offset = before
        drawn = numbers(seed, offset, prod(shape), self.dtype, self.normal).reshape(shape)
        g._store(seed, (offset + blocks_of(drawn.size, self.dtype)) % 2**64)
        log_undo(lambda: g._store(*before))
        return drawn


def _arrays(generator: Generator) -> tuple[NDArray, NDArray]:
    return generator._seed.realize_cached_data(), generator._offset.realize_cached_data()


def _unsigned(x: np.ndarray) -> int:
    return int(x.view(np.uint64)[0])


# ---- drawing again ------------------------------------------------------------------------------

Streams = dict[Generator, tuple[NDArray, NDArray]]


def streams() -> Streams:
    """Where all generators are; nothing is copied, and the devices are not waited for."""
    with _alive_lock:
        generators = tuple(_alive)
    return {generator: _arrays(generator) for generator in generators}


@contextmanager
def drawing_again(from_there: Streams) -> Iterator[None]:
    """Inside, the generators are where they were; afterwards they go on as they are now.

    No other thread may draw from them meanwhile.
    """
    present = streams()
    _return_to(from_there)
    try:
        yield
    finally:
        _return_to(present)


def _return_to(places: Streams) -> None:
    for generator, (seed, offset) in places.items():
        generator._seed._replace_data(seed)
        generator._offset._replace_data(offset)


__all__ = [
    "Generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed",
    "set_rng_state",
]  # fmt: skip
