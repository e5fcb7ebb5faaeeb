"""Fourier transforms and complex pairs: values and gradients against `torch.fft`."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import fft
from needle.fft import ComplexTensor

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 4, 5))
COMPLEX = RNG.normal(size=(3, 4, 5)) + 1j * RNG.normal(size=(3, 4, 5))

CASES = [
    *((name, {}) for name in (
        "fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn",
        "rfftn", "irfftn",
    )),
    *((name, {"norm": norm}) for name in ("fft", "ifft", "rfft", "irfft", "rfft2", "irfft2")
      for norm in ("ortho", "forward", "backward")),
    *((name, {"n": n, "dim": dim}) for name in ("fft", "ifft", "rfft", "irfft")
      for n in (3, 4, 8) for dim in (0, 1, -1)),
    *((name, {"s": s, "dim": (0, 2)}) for name in ("fft2", "ifft2", "rfft2", "irfft2")
      for s in ((2, 4), (5, 7), (-1, 3))),
    ("fftn", {"s": (2, 3)}), ("rfftn", {"dim": (1,)}), ("irfftn", {"s": (4, 6)}),
    ("hfft", {}), ("hfft", {"n": 7, "dim": 0, "norm": "ortho"}), ("hfft", {"norm": "forward"}),
    ("ihfft", {}), ("ihfft", {"n": 4, "dim": 1}), ("ihfft", {"norm": "forward"}),
    ("hfft2", {}), ("ihfft2", {"norm": "ortho"}), ("hfftn", {}), ("ihfftn", {"dim": (1, 0)}),
    ("hfftn", {"s": (3, 6), "norm": "forward"}),
    ("rfft", {"n": 1}), ("irfft", {"n": 1}), ("irfft", {"n": 2}),
]  # fmt: skip


def takes_complex(name):
    return not name.startswith(("r", "ih"))


def ours(values, dtype="float64"):
    if np.iscomplexobj(values):
        parts = [ndl.Tensor(x, dtype=dtype) for x in (values.real, values.imag)]
        return ComplexTensor(*parts), parts
    x = ndl.Tensor(values, dtype=dtype)
    return x, [x]


def loss(result, weights):
    """One number of a result of needle or PyTorch."""
    if isinstance(result, ComplexTensor):
        parts = result.real, result.imag
        make = lambda w: ndl.Tensor(w, dtype=result.real.dtype, requires_grad=False)  # noqa: E731
    elif isinstance(result, ndl.Tensor):
        parts = (result,)
        make = lambda w: ndl.Tensor(w, dtype=result.dtype, requires_grad=False)  # noqa: E731
    else:
        parts = (result.real, result.imag) if result.is_complex() else (result,)
        make = torch.tensor
    return sum((p * p * make(w)).sum() for p, w in zip(parts, weights, strict=False))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("values", [REAL, COMPLEX], ids=["real", "complex"])
def test_transforms_are_those_of_pytorch(name, options, values):
    if np.iscomplexobj(values) and not takes_complex(name):
        with pytest.raises(TypeError, match="real Tensors"):
            getattr(fft, name)(ours(values)[0], **options)
        return
    theirs_in = torch.tensor(values, requires_grad=True)
    theirs = getattr(torch.fft, name)(theirs_in, **options)
    x, parts = ours(values)
    result = getattr(fft, name)(x, **options)
    assert result.shape == theirs.shape
    np.testing.assert_allclose(result.numpy(), theirs.detach().resolve_conj().numpy(), atol=1e-12)
    weights = [np.random.default_rng(i).normal(size=result.shape) for i in range(2)]
    (expected,) = torch.autograd.grad(loss(theirs, weights), [theirs_in], create_graph=True)
    gradients = ndl.grad(loss(result, weights), parts)
    expected_parts = [expected.real, expected.imag] if expected.is_complex() else [expected]
    for g, e in zip(gradients, expected_parts, strict=True):
        np.testing.assert_allclose(g.numpy(), e.detach().resolve_neg().numpy(), atol=1e-10)
    (second,) = torch.autograd.grad(sum((e**2).sum() for e in expected_parts), [theirs_in])
    seconds = ndl.grad(sum((g * g).sum() for g in gradients), parts)
    second_parts = [second.real, second.imag] if second.is_complex() else [second]
    for g, e in zip(seconds, second_parts, strict=True):
        np.testing.assert_allclose(g.numpy(), e.resolve_neg().numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["fft", "rfft", "ifft2", "irfft"])
def test_every_device_in_float32(name, device):
    x = ndl.Tensor(REAL, device=device, dtype="float32")
    result = getattr(fft, name)(x)
    part = result.real if isinstance(result, ComplexTensor) else result
    assert part.device == device
    assert part.dtype == "float32"
    theirs = getattr(torch.fft, name)(torch.tensor(REAL)).numpy()
    np.testing.assert_allclose(result.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_integers_and_stored_floats_become_float32():
    assert fft.fft(ndl.Tensor(np.arange(4))).dtype == "complex64"
    assert fft.rfft(ndl.ones(4, dtype="bfloat16")).dtype == "complex64"
    assert fft.fft(ndl.ones(4, dtype="float64")).dtype == "complex128"


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_frequencies_and_shifts(n):
    for name in ("fftfreq", "rfftfreq"):
        np.testing.assert_allclose(
            getattr(fft, name)(n, 0.5).numpy(), getattr(torch.fft, name)(n, 0.5), rtol=1e-6
        )
    x = RNG.normal(size=(n, 3, 4))
    for name in ("fftshift", "ifftshift"):
        for dim in (None, 0, (0, -1)):
            theirs = getattr(torch.fft, name)(torch.tensor(x), dim).numpy()
            np.testing.assert_array_equal(getattr(fft, name)(ndl.Tensor(x), dim=dim).numpy(),
                                          theirs.astype("float32"))  # fmt: skip
    z = ours(x + 1j)[0]
    np.testing.assert_array_equal(fft.ifftshift(fft.fftshift(z)).numpy(), x + 1j)


OPERATIONS = [
    lambda a, b, r: a + b, lambda a, b, r: a - b, lambda a, b, r: a * b, lambda a, b, r: a / b,
    lambda a, b, r: a + r, lambda a, b, r: -a + r, lambda a, b, r: a * r, lambda a, b, r: 1 / a * r,
    lambda a, b, r: a / r, lambda a, b, r: a - r, lambda a, b, r: a + (1 - 2j),
    lambda a, b, r: (2j) * a, lambda a, b, r: (1 + 1j) / a, lambda a, b, r: a / 3j,
    lambda a, b, r: 2 - a, lambda a, b, r: a * 3.0, lambda a, b, r: -a, lambda a, b, r: a**3,
    lambda a, b, r: a.conj() * b, lambda a, b, r: a.abs(), lambda a, b, r: abs(a * b),
    lambda a, b, r: a.angle(),
    lambda a, b, r: a[1:, 0], lambda a, b, r: a.reshape(2, 6), lambda a, b, r: a.permute(1, 0),
    lambda a, b, r: a.sum(0), lambda a, b, r: a.mean(1), lambda a, b, r: a[0] + r,
    lambda a, b, r: a + b[0],
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("compiled", [False, True])
def test_arithmetic_is_that_of_pytorch(operation, compiled):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)) for _ in range(2))
    r = rng.normal(size=(3, 4))
    theirs_in = [torch.tensor(x, requires_grad=True) for x in (a, b, r)]
    theirs = operation(*theirs_in)
    theirs_loss = loss(theirs, [np.ones(theirs.shape)] * 2)
    expected = torch.autograd.grad(theirs_loss, theirs_in, allow_unused=True)

    def run(*parts):
        result = operation(ComplexTensor(*parts[:2]), ComplexTensor(*parts[2:4]), parts[4])
        total = loss(result, [np.ones(result.shape)] * 2)
        gradients = ndl.grad(total, parts)
        return total, [p * 0 if g is None else g for p, g in zip(parts, gradients, strict=True)]

    parts = [ndl.Tensor(x, dtype="float64") for x in (a.real, a.imag, b.real, b.imag, r)]
    total, gradients = (ndl.jit(run) if compiled else run)(*parts)
    np.testing.assert_allclose(total.item(), theirs_loss.item(), rtol=1e-10)
    split = []
    for x, g in zip((a, b, r), expected, strict=True):
        g = np.zeros_like(x) if g is None else g.resolve_conj().numpy()
        split += [g.real, g.imag] if np.iscomplexobj(x) else [g]
    for g, e in zip(gradients, split, strict=True):
        np.testing.assert_allclose(g.numpy(), e, rtol=1e-8, atol=1e-10)


def test_a_real_tensor_stands_on_either_side():
    """Of every operator, also recorded; NumPy's arrays and strings are refused as before."""
    z, _ = ours(COMPLEX)
    x, _ = ours(REAL)
    for symbol in ("+", "-", "*", "/"):
        result = eval(f"x {symbol} z")
        assert isinstance(result, ComplexTensor)
        np.testing.assert_allclose(result.numpy(), eval(f"REAL {symbol} COMPLEX"), rtol=1e-12)
    ((x * z).real.sum() + (x / z).imag.sum()).backward()
    assert x.grad is not None
    for wrong in ("text", object()):
        with pytest.raises(TypeError, match="an operand must be a Tensor"):
            x * wrong


