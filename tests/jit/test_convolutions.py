"""Convolutions with code made for their shapes, against the definition in loops over positions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops
from needle.backend_ndarray import reference
from needle.jit.runtime.compiler import NoCompiler, find_compiler
from needle.jit.schedule.convolutions import MIN_CHANNELS_BACK, MIN_IMAGES
from needle.ops._convolution import ConvInputGrad, ConvWeightGrad, make_geometry

try:
    find_compiler()
    COMPILES = ndl.cpu().enabled()
except NoCompiler:
    COMPILES = False
pytestmark = pytest.mark.skipif(not COMPILES, reason="the C++ core or a compiler is missing")

Draw = Callable[..., np.ndarray]
KINDS = {
    "conv2d": "", "conv2d_input_grad": "_input_gradient", "conv2d_weight_grad": "_weight_gradient",
}  # fmt: skip


@pytest.fixture
def draw() -> Draw:
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape)


def three(geometry: Any, image: tuple[int, ...], kernel: tuple[int, ...]) -> Callable[..., Any]:
    """The compiled convolution of (x, w) and its gradients for g."""

    @ndl.jit
    def run(x: ndl.Tensor, w: ndl.Tensor, g: ndl.Tensor) -> tuple[ndl.Tensor, ...]:
        y = ops.Conv(geometry)(x, w)
        return y, ConvInputGrad(geometry, image)(g, w), ConvWeightGrad(geometry, kernel)(x, g)

    return run


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("image", "kernel", "filters", "stride", "padding"),
    [
        ((16, 8, 8, 3), (7, 7), 16, 4, 3),  # few channels: rows of the kernel are one product
        ((17, 5, 6, 2), (3, 2), 10, (1, 2), (1, 0)),
        ((31, 4, 4, 16), (3, 3), 33, 1, 1),
        ((16, 7, 5, 9), (3, 2), 5, (2, 3), ((1, 0), (0, 2))),  # pixels that no window reaches
        ((40, 2, 2, 12), (3, 3), 20, 2, 1),  # kernel positions that never meet the image
        ((19, 1, 1, 8), (3, 3), 70, 1, 1),
        ((16, 3, 3, 1), (1, 1), 1, 2, 1),  # outputs beside the image
        ((16, 1, 9, 4), (1, 3), 3, 1, (0, 4)),
        ((16, 4, 4, 8), (2, 2), 4, 3, 0),  # strides beyond the kernel
        ((16, 6, 6, 8), (5, 5), 8, 3, (4, 0)),
    ],
)
def test_shapes(
    draw: Draw, image: Any, kernel: Any, filters: int, stride: Any, padding: Any, dtype: str
) -> None:
    geometry = make_geometry("conv", stride, padding)
    size = geometry.out_size(image[1:3], kernel)
    x, w = draw(*image), draw(*kernel, image[3], filters)
    g = draw(image[0], *size, filters)
    run = three(geometry, image, w.shape)
    found = run(*(ndl.Tensor(a, dtype=dtype, requires_grad=False) for a in (x, w, g)))
    expected = np.empty(g.shape), np.empty(image), np.empty(w.shape)
    reference.conv2d(x, w, expected[0], *geometry.native())
    reference.conv2d_input_grad(g, w, expected[1], *geometry.native())
    reference.conv2d_weight_grad(x, g, expected[2], *geometry.native())
    for op, kind in KINDS.items():
        few = op == "conv2d_input_grad" and image[3] < MIN_CHANNELS_BACK
        assert (f"k->{op}(" if few else f"static_convolution{kind}<") in run.source()
    for ours, theirs in zip(found, expected, strict=True):
        # Rounding grows with the sum's root: 1,000 terms of about 1 at most.
        scale = 40 * np.finfo(dtype).eps * max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=scale)


@pytest.mark.parametrize("channels", [2, 3, 20])
def test_images_of_one_plane_a_channel(draw: Draw, channels: int) -> None:
    layer = nn.Conv2d(channels, 6, 3, stride=2, padding=1, bias=False)
    x = ndl.Tensor(draw(18, channels, 7, 6), requires_grad=False)

    def gradient(x: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        y = layer(x)
        y.backward(ndl.Tensor.make_const(y.realize_cached_data()))
        return y, layer.weight.grad

    run = ndl.jit(gradient)
    for ours, theirs in zip(run(x), gradient(x), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)
    shapes = re.findall(r"ConvolutionShape<([^>]*)>", run.source())
    assert {int(shape.split(", ")[13]) for shape in shapes} == {channels}  # PLANES


@pytest.mark.parametrize(
    ("count", "dilation", "groups"), [(MIN_IMAGES - 1, 1, 1), (16, 2, 1), (16, 1, 2)]
)
def test_others_run_in_the_core(draw: Draw, count: int, dilation: int, groups: int) -> None:
    x = ndl.Tensor(draw(count, 6, 6, 4), requires_grad=False)
    w = ndl.Tensor(draw(3, 3, 4 // groups, 8), requires_grad=False)

    def f(x: ndl.Tensor, w: ndl.Tensor) -> ndl.Tensor:
        return ops.conv(x, w, 1, 1, dilation, groups)

    run = ndl.jit(f)
    np.testing.assert_allclose(run(x, w).numpy(), f(x, w).numpy(), rtol=1e-5, atol=1e-5)
    assert "k->conv2d" in run.source()


def test_what_follows_runs_on_blocks(draw: Draw) -> None:
    """Bias, activation and the sums of columns, after a convolution and after its gradient."""
    x, y = (ndl.Tensor(draw(40, 4, 4, 8), requires_grad=False) for _ in range(2))
    w = ndl.Tensor(draw(3, 3, 8, 8), requires_grad=False)
    b = ndl.Tensor(draw(8), requires_grad=False)

    def f(x: ndl.Tensor, y: ndl.Tensor, w: ndl.Tensor, b: ndl.Tensor) -> tuple[ndl.Tensor, ...]:
        forward = ops.relu(ops.conv(x, w, 1, 1) + b)
        back = ConvInputGrad(make_geometry("conv", 1, 1), x.shape)(y, w) * 2
        return forward, ops.summation(forward, (0, 1, 2)), back, ops.summation(back, (0, 1, 2))

    run = ndl.jit(f)
    for ours, theirs in zip(run(x, y, w, b), f(x, y, w, b), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)
    kernels = [line for line in run.explain().splitlines() if "conv2d" in line]
    assert len(kernels) == 2
    assert all("then loop" in line for line in kernels)


def test_the_same_from_run_to_run(draw: Draw) -> None:
    geometry = make_geometry("conv", 1, 1)
    x, g = (ndl.Tensor(draw(64, 6, 6, 8), requires_grad=False) for _ in range(2))
    w = ndl.Tensor(draw(3, 3, 8, 8), requires_grad=False)
    run = three(geometry, x.shape, w.shape)
    first = [y.numpy() for y in run(x, w, g)]
    for _ in range(3):
        for ours, before in zip(run(x, w, g), first, strict=True):
            np.testing.assert_array_equal(ours.numpy(), before)
