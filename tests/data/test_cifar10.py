"""CIFAR-10's files: what is read, and what is refused."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest

from needle import data
from needle.data.datasets import registry
from needle.data.datasets.cifar10 import FILES, MAX_BYTES, check_batch, read_batch
from needle.data.datasets.download import DownloadError

GLOBALS = {
    "numpy.core": b"cnumpy.core.multiarray\n_reconstruct\n",
    "numpy._core": b"cnumpy._core.multiarray\n_reconstruct\n",
}


def batch(n=4, seed=0):
    rng = np.random.RandomState(seed)
    pixels = rng.randint(0, 256, (n, 3072)).astype("uint8")
    return {b"data": pixels, b"labels": rng.randint(0, 10, n).tolist(), b"batch_label": b"some"}


def python2_pickle(pixels, labels, core="numpy.core"):
    """A batch as Python 2 wrote it: byte strings as BINSTRING."""

    def string(b):
        return b"T" + struct.pack("<i", len(b)) + b

    rows = struct.pack("<i", len(pixels))
    array = (
        GLOBALS[core] + b"(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
        b"(K\x01(J" + rows + b"M\x00\x0ctcnumpy\ndtype\n(" + string(b"u1") + b"K\x00K\x01tR"
        b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + string(pixels.tobytes()) + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + numbers + b"u."


def write_batches(folder, n=4):
    """Five training files and one of test; their (pixels, labels) in order of FILES."""
    contents = {}
    for seed, name in enumerate(FILES[True] + FILES[False]):
        contents[name] = batch(n, seed)
        (folder / name).write_bytes(pickle.dumps(contents[name], protocol=2))
    return contents


def written(tmp_path, content):
    path = tmp_path / "test_batch"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


# ---- what is read -----------------------------------------------------------------------------


def test_items_slices_and_arrays(tmp_path):
    contents = write_batches(tmp_path)
    train = data.CIFAR10Dataset(tmp_path, train=True)
    pixels = np.concatenate([contents[name][b"data"] for name in FILES[True]])
    labels = np.concatenate([contents[name][b"labels"] for name in FILES[True]])
    expected = pixels.reshape(-1, 3, 32, 32)
    assert (len(train), train.X.dtype, train.y.dtype, train.p) == (20, "uint8", "int64", 0.5)
    np.testing.assert_array_equal(train.X, expected)
    np.testing.assert_array_equal(train.y, labels)
    x, y = train[7]
    assert (x.shape, x.dtype, type(y), y) == ((3, 32, 32), "float32", int, labels[7])
    np.testing.assert_allclose(x, expected[7] / 255, rtol=1e-6)
    for index in (slice(3, 9), np.array([5, 0, 5]), [1, 2], slice(0, 0)):
        x, y = train[index]
        np.testing.assert_allclose(x, expected[index] / 255, rtol=1e-6)
        np.testing.assert_array_equal(y, labels[index])
    with pytest.raises(IndexError):
        train[20]


def test_the_function_and_the_loader(tmp_path):
    contents = write_batches(tmp_path)
    test = data.cifar10(tmp_path, train=False)
    assert len(test) == 4
    x, y = next(iter(data.DataLoader(test, 3)))
    assert (x.shape, x.dtype, y.dtype) == ((3, 3, 32, 32), "float32", "int64")
    assert y.tolist() == contents["test_batch"][b"labels"][:3]


def test_transforms_see_height_width_channels(tmp_path):
    write_batches(tmp_path)
    plain = data.cifar10(tmp_path)
    means = [0.1, 0.2, 0.3]
    normal = data.cifar10(tmp_path, transforms=[data.Normalize(means, [1, 1, 1])])
    x = normal[2][0]
    np.testing.assert_allclose(x, plain[2][0] - np.reshape(means, (3, 1, 1)), atol=1e-6)
    assert x.flags.c_contiguous
    flipped = data.cifar10(tmp_path, transforms=[data.RandomFlipHorizontal(1)])
    np.testing.assert_array_equal(flipped[:5][0], plain[:5][0][..., ::-1])
    cut = data.cifar10(tmp_path, transforms=[lambda image: image[:8, :6]])
    assert (cut[0][0].shape, cut[:2][0].shape) == ((3, 8, 6), (2, 3, 8, 6))
    assert cut[:0][0].shape[0] == 0


def test_one_by_one_draws_as_in_a_batch(tmp_path):
    write_batches(tmp_path)
    dataset = data.cifar10(tmp_path, transforms=[data.RandomCrop(4), data.RandomFlipHorizontal()])
    np.random.seed(0)
    one_by_one = np.stack([dataset[i][0] for i in range(7)])
    np.random.seed(0)
    np.testing.assert_array_equal(dataset[:7][0], one_by_one)


def test_transforms_that_give_no_image(tmp_path):
    write_batches(tmp_path)
    flat = data.cifar10(tmp_path, transforms=[np.ravel])
    with pytest.raises(ValueError, match=r"H×W×C.*\(3072,\)"):
        flat[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol(tmp_path, protocol, order):
    content = batch()
    content[b"data"] = np.asarray(content[b"data"], order=order)
    images, labels = read_batch(written(tmp_path, pickle.dumps(content, protocol=protocol)))
    np.testing.assert_array_equal(images.reshape(4, 3072), content[b"data"])
    assert labels.tolist() == content[b"labels"]


@pytest.mark.parametrize("core", sorted(GLOBALS))
def test_what_python_2_wrote(tmp_path, core):
    content = batch()
    raw = python2_pickle(content[b"data"], content[b"labels"], core)
    images, labels = read_batch(written(tmp_path, raw))
    np.testing.assert_array_equal(images.reshape(4, 3072), content[b"data"])
    assert labels.tolist() == content[b"labels"]


@pytest.mark.parametrize("dtype", ["uint8", "<i4", ">i8"])
def test_keys_of_text_and_labels_in_an_array(tmp_path, dtype):
    content = {"data": batch()[b"data"], "labels": np.array([3, 1, 9, 0], dtype=dtype)}
    _, labels = read_batch(written(tmp_path, content))
    assert (labels.tolist(), labels.dtype) == ([3, 1, 9, 0], "int64")


def test_the_binary_version(tmp_path):
    content = batch(6)
    rows = np.c_[np.array(content[b"labels"], dtype="uint8"), content[b"data"]]
    (tmp_path / "test_batch.bin").write_bytes(rows.tobytes())
    test = data.CIFAR10Dataset(tmp_path, train=False)
    np.testing.assert_array_equal(test.X.reshape(6, 3072), content[b"data"])
    assert test.y.tolist() == content[b"labels"]


def test_real_cifar10(data_folder):
    folder = data.default_folder("cifar10")
    assert folder == data_folder / "cifar-10-batches-py"
    train, test = data.cifar10(folder), data.cifar10(folder, train=False)
    assert len(train) % 5 == len(test) % 10 == 0
    assert set(train.y.tolist()) == set(test.y.tolist()) == set(range(10))
    for name in FILES[False]:
        trusted = pickle.loads((folder / name).read_bytes(), encoding="bytes")
        np.testing.assert_array_equal(test.X.reshape(-1, 3072), trusted[b"data"])
        assert test.y.tolist() == trusted[b"labels"]
    assert data.verify("cifar10") == []
    assert data.get("cifar10") == folder


# ---- what is refused --------------------------------------------------------------------------


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_cannot_run_anything(tmp_path, protocol):
    mark = tmp_path / "ran"
    for function, argument in (
        (os.system, f"touch {mark}"), (eval, f"open({str(mark)!r}, 'w')"), (os.mkdir, str(mark)),
    ):  # fmt: skip
        content = batch() | {b"more": Call(function, argument)}
        path = written(tmp_path, pickle.dumps(content, protocol=protocol))
        with pytest.raises(ValueError, match=f"load '.*{function.__name__}'") as caught:
            read_batch(path)
        assert str(path) in str(caught.value)
        assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "numpy.core.multiarray\nscalar", "numpy\nload", "numpy\nfromfile", "numpy\nndarray.tofile",
        "_codecs\ndecode", "codecs\nencode", "builtins\ngetattr", "copyreg\n_reconstructor",
        "numpy.core.multiarray\n_reconstruct.__globals__", "needle\nload",
    ],
)  # fmt: skip
def test_other_names_are_refused(tmp_path, name):
    path = written(tmp_path, b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(ValueError, match="tries to load") as caught:
        read_batch(path)
    assert name.replace("\n", ".") in str(caught.value)


STANDINS = {
    "ndarray": b"cnumpy\nndarray\n",
    "dtype": b"cnumpy\ndtype\n",
    "encode": b"c_codecs\nencode\n",
    "reconstruct": GLOBALS["numpy.core"],
    "buffer": b"cnumpy._core.numeric\n_frombuffer\n",
}


@pytest.mark.parametrize("name", STANDINS)
@pytest.mark.parametrize(
    "rest",
    [b".", b")R.", b"(K\x01tR.", b"(]}N]tR.", b"}b.", b"N}X\x08\0\0\0__call__K\x01s\x86b.", b"Nb."],
)
def test_stand_ins_misused(tmp_path, name, rest):
    with pytest.raises(ValueError, match="test_batch"):
        read_batch(written(tmp_path, b"\x80\x02" + STANDINS[name] + rest))
    assert read_batch(written(tmp_path, batch()))[0].shape == (4, 3, 32, 32)


def array_pickle(dtype=b"u1", order=b"|", shape=b"K\x02K\x03\x86", content=b"C\x06abcdef"):
    """{b"data": an array}, put together by hand."""

    def bytes_(b):
        return b"C" + bytes([len(b)]) + b

    return (
        b"\x80\x03}" + bytes_(b"data") + GLOBALS["numpy.core"] + b"cnumpy\nndarray\nK\x00\x85"
        + bytes_(b"b") + b"\x87R(K\x01" + shape + b"cnumpy\ndtype\n" + bytes_(dtype)
        + b"K\x00K\x01\x87R(K\x03" + bytes_(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + content + b"tbs."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "'labels'"),
        ({"dtype": b"O8"}, "dtype 'O8', expected integers"),
        ({"dtype": b"V9"}, "dtype 'V9'"),
        ({"dtype": b"f8"}, "dtype 'f8'"),
        ({"order": b"2,"}, "byte order"),
        ({"shape": b"K\x02K\x04\x86"}, "takes 8 bytes, in 6"),
        ({"shape": b"\x8a\x06\0\0\0\0\0\x01K\x00\x86"}, "one or two lengths"),
        ({"shape": b"J\xff\xff\xff\xffK\x06\x86"}, "one or two lengths"),
        ({"shape": b"](K\x02K\x03e"}, "one or two lengths"),
        ({"content": b"](NNNNNNe"}, "no numbers"),
    ],
)
def test_arrays_that_are_wrong(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        read_batch(written(tmp_path, array_pickle(**options)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "places in memory"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.", "bytes"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00abc.", "bytes"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\x00\x00\x00}.", "CIFAR-10 batch"),
        (b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns.", "more parts"),
        (b"\x80\x02" + b"]" * 1_100_000 + b".", "more parts"),
        (b"\x80\x02]q\x00" + b"h\x00a" * 10 + b".", "type list"),
        (b"\x80\x02X\x04\0\0\0abcdq\x000" + b".", "opcode POP"),
        (b"\x80\x02X\x64\0\0\0" + b"a" * 100 + b"q\x00X\x06\0\0\0latin1q\x01"
         b"c_codecs\nencode\nq\x02](" + b"h\x02h\x00h\x01\x86R" * 100 + b"e.", "longer than"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x04\x8cxx", "CIFAR-10 batch"),
        (b"I" + b"9" * 10_000 + b"\n.", "CIFAR-10 batch"),
    ],
)  # fmt: skip
def test_bombs(tmp_path, content, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_batch(written(tmp_path, content))
    assert len(str(caught.value)) < 1000


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = batch(1)
    for raw in (python2_pickle(content[b"data"], content[b"labels"]), pickle.dumps(content)):
        for length in [*range(200), *range(200, len(raw), 97), len(raw) - 1]:
            with pytest.raises(ValueError, match="test_batch"):
                read_batch(written(tmp_path, raw[:length]))
        with pytest.raises(ValueError, match="3 bytes follow"):
            read_batch(written(tmp_path, raw + b"abc"))


def test_damaged_bytes_are_refused_or_harmless(tmp_path):
    content = batch(1)
    raw = python2_pickle(content[b"data"], content[b"labels"])
    rng = np.random.RandomState(0)
    for _ in range(500):
        damaged = bytearray(raw)
        damaged[rng.randint(200)] = rng.randint(256)
        try:
            read_batch(written(tmp_path, bytes(damaged)))
        except ValueError as error:
            assert "test_batch" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({b"labels": None}, "keys 'data' and 'labels', found .*batch_label"),
        ({b"data": None}, "keys 'data' and 'labels'"),
        ({b"data": b"pixels"}, "uint8, found bytes"),
        ({b"data": np.zeros((4, 3072), "int64")}, "uint8, found int64"),
        ({b"data": np.zeros((4, 3072))}, "expected integers"),
        ({b"data": np.zeros((4, 3071), "uint8")}, r"\(4, 3072\).* found \(4, 3071\)"),
        ({b"data": np.zeros((5, 3072), "uint8")}, r"for 4 labels, found \(5, 3072\)"),
        ({b"data": np.zeros(4 * 3072, "uint8")}, r"found \(12288,\)"),
        ({b"labels": [0, 1, 2, 10]}, "0 to 9, found 0 to 10"),
        ({b"labels": [0, -1, 2, 3]}, "found -1 to 3"),
        ({b"labels": [0, 1, 2, 1.5]}, "opcode BINFLOAT"),
        ({b"labels": [0, 1, 2, True]}, "list of integers"),
        ({b"labels": [0, 1, 2, 10**30]}, "list of integers"),
        ({b"labels": b"abcd"}, "list of integers"),
        ({b"labels": np.zeros((4, 1), "uint8")}, "list of integers"),
        ({b"labels": [], b"data": np.zeros((0, 3072), "uint8")}, "found none"),
        ({3: 4}, "name of type int"),
    ],
)
def test_batches_that_are_wrong(tmp_path, change, words):
    content = {key: value for key, value in (batch() | change).items() if value is not None}
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=words) as caught:
        read_batch(path)
    assert str(caught.value).startswith(f"[CIFAR10Dataset] {str(path)!r}")
    assert "\n" not in str(caught.value)


def test_something_else_than_a_dict(tmp_path):
    with pytest.raises(ValueError, match="type list"):
        read_batch(written(tmp_path, [1, 2]))


def test_broken_binary_files(tmp_path):
    path = tmp_path / "test_batch.bin"
    for content, words in (
        (bytes(3072), "3073"), (b"", "found none"), (b"\x0a" + bytes(3072), "found 10 to 10"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_batch(path)


def test_files_that_are_far_too_large(tmp_path):
    path = tmp_path / "test_batch"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="at most 67,108,864 bytes"):
        read_batch(path)


def test_missing_files_are_named(tmp_path):
    write_batches(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match=r"base_folder .*'data_batch_4'.*data_batch_4\.bin"):
        data.CIFAR10Dataset(tmp_path, True)


# ---- registry ---------------------------------------------------------------------------------


def test_get_and_verify(tmp_path, monkeypatch):
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path))
    folder = tmp_path / "cifar-10-batches-py"
    assert data.default_folder("cifar10") == folder
    with pytest.raises(DownloadError, match=r"data_batch_1 is missing.*cifar-10-python") as caught:
        data.get("cifar10")
    assert "\n" not in str(caught.value)
    folder.mkdir()
    write_batches(folder)
    (folder / "test_batch").rename(folder / "other")
    assert data.verify("cifar10") == [f"{folder / 'test_batch'} is missing"]
    (folder / "test_batch.bin").write_bytes(bytes(3073))
    assert data.get("cifar10") == folder
    assert data.verify("cifar10") == []
    assert {entry.name: entry.present for entry in data.list_datasets()}["cifar10"]
    (folder / "data_batch_2").write_bytes(b"broken")
    (problem,) = data.verify("cifar10")
    assert "data_batch_2" in problem
    assert check_batch(folder / "nothing") is not None


def test_every_source_has_a_way_to_its_files():
    for source in registry._SOURCES.values():
        for sha256 in source.files.values():
            assert source.by_hand if sha256 is None else source.mirrors
