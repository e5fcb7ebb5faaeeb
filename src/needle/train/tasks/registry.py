"""The tasks by name, each with settings for every model that can be trained on it."""

from __future__ import annotations

from dataclasses import replace

from ..options import unknown
from ..settings import Schedule, Settings, Training
from . import images, table, text
from .task import TaskKind

_GPT = Settings(
    {"width": 128, "num_layers": 4, "num_heads": 4},
    Training(epochs=20, batch_size=32, optimizer="muon", lr=1e-2, weight_decay=0.1, clip=1.0),
    Schedule("linear", warmup=0.03),
)
_LSTM = Settings(
    {"embedding_size": 64, "hidden_size": 256, "num_layers": 2},
    Training(epochs=20, batch_size=32, lr=4e-3, weight_decay=0.01, clip=1.0),
)
# After Page, "How to Train Your ResNet", 2018: SGD at a high rate, and smoothed labels.
_SMALL_IMAGES = Training(
    epochs=20, batch_size=128, optimizer="sgd", lr=0.2, weight_decay=1e-3, label_smoothing=0.1
)
_SMALL_RESNET = Settings({}, _SMALL_IMAGES)
_RESNET9 = Settings({}, Training(epochs=30, batch_size=128, lr=4e-3, weight_decay=0.05))

TASKS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind(
            "digits", "1,797 handwritten digits, which come with needle", images.digits,
            {
                "mlp_resnet": Settings({"dim": 64, "hidden_dim": 100}, Training(epochs=30)),
            },
            data="digits",
        ),
        TaskKind(
            "mnist", "the 70,000 handwritten digits of MNIST", images.mnist,
            {
                "small_resnet": Settings(
                    {"in_channels": 1, "channels": [8, 16, 32]}, replace(_SMALL_IMAGES, epochs=4)
                ),
                "mlp_resnet": Settings(
                    {"dim": 784, "hidden_dim": 256}, Training(epochs=5, lr=5e-3)
                ),
            },
            data="mnist",
        ),
        TaskKind(
            "cifar10", "the photographs of CIFAR-10", images.cifar10,
            {"small_resnet": _SMALL_RESNET, "resnet9": _RESNET9}, data="cifar10",
        ),
        TaskKind(
            "shakespeare", "Shakespeare's plays, character by character", text.shakespeare,
            {"gpt": _GPT, "lstm": _LSTM}, data="shakespeare",
        ),
        TaskKind(
            "text", "your own text, by characters or byte pairs", text.text,
            {"gpt": _GPT, "lstm": _LSTM}, paths="FILE…",
        ),
        TaskKind(
            "images", "your own images, in one folder for each class", images.images,
            {"small_resnet": _SMALL_RESNET, "resnet9": _RESNET9}, paths="FOLDER",
        ),
        TaskKind(
            "csv", "a column of your own table from the other columns", table.table,
            {
                "tabular": Settings(
                    {}, Training(epochs=50, batch_size=64, lr=3e-3, weight_decay=0.01),
                    Schedule("cosine", warmup=0.1),
                ),
            },
            paths="FILE",
        ),
    )
}  # fmt: skip


def task_kind(name: str) -> TaskKind:
    """The task of that name. Raises ValueError, which names the nearest, where there is none."""
    if name not in TASKS:
        raise ValueError(f"[train] {unknown('needle', 'task', name, TASKS)}")
    return TASKS[name]