def test_the_gradient_of_abs_at_0_is_0():
    parts = [ndl.zeros(2, requires_grad=True) for _ in range(2)]
    for g in ndl.grad(ComplexTensor(*parts).abs().sum(), parts):
        assert g.tolist() == [0, 0]


def test_conversions():
    z = ours(COMPLEX)[0]
    theirs = torch.view_as_real(torch.tensor(COMPLEX))
    np.testing.assert_array_equal(fft.view_as_real(z).numpy(), theirs.numpy())
    np.testing.assert_array_equal(fft.view_as_complex(fft.view_as_real(z)).numpy(), COMPLEX)
    assert z[0, 0, 0].item() == COMPLEX[0, 0, 0]
    assert z.ndim == 3
    assert len(z) == 3
    assert z.dtype == "complex128"
    assert z.tolist() == COMPLEX.tolist()
    assert not z.detach().real.requires_grad
    assert "1.+0.j" in repr(ComplexTensor(ndl.ones(1), ndl.zeros(1)))


def test_a_convolution_by_its_spectrum():
    """What programs use transforms for: y = irfft(rfft(x) · rfft(w)), trained through."""
    x, w = ndl.Tensor(RNG.normal(size=16)), ndl.Tensor(RNG.normal(size=5))
    y = fft.irfft(fft.rfft(x, 20) * fft.rfft(w, 20), 20)
    np.testing.assert_allclose(y.numpy(), np.convolve(x.numpy(), w.numpy()), atol=1e-5)
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), np.full(5, x.numpy().sum()), rtol=1e-4)


