"""`needle generate`: text from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .. import models
from ..train import load_run
from ..train.tasks import NextToken, tokenizer_of
from .errors import one_line_errors
from .facts import find_run
from .printing import write


def generate(
    run: Annotated[Path, typer.Argument(help="A run of a text model, or one of its checkpoints.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "\n",
    length: Annotated[int, typer.Option(min=1, help="Tokens to write: characters.")] = 500,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest that reach p.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the text repeatable.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Your own model's package.module:function.")
    ] = None,
) -> None:
    """Write text with a trained model, token by token."""
    with one_line_errors():
        loaded = load_run(run if run.exists() else find_run(run), model)
        if not isinstance(loaded.model, NextToken):
            raise ValueError(f"{run} holds {loaded.config.model['name']}, which writes no text")
        tokenizer = tokenizer_of(loaded.state)
        np.random.seed(seed)
        ids = tokenizer.encode(prompt)
        tokens = models.generate(loaded.model.model, ids, length, temperature, top_k, top_p)
        write(prompt.lstrip("\n"))
        written: list[int] = []
        for token in tokens:
            shown = tokenizer.decode(written)
            written.append(token)
            text = tokenizer.decode(written)
            if text.endswith("\ufffd"):  # the first bytes of a character
                continue
            write(text[len(shown) :] if text.startswith(shown) else text)
            written.clear()
    write("\n")
