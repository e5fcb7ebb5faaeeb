"""`no_grad`, `enable_grad` and `autocast` around functions of every kind, in every thread."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

import needle as ndl
from needle.autograd import autocast_dtype, is_grad_enabled

WITHOUT = {
    "no_grad()": (ndl.no_grad(), lambda: not is_grad_enabled()),
    "no_grad": (ndl.no_grad, lambda: not is_grad_enabled()),
    "autocast": (ndl.amp.autocast("bfloat16"), lambda: autocast_dtype() is not None),
}
KINDS = pytest.mark.parametrize("kind", WITHOUT)


@KINDS
def test_functions(kind):
    decorate, inside = WITHOUT[kind]

    @decorate
    def function(depth, *, fail=False):
        """Its own words."""
        assert inside()
        if fail:
            raise KeyError(depth)
        with ndl.enable_grad():
            assert is_grad_enabled()
        return (depth, inside()) if depth == 0 else function(depth - 1)

    assert function(3) == (0, True)
    assert not inside()
    with pytest.raises(KeyError):
        function(1, fail=True)
    assert not inside()
    assert (function.__name__, function.__doc__) == ("function", "Its own words.")


@KINDS
def test_methods(kind):
    decorate, inside = WITHOUT[kind]

    class Owner:
        @decorate
        def method(self):
            return self, inside()

        @decorate
        @staticmethod
        def static():
            return inside()

        @decorate
        @classmethod
        def of_class(cls):
            return cls, inside()

        @staticmethod
        @decorate
        def static_outside():
            return inside()

    owner = Owner()
    assert owner.method() == (owner, True)
    assert Owner.static()
    assert owner.static_outside()
    assert owner.of_class() == (Owner, True)


@KINDS
def test_generators(kind):
    decorate, inside = WITHOUT[kind]
    closed = []

    @decorate
    def generator():
        try:
            received = yield inside()
            assert received == "sent"
            try:
                yield inside()
            except KeyError:
                yield inside(), "thrown"
            yield from (inside() for _ in range(2))
            return inside()
        finally:
            closed.append(inside())

    assert inspect.isgeneratorfunction(generator)
    steps = generator()
    assert next(steps)
    assert not inside(), "between its steps the caller is on its own"
    assert steps.send("sent")
    assert steps.throw(KeyError()) == (True, "thrown")
    assert list(steps) == [True, True]
    assert closed == [True]
    early = generator()
    next(early)
    early.close()
    assert closed == [True, True]
    assert not inside()

    def outer():
        return (yield from started())

    def started():
        steps = generator()
        next(steps)
        steps.send("sent")
        return (yield from steps)

    last = outer()
    assert [next(last) for _ in range(2)] == [True, True]
    with pytest.raises(StopIteration) as stop:
        next(last)
    assert stop.value.value is True


@KINDS
def test_coroutines_and_their_neighbours(kind):
    decorate, inside = WITHOUT[kind]
    seen = []

    @decorate
    async def coroutine(n):
        for _ in range(n):
            seen.append(("coroutine", inside()))
            await asyncio.sleep(0)
        with pytest.raises(KeyError):
            await failing()
        return inside()

    async def failing():
        await asyncio.sleep(0)
        raise KeyError

    @decorate
    async def async_generator():
        try:
            for _ in range(2):
                yield inside()
                await asyncio.sleep(0)
        finally:
            seen.append(("closed", inside()))

    async def neighbour():
        for _ in range(5):
            seen.append(("neighbour", not inside()))
            await asyncio.sleep(0)

    async def main():
        results = await asyncio.gather(coroutine(4), neighbour(), coroutine(3))
        assert results == [True, None, True]
        assert [x async for x in async_generator()] == [True, True]
        steps = async_generator()
        assert await steps.__anext__()
        assert not inside()
        await steps.aclose()
        task = asyncio.ensure_future(coroutine(1000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not inside()

    asyncio.run(main())
    assert all(right for _, right in seen)
    assert [what for what, _ in seen].count("closed") == 2


@KINDS
def test_threads(kind):
    decorate, inside = WITHOUT[kind]
    turns, wrong = threading.Barrier(2, timeout=30), []

    @decorate
    def first():
        turns.wait()  # both are inside
        turns.wait()  # the other one has left
        return inside()

    @decorate
    def second():
        turns.wait()
        return inside()

    def run_first():
        wrong.append(inside() or not first() or inside())

    def run_second():
        wrong.append(inside() or not second() or inside())
        turns.wait()

    threads = [threading.Thread(target=run) for run in (run_first, run_second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False, False]


def test_one_context_in_two_threads():
    context, turns, found = ndl.no_grad(), threading.Barrier(2, timeout=30), []

    def run(recording):
        with ndl.enable_grad() if recording else ndl.no_grad():
            turns.wait()
            with context:
                turns.wait()
            found.append(is_grad_enabled() == recording)

    threads = [threading.Thread(target=run, args=(recording,)) for recording in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True, True]


def test_what_cannot_be_decorated():
    for decorate, name in ((ndl.no_grad, "no_grad"), (ndl.enable_grad(), "enable_grad"),
                           (ndl.amp.autocast("float16"), "autocast")):  # fmt: skip
        for bad in (int, 3, "x"):
            with pytest.raises(TypeError, match=rf"\[{name}\] decorates functions"):
                decorate(bad)


def test_enable_grad_without_parentheses():
    @ndl.enable_grad
    def function():
        return is_grad_enabled()

    with ndl.no_grad():
        assert function()
        assert not is_grad_enabled()
