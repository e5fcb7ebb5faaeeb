"""Files for TensorBoard: read back by the format's definition, and by TensorBoard where it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.utils.tensorboard import SummaryWriter
from needle.utils.tensorboard.records import crc32c, varint

RNG = np.random.default_rng(0)


def test_checksums() -> None:
    """The examples of RFC 3720, appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def checked(content: bytes, checksum: bytes) -> bytes:
    crc = (struct.unpack("<I", checksum)[0] - 0xA282EAD8) & 0xFFFFFFFF
    assert (crc >> 17 | crc << 15) & 0xFFFFFFFF == crc32c(content)
    return content


def records(path: Path) -> Iterator[bytes]:
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack("<Q", checked(data[at : at + 8], data[at + 8 : at + 12]))
        end = at + 12 + length
        yield checked(data[at + 12 : end], data[end : end + 4])
        at = end + 4


def fields(message: bytes) -> dict[int, list[Any]]:
    """The fields of a message by their numbers."""
    found: dict[int, list[Any]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        total = shift = 0
        while True:
            byte = message[at]
            at += 1
            total |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return total

    while at < len(message):
        key = number()
        kind, value = key & 7, None
        if kind == 0:
            value = number()
        elif kind == 2:
            length = number()
            value = message[at : at + length]
            at += length
        else:
            size, form = {1: (8, "<d"), 5: (4, "<f")}[kind]
            (value,) = struct.unpack(form, message[at : at + size])
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def events(folder: Path) -> list[dict[int, list[Any]]]:
    (path,) = folder.glob("events.out.tfevents.*")
    return [fields(x) for x in records(path)]


def value_of(event: dict[int, list[Any]]) -> dict[int, list[Any]]:
    return fields(fields(event[5][0])[1][0])


def write(folder: Path) -> None:
    with SummaryWriter(folder, purge_step=3) as writer:
        writer.add_scalar("loss/train", ndl.tensor(0.5), 300, walltime=12.5)
        writer.add_histogram("weights", ndl.tensor([-1.0, 0.0, 2.0, 2.0]), 4)
        writer.add_histogram("few", np.arange(8), 4, bins=4)
        writer.add_image("image", RNG.integers(0, 256, (3, 4, 5), np.uint8), 5)
        writer.add_images("images", ndl.rand(2, 1, 4, 5), 5)
        writer.add_text("notes", "größer", 6)
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.75})
        writer.add_scalars("both", {"a": 1.0, "b": 2}, 7)
        writer.flush()


def test_events(tmp_path: Path) -> None:
    write(tmp_path)
    version, start, scalar, weights, few, image, images, text, _, metric = events(tmp_path)
    assert version[3] == [b"brain.Event:2"]
    assert (start[2], fields(start[7][0])) == ([3], {1: [1]})
    assert (scalar[1], scalar[2]) == ([12.5], [300])
    assert value_of(scalar) == {1: [b"loss/train"], 2: [0.5]}
    histogram = fields(value_of(weights)[5][0])
    edges, counts = (np.frombuffer(histogram[i][0]) for i in (6, 7))
    assert [histogram[i][0] for i in (1, 2, 3, 4, 5)] == [-1, 2, 4, 3, 9]
    assert (len(edges), counts.sum()) == (len(counts), 4)
    for value, times in ((-1, 1), (0, 1), (2, 2)):
        place = np.searchsorted(edges, value, side="right")  # upper ends
        assert counts[place] == times
    counts = np.frombuffer(fields(value_of(few)[5][0])[7][0])
    assert counts.tolist() == [0, 2, 2, 2, 2]
    picture = fields(value_of(image)[4][0])
    assert [picture[i][0] for i in (1, 2, 3)] == [4, 5, 3]
    assert picture[4][0].startswith(b"\x89PNG")
    assert fields(value_of(images)[4][0])[2] == [10]
    assert fields(value_of(text)[8][0])[8] == ["größer".encode()]
    assert value_of(metric)[2] == [0.75]
    assert value_of(events(tmp_path / "both_b")[1]) == {1: [b"both"], 2: [2.0]}


def test_a_closed_writer_begins_a_new_file(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path)
    writer.close()
    writer.add_scalar("x", 1.0)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(comment="_lr1") as writer:
        assert writer.get_logdir().startswith("runs")
    assert next((tmp_path / "runs").iterdir()).name.endswith("_lr1")


def test_numbers_of_many_bytes() -> None:
    assert varint(300) == b"\xac\x02"
    assert len(varint(-1)) == 10


def test_errors(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        for values in ([], [np.nan]):
            with pytest.raises(ValueError, match="finite"):
                writer.add_histogram("h", np.array(values))
        with pytest.raises(ValueError, match="dataformats"):
            writer.add_image("i", np.zeros((2, 3)))
        with pytest.raises(ValueError, match="dataformats"):
            writer.add_images("i", np.zeros((2, 3)))
        with pytest.raises(ValueError, match="channels"):
            writer.add_image("i", np.zeros((2, 3, 4)))


def test_tensorboard_reads_the_files(tmp_path: Path) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(module)
    write(tmp_path)
    read = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert read.Scalars("loss/train")[0].value == 0.5
    assert read.Histograms("weights")[0].histogram_value.sum == 3
    assert read.Images("image")[0].height == 4
    assert read.Tensors("notes/text_summary")[0].tensor_proto.string_val[0].decode() == "größer"
