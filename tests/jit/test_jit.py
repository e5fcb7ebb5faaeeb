"""`jit`: the same numbers as eager code, state found and updated, and errors that say where."""

from __future__ import annotations

import gc
import queue
import warnings
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.jit import TraceError
from needle.jit.frontend.host_random import Draw
from needle.jit.runtime import compiler

MODES = ("evaluate", "on")


@pytest.fixture(params=MODES)
def mode(request, monkeypatch) -> str:
    """The evaluator and native code."""
    monkeypatch.setenv("NEEDLE_JIT", request.param)
    return request.param


def batches(n: int, size: int = 6, features: int = 5):
    rng = np.random.RandomState(0)
    return [(ndl.Tensor(rng.rand(size, features)), ndl.Tensor(rng.rand(size, 3))) for _ in range(n)]


def small_model() -> nn.Module:
    np.random.seed(0)
    return nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def train(step_of, model, optimizer, n=6, **options):
    """The losses of n steps of `step_of(model, optimizer)`."""
    step = step_of(model, optimizer, **options)
    return [step(x, y).item() for x, y in batches(n)]


def plain_step(model, optimizer):
    def step(x, y):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def jitted_step(model, optimizer):
    return ndl.jit(plain_step(model, optimizer))


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSProp(p, lr=0.01),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps_equal_eager_ones(name, mode):
    runs = []
    for step_of in (plain_step, jitted_step):
        model = small_model()
        losses = train(step_of, model, OPTIMIZERS[name](model.parameters()))
        state = {path: tensor.numpy() for path, tensor in model.state_dict().items()}
        runs.append((losses, state))
    (expected, before), (actual, after) = runs
    np.testing.assert_allclose(actual, expected, rtol=2e-5)
    assert before.keys() == after.keys()
    for path in before:  # parameters and BatchNorm's running statistics
        np.testing.assert_allclose(after[path], before[path], rtol=1e-4, atol=1e-6, err_msg=path)


def test_native_steps_are_the_same_from_run_to_run():
    def run():
        model = small_model()
        return train(jitted_step, model, optim.Adam(model.parameters(), lr=0.01))

    assert run() == run()


# ---- hyperparameters and modes --------------------------------------------------------------


def test_a_new_learning_rate_needs_no_new_program(mode):
    results = []
    for step_of in (plain_step, jitted_step):
        model = small_model()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = step_of(model, optimizer)
        losses = []
        for i, (x, y) in enumerate(batches(5)):
            optimizer.lr = 0.01 / (i + 1)
            losses.append(step(x, y).item())
        results.append(losses)
    np.testing.assert_allclose(results[1], results[0], rtol=2e-5)
    assert step.compilations == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_schedule_beside_zero_grad_and_hyperparameters_needs_no_new_program(name, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    model = small_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    optimizer.param_groups[0]["dampening"] = 0.0  # PyTorch's momentum
    schedule = optim.LinearLR(optimizer, total_iters=8)
    plain = plain_step(model, optimizer)
    names = type(optimizer)._ranges.keys() - {"lr"}

    @ndl.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = plain(x, y) + sum(getattr(optimizer, name, 0.0) for name in names)
        schedule.step()
        return loss

    for x, y in batches(4):
        step(x, y)
    assert step.compilations == 1


def test_another_weight_decay_needs_one(mode):
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = jitted_step(model, optimizer)
    (x, y), _ = batches(2)
    step(x, y)
    optimizer.weight_decay = 0.1
    step(x, y)
    assert step.compilations == 2


def test_a_schedule_inside_the_function_steps_at_every_call(mode):
    results = []
    for wrap in (lambda f: f, ndl.jit):
        model = small_model()
        optimizer = optim.SGD(model.parameters(), lr=0.2)
        schedule = optim.CosineLR(optimizer, total_steps=6)
        plain = plain_step(model, optimizer)

        @wrap
        def step(x, y, plain=plain, schedule=schedule):
            loss = plain(x, y)
            schedule.step()
            return loss

        results.append(([step(x, y).item() for x, y in batches(5)], optimizer.lr, schedule.steps))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=2e-5)
    assert results[1][1:] == results[0][1:]


def test_the_steps_of_adam_are_counted_once(mode):
    model = small_model()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    train(lambda m, o: jitted_step(m, o), model, optimizer, n=4)
    assert {state["step"] for state in optimizer.state.values()} == {4}


