"""Lines that people type without thinking."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn


def test_devices_and_dtypes_by_name() -> None:
    device = ndl.device("cuda" if ndl.cuda.is_available() else "cpu")
    assert device in ndl.all_devices()
    assert ndl.cuda.device_count() >= 0
    x = ndl.ones(2, 3, dtype=ndl.float64, device=device)
    assert x.dtype == ndl.double == "float64"
    assert x.to(device, ndl.float16).dtype == ndl.half
    assert x.to(device="cpu", dtype=ndl.bfloat16).dtype == ndl.bfloat16
    assert x.to(ndl.zeros(1)).dtype == ndl.float32
    assert x.to(x) is x
    assert x.to("cpu", copy=True) is not x
    assert ndl.arange(3).dtype == ndl.long
    assert (x > 0).dtype == ndl.bool
    assert ndl.is_tensor(x)
    assert ndl.numel(x) == 6
    with pytest.raises(TypeError, match="needs a device or a dtype"):
        x.to()


def test_numbers_as_text() -> None:
    loss = ndl.Tensor([1.0, 2.0]).mean()
    assert f"{loss:.3f} {loss}" == "1.500 1.5"
    assert f"{round(loss, 0)}" == "2.0"
    assert +loss is loss


def test_gradients_accumulate_when_asked() -> None:
    model = nn.Linear(3, 2)
    x = ndl.tensor(np.random.RandomState(0).randn(4, 3).astype("float32"))
    model(x).sum().backward()
    once = model.weight.grad.numpy().copy()

    @ndl.jit
    def step(x: ndl.Tensor) -> None:
        model(x).sum().backward(accumulate=True)

    step(x)
    np.testing.assert_allclose(model.weight.grad.numpy(), 2 * once, rtol=1e-6)
    model(x).sum().backward(accumulate=True)
    np.testing.assert_allclose(model.weight.grad.numpy(), 3 * once, rtol=1e-6)
    model(x).sum().backward(retain_graph=True)
    np.testing.assert_allclose(model.weight.grad.numpy(), once, rtol=1e-6)


def test_hooks_see_and_replace_gradients() -> None:
    x = ndl.Tensor([1.0, 2.0])
    h = x * 3.0
    seen = []
    see = h.register_hook(lambda g: seen.append(g.tolist()))
    scale = h.register_hook(lambda g: g * 10.0)
    h.sum().backward()
    assert seen == [[1.0, 1.0]]
    np.testing.assert_array_equal(x.grad.numpy(), [30, 30])
    np.testing.assert_array_equal(h.grad.numpy(), [10, 10])
    scale.remove()
    see.remove()
    see.remove()
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    with pytest.raises(RuntimeError, match="requires no gradient"):
        ndl.zeros(2).register_hook(print)


EQUATIONS = [
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("...ij,jk", (2, 3, 4), (4, 5)),
    ("b...i,i->b...", (2, 3, 7, 4), (4,)), ("ij,ij->ij", (1, 4), (3, 4)), ("...i->...", (2, 3)),
    ("bij,bjk->bik", (1, 3, 4), (5, 4, 2)), ("...,...", (2, 1), (3,)),
]  # fmt: skip


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda case: case[0])
def test_einsum(case: tuple) -> None:
    torch = pytest.importorskip("torch")
    equation, *shapes = case
    arrays = [np.random.RandomState(i).randn(*shape) for i, shape in enumerate(shapes)]
    ours = [ndl.Tensor(x, dtype="float64") for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    result, expected = ndl.einsum(equation, *ours), torch.einsum(equation, *theirs)
    np.testing.assert_allclose(result.numpy(), expected.detach().numpy(), rtol=1e-12)
    result.sum().backward()
    expected.sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)


def test_first_lines_of_programs() -> None:
    """Keywords, constants and modules that programs use without thinking."""
    from needle.distributions.categorical import Categorical
    from needle.distributions.kl import kl_divergence

    from needle.distributions.normal import Normal

    assert ndl.zeros(size=(2, 3)).shape == ndl.empty(size=(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError, match="twice"):
        ndl.ones(2, size=(2,))
    x = ndl.ones(2, 3)
    assert ndl.zeros_like(x, memory_format=ndl.preserve_format).shape == x.shape
    assert x.clone(memory_format=ndl.contiguous_format).is_contiguous()
    assert ndl.randn_like(x, requires_grad=True).requires_grad
    assert x.new_zeros(size=(2,), requires_grad=True).requires_grad
    assert x.new_full((2,), 3, dtype=ndl.int64).tolist() == [3, 3]
    assert isinstance(x.size(), ndl.Size)
    assert isinstance(x.dtype, ndl.dtype)
    assert ndl.inf > ndl.pi > ndl.e
    assert x[:, ndl.newaxis].shape == (2, 1, 3)
    first, second = (ndl.rand(3, generator=ndl.Generator().manual_seed(5)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert ndl.Generator("cpu").device == ndl.Generator(device="cpu").device == ndl.cpu()
    assert Categorical is ndl.distributions.Categorical
    assert kl_divergence(Normal(0.0, 1.0), Normal(0.0, 1.0)).item() == 0


@pytest.mark.parametrize("repeats", [(2, 1), (1, 1), (1, 2, 3)])
def test_repeated_tensors_can_be_written_to(repeats: tuple[int, ...]) -> None:
    x = ndl.tensor([[1.0, 2.0]])
    x.repeat(*repeats).mul_(3.0)
    assert x.tolist() == [[1.0, 2.0]]


def test_filled_diagonals() -> None:
    assert ndl.ones((2, 2), dtype="bool").fill_diagonal_(0).tolist() == [
        [False, True],
        [True, False],
    ]
    assert ndl.zeros(3, 2).fill_diagonal_(5).tolist() == [[5, 0], [0, 5], [0, 0]]
    assert ndl.zeros(2, 2, 2).fill_diagonal_(1).sum().item() == 2
    with pytest.raises(ValueError, match="two axes"):
        ndl.zeros(2).fill_diagonal_(1)


def test_ranges_are_indices() -> None:
    x = ndl.arange(12.0).reshape(3, 4)
    y = ndl.tensor([1, 0, 2])
    assert x[range(3), y].tolist() == [1, 4, 10]
    assert x[range(0)].shape == (0, 4)
    x[range(3), y] = 0.0
    assert x.sum().item() == 66 - 15
    picked = ndl.jit(lambda x: x[range(1, 3), [0, 1]])
    assert picked(x).tolist() == [0, 9]


def test_triangles_keep_the_dtype() -> None:
    for dtype in ("bool", "int32", "uint8", "float16"):
        x = ndl.ones(2, 2, dtype=dtype)
        assert x.tril().dtype == x.triu(1).dtype == dtype
        assert x.triu_(1).tolist() == [[0, 1], [0, 0]]


def test_wrapped_models() -> None:
    model = nn.DataParallel(nn.Linear(3, 2))
    x = ndl.ones(4, 3)
    assert (model(x) == model.module(x)).all().item()
    assert nn.parallel.data_parallel(model, x).shape == (4, 2)
    with pytest.raises(ValueError, match="one device"):
        nn.DataParallel(model, device_ids=[0, 1])
    accelerator = ndl.accelerator.current_accelerator()
    assert (accelerator is None) != ndl.accelerator.is_available()


def test_recording_is_switched() -> None:
    x = ndl.ones(2, requires_grad=True)
    for mode in (True, False):
        with ndl.set_grad_enabled(mode):
            assert (x * 2).requires_grad is mode
        with ndl.inference_mode(mode):
            assert (x * 2).requires_grad is not mode
    ndl.set_grad_enabled(False)
    assert not ndl.is_grad_enabled()
    ndl.set_grad_enabled(True)
    double = ndl.set_grad_enabled(False)(lambda x: x * 2)
    assert ndl.is_grad_enabled()
    assert not double(x).requires_grad
    assert not ndl.inference_mode(lambda x: x * 2)(x).requires_grad
    assert not ndl.inference_mode()(lambda x: x * 2)(x).requires_grad
    assert ndl.is_floating_point(x)
    assert not ndl.is_complex(x)
    assert ndl.autograd.grad(x.sum(), [x], only_inputs=True)[0].tolist() == [1, 1]


def test_random_samples_again() -> None:
    sampler = ndl.data.RandomSampler(range(3), replacement=True, num_samples=50)
    drawn = [int(i) for i in sampler]
    assert (len(sampler), len(drawn), set(drawn)) == (50, 50, {0, 1, 2})
    drawn = [int(i) for i in ndl.data.RandomSampler(range(3), num_samples=7)]
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 1, 2]
    rng = np.random.default_rng(0)
    assert len(list(ndl.data.RandomSampler(range(3), rng, replacement=True))) == 3
    with pytest.raises(ValueError, match="num_samples"):
        ndl.data.RandomSampler(range(3), num_samples=0)


def test_modules_that_are_added_by_name() -> None:
    model = nn.Sequential()
    model.add_module("0", nn.Linear(3, 2))
    model.add_module("act", nn.ReLU())
    model.add_module("0", nn.Linear(3, 4))  # takes the place
    x = ndl.ones(2, 3)
    assert (model(x) == model.act(getattr(model, "0")(x))).all().item()
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert [name for name, _ in model.named_children()] == ["0", "act"]
    parts = nn.ModuleDict({"wte": nn.Embedding(5, 4), "h": nn.ModuleList([nn.ReLU()])})
    parts.add_module("drop", nn.Dropout(0.0))
    assert parts.wte is parts["wte"]
    assert parts.drop is parts["drop"]
    assert getattr(parts.h, "0") is parts.h[0]
    with pytest.raises(AttributeError, match="no attribute 'wpe'"):
        _ = parts.wpe
    for owner in (model, parts):
        with pytest.raises(TypeError, match="must be a Module"):
            owner.add_module("x", 3)


def test_buffers_are_replaced_by_tensors() -> None:
    module = nn.Identity()
    module.register_buffer("mean", ndl.zeros(3))
    module.mean = module.mean[:2] + 1
    assert module.state_dict()["mean"].tolist() == [1, 1]
    assert [name for name, _ in module.half().named_buffers()] == ["mean"]
    assert module.mean.dtype == ndl.half

    @ndl.jit
    def step(x: ndl.Tensor) -> ndl.Tensor:
        module.mean = module.mean * 0.5 + x * 0.5
        return module.mean.sum()

    module.float()
    assert [step(ndl.full((2,), 3.0)).item() for _ in range(3)] == [4, 5, 5.5]
    assert module.mean.tolist() == [2.75, 2.75]
    with pytest.raises(TypeError, match="buffer"):
        module.mean = np.zeros(2)


def random_equation(random: np.random.RandomState) -> tuple[str, list[np.ndarray]]:
    """An equation of one to three operands, with `...`, repeated letters and axes of length 1."""
    letters = list("abcde")
    lengths = {c: random.randint(1, 4) for c in letters}
    inputs, arrays = [], []
    for _ in range(random.randint(1, 4)):
        names = list(random.choice(letters, random.randint(0, 4)))
        shape = [lengths[c] for c in names]
        if random.rand() < 0.3:
            at = random.randint(0, len(names) + 1)
            shape[at:at] = [2, 1][: random.randint(0, 3)]
            names.insert(at, "...")
        inputs.append("".join(names))
        arrays.append(np.asarray(random.normal(size=shape)))
    equation = ",".join(inputs)
    if random.rand() < 0.6:
        known = sorted(set(equation) - set(".,"))
        chosen = list(random.permutation(known))[: random.randint(0, len(known) + 1)]
        equation += "->" + "..." * ("..." in equation) + "".join(chosen)
    return equation, arrays


def test_random_equations() -> None:
    """Those that PyTorch takes give its numbers; those that it refuses are refused."""
    torch = pytest.importorskip("torch")
    random = np.random.RandomState(0)
    taken = 0
    for _ in range(200):
        equation, arrays = random_equation(random)
        note = f"{equation} of {[x.shape for x in arrays]}"
        ours = [ndl.Tensor(x, dtype="float64") for x in arrays]
        try:
            expected = torch.einsum(equation, *map(torch.tensor, arrays)).numpy()
        except RuntimeError:
            with pytest.raises(ValueError, match="einsum"):
                ndl.einsum(equation, *ours)
            continue
        taken += 1
        result = ndl.einsum(equation, *ours)
        assert result.shape == expected.shape, note
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12, err_msg=note)
    assert taken > 120
