"""Transforms of images: against Pillow, on every kind of image, with the loader's generator."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import needle as ndl
from needle import data
from needle.data import vision

NOISE = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
PICTURE = Image.fromarray(NOISE).resize((31, 23), Image.Resampling.BICUBIC)
COLORS = np.asarray(PICTURE)
SMOOTH = np.asarray(PICTURE.resize((62, 46), Image.Resampling.BICUBIC))

EVERY = [
    vision.Resize(9), vision.Resize((12, 40), "bicubic"), vision.Resize(9, "nearest"),
    vision.RandomResizedCrop(8), vision.CenterCrop((40, 7)), vision.RandomCrop(10),
    vision.RandomCrop(28, padding=3, pad_if_needed=True, padding_mode="reflect"),
    vision.RandomHorizontalFlip(), vision.RandomVerticalFlip(), vision.Pad((1, 2, 3, 4)),
    vision.ColorJitter(0.4, 0.4, 0.4, 0.2), vision.RandomRotation(30, "bilinear"),
    vision.RandomRotation((10, 80), expand=True), vision.Grayscale(), vision.Grayscale(3),
]  # fmt: skip


def name_of(transform):
    return type(transform).__name__


@pytest.mark.parametrize("transform", EVERY, ids=name_of)
def test_every_kind_of_image(transform):
    """A Pillow image, an array and a Tensor give the same pixels, and their own kind."""

    def run(image):
        np.random.seed(5)
        return transform(image)

    pixels = run(COLORS)
    picture = run(PICTURE)
    tensor = run(ndl.Tensor(np.moveaxis(COLORS, -1, 0)))
    assert isinstance(pixels, np.ndarray)
    assert isinstance(picture, Image.Image)
    assert tensor.dtype == pixels.dtype == np.uint8
    np.testing.assert_array_equal(np.moveaxis(tensor.numpy(), 0, -1), pixels)
    of_picture = np.asarray(picture).reshape(pixels.shape)
    np.testing.assert_allclose(of_picture.astype(int), pixels.astype(int), atol=3)
    floats = run(COLORS.astype(np.float64) / 255)
    assert floats.dtype == np.float64
    np.testing.assert_allclose(np.clip(floats * 255, 0, 255), pixels, atol=4)


@pytest.mark.parametrize("transform", [*EVERY, vision.RandomErasing(1.0)], ids=name_of)
def test_they_draw_from_the_generator_of_a_batch(transform):
    images = [vision.ToTensor()(COLORS)] * 6
    if name_of(transform).startswith("RandomErasing"):
        images = [np.asarray(x) for x in images]

    class Transformed(data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            x = transform(images[i])
            return np.asarray(vision.Resize((8, 8))(np.moveaxis(np.asarray(x), 0, -1)))

    def run(workers):
        loader = data.DataLoader(
            Transformed(), 2, generator=np.random.default_rng(1), num_workers=workers
        )
        return np.concatenate([batch.numpy() for batch in loader])

    np.testing.assert_array_equal(run(0), run(2))


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(10, 8), (50, 70), (23, 12), (46, 31), (1, 1)])
def test_resize_is_that_of_pillow(how, size):
    ours = vision.Resize(size, how)(SMOOTH)
    theirs = np.asarray(Image.fromarray(SMOOTH).resize(size[::-1], Image.Resampling[how.upper()]))
    np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=1)


@pytest.mark.parametrize("size", [(10, 8), (50, 70)])
def test_resize_of_floats_is_that_of_pytorch(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(23, 31, 3))
    ours = vision.Resize(size)(x)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).permute(2, 0, 1)[None], size, mode="bilinear", antialias=True
    )[0]
    np.testing.assert_allclose(ours, theirs.permute(1, 2, 0), atol=1e-5)


def test_sizes():
    assert vision.Resize(10)(PICTURE).size == (13, 10)
    assert vision.Resize(10)(np.zeros((40, 20, 1))).shape == (20, 10, 1)
    assert vision.Resize(10, max_size=15)(np.zeros((40, 20, 1))).shape == (15, 7, 1)
    assert vision.CenterCrop(5)(COLORS).tolist() == COLORS[9:14, 13:18].tolist()
    assert vision.Pad(1, padding_mode="edge")(COLORS)[0, 0].tolist() == COLORS[0, 0].tolist()
    assert vision.Pad(1, (1, 2, 3))(COLORS)[0, 0].tolist() == [1, 2, 3]


def test_random_crop_takes_every_place():
    image = np.arange(12).reshape(3, 4, 1)
    seen = {int(vision.RandomCrop(2)(image)[0, 0, 0]) for _ in range(200)}
    assert seen == {0, 1, 2, 4, 5, 6}
    with pytest.raises(ValueError, match="pad_if_needed"):
        vision.RandomCrop(5)(image)


def test_random_resized_crop_keeps_its_bounds():
    crop = vision.RandomResizedCrop(4, scale=(0.2, 0.5), ratio=(0.5, 2))
    for _ in range(300):
        top, left, height, width = crop._box(40, 60)
        assert 0 <= top <= 40 - height
        assert 0 <= left <= 60 - width
        assert 0.18 < height * width / 2400 < 0.53
        assert 0.45 < width / height < 2.2
    assert vision.RandomResizedCrop(4, (1, 1), (1, 1))._box(10, 30) == (0, 10, 10, 10)


@pytest.mark.parametrize("degrees", [0, 17, 90, 180, 271.5])
@pytest.mark.parametrize("how", ["nearest", "bilinear"])
@pytest.mark.parametrize("expand", [False, True])
def test_rotation_is_that_of_pillow(degrees, how, expand):
    ours = vision.RandomRotation((degrees, degrees), how, expand, fill=9)(SMOOTH)
    theirs = Image.fromarray(SMOOTH).rotate(
        degrees, Image.Resampling[how.upper()], expand, fillcolor=(9, 9, 9)
    )
    assert ours.shape[:2] == theirs.size[::-1]
    wrong = np.abs(ours.astype(int) - np.asarray(theirs)) > 1
    assert wrong.mean() < 0.01, "rounding decides at pixels' borders"


def test_rotation_around_a_center():
    ours = vision.RandomRotation((40, 40), center=(3, 5))(SMOOTH)
    theirs = Image.fromarray(SMOOTH).rotate(40, center=(3, 5))
    assert (ours != np.asarray(theirs)).mean() < 0.01


@pytest.mark.parametrize(
    ("option", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)  # fmt: skip
@pytest.mark.parametrize("factor", [0, 0.6, 1, 1.7])
def test_color_jitter_is_that_of_pillow(option, enhance, factor):
    ours = vision.ColorJitter(**{option: (factor, factor)})(COLORS)
    theirs = np.asarray(enhance(PICTURE).enhance(factor))
    np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=1)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.1, 0.5])
def test_hue_is_that_of_colorsys(turn):
    pixels = np.concatenate([COLORS[0] / 255, [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]])[None]
    expected = []
    for pixel in pixels[0]:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected.append(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
    np.testing.assert_allclose(vision.adjust_hue(pixels, turn)[0], expected, atol=1e-5)


def test_grayscale_is_that_of_pillow():
    ours = vision.Grayscale()(PICTURE)
    assert ours.mode == "L"
    theirs = np.asarray(ImageOps.grayscale(PICTURE)).astype(int)
    np.testing.assert_allclose(np.asarray(ours).astype(int), theirs, atol=1)
    alpha = np.dstack([COLORS, np.full(COLORS.shape[:2], 77, np.uint8)])
    jittered = vision.ColorJitter(0.3, 0.3, 0.3, 0.3)(Image.fromarray(alpha, "RGBA"))
    assert (np.asarray(jittered)[:, :, 3] == 77).all()


def test_to_tensor_and_normalize():
    mean, std = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    both = vision.Compose([vision.ToTensor(), vision.Normalize(mean, std)])
    expected = (np.moveaxis(COLORS, -1, 0) / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    for image in (COLORS, PICTURE):
        result = both(image)
        assert isinstance(result, ndl.Tensor)
        assert result.dtype == "float32"
        assert not result.requires_grad
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert vision.ToTensor()(np.ones((2, 3), np.float64)).dtype == "float64"
    assert vision.ToTensor()(PICTURE.convert("L")).shape == (1, 23, 31)
    (batch,) = data.DataLoader([both(COLORS)] * 3, 3)
    assert batch.shape == (3, 3, 23, 31)


@pytest.mark.parametrize("value", [0, (1, 2, 3), "random"])
def test_random_erasing(value):
    x = ndl.Tensor(np.full((3, 40, 50), 9.0, np.float32))
    for _ in range(20):
        erased = vision.RandomErasing(1.0, (0.1, 0.2), value=value)(x).numpy()
        where = (erased != 9).all(0)
        rows, columns = where.any(1), where.any(0)
        assert 0.08 < where.mean() < 0.22
        assert where.sum() == rows.sum() * columns.sum()
        if value != "random":
            np.testing.assert_array_equal(
                erased[:, where].T, np.broadcast_to(value, (where.sum(), 3))
            )
    assert vision.RandomErasing(0.0)(x).tolist() == x.tolist()


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_mixup_and_cutmix(kind, device):
    images = np.random.default_rng(0).random((4, 3, 16, 16), np.float32)
    labels = np.array([0, 2, 1, 2])
    if kind == "tensor":
        given = (ndl.Tensor(images, device=device), ndl.Tensor(labels, device=device))
        to_numpy = np.asarray
    else:
        given, to_numpy = (np.moveaxis(images, 1, -1), labels), lambda x: np.moveaxis(x, -1, 1)
    soft = np.eye(3)[labels]

    x, y = vision.mixup(*given, 3, alpha=0.7, generator=np.random.default_rng(3))
    weight = np.random.default_rng(3).beta(0.7, 0.7)
    expected = images * weight + np.roll(images, 1, 0) * (1 - weight)
    np.testing.assert_allclose(to_numpy(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(y), soft * weight + np.roll(soft, 1, 0) * (1 - weight), rtol=1e-5, atol=1e-6
    )

    x, y = vision.cutmix(given[0], np.asarray(y) if kind == "array" else y,
                         generator=np.random.default_rng(3))  # fmt: skip
    pasted = (to_numpy(x) == np.roll(images, 1, 0)).all((0, 1))
    kept = (to_numpy(x) == images).all((0, 1))
    assert (pasted ^ kept).all()
    assert pasted.any()
    np.testing.assert_allclose(np.asarray(y).sum(1), 1, rtol=1e-5)


def test_cutmix_weights_labels_by_area():
    images = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))])
    for seed in range(10):
        x, y = vision.cutmix(images, np.array([0, 1]), 2, generator=np.random.RandomState(seed))
        np.testing.assert_allclose(y[0], [1 - x[0].mean(), x[0].mean()])


def test_mixing_in_a_compiled_function_is_refused():
    compiled = ndl.jit(lambda x, y: vision.mixup(x, y, 3))
    with pytest.raises(RuntimeError, match="before the compiled function"):
        compiled(ndl.ones(4, 2), ndl.Tensor(np.arange(4) % 3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: vision.Resize(0), ValueError, "positive"),
        (lambda: vision.Resize(2.5), TypeError, "integers"),
        (lambda: vision.Resize((1, 2, 3)), ValueError, "one or two"),
        (lambda: vision.Resize(4, "lanczos"), ValueError, "nearest, bilinear, bicubic"),
        (lambda: vision.Resize(4, max_size=4), ValueError, "max_size"),
        (lambda: vision.Pad(-1), ValueError, "not negative"),
        (lambda: vision.Pad(1, padding_mode="wrap"), ValueError, "padding_mode"),
        (lambda: vision.RandomHorizontalFlip(1.5), ValueError, r"\[0, 1\]"),
        (lambda: vision.RandomRotation(-1), ValueError, "negative"),
        (lambda: vision.RandomRotation(1, "cubic"), ValueError, "bilinear"),
        (lambda: vision.ColorJitter(hue=0.6), ValueError, "hue"),
        (lambda: vision.ColorJitter(brightness=-1), ValueError, "brightness"),
        (lambda: vision.Grayscale(2), ValueError, "1 or 3"),
        (lambda: vision.Normalize(0, 0), ValueError, "std"),
        (lambda: vision.Normalize([0, 1], 1)(COLORS), ValueError, "3 channels"),
        (lambda: vision.Normalize(0, 1)(PICTURE), TypeError, "ToTensor"),
        (lambda: vision.RandomErasing(scale=(0.5, 0.1)), ValueError, "low"),
        (lambda: vision.RandomErasing(value="noise"), ValueError, "random"),
        (lambda: vision.Grayscale()(COLORS[0]), ValueError, "H×W×C"),
        (lambda: vision.Grayscale()([1]), TypeError, "list"),
        (lambda: vision.Grayscale()(PICTURE.convert("P")), ValueError, "convert"),
        (lambda: vision.mixup(np.ones((2, 2)), np.ones(2, int)), ValueError, "num_classes"),
        (lambda: vision.mixup(np.ones((2, 2), int), np.ones(2, int), 3), ValueError, "floating"),
        (lambda: vision.mixup(np.ones((2, 2)), np.ones(2), 3, alpha=0), ValueError, "alpha"),
        (lambda: vision.cutmix(np.ones((2, 2)), np.ones(2, int), 3), ValueError, "four axes"),
    ],
)  # fmt: skip
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
