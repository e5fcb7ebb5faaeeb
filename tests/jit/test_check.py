"""NEEDLE_JIT=check: what a plain compiled run leaves, and an error for a wrong program."""

from __future__ import annotations

import re
from queue import SimpleQueue

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.autograd import current_trace
from needle.jit import CheckError
from needle.jit.runtime import compiler


@pytest.fixture(autouse=True)
def _mode(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "check")


@pytest.fixture(params=["native", "evaluator"])
def runner(request, monkeypatch):
    """With native code, and without a compiler: the evaluator then."""
    if request.param == "evaluator":
        monkeypatch.setattr(compiler, "find_compiler", no_compiler)
    else:
        request.getfixturevalue("native")


@pytest.fixture
def native():
    """Native code."""
    try:
        compiler.find_compiler()
    except compiler.NoCompiler as error:
        pytest.skip(str(error))


def no_compiler():
    raise compiler.NoCompiler("no compiler here")


def batches(n: int):
    rng = np.random.RandomState(0)
    return [(ndl.Tensor(rng.rand(6, 5)), ndl.Tensor(rng.rand(6, 3))) for _ in range(n)]


class Training:
    """A model with running statistics, random numbers and biases that have no true gradient."""

    def __init__(self) -> None:
        np.random.seed(0)
        self.model = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
        )
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01)
        self.schedule = optim.CosineLR(self.optimizer, total_steps=10)
        self.runs: SimpleQueue[None] = SimpleQueue()  # nobody sees what is in it
        self.counted = 0
        self.step = ndl.jit(self.plain_step)

    def plain_step(self, x, y):
        self.runs.put(None)
        self.counted += 1
        loss = ((self.model(x) - y) ** 2).mean()
        self.optimizer.reset_grad()
        loss.backward()
        optim.clip_grad_norm(self.optimizer.params, 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss

    def run(self, n: int = 3) -> dict[str, np.ndarray]:
        """All that n steps leave, by name."""
        np.random.seed(1)
        losses = [self.step(x, y).item() for x, y in batches(n)]
        left = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            left |= {f"{name} of {i}": np.asarray(value) for name, value in state.items()}
        numbers = [self.schedule.steps, self.optimizer.lr, np.random.rand()]
        return {**left, "losses": np.array(losses), "numbers": np.array(numbers)}


@pytest.mark.filterwarnings("ignore:.*is checked with the evaluator")
def test_a_checked_run_leaves_what_a_compiled_one_does(runner, monkeypatch):
    training = Training()
    checked = training.run()
    assert training.runs.qsize() >= 1 + 3 * 2, "one trace, two eager runs a step"
    assert training.counted == 3
    assert all(p.grad is None for p in training.model.parameters())
    if training.step._reported:
        monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    else:
        monkeypatch.setenv("NEEDLE_JIT", "on")
    plain = Training().run()
    assert checked.keys() == plain.keys()
    for name, value in plain.items():
        np.testing.assert_array_equal(checked[name], value, err_msg=name)


def test_without_a_compiler_it_says_that_the_evaluator_is_checked(monkeypatch):
    monkeypatch.setattr(compiler, "find_compiler", no_compiler)
    f = ndl.jit(lambda x: x * 2.0)
    with pytest.warns(UserWarning, match="is checked with the evaluator: no compiler here"):
        assert f(ndl.Tensor([1.0])).item() == 2


# ---- wrong programs -------------------------------------------------------------------------


def make_wrong(function: ndl.jit, result: int | None = None, state: int | None = None) -> None:
    """Add 0.01 to one number of a result, or of a state, of the function's programs from now on."""
    (programs,) = function._programs.values()
    for program in (reference() for reference in programs):
        right = program.executable.run

        def run(arguments, states, clock, right=right):
            results = right(arguments, states, clock)
            target = results[result] if state is None else states[state].cached_data
            array = target.numpy()
            array[tuple(n - 1 for n in array.shape)] += 0.01
            target[...] = array
            return results

        program.executable.run = run


def test_a_wrong_result_is_named():
    training = Training()
    forward = ndl.jit(lambda x: {"logits": [training.model(x), x], "n": 3})
    (x, _), *_ = batches(1)
    forward(x)
    make_wrong(forward, result=0)
    with pytest.raises(CheckError) as caught:
        forward(x)
    message = str(caught.value)
    assert "result['logits'][0], float32 (6, 3), differs at [5, 2]" in message
    assert "difference 0.01 is the largest of 1 above rtol 0.0001" in message
    compiled, eager = map(float, re.search(r"(\S+) compiled, (\S+) eagerly", message).groups())
    assert compiled == pytest.approx(eager + 0.01, abs=1e-5)


def test_a_wrong_state_is_named():
    training = Training()
    (x, y), *_ = batches(1)
    training.step(x, y)
    sources = next(iter(training.step._programs.values()))[0]().trace.states
    of = {id(s.tensor): i for i, s in enumerate(sources)}
    model, optimizer = training.model, training.optimizer
    weight = model.modules[4].weight
    cases = [
        (model.modules[1].running_mean, "new data of Sequential.1.running_mean, float32 (8,)"),
        (weight, "new data of Sequential.4.weight, float32 (8, 3), differs at [7, 2]"),
        (optimizer.state[weight]["m"], "new data of a state of shape (8, 3)"),
    ]
    for tensor, words in cases:
        (program,) = next(iter(training.step._programs.values()))
        right = program().executable.run
        make_wrong(training.step, state=of[id(tensor)])
        with pytest.raises(CheckError, match=re.escape(words)):
            training.step(x, y)
        program().executable.run = right
        training.step(x, y)


def test_a_wrong_gradient_is_named():
    layer = nn.Linear(5, 3)
    (x, y), *_ = batches(1)
    x.requires_grad = False

    @ndl.jit
    def backward(x, y):
        ((layer(x) - y) ** 2).mean().backward()

    backward(x, y)
    (program,) = next(iter(backward._programs.values()))
    numbers = {id(source.tensor): i for source, i in program().trace.effects.grads}
    make_wrong(backward, result=numbers[id(layer.bias)])
    with pytest.raises(CheckError, match=r"the gradient of Linear\.bias"):
        backward(x, y)


def test_a_number_that_python_computed_is_told_from_todays():
    training = Training()
    (x, y), *_ = batches(1)

    @ndl.jit
    def step(x, y):
        training.plain_step(x, y)
        return training.schedule.steps

    with pytest.raises(CheckError, match="result is 0 compiled, 1 eagerly"):
        step(x, y)


def test_random_numbers_that_the_trace_did_not_see():
    @ndl.jit
    def f(x):
        if ndl.autograd.current_trace() is None:
            np.random.rand()
        return x * 2.0

    with pytest.raises(CheckError, match="random state"):
        f(ndl.Tensor([1.0]))


# ---- what is allowed ------------------------------------------------------------------------


def scaled(function: ndl.jit, factor: float) -> None:
    (programs,) = function._programs.values()
    program = programs[0]()
    right = program.executable.run

    def run(arguments, states, clock):
        results = right(arguments, states, clock)
        results[0][...] = results[0].numpy() * factor
        return results

    program.executable.run = run


@pytest.mark.parametrize(
    ("dtype", "slight", "wrong"),
    [("float32", 1 + 2e-5, 1 + 1e-3), ("float64", 1 + 5e-11, 1 + 1e-8), ("int64", 1, 2)],
)
def test_the_tolerance_is_that_of_the_dtype(dtype, slight, wrong):
    x = ndl.Tensor(np.arange(1, 9), dtype=dtype)
    for factor, fails in ((slight, False), (wrong, True)):
        f = ndl.jit(lambda x: x * 3)
        f(x)
        scaled(f, factor)
        if fails:
            with pytest.raises(CheckError, match=f"{dtype} \\(8,\\), differs at \\[7\\]"):
                f(x)
        else:
            f(x)


def test_float64_from_float32_is_as_exact_as_float32():
    x = ndl.Tensor(np.random.RandomState(0).rand(8))
    f = ndl.jit(lambda x: (x * 3.0).astype("float64"))
    f(x)
    scaled(f, 1 + 2e-5)
    f(x)


def test_not_a_number_equals_itself():
    f = ndl.jit(lambda x: (ndl.log(x), x / 0.0))
    with np.errstate(all="ignore"):
        f(ndl.Tensor([-1.0, 1.0, 0.0]))


# ---- the rehearsals leave no trace ----------------------------------------------------------


def test_writing_into_a_tensor_from_outside():
    counts = ndl.Tensor(np.zeros(3), requires_grad=False)
    view = counts.detach()

    @ndl.jit
    def count(x):
        counts[1:] = counts[1:] + x
        return counts

    x = ndl.Tensor([1.0, 10.0], requires_grad=False)
    assert count(x) is counts
    count(x)
    np.testing.assert_array_equal(counts.numpy(), [0, 2, 20])
    assert view.shape == (3,)


def test_gradients_and_arguments_stay_what_they_were():
    training = Training()
    x, y = batches(1)[0]
    loss = ((training.model.eval()(x) - y) ** 2).mean()
    loss.backward()
    before = [p.grad for p in training.model.parameters()]
    forward = ndl.jit(lambda x: training.model(x).mean())
    data = x.cached_data
    forward(x)
    assert x.cached_data is data
    for p, gradient in zip(training.model.parameters(), before, strict=True):
        assert p.grad is gradient
    assert ndl.grad(loss, [x])[0].shape == (6, 5), "nothing was replaced"


def test_an_error_of_the_eager_run_leaves_everything_as_it_was():
    training = Training()
    x, y = batches(1)[0]
    fails = []

    @ndl.jit
    def step(x, y):
        loss = training.plain_step(x, y)
        if fails and current_trace() is None:
            raise KeyError("mine")
        return loss

    step(x, y)
    fails.append(True)
    before = training.model.state_dict()["0.weight"].numpy()
    with pytest.raises(KeyError, match="mine"):
        step(x, y)
    np.testing.assert_array_equal(training.model.state_dict()["0.weight"].numpy(), before)
    assert {state["step"] for state in training.optimizer.state.values()} == {1}
    assert training.schedule.steps == 1


def test_functions_inside_of_functions_run_eagerly():
    double = ndl.jit(lambda x: x * 2.0)
    f = ndl.jit(lambda x: double(x) + 1.0)
    assert f(ndl.Tensor([1.0])).item() == 3
    assert double.compilations == 0


def test_the_mode_is_read_at_each_call(native, monkeypatch):
    f = ndl.jit(lambda x: x * 2.0)
    x = ndl.Tensor([1.0])
    f(x)
    make_wrong(f, result=0)
    with pytest.raises(CheckError):
        f(x)
    monkeypatch.setenv("NEEDLE_JIT", "on")
    assert f(x).item() == pytest.approx(2.01)
    monkeypatch.setenv("NEEDLE_JIT", "off")
    assert f(x).item() == 2
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    assert f(x).item() == 2


def test_an_optimizers_loaded_state_is_used():
    training = Training()
    (x, y), (x2, y2) = batches(2)
    training.step(x, y)
    saved = training.optimizer.state_dict()
    training.step(x2, y2)
    training.optimizer.load_state_dict(saved)
    training.step(x, y)
    assert {state["step"] for state in training.optimizer.state.values()} == {2}
