"""`needle.vision`: programs that import torchvision's data sets, transforms and grids."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle.data.vision.png import encode_png
from needle.vision import datasets, transforms, utils

RNG = np.random.default_rng(0)
TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">BBBB" + "I" * array.ndim, 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in (("train", 5), ("t10k", 3)):
        write_idx(raw / f"{name}-images-idx3-ubyte.gz", RNG.integers(0, 256, (n, 28, 28), np.uint8))
        write_idx(raw / f"{name}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8))
    return tmp_path


def test_images_in_mnists_format(digits: Path) -> None:
    train = datasets.FashionMNIST(root=digits, train=True, download=True, transform=TO_TENSOR)
    image, label = train[3]
    assert (image.shape, label, len(train)) == ((1, 28, 28), 3, 5)
    np.testing.assert_allclose(image.numpy()[0], train.data[3].numpy() / 127.5 - 1, atol=1e-6)
    assert train.targets.tolist() == [0, 1, 2, 3, 4]
    assert train.classes[train.class_to_idx["Bag"]] == "Bag"
    images, labels = next(iter(ndl.data.DataLoader(train, batch_size=4)))
    assert (images.shape, labels.tolist()) == ((4, 1, 28, 28), [0, 1, 2, 3])
    test = datasets.FashionMNIST(digits, train=False, target_transform=lambda y: y + 10)
    plain, label = test[2]
    assert (plain.shape, plain.dtype, label) == ((28, 28, 1), np.uint8, 12)
    raw = digits / "FashionMNIST" / "raw"
    digit, label = datasets.MNIST(raw, train=False)[1]
    assert (digit.shape, label) == ((28, 28, 1), 1)


def test_missing_files_say_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"MNIST.*raw.*download=True"):
        datasets.MNIST(tmp_path)
    with pytest.raises(FileNotFoundError, match="put its files there"):
        datasets.FashionMNIST(tmp_path, download=True)
    with pytest.raises(OSError, match="cifar"):
        datasets.CIFAR10(tmp_path)


def test_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = RNG.integers(0, 256, (2, 3, 32, 32), np.uint8)
    rows = np.concatenate([np.array([[4], [9]], np.uint8), images.reshape(2, -1)], 1)
    (folder / "test_batch.bin").write_bytes(rows.tobytes())
    test = datasets.CIFAR10(root=tmp_path, train=False, download=True)
    image, label = test[1]
    np.testing.assert_array_equal(image, images[1].transpose(1, 2, 0))
    assert (test.classes[label], test.targets, test.data.shape) == ("truck", [4, 9], (2, 32, 32, 3))


def test_image_folder(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        pixels = np.full((4, 5, 3), 200 if name == "dog" else 100, np.uint8)
        (tmp_path / name / "0.png").write_bytes(encode_png(pixels))
    images = datasets.ImageFolder(tmp_path, transform=transforms.ToTensor())
    image, label = images[1]
    assert (image.shape, label, images.classes) == ((3, 4, 5), 1, ["cat", "dog"])
    assert image.numpy().max() == pytest.approx(200 / 255)
    assert images.samples[0] == (str(tmp_path / "cat" / "0.png"), 0)


def test_fake_data_is_the_same_at_every_visit() -> None:
    images = datasets.FakeData(3, (1, 4, 4))
    first, second = images[2], images[2]
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert len(list(images)) == 3
    with pytest.raises(IndexError):
        images[3]


def decode_png(content: bytes) -> np.ndarray:
    """The pixels of a file without filters; its checksums are right."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(
            kind + data
        )
        chunks[kind] = data
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    return rows[:, 1:].reshape(height, width, -1)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_files(channels: int) -> None:
    pixels = RNG.integers(0, 256, (5, 7, channels), np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(pixels)), pixels)
    with pytest.raises(ValueError, match="bytes H×W×C"):
        encode_png(pixels.astype(np.float32))


def test_grids() -> None:
    images = ndl.tensor(RNG.uniform(size=(3, 1, 2, 2)).astype(np.float32))
    grid = utils.make_grid(images, nrow=2, padding=1, pad_value=0.5).numpy()
    assert grid.shape == (3, 7, 7)
    np.testing.assert_array_equal(grid[1, 1:3, 4:6], images[1, 0].numpy())
    np.testing.assert_array_equal(grid[2, 4:6, 1:3], images[2, 0].numpy())
    assert (grid[:, 4:6, 4:6] == 0.5).all()
    assert (grid[:, 0] == 0.5).all()
    each = utils.make_grid(images * 8 - 3, padding=0, normalize=True, scale_each=True).numpy()
    assert [each[0, :, i : i + 2].max() for i in (0, 2, 4)] == pytest.approx([1, 1, 1])
    assert utils.make_grid([images[0], images[1]]).shape == (3, 6, 10)
    assert utils.make_grid(images[0, 0]).shape == (3, 2, 2)
    file = io.BytesIO()
    utils.save_image(images[0], file, normalize=True, value_range=(0, 2))
    wanted = np.floor(images[0, 0].numpy() / 2 * 255 + 0.5)
    np.testing.assert_array_equal(decode_png(file.getvalue())[:, :, 2], wanted)
    with pytest.raises(ValueError, match="N×C×H×W"):
        utils.make_grid(ndl.zeros(2, 5, 3, 3))


def test_transforms_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    image = RNG.integers(0, 256, (8, 8, 3), np.uint8)
    np.random.seed(0)
    grays = [transforms.RandomGrayscale(0.5)(image) for _ in range(40)]
    count = sum(bool((x == x[:, :, :1]).all()) for x in grays)
    assert 10 < count < 30
    np.testing.assert_array_equal(
        transforms.RandomGrayscale(1.0)(image)[:, :, :1], transforms.Grayscale()(image)
    )
    flip = transforms.RandomApply([transforms.RandomHorizontalFlip(1.0)], p=1.0)
    np.testing.assert_array_equal(flip(image), image[:, ::-1])
    assert transforms.RandomApply([abs], p=0.0)(-1) == -1
    assert {transforms.RandomChoice([abs, int], p=[0, 1])(-1) for _ in range(9)} == {-1}
    assert transforms.Resize(4, transforms.InterpolationMode.NEAREST)(image).shape == (4, 4, 3)


def test_blur_is_a_normalized_bell() -> None:
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4] = 1
    blurred = transforms.GaussianBlur(5, 1.0)(image)
    bell = np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2)
    bell /= bell.sum()
    np.testing.assert_allclose(blurred[2:7, 2:7, 0], np.outer(bell, bell), atol=1e-6)
    for size, sigma in ((4, 1.0), (3, 0.0)):
        with pytest.raises(ValueError, match="GaussianBlur"):
            transforms.GaussianBlur(size, sigma)


def test_pillow_images_come_back() -> None:
    pytest.importorskip("PIL")
    x = ndl.tensor(RNG.integers(0, 256, (3, 4, 5), np.uint8))
    image = transforms.ToPILImage()(x)
    assert (image.size, image.mode) == ((5, 4), "RGB")
    np.testing.assert_array_equal(transforms.PILToTensor()(image).numpy(), x.numpy())
    assert transforms.ToPILImage()(ndl.ones(1, 2, 2)).getpixel((0, 0)) == 255


def test_an_image_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "image.png"
    utils.save_image(ndl.zeros(3, 4, 4), file)
    before = file.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="full"):
        utils.save_image(ndl.ones(3, 4, 4), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_pillow_writes_other_formats(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    utils.save_image(ndl.ones(3, 4, 4), tmp_path / "a.jpg")
    utils.save_image(ndl.ones(3, 4, 4), tmp_path / "b", format="bmp")
    for name, kind in (("a.jpg", "JPEG"), ("b", "BMP")):
        with image.open(tmp_path / name) as file:
            assert file.format == kind
    with pytest.raises(ValueError, match="no files of the format 'xyz'"):
        utils.save_image(ndl.ones(3, 4, 4), tmp_path / "a.xyz")
