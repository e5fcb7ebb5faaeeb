"""`needle eval` and `needle predict`, for each kind of data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from rich.console import Console
from typer.testing import CliRunner

from needle import train
from needle.cli.app import app
from needle.cli.evaluate import matrix_text, pieces, shaded
from needle.train.records import Confusion


def needle(*arguments: object):
    words = list(map(str, arguments))
    return CliRunner().invoke(app, words, env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains a few eager steps of a task in an empty folder; gives the name of the run."""
    monkeypatch.chdir(tmp_path)

    def run(name, paths=(), steps=2, **changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        changes |= {"training.steps": steps, "training.compiled": False}
        config = train.resolve(name, paths=paths, changes=changes)
        task = train.load_task(config)
        config = train.completed(config, task)
        folder = train.RunFolder.create(name)
        folder.write_config(config.to_dict())
        trainer = train.make_trainer(config, task, folder)
        batches = train.train_batches(config, task)
        trainer.fit(batches, task.validation, **train.limits(config.training))
        return name

    return run


def test_digits(trained):
    from PIL import Image

    run = trained("digits", steps=30, training__lr=0.01)
    done = needle("eval", run)
    assert done.exit_code == 0, done.output
    first, second, *rest = done.output.splitlines()
    assert first.startswith("digits, step 30: loss ")
    status = json.loads(Path("runs/digits/status.json").read_text())
    assert f"accuracy {status['row']['accuracy']:.4g}" in first
    assert second.startswith("on 359 validation images of 1,438 + 359 handwritten digits")
    matrix = [line.split()[1:] for line in rest[2:12]]
    counts = [[0 if cell == "·" else int(cell) for cell in row] for row in matrix]
    assert counts == json.loads(Path("runs/digits/confusion.json").read_text())["matrix"]
    for name in ("confusion.png", "mistakes.png"):
        assert f"wrote runs/digits/eval/{name}" in done.output.replace(str(Path.cwd()) + "/", "")
        assert (Path("runs/digits/eval") / name).read_bytes().startswith(b"\x89PNG")
    # A digit that stands in a larger picture with other proportions and colours.
    image, label = train.load_task(train.resolve("digits")).validation.dataset[0]
    pixels = np.repeat(np.repeat(image.reshape(8, 8) * 255, 6, 0), 6, 1).astype(np.uint8)
    Path("pictures").mkdir()
    Image.fromarray(np.pad(pixels, ((0, 0), (6, 6)))).convert("RGB").save("pictures/a.png")
    Image.fromarray(pixels).save("pictures/b.png")
    done = needle("predict", run, "pictures", "--top", "2")
    rows = list(csv.DictReader(done.output.splitlines()))
    assert [row["file"] for row in rows] == ["pictures/a.png", "pictures/b.png"]
    assert {row["class"] for row in rows} == {str(int(label))}
    assert float(rows[0]["probability"]) > float(rows[0]["probability 2"])
    done = needle("predict", run, "pictures/a.png", "--out", "p.json")
    assert (done.exit_code, done.output) == (0, "")
    assert json.loads(Path("p.json").read_text())[0]["class"] == str(int(label))


def test_text(trained):
    Path("t.txt").write_text("abcdefgh\n" * 400)
    run = trained(
        "text", ["t.txt"], steps=1, data__length=16, model__width=8, model__num_layers=1,
        model__num_heads=1,
    )  # fmt: skip
    done = needle("eval", run)
    assert done.exit_code == 0, done.output
    assert "perplexity" in done.output
    assert done.output.count("a token, window") == 3
    assert "abcdefgh↵" in done.output
    assert "loss of a token:" in done.output
    (row,) = csv.DictReader(needle("predict", run, "t.txt").output.splitlines())
    assert (row["file"], row["tokens"]) == ("t.txt", "3600")
    assert float(row["perplexity"]) == pytest.approx(np.exp(float(row["loss"])))
    Path("u.txt").write_text("xyz")
    assert_one_line(needle("predict", run, "u.txt"), "'x'")
    assert_one_line(needle("predict", run, "u.txt", "nothing.txt"), "no file 'nothing.txt'")


def test_tables(trained):
    with open("t.csv", "w") as file:
        file.write("age,city,buys\n" + "".join(f"{i},Rome,{'yn'[i % 2]}\n" for i in range(40)))
    run = trained("csv", ["t.csv"], data__target="buys", training__batch_size=8)
    done = needle("eval", run, "--out", "e")
    assert done.exit_code == 0, done.output
    assert "on 8 validation rows of buys of t.csv" in done.output
    assert Path("e/confusion.png").is_file()
    Path("new.csv").write_text("city,age\nRome,3\nOslo,\n")
    rows = list(csv.DictReader(needle("predict", run, "new.csv").output.splitlines()))
    assert [(row["city"], row["age"]) for row in rows] == [("Rome", "3"), ("Oslo", "")]
    assert {row["class"] for row in rows} <= {"y", "n"}
    Path("other.csv").write_text("a\n1\n")
    assert_one_line(needle("predict", run, "other.csv"), "lacks the columns age, city")
    Path("t.csv").rename("moved.csv")
    assert_one_line(needle("eval", run), "no file or folder")
    assert needle("eval", run, "--data", "moved.csv").exit_code == 0


def assert_one_line(done, words):
    assert done.exit_code == 1
    assert words in done.output.replace("\n", " ")
    assert "Traceback" not in done.output


def test_what_is_no_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/empty").mkdir(parents=True)
    Path("runs/empty/metrics.jsonl").touch()
    Path("broken.safetensors").write_bytes(b"\xff" * 100)
    for name in ("empty", "nothing", "broken.safetensors"):
        assert_one_line(needle("eval", name), name)
        assert_one_line(needle("predict", name, "x.png"), name)


def test_the_matrix_is_aligned():
    confusion = Confusion(("a long name of a class", "b"), np.array([[1234, 0], [1, 2]]), 1, "")
    assert matrix_text(confusion).plain.split("\n") == [
        "       true  predicted",
        "            a long name   b",
        "a long name        1234   ·",
        "          b           1   2",
    ]


def test_tokens_are_the_darker_the_larger_their_losses():
    console = Console(color_system="256", force_terminal=True, width=80)
    with console.capture() as shown:
        console.print(shaded(["a", "b", "\n", "\x1b"], np.array([0.1, 2, 9, 0.1])))
    text = shown.get()
    assert text.startswith("a\x1b[30;48;5;221mb")
    assert "48;5;160m↵" in text
    assert "\\x1b" in text


def test_a_character_of_several_tokens_is_at_the_last_of_them() -> None:
    encoded = np.frombuffer("aüb".encode() + b"\xc3", np.uint8)
    found = pieces(encoded, lambda ids: bytes(ids.tolist()).decode("utf-8", "replace"))
    assert found == ["a", "", "ü", "b", "\N{REPLACEMENT CHARACTER}"]
