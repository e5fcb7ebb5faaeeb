"""The tasks: what they read, what a batch is, which data they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.train import completed, load_task, resolve
from needle.train.tasks import make_model, tokenizer_of
from needle.train.tasks.table import columns_of, encode, read_csv


def prepared(name, paths=(), **changes):
    """The task, and the loss of an untrained model on the first batch of each kind."""
    config = resolve(
        name, paths=paths, changes={k.replace("_", ".", 1): v for k, v in changes.items()}
    )
    task = load_task(config)
    config = completed(config, task)
    options = {key: value for key, value in config.model.items() if key != "name"}
    model = make_model(config.model["name"], options)
    losses = []
    for batches in (task.train(4, 0), task.validation):
        x, y = next(iter(batches))
        losses.append(task.loss(model(x), y).item())
    again = load_task(config, task.state)
    assert again.state == task.state
    assert again.options == task.options
    return task, losses


def test_digits():
    task, losses = prepared("digits")
    assert (task.train_size, task.validation_size, task.unit) == (1438, 359, "images")
    assert task.classes == tuple("0123456789")
    assert next(iter(task.train(4, 0)))[0].shape == (4, 1, 8, 8)
    assert max(losses) < 20


def test_text(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("to be or not to be\n" * 60)
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    task, losses = prepared("text", paths, data_length=16, model_width=16)
    assert task.title == "a.txt, b.txt"
    assert task.train_size + task.validation_size == 2 * 19 * 60
    assert losses == pytest.approx([np.log(task.options["vocabulary"])] * 2, rel=0.1)
    assert tokenizer_of(task.state).decode(task.validation[0][0].numpy()[0]).count("b") > 0
    for changes, words in (
        ({"data_length": 300}, "too short"), ({"data_tokenizer": "words"}, "chars"),
        ({"data_validation": 1.0}, "validation"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            prepared("text", paths, **changes)


def test_byte_pairs(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 200)
    task, _ = prepared("text", [tmp_path / "a.txt"], data_length=8, data_tokenizer="bpe",
                       data_vocabulary=270, model_width=16)  # fmt: skip
    assert task.unit == "tokens"
    assert 256 < task.options["vocabulary"] <= 270


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"\xff\xfe", "UTF-8"), (None, "no file")]
)
def test_text_that_is_none(tmp_path, content, words):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises((ValueError, OSError), match=words):
        load_task(resolve("text", paths=[tmp_path / "x"]))


@pytest.fixture
def folder(tmp_path):
    """Images of several sizes in two classes, and a function that makes more."""
    Image = pytest.importorskip("PIL.Image")
    draw = np.random.RandomState(0)

    def add(where, sizes):
        (tmp_path / where).mkdir(parents=True)
        for i, (height, width) in enumerate(sizes):
            pixels = draw.randint(0, 256, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / where / f"{i}.png")

    return tmp_path, add


def test_images_in_folders(folder):
    root, add = folder
    sizes = [(20, 40), (64, 32), (33, 33), (8, 100), (50, 50)]
    add("all/cat", sizes)
    add("all/dog", sizes)
    task, losses = prepared("images", [root / "all"], data_size=32, data_validation=0.4)
    assert (task.train_size, task.validation_size) == (6, 4)
    assert task.classes == ("cat", "dog")
    assert "2 classes in all" in task.title
    labels = np.concatenate([y.numpy() for _, y in task.validation])
    assert sorted(labels.tolist()) == [0, 0, 1, 1]
    assert max(losses) < 20
    for part in ("train", "val"):
        add(f"split/{part}/a", sizes[:3])
        add(f"split/{part}/b", sizes[:2])
    task, _ = prepared("images", [root / "split"], data_size=32)
    assert (task.train_size, task.validation_size) == (5, 5)
    add("split/val/c", sizes[:1])
    with pytest.raises(ValueError, match="only one of them has c"):
        load_task(resolve("images", paths=[root / "split"]))
    with pytest.raises(OSError, match="no file or folder"):
        load_task(resolve("images", paths=[root / "nowhere"]))
    add("alone/cat", sizes)
    with pytest.raises(ValueError, match="two classes or more, found only 'cat'"):
        load_task(resolve("images", paths=[root / "alone"]))


ROWS = [f"{i / 7:.2f},{'red' if i % 3 else 'blue'},{i % 5 or ''},{i % 2}" for i in range(40)]


def table(tmp_path, rows=ROWS, header="length,colour,legs,kind"):
    path = tmp_path / "animals.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_classes_from_a_table(tmp_path):
    task, losses = prepared("csv", [table(tmp_path)], data_target="kind")
    assert (task.train_size, task.validation_size, task.classes) == (32, 8, ("0", "1"))
    assert task.title == "kind of animals.csv"
    # length, legs and whether legs is missing; colours and one for those not seen.
    assert (task.options["numbers"], task.options["categories"]) == (3, [3])
    assert max(losses) < 5
    task, _ = prepared("csv", [table(tmp_path)], data_target="colour")
    assert task.classes == ("blue", "red")


def test_numbers_from_a_table(tmp_path):
    task, losses = prepared("csv", [table(tmp_path)], data_target="length")
    assert task.classes is None
    assert set(task.metrics) == {"mae", "r2"}
    assert max(losses) < 10
    _, goal = columns_of(task.state)
    means = task.loss(ndl.full((32,), goal.mean), next(iter(task.train(32, 0)))[1])
    assert means.item() == pytest.approx(1.0, rel=1e-3), "the mean itself has loss 1"
    task, _ = prepared("csv", [table(tmp_path)], data_target="kind", data_kind="regression")
    assert task.classes is None


def test_cells_as_numbers(tmp_path):
    task, _ = prepared("csv", [table(tmp_path)], data_target="kind")
    columns, _ = columns_of(task.state)
    cells = {"length": ["1.0", "", "x"], "colour": ["red", "green", ""], "legs": ["2", "", "?"]}
    x = encode(columns, cells)
    assert np.isfinite(x).all()
    assert x[:, 2].tolist() == [0, 1, 1], "which legs are missing"
    assert x[:, 3].tolist() == [2, 0, 0], "colours that were not seen are one category"


@pytest.mark.parametrize(
    ("rows", "header", "target", "words"),
    [
        (ROWS, "length,colour,legs,kind", "", "--target names the column"),
        (ROWS, "length,colour,legs,kind", "kinds", "did you mean kind"),
        ([*ROWS, "1,2"], "length,colour,legs,kind", "kind", "line 42: expected 4 cells"),
        (ROWS, "a,b,a,kind", "kind", "different name"),
        (ROWS[:3], "length,colour,legs,kind", "kind", "10 rows or more"),
        ([], "length,colour,legs,kind", "kind", "no rows"),
        (["1,red,2,0"] * 20, "length,colour,legs,kind", "kind", "nothing to predict"),
    ],
)
def test_tables_that_are_none(tmp_path, rows, header, target, words):
    with pytest.raises(ValueError, match=words):
        prepared("csv", [table(tmp_path, rows, header)], data_target=target)


def test_delimiters_quotes_and_marks(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffa;b\n1,5;"x; ""y"""\n\n 2;z\n'.encode())
    assert read_csv(path) == (["a", "b"], [["1,5", 'x; "y"'], ["2", "z"]])
    path.write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(ValueError, match=r"x\.csv"):
        read_csv(path)


def test_models_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_models_.py").write_text(
        "import needle as ndl\n"
        "def small(num_classes, width: int = 8):\n"
        "    return ndl.nn.Sequential(ndl.nn.Flatten(), ndl.nn.Linear(64, width), ndl.nn.ReLU(),\n"
        "                             ndl.nn.Linear(width, num_classes))\n"
        "number = 3\n"
    )
    config = resolve("digits", model="my_models_:small", changes={"model.width": 5})
    assert config.run.name == "digits-small"
    config = completed(config, load_task(config))
    assert config.model == {"name": "my_models_:small", "num_classes": 10, "width": 5}
    for model, words in (
        ("my_models_:smal", "my_models_"), ("nowhere_:small", "nowhere_"), ("gpd", "own"),
        ("my_models_:number", "function"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            resolve("digits", model=model)
    with pytest.raises(ValueError, match="did you mean width"):
        resolve("digits", model="my_models_:small", changes={"model.widht": 5})
