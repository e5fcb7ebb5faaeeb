"""The command line as a user meets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

import needle as ndl
from needle.cli.app import app


def needle(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "nothing.safetensors"], "is no run"),
        (["train", "digitz"], "did you mean digits"),
        (["train"], "say what to train"),
        (["train", "digits", "--lr", "-1"], "lr must be above 0"),
        (["train", "digits", "x.txt"], "--data-dir"),
        (["train", "text"], "needle train text FILE"),
        (["train", "text", "nowhere.txt"], "nowhere.txt"),
        (["train", "images", "nowhere"], "nowhere"),
        (["train", "digits", "--target", "x"], "data.target"),
        (["train", "digits", "--batch-size", "5000"], "larger than the data, 1,438 images"),
        (["train", "digits", "--device", "tpu"], "no device 'tpu'"),
        (["train", "digits", "--set", "model.hiden_dim=3"], "did you mean hidden_dim"),
        (["train", "digits", "--set", "training.lr"], "NAME=VALUE"),
        (["train", "digits", "--optimizer", "adamm"], "adamw, adam"),
        (["train", "digits", "--out", "/dev/null/x"], "/dev/null"),
        (["train", "digits", "--model", "nowhere:small"], "nowhere"),
        (["train", "digits", "--resume", "nowhere"], "nowhere"),
        (["train", "digits", "--resume", "--out", "nowhere"], "no run of digits"),
        (["train", "digits", "--name", "a/b"], "name of a folder"),
        (["train", "shakespeare", "--model", "resnet9"], "gpt, lstm"),
        (["data", "get", "nothing"], "digits"),
        (["data", "verify", "nothing"], "digits"),
        (["data", "verify", "mnist", "--data-dir", "nowhere"], "is missing"),
    ],
)
def test_mistakes_end_with_one_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = needle(*arguments)
    assert (done.exit_code, words in done.output) == (1, True), done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.glob("runs/*")), "nothing was begun"


def test_wrong_usage_is_typers():
    assert needle("train", "digits", "--epochs", "0").exit_code == 2
    assert needle("train", "digits", "--time", "soon").exit_code == 2
    out = needle("train", "--help").output
    for words in ("--batch-size", "--resume", "Examples", "needle train csv houses.csv", "143"):
        assert words in out
    for command in ("train", "generate", "info", "data", "cache", "--install-completion"):
        assert command in needle("--help").output
    assert needle("--version").output == f"needle {ndl.__version__}\n"


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


@pytest.fixture
def text_run(tmp_path, monkeypatch):
    """The folder of a run of a small model of text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "abc.txt").write_text("abc \n" * 200)
    done = needle(
        "train", "text", "abc.txt", "--steps", "1", "--eager", "--set", "data.length=8", "--set",
        "model.width=8", "--set", "model.num_layers=1", "--set", "model.num_heads=1",
        "--no-picture",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return tmp_path / "runs" / "text"


def test_generate_streams_text(text_run):
    for where in (str(text_run), "text", str(text_run / "last")):
        texts = [
            needle("generate", where, "--prompt", "ab", "--length", "30", "--seed", "3").output
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
        done = needle("generate", str(text_run), *wrong)
        assert done.exit_code == 1
        assert words in done.output


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
