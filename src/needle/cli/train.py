"""`needle train`: from the command line to a run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import needle as ndl

from .. import data
from ..backend_ndarray import as_device
from ..files import check_writable
from ..train import (
    RUNS,
    CheckpointWarning,
    Config,
    Interrupted,
    RunFolder,
    Task,
    Terminated,
    Trainer,
    completed,
    limits,
    load_task,
    make_trainer,
    read_checkpoint,
    read_config,
    resolve,
    train_batches,
    with_fitting_batches,
)  # fmt: skip
from ..train.config import parse_setting, with_limits
from ..train.records import find_runs, read_record
from ..train.tasks import TASKS, task_kind
from .dry_run import show_dry_run
from .durations import seconds_of
from .errors import one_line_errors
from .facts import counted, duration, find_run
from .printing import complain, outlives_its_readers, say
from .progress import download_progress
from .training_progress import event, measure, reporter

NEWEST = "\0newest"  # what `--resume` without a run stands for
# What may be changed where a run goes on. All else would make it another run.
_CHANGEABLE = (
    "training.epochs", "training.steps", "training.time", "training.workers",
    "training.validate_every", "training.compiled", "checkpoints.every", "checkpoints.keep",
    "checkpoints.on_error", "run.device", "run.threads",
)  # fmt: skip

EPILOG = """\
Examples:

needle train digits

needle train shakespeare --time 10m --device cuda --amp bfloat16

needle train text book.txt --tokenizer bpe --vocabulary 2000

needle train images photos/ --set data.size=64 --workers 2

needle train csv houses.csv --target price

needle train mnist --model my_models:small_net --set model.width=256

needle train digits --dry-run

needle train --resume runs/digits

