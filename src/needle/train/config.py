"""The configuration of a run: everything that was asked for, and every default that applied."""

from __future__ import annotations

import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ..backend_ndarray import default_device, simd_level
from ..backend_ndarray.device_cpu import get_num_threads
from ..typing import Json
from .options import check_options, converted, options_of, unknown
from .run import FORMAT
from .settings import Schedule, Settings, Training, choose, require
from .tasks import Task, TaskKind, find_model, model_options, task_kind

# What a run's file says beside its settings. A new run that is made from the file has its own.
_OF_ONE_RUN = re.compile(
    r"run\.(name|needle|format|created|simd)|data\.(title|unit)|command(\..*)?"
)


@dataclass(frozen=True)
class Run:
    """Where and by what a run was made: the table [run].

    Attributes
    ----------
    task, name : str
        What is trained, and the name of the run's folder.
    seed : int
    device : str
    threads : int
        Of the CPU.
    simd, needle, created : str
        The instruction set, needle's version and the time, for the record.
    format : int
    """

    task: str
    name: str = ""
    seed: int = 0
    device: str = ""
    threads: int = 0
    simd: str = ""
    needle: str = ""
    created: str = ""
    format: int = FORMAT

    def check(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        require("seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2³²)")
        require("threads", self.threads, 0 <= self.threads <= 255, "in [0, 255]")
        if self.name and (Path(self.name).name != self.name or self.name in (".", "..")):
            raise ValueError(f"[run] name must be the name of a folder, got {self.name!r}")


@dataclass(frozen=True)
class Checkpoints:
    """When checkpoints are written: the table [checkpoints].

    Attributes
    ----------
    every : float
        Seconds between them; there is one after each epoch, too.
    keep : int
        How many are kept beside the best.
    best : str
        What the best is the best by; "" for what suits the task.
    on_error : str
        "warn" goes on where one cannot be written, "stop" ends the run.
    """

    every: float = 300.0
    keep: int = 3
    best: str = ""
    on_error: str = "warn"

    def check(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        require("checkpoints.every", self.every, self.every > 0, "above 0")
        require("checkpoints.keep", self.keep, self.keep >= 1, "at least 1")
        choose("checkpoints.on_error", self.on_error, ("warn", "stop"))


@dataclass(frozen=True)
class Config:
    """A run's configuration, table by table, as `config.toml` holds it.

    Attributes
    ----------
    run : Run
    data : dict
        How the data are read: paths and the options of the task; in the end title and unit, too.
    model : dict
        `name` and the options that it is made with.
    training : Training
    schedule : Schedule
    checkpoints : Checkpoints
    command : dict
        The command line.
    """

    run: Run
    data: Json
    model: Json
    training: Training
    schedule: Schedule = field(default_factory=Schedule)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    command: Json = field(default_factory=dict)

    def to_dict(self) -> Json:
        """The tables, as TOML holds them."""
        return {name: _copied(getattr(self, name)) for name in _TABLES}

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Config:
        """The configuration whose `to_dict` this was.

        Raises ValueError, which names the place, for unknown or missing tables and settings, or
        another format; TypeError for a value of another type.
        """
        found: Json = {}
        for name in tables:
            if name not in _TABLES:
                raise ValueError(unknown("[config] the configuration", "table", name, _TABLES))
        for name in ("run", "data", "model", "training"):
            if name not in tables:
                raise ValueError(f"[config] the configuration lacks the table [{name}]")
        if (written := tables["run"].get("format", FORMAT)) != FORMAT:
            raise ValueError(
                f"[config] the configuration has format {written}, this version reads {FORMAT}"
            )
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise TypeError(f"[config] {name} must be a table, got {table!r}")
            kind = _TABLES[name]
            if kind is dict:
                found[name] = dict(table)
                continue
            values = {key: _setting(kind, name, key, value) for key, value in table.items()}
            if name == "run" and "task" not in values:
                raise ValueError("[config] [run] lacks task")
            found[name] = kind(**values)
        converted(found["model"].get("name"), str, "[config] model.name")
        return cls(**found)

    def changed(self, changes: Mapping[str, Any]) -> Config:
        """The configuration with settings such as {"training.lr": 0.01} in place of its own.

        Raises ValueError for unknown settings, with the nearest names, TypeError for other types.
        """
        tables = self.to_dict()
        known = settings_of(self)
        for key, value in changes.items():
            table, _, name = key.partition(".")
            if key not in known and not (table == "model" and name):
                raise ValueError(unknown("[config] the configuration", "setting", key, known))
            tables[table][name] = value
        config = Config.from_dict(tables)
        kind = task_kind(config.run.task)
        return replace(
            config, data=_checked_data(kind, config.data), model=_checked_model(config.model)
        )

    def check(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        for table in (self.run, self.training, self.schedule, self.checkpoints):
            table.check()


_TABLES: dict[str, type[Any]] = {
    "run": Run, "data": dict, "model": dict, "training": Training, "schedule": Schedule,
    "checkpoints": Checkpoints, "command": dict,
}  # fmt: skip


def resolve(
    task: str,
    *,
    model: str | None = None,
    paths: Sequence[str | os.PathLike[str]] = (),
    changes: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> Config:
    """The configuration of a task with what is asked for in place of its defaults.

    Parameters
    ----------
    task : str
    model : str, optional
        One of the task's models or "package.module:function"; by default the task's first.
    paths : sequence of str or path
        The files or the folder of the data, or of their own folder for a built-in task.
    changes : dict, optional
        Settings by their names, such as {"training.lr": 0.01, "model.width": 256}.
    argv : sequence of str
        The command line, for the record.

    Returns
    -------
    Config
        What depends on the data is not in it yet: see `completed`.

    Raises
    ------
    ValueError
        For an unknown task, model or setting, with the nearest names, or one out of range.
    TypeError
        For a setting of another type.

    Examples
    --------
    >>> from needle.train import resolve
    >>> config = resolve("digits", changes={"training.epochs": 3})
    >>> config.model["name"], config.training.epochs, config.training.batch_size
    ('mlp_resnet', 3, 100)
    """
    changes = with_limits(changes or {})
    kind = task_kind(task)
    default = next(iter(kind.models))
    model_name = model or changes.pop("model.name", default)
    changes.pop("model.name", None)
    settings = _settings(kind, model_name)
    config = Config(
        Run(
            task, _run_name(task, "" if model_name == default else model_name),
            device=default_device().name, threads=get_num_threads(),
            simd=simd_level(), needle=_version(), created=_now(),
        ),
        {**_data_options(kind), "paths": [os.path.abspath(os.fsdecode(path)) for path in paths]},
        {"name": model_name, **settings.options},
        settings.training, settings.schedule, Checkpoints(), {"argv": list(argv)},
    )  # fmt: skip
    config = config.changed(changes)
    config.check()
    return config


def with_limits(changes: Mapping[str, Any]) -> Json:
    """Changes that say how long to train replace all limits: of those not in them there is none.

    Examples
    --------
    >>> from needle.train.config import with_limits
    >>> with_limits({"training.steps": 50})
    {'training.epochs': 0, 'training.steps': 50, 'training.time': 0.0}
    """
    none = {"training.epochs": 0, "training.steps": 0, "training.time": 0.0}
    return {**none, **changes} if none.keys() & changes.keys() else dict(changes)


def completed(config: Config, task: Task) -> Config:
    """The configuration with what the data determine: the model's options, title and unit.

    Raises ValueError and TypeError for options that the model does not take.
    """
    given = dict(config.model)
    name = given.pop("name")
    best = config.checkpoints.best or task.best
    split, _, metric = best.partition("/")
    if split not in ("train", "validation") or metric not in ("loss", *task.metrics):
        known = [f"validation/{m}" for m in ("loss", *task.metrics)]
        raise ValueError(
            f"[config] checkpoints.best must be one of {', '.join(known)}, got {best!r}"
        )
    return replace(
        config,
        data={**config.data, "title": task.title, "unit": task.unit},
        model={"name": name, **model_options(name, given, task.options)},
        checkpoints=replace(config.checkpoints, best=best),
    )


def read_config(path: str | os.PathLike[str]) -> Json:
    """The settings {"training.lr": 0.01, …} of a TOML file; also of a run's `config.toml`.

    What belongs to the run that wrote the file, such as its name, is left out. Raises OSError, or
    ValueError that names the file.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"[config] {os.fsdecode(path)!r} is no TOML file: {error}") from None
    return {key: value for key, value in _flat(tables) if not _OF_ONE_RUN.fullmatch(key)}


def parse_setting(text: str) -> tuple[str, Any]:
    """The name and value of "training.lr=0.01"; a value that is no TOML is a text.

    Raises ValueError where there is no "=".
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ValueError(f"[config] --set takes NAME=VALUE, such as model.width=256, got {text!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def settings_of(config: Config) -> list[str]:
    """The names of all settings that can be changed: "training.lr", "model.width", …"""
    kind = task_kind(config.run.task)
    own = {"data": [*_data_options(kind), "paths"], "model": _model_settings(config)}
    return [
        f"{table}.{name}"
        for table, columns in _TABLES.items() if table != "command"
        for name in own.get(table) or [f.name for f in fields(columns)]
        if not _OF_ONE_RUN.fullmatch(f"{table}.{name}") or (table, name) == ("run", "name")
    ]  # fmt: skip


def load_task(config: Config, state: Json | None = None) -> Task:
    """The data of a configuration, ready for training and measuring.

    Parameters
    ----------
    config : Config
    state : dict, optional
        The `Task.state` of a checkpoint: its vocabulary, classes and columns are used.

    Returns
    -------
    Task

    Raises
    ------
    OSError
        If a file is missing.
    ValueError
        If the data are not what the task needs, or do not fit the state.
    """
    kind = task_kind(config.run.task)
    options = {
        key: value for key, value in config.data.items() if key not in ("paths", "title", "unit")
    }
    paths = [Path(path) for path in config.data["paths"]]
    if not kind.data:
        return kind.load(paths, state, **options)
    from .. import data

    folder = paths[0] if paths else data.default_folder(kind.data)
    return kind.load(folder, state, **options)


Table = TypeVar("Table")


def _copied(table: Any) -> Json:
    return dict(table) if isinstance(table, dict) else asdict(table)


def _setting(kind: type[Any], table: str, key: str, value: Any) -> Any:
    kinds = typing.get_type_hints(kind)
    if key not in kinds:
        raise ValueError(unknown(f"[config] [{table}]", "setting", key, kinds))
    return converted(value, kinds[key], f"[config] {table}.{key}")


def _data_options(kind: TaskKind) -> Json:
    """The options in [data] and their defaults."""
    known = options_of(kind.load)
    return {k: v for k, v in known.items() if k not in ("folder", "paths", "state")}


def _checked_data(kind: TaskKind, options: Json) -> Json:
    rest: Json = {key: options[key] for key in ("paths", "title", "unit") if key in options}
    own = {key: value for key, value in options.items() if key not in rest}
    paths = converted(rest.get("paths", []), list, "[config] data.paths")
    return {**check_options(kind.load, own, "[data]"), **rest, "paths": list(map(str, paths))}


def _checked_model(table: Json) -> Json:
    options = {key: value for key, value in table.items() if key != "name"}
    name = table["name"]
    return {"name": name, **check_options(find_model(name), options, f"[model] {name}")}


def _model_settings(config: Config) -> list[str]:
    return ["name", *options_of(find_model(str(config.model.get("name"))))]


def _settings(kind: TaskKind, model: str) -> Settings:
    """What the model starts from. Raises ValueError for one that the task cannot have."""
    if model in kind.models:
        return kind.models[model]
    if ":" not in model:
        raise ValueError(
            f"[train] {kind.name} trains one of {', '.join(kind.models)}, or a model of your own, "
            f"package.module:function; got {model!r}"
        )
    find_model(model)
    first = next(iter(kind.models.values()))
    return replace(first, options={})


def _run_name(task: str, model: str) -> str:
    last = model.rpartition(":")[2]
    return re.sub(r"[^\w.-]+", "-", f"{task}-{last}" if last else task)


def _flat(tables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, table in tables.items():
        if isinstance(table, Mapping):
            yield from ((f"{name}.{key}", value) for key, value in table.items())
        else:
            yield name, table


def _version() -> str:
    from .. import __version__

    return __version__


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
