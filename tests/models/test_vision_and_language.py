"""ResNet9, LanguageModel, GPT, generation, and the course's loops around them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import data, models, nn, optim


@pytest.fixture
def apps(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "apps"))
    yield __import__("simple_ml")
    sys.modules.pop("simple_ml", None)


def test_resnet9_has_the_courses_size_and_learns():
    np.random.seed(0)
    model = models.ResNet9()
    assert sum(p.size for p in model.parameters()) == 431_946
    x, y = ndl.Tensor(np.random.rand(16, 3, 32, 32)), np.arange(16) % 10
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = ndl.cross_entropy(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert model.eval()(x).shape == (16, 10)


def test_images_stay_channels_last_between_layers(device):
    model = models.ConvBN(3, 8, 3, 1, device=device)
    y = model(ndl.Tensor(np.random.rand(2, 3, 6, 6), device=device)).realize_cached_data()
    assert y.shape == (2, 8, 6, 6)
    if device == ndl.cpu():
        assert y.strides == (6 * 6 * 8, 1, 6 * 8, 8)


@pytest.mark.parametrize("seq_model", ["rnn", "lstm", "transformer"])
def test_language_model(seq_model, device):
    np.random.seed(0)
    model = models.LanguageModel(6, 11, 8, 2, seq_model, seq_len=10, device=device)
    x = ndl.Tensor(np.random.randint(0, 11, (5, 3)), device=device)
    logits, h = model(x)
    assert logits.shape == (15, 11)
    again, _ = model(x, h)
    assert again.shape == (15, 11)
    batch_major = model.predict_tokens(x.transpose((0, 1)))
    expected = logits.numpy().reshape(5, 3, 11).swapaxes(0, 1).reshape(15, 11)
    np.testing.assert_allclose(batch_major.numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="seq_model"):
        models.LanguageModel(6, 11, 8, seq_model="gru")


def gpt(**options):
    np.random.seed(0)
    return models.GPT(13, 12, width=16, num_layers=2, num_heads=2, **options)


@pytest.mark.parametrize("tied", [True, False])
def test_gpt(tied):
    model = gpt(tied=tied)
    ids = np.random.randint(0, 13, (3, 12))
    logits = model(ndl.Tensor(ids))
    assert logits.shape == (3, 12, 13)
    assert ("head.weight" in model.state_dict()) is not tied
    changed = ids.copy()
    changed[:, 7] = (changed[:, 7] + 1) % 13
    after = model(ndl.Tensor(changed)).numpy()
    np.testing.assert_allclose(after[:, :7], logits.numpy()[:, :7], atol=1e-5)
    assert np.abs(after[:, 7:] - logits.numpy()[:, 7:]).max() > 1e-4
    with pytest.raises(ValueError, match="length=12"):
        model(ndl.Tensor(np.zeros((1, 13), int)))
    with pytest.raises(IndexError, match="13"):
        model(ndl.Tensor(np.full((1, 2), 13)))
    with pytest.raises(ValueError, match="activation"):
        gpt(activation="tanh")


@pytest.mark.parametrize(
    "make",
    [gpt, lambda: models.LanguageModel(6, 13, 8, 2, "lstm"),
     lambda: models.LanguageModel(6, 13, 8, 2, "transformer", seq_len=12)],
)  # fmt: skip
def test_generation_continues_as_the_whole_sequence_would(make):
    np.random.seed(1)
    model = make()
    for p in model.parameters():
        p.data = p.data * 3  # so that the likeliest token is not a close call
    ids = [1, 2, 3]
    expected = list(ids)
    for _ in range(9):
        logits = model.predict_tokens(ndl.Tensor(np.array([expected])))
        expected.append(int(logits.numpy()[-1].argmax()))
    assert list(models.generate(model, np.array(ids), 9, temperature=0)) == expected[3:]


def test_generation_goes_on_past_the_last_position():
    tokens = list(models.generate(gpt(), np.array([1]), 40))
    assert len(tokens) == 40
    assert all(0 <= t < 13 for t in tokens)


def test_sampling():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    rng = np.random.RandomState(0)

    def counts(**options):
        draws = [models.sample(logits, generator=rng, **options) for _ in range(4000)]
        return np.bincount(draws, minlength=4) / 4000

    np.testing.assert_allclose(counts(), [0.5, 0.3, 0.15, 0.05], atol=0.03)
    np.testing.assert_allclose(counts(top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(counts(top_p=0.6), [0.625, 0.375, 0, 0], atol=0.03)
    assert counts(temperature=0)[0] == 1
    assert counts(temperature=0.2)[0] > 0.9
    np.random.seed(5)
    first = [models.sample(logits) for _ in range(10)]
    np.random.seed(5)
    assert first == [models.sample(logits) for _ in range(10)]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"temperature": -1}, "temperature"), ({"top_k": 0}, "top_k"), ({"top_p": 1.5}, "top_p")],
)
def test_bad_sampling_options(options, words):
    with pytest.raises(ValueError, match=words):
        models.generate(gpt(), np.array([1]), 5, **options)
    with pytest.raises(ValueError, match="prompt"):
        models.generate(gpt(), np.array([], dtype=int), 5)


# ---- the course's loops -----------------------------------------------------------------------


def test_the_courses_cifar_loop(apps):
    rng = np.random.RandomState(0)
    dataset = data.NDArrayDataset(rng.rand(20, 3, 32, 32).astype("float32"), np.arange(20) % 10)
    loader = data.DataLoader(dataset, 10)
    np.random.seed(0)
    model = models.ResNet9()
    before = apps.evaluate_cifar10(model, loader)
    accuracy, loss = apps.train_cifar10(model, loader, n_epochs=6, lr=0.002)
    assert accuracy > before[0]
    assert loss < before[1]
    assert apps.epoch_general_cifar10(loader, model)[1] > 0


@pytest.mark.parametrize("seq_model", ["rnn", "lstm"])
def test_the_courses_ptb_loop(apps, seq_model, tmp_path):
    text = "the cat sat on the mat\nthe dog sat on the log\n" * 30
    (tmp_path / "train.txt").write_text(text)
    (tmp_path / "test.txt").write_text(text[:200])
    corpus = data.Corpus(tmp_path)
    device = ndl.default_device()
    batches = data.batchify(corpus.train, 8, device=device, dtype="float32")
    np.random.seed(0)
    model = models.LanguageModel(10, len(corpus.dictionary), 16, 1, seq_model)
    start = apps.evaluate_ptb(model, batches, seq_len=7, device=device)
    accuracy, loss = apps.train_ptb(
        model, batches, seq_len=7, n_epochs=15, lr=2.0, clip=0.5, device=device
    )
    assert loss < 0.3 * start[1]
    assert accuracy > 0.7


def test_resnet9_on_real_photographs(data_folder):
    train = data.cifar10(data_folder / "cifar-10-batches-py", train=True)
    np.random.seed(0)
    loader = data.DataLoader(data.Subset(train, np.arange(2000)), 100, shuffle=True)
    model = models.ResNet9()
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(3):
        for x, y in loader:
            loss = nn.SoftmaxLoss()(model(x), y)
            optimizer.reset_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.4


def test_tied_logits_are_one_product(device):
    model = models.GPT(11, 6, width=8, num_layers=1, num_heads=2).to(device)
    with pytest.MonkeyPatch.context() as patch:
        shapes = []
        compute = ndl.ops.MatMul.compute
        patch.setattr(
            ndl.ops.MatMul, "compute",
            lambda op, a, b: (shapes.append((a.shape, b.shape)), compute(op, a, b))[1],
        )  # fmt: skip
        model(ndl.Tensor(np.ones((3, 6)), device=device, dtype="int64")).sum().backward()
    # Not a gradient of the table for every sequence, added up later.
    assert ((8, 18), (18, 11)) in shapes


def test_no_token_has_no_next_one():
    model = models.GPT(7, 4, width=8, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match="ids is empty"):
        model.next_logits(np.zeros(0, np.int64), None)


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.5}])
@pytest.mark.parametrize(
    "logits",
    [[np.nan, 0.0], [0.0, np.nan, 1.0], [np.inf, 0.0], [np.inf, -np.inf], [-np.inf] * 3, [],
     [np.nan, np.inf], [[1.0, 2.0]], 3.0],
)  # fmt: skip
def test_no_token_is_drawn_from_what_is_no_distribution(logits, options):
    with pytest.raises(ValueError, match=r"\[sample\] logits"):
        models.sample(np.array(logits), **options)


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-3, 1.0, 1e300])
def test_a_token_of_logit_minus_infinity_is_never_drawn(temperature):
    np.random.seed(0)
    logits = np.array([-np.inf, 1.0, -np.inf, 1.0, -1e308])
    drawn = {models.sample(logits, temperature) for _ in range(200)}
    assert drawn <= {1, 3} | ({4} if temperature == 1e300 else set())