Exit codes: 0 done, 1 a mistake or a failure, 2 wrong usage; 130 stopped by Ctrl-C, 143 by SIGTERM,
129 by the end of its terminal: the run can be resumed.
"""


class TrainCommand(TyperCommand):
    """The command whose option --resume may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give --resume a value where it has none."""
        filled = []
        for i, argument in enumerate(args):
            filled.append(argument)
            following = args[i + 1] if i + 1 < len(args) else "-"
            if argument == "--resume" and following.startswith("-"):
                filled.append(NEWEST)
        return super().parse_args(ctx, filled)


def _task_names(incomplete: str) -> list[tuple[str, str]]:
    return [(k.name, k.summary) for k in TASKS.values() if k.name.startswith(incomplete)]


def _duration(value: str | float | None) -> float | None:
    return seconds_of(value) if isinstance(value, str) else value


def _about(panel: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **options)


WHAT, HOW, WHERE, SHOWN = "Data and model", "Training", "Machine and run", "Output"


def train(
    task: Annotated[
        str | None,
        typer.Argument(
            help=f"What to train: {', '.join(TASKS)}.",
            autocompletion=_task_names,
            show_default=False,
        ),
    ] = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own data: files of text, a folder of images, a CSV file."),
    ] = None,
    model: Annotated[
        str | None,
        _about(WHAT, help="gpt, lstm, …, or your own: package.module:function."),
    ] = None,
    data_dir: Annotated[
        Path | None, _about(WHAT, help="Folder that holds the data set's files.", file_okay=False)
    ] = None,
    tokenizer: Annotated[str | None, _about(WHAT, help="Of text: chars or bpe.")] = None,
    vocabulary: Annotated[int | None, _about(WHAT, help="Most byte pairs of bpe.")] = None,
    target: Annotated[str | None, _about(WHAT, help="Column of a CSV file to predict.")] = None,
    config: Annotated[
        Path | None,
        _about(
            WHAT, help="Settings from a TOML file, such as a run's config.toml.", dir_okay=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        _about(WHAT, "--set", help="Any setting: model.width=256.", metavar="NAME=VALUE"),
    ] = None,
    epochs: Annotated[
        int | None, _about(HOW, min=1, help="Passes over the data (100 steps each for text).")
    ] = None,
    steps: Annotated[int | None, _about(HOW, min=1, help="Steps of the optimizer.")] = None,
    time: Annotated[
        float | None,
        _about(HOW, help="How long: 90s, 10m, 2h.", parser=_duration, metavar="TIME"),
    ] = None,
    batch_size: Annotated[
        int | None, _about(HOW, min=1, help="Images, rows or pieces of text a batch.")
    ] = None,
    accumulate: Annotated[int | None, _about(HOW, min=1, help="Batches a step.")] = None,
    optimizer: Annotated[str | None, _about(HOW, help="adamw, adam, sgd, lion or muon.")] = None,
    lr: Annotated[float | None, _about(HOW, help="Highest learning rate.")] = None,
    schedule: Annotated[
        str | None, _about(HOW, help="onecycle, cosine, linear or constant.")
    ] = None,
    weight_decay: Annotated[float | None, _about(HOW, help="Weight decay.")] = None,
    clip: Annotated[float | None, _about(HOW, help="Largest norm of all gradients.")] = None,
    amp: Annotated[str | None, _about(HOW, help="Mixed precision: bfloat16 or float16.")] = None,
    val_every: Annotated[
        int | None, _about(HOW, min=1, help="Steps between validations; else each epoch.")
    ] = None,
    device: Annotated[str | None, _about(WHERE, help="cpu, cuda or cpu_numpy.")] = None,
    threads: Annotated[int | None, _about(WHERE, min=1, help="CPU threads.")] = None,
    workers: Annotated[
        int | None, _about(WHERE, min=0, help="Threads that load batches ahead.")
    ] = None,
    seed: Annotated[
        int | None, _about(WHERE, help="Seed of weights, shuffling and dropout; 0 by default.")
    ] = None,
    eager: Annotated[
        bool, _about(WHERE, "--eager", help="Run op by op; compile no programs.")
    ] = False,
    out: Annotated[Path, _about(WHERE, help="Folder of all runs.", file_okay=False)] = Path(RUNS),
    name: Annotated[
        str | None, _about(WHERE, help="Name of the run's folder; a number is added if taken.")
    ] = None,
    resume: Annotated[
        str | None,
        _about(WHERE, help="Go on with a run; without RUN with the newest.", metavar="[RUN]"),
    ] = None,
    checkpoint_every: Annotated[
        float | None,
        _about(
            WHERE,
            help="Time between checkpoints, 5m by default; epochs of 100 steps have one, too.",
            parser=_duration,
            metavar="TIME",
        ),
    ] = None,
    keep: Annotated[
        int | None, _about(WHERE, min=1, help="Checkpoints that are kept beside the best; 3.")
    ] = None,
    on_save_error: Annotated[
        str | None, _about(WHERE, help="warn goes on, stop ends the run.", metavar="warn|stop")
    ] = None,
    dry_run: Annotated[
        bool, _about(SHOWN, "--dry-run", help="Say what would be done, and train nothing.")
    ] = False,
    as_json: Annotated[bool, _about(SHOWN, "--json", help="Lines of JSON.")] = False,
    quiet: Annotated[bool, _about(SHOWN, "--quiet", "-q", help="Nothing but errors.")] = False,
    no_picture: Annotated[
        bool, _about(SHOWN, "--no-picture", help="Draw no report.png at the end.")
    ] = False,
) -> None:
    """Train a model. Everything about it is in the run's folder: see `needle runs`."""
    asked = {
        "data.tokenizer": tokenizer, "data.vocabulary": vocabulary, "data.target": target,
        "training.epochs": epochs, "training.steps": steps, "training.time": time,
        "training.batch_size": batch_size, "training.accumulate": accumulate,
        "training.optimizer": optimizer, "training.lr": lr, "schedule.name": schedule,
        "training.weight_decay": weight_decay, "training.clip": clip, "training.amp": amp,
        "training.validate_every": val_every, "training.workers": workers,
        "training.compiled": False if eager else None, "run.device": device,
        "run.threads": threads, "run.seed": seed, "run.name": name,
        "checkpoints.every": checkpoint_every, "checkpoints.keep": keep,
        "checkpoints.on_error": on_save_error,
    }  # fmt: skip
    show = _Output(as_json, quiet, not no_picture)
    with one_line_errors(), _short_warnings(), _stops():
        changes = read_config(config) if config is not None else {}
        changes |= dict(map(parse_setting, settings or []))
        changes |= {key: value for key, value in asked.items() if value is not None}
        task = task or changes.pop("run.task", None)
        changes.pop("run.task", None)
        if data_dir is not None:
            paths = [*(paths or []), data_dir]
        if resume is not None:
            folder = _run_to_resume(resume, task, name, out)
            changes.pop("run.name", None)
            _resume(folder, _changes_of_a_run(changes, paths, model), show)
            return
        if task is None:
            raise ValueError(f"say what to train: one of {', '.join(TASKS)}")
        if paths is None and "data.paths" in changes:
            paths = list(map(Path, changes.pop("data.paths")))
        changes.pop("data.paths", None)
        _check_paths(task, paths or [], data_dir)
        config_found = resolve(
            task, model=model, paths=paths or [], changes=changes, argv=sys.argv[1:]
        )
        if dry_run and as_json:
            raise ValueError("--dry-run has no JSON: it is for people")
        _start(config_found, out, show, dry_run, "training.batch_size" not in changes)


