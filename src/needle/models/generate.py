"""Sampling from a language model, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..backend_ndarray.layout import whole
from ..random import host_generator
from ..typing import HostGenerator


def sample(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: HostGenerator | None = None,
) -> int:
    """A token drawn from softmax(logits / temperature), 0 meaning the most likely one.

    `top_k` keeps the k most likely tokens; `top_p` the fewest whose probabilities reach p (Holtzman
    et al., 2020). Draws one number in [0, 1) from `generator`, a numpy.random.Generator or
    RandomState, by default NumPy's global one. A logit of -inf is never drawn. Raises ValueError
    for logits that are no row of numbers with a greatest one that is finite, TypeError for another
    generator.
    """
    _check(temperature, top_k, top_p)
    logits = np.asarray(logits, dtype=np.float64)
    _check_logits(logits)
    source = host_generator(generator, "sample")
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    with np.errstate(over="ignore"):  # a small temperature: -inf is right
        scaled = (logits[order] - logits[order[0]]) / temperature
    probabilities = np.exp(scaled) / np.exp(scaled).sum()
    if top_p is not None:
        enough = int(np.searchsorted(np.cumsum(probabilities), top_p)) + 1
        order, probabilities = order[:enough], probabilities[:enough]
    cumulative = np.cumsum(probabilities)
    draw = source.random() * cumulative[-1]
    return int(order[min(np.searchsorted(cumulative, draw, side="right"), len(order) - 1)])


def _check_logits(logits: np.ndarray) -> None:
    if logits.ndim != 1 or not logits.size:
        raise ValueError(f"[sample] logits must be (n,) with n ≥ 1, got shape {logits.shape}")
    if not np.isfinite(logits.max()):  # a NaN is the greatest of all
        found = "NaN" if np.isnan(logits.max()) else f"{logits.max()} as their greatest"
        raise ValueError(
            f"[sample] logits have {found}: the model's weights or its inputs are not finite"
        )


class LanguageModule(Protocol):
    """What `generate` needs of a model, as GPT and LanguageModel have it."""

    def eval(self) -> object:
        """Put the model into evaluation mode."""

    def next_logits(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """The logits that follow `ids` (T,), and the state to go on from."""


def generate(
    model: LanguageModule,
    prompt: np.ndarray,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[int]:
    """`length` tokens that follow `prompt` (T,), one by one; see `sample` for the options.

    `model` offers `next_logits(ids, state)`, as GPT and LanguageModel do, and is put in eval mode.
    Raises ValueError for an empty prompt or options out of range, before anything is computed.
    """
    _check(temperature, top_k, top_p)
    length = whole(length, "generate", "length")
    ids = np.asarray(prompt, dtype=np.int64)
    if ids.ndim != 1 or not ids.size:
        raise ValueError(f"[generate] the prompt must be (T,) with T ≥ 1, got shape {ids.shape}")
    model.eval()
    return _tokens(model, ids, length, temperature, top_k, top_p)


def _tokens(
    model: LanguageModule,
    ids: np.ndarray,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Iterator[int]:
    state = None
    for _ in range(length):
        logits, state = model.next_logits(ids, state)
        token = sample(logits, temperature, top_k, top_p)
        ids = np.array([token])
        yield token


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not temperature >= 0:
        raise ValueError(f"[generate] temperature must be at least 0, got {temperature}")
    if top_k is not None and whole(top_k, "generate", "top_k") < 1:
        raise ValueError(f"[generate] top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"[generate] top_p must be in (0, 1], got {top_p}")
