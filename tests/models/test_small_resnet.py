"""SmallResNet: shapes, sizes of images, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import models, optim


@pytest.mark.parametrize(("in_channels", "height", "width"), [(3, 32, 32), (1, 28, 28), (3, 8, 13)])
def test_takes_images_of_any_size(in_channels: int, height: int, width: int) -> None:
    model = models.SmallResNet(7, in_channels, channels=(4, 8, 8)).eval()
    assert model(ndl.zeros(2, in_channels, height, width)).shape == (2, 7)


def test_default_size() -> None:
    assert sum(p.size for p in models.SmallResNet().parameters()) == 473_450


def test_channels_are_three() -> None:
    with pytest.raises(ValueError, match="three numbers"):
        models.SmallResNet(channels=(8, 16))


def test_compiled_step_learns_noise_by_heart() -> None:
    np.random.seed(0)
    model = models.SmallResNet(channels=(8, 16, 16))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    x = ndl.Tensor(np.random.rand(16, 3, 16, 16), requires_grad=False)
    y = ndl.Tensor(np.arange(16) % 10, requires_grad=False)

    @ndl.jit
    def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        optimizer.reset_grad()
        loss = ndl.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x, y).item() for _ in range(30)]
    assert losses[-1] < 0.05 * losses[0]
