"""`detect_anomaly`: the line of the program that made the first NaN or infinity."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..backend_ndarray import NDArray, is_float
from ..contexts import decorated
from ..user_lines import user_code_frame
from .modes import _mode, no_grad, running_as_written
from .observing import Observer, observe, stop_observing
from .op import Op
from .tracing import Untraceable, current_trace
from .tuples import SparseGradients
from .value import Value

_Function = TypeVar("_Function")


@dataclass(frozen=True)
class _Line:
    """A line of the user's code, and the module whose `forward` it ran for."""

    file: str
    number: int
    function: str
    modules: tuple[weakref.ref[Any], ...]  # from the outermost to the innermost

    def __str__(self) -> str:
        import linecache

        source = linecache.getline(self.file, self.number).strip()
        path = self._module_path()
        inside = f", module {path}" if path else ""
        where = f"{self.file}:{self.number}, in {self.function}{inside}"
        return f"{where}\n    {source}" if source else where

    def _module_path(self) -> str:
        """The path of the innermost module in the outermost one, and its class."""
        modules = [module() for module in self.modules]
        if not modules or modules[0] is None or modules[-1] is None:
            return ""
        paths = (path for path, module in modules[0].named_modules() if module is modules[-1])
        path, kind = next(paths, ""), type(modules[-1]).__name__
        return f"{path} ({kind})" if path else kind


@dataclass(frozen=True)
class _Made:
    """Which operation made a value, and where; `line` is None in a thread of needle's own."""

    op: str
    line: _Line | None
    source: _Source | None = None  # of the first NaN or infinity in the value

    def __str__(self) -> str:
        return f"{self.op}, {self.line or 'in a thread of needle'}"


@dataclass(frozen=True)
class _Source:
    """Where the first NaN or infinity of a value comes from."""

    how: str
    made: _Made

    def __str__(self) -> str:
        return f"{self.how} {self.made}"


def _current_line() -> _Line | None:
    frame = user = user_code_frame()
    if user is None:
        return None
    modules: list[weakref.ref[Any]] = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_argcount:
            module = frame.f_locals.get(code.co_varnames[0])  # self
            if hasattr(module, "named_modules"):
                modules.append(weakref.ref(module))
        frame = frame.f_back
    code = user.f_code
    return _Line(code.co_filename, user.f_lineno, code.co_qualname, tuple(reversed(modules)))


@dataclass(frozen=True)
class _Faults:
    """What is wrong with the elements of a value."""

    nan: bool = False
    infinite: bool = False

    def __bool__(self) -> bool:
        return self.nan or self.infinite


_FINITE = _Faults()


def _arrays(value: object) -> Iterator[NDArray]:
    """The floating arrays of a Value or of the gradient of one."""
    if isinstance(value, SparseGradients):
        for gradient in value.gradients.values():
            yield from _arrays(gradient)
        return
    data = value.cached_data if isinstance(value, Value) else None
    for array in data if isinstance(data, tuple) else (data,):
        if isinstance(array, NDArray) and is_float(array.dtype) and array.size:
            yield array


def _faults(*values: object) -> _Faults:
    """Whether there are NaNs and infinities in some values. The device is waited for."""
    nan = infinite = False
    for value in values:
        for array in _arrays(value):
            with np.errstate(all="ignore"):
                if np.isfinite((array * 0).sum().item()):  # NaN · 0 = ∞ · 0 = NaN
                    continue
            host = array.numpy()
            nan |= bool(np.isnan(host).any())
            infinite |= bool(np.isinf(host).any())
    return _Faults(nan, infinite) if nan or infinite else _FINITE


def _shapes(values: Iterable[object]) -> str:
    """The shape of each array, the range of its finite elements and the other ones."""
    parts = []
    for value in values:
        for array in _arrays(value):
            host = array.numpy()
            finite = host[np.isfinite(host)]
            span = f" from {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
            for what, count in (("NaN", np.isnan(host).sum()), ("infinite", np.isinf(host).sum())):
                span += f", {count} {what}" if count else ""
            parts.append(f"{array.shape}{span}")
    return "; ".join(parts) or "none"


