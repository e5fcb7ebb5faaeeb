"""Which data sets needle knows by name, where their files lie and how to get them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ... import environment
from ...files import user_cache_folder
from .cifar10 import FILES as CIFAR10_FILES
from .cifar10 import SUFFIXES as CIFAR10_SUFFIXES
from .cifar10 import check_batch

if TYPE_CHECKING:
    from .download import Report


@dataclass(frozen=True)
class _Source:
    """A data set's files with the SHA-256 of their (decompressed) contents, and its mirrors.

    Files without a SHA-256 are not downloaded but read as a check (`check_batch`); `by_hand` says
    where they come from. A file may lie there under its name with any of `suffixes`. `folder` is
    the data set's folder among others, by default its name.
    """

    name: str
    summary: str
    files: Mapping[str, str | None]
    mirrors: tuple[str, ...]
    folder: str = ""
    suffixes: tuple[str, ...] = ("",)
    by_hand: str = ""

    def find(self, folder: Path, file: str) -> Path:
        """Where a file lies, or should."""
        places = [folder / (file + suffix) for suffix in self.suffixes]
        return next((place for place in places if place.is_file()), places[0])


@dataclass(frozen=True)
class DatasetEntry:
    """A data set as `list_datasets` shows it.

    Parameters
    ----------
    name : str
        Its name, which `get` takes.
    summary : str
        What it is, in one line.
    folder : Path
        Where its files are.
    present : bool
        Whether they are there.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.list_datasets()[0].name
    'digits'
    """

    name: str
    summary: str
    folder: Path
    present: bool


_SOURCES = {
    source.name: source
    for source in (
        _Source("digits", "1,797 handwritten digits, 8×8; comes with needle", {}, ()),
        _Source(
            "mnist",
            "70,000 handwritten digits, 28×28; 11 MB",
            {
                "train-images-idx3-ubyte.gz":
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte.gz":
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte.gz":
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte.gz":
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
        _Source(
            "cifar10",
            "60,000 photographs of ten classes, 32×32; fetched by hand",
            dict.fromkeys((*CIFAR10_FILES[True], *CIFAR10_FILES[False])),
            (),
            folder="cifar-10-batches-py",
            suffixes=CIFAR10_SUFFIXES,
            by_hand="unpack cifar-10-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        _Source(
            "shakespeare",
            "40,000 lines of Shakespeare; 1.1 MB",
            {
                "input.txt":
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            },
            ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
            folder="tinyshakespeare",
        ),
    )
}  # fmt: skip


def default_folder(name: str) -> Path:
    """Return the folder of a data set's files, unless another is given.

    Parameters
    ----------
    name : str
        A name that `list_datasets` has.

    Returns
    -------
    Path
        In NEEDLE_DATA, or in the user's cache: XDG_CACHE_HOME/needle/data, with ~/.cache for
        XDG_CACHE_HOME (on Windows LOCALAPPDATA). Files that come with needle are in the package.

    Raises
    ------
    ValueError
        If the name is unknown.
    OSError
        If the user has no home.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.default_folder('digits').name
    'files'
    """
    source = _source(name)
    if not source.files:
        return Path(__file__).parent / "files"
    folder = source.folder or name
    if root := environment.folder("NEEDLE_DATA"):
        return root / folder
    return user_cache_folder() / "needle" / "data" / folder


def list_datasets() -> list[DatasetEntry]:
    """List every known data set and whether its files are here.

    Returns
    -------
    list of DatasetEntry

    Examples
    --------
    >>> import needle as ndl
    >>> [entry.name for entry in ndl.data.list_datasets()][:2]
    ['digits', 'mnist']
    """
    entries = []
    for source in _SOURCES.values():
        folder = default_folder(source.name)
        present = all(source.find(folder, file).is_file() for file in source.files)
        entries.append(DatasetEntry(source.name, source.summary, folder, present))
    return entries


def get(
    name: str, folder: str | os.PathLike[str] | None = None, report: Report | None = None
) -> Path:
    """Download the missing files of a data set.

    Parameters
    ----------
    name : str
        A name that `list_datasets` has.
    folder : str or path, optional
        The folder of the files; `default_folder(name)` if it is None.
    report : callable, optional
        Called as report(file, bytes so far, bytes in all) while data arrives.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the name is unknown.
    OSError
        If a file cannot be had (`DownloadError`, which says in one line what is missing) or
        written.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.get('digits').name
    'files'
    """
    from .download import DownloadError  # slow to import

    source = _source(name)
    target = default_folder(name) if folder is None or not source.files else Path(folder)
    for file in source.files:
        path = source.find(target, file)
        if path.is_file():
            continue
        try:
            _fetch(source, path, report)
        except DownloadError as error:
            raise DownloadError(
                f"{path} is missing: {error}. Put the file there, give its folder with "
                "--data-dir, or use `needle train digits`, which needs no files"
            ) from None
    return target


def verify(name: str, folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Check the files of a data set.

    Parameters
    ----------
    name : str
        A name that `list_datasets` has.
    folder : str or path, optional
        The folder of the files; `default_folder(name)` if it is None.

    Returns
    -------
    list of str
        What is wrong, one line each; empty if all files are right.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.verify('digits')
    []
    """
    source = _source(name)
    target = default_folder(name) if folder is None else Path(folder)
    problems = (_problem(source.find(target, file), sha) for file, sha in source.files.items())
    return [problem for problem in problems if problem is not None]


def _fetch(source: _Source, path: Path, report: Report | None) -> None:
    from .download import DownloadError, download

    sha256 = source.files[path.name]
    if sha256 is None:
        raise DownloadError(f"needle does not download it; {source.by_hand}")
    download(path, [mirror + path.name for mirror in source.mirrors], sha256, report)


def _problem(path: Path, sha256: str | None) -> str | None:
    from .download import check

    return check_batch(path) if sha256 is None else check(path, sha256)


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise ValueError(f"the data set must be one of {sorted(_SOURCES)}, got {name!r}")
    return _SOURCES[name]
