"""The training loop, its reports and recipes."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import data, nn, optim, train


def blobs(n=200, seed=0):
    rng = np.random.RandomState(seed)
    y = rng.randint(3, size=n)
    x = rng.randn(n, 2).astype("float32") * 0.3 + np.array([[0, 2], [2, 0], [-2, -2]])[y]
    return data.NDArrayDataset(x.astype("float32"), y)


def small_model():
    np.random.seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def test_fit_learns_and_reports():
    model, dataset = small_model(), blobs()
    loader = data.DataLoader(dataset, 32, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    schedule = optim.StepLR(optimizer, step_size=20)
    batches, epochs = [], []
    history, confusion = train.fit(
        model, loader, data.DataLoader(blobs(60, 1), 7), optimizer, nn.SoftmaxLoss(), 4, schedule,
        lambda *a: batches.append(a), lambda *a: epochs.append(a),
    )  # fmt: skip
    assert history.test[-1].accuracy > 0.98
    assert history.train[-1].loss < history.train[0].loss
    assert confusion.sum() == 60
    assert np.trace(confusion) == round(history.test[-1].accuracy * 60)
    assert len(batches) == 4 * len(loader)
    assert [e for e, *_ in epochs] == [0, 1, 2, 3]
    assert optimizer.lr < 0.02
    assert history.seconds > 0


def test_means_are_over_samples_not_batches():
    model = nn.Identity()
    logits = np.array([[2.0, 0], [0, 1.0], [3.0, 0]], dtype="float32")
    dataset = data.NDArrayDataset(logits, np.array([0, 0, 1]))
    whole, _ = train.evaluate(model, data.DataLoader(dataset, 3), nn.SoftmaxLoss())
    parts, confusion = train.evaluate(model, data.DataLoader(dataset, 2), nn.SoftmaxLoss())
    assert parts.loss == pytest.approx(whole.loss)
    assert parts.accuracy == pytest.approx(1 / 3)
    assert confusion.tolist() == [[1, 1], [1, 0]]


def test_evaluate_changes_nothing():
    model = small_model()
    before = {k: v.numpy() for k, v in model.state_dict().items()}
    train.evaluate(model, data.DataLoader(blobs(), 32), nn.SoftmaxLoss())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_that_is_not_finite_stops_the_training(compiled):
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    bad = data.NDArrayDataset(np.full((4, 2), np.inf, dtype="float32"), np.zeros(4, int))
    before = [p.numpy() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match=r"learning rate \(now 0.5\)"):
        train.train_epoch(
            model, data.DataLoader(bad, 4), optimizer, nn.SoftmaxLoss(), compiled=compiled
        )
    after = [p.numpy() for p in model.parameters()]
    # A compiled step has made the update when the loss is seen.
    assert all(map(np.array_equal, after, before)) == (not compiled)


def test_compiled_training_equals_eager_training():
    runs = []
    for compiled in (False, True):
        model = small_model()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = data.DataLoader(blobs(100), 32)  # the last batch is a short one
        history, confusion = train.fit(
            model, loader, data.DataLoader(blobs(60, 1), 32), optimizer, nn.SoftmaxLoss(), 3,
            clip=1.0, compiled=compiled,
        )  # fmt: skip
        runs.append(([r[:2] for r in history.train + history.test], confusion.tolist()))
    (expected, matrix), (actual, compiled_matrix) = runs
    np.testing.assert_allclose(actual, expected, rtol=1e-3)
    assert compiled_matrix == matrix


def test_programs_serve_every_epoch(monkeypatch):
    made = []
    monkeypatch.setattr(train.loop, "jit", lambda f: made.append(ndl.jit(f)) or made[-1])
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    model = small_model()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    schedule = optim.StepLR(optimizer, step_size=5)
    loader = data.DataLoader(blobs(50), 20)
    train.fit(model, loader, loader, optimizer, nn.SoftmaxLoss(), 4, schedule, clip=1.0)
    assert [(f.__name__, f.compilations) for f in made] == [("step", 2), ("measure", 2)]
    assert schedule.steps == 12


def test_save_report_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from needle.train.plots import save_report

    result = train.EpochResult(0.5, 0.9, 1000.0)
    history = train.loop.History([result, result], [result, result], 1.0)
    path = tmp_path / "new" / "report.png"
    save_report(path, history, np.eye(10, dtype=int) * 30, "a title")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


# ---- one pass or many -------------------------------------------------------------------------


def small():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    x = np.random.RandomState(0).randn(6, 2).astype(np.float32)
    batch = ndl.Tensor(x), ndl.Tensor(np.array([0, 1] * 3))
    return model, [batch, batch], optim.SGD(model.parameters(), lr=0.1)


def once(kind, batches):
    return {
        "generator": lambda: (batch for batch in batches), "iterator": lambda: iter(batches),
        "map": lambda: map(tuple, batches), "filter": lambda: filter(None, batches),
    }[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", ["generator", "iterator", "map", "filter"])
def test_batches_that_come_once(kind):
    model, batches, optimizer = small()

    def fit(trained, tested, epochs):
        return train.fit(
            model, trained, tested, optimizer, nn.SoftmaxLoss(), epochs, compiled=False
        )[0]

    before = model.modules[0].weight.numpy()
    for trained, tested, name in (
        (once(kind, batches), batches, "train_batches"),
        (batches, once(kind, batches), "test_batches"),
    ):
        with pytest.raises(
            ValueError, match=rf"\[fit\] {name} must give its batches anew.*2 epochs"
        ):
            fit(trained, tested, 2)
    np.testing.assert_array_equal(model.modules[0].weight.numpy(), before)
    history = fit(once(kind, batches), once(kind, batches), 1)
    assert history.train[0].loss > 0
    assert history.test[0].loss > 0
    assert len(fit(data.DataLoader(data.NDArrayDataset(*map(np.asarray, batches[0])), 3),
                   batches, 2).train) == 2  # fmt: skip


def test_no_batches_to_train_on():
    class Once:
        """Gives its batches once, and does not look like it."""

        def __init__(self, batches):
            self.batches = iter(batches)

        def __iter__(self):
            yield from self.batches

    model, batches, optimizer = small()
    for trained, epoch in (([], 1), (Once(batches), 2)):
        with pytest.raises(ValueError, match=f"gave no batch in epoch {epoch}"):
            train.fit(model, trained, batches, optimizer, nn.SoftmaxLoss(), 3, compiled=False)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_modes_of_modules_are_restored(compiled):
    model, batches, optimizer = small()
    norm = model.modules[1]

    def modes():
        return [module.training for _, module in model.named_modules()]

    def fail(*_):
        raise KeyError

    for whole, part in ((True, True), (False, False), (True, False), (False, True)):
        model.train(whole)
        norm.training = part
        before = modes()
        seen = []
        train.evaluate(
            model, batches, nn.SoftmaxLoss(), lambda _, s=seen: s.append(any(modes())), compiled
        )
        assert not any(seen)
        assert modes() == before
        with pytest.raises(KeyError):
            train.evaluate(model, batches, nn.SoftmaxLoss(), fail, compiled)
        assert modes() == before
        train.fit(model, batches, batches, optimizer, nn.SoftmaxLoss(), 1, compiled=compiled)
        assert modes() == before
