"""Words, characters, byte pairs, and batches of text."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle import data

TEXT = "the cat sat on the mat; the cat ate the rat. Ärger, 猫, 🐈!\n" * 20


# ---- words ------------------------------------------------------------------------------------


def test_dictionary():
    words = data.Dictionary()
    assert [words.add_word(word) for word in ("a", "b", "a", "c")] == [0, 1, 0, 2]
    assert words.word2idx == {"a": 0, "b": 1, "c": 2}
    assert words.idx2word == ["a", "b", "c"]
    assert len(words) == 3


@pytest.fixture
def corpus_folder(tmp_path):
    (tmp_path / "train.txt").write_text(" the cat \n\nsat the end", encoding="utf-8")
    (tmp_path / "test.txt").write_text("the dög\nsat\n", encoding="utf-8")
    return tmp_path


def test_corpus(corpus_folder):
    corpus = data.Corpus(corpus_folder)
    assert corpus.dictionary.idx2word == ["the", "cat", "<eos>", "sat", "end", "dög"]
    assert corpus.train == [0, 1, 2, 2, 3, 0, 4, 2]
    assert corpus.test == [0, 5, 2, 3, 2]


def test_corpus_of_a_few_lines(corpus_folder):
    corpus = data.Corpus(str(corpus_folder), max_lines=1)
    assert (corpus.train, corpus.test, len(corpus.dictionary)) == ([0, 1, 2], [0, 3, 2], 4)
    assert data.Corpus(corpus_folder, max_lines=0).train == []
    with pytest.raises(ValueError, match="max_lines"):
        data.Corpus(corpus_folder, max_lines=-1)


def test_corpus_files_that_are_wrong(corpus_folder):
    (corpus_folder / "test.txt").write_bytes(b"abc \xff")
    with pytest.raises(ValueError, match=r"\[Corpus\].*test\.txt.*UTF-8.*0xff"):
        data.Corpus(corpus_folder)
    (corpus_folder / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        data.Corpus(corpus_folder)


def test_batchify(device):
    batches = data.batchify(list(range(11)), 3, device, "float32")
    assert (batches.shape, batches.dtype) == ((3, 3), "float32")
    assert batches.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert data.batchify([4, 5], 2, device, None).tolist() == [[4, 5]]
    for size in (0, 12):
        with pytest.raises(ValueError, match=rf"batch_size must lie in \[1, 11\].*{size}"):
            data.batchify(range(11), size, device, "float32")


def test_get_batch(device):
    batches = data.batchify(range(21), 3, device, "float32")
    x, y = data.get_batch(batches, 2, 3, device=device, dtype="float32")
    assert x.numpy().tolist() == [[2, 9, 16], [3, 10, 17], [4, 11, 18]]
    assert y.numpy().tolist() == [3, 10, 17, 4, 11, 18, 5, 12, 19]
    assert (x.device, x.dtype, y.dtype) == (device, "float32", "float32")
    assert not x.requires_grad
    x, y = data.get_batch(batches, 5, 3, device=device)
    assert (x.shape, y.numpy().tolist()) == ((1, 3), [6, 13, 20])


def test_get_batch_takes_tensors_and_integers():
    whole = np.arange(8).reshape(4, 2)
    for batches in (whole, ndl.Tensor(whole), whole.tolist()):
        x, y = data.get_batch(batches, 1, 5)
        assert (x.numpy().tolist(), y.numpy().tolist()) == ([[2, 3], [4, 5]], [4, 5, 6, 7])
    assert data.get_batch(whole, 0, 1)[0].dtype == "int64"


@given(st.integers(2, 12), st.integers(1, 4), st.integers(1, 14))
def test_batches_cover_a_text_once(rows, columns, bptt):
    batches = data.batchify(range(rows * columns), columns)
    parts = [data.get_batch(batches, i, bptt) for i in range(0, rows - 1, bptt)]
    x = np.concatenate([x.numpy() for x, _ in parts])
    y = np.concatenate([y.numpy() for _, y in parts])
    np.testing.assert_array_equal(x, batches[:-1])
    np.testing.assert_array_equal(y, batches[1:].reshape(-1))


@pytest.mark.parametrize(("i", "bptt", "words"), [(-1, 2, "i"), (3, 2, "i"), (0, 0, "bptt")])
def test_get_batch_out_of_range(i, bptt, words):
    with pytest.raises(ValueError, match=rf"\[get_batch\] {words} must"):
        data.get_batch(np.zeros((4, 2)), i, bptt)


# ---- tokenizers -------------------------------------------------------------------------------


@pytest.fixture(params=["characters", "byte pairs"])
def tokenizer(request):
    if request.param == "characters":
        return data.CharTokenizer.from_text(TEXT)
    pytest.importorskip("tokenizers")
    return data.BytePairTokenizer.from_text(TEXT, 300)


def test_round_trips(tokenizer):
    for text in (TEXT, "cat", " \n the", "🐈", ""):
        ids = tokenizer.encode(text)
        assert (ids.dtype, ids.ndim) == ("int64", 1)
        assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    assert len(tokenizer) == len(tokenizer.vocabulary)
    assert tokenizer.encode(TEXT).max() < len(tokenizer)


def test_state_goes_through_json(tokenizer):
    again = type(tokenizer).from_state(json.loads(json.dumps(tokenizer.state())))
    assert again.vocabulary == tokenizer.vocabulary
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert again.decode(again.encode(TEXT)) == TEXT


def test_ids_and_states_that_are_wrong(tokenizer):
    for bad in ([-1], [len(tokenizer)], [0, 10**9]):
        with pytest.raises(ValueError, match=rf"ids must lie in \[0, {len(tokenizer)}\)"):
            tokenizer.decode(bad)
    with pytest.raises(TypeError, match="float64"):
        tokenizer.decode([0.5])
    kind = tokenizer.kind
    for state in ({}, {"kind": "other"}, {"kind": kind}, {"kind": kind, "vocabulary": ""}, 3,
                  {"kind": kind, "tokenizer": "{}"}):  # fmt: skip
        with pytest.raises(ValueError, match=type(tokenizer).__name__):
            type(tokenizer).from_state(state)


def test_decode_takes_tensors(tokenizer):
    ids = ndl.Tensor(tokenizer.encode("the cat"), requires_grad=False)
    assert tokenizer.decode(ids) == "the cat"


def test_characters_are_sorted():
    tokenizer = data.CharTokenizer.from_text("banana 🐈é")
    assert tokenizer.vocabulary == [" ", "a", "b", "n", "é", "🐈"]
    assert tokenizer.encode("ban é🐈").tolist() == [2, 1, 3, 0, 4, 5]


def test_an_unknown_character_is_named():
    tokenizer = data.CharTokenizer.from_text("abc")
    for text, name in (("abz", "'z'"), ("aZ", "'Z'"), ("\n", r"'\\n'")):
        with pytest.raises(ValueError, match=f"{name}.*vocabulary of 3 characters"):
            tokenizer.encode(text)


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_any_characters_come_back(text):
    tokenizer = data.CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert data.CharTokenizer.from_state(tokenizer.state()).vocabulary == sorted(set(text))


@pytest.mark.parametrize("vocabulary", [[], "", ["ab"], [1], [""]])
def test_bad_vocabularies(vocabulary):
    with pytest.raises(ValueError, match="single characters"):
        data.CharTokenizer(vocabulary)


def test_empty_texts_make_no_tokenizer():
    with pytest.raises(ValueError, match="empty"):
        data.CharTokenizer.from_text("")
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match="empty"):
        data.BytePairTokenizer.from_text("", 300)


def test_byte_pairs():
    pytest.importorskip("tokenizers")
    tokenizer = data.BytePairTokenizer.from_text(TEXT, 270)
    assert len(tokenizer) == 270
    assert len(tokenizer.encode(TEXT)) < len(TEXT.encode())
    assert "Ġthe" in tokenizer.vocabulary
    assert tokenizer.vocabulary[tokenizer.encode(" the")[0]] == "Ġthe"
    new = "日本語 ¿\t\x00 \r\n"
    assert tokenizer.decode(tokenizer.encode(new)) == new
    with pytest.raises(ValueError, match=r"at least 256.*255"):
        data.BytePairTokenizer.from_text(TEXT, 255)
    with pytest.raises(ValueError, match=r"\\ud800"):
        tokenizer.encode("a\ud800")


def test_without_the_library_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "import needle as ndl\n"
        "try:\n    ndl.data.BytePairTokenizer.from_text('abc', 300)\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'needle-dl[text]'" in done.stdout


def test_importing_needle_imports_no_optional_library():
    code = (
        "import sys, needle\nprint(sorted({'PIL', 'tokenizers', 'pickletools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- windows of a text ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint16"])
def test_text_dataset(dtype):
    ids = np.arange(10, 20, dtype=dtype)
    dataset = data.TextDataset(ids, 4)
    assert len(dataset) == 6
    x, y = dataset[2]
    assert (x.tolist(), y.tolist()) == ([12, 13, 14, 15], [13, 14, 15, 16])
    assert (x.dtype, y.dtype) == ("int64", "int64")
    assert dataset[-1][1].tolist() == [16, 17, 18, 19]
    x, y = dataset[np.array([0, 5])]
    assert x.tolist() == [[10, 11, 12, 13], [15, 16, 17, 18]]
    assert y.tolist() == [[11, 12, 13, 14], [16, 17, 18, 19]]
    assert dataset[1:4][0].shape == (3, 4)
    with pytest.raises(IndexError):
        dataset[6]


def test_items_are_copies():
    ids = np.arange(5)
    x, _ = data.TextDataset(ids, 3)[0]
    x[:] = 7
    assert ids.tolist() == [0, 1, 2, 3, 4]


def test_text_dataset_in_a_loader():
    loader = data.DataLoader(data.TextDataset(range(9), 2), 4, shuffle=True)
    batches = list(loader)
    assert [x.shape for x, _ in batches] == [(4, 2), (3, 2)]
    for x, y in batches:
        np.testing.assert_array_equal(x.numpy() + 1, y.numpy())


@pytest.mark.parametrize("length", [0, 3, 4])
def test_lengths_out_of_range(length):
    with pytest.raises(ValueError, match=r"length must lie in \[1, 3\)"):
        data.TextDataset([1, 2, 3], length)


@pytest.mark.parametrize("ids", [[0.5, 1.0], [[1, 2], [3, 4]], "abc"])
def test_ids_that_are_no_row_of_integers(ids):
    with pytest.raises(ValueError, match="integers in one row"):
        data.TextDataset(ids, 1)


# ---- Shakespeare ------------------------------------------------------------------------------


def test_shakespeare(tmp_path):
    (tmp_path / "input.txt").write_bytes("abcdefghijké\r\n123456".encode())
    train, validation = data.shakespeare(tmp_path)
    assert (train, validation) == ("abcdefghijké\r\n1234", "56")
    (tmp_path / "input.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"input\.txt.*empty"):
        data.shakespeare(tmp_path)
    (tmp_path / "input.txt").write_bytes(b"a\xc3(")
    with pytest.raises(ValueError, match=r"\[shakespeare\].*input\.txt.*0xc3"):
        data.shakespeare(tmp_path)
    with pytest.raises(FileNotFoundError):
        data.shakespeare(tmp_path / "nothing")


def test_where_shakespeare_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path))
    assert data.default_folder("shakespeare") == tmp_path / "tinyshakespeare"
    assert data.verify("shakespeare") == [
        f"{tmp_path / 'tinyshakespeare' / 'input.txt'} is missing"
    ]


def test_real_shakespeare(data_folder):
    folder = data_folder / "tinyshakespeare"
    assert data.verify("shakespeare", folder) == []
    train, validation = data.shakespeare(folder)
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    tokenizer = data.CharTokenizer.from_text(train)
    assert len(tokenizer) == 65
    assert tokenizer.decode(tokenizer.encode(validation)) == validation