class _Output:
    """What is shown, and whether a picture is drawn."""

    def __init__(self, as_json: bool, quiet: bool, picture: bool) -> None:
        self.as_json, self.quiet, self.picture = as_json, quiet, picture

    def say(self, text: str) -> None:
        """A line for people."""
        if not (self.as_json or self.quiet):
            say(text)

    def event(self, **facts: Any) -> None:
        """A line for programs."""
        if self.as_json:
            event(facts)


def _start(config: Config, out: Path, show: _Output, dry_run: bool, may_shrink: bool) -> None:
    """Train a new run, or only say what would be done; `may_shrink`: with smaller batches where the
    data are few."""
    _use_machine(config)
    if not dry_run:
        _check_out(out)
    task = _data(config)
    config = completed(config, task)
    if may_shrink:
        config = with_fitting_batches(config, task)
    if dry_run:
        show_dry_run(config, task)
        return
    run = RunFolder.create(config.run.name, out)
    _run(config, task, run, show, resumed=False)


def _resume(folder: Path, changes: Mapping[str, Any], show: _Output) -> None:
    """Go on with a run where its newest checkpoint is."""
    run = RunFolder(folder)
    if not run.config():
        raise FileNotFoundError(f"{str(folder)!r} has no config.toml: it is no run of needle train")
    config = Config.from_dict(run.config()).changed(with_limits(changes))
    config.check()
    _use_machine(config)
    state = None
    if run.checkpoint_files():
        state = read_checkpoint(run)["objects"]["task"]["state"]
    elif not run.is_locked():  # it was killed before the first one
        run.keep_rows([])
        run.status_file.unlink(missing_ok=True)
    task = _data(config, state)
    config = completed(replace(config, data=_without_facts(config.data)), task)
    _run(config, task, run, show, resumed=state is not None)


@outlives_its_readers()
def _run(config: Config, task: Task, run: RunFolder, show: _Output, resumed: bool) -> None:
    config = replace(config, run=replace(config.run, name=run.name))
    report = reporter(task.unit, config.training.time, show.as_json, show.quiet)
    try:
        trainer = make_trainer(config, task, run, [report])
    except BaseException:  # what it refuses leaves no folder behind
        with suppress(OSError):  # one with files stays
            run.path.rmdir()
        raise
    if resumed:
        trainer.resume(run)
    run.write_config(config.to_dict())
    _say_what(config, task, trainer, run, show)
    try:
        trainer.fit(train_batches(config, task), task.validation, **limits(config.training))
    except (Interrupted, Terminated) as stop:
        where = f"stopped at {_place(trainer)}"
        show.say(f"{where}; go on with: needle train --resume {run.path}")
        show.event(event="stopped", step=trainer.progress.step, run=str(run.path))
        _picture(run, show)
        raise typer.Exit(int(stop.code or 1)) from None
    if resumed and not trainer.results:
        show.say(f"it is complete ({trainer.reason}); --epochs, --steps or --time make it longer")
        return
    _say_result(config, task, trainer, run, show)
    _picture(run, show)


def _say_what(config: Config, task: Task, trainer: Trainer, run: RunFolder, show: _Output) -> None:
    parameters = sum(p.size for p in trainer.model.parameters())
    show.say(
        f"{config.model['name']} on {task.title}\n"
        f"{task.train_size:,} training and {task.validation_size:,} validation {task.unit}, "
        f"{parameters:,} parameters, {config.run.device}, {counted(config.run.threads, 'thread')}"
    )
    went_on = f", goes on at step {trainer.progress.step:,}" if trainer.progress.step else ""
    show.say(f"run: {run.path}{went_on}")
    show.event(
        event="start", run=str(run.path), step=trainer.progress.step, parameters=parameters,
        title=task.title, train_size=task.train_size, validation_size=task.validation_size,
        config=config.to_dict(),
    )  # fmt: skip


