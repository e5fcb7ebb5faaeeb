"""What a trained model says of files: images, texts and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..autograd import Tensor, no_grad
from ..data import vision
from ..typing import Json
from .evaluation import probabilities
from .session import LoadedRun
from .tasks import images, table, text

_BUILT_IN = {"digits": (8, "L"), "mnist": (28, "L"), "cifar10": (32, "RGB")}
AT_ONCE = 100  # images or rows in a batch
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def predict_files(loaded: LoadedRun, files: Sequence[Path], top: int = 1) -> Iterator[Json]:
    """The predictions for files, a row each: for each image, each text, each row of a table.

    Parameters
    ----------
    loaded : LoadedRun
    files : sequence of path
        For a model of images also folders, whose images are taken.
    top : int
        How many classes are named, the likeliest first.

    Returns
    -------
    iterator of dict
        Of images {"file", "class", "probability", "class 2", …}. Of texts {"file", "tokens",
        "loss", "perplexity"}. Of tables the cells of the row and "class", "probability", … or
        "prediction".

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is none that the model takes.

    Examples
    --------
    >>> from needle.train import load_run
    >>> list(predict_files(load_run("runs/digits"), [Path("eight.png")]))  # doctest: +SKIP
    [{'file': 'eight.png', 'class': '8', 'probability': 0.98}]
    """
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"[predict] there is no file {str(file)!r}")
    loaded.model.eval()
    kinds = {"rows": _rows, "characters": _texts, "tokens": _texts, "images": _images}
    return kinds[str(loaded.config.data["unit"])](loaded, files, top)


def _images(loaded: LoadedRun, files: Sequence[Path], top: int) -> Iterator[Json]:
    found = [image for file in files for image in _images_in(file)]
    task = loaded.config.run.task
    classes = _image_classes(task, loaded.state)
    for i in range(0, len(found), AT_ONCE):
        some = found[i : i + AT_ONCE]
        x = np.stack([read_image(path, task, loaded.state) for path in some])
        for path, scores in zip(some, _outputs(loaded, x), strict=True):
            yield {"file": str(path), **_classes(scores, classes, top)}


def _images_in(file: Path) -> list[Path]:
    if not file.is_dir():
        return [file]
    found = sorted(path for path in file.rglob("*") if path.suffix.lower() in IMAGES)
    if not found:
        raise ValueError(f"[predict] the folder {str(file)!r} has no images")
    return found


def read_image(path: Path, task: str, state: Json) -> np.ndarray:
    """An image file as the model of a task takes it: channels first, scaled and cropped to size.

    Those of digits and MNIST are light on dark. Raises ValueError, which names the file, where it
    is no image.
    """
    from PIL import Image, ImageOps

    size, mode = _BUILT_IN.get(task, (0, "RGB"))
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(ImageOps.exif_transpose(opened).convert(mode))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"[predict] {str(path)!r} is no image that can be read: {error}") from None
    image = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32) / np.float32(255)
    size = size or int(state["size"])
    for transform in (vision.Resize(size), vision.CenterCrop(size)):
        image = transform(image)
    if task == "images":
        return images.scaled(image)
    return images.channels_first(image)


def _image_classes(task: str, state: Json) -> Sequence[str]:
    if "classes" in state:
        return list(state["classes"])
    return images.CIFAR10 if task == "cifar10" else images.DIGITS


def _rows(loaded: LoadedRun, files: Sequence[Path], top: int) -> Iterator[Json]:
    columns, goal = table.columns_of(loaded.state)
    for file in files:
        header, lines = table.read_csv(file, str(loaded.config.data.get("delimiter", "")))
        missing = [column.name for column in columns if column.name not in header]
        if missing:
            raise ValueError(f"[predict] {str(file)!r} lacks the columns {', '.join(missing[:5])}")
        for i in range(0, len(lines), AT_ONCE):
            some = lines[i : i + AT_ONCE]
            cells = {name: [line[j] for line in some] for j, name in enumerate(header)}
            outputs = _outputs(loaded, table.encode(columns, cells))
            for line, output in zip(some, outputs, strict=True):
                row = dict(zip(header, line, strict=True))
                if goal.categories is None:
                    yield row | {"prediction": float(np.ravel(output)[0])}
                else:
                    yield row | _classes(output, goal.categories, top)


def _texts(loaded: LoadedRun, files: Sequence[Path], top: int) -> Iterator[Json]:
    tokenizer = text.tokenizer_of(loaded.state)
    for file in files:
        ids = tokenizer.encode(text.read_text(file))
        length = min(int(loaded.config.data.get("length", 128)), len(ids) - 1)
        if length < 1:
            raise ValueError(f"[predict] {str(file)!r} is too short: it has {len(ids)} token")
        total, count = 0.0, 0
        for inputs, target in text.windows_side_by_side(ids, length, 32):
            chances = probabilities(_outputs(loaded, inputs.numpy()))
            following = target.numpy()
            total -= float(np.log(chances[np.arange(len(following)), following] + 1e-45).sum())
            count += len(following)
        loss = total / count
        yield {"file": str(file), "tokens": len(ids), "loss": loss, "perplexity": _exp(loss)}


def _outputs(loaded: LoadedRun, x: np.ndarray) -> np.ndarray:
    with no_grad():
        output: np.ndarray = loaded.model(Tensor(x)).numpy()
    return output


def _classes(scores: np.ndarray, classes: Sequence[str], top: int) -> Json:
    chances = probabilities(scores[np.newaxis])[0]
    row: Json = {}
    for place, i in enumerate(np.argsort(-chances, kind="stable")[:top], 1):
        number = "" if place == 1 else f" {place}"
        row |= {f"class{number}": classes[i], f"probability{number}": round(float(chances[i]), 6)}
    return row


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