def test_train_and_eval_mode_are_two_programs(mode):
    model = small_model()
    x, _ = batches(1)[0]
    forward = ndl.jit(lambda x: model(x))
    assert not np.allclose(forward(x).numpy(), model.eval()(x).numpy())
    np.testing.assert_allclose(forward(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    model.train()
    forward(x)
    assert forward.compilations == 2, "a mode that was seen needs no new program"


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropout_draws_as_in_eager_code(mode, p):
    model = nn.Sequential(nn.Linear(5, 40), nn.Dropout(p))
    x, _ = batches(1)[0]
    forward = ndl.jit(lambda x: model(x))
    np.random.seed(1)
    expected, following = [model(x).numpy() for _ in range(3)], np.random.rand()
    np.random.seed(1)
    actual = [forward(x).numpy() for _ in range(3)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.random.rand() == following


# ---- what functions take and return ---------------------------------------------------------


def test_nested_results_and_several_shapes(mode):
    @ndl.jit
    def f(pair, scale=2.0):
        a, b = pair["a"], pair["b"]
        return {"sum": a + b, "rest": [a * scale, (b, "text", None)]}

    for n in (2, 3, 2):
        a, b = ndl.Tensor(np.ones((n, 2))), ndl.Tensor(np.full((n, 2), 3.0))
        out = f({"a": a, "b": b}, scale=4.0)
        np.testing.assert_array_equal(out["sum"].numpy(), np.full((n, 2), 4.0))
        np.testing.assert_array_equal(out["rest"][0].numpy(), np.full((n, 2), 4.0))
        assert out["rest"][1][0] is b
        assert out["rest"][1][1:] == ("text", None)
    assert f.compilations == 2


def test_views_of_arguments_come_back_as_copies(mode):
    f = ndl.jit(lambda x: (x.transpose(), x[1:], x.reshape(-1)))
    x = ndl.Tensor(np.arange(6.0).reshape(2, 3))
    for result, expected in zip(f(x), (x.T, x[1:], x.reshape(6)), strict=True):
        np.testing.assert_array_equal(result.numpy(), expected.numpy())


def test_strided_arguments(mode):
    f = ndl.jit(lambda x: x * 2.0 + x.sum(0))
    x = ndl.Tensor(np.arange(12.0).reshape(3, 4)).transpose()
    np.testing.assert_allclose(f(x).numpy(), (x * 2.0 + x.sum(0)).numpy())


def test_an_argument_given_twice(mode):
    f = ndl.jit(lambda a, b: a * 2.0 + b)
    x = ndl.Tensor(np.arange(3.0))
    np.testing.assert_array_equal(f(x, x).numpy(), [0, 3, 6])


def test_a_method(mode):
    class Scale:
        def __init__(self, factor):
            self.factor = ndl.Tensor([factor])

        @ndl.jit
        def __call__(self, x):
            return x * self.factor

    x = ndl.Tensor([1.0, 2.0])
    np.testing.assert_array_equal(Scale(2.0)(x).numpy(), [2, 4])
    np.testing.assert_array_equal(Scale(3.0)(x).numpy(), [3, 6])


def test_inference_under_no_grad_and_with_it(mode):
    model = small_model().eval()
    forward = ndl.jit(lambda x: model(x))
    x, _ = batches(1)[0]
    with ndl.no_grad():
        first = forward(x).numpy()
    np.testing.assert_allclose(forward(x).numpy(), first)


# ---- state ----------------------------------------------------------------------------------


def test_gradients_that_nothing_applied_are_kept(mode):
    model = small_model()
    x, y = batches(1)[0]

    def backward(x, y):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        return loss

    ndl.jit(backward)(x, y)
    actual = [p.grad.numpy() for p in model.parameters()]
    backward(x, y)
    for a, p in zip(actual, model.parameters(), strict=True):
        np.testing.assert_allclose(a, p.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_an_optimizer_step_alone(mode):
    models = [small_model(), small_model()]
    optimizers = [optim.SGD(m.parameters(), lr=0.1, momentum=0.5) for m in models]
    update = ndl.jit(lambda: optimizers[1].step())
    for x, y in batches(3):
        for model, optimizer, step in zip(
            models, optimizers, (optimizers[0].step, update), strict=True
        ):
            optimizer.reset_grad()
            ((model(x) - y) ** 2).mean().backward()
            step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    assert update.compilations == 1


def test_applied_gradients_are_gone(mode):
    model = small_model()
    train(jitted_step, model, optim.SGD(model.parameters(), lr=0.1), n=2)
    assert all(p.grad is None for p in model.parameters())


def test_a_snapshot_of_a_parameter_keeps_its_values(mode):
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = jitted_step(model, optimizer)
    (x, y), (x2, y2) = batches(2)
    step(x, y)
    saved = model.state_dict()
    before = {name: tensor.numpy() for name, tensor in saved.items()}
    step(x2, y2)
    for name, tensor in saved.items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    assert not np.allclose(model.state_dict()["0.weight"].numpy(), before["0.weight"])


def test_loaded_and_assigned_parameters_are_used(mode):
    model = small_model().eval()
    forward = ndl.jit(lambda x: model(x))
    x, _ = batches(1)[0]
    forward(x)
    weight = model.modules[0].weight
    weight.data = ndl.Tensor(np.ones((4, 5))).transpose()  # not compact
    np.testing.assert_allclose(forward(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    model.load_state_dict(model.state_dict())
    np.testing.assert_allclose(forward(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    assert forward.compilations == 1


def test_writing_into_a_tensor_from_outside(mode):
    counts = ndl.Tensor(np.zeros(3), requires_grad=False)

    @ndl.jit
    def count(x):
        counts[1:] = counts[1:] + x
        return counts * 2.0

    x = ndl.Tensor([1.0, 10.0], requires_grad=False)
    count(x)
    np.testing.assert_array_equal(count(x).numpy(), [0, 4, 40])
    np.testing.assert_array_equal(counts.numpy(), [0, 2, 20])


def test_tensors_that_exchange_their_data(mode):
    a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])

    @ndl.jit
    def exchange():
        a.data, b.data = b.data, a.data

    for expected in ((2, 1), (1, 2), (2, 1)):
        exchange()
        assert (a.item(), b.item()) == expected


def test_eager_backward_through_updated_parameters_is_refused(mode):
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = jitted_step(model, optimizer)
    x, y = batches(1)[0]
    loss = ((model(x) - y) ** 2).mean()
    step(x, y)
    with pytest.raises(RuntimeError, match="replaced after the forward pass"):
        loss.backward()


def test_functions_inside_of_functions(mode):
    double = ndl.jit(lambda x: x * 2.0)
    f = ndl.jit(lambda x: double(x) + 1.0)
    assert f(ndl.Tensor([1.0])).item() == 3
    assert double.compilations == 0


# ---- errors ---------------------------------------------------------------------------------


def test_branching_on_a_value_names_the_line():
    @ndl.jit
    def f(x):
        if x.sum() > 0:  # the line that is named
            return x
        return -x

    with pytest.raises(TraceError, match=r"test_jit.py:\d+: if x.sum\(\) > 0:  # the line"):
        f(ndl.Tensor([1.0]))


@pytest.mark.parametrize("look", [lambda x: x.numpy(), print, lambda x: x.item(), float])
def test_looking_at_a_value(look):
    with pytest.raises(TraceError, match="needed while the function is being compiled"):
        ndl.jit(lambda x: look(x * 2.0))(ndl.Tensor([1.0]))


def test_a_failed_trace_leaves_everything_as_it_was():
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = batches(1)[0]
    before = [p.numpy() for p in model.parameters()]

    @ndl.jit
    def bad(x, y):
        return plain_step(model, optimizer)(x, y).item()

    with pytest.raises(RuntimeError, match="value is needed"):
        bad(x, y)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
        assert p.grad is None
    plain_step(model, optimizer)(x, y)


def test_a_tensor_that_stayed_inside(mode):
    kept: queue.SimpleQueue[ndl.Tensor] = queue.SimpleQueue()  # nobody sees what is in it

    @ndl.jit
    def f(x):
        kept.put(x * 2.0)
        return x

    f(ndl.Tensor([1.0]))
    with pytest.raises((RuntimeError, ValueError), match="did not leave it"):
        kept.get().numpy()


def test_arguments_that_are_no_tensors():
    f = ndl.jit(lambda x: x)
    with pytest.raises(TypeError, match="ndarray; compiled functions take Tensors"):
        f(np.array(["text"]))
    with pytest.raises(TypeError, match="set cannot be told from another"):
        f({1, 2})


def test_a_label_out_of_range_is_an_error_before_anything_is_updated():
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    rows = ndl.Tensor(np.random.rand(5, 4))

    @ndl.jit
    def step(index):
        loss = model(rows[index]).sum()
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    step(ndl.Tensor(np.array([0, 4])))
    before = model.weight.numpy()
    with pytest.raises(IndexError, match="out of range"):
        step(ndl.Tensor(np.array([0, 5])))
    np.testing.assert_array_equal(model.weight.numpy(), before)


@pytest.mark.filterwarnings("ignore:.*each value of the numbers")
def test_many_kinds_of_arguments_are_reported(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    f = ndl.jit(lambda x, n: x + n)
    for n in range(31):
        f(ndl.Tensor([1.0]), n)
    with pytest.warns(UserWarning, match="was compiled 32 times"):
        f(ndl.Tensor([1.0]), 31)


def test_without_a_compiler_it_runs_eagerly(monkeypatch):
    def none():
        raise compiler.NoCompiler("no compiler here")

    monkeypatch.setattr(compiler, "find_compiler", none)
    f = ndl.jit(lambda x: x * 2.0)
    with pytest.warns(UserWarning, match="runs eagerly: no compiler here"):
        assert f(ndl.Tensor([1.0])).item() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(ndl.Tensor([2.0])).item() == 4


def test_an_unknown_mode(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "fast")
    with pytest.raises(ValueError, match="NEEDLE_JIT must be one of"):
        ndl.jit(lambda x: x)(ndl.Tensor([1.0]))


@pytest.mark.parametrize("width", [3, 70, 1030])  # sums in registers, in local arrays, in memory
def test_sums_of_columns(mode, width):
    rng = np.random.RandomState(0)
    x, w = (ndl.Tensor(a, requires_grad=False) for a in (rng.rand(200, 5), rng.rand(5, width)))

    @ndl.jit
    def sums(x, w):
        y = ndl.exp(x @ w)
        z = ndl.tanh(w)
        return y.sum(0), y.amax(0), z.sum(0), (z * z).amin(0)

    y, z = np.exp(x.numpy() @ w.numpy()), np.tanh(w.numpy())
    expected = y.sum(0), y.max(0), z.sum(0), (z * z).min(0)
    for ours, theirs in zip(sums(x, w), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)


# ---- draws that nothing reads -------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 311, 312, 313, 5000, 14999])
@pytest.mark.parametrize("before", [0, 1, 623])
def test_a_draw_that_is_not_needed_moves_the_generator(n, before):
    states = []
    for needed in (True, False):
        np.random.seed(n)
        np.random.rand(before)
        draw = Draw(np.random.rand, (n,))
        draw.is_needed = needed
        draw()
        states.append(np.random.get_state())
    np.testing.assert_array_equal(states[0][1], states[1][1])
    assert states[0][2:] == states[1][2:]


def test_another_generator_draws():
    original = np.random.get_bit_generator()
    results = []
    try:
        for needed in (True, False):
            np.random.set_bit_generator(np.random.PCG64(3))
            draw = Draw(np.random.rand, (5,))
            draw.is_needed = needed
            draw()
            results.append(np.random.rand())
    finally:
        np.random.set_bit_generator(original)
    assert results[0] == results[1]


# ---- the time of the compiler -------------------------------------------------------------------


@pytest.mark.skipif(compiler.core is None, reason="needs the C++ core")
def test_flat_loops_of_all_sizes_share_a_function():
    compiled = ndl.jit(lambda *tensors: [ndl.tanh(t) * 2 for t in tensors])
    tensors = [ndl.Tensor(np.linspace(-1, 1, n, dtype="float32")) for n in (2, 37, 5000, 100_000)]
    for x, y in zip(tensors, compiled(*tensors), strict=True):
        np.testing.assert_allclose(y.numpy(), 2 * np.tanh(x.numpy()), rtol=1e-6)
    assert compiled.source().count("NEEDLE_LOOP loop_") == 2, "declared, defined"


# ---- memory of programs that are gone -----------------------------------------------------------


def test_a_deleted_function_leaves_nothing():
    kept = []

    def compile_one():
        w = ndl.Tensor(np.ones((3, 3)))

        def run(x):
            loss = (x @ w).sum()
            loss.backward()
            return loss, w.grad

        function = ndl.jit(run)
        function(ndl.Tensor(np.ones((2, 3))))
        kept.extend((weakref.ref(w), weakref.ref(function)))

    compile_one()
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
