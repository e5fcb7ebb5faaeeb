"""`needle eval`: metrics, confusions and the worst mistakes of a trained model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.text import Text

from ..train import Config, Task, load_run, load_task
from ..train.evaluation import Evaluation, Mistake, evaluate_samples
from ..train.records import Confusion
from ..train.tasks import tokenizer_of
from ..typing import Json
from .errors import one_line_errors
from .facts import find_run, number
from .printing import say, show, show_table, visible

MOST_SHOWN = 12  # classes of a matrix that is printed
TEXTS_SHOWN = 3
ROWS_SHOWN = 10
# Losses below each limit, in nats, and how their tokens are shown.
SHADES = (
    (0.5, ""), (1.5, "black on color(230)"), (3.0, "black on color(221)"),
    (6.0, "black on color(208)"),
)  # fmt: skip
DARKEST = "white on color(160)"


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run, by folder or name, or a checkpoint.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folder of the data, where they are no longer in their place."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures; by default `eval` in that of the run.")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, max=96, help="How many mistakes to show.")] = 24,
    model: Annotated[
        str | None, typer.Option(help="Your own model's package.module:function.")
    ] = None,
) -> None:
    """Measure a trained model on its validation data.

    Prints metrics, the confusion matrix and the worst mistakes, and writes them as pictures. Of a
    run the best checkpoint is taken.

    Examples:

      needle eval digits

      needle eval runs/digits/last --out /tmp/digits
    """
    with one_line_errors():
        loaded = load_run(run if run.exists() else find_run(run), model)
        task = load_task(_with_data(loaded.config, data), loaded.state)
        found = evaluate_samples(loaded.model, task.validation, task.loss, task.metrics, most=worst)
        values = " · ".join(f"{name} {number(value)}" for name, value in found.values.items())
        step = int(loaded.checkpoint["progress"]["step"])
        name = loaded.config.run.name or loaded.config.run.task
        say(f"{name}, step {step:,}: {values}")
        measured = f"{task.validation_size:,} validation {task.unit}"
        say(f"on {measured} of {task.title}")
        folder = _folder(loaded.path) if out is None else out
        if found.confusion is not None:
            names = task.classes or tuple(map(str, range(len(found.confusion))))
            confusion = Confusion(names, found.confusion, step, measured)
            _show_confusion(confusion, folder, f"{name}: {task.title}")
        _show_mistakes(found, task, folder, loaded.state)


def _with_data(config: Config, paths: list[Path] | None) -> Config:
    """The configuration with the data in another place."""
    if not paths:
        return config
    return config.changed({"data.paths": [os.path.abspath(path) for path in paths]})


def _folder(checkpoint: Path) -> Path:
    """`eval` in the folder of the run, or beside a checkpoint that belongs to none."""
    folder = checkpoint.parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "eval"


def _show_confusion(confusion: Confusion, folder: Path, title: str) -> None:
    from ..train.pictures import save_confusion
    from ..train.pictures.confusion import worst_confusions

    if len(confusion.classes) <= MOST_SHOWN:
        show(matrix_text(confusion))
    for true, predicted, count in worst_confusions(confusion):
        say(f"{true} taken for {predicted}: {count}")
    save_confusion(folder / "confusion.png", confusion, title)
    say(f"wrote {folder / 'confusion.png'}")


def matrix_text(confusion: Confusion, width: int = 12) -> Text:
    """The matrix with names, as lines: true classes downwards, predicted ones to the right.

    What is right is blue, errors are red, as in the picture.
    """
    names = [visible(name).replace("\n", " ")[:width].strip() for name in confusion.classes]
    left = max(5, *map(len, names))
    cells = [
        max(3, len(n), len(str(c.max()))) for n, c in zip(names, confusion.matrix.T, strict=True)
    ]
    text = Text("true".rjust(left)).append("  predicted\n", "dim")
    text.append(" " * left + " ".join(["", *map(str.rjust, names, cells)]) + "\n", "dim")
    for i, row in enumerate(confusion.matrix):
        text.append(names[i].rjust(left), "dim")
        for j, count in enumerate(row):
            style = "blue" if i == j else "bold red"
            text.append(
                " " + (str(count) if count else "·").rjust(cells[j]), style if count else "dim"
            )
        text.append("\n")
    text.rstrip()
    return text


def _show_mistakes(found: Evaluation, task: Task, folder: Path, state: Json) -> None:
    if not found.worst:
        say("there are no mistakes")
        return
    if found.worst[0].losses is not None:
        _show_texts(found.worst[:TEXTS_SHOWN], state)
    elif found.worst[0].inputs.ndim == 3:
        from ..train.pictures import save_mistakes

        images = np.stack([mistake.inputs.transpose(1, 2, 0) for mistake in found.worst])
        captions = [_caption(mistake, task) for mistake in found.worst]
        title = f"The {len(images)} largest losses on validation data: {task.title}"
        save_mistakes(folder / "mistakes.png", images, captions, title)
        say(f"wrote {folder / 'mistakes.png'}")
    else:
        rows = [_row(mistake, task) for mistake in found.worst[:ROWS_SHOWN]]
        show_table(rows, ("sample", "true", "predicted", "loss" if task.classes else "error"))


def _show_texts(mistakes: Sequence[Mistake], state: Json) -> None:
    tokenizer = tokenizer_of(state)
    for mistake in mistakes:
        assert mistake.losses is not None
        say(f"\nloss {number(mistake.loss)} a token, window {mistake.place}:")
        show(shaded(pieces(mistake.target, tokenizer.decode), mistake.losses))
    show(legend())


def pieces(ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> list[str]:
    """The text of each token; a character that several tokens make is at the last of them."""
    found, shown = [], ""
    for count in range(1, len(ids) + 1):
        text = decode(ids[:count])
        if count < len(ids):
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        found.append(text[len(shown) :])
        shown = text
    return found


def _caption(mistake: Mistake, task: Task) -> str:
    _, true, predicted, loss = _row(mistake, task)
    return f"{true}\ntaken for {predicted}, loss {loss}"


def _row(mistake: Mistake, task: Task) -> tuple[str, str, str, str]:
    """(place, target, prediction, loss) in words."""
    place, loss = f"{mistake.place:,}", f"{mistake.loss:.3g}"
    if task.classes is None:
        target, output = np.ravel(mistake.target)[0], np.ravel(mistake.output)[0]
        return place, number(float(target)), number(float(output)), loss
    return place, task.classes[int(mistake.target)], task.classes[mistake.output.argmax()], loss


def shaded(tokens: Sequence[str], losses: np.ndarray) -> Text:
    """A text whose tokens are the darker, the larger their losses are."""
    text = Text()
    for token, loss in zip(tokens, losses, strict=True):
        style = next((style for limit, style in SHADES if loss < limit), DARKEST)
        shown = visible(token)
        text.append(shown if shown.strip() or not style else shown.replace("\n", "↵\n"), style)
    return text


def legend() -> Text:
    """What the shades mean."""
    text = Text("\nloss of a token: ")
    for (limit, _), (above, style) in itertools.pairwise([*SHADES, (np.inf, DARKEST)]):
        name = f" {limit:g} to {above:g} " if np.isfinite(above) else f" above {limit:g} "
        text.append(name, style)
    return text
