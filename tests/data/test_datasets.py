"""File formats, the data sets that come with needle, downloads."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import http.server
import os
import re
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from needle import data
from needle.data.datasets import registry
from needle.data.datasets.download import DownloadError, content_sha256, download
from needle.data.datasets.idx import read_idx


def write_idx(path, array, magic=None, extra=b"", shape=None):
    shape = array.shape if shape is None else shape
    magic = magic or bytes([0, 0, 8, array.ndim])
    header = magic + struct.pack(f">{array.ndim}I", *shape)
    path.write_bytes(gzip.compress(header + array.astype("uint8").tobytes() + extra))
    return path


@pytest.fixture
def small_mnist(tmp_path):
    rng = np.random.RandomState(0)
    images, labels = rng.randint(0, 256, (7, 28, 28)), rng.randint(0, 10, 7)
    paths = [tmp_path / name for name in ("images.gz", "labels.gz")]
    write_idx(paths[0], images)
    write_idx(paths[1], labels)
    return images, labels, *paths


# ---- IDX and MNIST ----------------------------------------------------------------------------


def test_parse_mnist(small_mnist):
    images, labels, *paths = small_mnist
    x, y = data.parse_mnist(*paths)
    assert (x.dtype, x.shape, y.dtype) == ("float32", (7, 784), "uint8")
    np.testing.assert_allclose(x, images.reshape(7, 784) / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, labels)


def test_mnist_items_slices_and_arrays(small_mnist):
    images, labels, *paths = small_mnist
    dataset = data.MNISTDataset(*paths)
    x, y = dataset[3]
    assert (x.shape, x.dtype, y) == ((28, 28, 1), "float32", labels[3])
    np.testing.assert_allclose(x[..., 0], images[3] / 255, rtol=1e-6)
    for index in (slice(1, 4), np.array([5, 0])):
        x, y = dataset[index]
        np.testing.assert_allclose(x[..., 0], images[index] / 255, rtol=1e-6)
        np.testing.assert_array_equal(y, labels[index])


def test_transforms_run_image_by_image(small_mnist):
    _, _, *paths = small_mnist
    dataset = data.MNISTDataset(
        *paths, transforms=[data.RandomCrop(2), data.RandomFlipHorizontal()]
    )
    np.random.seed(0)
    one_by_one = np.stack([dataset[i][0] for i in range(7)])
    np.random.seed(0)
    np.testing.assert_array_equal(dataset[:7][0], one_by_one)
    assert dataset[:0][0].shape == (0, 28, 28, 1)


def test_broken_files_are_named(tmp_path):
    images = np.zeros((3, 28, 28))
    good = write_idx(tmp_path / "good.gz", images)
    plain = tmp_path / "plain.gz"
    plain.write_bytes(gzip.decompress(good.read_bytes()))
    cut = tmp_path / "cut.gz"
    cut.write_bytes(good.read_bytes()[:40])
    noisy = tmp_path / "noisy.gz"
    noisy.write_bytes(good.read_bytes()[:12] + b"\xff" * 60)
    empty = tmp_path / "empty.gz"
    empty.write_bytes(gzip.compress(b""))
    cases = {
        plain: "gzip",
        cut: "truncated|gzip",
        noisy: "gzip|magic",
        empty: "header of 16 bytes",
        write_idx(tmp_path / "magic.gz", images, magic=b"\0\0\x0d\x03"): "magic number 2051",
        write_idx(tmp_path / "labels.gz", np.zeros(3)): "magic number",
        write_idx(tmp_path / "short.gz", images, shape=(4, 28, 28)): r"\(4, 28, 28\)",
        write_idx(tmp_path / "long.gz", images, extra=b"x"): "found more",
        write_idx(tmp_path / "huge.gz", images, shape=(2**32 - 1, 28, 28)): "can hold",
    }
    for path, words in cases.items():
        with pytest.raises(ValueError, match=words) as caught:
            read_idx(path, 3)
        assert path.name in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none.gz", 3)


def test_files_that_do_not_fit_each_other(tmp_path):
    images = write_idx(tmp_path / "i.gz", np.zeros((3, 28, 28)))
    cases = [
        (images, write_idx(tmp_path / "l2.gz", np.zeros(2)), "3 images"),
        (images, write_idx(tmp_path / "l10.gz", np.array([1, 10, 2])), "0 to 9"),
        (write_idx(tmp_path / "w.gz", np.zeros((3, 28, 27))),
         write_idx(tmp_path / "l3.gz", np.zeros(3)), "28×27"),
    ]  # fmt: skip
    for image_file, label_file, words in cases:
        with pytest.raises(ValueError, match=words):
            data.parse_mnist(image_file, label_file)


def test_real_mnist(data_folder):
    train = data.mnist(data_folder / "mnist", train=True)
    assert (len(train), len(data.mnist(data_folder / "mnist", train=False))) == (60_000, 10_000)
    assert np.linalg.norm(train[:10][0]) == pytest.approx(27.892084, rel=1e-6)
    assert np.linalg.norm(train[:1000][0]) == pytest.approx(293.0717, rel=1e-6)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


# ---- digits -----------------------------------------------------------------------------------


def test_digits():
    train, test = data.DigitsDataset(), data.DigitsDataset(train=False)
    assert len(train) + len(test) == 1797
    assert len(test) == 359
    x, y = train[0]
    assert (x.shape, x.dtype) == ((8, 8, 1), "float32")
    assert 0 <= y <= 9
    everything = np.concatenate([train.images, test.images])
    assert (everything.min(), everything.max()) == (0, 1)
    assert everything.mean() == pytest.approx(4.884 / 16, abs=1e-3)
    shares = np.bincount(test.labels) / np.bincount(np.r_[train.labels, test.labels])
    assert (abs(shares - 0.2) < 0.01).all()


def test_the_digits_split_is_fixed_and_draws_nothing():
    np.random.seed(1)
    first = data.DigitsDataset(train=False).labels
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after
    np.random.seed(2)
    np.testing.assert_array_equal(data.DigitsDataset(train=False).labels, first)
    assert first[:8].tolist() == data.DigitsDataset(train=False).labels[:8].tolist()


# ---- downloads --------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 2000


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the next answers break off half-way where `broken` says so."""

    broken: list[int]

    def do_GET(self):
        try:
            body = Path(self.translate_path(self.path)).read_bytes()
        except OSError:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.broken and self.broken.pop() else body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Breaking", (Handler,), {"broken": []})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder, handler.broken
        running.shutdown()
        thread.join()


