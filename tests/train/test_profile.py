"""The Profile callback records some steps of a Trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import needle as ndl
from needle import nn, optim
from needle.train import Profile, Trainer

BATCHES = [(ndl.ones(4, 3), ndl.ones(4, 2))] * 6


def trainer(callback: Profile, **options: object) -> Trainer:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, optimizer, nn.MSELoss(), callbacks=[callback], compiled=False, **options)


@pytest.mark.parametrize(("epochs", "steps"), [(2, 3), (1, 2)])
def test_some_steps_are_recorded(tmp_path: Path, epochs: int, steps: int) -> None:
    callback = Profile(steps=3, after=4)
    trainer(callback, run=tmp_path / "run").fit(BATCHES, epochs=epochs)
    assert callback.profile is not None
    found = {a.key: a.count for a in callback.profile.key_averages()}
    assert found["SGD.step"] == steps
    events = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "SGD.step" for event in events) == steps
    assert "SGD.step" in (tmp_path / "run" / "profile.txt").read_text()


def test_programs_have_the_names_of_what_they_do(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    callback = Profile(steps=2, after=2, folder=tmp_path)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    Trainer(model, optimizer, nn.MSELoss(), callbacks=[callback]).fit(BATCHES, steps=4)
    assert callback.profile is not None
    programs = [a.key for a in callback.profile.key_averages() if "Step." in a.key]
    assert programs == ["TrainingStep.step"]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="got 0 and 5"):
        Profile(0)
    with pytest.raises(ValueError, match="folder="):
        trainer(Profile()).fit(BATCHES, epochs=1)