def test_a_compiled_function_refuses_transforms():
    with pytest.raises(RuntimeError, match=r"outside of ndl\.jit"):
        ndl.jit(lambda x: fft.fft(x).abs())(ndl.ones(4))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: fft.fft(np.ones(3)), TypeError, "takes Tensors"),
        (lambda: fft.fft(ndl.ones(3), n=0), ValueError, "positive"),
        (lambda: fft.fft(ndl.ones(3), dim=1), (ValueError, IndexError), "axis"),
        (lambda: fft.fft(ndl.ones(3), norm="half"), ValueError, "ortho"),
        (lambda: fft.fft2(ndl.ones(3)), (ValueError, IndexError), "axis"),
        (lambda: fft.fftn(ndl.ones(3), s=(1, 2)), ValueError, "do not fit"),
        (lambda: fft.fft2(ndl.ones(3, 3), s=(2,)), ValueError, "1 lengths for 2 axes"),
        (lambda: fft.fftn(ndl.ones(3, 3), dim=(0, 0)), ValueError, "do not fit"),
        (lambda: fft.irfft(ndl.ones(1)), ValueError, "positive"),
        (lambda: fft.fftfreq(0), ValueError, "positive"),
        (lambda: fft.view_as_complex(ndl.ones(3)), ValueError, "length 2"),
        (lambda: ComplexTensor(ndl.ones(3), 0), TypeError, "imag must be a Tensor"),
        (lambda: ComplexTensor(ndl.ones(3), ndl.ones(2)), ValueError, "differ"),
        (lambda: ComplexTensor(ndl.ones(3), ndl.ones(3, dtype="float64")), TypeError, "both"),
        (lambda: fft.fft(ndl.ones(3)) + "a", TypeError, "str"),
        (lambda: fft.fft(ndl.ones(3)) ** 0.5, TypeError, "positive integers"),
    ],
)  # fmt: skip
def test_what_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        function()