class _Detector(Observer):
    """Looks at the result of every operation of one thread, and at every gradient."""

    def __init__(self, nans: bool, infinities: bool) -> None:
        self._nans, self._infinities = nans, infinities
        self._thread = threading.get_ident()
        self._made: dict[int, tuple[weakref.ref[Value], _Made]] = {}  # by the id of the value
        # The operations whose gradients are being computed, the innermost last; and the line that
        # has called backward.
        self._differentiated: list[_Made | None] = []
        self._backward_line: _Line | None = None
        self._infinite_gradient: str | None = None  # what made the first of the backward pass

    def _ours(self) -> bool:
        return threading.get_ident() == self._thread

    def _maker(self, value: Value) -> _Made | None:
        reference, made = self._made.get(id(value), (None, None))
        return made if reference is not None and reference() is value else None

    def _remember(self, value: Value, made: _Made) -> None:
        key = id(value)
        self._made[key] = (weakref.ref(value, lambda _: self._made.pop(key, None)), made)

    # ---- forward --------------------------------------------------------------------------------

    def after_op(self, op: Op, inputs: Sequence[Value], value: Value | None) -> None:
        """Report the first NaN, and remember which line made the value."""
        if value is None or not self._ours():
            return
        line, name = _current_line(), type(op).__name__
        outer = self._differentiated[-1] if self._differentiated else None
        # Whether it belongs to needle's formula of a gradient, not to a function of the user's.
        within = bool(self._differentiated) and line == self._backward_line
        if within and outer is not None:
            line = outer.line
        made = _Made(name, line)
        with no_grad():
            found = _faults(value)
            faulty = [x for x in inputs if _faults(x)] if found else []
        source = self._source(made, faulty[0] if faulty else None) if found else None
        self._remember(value, _Made(name, line, source))
        if within or not found:
            return
        before = _faults(*faulty)
        if found.nan and not before.nan and self._nans:
            given = f"infinite inputs; {source}" if before else "finite inputs"
            raise _error(f"NaN was made by {made}\n  from {given}\n  inputs: {_shapes(inputs)}")
        if found.infinite and not before and self._infinities:
            raise _error(f"an infinity was made by {made}\n  inputs: {_shapes(inputs)}")

    def _source(self, made: _Made, faulty: Value | None) -> _Source:
        """Where a NaN or an infinity comes from that `made` has made of the input `faulty`."""
        if faulty is None:
            return _Source("it was made by", made)
        maker = self._maker(faulty)
        if maker is not None and maker.source is not None:
            return maker.source
        return _Source(f"it came in with an input of shape {_shapes([faulty])} of", made)

    # ---- backward -------------------------------------------------------------------------------

    def before_backward(self, output: Value) -> None:
        """Report a NaN or an infinity of what is differentiated, at the line that it came from."""
        if not self._ours() or self._differentiated:
            return
        self._backward_line, self._infinite_gradient = _current_line(), None
        data = output.cached_data
        if not self._nans or not isinstance(data, NDArray) or data.size != 1:
            return
        found = _faults(output)
        if found:
            made = self._maker(output)
            source = made.source if made else "it was made outside of detect_anomaly()"
            what = "NaN" if found.nan else "infinite"
            raise _error(f"the value that backward starts from is {what}; {source}")

    def before_gradient(self, node: Value, gradient: Any) -> None:
        """The gradient's own operations belong to the line of the operation."""
        if self._ours():
            self._differentiated.append(self._maker(node))

    def after_gradient(self, node: Value, gradient: Any, found: Sequence[Any] | None) -> None:
        """Report the first NaN among the gradients."""
        if not self._ours():
            return
        made = self._differentiated.pop()
        if found is None:
            return
        if self._differentiated:
            outer = self._differentiated[-1]
            if made is None or made.line == (outer.line if outer else self._backward_line):
                return  # a part of the gradient of the operation outside
        given = [g for x, g in zip(node.inputs, found, strict=True) if x.requires_grad]
        with no_grad():
            faults = _faults(*given)
            before = _faults(gradient) if faults else _FINITE
        if not faults:
            return
        if made is None:
            text = f"{type(node.op).__name__}, which ran outside of detect_anomaly()"
        else:
            text = str(made)
        if faults.infinite and not before and self._infinite_gradient is None:
            self._infinite_gradient = text
        shapes = f"\n  gradient: {_shapes([gradient])}\n  inputs: {_shapes(node.inputs)}"
        if faults.nan and not before.nan and self._nans:
            came = "a finite gradient"
            if before:
                came = f"an infinite gradient, from the backward of {self._infinite_gradient}"
            raise _error(f"NaN was made by the backward of {text}\n  from {came}{shapes}")
        if faults.infinite and not before and self._infinities:
            raise _error(f"an infinity was made by the backward of {text}{shapes}")


