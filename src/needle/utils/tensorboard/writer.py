"""The writer of TensorBoard's files."""

from __future__ import annotations

import datetime
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ...autograd import Tensor
from . import summaries
from .records import content, double, number, record


def _default_edges() -> np.ndarray:
    """TensorBoard's buckets: 10 % wider from one to the next, on both sides of 0."""
    positive = 1e-12 * 1.1 ** np.arange(np.ceil(np.log(1e32) / np.log(1.1)))
    return np.concatenate([-positive[::-1], [0.0], positive])


class SummaryWriter:
    """Writes what TensorBoard shows, as `torch.utils.tensorboard.SummaryWriter` does.

    The package `tensorboard` is needed to look at it (`tensorboard --logdir runs`), not to write.

    Parameters
    ----------
    log_dir : str or path, optional
        The folder of the file; runs/<date>_<host> by default.
    comment : str, default ""
        Is added to the name of a default folder.
    purge_step : int, optional
        TensorBoard forgets events from this step on, which a run before the restart has written.
    max_queue, flush_secs : int
        Accepted as PyTorch's hints; the operating system buffers the file.
    filename_suffix : str, default ""
        Is added to the file's name.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from needle.utils.tensorboard import SummaryWriter
    >>> with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
    ...     writer.add_scalar("loss", 0.5, global_step=1)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        if not log_dir:
            now = datetime.datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self.filename_suffix = filename_suffix
        self._open()
        if purge_step is not None:
            # SessionLog with the status START
            self._write(content(7, number(1, 1)), purge_step, None)
        self._parts: dict[str, SummaryWriter] = {}

    def _open(self) -> None:
        folder = Path(self.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Two writers of one second have different files.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / (name + self.filename_suffix)).open("wb")
        self._write(content(3, "brain.Event:2"), None, None)

    def _write(self, what: bytes, step: int | None, walltime: float | None) -> None:
        if self._file.closed:  # as in PyTorch, a closed writer begins a new file
            self._open()
        event = double(1, time.time() if walltime is None else walltime)
        if step is not None:
            event += number(2, int(step))
        self._file.write(record(event + what))

    def _add(self, value: bytes, step: int | None, walltime: float | None) -> None:
        self._write(content(5, value), step, walltime)

    @property
    def path(self) -> Path:
        """The file that events are written to."""
        return Path(self._file.name)

    def get_logdir(self) -> str:
        """The folder of the file."""
        return self.log_dir

    def add_scalar(
        self,
        tag: str,
        scalar_value: float | Tensor,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """A point of a curve.

        Parameters
        ----------
        tag : str
            The name of the curve; "loss/train" is shown in the group "loss".
        scalar_value : number or Tensor of one element
            The value.
        global_step : int, optional
            Its place.
        walltime : float, optional
            Seconds since 1970; now by default.
        new_style, double_precision : bool
            Accepted; the value is written in the older format, which TensorBoard reads as well.

        Returns
        -------
        None
        """
        self._add(summaries.scalar(tag, _number(scalar_value)), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, float | Tensor],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Points of several curves in one diagram: each curve is a run of its own, in a subfolder.

        Parameters
        ----------
        main_tag : str
            The name of the diagram.
        tag_scalar_dict : mapping from str to number or Tensor of one element
            The values by the names of the curves.
        global_step : int, optional
            Their place.
        walltime : float, optional
            Seconds since 1970; now by default.

        Returns
        -------
        None
        """
        for tag, value in tag_scalar_dict.items():
            folder = os.path.join(self.log_dir, f"{main_tag.replace('/', '_')}_{tag}")
            if folder not in self._parts:
                self._parts[folder] = SummaryWriter(folder, filename_suffix=self.filename_suffix)
            self._parts[folder].add_scalar(main_tag, value, global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Tensor | np.ndarray,
        global_step: int | None = None,
        bins: str | int | np.ndarray = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """How values are distributed.

        Parameters
        ----------
        tag : str
            The name.
        values : Tensor or array
            Of any shape.
        global_step : int, optional
            The place.
        bins : str, int or array, default "tensorflow"
            The edges of the buckets; others than the default as for `numpy.histogram`.
        walltime : float, optional
            Seconds since 1970; now by default.
        max_bins : int, optional
            Accepted; all buckets are written.

        Returns
        -------
        None

        Raises
        ------
        ValueError
            If there are no values, or some are NaN or infinite.
        """
        numbers = _array(values).astype(np.float64).reshape(-1)
        if not numbers.size or not np.isfinite(numbers).all():
            raise ValueError(
                f"[add_histogram] {tag!r}: the values must be finite, and at least one"
            )
        edges = _EDGES if isinstance(bins, str) and bins == "tensorflow" else None
        if edges is None:
            edges = np.histogram_bin_edges(numbers, bins)
        self._add(summaries.histogram(tag, numbers, edges), global_step, walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Tensor | np.ndarray,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """An image.

        Parameters
        ----------
        tag : str
            The name.
        img_tensor : Tensor or array
            Bytes, or numbers in [0, 1].
        global_step : int, optional
            The place.
        walltime : float, optional
            Seconds since 1970; now by default.
        dataformats : {"CHW", "HWC", "HW"}, default "CHW"
            The order of the axes.

        Returns
        -------
        None

        Raises
        ------
        ValueError
            If the axes do not fit, or there are not 1, 3 or 4 channels.
        """
        pixels = _array(img_tensor)
        if (
            sorted(dataformats) not in (["C", "H", "W"], ["H", "W"])
            or len(dataformats) != pixels.ndim
        ):
            raise ValueError(
                f"[add_image] {tag!r}: dataformats {dataformats!r} does not fit the shape "
                f"{pixels.shape}"
            )
        pixels = (
            pixels.transpose([dataformats.index(axis) for axis in "HWC"])
            if pixels.ndim == 3
            else pixels[:, :, None]
        )
        if pixels.dtype != np.uint8:
            pixels = np.clip(pixels * 255.0, 0, 255).astype(np.uint8)
        self._add(summaries.image(tag, pixels), global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Tensor | np.ndarray,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Images side by side.

        Parameters
        ----------
        tag : str
            The name.
        img_tensor : Tensor or array
            Bytes, or numbers in [0, 1].
        global_step : int, optional
            The place.
        walltime : float, optional
            Seconds since 1970; now by default.
        dataformats : {"NCHW", "NHWC"}, default "NCHW"
            The order of the axes.

        Returns
        -------
        None

        Raises
        ------
        ValueError
            If the axes do not fit.
        """
        images = _array(img_tensor)
        if images.ndim != 4 or dataformats not in ("NCHW", "NHWC"):
            raise ValueError(
                f"[add_images] {tag!r}: dataformats {dataformats!r} does not fit the shape "
                f"{images.shape}"
            )
        rows = images.transpose([dataformats.index(axis) for axis in "HNWC"])
        height, count, width, channels = rows.shape
        row = rows.reshape(height, count * width, channels)
        self.add_image(tag, row, global_step, walltime, "HWC")

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text, which is shown as Markdown.

        Parameters
        ----------
        tag : str
            The name.
        text_string : str
            The text.
        global_step : int, optional
            The place.
        walltime : float, optional
            Seconds since 1970; now by default.

        Returns
        -------
        None
        """
        self._add(summaries.text(tag, text_string), global_step, walltime)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, bool | str | float | int],
        metric_dict: Mapping[str, float | Tensor],
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Settings of a run and what it reached: a table as text, and a curve for each metric.

        Parameters
        ----------
        hparam_dict : mapping from str to bool, str or number
            The settings.
        metric_dict : mapping from str to number or Tensor of one element
            The metrics.
        run_name : str, optional
            The name of the text; "hparams" by default.
        global_step : int, optional
            The place.

        Returns
        -------
        None
        """
        rows = {**hparam_dict, **{name: _number(x) for name, x in metric_dict.items()}}
        table = "\n".join(["|name|value|", "|-|-|", *(f"|{k}|{v}|" for k, v in rows.items())])
        self.add_text(run_name or "hparams", table, global_step)
        for name, value in metric_dict.items():
            self.add_scalar(name, value, global_step)

    def flush(self) -> None:
        """Write what is buffered to the disk.

        Returns
        -------
        None
        """
        for writer in (self, *self._parts.values()):
            if not writer._file.closed:
                writer._file.flush()

    def close(self) -> None:
        """Close the files. What is added later begins new ones.

        Returns
        -------
        None
        """
        for writer in (self, *self._parts.values()):
            writer._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_EDGES = _default_edges()


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _number(value: float | Tensor) -> float:
    return float(value.item() if isinstance(value, (Tensor, np.generic, np.ndarray)) else value)
