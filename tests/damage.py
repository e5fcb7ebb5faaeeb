"""Damaged checkpoints: every way in which bytes, JSON or tensors can go wrong, from one seed."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

# Values that no place of a header or a description expects.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**40, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", "x",
    "[/x]", "\x1b[31m", "../../etc", [], [1, 2], {}, {"a": 1}, [[]] * 3,
)  # fmt: skip


def truncations(whole: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """The file cut off, and with bytes behind its end."""
    for _ in range(count):
        yield whole[: draw.randrange(len(whole))]
        yield whole + draw.randbytes(draw.randint(1, 64))


def flips(whole: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """One to four bits changed, half of them in the header."""
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for i in range(count):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(header if i % 2 else len(whole))
            damaged[place] ^= 1 << draw.randrange(8)
        yield bytes(damaged)


def overwritten(whole: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """A run of bytes replaced by zeros, ones, noise or another part of the file, or left out."""
    for _ in range(count):
        start = draw.randrange(len(whole))
        length = draw.randint(1, max(1, len(whole) // 4))
        other = draw.randrange(len(whole))
        filling = draw.choice(
            [bytes(length), b"\xff" * length, draw.randbytes(length),
             whole[other : other + length], b""]
        )  # fmt: skip
        yield whole[:start] + filling + whole[start + length :]


def header_lengths(whole: bytes) -> Iterator[bytes]:
    """Every kind of wrong header length."""
    true = struct.unpack("<Q", whole[:8])[0]
    for length in (0, 1, true - 1, true + 1, len(whole), 10**8 + 1, 2**31, 2**32, 2**63, 2**64 - 1):
        yield struct.pack("<Q", length) + whole[8:]


def headers(whole: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """The header's JSON changed in one place, the data as they were."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, tensors = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    deep = b"[" * 100_000
    for text in (b"", b"null", b"[]", b"{}", b"{", b'"x"', deep, b'{"a":' * 50_000, b"\xff\xfe{}"):
        yield struct.pack("<Q", len(text)) + text + tensors
    for _ in range(count):
        changed = json.dumps(mutated(header, draw)).encode()
        yield struct.pack("<Q", len(changed)) + changed + tensors


def mutated(tree: Any, draw: random.Random) -> Any:
    """A copy of a JSON value in which something was replaced, removed, added or renamed."""
    tree = copy.deepcopy(tree)
    places = [(tree, key) for key in _keys(tree)]
    for container, key in places:  # grows
        places += [(container[key], inner) for inner in _keys(container[key])]
    if not places:
        return draw.choice(STRANGE)
    container, key = draw.choice(places)
    kind = draw.randrange(5)
    if kind == 0 and isinstance(container, dict):
        container[str(key) + draw.choice(["x", "", " ", "\0"])] = container.pop(key)
    elif kind == 1:
        del container[key]
    elif kind == 2 and isinstance(container, dict):
        container[draw.choice(["extra", "device", "dtype", "norm", "num_layers"])] = draw.choice(
            STRANGE
        )
    elif kind == 3 and isinstance(container[key], (int, float)):
        container[key] = draw.choice([-1, 2, 10, 1000]) * container[key] + draw.choice([0, 1, -1])
    else:
        container[key] = draw.choice(STRANGE)
    return tree


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []
