"""`ndl.jit` on the GPU: a step as one CUDA graph, with the numbers of eager code."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from op_table import RUNS, value_and_gradients

import needle as ndl
from needle import models, nn, optim
from needle.backend_ndarray.device_cuda import CudaError

GROUPS = [RUNS[i : i + 20] for i in range(0, len(RUNS), 20)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0][0].name)
def test_compiled_equals_eager(group, gpu):
    @ndl.jit
    def run(inputs):
        return [value_and_gradients(case, x) for (case, _), x in zip(group, inputs, strict=True)]

    inputs = [
        [ndl.Tensor(x, device=gpu, dtype="float32") for x in case.inputs(shapes)]
        for case, shapes in group
    ]
    expected = [value_and_gradients(case, x) for (case, _), x in zip(group, inputs, strict=True)]
    for _ in range(2):
        for ours, theirs, (case, _) in zip(run(inputs), expected, group, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(
                    a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5, err_msg=case.name
                )


def steps_of(device, compiled: bool, make, n: int = 5, cast: bool = False) -> list[float]:
    np.random.seed(0)
    model, x, y, optimizer = make(device)

    def step(x, y):
        with ndl.amp.autocast("bfloat16", enabled=cast):
            loss = nn.CrossEntropyLoss()(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = ndl.jit(step) if compiled else step
    losses = []
    for i in range(n):
        optimizer.lr = 0.01 / (i + 1)
        losses.append(run(x, y).item())
    return [*losses, float(sum(np.abs(p.numpy()).sum() for p in model.parameters()))]


def mlp(device):
    model = nn.Sequential(
        nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Dropout(0.3), nn.BatchNorm1d(16),
        nn.Linear(16, 3),
    ).to(device)  # fmt: skip
    random = np.random.RandomState(1)
    x = ndl.Tensor(random.randn(20, 6), device=device)
    y = ndl.Tensor(random.randint(0, 3, 20), device=device, dtype="int64")
    return model, x, y, optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


class Tagger(nn.Module):
    """Characters to classes through a GRU, whose loop stays a loop in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(11, 5), nn.GRU(5, 7)
        self.out = nn.Linear(7, 3)

    def forward(self, x):
        return self.out(self.gru(self.embedding(x))[0]).reshape((-1, 3))


def tagger(device):
    model = Tagger().to(device)
    random = np.random.RandomState(2)
    x = ndl.Tensor(random.randint(0, 11, (6, 4)), device=device, dtype="int64")
    y = ndl.Tensor(random.randint(0, 3, 24), device=device, dtype="int64")
    return model, x, y, optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


@pytest.mark.parametrize("make", [mlp, tagger])
def test_training_steps(make, gpu):
    expected = steps_of(ndl.cpu_numpy(), False, make)
    np.testing.assert_allclose(steps_of(gpu, True, make), expected, rtol=1e-4)


@pytest.mark.parametrize("make", [mlp, tagger])
def test_training_steps_under_autocast(make, gpu):
    compiled, eager, wide = (
        steps_of(gpu, compiled, make, cast=cast)
        for compiled, cast in ((True, True), (False, True), (False, False))
    )
    np.testing.assert_allclose(compiled, eager, rtol=2e-2)
    np.testing.assert_allclose(compiled, wide, rtol=3e-2)


def test_a_step_is_one_launch(emulated, emulator_folder):
    fake = ctypes.CDLL(f"{emulator_folder}/libcuda.so.1")
    fake.emulator_calls.restype = ctypes.c_char_p
    model, x, y, optimizer = mlp(emulated)

    @ndl.jit
    def step(x, y):
        loss = nn.CrossEntropyLoss()(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(2):
        step(x, y)
    fake.emulator_clear_calls()
    step(x, y)
    calls = fake.emulator_calls().decode()
    assert calls.count("cuGraphLaunch") == 1
    assert "cuLaunchKernel" not in calls
    assert "cuMemAllocAsync" not in calls


def test_a_failed_capture_leaks_nothing(fake, emulated):
    x = ndl.Tensor(np.random.RandomState(0).randn(200, 70), device=emulated)
    total = ndl.jit(lambda x: ndl.exp(x).sum())
    expected = total(x).numpy()  # also finds the memory for results
    again = ndl.jit(lambda x: ndl.exp(x).sum())
    gc.collect()
    before = emulated.memory_stats()["in_use"]
    fake.emulator_clear_calls()
    fake.emulator_fail(b"cuGraphInstantiateWithFlags", 0, 1)
    with pytest.raises(CudaError, match="cuGraphInstantiateWithFlags"):
        again(x)
    assert fake.emulator_calls().decode().count("cuGraphDestroy") == 1
    del again
    gc.collect()
    assert emulated.memory_stats()["in_use"] == before
    np.testing.assert_array_equal(total(x).numpy(), expected)


def test_a_snapshot_stays_what_it_was(gpu):
    weight = ndl.Tensor(np.ones(5), device=gpu)

    @ndl.jit
    def double():
        weight.data = weight.data * 2.0

    double()
    snapshot, view = weight.detach(), weight.realize_cached_data()[1:]
    for _ in range(2):
        double()
    np.testing.assert_array_equal(snapshot.numpy(), np.full(5, 2.0))
    np.testing.assert_array_equal(view.numpy(), np.full(4, 2.0))
    np.testing.assert_array_equal(weight.numpy(), np.full(5, 8.0))


def test_an_index_out_of_range(gpu):
    table = ndl.Tensor(np.random.RandomState(0).randn(5, 3), device=gpu)
    look = ndl.jit(lambda i: ndl.take(table, i, 0))
    good, bad = (ndl.Tensor(np.array(i), device=gpu, dtype="int64") for i in ([0, -1], [0, 5]))
    np.testing.assert_array_equal(look(good).numpy(), table.numpy()[[0, -1]])
    with pytest.raises(IndexError, match="the index at position 1 is out of range"):
        look(bad).numpy()
    np.testing.assert_array_equal(look(good).numpy(), table.numpy()[[0, -1]])


def test_labels_that_are_refused(gpu):
    logits = ndl.Tensor(np.random.RandomState(0).randn(4, 3), device=gpu)

    def labels(dtype: str, *values: float) -> ndl.Tensor:
        return ndl.Tensor(np.array(values), device=gpu, dtype=dtype, requires_grad=False)

    functions = (
        ("int64", lambda x, y: nn.NLLLoss()(ndl.log_softmax(x), y)),
        ("int64", lambda x, y: nn.CrossEntropyLoss()(x, y)),
        ("float64", lambda x, y: ndl.one_hot(y, 3).sum()),
    )
    for dtype, function in functions:
        compiled, good = ndl.jit(function), labels(dtype, 0, 2, 1, 0)
        expected = function(logits, good).numpy()
        np.testing.assert_allclose(compiled(logits, good).numpy(), expected, 1e-5)
        fraction = [labels(dtype, 0, 1, 0.7, 0)] if dtype == "float64" else []
        for bad in (labels(dtype, 0, 1, -1, 0), labels(dtype, 0, 1, 3, 0), *fraction):
            with pytest.raises(IndexError, match="the index at position 2 is out of range"):
                compiled(logits, bad).numpy()


def test_an_index_out_of_range_is_not_forgotten_with_the_program(gpu):
    table = ndl.Tensor(np.ones((4, 3)), device=gpu)
    bad = ndl.Tensor(np.array([0, 9]), device=gpu, dtype="int64")
    found = ndl.jit(lambda i: ndl.take(table, i, 0))(bad)
    gc.collect()
    with pytest.raises(IndexError, match="the index at position 1 is out of range"):
        found.numpy()
    found.numpy()


def test_a_gpt_block_learns(gpu):
    results = []
    for device, compiled in ((ndl.cpu_numpy(), False), (gpu, True)):
        np.random.seed(0)
        model = models.GPT(13, 6, width=8, num_layers=1, num_heads=2).to(device)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        ids = np.random.RandomState(0).randint(0, 13, (2, 6))
        x, y = (ndl.Tensor(i, device=device, dtype="int64") for i in (ids, np.roll(ids, -1, 1)))

        def step(x, y, model=model, optimizer=optimizer):
            loss = nn.CrossEntropyLoss()(model(x).reshape((-1, 13)), y.reshape((-1,)))
            optimizer.reset_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = ndl.jit(step) if compiled else step
        results.append([run(x, y).item() for _ in range(3)])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)


def test_programs_that_compute_nothing(gpu):
    compiled = ndl.jit(lambda x: (x, x.reshape((2, 1)), nn.Dropout(0.0)(x)[1:]))
    for values in ([1.0, 2.0], [3.0, 4.0]):
        x = ndl.Tensor(values, device=gpu)
        for ours, expected in zip(
            compiled(x), (values, [[v] for v in values], values[1:]), strict=True
        ):
            assert ours.device is gpu
            np.testing.assert_array_equal(ours.numpy(), expected)


def test_zeros_of_both_signs_are_two_numbers(gpu):
    x = ndl.Tensor([1.0, 2.0], device=gpu, requires_grad=False)
    for ours, sign in zip(ndl.jit(lambda x: (x * 0.0, x * -0.0))(x), (1.0, -1.0), strict=True):
        assert np.copysign(1.0, ours.numpy()).tolist() == [sign, sign]
