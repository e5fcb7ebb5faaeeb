"""Losses: values and gradients against PyTorch and NumPy, reductions, bad targets."""

import gc

import numpy as np
import pytest

import needle as ndl
from needle import nn

REDUCTIONS = ["mean", "sum", "none"]


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def check(device, ours, theirs, x, *targets):
    """Both losses and their gradients at `x`; `targets` are NumPy arrays."""
    torch = pytest.importorskip("torch")
    our_x = ndl.Tensor(x, device=device)
    their_x = torch.tensor(x, requires_grad=True)
    our_loss = ours(our_x, *[ndl.Tensor(t, device=device) for t in targets])
    their_loss = theirs(their_x, *[torch.tensor(t) for t in targets])
    np.testing.assert_allclose(our_loss.numpy(), their_loss.detach().numpy(), rtol=2e-5, atol=1e-6)
    assert our_loss.shape == tuple(their_loss.shape)
    our_loss.sum().backward()
    their_loss.sum().backward()
    np.testing.assert_allclose(our_x.grad.numpy(), their_x.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(device, reduction, smoothing, ignore_index):
    torch = pytest.importorskip("torch")
    options = dict(reduction=reduction, label_smoothing=smoothing, ignore_index=ignore_index)
    labels = np.array([0, 3, 2, 1, 2, 0])
    check(
        device,
        nn.CrossEntropyLoss(**options),
        torch.nn.CrossEntropyLoss(**options),
        numbers(6, 4) * 4,
        labels,
    )


def test_softmax_loss_is_the_mean_cross_entropy(device):
    assert issubclass(nn.SoftmaxLoss, nn.CrossEntropyLoss)
    assert nn.CrossEntropy is nn.CrossEntropyLoss
    logits, labels = numbers(5, 3), np.array([0, 1, 2, 1, 0])
    shifted = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), labels]
    for loss_fn in (nn.SoftmaxLoss(), nn.NLLLoss()):  # plain arrays of labels
        assert loss_fn(ndl.Tensor(logits, device=device), labels).shape == ()
    for kind in ("int64", "uint8", "float32"):  # course programs have labels stored as floats
        loss = nn.SoftmaxLoss()(
            ndl.Tensor(logits, device=device), ndl.Tensor(labels, device=device, dtype=kind)
        )
        np.testing.assert_allclose(loss.numpy(), shifted.mean(), rtol=1e-5)
        assert loss.dtype == "float32"
        assert loss.shape == ()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_of_huge_logits(device, reduction):
    logits = ndl.Tensor([[1e4, -1e4], [-1e4, 1e4]], device=device)
    loss = nn.CrossEntropyLoss(reduction=reduction)(logits, ndl.Tensor(np.array([0, 0])).to(device))
    assert np.isfinite(loss.numpy()).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["MSELoss", "L1Loss"])
def test_regression_losses(device, name, reduction):
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(reduction=reduction)
    theirs = getattr(torch.nn, name)(reduction=reduction)
    check(device, ours, theirs, numbers(4, 3), numbers(4, 3, seed=1))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bce_with_logits(device, reduction):
    torch = pytest.importorskip("torch")
    targets = np.random.RandomState(1).rand(4, 3).astype("float32")
    check(
        device,
        nn.BCEWithLogitsLoss(reduction=reduction),
        torch.nn.BCEWithLogitsLoss(reduction=reduction),
        numbers(4, 3) * 20,
        targets,
    )


def test_bce_with_logits_is_finite(device):
    x = ndl.Tensor([1e4, -1e4, 1e4, -1e4], device=device)
    loss = nn.BCEWithLogitsLoss(reduction="none")(x, ndl.Tensor([1.0, 0, 0, 1], device=device))
    np.testing.assert_allclose(loss.numpy(), [0, 0, 1e4, 1e4])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_nll(device, reduction, ignore_index):
    torch = pytest.importorskip("torch")
    options = dict(reduction=reduction, ignore_index=ignore_index)
    logits = numbers(5, 3)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    check(
        device,
        nn.NLLLoss(**options),
        torch.nn.NLLLoss(**options),
        log_probabilities,
        np.array([0, 2, 1, 1, 0]),
    )


@pytest.mark.filterwarnings("ignore:reduction")  # PyTorch advises "batchmean"
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div(device, reduction, log_target):
    torch = pytest.importorskip("torch")
    targets = np.random.RandomState(1).rand(4, 3).astype("float32")
    if log_target:
        targets = np.log(targets)
    else:
        targets[0, 0] = 0
    options = dict(reduction=reduction, log_target=log_target)
    check(device, nn.KLDivLoss(**options), torch.nn.KLDivLoss(**options), numbers(4, 3), targets)


