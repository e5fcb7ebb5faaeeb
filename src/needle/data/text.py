"""Text: words, characters and byte pairs as numbers, and batches of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..operands import ArrayLike
from ..typing import DTypeLike, HostArray, Json
from .dataset import Dataset

END_OF_LINE = "<eos>"


class Dictionary:
    """Words and their ids.

    `word2idx` gives the id of a word, `idx2word` the words in the order of their ids.

    Examples
    --------
    >>> import needle as ndl
    >>> words = ndl.data.Dictionary()
    >>> words.add_word('to'), words.add_word('be'), words.add_word('to')
    (0, 1, 0)
    """

    def __init__(self) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []

    def add_word(self, word: str) -> int:
        """The id of `word`, which is added if it is new."""
        if word not in self.word2idx:
            self.word2idx[word] = len(self.idx2word)
            self.idx2word.append(word)
        return self.word2idx[word]

    def __len__(self) -> int:
        return len(self.idx2word)


class Corpus:
    """The files `train.txt` and `test.txt` of a folder as lists of word ids.

    Words are what white space separates; each line ends with the word `<eos>`. `train` and `test`
    are the ids, `dictionary` numbers the words in the order of appearance.

    Parameters
    ----------
    base_dir : str or path
        The folder.
    max_lines : int, optional
        The most lines of each file that are read; None reads all.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If `max_lines` is negative or a file is not UTF-8.
    """

    def __init__(self, base_dir: str | os.PathLike[str], max_lines: int | None = None) -> None:
        if max_lines is not None and whole(max_lines, "Corpus", "max_lines") < 0:
            raise ValueError(f"[Corpus] max_lines must not be negative, got {max_lines}")
        self.dictionary = Dictionary()
        self.train = self.tokenize(Path(base_dir) / "train.txt", max_lines)
        self.test = self.tokenize(Path(base_dir) / "test.txt", max_lines)

    def tokenize(self, path: str | os.PathLike[str], max_lines: int | None = None) -> list[int]:
        """The ids of a file's words, new ones added to the dictionary."""
        ids: list[int] = []
        try:
            with open(path, encoding="utf-8") as file:
                for line in islice(file, max_lines):
                    ids += map(self.dictionary.add_word, (*line.split(), END_OF_LINE))
        except UnicodeDecodeError as error:
            raise _not_utf8("Corpus", path, error) from None
        return ids