def _error(text: str) -> RuntimeError:
    return RuntimeError(f"[detect_anomaly] {text}")


# The detector of each thread that is inside of `detect_anomaly`, by the thread's id.
_detectors: dict[int, _Detector] = {}


def _exchange(detector: _Detector | None) -> _Detector | None:
    """Make `detector` the one of this thread; returns the one that was."""
    if detector is not None and current_trace() is not None:
        raise Untraceable(
            "[detect_anomaly] a compiled function has no lines: enter it around the call, which "
            "then runs as it is written"
        )
    thread = threading.get_ident()
    before = _detectors.pop(thread, None)
    if before is not None:
        stop_observing(before)
    if detector is not None:
        _detectors[thread] = detector
        observe(detector)
    return before


class detect_anomaly:
    """A context that names the line which makes the first NaN, in the forward pass or backward.

    It is slow: the host waits for every operation and looks at what it has given. Compiled
    functions run as they are written meanwhile, so that a line can be named. Without it nothing is
    checked and nothing costs time. It applies to the thread that enters it, on every device. Also
    a decorator.

    A NaN is reported where an operation makes it of inputs without one, with the operation, the
    line of the program outside of needle, and the path of the module: `layers.2 (LayerNorm)`. In
    the backward pass the line is that of the operation whose gradient is NaN. A NaN that comes in
    with data or a parameter is reported when `backward` starts from it.

    An infinity may be meant, as in a mask of -inf. So it is reported where `backward` starts from
    it, and with `infinities` wherever an operation or a gradient makes one of finite numbers. An
    error about a NaN that was made of an infinity names the line of both.

    Parameters
    ----------
    check_nan : bool, default True
        Whether NaN is reported.
    infinities : bool, default False
        Whether infinities are, too.

    Raises
    ------
    RuntimeError
        From the operation, or from `backward`.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([-1.0, 4.0])
    >>> with ndl.detect_anomaly():
    ...     y = ndl.log(x)
    Traceback (most recent call last):
    ...
    RuntimeError: [detect_anomaly] NaN was made by Log, ...
    """

    def __init__(self, check_nan: bool = True, *, infinities: bool = False) -> None:
        self._options = bool(check_nan), bool(infinities)
        self._outer: list[_Detector | None] = []
        self._as_written = running_as_written()

    def __enter__(self) -> None:
        self._outer.append(_exchange(_Detector(*self._options)))
        self._as_written.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._as_written.__exit__()
        _exchange(self._outer.pop())

    def __call__(self, function: _Function) -> _Function:
        wrapped: _Function = decorated(
            function,
            lambda: detect_anomaly(self._options[0], infinities=self._options[1]),
            "detect_anomaly",
        )
        return wrapped


class set_detect_anomaly:
    """Turn `detect_anomaly` on or off in this thread, as PyTorch has it.

    `set_detect_anomaly(True)` holds from there on; `with set_detect_anomaly(debugging):` for a
    block alone.

    Parameters
    ----------
    mode : bool
        Whether anomalies are reported.
    check_nan : bool, default True
        Whether NaN is reported.
    infinities : bool, default False
        Whether infinities are, too.

    Examples
    --------
    >>> import needle as ndl
    >>> with ndl.autograd.set_detect_anomaly(True):
    ...     ndl.is_anomaly_enabled()
    True
    """

    def __init__(self, mode: bool, check_nan: bool = True, *, infinities: bool = False) -> None:
        self._before = _exchange(_Detector(check_nan, infinities) if mode else None)
        self._ran_as_written, _mode.runs_as_written = _mode.runs_as_written, bool(mode)

    def __enter__(self) -> None:
        """Does nothing: the mode holds already."""

    def __exit__(self, *exc: object) -> None:
        _mode.runs_as_written = self._ran_as_written
        _exchange(self._before)


def is_anomaly_enabled() -> bool:
    """Whether this thread is inside of `detect_anomaly`.

    Returns
    -------
    bool

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.is_anomaly_enabled()
    False
    """
    return threading.get_ident() in _detectors
