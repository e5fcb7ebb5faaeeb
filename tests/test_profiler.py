"""Profiles: what is recorded, the table, and the file for Perfetto."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import needle as ndl
from needle import data, nn, optim
from needle.autograd import Value
from needle.profiler import ProfilerAction, profile, record_function, schedule


@pytest.fixture(scope="module")
def trained():
    """A profile of some steps of training, eager ones and compiled ones."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(96, 6)).astype("float32"), rng.integers(0, 3, 96)
    loader = data.DataLoader(list(zip(images, labels, strict=True)), 16, num_workers=2)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer, loss_of = optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    compiled = ndl.jit(step)
    with profile(kernels=True, with_stack=True) as prof:
        for i, (x, y) in enumerate(loader):
            with record_function("»Schritt«", "a text"):
                loss = (compiled if i >= 3 else step)(x, y)
            loss.item()
            prof.step()
    return prof


def rows(prof):
    return {(a.key, a.category): a for a in prof.key_averages()}


def test_what_is_recorded(trained):
    found = rows(trained)
    counts = {key: average.count for key, average in found.items()}
    assert counts["»Schritt«", "user"] == 6
    assert counts["step", "program"] == 3
    assert counts["compile step", "compile"] == 1
    # Three eager steps, and one that is traced.
    assert counts["SGD.step", "optimizer"] == counts["Sequential", "module"] == 4
    assert counts["Linear", "op"] == 6
    assert counts["Linear backward", "backward"] == 6
    assert counts["DataLoader fetch", "data"] == 6
    assert counts["DataLoader wait", "wait"] == 7  # the last finds the end
    assert counts["Tensor.item", "wait"] == 6
    kernels = [average for (_, category), average in found.items() if category == "kernel"]
    assert sum(average.count for average in kernels) % 3 == 0
    assert any("matmul" in average.key for average in kernels)
    assert trained.peak_memory > 0


def test_the_table(trained):
    lines = trained.table(sort_by="total", row_limit=4).splitlines()
    assert lines[0].split() == [
        "name", "kind", "self", "%", "self", "total", "mean", "calls", "memory",
    ]  # fmt: skip
    assert "and " in lines[5]
    assert "MiB of memory in use" in lines[6]
    averages = trained.key_averages()
    assert averages.table("calls") == averages.table(sort_by="count")
    shaped = trained.key_averages(group_by_input_shape=True)
    assert any(a.key == "Linear" and "(16, 6)" in a.input_shapes for a in shaped)
    with pytest.raises(ValueError, match="self_cpu_time_total"):
        averages.table(sort_by="speed")
    step = rows(trained)["»Schritt«", "user"]
    assert 0 < step.self_cpu_time_total < step.cpu_time_total
    assert step.cpu_time == step.cpu_time_total / 6


def test_the_file_for_perfetto(trained, tmp_path):
    trained.export_chrome_trace(tmp_path / "trace.json")
    text = (tmp_path / "trace.json").read_text(encoding="utf-8")
    assert '"»Schritt«"' in text
    events = json.loads(text)["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert any(name.startswith("needle-data") for name in names)
    spans = [e for e in events if e["ph"] == "X"]
    linear = next(e for e in spans if e["name"] == "Linear" and e["cat"] == "op")
    assert linear["args"]["shapes"][:2] == [[16, 6], [6, 5]]
    assert __file__ in linear["args"]["line"]
    assert any(e["ph"] == "C" and e["args"]["bytes"] > 0 for e in events)
    assert threading.get_native_id() in {e["tid"] for e in spans}
    for thread in {e["tid"] for e in spans}:
        ends: list[int] = []
        ordered = [e for e in spans if e["tid"] == thread]
        for e in sorted(ordered, key=lambda e: (e["ts"], -e["dur"])):
            start, end = round(1000 * e["ts"]), round(1000 * (e["ts"] + e["dur"]))  # nanoseconds
            while ends and ends[-1] <= start:
                ends.pop()
            assert not ends or end <= ends[-1], "a span is within the one around it"
            ends.append(end)


def test_a_schedule_and_its_handler():
    kept = []
    plan = schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    assert plan(0) is ProfilerAction.NONE
    assert plan(2) is ProfilerAction.WARMUP
    x = ndl.ones(3)
    with profile(schedule=plan, on_trace_ready=lambda prof: kept.append(rows(prof))) as prof:
        for _ in range(12):
            x + 1
            prof.step()
    assert [found["AddScalar", "op"].count for found in kept] == [2, 2]
    assert [found["ProfilerStep*", "step"].count for found in kept] == [2, 2]
    with pytest.raises(ValueError, match="active=0"):
        schedule(wait=0, warmup=0, active=0)


def test_everything_is_put_back(monkeypatch):
    plain = vars(Value)["make_from_op"], vars(nn.Module)["_call_eagerly"]
    prof = profile()
    with pytest.raises(RuntimeError, match="nothing was recorded"):
        prof.table()

    def fails():
        with prof, record_function("outer"):
            with pytest.raises(RuntimeError, match="another profiler"), profile():
                pass
            ndl.ones(2) @ ndl.ones(3)

    with pytest.raises(ValueError, match="matmul"):
        fails()
    assert (vars(Value)["make_from_op"], vars(nn.Module)["_call_eagerly"]) == plain
    assert rows(prof)["outer", "user"].count == 1
    with record_function("nobody records"):
        pass


def test_a_compiled_program_is_the_same_with_a_profiler():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ndl.jit
    def step(x):
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = ndl.ones(2, 3)
    with profile():
        step(x)
    step(x)
    with profile():
        step(x)
    assert step.compilations == 1


def test_threads_have_lines_of_their_own():
    @record_function("work")
    def work():
        ndl.ones(2) + 1

    with profile() as prof:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    assert rows(prof)["AddScalar", "op"].count == 4
    assert rows(prof)["work", "user"].cpu_time_total >= rows(prof)["AddScalar", "op"].cpu_time_total
