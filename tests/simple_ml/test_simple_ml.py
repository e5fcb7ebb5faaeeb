"""The first programs: values against PyTorch or finite differences, safety, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import simple_ml
from needle.native import core
from needle.simple_ml import reference

needs_core = pytest.mark.skipif(core is None, reason="the C++ core was not built")
EPOCHS = [
    reference.softmax_regression_epoch,
    pytest.param(reference.softmax_regression_epoch_cpp, marks=needs_core),
]


def problem(n=250, features=20, classes=5, seed=0):
    rng = np.random.RandomState(seed)
    x = rng.randn(n, features).astype("float32")
    return x, rng.randint(classes, size=n).astype("uint8")


def slow_epoch(x, y, theta, lr, batch):
    """The definition, one sample at a time, in float64."""
    theta = theta.astype("float64")
    for i in range(0, len(x), batch):
        rows, labels = x[i : i + batch].astype("float64"), y[i : i + batch]
        gradient = np.zeros_like(theta)
        for row, label in zip(rows, labels, strict=True):
            p = np.exp(row @ theta - (row @ theta).max())
            p /= p.sum()
            p[label] -= 1
            gradient += np.outer(row, p)
        theta -= lr * gradient / len(rows)
    return theta


def test_add():
    assert simple_ml.add(2, 3) == 5
    assert simple_ml.add(np.ones(2), 1.5).tolist() == [2.5, 2.5]


def test_softmax_loss_of_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    rng = np.random.RandomState(0)
    z, y = rng.randn(8, 5).astype("float32"), rng.randint(5, size=8)
    expected = torch.nn.functional.cross_entropy(torch.tensor(z), torch.tensor(y)).item()
    assert simple_ml.softmax_loss(z, y) == pytest.approx(expected, rel=1e-5)
    one_hot = ndl.Tensor(np.eye(5)[y])
    loss = simple_ml.softmax_loss(ndl.Tensor(z), one_hot)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for logits in (z, ndl.Tensor(z)):
        loss, rate = simple_ml.loss_err(logits, y)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        assert rate == np.mean(z.argmax(1) != y)
    assert reference.loss_err(z, y)[1] == np.mean(z.argmax(1) != y)


@pytest.mark.parametrize("cpp", [False, pytest.param(True, marks=needs_core)])
def test_train_softmax_learns_and_prints_a_row_an_epoch(cpp, capsys):
    x, y = problem()
    x[np.arange(len(y)), y] += 4  # so that there is something to learn
    theta = reference.train_softmax(x, y, x[:50], y[:50], epochs=3, lr=0.2, cpp=cpp)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "| Epoch | Train Loss | Train Err | Test Loss | Test Err |"
    expected = np.zeros_like(theta)
    for i, row in enumerate(rows):
        reference.softmax_regression_epoch(x, y, expected, 0.2, 100)
        printed = [float(cell) for cell in row.strip("|").split("|")]
        train, test = (
            reference.loss_err(x @ expected, y),
            reference.loss_err(x[:50] @ expected, y[:50]),
        )
        # Printed with five decimals.
        np.testing.assert_allclose(printed, [i, *train, *test], atol=1e-5 + 1e-5)
    np.testing.assert_allclose(theta, expected, rtol=1e-4, atol=1e-5)
    assert reference.loss_err(x @ theta, y)[1] < 0.1


def test_train_nn_draws_its_weights_after_seed_0(capsys):
    x, y = problem()
    W1, W2 = reference.train_nn(x, y, x, y, hidden_dim=30, epochs=2, lr=0.2, batch=50)
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert W1.dtype == W2.dtype == np.float32
    np.random.seed(0)
    V1 = np.random.randn(20, 30).astype("float32") / np.float32(np.sqrt(30))
    V2 = np.random.randn(30, 5).astype("float32") / np.float32(np.sqrt(5))
    for _ in range(2):
        reference.nn_epoch(x, y, V1, V2, lr=0.2, batch=50)
    np.testing.assert_array_equal(W1, V1)
    np.testing.assert_array_equal(W2, V2)


def test_huge_logits_stay_finite():
    z, y = np.array([[1e4, -1e4, 0.0]], dtype="float32"), np.array([1], dtype="uint8")
    assert simple_ml.softmax_loss(z, y) == pytest.approx(2e4)
    x = np.full((4, 3), 1e2, dtype="float32")
    for epoch in (reference.softmax_regression_epoch, reference.softmax_regression_epoch_cpp):
        if core is None and epoch is reference.softmax_regression_epoch_cpp:
            continue
        theta = np.array([[1e2, -1e2]] * 3, dtype="float32")
        epoch(x, np.array([0, 1, 1, 0], dtype="uint8"), theta, lr=1.0, batch=2)
        assert np.isfinite(theta).all()


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize(
    ("n", "features", "classes", "batch"),
    [(250, 20, 5, 50), (250, 20, 5, 100), (7, 3, 17, 2), (33, 65, 10, 32), (5, 4, 33, 100),
     (0, 3, 2, 4)],
)  # fmt: skip
def test_softmax_regression_epoch(epoch, n, features, classes, batch):
    x, y = problem(n, features, classes)
    theta = np.random.RandomState(1).randn(features, classes).astype("float32")
    expected = slow_epoch(x, y, theta, 0.3, batch)
    assert epoch(x, y, theta, lr=0.3, batch=batch) is None
    np.testing.assert_allclose(theta, expected, rtol=1e-4, atol=1e-4)


def test_nn_epoch_of_arrays_and_tensors_agree_with_autograd():
    x, y = problem(130, 12, 4)
    rng = np.random.RandomState(2)
    w1, w2 = (rng.randn(*s).astype("float32") / 4 for s in ((12, 9), (9, 4)))
    t1, t2 = ndl.Tensor(w1), ndl.Tensor(w2)
    new1, new2 = simple_ml.nn_epoch(x, y, t1, t2, lr=0.2, batch=50)
    np.testing.assert_array_equal(t1.numpy(), w1)
    assert simple_ml.nn_epoch(x, y, w1, w2, lr=0.2, batch=50) is None
    np.testing.assert_allclose(new1.numpy(), w1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new2.numpy(), w2, rtol=1e-4, atol=1e-5)


def test_regression_learns_mnist(data_folder):
    files = [
        data_folder / "mnist" / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")
    ]
    x, y = simple_ml.parse_mnist(*files)
    x, y = x[:20_000], y[:20_000]
    theta = np.zeros((784, 10), dtype="float32")
    epoch = (
        reference.softmax_regression_epoch
        if core is None
        else simple_ml.softmax_regression_epoch_cpp
    )
    for _ in range(3):
        epoch(x, y, theta, lr=0.2, batch=100)
    assert np.mean((x @ theta).argmax(1) != y) < 0.1


BAD = [
    ({"x": [[1.0]]}, TypeError, "X"),
    ({"x": np.ones(4, "float32")}, ValueError, "X must be 2-d"),
    ({"x": np.ones((6, 3), "int64")}, TypeError, "X"),
    ({"y": np.ones(6, "float32")}, TypeError, "y"),
    ({"y": np.ones(5, "uint8")}, ValueError, "y must have shape"),
    ({"y": np.full(6, 4, "uint8")}, ValueError, "labels must lie"),
    ({"theta": np.ones((4, 4), "float32")}, ValueError, "theta has shape"),
    ({"theta": np.ones(3, "float32")}, ValueError, "theta must be 2-d"),
    ({"theta": np.ones((3, 4), "int32")}, TypeError, "theta"),
    ({"batch": 0}, ValueError, "batch"),
    ({"batch": 2.5}, ValueError, "batch"),
]


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_what_does_not_fit_is_refused_and_theta_untouched(epoch, change, error, words):
    arguments = {
        "x": np.ones((6, 3), "float32"), "y": np.zeros(6, "uint8"),
        "theta": np.ones((3, 4), "float32"), "batch": 2, **change,
    }  # fmt: skip
    before = np.copy(arguments["theta"])
    with pytest.raises(error, match=words):
        epoch(arguments["x"], arguments["y"], arguments["theta"], 0.1, arguments["batch"])
    np.testing.assert_array_equal(arguments["theta"], before)


@needs_core
def test_cpp_wants_exact_types_and_contiguous_arrays():
    x, y = problem(6, 4, 3)
    theta = np.zeros((4, 3), "float32")
    epoch = reference.softmax_regression_epoch_cpp
    for bad in (x.astype("float64"), np.asfortranarray(x), x[:, ::2]):
        with pytest.raises((TypeError, ValueError), match="X"):
            epoch(bad, y, theta)
    with pytest.raises(TypeError, match="uint8"):
        epoch(x, y.astype("int64"), theta)
    with pytest.raises(ValueError, match="contiguous"):
        epoch(x, y, np.zeros((3, 4), "float32").T)
    frozen = theta.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        epoch(x, y, frozen)
    assert not theta.any()


def test_nn_epoch_names_the_weight_that_does_not_fit():
    x, y = problem(6, 4, 3)
    w1, w2 = np.ones((4, 5), "float32"), np.ones((6, 3), "float32")
    with pytest.raises(ValueError, match="W2 has shape"):
        simple_ml.nn_epoch(x, y, w1, w2)
    assert (w1 == 1).all()
    with pytest.raises(ValueError, match="equal length"):
        simple_ml.nn_epoch(x, y[:3], ndl.Tensor(w1), ndl.Tensor(w1.T))
    with pytest.raises(ValueError, match="labels must lie"):
        simple_ml.nn_epoch(x, y + 7, ndl.Tensor(w1), ndl.Tensor(w1.T))
    with pytest.raises(ValueError, match="one-hot"):
        simple_ml.softmax_loss(ndl.Tensor(x), ndl.Tensor(x[:2]))


def test_the_app_offers_the_same_functions(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "apps"))
    app = __import__("simple_ml")
    try:
        assert app.softmax_loss is simple_ml.softmax_loss
        assert app.nn_epoch is simple_ml.nn_epoch
        assert app.parse_mnist is simple_ml.parse_mnist
    finally:
        sys.modules.pop("simple_ml", None)


@pytest.mark.parametrize("device", [ndl.cpu(), ndl.cpu_numpy()], ids=str)
def test_arrays_go_where_the_tensors_are(device):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)).astype("float32"), np.arange(6) % 2
    weights = [
        ndl.Tensor(rng.normal(size=s), dtype="float32", device=device) for s in ((3, 4), (4, 2))
    ]
    h = ndl.Tensor(x, device=device) @ weights[0] @ weights[1]
    loss, rate = simple_ml.loss_err(h, y)
    np.testing.assert_allclose((loss, rate), reference.loss_err(h.numpy(), y), rtol=1e-5)
    assert {w.device for w in simple_ml.nn_epoch(x, y, *weights, batch=3)} == {device}
