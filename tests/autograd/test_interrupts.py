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
                # One that comes while a context is left leaves its mode, as Python does.
                autograd._mode.recording = True
                steps = work()
                next(steps)
            else:
                pytest.fail(f"an interrupt was lost in {lost or 'no known place'}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
