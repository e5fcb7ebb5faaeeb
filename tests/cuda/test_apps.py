"""The course's training loops with models and batches on the GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import data, models, nn, optim


@pytest.fixture
def apps(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "apps"))


class Images(data.Dataset):
    """Images of one colour a class, with noise."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        random = np.random.RandomState(0)
        self.labels = np.arange(16) % 4
        noise = random.rand(16, *shape) * 0.1
        self.images = (noise + self.labels.reshape(-1, *[1] * len(shape)) / 4).astype("float32")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def test_mlp_resnet_on_images(apps, gpu):
    import mlp_resnet

    np.random.seed(0)
    model = models.MLPResNet(48, hidden_dim=16, num_blocks=1, num_classes=4, drop_prob=0.0).to(gpu)
    loader = data.DataLoader(Images(3, 4, 4), 8, num_workers=1, device=gpu)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = [mlp_resnet.epoch(loader, model, optimizer)[1] for _ in range(6)]
    assert losses[-1] < losses[0]


def test_the_cifar_loop(apps, gpu):
    import simple_ml

    np.random.seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)
    ).to(gpu)
    loader = data.DataLoader(Images(3, 8, 8), 8, num_workers=1, device=gpu)
    before = simple_ml.evaluate_cifar10(model, loader)
    after = simple_ml.train_cifar10(model, loader, n_epochs=4, lr=0.01)
    assert after[1] < before[1]


@pytest.mark.parametrize("seq_model", ["rnn", "lstm"])
def test_the_ptb_loop(seq_model, apps, gpu):
    import simple_ml

    np.random.seed(0)
    batches = ndl.data.batchify(np.tile(np.arange(6), 20), 4, device=gpu, dtype="float32")
    model = models.LanguageModel(6, 6, 8, 1, seq_model).to(gpu)
    before = simple_ml.evaluate_ptb(model, batches, seq_len=5, device=gpu)
    after = simple_ml.train_ptb(model, batches, seq_len=5, n_epochs=4, lr=1.0, device=gpu)
    assert after[1] < before[1]