@pytest.mark.parametrize("loss_fn", [nn.SoftmaxLoss(), nn.NLLLoss()], ids=str)
def test_labels_that_are_all_ignored(device, loss_fn):
    logits = ndl.Tensor(numbers(2, 3), device=device)
    loss = loss_fn(logits, ndl.Tensor(np.array([-100, -100]), device=device))
    assert np.isnan(loss.numpy())  # as in PyTorch


@pytest.mark.parametrize("loss_fn", [nn.SoftmaxLoss(), nn.NLLLoss()], ids=str)
def test_labels_that_are_no_integers(device, loss_fn):
    logits = ndl.Tensor(numbers(2, 3), device=device)
    for bad in (0.5, float("nan")):
        with pytest.raises(TypeError, match="labels"):
            loss_fn(logits, ndl.Tensor([0.0, bad], device=device))


def test_labels_of_the_smallest_type_are_not_taken_for_ignored():
    rows = np.zeros((1, 200), "float32")
    label = ndl.Tensor(np.array([156], "uint8"))  # -100 in 8 bits
    for loss_fn in (nn.SoftmaxLoss(), nn.NLLLoss()):
        assert np.isfinite(loss_fn(ndl.Tensor(rows), label).numpy())


def test_losses_hold_no_graph(device):
    loss_fn = nn.SoftmaxLoss()
    logits = ndl.Tensor(numbers(4, 3), device=device)
    labels = ndl.Tensor(np.array([0, 1, 2, 0]), device=device)
    loss_fn(logits, labels)
    gc.collect()  # what earlier tests left in reference cycles
    alive = ndl.autograd.TENSOR_COUNTER
    for _ in range(3):
        loss_fn(logits, labels)
    assert alive == ndl.autograd.TENSOR_COUNTER


@pytest.mark.parametrize("loss_fn", [nn.SoftmaxLoss(), nn.NLLLoss()], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_labels_out_of_range(device, loss_fn, reduction):
    loss_fn.reduction = reduction
    logits = ndl.Tensor(numbers(3, 4), device=device)
    for bad in (4, -1):
        with pytest.raises(IndexError, match=str(bad)):
            loss_fn(logits, ndl.Tensor(np.array([0, bad, 1]), device=device))


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "reduction", lambda: nn.MSELoss("average")),
        (ValueError, "reduction", lambda: nn.L1Loss("batchmean")),
        (ValueError, "label_smoothing", lambda: nn.CrossEntropyLoss(label_smoothing=1.5)),
        (TypeError, "ignore_index", lambda: nn.NLLLoss(ignore_index=0.5)),
    ],
)
def test_bad_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    ("loss_fn", "shape", "target"),
    [
        (nn.SoftmaxLoss(), (3, 4), np.zeros(2, "int64")),
        (nn.SoftmaxLoss(), (3,), np.zeros(3, "int64")),
        (nn.CrossEntropyLoss(reduction="none"), (3, 4), np.zeros(2, "int64")),
        (nn.NLLLoss(), (3, 4), np.zeros((3, 1), "int64")),
        (nn.NLLLoss(), (3,), np.zeros(3, "int64")),
        (nn.MSELoss(), (3, 1), np.zeros(3, "float32")),
        (nn.L1Loss(), (3, 1), np.zeros(3, "float32")),
        (nn.BCEWithLogitsLoss(), (3, 1), np.zeros(3, "float32")),
        (nn.KLDivLoss(), (3, 1), np.zeros(3, "float32")),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(loss_fn, shape, target):
    with pytest.raises(ValueError, match=r"\["):
        loss_fn(ndl.Tensor(numbers(*shape)), ndl.Tensor(target))


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.MSELoss(),
        nn.L1Loss(),
        nn.BCEWithLogitsLoss(),
        nn.KLDivLoss(),
        nn.KLDivLoss(log_target=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_targets_may_be_arrays(device, loss_fn, dtype):
    x, target = ndl.Tensor(numbers(4, 3), device=device), np.eye(4, 3, dtype=dtype)
    expected = loss_fn(x, ndl.Tensor(target, device=device, requires_grad=False))
    assert loss_fn(x, target).device is x.device
    np.testing.assert_allclose(loss_fn(x, target).numpy(), expected.numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="one shape"):
        loss_fn(x, target[0])
