"""The commands of `needle`."""

from __future__ import annotations

import platform
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import needle as ndl

from .. import data, models
from ..backend_ndarray import simd_level
from ..disk_cache import cache_info
from ..disk_cache import clear_cache as remove_entries
from ..train import RECIPES, NextToken, evaluate, load_model
from .dashboard import dashboard
from .errors import one_line_errors
from .printing import say, show_table, write
from .progress import download_progress
from .runs import list_runs, plot_runs
from .training import Options, load_task, train_recipe
from .watch import watch

app = typer.Typer(
    help="needle: train, evaluate, generate and inspect.",
    no_args_is_help=True,
    add_completion=False,
)
data_app = typer.Typer(help="Data sets: what there is, fetch it, check it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
cache_app = typer.Typer(help="Compiled programs and kernels: look, remove.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

RecipeName = Enum("RecipeName", {name: name for name in RECIPES}, type=str)  # type: ignore[misc]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data set's files.", file_okay=False),
]


app.command("runs")(list_runs)
app.command("plot")(plot_runs)
app.command()(watch)
app.command()(dashboard)


@app.command()
def train(
    recipe: Annotated[RecipeName, typer.Argument(help="What to train.")],
    model: Annotated[
        str | None, typer.Option(help="Which model, e.g. gpt or lstm for shakespeare.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data (100 steps each for text).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images, or pieces of text, a step.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's weight decay.")] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and pictures.")] = Path(
        "runs"
    ),
    seed: Annotated[int, typer.Option(help="Seed of weights, shuffling and dropout.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    eager: Annotated[
        bool, typer.Option("--eager", help="Run op by op; compile no programs for the steps.")
    ] = False,
) -> None:
    """Train a model; write a checkpoint and a PNG of its curves."""
    with one_line_errors():
        if threads is not None:
            ndl.set_num_threads(threads)
        options = Options(
            model, epochs, batch_size, lr, weight_decay, data_dir, out, seed, not eager
        )
        train_recipe(RECIPES[recipe.value], options)


@app.command("eval")
def evaluate_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A file that `needle train` wrote.")],
    data_dir: DataDir = None,
) -> None:
    """Measure a checkpoint on its test data."""
    with one_line_errors():
        model, recipe, description = load_model(checkpoint)
        task = load_task(recipe, data_dir)
        if task.state != description["data"]:
            raise ValueError(f"{checkpoint} was trained on other data than {recipe.name} is here")
        result, _ = evaluate(model, task.test, ndl.nn.SoftmaxLoss())
    say(
        f"{checkpoint}: accuracy {100 * result.accuracy:.2f} %, loss {result.loss:.4f} on "
        f"{task.test_size:,} test {recipe.unit} of {recipe.name}"
    )


@app.command()
def generate(
    checkpoint: Annotated[Path, typer.Argument(help="A text model that `needle train` wrote.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "\n",
    length: Annotated[int, typer.Option(min=1, help="Characters to write.")] = 500,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest character.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest that reach p.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the text repeatable.")] = None,
) -> None:
    """Write text with a trained model, character by character."""
    with one_line_errors():
        model, _, description = load_model(checkpoint)
        if not isinstance(model, NextToken):
            raise ValueError(f"{checkpoint} holds {description['model']}, which writes no text")
        tokenizer = data.CharTokenizer.from_state(description["data"])
        np.random.seed(seed)
        tokens = models.generate(
            model.model, tokenizer.encode(prompt), length, temperature, top_k, top_p
        )
        write(prompt.lstrip("\n"))
        for token in tokens:
            write(tokenizer.decode([token]))
    write("\n")


@app.command()
def info() -> None:
    """Version, devices, SIMD level, threads."""
    default = ndl.default_device()
    show_table(
        [
            ("needle", ndl.__version__),
            ("Python", platform.python_version()),
            ("NumPy", np.__version__),
            *(
                (device, device.status() + (", default" if device == default else ""))
                for device in ndl.all_devices()
            ),
            ("SIMD", simd_level()),
            ("threads", ndl.get_num_threads()),
        ]
    )


@data_app.command("list")
def list_data() -> None:
    """The data sets, and which are here."""
    with one_line_errors():
        entries = data.list_datasets()
    show_table(
        [(e.name, e.summary, "yes" if e.present else "no", e.folder) for e in entries],
        ("name", "what", "here", "folder"),
    )


@data_app.command("get")
def get_data(name: str, data_dir: DataDir = None) -> None:
    """Download a data set's files and check them."""
    with one_line_errors(), download_progress() as report:
        folder = data.get(name, data_dir, report)
    say(f"{name} is in {folder}")


@data_app.command("verify")
def verify_data(name: str, data_dir: DataDir = None) -> None:
    """Check a data set's files against their SHA-256."""
    with one_line_errors():
        problems = data.verify(name, data_dir)
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)
    say(f"{name}: all files are right")


@cache_app.command("info")
def show_cache() -> None:
    """Where compiled code is kept, how much of it, and how much of the limit that fills."""
    with one_line_errors():
        held = cache_info()
    show_table(
        [
            ("folder", held.folder),
            ("programs", f"{held.entries - held.kernels:,}"),
            ("kernels", f"{held.kernels:,}"),
            ("size", f"{_mebibytes(held.bytes)} of {_mebibytes(held.limit)}"),
        ]
    )


@cache_app.command("clear")
def clear_cache() -> None:
    """Remove all compiled code. Processes that run keep theirs."""
    with one_line_errors():
        size, count = cache_info().bytes, remove_entries()
    say(f"programs and kernels removed: {count:,} ({_mebibytes(size)})")


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
