"""Gradient clipping against PyTorch's."""

import numpy as np
import pytest

import needle as ndl
from needle import optim

SHAPES = [(4, 3), (5,), ()]


def params_with_gradients(device, scale=1.0):
    rng = np.random.RandomState(0)
    params = []
    for shape in SHAPES:
        p = ndl.Tensor(np.zeros(shape), device=device)
        p.grad = ndl.Tensor(scale * rng.randn(*shape), device=device)
        params.append(p)
    return [*params, ndl.Tensor([1.0], device=device)]


def torch_copies(params):
    torch = pytest.importorskip("torch")
    copies = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    for p, copy in zip(params, copies, strict=True):
        if p.grad is not None:
            copy.grad = torch.tensor(p.grad.numpy())
    return torch.nn.utils, copies


def assert_same_gradients(params, peers):
    for p, peer in zip(params, peers, strict=True):
        assert (p.grad is None) == (peer.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), peer.grad.numpy(), rtol=1e-6)
            assert p.grad.dtype == p.dtype


@pytest.mark.parametrize("max_norm", [0.25, 1.0, 1e6])
def test_clip_grad_norm(device, max_norm):
    params = params_with_gradients(device)
    utils, peers = torch_copies(params)
    norm = optim.clip_grad_norm(params, max_norm)
    expected = utils.clip_grad_norm_(peers, max_norm)
    assert norm == pytest.approx(float(expected), rel=1e-6)
    assert_same_gradients(params, peers)


def test_sgd_clips_as_the_course_does(device):
    params = params_with_gradients(device, scale=10.0)
    optim.SGD(params).clip_grad_norm()
    grads = [p.grad.numpy().ravel() for p in params if p.grad is not None]
    assert np.linalg.norm(np.concatenate(grads)) == pytest.approx(0.25, rel=1e-4)


def test_small_gradients_stay_untouched(device):
    params = params_with_gradients(device, scale=1e-3)
    grads = [p.grad for p in params]
    optim.clip_grad_norm(params, 1.0)
    assert all(p.grad is g for p, g in zip(params, grads, strict=True))


@pytest.mark.parametrize("value", [0.1, 100.0])
def test_clip_grad_value(device, value):
    params = params_with_gradients(device)
    utils, peers = torch_copies(params)
    optim.clip_grad_value(params, value)
    utils.clip_grad_value_(peers, value)
    assert_same_gradients(params, peers)


def test_nothing_to_clip():
    p = ndl.Tensor([1.0])
    assert optim.clip_grad_norm(p, 1.0) == 0.0
    assert optim.clip_grad_norm([], 1.0) == 0.0
    optim.clip_grad_value(p, 1.0)
    assert p.grad is None


@pytest.mark.parametrize("function", [optim.clip_grad_norm, optim.clip_grad_value])
@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_bad_limits(function, limit):
    with pytest.raises(ValueError, match=rf"\[{function.__name__}\]"):
        function([ndl.Tensor([1.0])], limit)
