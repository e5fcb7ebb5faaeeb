"""The command line as a user meets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

import numpy as np
from typer.testing import CliRunner

import needle as ndl
from needle import data, train
from needle.cli.app import app


def needle(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb"})


def test_train_then_eval(tmp_path):
    done = needle("train", "digits", "--epochs", "2", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "1,438 training and 359 test images" in done.output
    assert "epoch   2/2" in done.output
    assert "images/s" in done.output
    checkpoint, picture = tmp_path / "digits.safetensors", tmp_path / "digits.png"
    assert str(checkpoint) in done.output.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    accuracy = done.output.split("accuracy ")[1].split(" %")[0]
    done = needle("eval", str(checkpoint))
    assert done.exit_code == 0, done.output
    assert f"accuracy {accuracy} %" in done.output.replace("\n", " ")


def test_the_seed_reproduces_a_run(tmp_path):
    lines = []
    for name in ("a", "b"):
        done = needle(
            "train", "digits", "--epochs", "1", "--seed", "5", "--out", str(tmp_path / name)
        )
        line = next(line for line in done.output.splitlines() if line.startswith("epoch"))
        lines.append(line.rsplit("%", 1)[0])
    assert lines[0] == lines[1]


def test_eager_training_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(train.loop, "jit", lambda f: pytest.fail(f"{f} was compiled"))
    done = needle("train", "digits", "--epochs", "1", "--eager", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "--eager" in needle("train", "--help").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "nothing.safetensors"], "there is no file"),
        (["train", "digits", "--lr", "-1"], "lr"),
        (["data", "get", "nothing"], "digits"),
        (["data", "verify", "nothing"], "digits"),
        (["data", "verify", "mnist", "--data-dir", "nowhere"], "is missing"),
    ],
)
def test_mistakes_end_with_one_line(arguments, words):
    done = needle(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_wrong_usage_is_typers():
    assert needle("train", "nothing").exit_code == 2
    assert needle("train", "digits", "--epochs", "0").exit_code == 2
    assert "--batch-size" in needle("train", "--help").output
    for command in ("train", "eval", "info", "data", "cache"):
        assert command in needle("--help").output


def test_info_and_data():
    out = needle("info").output
    for words in (ndl.__version__, "SIMD", "threads", "cpu_numpy()", "cuda()"):
        assert words in out
    out = needle("data", "list").output
    assert "digits" in out
    assert "mnist" in out
    done = needle("data", "verify", "digits")
    assert (done.exit_code, "all files are right" in done.output) == (0, True)


def test_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path))
    monkeypatch.setenv("NEEDLE_CACHE_LIMIT", "3")
    (tmp_path / f"{'a' * 32}.cpp").write_bytes(bytes(2**20))
    (tmp_path / "notes.txt").write_text("somebody's")
    out = needle("cache", "info").output
    for words in (str(tmp_path), "programs  1", "kernels   0", "1.0 MiB of 3.0 MiB"):
        assert words in out
    assert "programs and kernels removed: 1 (1.0 MiB)" in needle("cache", "clear").output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "0.0 MiB of" in needle("cache", "info").output
    monkeypatch.setenv("NEEDLE_CACHE_LIMIT", "much")
    done = needle("cache", "info")
    assert (done.exit_code, "NEEDLE_CACHE_LIMIT" in done.output) == (1, True)


def test_generate_streams_text(tmp_path):
    tokenizer = data.CharTokenizer.from_text("abc \n")
    options = {
        "vocabulary": len(tokenizer),
        "length": 8,
        "width": 8,
        "num_layers": 1,
        "num_heads": 1,
    }
    np.random.seed(0)
    model = train.build_model("gpt", options)
    path, recipe = tmp_path / "m.safetensors", train.RECIPES["shakespeare"]
    train.save_model(path, recipe, "gpt", options, model, tokenizer.state(), {})
    texts = [
        needle("generate", str(path), "--prompt", "ab", "--length", "30", "--seed", "3").output
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert texts[0].startswith("ab")
    assert len(texts[0]) == 2 + 30 + 1
    assert set(texts[0]) <= set("abc \n")
    for wrong, words in (
        (["--prompt", "xyz"], "'x'"), (["--top-p", "2"], "top_p"),
        (["--temperature", "-1"], "temperature"),
    ):  # fmt: skip
        done = needle("generate", str(path), *wrong)
        assert done.exit_code == 1
        assert words in done.output


def test_generate_refuses_models_of_images(tmp_path):
    recipe = train.RECIPES["digits"]
    name, settings = recipe.settings(None)
    model = train.build_model(name, settings.options)
    train.save_model(tmp_path / "m", recipe, name, settings.options, model, {}, {})
    done = needle("generate", str(tmp_path / "m"))
    assert (done.exit_code, "writes no text" in done.output) == (1, True)


def test_a_model_that_the_recipe_does_not_have():
    done = needle("train", "shakespeare", "--model", "resnet9")
    assert done.exit_code == 1
    assert "gpt, lstm" in done.output


def test_mnist_from_its_files(data_folder):
    done = needle("data", "verify", "mnist", "--data-dir", str(data_folder / "mnist"))
    assert done.exit_code == 0, done.output


def test_python_m_needle():
    for module in ("needle", "needle.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "info"], capture_output=True, text=True, check=True
        )
        assert ndl.__version__ in done.stdout


def test_without_the_extra_the_command_says_how_to_get_it():
    code = "import sys; sys.modules['typer'] = None; from needle.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needle-dl[cli]" in done.stderr
    assert "Traceback" not in done.stderr
