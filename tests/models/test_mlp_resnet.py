"""MLPResNet: its structure, its random draws, and that it learns."""

import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.models import MLPResNet, ResidualBlock

sys.path.append(str(Path(__file__).parents[2] / "apps"))


def test_residual_block_is_the_course_one():
    block = ResidualBlock(6, 4, norm=nn.LayerNorm1d, drop_prob=0.3)
    assert isinstance(block, nn.Sequential)
    residual, relu = block.modules
    assert isinstance(residual, nn.Residual)
    assert isinstance(relu, nn.ReLU)
    kinds = [type(m) for m in residual.fn.modules]
    assert kinds == [nn.Linear, nn.LayerNorm1d, nn.ReLU, nn.Dropout, nn.Linear, nn.LayerNorm1d]
    assert residual.fn.modules[3].p == 0.3
    assert [p.shape for p in block.parameters()] == [
        (6, 4), (1, 4), (4,), (4,), (4, 6), (1, 6), (6,), (6,),
    ]  # fmt: skip


def test_mlp_resnet_structure():
    model = MLPResNet(784, hidden_dim=100, num_blocks=3, num_classes=10)
    assert isinstance(model, nn.Sequential)
    assert len(model.modules) == 6
    shapes = [p.shape for p in model.parameters()]
    assert shapes[:3] == [(784, 100), (1, 100), (100, 50)]
    assert shapes[-2:] == [(100, 10), (1, 10)]
    assert nn.summary(model, (2, 784)).rows[0].output_shape == (2, 10)
    assert len(MLPResNet(5, 4, num_blocks=0).modules) == 3
    with pytest.raises(ValueError, match="num_blocks"):
        MLPResNet(5, 4, num_blocks=-1)


def test_weights_are_drawn_from_first_to_last():
    np.random.seed(1)
    model = MLPResNet(5, hidden_dim=6, num_blocks=2, num_classes=3)
    following = np.random.rand()
    np.random.seed(1)
    drawn = [p for p in model.parameters() if p.ndim == 2]  # Linear weights and biases
    for p in drawn:
        fan_in = p.shape[1] if p.shape[0] == 1 else p.shape[0]
        bound = np.sqrt(6 / fan_in)
        values = (np.random.rand(*p.shape) * 2 - 1) * bound
        np.testing.assert_allclose(p.numpy(), values, rtol=1e-4, atol=1e-6)
    assert np.random.rand() == following


def make_loader(n=60, batch_size=16, shuffle=True):
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 3, n)
    images = rng.randn(n, 4, 2).astype("float32") + labels[:, None, None]
    dataset = ndl.data.NDArrayDataset(images, labels)
    return ndl.data.DataLoader(dataset, batch_size, shuffle=shuffle)


def test_epoch_of_the_app():
    app = pytest.importorskip("mlp_resnet")
    assert app.MLPResNet is MLPResNet
    np.random.seed(0)
    model = MLPResNet(8, hidden_dim=16, num_blocks=1, num_classes=3)
    loader = make_loader()
    first = app.epoch(loader, model)
    assert not model.training
    assert app.epoch(loader, model) == first
    optimizer = ndl.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    for _ in range(15):
        error, loss = app.epoch(loader, model, optimizer)
    assert model.training
    assert loss < 0.5 * first[1]
    error, loss = app.epoch(make_loader(shuffle=False), model)
    assert error < 0.2
    # The means are over samples, so the batch size does not matter.
    whole = app.epoch(make_loader(batch_size=60), model)
    assert whole == pytest.approx((error, loss), rel=1e-5)


def test_epoch_seeds_numpy():
    app = pytest.importorskip("mlp_resnet")
    losses = []
    for seed in (1, 2):
        np.random.seed(0)
        model = MLPResNet(8, hidden_dim=8, num_blocks=1, num_classes=3)
        optimizer = ndl.optim.SGD(model.parameters(), lr=0.01)
        np.random.seed(seed)
        losses.append(app.epoch(make_loader(), model, optimizer))
    assert losses[0] == losses[1]


def torch_twin(torch, module):
    """The same network in PyTorch, with the same weights."""
    if isinstance(module, nn.Sequential):
        return torch.nn.Sequential(*[torch_twin(torch, m) for m in module])
    if isinstance(module, nn.Residual):

        class Residual(torch.nn.Module):
            def __init__(self, fn):
                super().__init__()
                self.fn = fn

            def forward(self, x):
                return self.fn(x) + x

        return Residual(torch_twin(torch, module.fn))
    if isinstance(module, nn.Linear):
        twin = torch.nn.Linear(module.in_features, module.out_features)
        with torch.no_grad():
            twin.weight.copy_(torch.tensor(module.weight.numpy().T))
            twin.bias.copy_(torch.tensor(module.bias.numpy()[0]))
        return twin
    if isinstance(module, nn.BatchNorm1d):
        return torch.nn.BatchNorm1d(module.dim)
    return torch.nn.ReLU() if isinstance(module, nn.ReLU) else torch.nn.Dropout(module.p)


@pytest.mark.parametrize("lazy", [False, True])
def test_losses_of_training_steps_against_torch(device, monkeypatch, lazy):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    np.random.seed(0)
    model = MLPResNet(20, hidden_dim=12, num_blocks=2, num_classes=5, drop_prob=0.0).to(device)
    twin = torch_twin(torch, model)
    ours = ndl.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    theirs = torch.optim.Adam(twin.parameters(), lr=0.01, weight_decay=0.001)
    rng = np.random.RandomState(1)
    for _ in range(8):
        x, y = rng.randn(16, 20).astype("float32"), rng.randint(0, 5, 16)
        loss = nn.SoftmaxLoss()(model(ndl.Tensor(x, device=device)), ndl.Tensor(y, device=device))
        their_loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y))
        assert loss.item() == pytest.approx(their_loss.item(), rel=1e-4)
        for optimizer, value in ((ours, loss), (theirs, their_loss)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
