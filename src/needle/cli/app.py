"""The commands of `needle`: each group is a file of its own."""

from __future__ import annotations

import platform
from typing import Annotated

import numpy as np
import typer

import needle as ndl

from ..backend_ndarray import simd_level
from .cache import cache_app
from .dashboard import dashboard
from .data import data_app
from .evaluate import evaluate
from .generate import generate
from .predict import predict
from .printing import say, show_table
from .runs import list_runs, plot_runs
from .train import EPILOG, TrainCommand, train
from .watch import watch

app = typer.Typer(
    help="needle: train, evaluate, generate and inspect. Begin with: needle train digits",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=TrainCommand, epilog=EPILOG)(train)
app.command("eval")(evaluate)
app.command()(predict)
app.command()(generate)
app.command("runs")(list_runs)
app.command("plot")(plot_runs)
app.command()(watch)
app.command()(dashboard)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"needle {ndl.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """needle: train, evaluate, generate and inspect. Begin with: needle train digits"""


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
