"""Distributions against PyTorch: densities, moments, divergences and draws with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import distributions

torch = pytest.importorskip("torch")

RNG = np.random.RandomState(0)
POSITIVE = [RNG.uniform(0.2, 3, (2, 3)) for _ in range(3)]
REAL, SIGNED = RNG.randn(2, 3), RNG.randn(2, 3)
UNIT = RNG.uniform(0.05, 0.95, (2, 3))
ROOT = np.tril(RNG.randn(2, 3, 3)) * 0.3 + np.eye(3)
SIMPLEX = POSITIVE[0] / POSITIVE[0].sum(-1, keepdims=True)
Values = Sequence[np.ndarray]

# name -> two lists of parameters, a value; the parameters by name where PyTorch has them so.
CASES: dict[str, tuple[Values, Values, np.ndarray]] = {
    "Normal": ([REAL, POSITIVE[0]], [SIGNED, POSITIVE[1]], REAL * 2),
    "LogNormal": ([REAL, POSITIVE[0]], [SIGNED, POSITIVE[1]], POSITIVE[2]),
    "MultivariateNormal": ([REAL, ROOT @ ROOT.swapaxes(1, 2)],
                           [SIGNED, (ROOT @ ROOT.swapaxes(1, 2)) * 2 + np.eye(3)], SIGNED),
    "Uniform": ([REAL, REAL + POSITIVE[0]], [REAL - 1, REAL + POSITIVE[0] + 1],
                REAL + 0.3 * POSITIVE[0]),
    "Exponential": ([POSITIVE[0]], [POSITIVE[1]], POSITIVE[2]),
    "Laplace": ([REAL, POSITIVE[0]], [SIGNED, POSITIVE[1]], REAL * 2),
    "Gamma": ([POSITIVE[0], POSITIVE[1]], [POSITIVE[1], POSITIVE[2]], POSITIVE[2]),
    "Beta": ([POSITIVE[0], POSITIVE[1]], [POSITIVE[1], POSITIVE[2]], UNIT),
    "Dirichlet": ([POSITIVE[0]], [POSITIVE[1]], SIMPLEX),
    "Bernoulli": ([UNIT], [1 - UNIT], (REAL > 0).astype("float64")),
    "Categorical": ([POSITIVE[0]], [POSITIVE[1]], np.array([2, 0])),
    "OneHotCategorical": ([POSITIVE[0]], [POSITIVE[1]], np.eye(3)[[2, 0]]),
    "Poisson": ([POSITIVE[0]], [POSITIVE[1]], RNG.randint(0, 7, (2, 3)).astype("float64")),
}  # fmt: skip
MOMENTLESS = ("Categorical",)


def ours(device: ndl.Device, name: str, values: Values) -> tuple[Any, list[ndl.Tensor]]:
    params = [ndl.Tensor(v, device=device, dtype="float64") for v in values]
    return getattr(distributions, name)(*params), params


def theirs(name: str, values: Values) -> tuple[Any, list[Any]]:
    params = [torch.tensor(v, requires_grad=True) for v in values]
    return getattr(torch.distributions, name)(*params), params


def tensor(value: np.ndarray, device: ndl.Device) -> ndl.Tensor:
    return ndl.Tensor(value, device=device, dtype=str(value.dtype), requires_grad=False)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a), b.detach().numpy(), rtol=1e-8, atol=1e-9)
    assert a.shape == tuple(b.shape)


@pytest.mark.parametrize("name", CASES)
def test_is_pytorchs(device, name):
    first, second, value = CASES[name]
    (p, params), (q, _) = ours(device, name, first), ours(device, name, second)
    (tp, peers), (tq, _) = theirs(name, first), theirs(name, second)
    log_prob, exact = p.log_prob(tensor(value, device)), tp.log_prob(torch.tensor(value))
    close(log_prob, exact)
    log_prob.sum().backward()
    exact.sum().backward()
    for param, peer in zip(params, peers, strict=True):
        if name != "MultivariateNormal" or param.ndim == 2:
            close(param.grad, peer.grad)
    if name != "Poisson":
        close(p.entropy(), tp.entropy())
    if name not in MOMENTLESS:
        close(p.mean, tp.mean)
        close(p.variance, tp.variance)
        close(p.stddev, tp.stddev)
    close(distributions.kl_divergence(p, q), torch.distributions.kl_divergence(tp, tq))
    assert p.batch_shape == tuple(tp.batch_shape)
    assert p.event_shape == tuple(tp.event_shape)


@pytest.mark.parametrize("name", CASES)
def test_draws(device, name):
    np.random.seed(0)
    p, _ = ours(device, name, CASES[name][0])
    n = 20_000
    x = p.sample((n,))
    assert not x.requires_grad
    assert x.shape == (n, *p.batch_shape, *p.event_shape)
    values = x.numpy().astype("float64")
    if name == "Categorical":
        values = np.eye(3)[x.numpy()]
        p = distributions.OneHotCategorical(p.probs)
    if name == "LogNormal":  # whose own moments a few large draws decide
        values, p = np.log(values), p.base
    mean, std = p.mean.numpy(), p.stddev.numpy()
    np.testing.assert_array_less(np.abs(values.mean(0) - mean), 5 * std / np.sqrt(n))
    np.testing.assert_allclose(values.std(0), std, rtol=0.05)


@pytest.mark.parametrize("rate", [0.5, 9.9, 10.0, 37.0, 1e4])
def test_poisson_draws_have_the_right_distribution(rate):
    stats = pytest.importorskip("scipy.stats")
    np.random.seed(1)
    x = distributions.Poisson(rate).sample((20_000,)).numpy()
    counts = np.unique(x)
    found = np.searchsorted(np.sort(x), counts, side="right") / x.size
    assert np.abs(found - stats.poisson(rate).cdf(counts)).max() < 1.7 / np.sqrt(x.size)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 3.0, 40.0, 2000.0])
def test_gamma_draws_and_their_gradient(alpha):
    """The implicit derivative of PyTorch, which is good to four digits."""
    stats = pytest.importorskip("scipy.stats")
    np.random.seed(2)
    a = ndl.Tensor(np.full(4000, alpha), dtype="float64")
    x = distributions.Gamma(a, 1.0).rsample()
    assert stats.kstest(x.numpy(), stats.gamma(alpha).cdf).pvalue > 1e-3
    x.sum().backward()
    exact = torch._standard_gamma_grad(torch.tensor(a.numpy()), torch.tensor(x.numpy())).numpy()
    np.testing.assert_allclose(a.grad.numpy(), exact, rtol=5e-3, atol=1e-12)


@pytest.mark.parametrize("name", ["Normal", "LogNormal", "Uniform", "Exponential", "Laplace",
                                  "MultivariateNormal", "Gamma", "Beta", "Dirichlet"])  # fmt: skip
def test_draws_have_gradients(device, name):
    p, params = ours(device, name, CASES[name][0])
    p.rsample((2,)).sum().backward()
    assert all(np.isfinite(param.grad.numpy()).all() for param in params)


def test_compiled():
    names = [name for name in CASES if name != "MultivariateNormal"]
    given = [
        ([ndl.Tensor(v) for v in CASES[name][0]], tensor(CASES[name][2], ndl.default_device()))
        for name in names
    ]

    def run(given: Any) -> list[Any]:
        found = []
        for name, (params, value) in zip(names, given, strict=True):
            p = getattr(distributions, name)(*params)
            found.append((p.log_prob(value), p.sample((2,))))
        return found

    compiled = ndl.jit(run)
    np.random.seed(3)
    eager = run(given)
    np.random.seed(3)
    for name, a, b in zip(names, compiled(given), eager, strict=True):
        np.testing.assert_allclose(a[0].numpy(), b[0].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(a[1].numpy(), b[1].numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_independent_axes(device):
    p = distributions.Independent(ours(device, "Normal", CASES["Normal"][0])[0], 1)
    q = distributions.Independent(ours(device, "Normal", CASES["Normal"][1])[0], 1)
    tp, tq = (
        torch.distributions.Independent(theirs("Normal", CASES["Normal"][i])[0], 1) for i in (0, 1)
    )
    close(p.log_prob(tensor(REAL, device)), tp.log_prob(torch.tensor(REAL)))
    close(p.entropy(), tp.entropy())
    close(distributions.kl_divergence(p, q), torch.distributions.kl_divergence(tp, tq))
    assert p.rsample((4,)).shape == (4, 2, 3)


def test_logits(device):
    for name in ("Bernoulli", "Categorical", "OneHotCategorical"):
        value = CASES[name][2]
        p = getattr(distributions, name)(logits=tensor(REAL, device))
        peer = getattr(torch.distributions, name)(logits=torch.tensor(REAL))
        close(p.log_prob(tensor(value, device)), peer.log_prob(torch.tensor(value)))
        close(p.entropy(), peer.entropy())


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, r"\[Normal\] scale", lambda: distributions.Normal(0.0, -1.0)),
        (ValueError, r"\[Uniform\] high", lambda: distributions.Uniform(1.0, 1.0)),
        (ValueError, r"\[Bernoulli\] probs", lambda: distributions.Bernoulli(1.5)),
        (ValueError, "probs or logits", lambda: distributions.Categorical()),
        (ValueError, "scale_tril", lambda: distributions.MultivariateNormal(ndl.zeros(2))),
        (ValueError, "axes", lambda: distributions.Independent(distributions.Normal(0.0, 1.0), 1)),
        (NotImplementedError, "use sample", lambda: distributions.Poisson(1.0).rsample()),
        (NotImplementedError, "average", lambda: distributions.kl_divergence(
            distributions.Poisson(1.0), distributions.Normal(0.0, 1.0))),
    ],
)  # fmt: skip
def test_wrong_arguments(error: type[Exception], match: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=match):
        call()
