"""The settings that tasks come with: all are valid, and those of images learn within seconds."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import data, nn
from needle.train import load_task, resolve
from needle.train.session import make_optimizer
from needle.train.tasks import TASKS, model_options
from needle.train.tasks.models import find_model


@pytest.mark.parametrize("name", TASKS)
def test_settings_are_valid(name: str) -> None:
    of_data = {"vocabulary": 65, "length": 8, "num_classes": 10, "outputs": 2}
    for model, settings in TASKS[name].models.items():
        settings.training.check()
        settings.schedule.check()
        assert find_model(model)
        model_options(model, settings.options, {**of_data, "numbers": 1, "categories": [2]})


@pytest.fixture
def white_photographs(tmp_path):
    """CIFAR-10's six files, with two white images each."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for name in names:
        record = bytes([3]) + bytes([255]) * 3072
        (tmp_path / name).write_bytes(record * 2)
    return tmp_path


def test_photographs_have_a_hole(white_photographs) -> None:
    changes = {"data.crop": 0, "data.erase": 4}
    task = load_task(resolve("cifar10", paths=[white_photographs], changes=changes))
    x, _ = next(iter(task.train(10, 0)))
    assert x.shape == (10, 3, 32, 32)
    assert np.all((x.numpy() == 0).sum((1, 2, 3)) == 3 * 4 * 4)
    assert np.all(next(iter(task.validation))[0].numpy() == 1)
    with pytest.raises(ValueError, match="0 to 31 pixels, got 32"):
        load_task(resolve("cifar10", paths=[white_photographs], changes={"data.erase": 32}))


def test_small_resnet_learns_digits_with_the_settings_of_mnist() -> None:
    np.random.seed(0)
    settings = TASKS["mnist"].models["small_resnet"]
    model = ndl.models.SmallResNet(**settings.options)
    optimizer = make_optimizer(settings.training, model)
    loss_of = nn.SoftmaxLoss(label_smoothing=settings.training.label_smoothing)
    task = load_task(resolve("digits"))
    epochs, batches = 5, task.train(settings.training.batch_size, 0)
    factor = settings.schedule.factor()
    for epoch in range(epochs):
        for i, (x, y) in enumerate(batches):
            optimizer.lr = settings.training.lr * factor((epoch + i / len(batches)) / epochs)
            optimizer.reset_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
    model.eval()
    images, labels = data.DigitsDataset(train=False)[:]
    with ndl.no_grad():
        logits = model(ndl.Tensor(images.transpose(0, 3, 1, 2)))
    assert np.mean(logits.numpy().argmax(1) == labels) >= 0.95
