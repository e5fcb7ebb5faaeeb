"""Files of `torch.save` are read; pickles that would run code or take all memory are refused."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import needle as ndl
from needle import nn

torch = pytest.importorskip("torch")


def written(value, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def read(value, **options):
    return ndl.load(io.BytesIO(written(value)), **options)


def check_message(error: Exception) -> None:
    assert str(error).startswith("[load] the BytesIO")


def same(theirs, ours) -> bool:
    if isinstance(theirs, torch.Tensor):
        wanted = theirs.detach()
        wanted = wanted.float() if wanted.dtype == torch.bfloat16 else wanted
        return (
            theirs.requires_grad == ours.requires_grad
            and isinstance(theirs, torch.nn.Parameter) == isinstance(ours, nn.Parameter)
            and np.array_equal(wanted.numpy(), ours.numpy(), equal_nan=wanted.is_floating_point())
        )
    if isinstance(theirs, dict):
        return list(theirs) == list(ours) and all(same(theirs[k], ours[k]) for k in theirs)
    if isinstance(theirs, (list, tuple)):
        return len(theirs) == len(ours) and all(map(same, theirs, ours))
    return bool(theirs == ours)


OURS = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def test_every_dtype_and_layout():
    for name in (*OURS, "int8", "int16", "uint16", "uint32", "uint64"):
        x = (torch.randn(4, 6) * 3).abs().to(getattr(torch, name))
        value = [x, x.T, x[1:3, ::2], x[0, 0], x[:0], x[:, 0].expand(3, 4), x.reshape(-1)[5:]]
        found = read(value)
        assert same(value, found), name
        if name in OURS:
            assert found[0].dtype == name


def test_what_programs_save():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    value = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
        "history": [0.1, float("inf")], "best": None, "size": torch.Size([2, 3]),
        "flags": (True, False), "big": 10**30, "names": {"a", "b"}, "bytes": b"\xff\x00",
        "parameter": model[0].weight, "frozen": torch.nn.Parameter(torch.ones(2), False),
        "leaf": torch.ones(2, requires_grad=True), "text": "ü" * 300, "many": list(range(3000)),
    }  # fmt: skip
    found = read(value)
    assert same(value, found)
    assert (type(found["model"]), type(found["size"])) == (OrderedDict, tuple)
    found = read({"dtype": torch.bfloat16, "device": torch.device("cpu"), "other": torch.int8})
    assert found == {"dtype": ndl.bfloat16, "device": ndl.cpu(), "other": np.dtype("int8")}
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    nn.from_torch_state_dict(ours, read(model.state_dict()))
    x = torch.randn(2, 3)
    np.testing.assert_allclose(
        ours.eval()(ndl.tensor(x.numpy())).numpy(), model.eval()(x).detach().numpy(), atol=1e-6
    )


def test_views_share_their_memory():
    x = torch.arange(6.0)
    found = read([x, x[2:], x.expand(10**9, 6)])
    found[0][3] = 9.0
    assert found[1].numpy()[1] == 9
    assert found[2].shape == (10**9, 6)


def test_places():
    assert read(torch.ones(2), map_location="cpu_numpy").device == ndl.cpu_numpy()
    data = written(torch.ones(2)).replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00mps")
    with pytest.raises(ValueError, match="damaged zip"):  # its checksum
        ndl.load(io.BytesIO(data))
    with pytest.raises(RuntimeError, match=r"'mps'.*map_location=.cpu."):
        ndl.load(io.BytesIO(with_true_checksums(data)))


def with_true_checksums(data: bytes) -> bytes:
    """The archive with checksums that fit its changed bytes."""
    old = zipfile.ZipFile(io.BytesIO(data)).infolist()
    return archive({e.filename: raw(data, e) for e in old})


def raw(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    start = entry.header_offset
    name, extra = struct.unpack("<HH", data[start + 26 : start + 30])
    start += 30 + name + extra
    return data[start : start + entry.file_size]


def archive(files: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.what = (function, arguments)

    def __reduce__(self):
        return self.what


def storage(key=b"0", kind=b"FloatStorage", count=b"K\x02") -> bytes:
    """The instructions that refer to a storage."""
    size = lambda text: b"X" + struct.pack("<I", len(text)) + text  # noqa: E731
    return b"(" + size(b"storage") + b"ctorch\n" + kind + b"\n" + size(key) + size(b"cpu") + (
        count + b"tQ"
    )  # fmt: skip


def tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], **options) -> bytes:
    numbers = lambda xs: b"(" + b"".join(b"I%d\n" % x for x in xs) + b"t"  # noqa: E731
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage(**options) + b"I%d\n" % offset
        + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


def refused(pickled: bytes, files: dict[str, bytes] | None = None) -> str:
    whole = {"archive/data.pkl": pickled, "archive/data/0": bytes(8), **(files or {})}
    with pytest.raises(ValueError, match=r"\[load\] the BytesIO") as error:
        ndl.load(io.BytesIO(archive(whole)))
    assert len(str(error.value)) < 1000
    return str(error.value)


def test_code_is_not_run(tmp_path):
    target = tmp_path / "made"
    command = f"touch {target}"
    for call in (
        Calls(os.system, command), Calls(eval, "1"), Calls(exec, "1"),
        Calls(getattr, "os", "system"),
        Calls(__import__, "os"), Calls(open, str(target), "w"), Calls(map, os.system, [command]),
        {"deep": [Calls(os.system, command)]}, np.ones(3), np.float64(1), range(3), slice(1),
    ):  # fmt: skip
        for protocol in (0, 2, 4):
            if protocol != 0 or not isinstance(call, dict):
                message = refused(pickle.dumps(call, protocol))
                assert "state_dict" in message or "damaged pickle" in message
    assert "'posix.system'" in refused(pickle.dumps(Calls(os.system, command)))
    assert not target.exists()


def test_models_and_their_classes_are_named():
    with pytest.raises(ValueError, match=r"'torch.nn.modules.linear.Linear'.*state_dict"):
        read(torch.nn.Linear(2, 2), weights_only=False)
    with pytest.raises(ValueError, match=r"complex64.*view_as_real"):
        read(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="sparse"):
        read(torch.eye(2).to_sparse())
    with pytest.raises(ValueError, match=r"PyTorch before 1.6"):
        ndl.load(io.BytesIO(written([1], _use_new_zipfile_serialization=False)))
    program = archive({"net/data.pkl": pickle.dumps([]), "net/constants.pkl": b""})
    with pytest.raises(ValueError, match="TorchScript"):
        ndl.load(io.BytesIO(program))


@pytest.mark.parametrize(
    "pickled",
    [
        tensor(0, (3,), (1,)), tensor(1, (2,), (1,)), tensor(-1, (1,), (1,)),
        tensor(0, (-2,), (1,)), tensor(0, (2,), (-1,)), tensor(0, (2,), (2**62,)),
        tensor(2**62, (1,), (1,)), tensor(0, (2, 2), (1,)), tensor(0, (2**62, 2**62), (0, 0)),
        tensor(0, (1,), (1,), key=b"1"), tensor(0, (1,), (1,), key=b"../data.pkl"),
        tensor(0, (1,) * 200, (1,) * 200), tensor(0, (10**30,), (1,)),
        b"\x80\x02ctorch\nFloatStorage\n.",  # a type as data
        b"\x80\x02](ctorch._utils\n_rebuild_tensor_v2\ne.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02}q\x00h\x00]s.",  # a list as a key
        b"\x80\x02}(" + b")\x85" * 100_000 + b"K\x01u.",
        b"\x80\x02" + b")" + b"\x85" * 200_000 + b"}K\x01s.",
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
        b"\x80\x02]}b.", b"\x80\x02K\x01}b.", b"\x80\x02h\x05.", b"\x80\x02.", b"", b"\x80", b"K",
        b"\x80\x02r\xff\xff\xff\x7f.", b"\x80\x02X\xff\xff\xff\x7fabc.", b"\x80\x02K\x01K\x02.",
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fx.", b"\x80\x02\x8b\xff\xff\xff\x7f1.", b"\x80\x02t.",
        b"\x80\x02a.", b"\x80\x02e.", b"\x80\x02(K\x01d.", b"\x80\x02Q.", b"\x80\x02(u.",
        b"\x80\x02R.", b"\x80\x02\x82\x01.", b"(ios\nsystem\n.", b"\x80\x02(]K\x01o.",
        b"I9" + b"9" * 10_000 + b"\n.",
        b"\x80\x02ctorch\nSize\n(K\x01tR.", b"\x80\x02ctorch\ndevice\n(]tR.",
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
    ],
)  # fmt: skip
def test_damaged_pickles(pickled):
    refused(pickled)


def test_archives_that_are_none():
    def load(data: bytes):
        return ndl.load(io.BytesIO(data))

    good = {"archive/data.pkl": tensor(0, (2,), (1,)), "archive/data/0": bytes(8)}
    assert load(archive(good)).numpy().tolist() == [0, 0]
    with pytest.raises(ValueError, match="compressed"):
        load(archive({**good, "archive/data/1": bytes(10**7)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match=r"not one that torch.save wrote"):
        load(archive({"a.txt": b""}))
    with pytest.raises(ValueError, match="no whole number"):
        load(archive({**good, "archive/data/0": bytes(7)}))
    big = {**good, "archive/data/0": struct.pack(">2f", 1, 2), "archive/byteorder": b"big"}
    assert load(archive(big)).numpy().tolist() == [1, 2]
    whole, draw = written({"w": torch.randn(30), "n": [1, 2]}), random.Random(0)
    for size in sorted(draw.sample(range(1, len(whole)), 60)):
        with pytest.raises(ValueError, match=r"\[load\]"):
            load(whole[:size])
    lying = bytearray(archive(good))
    end = lying.rindex(b"PK\1\2")
    lying[end + 20 : end + 28] = b"\xff\xff\xff\x7f" * 2
    with pytest.raises(ValueError, match=r"larger than itself|damaged"):
        load(bytes(lying))


def test_changed_bytes_are_refused_or_plain():
    """Whatever the bytes of the pickle, the result is data or one ValueError."""
    value = {"w": torch.randn(3, 4), "n": [1, 2.5, "x"], "p": torch.nn.Parameter(torch.ones(2))}
    whole, draw = written(value), random.Random(5)
    files = {e.filename: raw(whole, e) for e in zipfile.ZipFile(io.BytesIO(whole)).infolist()}
    (name,) = [name for name in files if name.endswith("data.pkl")]
    refusals = 0
    for _ in range(1500):
        damaged = bytearray(files[name])
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            ndl.load(io.BytesIO(archive({**files, name: bytes(damaged)})), map_location="cpu")
        except ValueError as error:
            refusals += 1
            check_message(error)
    assert refusals > 500
