"""Ctrl-C ends a program wherever it comes: no KeyboardInterrupt is lost where memory is freed."""

from __future__ import annotations

import random
import signal
import sys
import time

import numpy as np
import pytest

import needle as ndl
from needle import autograd, data, nn, optim
from needle.autograd.modes import _mode


def interrupt(*_):
    raise KeyboardInterrupt


def eager_steps():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = optim.Adam(model.parameters())
    x = ndl.Tensor(np.ones((2, 4), np.float32))
    while True:
        optimizer.reset_grad()
        model(x).sum().backward()
        optimizer.step()
        yield


def operations():
    x = ndl.Tensor([1.0, 2.0])
    while True:
        _ = [x * x for _ in range(20)]
        yield


def loading():
    loader = data.DataLoader(data.NDArrayDataset(np.arange(100)), 10)
    while True:
        for _ in loader:
            yield


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
@pytest.mark.parametrize("work", [operations, eager_steps, loading])
def test_no_interrupt_is_lost(work, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: lost.append(repr(what.object)))
    before = signal.signal(signal.SIGALRM, interrupt)
    draw, steps = random.Random(0), work()
    next(steps)
    try:
        for _ in range(150):
            end = time.monotonic() + 2
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(5e-4, 2e-3))
                while not lost and time.monotonic() < end:
                    next(steps)
            except KeyboardInterrupt:
                assert autograd.is_grad_enabled()
                assert autograd.autocast_dtype() is None
                steps = work()
                next(steps)
            else:
                pytest.fail(f"an interrupt was lost in {lost or 'no known place'}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CONTEXTS = {
    "no_grad": ndl.no_grad,
    "enable_grad": ndl.enable_grad,
    "autocast": lambda: ndl.amp.autocast("bfloat16"),
    "autocasting": lambda: autograd.autocasting(np.dtype("float16")),
}


def modes():
    return autograd.is_grad_enabled(), autograd.autocast_dtype()


@pytest.mark.parametrize("outer", [ndl.no_grad, ndl.enable_grad])
@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
def test_an_interrupt_leaves_no_mode_on(make, outer):
    """Wherever it comes while a context is entered and left: at each event that Python tells of."""
    before = modes()
    at = interrupted = 0
    while interrupted == at:
        left = at = at + 1
        with outer():
            inside = modes()

            def tell(frame, event, _):
                nonlocal left
                if frame.f_code is not run.__code__:
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                return tell

            def run():
                with make():
                    pass

            sys.settrace(tell)
            try:
                run()
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(None)
            assert modes() == inside
        assert modes() == before
        assert not _mode.outer_recording
        assert not _mode.outer_autocast


def test_contexts_without_the_core(monkeypatch):
    """Those of the C++ core do what the ones in Python do."""
    from needle.contexts import Setting, _Setting

    class Target:
        value, outer = 1, []

    for kind in (Setting, _Setting):
        target = Target()
        context = kind(target, "value", None, "outer")
        with context:
            assert target.value is None
            target.value = 3
            with context:
                assert target.value is None
            assert target.value == 3
        assert (target.value, target.outer) == (1, [])
        with pytest.raises(ValueError, match="out of here"), context:
            raise ValueError("out of here")
        assert (target.value, target.outer) == (1, [])


def test_the_counter_counts_copies_too():
    import copy
    import gc

    gc.collect()
    before = ndl.autograd.TENSOR_COUNTER
    x = ndl.Tensor([1.0])
    y = copy.copy(x)
    assert before + 2 == ndl.autograd.TENSOR_COUNTER
    del x, y
    gc.collect()
    assert before == ndl.autograd.TENSOR_COUNTER
    from needle.autograd import TENSOR_COUNTER

    assert before == TENSOR_COUNTER
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ndl.autograd.no_such_name
