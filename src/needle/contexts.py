"""Functions of every kind that run inside a context: how `no_grad` and `autocast` decorate."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .native import core


class _Setting:
    """A context in which the attribute `name` of `target` is `value`, also nested in itself.

    `outer` names the attribute of `target` with the list of values that it had outside. The C++
    core has one that an interrupt cannot keep from putting the value back.
    """

    def __init__(self, target: object, name: str, value: object, outer: str) -> None:
        self._attribute, self._value, self._outer = (target, name), value, outer

    def __enter__(self) -> None:
        target, name = self._attribute
        getattr(target, self._outer).append(getattr(target, name))
        setattr(target, name, self._value)

    def __exit__(self, *exc: object) -> None:
        target, name = self._attribute
        setattr(target, name, getattr(target, self._outer).pop())


if TYPE_CHECKING:
    Setting = _Setting
else:
    Setting = _Setting if core is None else core.Setting

MakeContext = Callable[[], AbstractContextManager[object]]


def decorated(function: object, make_context: MakeContext, name: str) -> Any:
    """`function`, every call of which runs inside a context of its own.

    The steps of a generator, a coroutine or an asynchronous generator do so; what others do between
    them does not. Raises TypeError, as `name`, for a class and for what cannot be called.
    """
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(decorated(function.__func__, make_context, name))
    if isinstance(function, type):
        raise TypeError(
            f"[{name}] decorates functions, got the class {function.__name__}; decorate its methods"
        )
    if not callable(function):
        raise TypeError(f"[{name}] decorates functions, got {type(function).__name__}")
    return functools.wraps(function)(_wrapper(function, make_context))


def _wrapper(function: Callable[..., Any], make_context: MakeContext) -> Callable[..., object]:
    async def async_generator(*args: object, **options: object) -> AsyncGenerator[object, object]:
        inner = function(*args, **options)
        step = inner.asend(None)
        while True:
            try:
                item = await _Awaited(step, make_context)
            except StopAsyncIteration:
                return
            try:
                step = inner.asend((yield item))
            except GeneratorExit:
                await _Awaited(inner.aclose(), make_context)
                raise
            except BaseException as error:
                step = inner.athrow(error)

    async def coroutine(*args: object, **options: object) -> object:
        return await _Awaited(function(*args, **options), make_context)

    def generator(*args: object, **options: object) -> Generator[object, object, object]:
        return (yield from _steps(function(*args, **options), make_context))

    def plain(*args: object, **options: object) -> object:
        with make_context():
            return function(*args, **options)

    if inspect.isasyncgenfunction(function):
        return async_generator
    if inspect.iscoroutinefunction(function):
        return coroutine
    return generator if inspect.isgeneratorfunction(function) else plain


def _steps(inner: Any, make_context: MakeContext) -> Generator[object, object, object]:
    """What a generator or a coroutine does, each step inside a context."""
    step, value = inner.send, None
    while True:
        try:
            with make_context():
                item = step(value)
        except StopIteration as stop:
            return stop.value
        try:
            step, value = inner.send, (yield item)
        except GeneratorExit:
            with make_context():
                inner.close()
            raise
        except BaseException as error:
            step, value = inner.throw, error


class _Awaited:
    """An awaitable whose steps run inside a context."""

    def __init__(self, inner: Any, make_context: MakeContext) -> None:
        self.inner, self.make_context = inner, make_context

    def __await__(self) -> Generator[object, object, object]:
        return _steps(self.inner, self.make_context)
