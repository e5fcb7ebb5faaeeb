"""Messages of TensorBoard: what an event says about a number, a histogram, an image or a text.

The numbers of the fields are those of TensorBoard's summary.proto, histogram and tensor.proto.
"""

from __future__ import annotations

import numpy as np

from ...data.vision.png import encode_png
from .records import content, double, doubles, number, single

_STRING = 7  # DT_STRING of types.proto


def _value(tag: str, *fields: bytes) -> bytes:
    return content(1, content(1, tag) + b"".join(fields))


def scalar(tag: str, value: float) -> bytes:
    """A number."""
    return _value(tag, single(2, value))


def image(tag: str, pixels: np.ndarray) -> bytes:
    """An image H×W×C of bytes."""
    height, width, channels = pixels.shape
    size = number(1, height) + number(2, width) + number(3, channels)
    return _value(tag, content(4, size + content(4, encode_png(pixels))))


def text(tag: str, words: str) -> bytes:
    """A text, in Markdown: a tensor of one string for the plugin "text"."""
    metadata = content(1, content(1, "text"))
    shape = content(2, content(2, number(1, 1)))
    tensor = number(1, _STRING) + shape + content(8, words)
    return _value(f"{tag}/text_summary", content(9, metadata), content(8, tensor))


def histogram(tag: str, values: np.ndarray, edges: np.ndarray) -> bytes:
    """How many values lie between edges; those outside are in the first and the last bucket."""
    counts, _ = np.histogram(values, edges)
    filled = np.flatnonzero(counts)
    if len(filled):  # empty buckets at both ends are left out, as PyTorch does
        counts = counts[filled[0] : filled[-1] + 1]
        edges = edges[filled[0] : filled[-1] + 2]
    statistics = (
        double(1, values.min()) + double(2, values.max()) + double(3, values.size)
        + double(4, values.sum()) + double(5, np.square(values).sum())
    )  # fmt: skip
    # Buckets are given by their upper ends: the first one has everything below the first edge.
    return _value(
        tag, content(5, statistics + doubles(6, edges) + doubles(7, [0.0, *counts.tolist()]))
    )