def test_download_checks_and_renames(server, tmp_path):
    url, folder, _ = server
    (folder / "a.gz").write_bytes(gzip.compress(CONTENT))
    target, seen = tmp_path / "deep" / "a.gz", []
    download(target, [url + "a.gz"], hashlib.sha256(CONTENT).hexdigest(), lambda *a: seen.append(a))
    assert gzip.decompress(target.read_bytes()) == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert seen[-1] == ("a.gz", target.stat().st_size, target.stat().st_size)
    assert content_sha256(target) == hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_download_that_breaks_off_starts_anew(server, tmp_path, no_waiting):
    url, folder, broken = server
    (folder / "a").write_bytes(CONTENT)
    broken.append(1)
    download(tmp_path / "a", [url + "a"], hashlib.sha256(CONTENT).hexdigest())
    assert not broken
    assert (tmp_path / "a").read_bytes() == CONTENT
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_next_mirror_serves_where_one_fails(server, tmp_path, no_waiting):
    url, folder, _ = server
    (folder / "bad").write_bytes(b"something else")
    (folder / "good").write_bytes(CONTENT)
    download(
        tmp_path / "a",
        [url + "missing", url + "bad", url + "good"],
        hashlib.sha256(CONTENT).hexdigest(),
    )
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_no_mirror_helps(server, tmp_path, no_waiting):
    url, folder, _ = server
    (folder / "bad").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="SHA-256") as caught:
        download(tmp_path / "a", [url + "bad", "http://127.0.0.1:9/x"], "0" * 64)
    assert "\n" not in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'needle-dl\[data\]'"):
        download(tmp_path / "a", ["http://127.0.0.1:9/a"], "0" * 64)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_a_disk_that_is_full_is_named(server, tmp_path, monkeypatch):
    url, folder, _ = server
    (folder / "a").write_bytes(CONTENT)

    def on_a_full_disk(self, url, file, pooch):
        with open("/dev/full", "wb") as full:
            full.write(CONTENT)

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", on_a_full_disk)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "a"))) as caught:
        download(tmp_path / "a", [url + "a"], "0" * 64)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "a").exists()


# ---- registry ---------------------------------------------------------------------------------


def test_get_says_what_is_missing_in_one_line(tmp_path, monkeypatch, no_waiting):
    source = registry._SOURCES["mnist"]
    offline = registry._Source("mnist", "", source.files, ("http://127.0.0.1:9/",))
    monkeypatch.setitem(registry._SOURCES, "mnist", offline)
    with pytest.raises(DownloadError, match="needle train digits") as caught:
        data.get("mnist", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "--data-dir" in message


def test_get_and_verify(server, tmp_path, monkeypatch):
    url, folder, _ = server
    (folder / "x.gz").write_bytes(gzip.compress(CONTENT))
    source = registry._Source("toy", "", {"x.gz": hashlib.sha256(CONTENT).hexdigest()}, (url,))
    monkeypatch.setitem(registry._SOURCES, "toy", source)
    assert "missing" in data.verify("toy", tmp_path)[0]
    assert data.get("toy", tmp_path) == tmp_path
    assert data.verify("toy", tmp_path) == []
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"other"))
    assert "expected SHA-256" in data.verify("toy", tmp_path)[0]
    (tmp_path / "x.gz").write_bytes(b"no gzip")
    assert "gzip" in data.verify("toy", tmp_path)[0]


def test_where_data_sets_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path))
    assert data.default_folder("mnist") == tmp_path / "mnist"
    monkeypatch.delenv("NEEDLE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.default_folder("mnist") == tmp_path / "cache" / "needle" / "data" / "mnist"
    entries = {entry.name: entry for entry in data.list_datasets()}
    assert entries["digits"].present
    assert not entries["mnist"].present
    for act in (data.default_folder, data.get, data.verify):
        with pytest.raises(ValueError, match="mnist"):
            act("mnits")


def test_real_mnist_has_the_right_content(data_folder):
    assert data.verify("mnist", data_folder / "mnist") == []
