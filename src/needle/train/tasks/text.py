"""Tasks of text: Shakespeare, and files of one's own, by characters or byte pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ... import data, nn
from ...autograd import Tensor
from ...models import GPT, LanguageModel
from ...typing import Json
from ..metrics import Accuracy, Perplexity
from .task import Batches, Task, check_paths

Tokenizer: TypeAlias = data.CharTokenizer | data.BytePairTokenizer
STEPS_AN_EPOCH = 100  # the most; a short text is gone through once
VALIDATION_BATCH = 32


class NextToken(nn.Module):
    """A language model seen as a classifier: ids (B, T) → logits (B·T, vocabulary).

    Parameters
    ----------
    model : GPT or LanguageModel
        Anything with `predict_tokens` and `next_logits`.
    """

    def __init__(self, model: GPT | LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The logits of every next token."""
        return self.model.predict_tokens(x)


class Windows:
    """`steps` batches of windows that start anywhere in `ids`, drawn anew at each `iter()`.

    A batch is (ids (B, length), the ids that follow each, (B·length,)).

    Parameters
    ----------
    ids : numpy.ndarray, shape (n,)
    length, batch_size, steps : int

    Raises
    ------
    ValueError
        If the text is not longer than a window.
    """

    def __init__(self, ids: np.ndarray, length: int, batch_size: int, steps: int) -> None:
        if len(ids) <= length:
            raise ValueError(
                f"[Windows] a text of {len(ids)} tokens has no windows of {length} + 1"
            )
        self.ids, self.length, self.batch_size, self.steps = ids, length, batch_size, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        last = len(self.ids) - self.length
        return (
            _batch(self.ids, np.random.randint(last, size=self.batch_size), self.length)
            for _ in range(self.steps)
        )


def windows_side_by_side(
    ids: np.ndarray, length: int, batch_size: int
) -> list[tuple[Tensor, Tensor]]:
    """All of `ids` as batches of windows side by side; what is left at the end is dropped."""
    starts = np.arange(0, len(ids) - length, length)
    return [
        _batch(ids, starts[i : i + batch_size], length) for i in range(0, len(starts), batch_size)
    ]


def shakespeare(
    folder: Path, state: Json | None, length: int = 128, steps_an_epoch: int = STEPS_AN_EPOCH
) -> Task:
    """The characters of the plays; the last tenth of the text is for validation."""
    train, held_out = data.shakespeare(folder)
    is_known = not data.verify("shakespeare", folder)
    title = "Shakespeare's plays" if is_known else f"the text {Path(folder).name}/input.txt"
    tokenizer = _tokenizer_of(state) if state else data.CharTokenizer.from_text(train + held_out)
    return _language("shakespeare", title, train, held_out, tokenizer, length, steps_an_epoch)


def text(
    paths: Sequence[Path],
    state: Json | None,
    tokenizer: str = "chars",
    vocabulary: int = 1024,
    length: int = 128,
    validation: float = 0.1,
    steps_an_epoch: int = STEPS_AN_EPOCH,
) -> Task:
    """Files of text one after the other; the last part of each is for validation.

    The tokens are characters ("chars") or at most `vocabulary` byte pairs ("bpe").
    """
    if not paths:
        raise ValueError("[text] give one file or more: needle train text FILE…")
    check_paths(paths, "text")
    if not 0 < validation < 1:
        raise ValueError(f"[text] validation must lie in (0, 1), got {validation}")
    parts = [_split(read_text(path), validation) for path in paths]
    train, held_out = ("".join(texts) for texts in zip(*parts, strict=True))
    if state:
        known: Tokenizer = _tokenizer_of(state)
    elif tokenizer == "chars":
        known = data.CharTokenizer.from_text(train + held_out)
    elif tokenizer == "bpe":
        known = data.BytePairTokenizer.from_text(train, vocabulary)
    else:
        raise ValueError(f'[text] tokenizer must be "chars" or "bpe", got {tokenizer!r}')
    names = ", ".join(path.name for path in paths[:3])
    title = names if len(paths) <= 3 else f"{names} and {len(paths) - 3} more files"
    return _language("text", title, train, held_out, known, length, steps_an_epoch)


def tokenizer_of(state: Json) -> Tokenizer:
    """The tokenizer of a text task's state. Raises ValueError for any other state."""
    return _tokenizer_of(state)


def _tokenizer_of(state: Json) -> Tokenizer:
    kind = data.BytePairTokenizer if state.get("kind") == data.BytePairTokenizer.kind else None
    return (kind or data.CharTokenizer).from_state(state)


def _language(
    name: str,
    title: str,
    train: str,
    held_out: str,
    tokenizer: Tokenizer,
    length: int,
    steps_an_epoch: int,
) -> Task:
    train_ids, held_out_ids = tokenizer.encode(train), tokenizer.encode(held_out)
    unit = "characters" if isinstance(tokenizer, data.CharTokenizer) else "tokens"
    if (shortest := min(len(train_ids), len(held_out_ids))) <= length:
        raise ValueError(
            f"[{name}] the text is too short: {len(train_ids):,} {unit} to train on and "
            f"{len(held_out_ids):,} for validation, but a window has {length} + 1; give more text"
            + (
                f", or windows of at most {shortest - 1}: --set data.length=…"
                if shortest > 1
                else ""
            )
        )

    def batches(batch_size: int, workers: int) -> Batches:
        once = -(-len(train_ids) // (length * batch_size))
        return Windows(train_ids, length, batch_size, min(steps_an_epoch, once))

    return Task(
        name, title, batches, windows_side_by_side(held_out_ids, length, VALIDATION_BATCH),
        len(train_ids), len(held_out_ids), unit, nn.SoftmaxLoss(),
        {"accuracy": Accuracy(), "perplexity": Perplexity()}, "validation/loss", None,
        tokenizer.state(), {"vocabulary": len(tokenizer), "length": length},
    )  # fmt: skip


def read_text(path: Path) -> str:
    if path.is_dir():
        raise IsADirectoryError(f"[text] {str(path)!r} is a folder: give its files")
    try:
        content = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"[text] {str(path)!r}: expected text in UTF-8, found the byte "
            f"0x{error.object[error.start]:02x}, which is none"
        ) from None
    if not content:
        raise ValueError(f"[text] {str(path)!r}: expected text, found an empty file")
    return content


def _split(text: str, validation: float) -> tuple[str, str]:
    cut = len(text) - round(len(text) * validation)
    return text[:cut], text[cut:]


def _batch(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    windows = ids[starts[:, np.newaxis] + np.arange(length + 1)]
    return Tensor(windows[:, :-1]), Tensor(windows[:, 1:].reshape(-1))