def _say_result(
    config: Config, task: Task, trainer: Trainer, run: RunFolder, show: _Output
) -> None:
    found = {k: v for k, v in trainer.results.items() if isinstance(v, float)}
    best = trainer.best_so_far()
    result = ", ".join(f"{name} {measure(name, value)}" for name, value in found.items())
    seconds = trainer.progress.seconds
    took = duration(seconds) if seconds >= 60 else f"{seconds:.1f} s"
    show.say(
        f"{result} on {task.validation_size:,} validation {task.unit} after {took} "
        f"of training ({trainer.reason})"
    )
    if best:
        kind = best["metric"].partition("/")[2]
        show.say(f"best: {kind} {measure(kind, best['value'])} at step {best['step']:,}")
    show.say(f"look at it: needle eval {run.path}, needle plot {run.path}")
    show.event(
        event="end", run=str(run.path), step=trainer.progress.step, seconds=seconds, best=best,
        reason=trainer.reason, **found,
    )  # fmt: skip


def _picture(run: RunFolder, show: _Output) -> None:
    if not show.picture:
        return
    try:
        from ..train.pictures import save_report

        save_report(run.path)
    except ModuleNotFoundError as error:
        complain(f"warning: no report.png: {error.name} is not installed")
    except OSError as error:
        complain(f"warning: no report.png: {error}")


# ---- what is checked before anything is trained --------------------------------------------------


def _check_paths(task: str, paths: list[Path], data_dir: Path | None) -> None:
    kind = task_kind(task)
    if kind.data and paths and data_dir is None:
        raise ValueError(f"{task} takes no files; --data-dir names the folder of its data")
    if not kind.data and not paths:
        raise ValueError(f"{task} needs your data: needle train {task} {kind.paths}")


def _check_out(out: Path) -> None:
    """Whether a folder can be made in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / "check")


def _use_machine(config: Config) -> None:
    device = as_device(config.run.device)
    if not device.enabled():
        raise ValueError(f"{config.run.device} is not there: {device.status()}")
    if config.run.threads:
        ndl.set_num_threads(config.run.threads)


def _data(config: Config, state: dict[str, Any] | None = None) -> Task:
    """The task's data, downloaded first where files are missing."""
    kind = task_kind(config.run.task)
    if kind.data:
        folder = config.data["paths"][0] if config.data["paths"] else None
        with download_progress() as report:
            data.get(kind.data, folder, report)
    return load_task(config, state)


# ---- runs that go on -----------------------------------------------------------------------------


def _run_to_resume(resume: str, task: str | None, name: str | None, out: Path) -> Path:
    """The folder of the run that is meant. Raises FileNotFoundError where there is none."""
    if resume != NEWEST:
        inside = out / resume
        return inside if not Path(resume).exists() and inside.is_dir() else find_run(Path(resume))
    for folder in find_runs(out) if out.is_dir() else []:
        record = read_record(folder)
        of_task = task is None or record.config.get("run", {}).get("task") == task
        if of_task and (name is None or folder.name == name):
            return folder
    what = f" of {name or task}" if name or task else ""
    raise FileNotFoundError(f"there is no run{what} in {str(out)!r} that could be resumed")


def _changes_of_a_run(
    changes: dict[str, Any], paths: list[Path] | None, model: str | None
) -> dict[str, Any]:
    """The changes of a run that goes on. Raises ValueError for those that make it another one."""
    refused = sorted(key for key in changes if key not in _CHANGEABLE)
    refused += ["model.name"] if model is not None else []
    if refused:
        raise ValueError(
            f"a run that goes on keeps {', '.join(refused)}: start a new one to change it"
        )
    if paths:
        changes["data.paths"] = [str(path.absolute()) for path in paths]
    return changes


def _without_facts(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in ("title", "unit")}


def _place(trainer: Trainer) -> str:
    total = f" of {trainer.total_steps:,}" if trainer.total_steps else ""
    return f"step {trainer.progress.step:,}{total}"


@contextmanager
def _stops() -> Iterator[None]:
    """Ctrl-C outside of training, and the second one in it, end the command with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        complain("stopped at once; what the last checkpoint holds is kept")
        raise typer.Exit(130) from None


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings are one line each; those of checkpoints come each time."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            complain(f"warning: {message}")
        else:
            before(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        warnings.showwarning = show
        yield