def batchify(
    data: ArrayLike,
    batch_size: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Arrange ids in columns, each with a contiguous piece of them, from top to bottom.

    Parameters
    ----------
    data : sequence of int, shape (n,)
        The ids.
    batch_size : int
        The number of columns.
    device : Device or str, optional
        Ignored: `get_batch` moves the parts.
    dtype : str or dtype, optional
        The dtype of the result; that of the ids if it is None.

    Returns
    -------
    numpy.ndarray, shape (n // batch_size, batch_size)
        What is left over is cut off.

    Raises
    ------
    ValueError
        If `batch_size` is below 1 or above n.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.batchify([0, 1, 2, 3, 4], 2).tolist()
    [[0, 2], [1, 3]]
    """
    ids = np.asarray(data, dtype=dtype).reshape(-1)
    batch_size = whole(batch_size, "batchify", "batch_size")
    if not 1 <= batch_size <= len(ids):
        raise ValueError(
            f"[batchify] batch_size must lie in [1, {len(ids)}] for {len(ids)} ids, got "
            f"{batch_size}"
        )
    length = len(ids) // batch_size
    return np.ascontiguousarray(ids[: length * batch_size].reshape(batch_size, length).T)


def get_batch(
    batches: HostArray | Sequence[Sequence[int]],
    i: int,
    bptt: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Tensor, Tensor]:
    """Take consecutive rows of `batchify`'s result, and the ids that follow each.

    Parameters
    ----------
    batches : numpy.ndarray, shape (L, bs)
        The ids.
    i : int
        The first row.
    bptt : int
        The most rows, T; fewer at the end.
    device : Device or str, optional
        The device of the Tensors; `needle.default_device()` if it is None.
    dtype : str or dtype, optional
        The dtype of the Tensors.

    Returns
    -------
    (Tensor, Tensor)
        The data (T, bs), and the target (T·bs,): the data one row later, flattened.

    Raises
    ------
    ValueError
        If `i` is outside [0, L - 1) or `bptt` below 1.

    Examples
    --------
    >>> import needle as ndl
    >>> data, target = ndl.data.get_batch(ndl.data.batchify(range(6), 2), 0, 2)
    >>> data.tolist(), target.tolist()
    ([[0, 3], [1, 4]], [1, 4, 2, 5])
    """
    i, bptt = whole(i, "get_batch", "i"), whole(bptt, "get_batch", "bptt")
    last = len(batches) - 1
    if not 0 <= i < last:
        raise ValueError(f"[get_batch] i must lie in [0, {last}) for {last + 1} rows, got {i}")
    if bptt < 1:
        raise ValueError(f"[get_batch] bptt must be at least 1, got {bptt}")
    end = min(i + bptt, last)
    data, target = np.asarray(batches[i:end]), np.asarray(batches[i + 1 : end + 1]).reshape(-1)
    return (
        Tensor(data, device=device, dtype=dtype, requires_grad=False),
        Tensor(target, device=device, dtype=dtype, requires_grad=False),
    )


class CharTokenizer:
    """Characters as ids: the id of a character is its place in the sorted vocabulary.

    Parameters
    ----------
    vocabulary : sequence of str
        The characters.

    Raises
    ------
    ValueError
        If the vocabulary is empty or holds anything but characters.

    Examples
    --------
    >>> import needle as ndl
    >>> tokenizer = ndl.data.CharTokenizer.from_text('to be')
    >>> tokenizer.decode(tokenizer.encode('beet'))
    'beet'
    """

    kind = "characters"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if not vocabulary or any(type(c) is not str or len(c) != 1 for c in vocabulary):
            raise ValueError(
                "[CharTokenizer] the vocabulary must be one or more single characters, got "
                f"{repr(vocabulary)[:80]}"
            )
        self.vocabulary = sorted(set(vocabulary))
        self._code_points = np.array([ord(c) for c in self.vocabulary], dtype=np.uint32)

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """A tokenizer for the characters that `text` has. Raises ValueError for an empty text."""
        if not text:
            raise ValueError("[CharTokenizer] text must not be empty")
        return cls(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """The ids (n,) int64 of the n characters. Raises ValueError for an unknown character."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids = np.searchsorted(self._code_points, points)
        unknown = self._code_points[np.minimum(ids, len(self) - 1)] != points
        if unknown.any():
            raise ValueError(
                f"[CharTokenizer] text has the character {text[int(unknown.argmax())]!r}, which is "
                f"not in the vocabulary of {len(self)} characters"
            )
        return ids.astype(np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The characters of `ids`, any array or list of integers.

        Raises TypeError for other numbers, ValueError for an id outside of the vocabulary.
        """
        points = self._code_points[_checked_ids(ids, len(self), "CharTokenizer")]
        encoded: bytes = points.astype("<u4").tobytes()
        return encoded.decode("utf-32-le", "surrogatepass")

    def state(self) -> Json:
        """What `from_state` needs to make this tokenizer again, fit for JSON."""
        return {"kind": self.kind, "vocabulary": "".join(self.vocabulary)}

    @classmethod
    def from_state(cls, state: Json) -> CharTokenizer:
        """The tokenizer whose `state()` this was. Raises ValueError for anything else."""
        return cls(_checked_state(state, cls.kind, "vocabulary", "CharTokenizer"))


class BytePairTokenizer:
    """Frequent runs of bytes as ids: byte-level byte-pair encoding.

    Every text has an encoding: all 256 bytes are in `vocabulary`, the tokens in the order of their
    ids, in which GPT-2's letters stand for bytes. `from_text` and `from_state` raise ImportError
    without the library `tokenizers`.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The library's tokenizer; `from_text` and `from_state` make one.

    References
    ----------
    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units",
    2016.

    Examples
    --------
    >>> import needle as ndl
    >>> tokenizer = ndl.data.BytePairTokenizer.from_text('to be or not to be', 260)
    >>> tokenizer.decode(tokenizer.encode('to be'))
    'to be'
    """

    kind = "byte pairs"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        tokens = tokenizer.get_vocab()
        self.vocabulary = sorted(tokens, key=tokens.__getitem__)

    @classmethod
    def from_text(cls, text: str, vocabulary_size: int) -> BytePairTokenizer:
        """A tokenizer of at most `vocabulary_size` tokens, trained on `text`.

        Raises ValueError for an empty text or a size below 256.
        """
        library = _tokenizers()
        if not text:
            raise ValueError("[BytePairTokenizer] text must not be empty")
        if vocabulary_size < 256:
            raise ValueError(
                "[BytePairTokenizer] vocabulary_size must be at least 256, one for each byte, got "
                f"{vocabulary_size}"
            )
        byte_level = library.pre_tokenizers.ByteLevel
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            initial_alphabet=byte_level.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([text], trainer)
        return cls(tokenizer)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """The ids (n,) int64 of the text. Raises ValueError for half a surrogate pair."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"[BytePairTokenizer] text has the character {text[error.start]!r}, which UTF-8 "
                "cannot write"
            ) from None
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of `ids`, any array or list of integers; bytes that are no UTF-8 become `�`.

        Raises TypeError for other numbers, ValueError for an id outside of the vocabulary.
        """
        known = _checked_ids(ids, len(self), "BytePairTokenizer")
        text: str = self._tokenizer.decode(known.tolist(), skip_special_tokens=False)
        return text

    def state(self) -> Json:
        """What `from_state` needs to make this tokenizer again, fit for JSON."""
        return {"kind": self.kind, "tokenizer": self._tokenizer.to_str()}

    @classmethod
    def from_state(cls, state: Json) -> BytePairTokenizer:
        """The tokenizer whose `state()` this was. Raises ValueError for anything else."""
        library = _tokenizers()
        text = _checked_state(state, cls.kind, "tokenizer", "BytePairTokenizer")
        try:
            return cls(library.Tokenizer.from_str(text))
        except Exception as error:  # the library raises Exception itself
            raise ValueError(
                f"[BytePairTokenizer] the state's 'tokenizer' cannot be read: {error}"
            ) from None


class TextDataset(Dataset):
    """All windows of a text, and the same windows one id later.

    Item i is (ids[i : i + length], ids[i + 1 : i + length + 1]), int64. A slice or an array of m
    indices gives two arrays (m, length).

    Parameters
    ----------
    ids : sequence of int, shape (n,)
        The text; kept in its own dtype.
    length : int
        The length of a window, in [1, n).

    Raises
    ------
    ValueError
        If the ids are not one row of integers or `length` is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.data.TextDataset([5, 6, 7, 8], 2)[1]]
    [[6, 7], [7, 8]]
    """

    takes_index_arrays = True

    def __init__(self, ids: ArrayLike, length: int) -> None:
        super().__init__()
        self.ids = np.asarray(ids)
        self.length = length = whole(length, "TextDataset", "length")
        if self.ids.ndim != 1 or self.ids.dtype.kind not in "iu":
            raise ValueError(
                "[TextDataset] ids must be integers in one row, got an array of shape "
                f"{self.ids.shape} and dtype {self.ids.dtype}"
            )
        if not 1 <= length < len(self.ids):
            raise ValueError(
                f"[TextDataset] length must lie in [1, {len(self.ids)}) for {len(self.ids)} ids, "
                f"got {length}"
            )
        windows = np.lib.stride_tricks.sliding_window_view
        self._inputs = windows(self.ids[:-1], length)
        self._targets = windows(self.ids[1:], length)

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._inputs[index].astype(np.int64), self._targets[index].astype(np.int64)


def shakespeare(folder: str | os.PathLike[str]) -> tuple[str, str]:
    """Read folder/input.txt: the first 90 % for training, the last 10 % for validation.

    Parameters
    ----------
    folder : str or path
        The folder of the file.

    Returns
    -------
    (str, str)

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If it is empty or not UTF-8.
    """
    path = Path(folder) / "input.txt"
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise _not_utf8("shakespeare", path, error) from None
    if not text:
        raise ValueError(f"[shakespeare] {os.fspath(path)!r}: expected text, found an empty file")
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


def _not_utf8(what: str, path: str | os.PathLike[str], error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"[{what}] {os.fspath(path)!r}: expected text in UTF-8, found the byte "
        f"0x{error.object[error.start]:02x}, which is none"
    )


def _checked_ids(ids: ArrayLike, count: int, what: str) -> np.ndarray:
    """`ids` as a row of integers in [0, count)."""
    array = np.asarray(ids).reshape(-1)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"[{what}] ids must be integers, got dtype {array.dtype}")
    wrong = array[(array < 0) | (array >= count)]
    if wrong.size:
        raise ValueError(f"[{what}] ids must lie in [0, {count}), got {int(wrong[0])}")
    return array


def _checked_state(state: object, kind: str, key: str, what: str) -> str:
    """The text at `key` of a tokenizer's state."""
    text = None
    if isinstance(state, dict) and state.get("kind") == kind:
        text = state.get(key)
    if not isinstance(text, str):
        raise ValueError(
            f"[{what}] state must be a dict with 'kind': {kind!r} and the text {key!r}, got "
            f"{repr(state)[:80]}"
        )
    return text


def _tokenizers() -> Any:
    """The library `tokenizers`."""
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "[BytePairTokenizer] needs the library tokenizers: pip install 'needle-dl[text]'"
        ) from None
    return tokenizers
