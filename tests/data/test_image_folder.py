"""Folders of images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from needle import data

Image = pytest.importorskip("PIL.Image")


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes: (cat: a, b), (dog: c), with other files among them. Returns pixels too."""
    rng = np.random.RandomState(0)
    pixels = {
        name: rng.randint(0, 256, (4, 6, 3)).astype("uint8")
        for name in ("cat/a.png", "cat/b.PNG", "dog/c.bmp")
    }
    for name, image in pixels.items():
        write_image(tmp_path / name, image)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.txt").write_text("no class")
    return tmp_path, pixels


def test_items(folder):
    root, pixels = folder
    dataset = data.ImageFolder(root)
    assert dataset.classes == ["cat", "dog"]
    assert [label for _, label in dataset] == dataset.labels.tolist() == [0, 0, 1]
    for (image, label), expected in zip(dataset, pixels.values(), strict=True):
        assert (image.shape, image.dtype, type(label)) == ((4, 6, 3), "float32", int)
        np.testing.assert_allclose(image, expected / 255, rtol=1e-6)
    assert len(dataset) == 3


def test_transforms_and_the_loader(folder):
    root, pixels = folder
    dataset = data.ImageFolder(root, transforms=[data.RandomFlipHorizontal(1)])
    x, y = next(iter(data.DataLoader(dataset, 2)))
    assert (x.shape, y.tolist()) == ((2, 4, 6, 3), [0, 0])
    np.testing.assert_allclose(x.numpy()[0], pixels["cat/a.png"][:, ::-1] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "shape"), [(5, (5, 5, 3)), ((2, 9), (2, 9, 3)), (np.int64(1), (1, 1, 3))]
)
def test_size(folder, size, shape):
    image = data.ImageFolder(folder[0], size=size)[0][0]
    assert image.shape == shape
    assert 0 <= image.min() <= image.max() <= 1


def test_a_plain_colour_stays_so_when_scaled(tmp_path):
    write_image(tmp_path / "red" / "1.png", np.full((8, 8, 3), [255, 0, 51], "uint8"))
    image = data.ImageFolder(tmp_path, size=3)[0][0]
    np.testing.assert_allclose(image, np.broadcast_to([1, 0, 0.2], (3, 3, 3)), atol=1e-6)


def test_grey_images_and_transparency(tmp_path):
    grey = np.arange(12, dtype="uint8").reshape(3, 4)
    write_image(tmp_path / "x" / "1.png", grey)
    write_image(tmp_path / "x" / "2.png", np.dstack([grey, grey, grey, grey]))
    for image, _ in data.ImageFolder(tmp_path):
        np.testing.assert_allclose(image, np.dstack([grey] * 3) / 255, rtol=1e-6)


def test_unreadable_images_are_named(folder):
    root, pixels = folder
    good = [root / name for name in pixels]
    whole = (root / "cat" / "a.png").read_bytes()
    write_image(root / "cat" / "deep.png", np.zeros((2, 2), "uint16"))
    for name, content in {
        "cut.png": whole[: len(whole) // 2], "text.jpg": b"no image", "empty.gif": b"",
        "damaged.png": whole[:40] + bytes(20) + whole[60:],
    }.items():  # fmt: skip
        (root / "cat" / name).write_bytes(content)
    dataset = data.ImageFolder(root)
    broken = [i for i, path in enumerate(dataset.paths) if path not in good]
    assert len(broken) == 5
    for i in broken:
        with pytest.raises(ValueError, match=r"\[ImageFolder\].*cannot be read") as caught:
            dataset[i]
        assert dataset.paths[i].name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_folders_that_are_wrong(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.ImageFolder(tmp_path / "nothing")
    with pytest.raises(ValueError, match="found no folder"):
        data.ImageFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty.*expected images.*\.jpg"):
        data.ImageFolder(tmp_path)


@pytest.mark.parametrize("size", [0, -1, (3,), (3, 0), (1, 2, 3), (2.5, 2)])
def test_bad_sizes(folder, size):
    with pytest.raises(ValueError, match="size"):
        data.ImageFolder(folder[0], size=size)


def test_without_pillow_the_error_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "import needle as ndl\n"
        "try:\n    ndl.data.ImageFolder('.')\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'needle-dl[images]'" in done.stdout
