"""Trainer: the training loop for models of one's own."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, optim
from ..amp import GradScaler
from ..autograd import Tensor
from ..backend_selection import Device, as_device
from ..jit import Cost
from ..typing import Json
from . import state as states
from .callbacks.base import Callback
from .callbacks.checkpoint import Checkpoint
from .calls import Calls
from .checkpoints import newest
from .checks import (
    check_arguments,
    check_batches,
    check_data,
    check_limits,
    check_parts,
    checked_callbacks,
)
from .history import History
from .limits import Limits
from .loaders import Batches, Position, is_one_pass, length
from .measuring import measure_batches, own_modes, predict_batches
from .metrics import Metric
from .progress import Progress
from .recorder import Recorder
from .run import RunFolder
from .signals import Signals, stopped
from .steps import (
    ClosureStep,
    Loss,
    Sums,
    TrainingStep,
    make_forward,
    make_measure,
    samples_of,
    split,
)


class Trainer:
    """Trains a model: the loop, its measurements, its callbacks and its checkpoints.

    A batch is `(inputs, target)`. Inputs are the model's argument, a tuple of arguments or a dict
    of arguments by name. Forward pass, backward pass and update are one compiled program. Nothing
    waits for the device but rows of measurements and callbacks that ask for a value.

    Parameters
    ----------
    model : Module
        What is trained.
    optimizer : Optimizer
        Its optimizer.
    loss : callable
        `loss(output, target)` returns a Tensor with one number, the mean over the batch.
    metrics : dict of str to Metric, optional
        What else is measured, by the names in the rows.
    validation_loss : callable, optional
        The loss of validations and of `evaluate`; `loss` by default. Give the plain loss where
        `loss` is smoothed or weighted, so that runs can be compared.
    schedule : Schedule or ReduceLROnPlateau, optional
        Stepped after each step of the optimizer; a ReduceLROnPlateau after each validation, with
        its loss.
    callbacks : sequence of Callback
        Called in this order.
    amp : {"bfloat16", "float16"}, optional
        The dtype of mixed precision; float16 comes with a GradScaler.
    accumulate : int
        How many batches give the gradient of a step: the mean of theirs.
    clip : float, optional
        The largest norm of all gradients together.
    device : Device or str, optional
        Where the model and the batches are moved.
    compiled : bool
        Whether steps are compiled (`ndl.jit`) or run op by op.
    run : RunFolder or path, optional
        The folder of the run; a path is that of a new folder. Nothing is written without.
    log_every : int, optional
        Steps between rows of measurements; one a second by default, and at the ends of epochs.
    state : dict, optional
        What checkpoints shall keep besides, by names: objects with `state_dict` and
        `load_state_dict`, and generators of random numbers.

    Attributes
    ----------
    progress : Progress
        How far training has come.
    history : History
        The rows of measurements.
    results : dict
        What the last `evaluate` has found, arrays (as confusion matrices) too.
    last_batches : list of tuple
        The inputs and targets of the last step, on the device.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train import Trainer
    >>> x, model = ndl.randn(8, 2), ndl.nn.Linear(2, 1)
    >>> trainer = Trainer(model, ndl.optim.SGD(model.parameters(), lr=0.1), ndl.nn.MSELoss())
    >>> history = trainer.fit([(x, x.sum(1, keepdims=True))], epochs=3)
    >>> trainer.progress.step
    3
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        loss: Loss,
        *,
        metrics: Mapping[str, Metric] | None = None,
        validation_loss: Loss | None = None,
        schedule: Any = None,
        callbacks: Iterable[Callback] = (),
        amp: str | None = None,
        accumulate: int = 1,
        clip: float | None = None,
        device: Device | str | None = None,
        compiled: bool = True,
        run: RunFolder | str | os.PathLike[str] | None = None,
        log_every: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        validation_loss = loss if validation_loss is None else validation_loss
        losses = {"loss": loss, "validation_loss": validation_loss}
        check_parts(model, optimizer, losses, schedule)
        check_arguments(metrics or {}, amp, accumulate, clip, compiled, log_every, state or {})
        self.model, self.optimizer, self.criterion = model, optimizer, loss
        self.validation_criterion = validation_loss
        self.metrics = dict(metrics or {})
        self.schedule, self.callbacks = schedule, checked_callbacks(callbacks)
        self.amp, self.accumulate, self.clip, self.compiled = amp, accumulate, clip, compiled
        self.scaler = GradScaler() if amp == "float16" else None
        self.device = None if device is None else as_device(device)
        self.run = run if isinstance(run, RunFolder) or run is None else RunFolder(run)
        self.log_every = log_every
        self.objects = dict(state or {})
        self.config: Json = {}
        self.progress, self.history = Progress(), History()
        self.results: dict[str, float | np.ndarray] = {}
        self.last_batches: list[tuple[Any, Any]] = []
        self.total_steps: int | None = None
        self.total_epochs: int | None = None
        if self.device is not None:
            model.to(self.device)
        self._call = Calls(self)
        self._is_fitting = False
        self._has_begun = False  # whether the folder's run is this trainer's
        self._is_new_run = not isinstance(run, RunFolder)
        self._make_steps()
        self._recorder = Recorder(self)
        self._signals = Signals()
        self._reason: str | None = None
        self._error: BaseException | None = None
        self._validated_at = -1
        self._train: Batches = ()
        self._validation: Batches | None = None
        self._position: Position | None = None
        self.generators: Json = {}  # that training draws from, by name
        self._resumed: tuple[Json, Json] | None = None
        self._resumed_at: int | None = None

    def _make_steps(self) -> None:
        self._sums, self._measured = Sums(self.metrics), Sums(self.metrics)
        kind = ClosureStep if isinstance(self.optimizer, optim.LBFGS) else TrainingStep
        if kind is ClosureStep and (self.scaler or self.clip):
            raise ValueError("[Trainer] LBFGS takes neither amp='float16' nor clip")
        self._step = kind(
            self.model, self.optimizer, self.criterion, self._sums, self.metrics, amp=self.amp,
            scaler=self.scaler, accumulate=self.accumulate, clip=self.clip, compiled=self.compiled,
            on_gradients=[partial(method, self) for method in self._call.methods("on_gradients")],
        )  # fmt: skip
        self._measure = make_measure(
            self.model,
            self.validation_criterion,
            self._measured,
            self.metrics,
            self.amp,
            self.compiled,
        )
        self._forward = make_forward(self.model, self.amp, self.compiled)

    # ---- training -------------------------------------------------------------------------------

    def fit(
        self,
        train: Batches,
        validation: Batches | None = None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        time: float | None = None,
        validate_every: int | None = None,
    ) -> History:
        """Train until one of the limits is reached; they count from the beginning of the run.

        Parameters
        ----------
        train : iterable
            The batches of an epoch, anew at each iteration.
        validation : iterable, optional
            The batches to measure on.
        epochs, steps : int, optional
            How many epochs and steps of the optimizer there are, those of an earlier `fit` and of
            the run that was resumed included. An epoch in which the earlier `fit` ended goes on if
            `train` is the same object.
        time : float, optional
            Seconds of training, counted in the same way.
        validate_every : int, optional
            Steps between validations; by default one follows each epoch. One is always at the end.

        Returns
        -------
        History

        Raises
        ------
        ValueError
            If there is no limit, no batch, or batches that come only once are wanted again.
        TypeError
            If batches are no pairs, or there are none to go through.
        Interrupted, Terminated
            After SIGINT, SIGTERM or SIGHUP, once the step has ended and a checkpoint is written.
        """
        if self._is_fitting:
            raise RuntimeError("[fit] this trainer is in fit already; make another for the other")
        check_limits(epochs, steps, time, validate_every)
        check_data(train, validation, epochs, self.progress.epoch, validate_every)
        if isinstance(self.schedule, optim.ReduceLROnPlateau) and validation is None:
            raise ValueError("[fit] a ReduceLROnPlateau steps after validations: give validation")
        self._train, self._validation = train, validation
        self._limits = Limits(epochs, steps, time, validate_every)
        batches = length(train)
        self.total_epochs, self.total_steps = epochs, steps
        if steps is None and epochs is not None and batches is not None:
            self.total_steps = epochs * -(-batches // self.accumulate)
        with ExitStack() as stack:
            self._is_fitting = True
            stack.callback(setattr, self, "_is_fitting", False)
            stack.enter_context(own_modes(self.model))
            self._open_run(stack)
            self._signals = stack.enter_context(Signals())
            try:
                self._begin()
                self._loop()
                self._save_last()
                self._call.end()
            except BaseException as error:
                self._fail(error)
                raise
            self._end()
        return self.history

    def _open_run(self, stack: ExitStack) -> None:
        """Make the folder of a new run, and lock it."""
        checkpoint = self._checkpoint
        if self.run is None:
            return
        if self._is_new_run:
            path = self.run.path
            self.run = RunFolder.create(path.name, path.parent)
            self._is_new_run = False
        stack.enter_context(self.run.locked())
        if not self._has_begun and self._resumed is None and self.run.checkpoint_files():
            raise ValueError(
                f"[fit] {str(self.run.path)!r} holds a run already: call resume() to go on, or "
                "make a new folder with RunFolder.create"
            )
        self._has_begun = True
        if checkpoint is None:
            checkpoint = Checkpoint()
            self.callbacks.append(checkpoint)
        self.config = self._recorder.open(self.run)
        checkpoint.open(self.run, self._resumed_at)

    def _begin(self) -> None:
        """Take up what was resumed, and call the callbacks."""
        loaders = {"train": self._train, "validation": self._validation}
        self.generators = states.generators_of(self.model, self.objects, **loaders)
        before, self._position = self._position, Position(self._train, self.generators)
        if self._resumed is None and not self._position.goes_on_from(before):
            self.progress.batch = 0
        self._step.begin()
        if self._resumed is not None:
            data, now = self._resumed
            self._position.load_state_dict(data, now)
            states.set_random_states(now, self.generators)
        self._resumed = self._resumed_at = None
        self._on_step_end = self._call.methods("on_step_end")
        self._reason = self._error = None
        self._origin = clock.perf_counter() - self.progress.seconds
        self._recorder.begin()
        self._call.start()

    def _loop(self) -> None:
        if self.progress.batch and self.progress.batch == length(self._train):
            self._end_epoch()  # a signal came with its last step
        self._stop_at_limits()
        while self._reason is None:
            self._epoch()
        if self._signals.stop is None:
            self._validate()

    def _epoch(self) -> None:
        progress = self.progress
        assert self._position is not None
        if not progress.batch:
            self._call("on_epoch_start")
        expected = length(self._train)
        iterator = self._position.begin(progress.batch)
        self.model.train()
        step, sums, device, accumulate = self._step, self._sums, self.device, self.accumulate
        pending = 0
        for batch in iterator:
            inputs, target = split(batch, device, "fit")
            if not pending:
                self.last_batches = []
            self.last_batches.append((inputs, target))
            samples = samples_of(inputs, target)
            sums.add(samples, step(inputs, target))
            progress.batch += 1
            progress.samples += samples
            pending += 1
            if pending == accumulate:
                pending = 0
                self._finish_step(accumulate)
                self._after_step()
                # At the end of an epoch a limit waits for it, a signal does not.
                if self._reason is not None and (
                    progress.batch != expected or self._signals.stop is not None
                ):
                    return
        if pending:  # the data have ended, so what follows belongs to the end of the epoch
            self._finish_step(pending)
        self._end_epoch()

    def _finish_step(self, batches: int) -> None:
        """Update the model, and do what is due after the step."""
        progress, limits = self.progress, self._limits
        self._step.update(batches)
        progress.step += 1
        if self.schedule is not None and not isinstance(self.schedule, optim.ReduceLROnPlateau):
            self.schedule.step()
        now = clock.perf_counter()
        progress.seconds = now - self._origin
        for on_step_end in self._on_step_end:
            on_step_end(self)
        if self._recorder.is_due(now):
            self._recorder.train_row()
        if limits.validate_every is not None and progress.step % limits.validate_every == 0:
            self._validate()

    def _after_step(self) -> None:
        """Save, and see whether training ends."""
        if self._signals.pending:
            self._heed_signals()
        self._stop_at_limits()
        if (saving := self._saving) is not None:
            saving.after_step(self)

    def _end_epoch(self) -> None:
        progress = self.progress
        if not progress.batch:
            if progress.epoch and is_one_pass(self._train):
                self.stop("the data are at their end")
                return
            raise ValueError(f"[fit] train gave no batch in epoch {progress.epoch + 1}")
        progress.epoch += 1
        progress.batch = 0
        self._recorder.train_row()
        if self._limits.validate_every is None:  # also after a signal: the epoch is over
            self._validate()
        self._call("on_epoch_end")
        self._after_step()

    def _validate(self) -> None:
        if self._validation is None or self._validated_at == self.progress.step:
            return
        self._recorder.train_row()
        self._call("on_validation_start")
        before = states.random_states(self.generators)
        with self._recorder.paused():
            self.results = self.evaluate(self._validation)
        # Training goes on with the same random numbers whether something was measured or not.
        states.set_random_states(before, self.generators)
        self._validated_at = self.progress.step
        row = self._recorder.validation_row(self.results)
        if isinstance(self.schedule, optim.ReduceLROnPlateau):
            self.schedule.step(row["loss"])
        self._call("on_validation_end", row)

    def _stop_at_limits(self) -> None:
        if self._reason is None:
            self._reason = self._limits.reached(self.progress)

    def _heed_signals(self) -> None:
        signals = self._signals
        signals.pending = False
        if signals.save:
            signals.save = False
            self.save()
        if signals.stop is not None:
            self.stop(f"{signals.stop.name} at step {self.progress.step}")

    def _save_last(self) -> None:
        """Save before the last calls, in which callbacks may give the model other weights."""
        if self._saving is not None:
            self._saving.save(self, wait=True)

    def _end(self) -> None:
        stop = self._signals.stop
        state = "finished" if stop is None else "interrupted"
        self._recorder.end(state, self._reason or self._where())
        if stop is not None:
            stopped(stop, self._where())

    def _where(self) -> str:
        where = f"stopped at step {self.progress.step}"
        if self.run is not None:
            where += f"; go on with resume({str(self.run.path)!r})"
        return where

    def _fail(self, error: BaseException) -> None:
        self._error = error
        if self._saving is not None and isinstance(error, Exception):
            with suppress(Exception):  # what ends training is the first error
                self._saving.finish(self)
        state = "failed" if isinstance(error, Exception) else "interrupted"
        self._recorder.end(state, f"{type(error).__name__}: {error}".rstrip(": "))
        self._call.fail(error)

    # ---- what callbacks use ---------------------------------------------------------------------

    def loss(self) -> float:
        """The loss of the last batch; waits for the device. RuntimeError before the first one."""
        if self.last_loss is None:
            raise RuntimeError("[Trainer] there is no loss before the first step")
        return float(np.asarray(self.last_loss)[0])

    @property
    def last_loss(self) -> Tensor | None:
        """The loss of the last batch and the metrics' statistics (1 + k,), not waited for."""
        return self._sums.last

    def stop(self, reason: str) -> None:
        """End `fit` after this step."""
        self._reason = reason

    @property
    def reason(self) -> str | None:
        """Why `fit` ends or has ended; None while it goes on."""
        return self._reason

    @property
    def error(self) -> BaseException | None:
        """The error that has ended `fit`; None where it ended otherwise."""
        return self._error

    def save(self) -> None:
        """Ask for a checkpoint after this step. Raises RuntimeError where there is no run."""
        if self.run is None or self._checkpoint is None:
            raise RuntimeError("[save] is for the time of a fit with Trainer(…, run='runs/name')")
        self._checkpoint.want()

    def higher_is_better(self, name: str) -> bool:
        """Whether a higher value of a measure is a better one."""
        return name in self.metrics and self.metrics[name].higher_is_better

    def epochs_done(self) -> float:
        """Epochs so far, the part of the present one included where its length is known."""
        progress, expected = self.progress, length(self._train)
        return progress.epoch + (progress.batch / expected if expected else 0.0)

    def best_so_far(self) -> Json | None:
        """The measure that the best checkpoint goes by, its best value, and at which step."""
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.value is None:
            return None
        return {"metric": checkpoint.best, "value": checkpoint.value, "step": checkpoint.step}

    def notify_checkpoint(self, path: Path) -> None:
        """Tell the callbacks that a checkpoint is on the disk."""
        self._recorder.status("running")
        self._call("on_checkpoint", path)

    def notify_row(self, row: Json) -> None:
        """Tell the callbacks of a row."""
        self._call("on_row", row)

    @property
    def _checkpoint(self) -> Checkpoint | None:
        return next((c for c in self.callbacks if isinstance(c, Checkpoint)), None)

    @property
    def _saving(self) -> Checkpoint | None:
        return None if self.run is None else self._checkpoint

    # ---- measuring ------------------------------------------------------------------------------

    def evaluate(self, batches: Batches) -> dict[str, float | np.ndarray]:
        """The mean loss and the metrics over batches, with the model in eval mode.

        Raises ValueError where there is no batch, TypeError for batches that are no pairs.
        """
        check_batches("evaluate", batches=batches)
        return measure_batches(self.model, self._measure, self._measured, batches, self.device)

    def predict(self, batches: Any) -> np.ndarray:
        """The outputs for inputs, or for all batches one after the other, in eval mode.

        Parameters
        ----------
        batches : Tensor, array or iterable
            The inputs of one batch, or batches: pairs (inputs, target), or inputs alone.

        Returns
        -------
        ndarray

        Raises
        ------
        ValueError
            If there is no batch.
        TypeError
            If the model returns something else than one Tensor.
        """
        if isinstance(batches, (Tensor, np.ndarray)):
            batches = [(batches, None)]
        check_batches("predict", batches=batches)
        return predict_batches(self.model, self._forward, batches, self.device)

    def step_cost(self) -> Cost | None:
        """The work of the compiled step for the last batch; None where it is not compiled."""
        return self._step.cost()

    # ---- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> Json:
        """What a checkpoint holds, between two steps of `fit`."""
        return states.gather(self)

    def data_state(self) -> Json:
        """The position in the data."""
        position = self._position or Position(self._train, self.generators)
        return position.state_dict()

    def metrics_state(self) -> Json:
        """The sums since the last row, and what was validated."""
        return {"sums": self._sums.state_dict(), "validated": self._validated_at}

    def resume(self, run: RunFolder | str | os.PathLike[str] | None = None) -> None:
        """Go on from a checkpoint: the next `fit` does what the one that was stopped would have.

        Parameters
        ----------
        run : RunFolder or path, optional
            A run, whose newest whole checkpoint is taken, or a checkpoint; the trainer's own run by
            default. A trainer without a run goes on in the checkpoint's.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        ValueError
            If it is damaged, or of another model, optimizer or schedule; the error lists what
            differs.
        """
        if run is None:
            if self.run is None:
                raise ValueError("[resume] needs a run: resume('runs/name')")
            run, self._is_new_run = self.run, False
        path, state = newest(run)
        states.restore(self, state)
        self.config = state["config"]
        self._sums.load_state_dict(state["metrics"]["sums"])
        self._validated_at = int(state["metrics"]["validated"])
        folder = path.resolve().parent.parent
        source = RunFolder(run) if Path(run).is_dir() else RunFolder(folder)
        self.history = History.of_file(source.rows()[: int(state["history"]["rows"])])
        if self.run is None and path.resolve() == source.checkpoint(self.progress.step).resolve():
            self.run, self._is_new_run = source, False
        self._resumed = state["data"], state["random"]
        self._resumed_at = self.progress.step
