"""Averages of weights: stochastic weight averaging and exponential moving averages.

model = nn.Sequential(...)
averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(0.999))   # alone: the mean of all
for batch in batches:
    ...
    optimizer.step()
    averaged.update_parameters(model)
update_bn(batches, averaged)                       # statistics of the averaged weights
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

from ..autograd import Tensor, no_grad
from ..backend_ndarray import is_float
from ..backend_selection import Device
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Module
from .optimizer import Optimizer
from .schedule import Schedule, cosine, count, each_group, line, of_group

Average = Callable[[Tensor, Tensor, int], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], int], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """Return the function of an exponential moving average, for `AveragedModel(avg_fn=)`."""
    if not 0 <= decay <= 1:
        raise ValueError(f"[get_ema_avg_fn] decay must be in [0, 1], got {decay}")
    return lambda average, value, number: decay * average + (1 - decay) * value


def get_swa_avg_fn() -> Average:
    """Return the function of the mean of all weights, the default of `AveragedModel`."""
    return lambda average, value, number: average + (value - average) / (number + 1)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """Return `get_ema_avg_fn(decay)` for lists, for `AveragedModel(multi_avg_fn=)`."""
    return _each(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """Return `get_swa_avg_fn()` for lists, for `AveragedModel(multi_avg_fn=)`."""
    return _each(get_swa_avg_fn())


def _each(average: Average) -> MultiAverage:
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], number: int) -> None:
        for mean, value in zip(averages, values, strict=True):
            mean[...] = average(mean, value, number).astype(mean.dtype)

    return update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's.

    Parameters
    ----------
    model : Module
        The model. It is copied; its parameters become the first values.
    device : Device or str, optional
        Where the averages are; the model's device where it is not given.
    avg_fn : callable, optional
        The new average, of the old one, the value and the number of averaged models; the mean of
        all where it is not given. `get_ema_avg_fn(decay)` is the exponential moving average.
    multi_avg_fn : callable, optional
        The same for lists: it changes the averages in place.
    use_buffers : bool, default False
        Whether buffers are averaged, too; otherwise they are copied at every update.

    Attributes
    ----------
    module : Module
        The copy.
    n_averaged : Tensor
        The number of averaged models.

    Raises
    ------
    ValueError
        If both `avg_fn` and `multi_avg_fn` are given.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Linear(1, 1, bias=False)
    >>> averaged = ndl.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 3.0):
    ...     model.weight.data = ndl.Tensor([[value]])
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item()
    2.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Device | str | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("[AveragedModel] takes avg_fn or multi_avg_fn, got both")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", Tensor(0, dtype="int64", requires_grad=False))
        if device is not None:
            self.to(device)
        self._update = multi_avg_fn or _each(avg_fn or get_swa_avg_fn())
        self.use_buffers = use_buffers

    def forward(self, *args: object, **options: object) -> object:
        """Call the averaged model; its parameters are those of the last update."""
        return self.module(*args, **options)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model` into the averages; the first ones are copied."""
        number = int(self.n_averaged.item())
        pairs = list(zip(self.module.parameters(), model.parameters(), strict=True))
        buffers = list(zip(self.module.buffers(), model.buffers(), strict=True))
        with no_grad():
            averaged = pairs + buffers * self.use_buffers if number else []
            averaged = [(mean, value) for mean, value in averaged if is_float(mean.dtype)]
            if averaged:
                means = [mean.detach() for mean, _ in averaged]
                values = [value.detach().to(mean.device) for mean, value in averaged]
                self._update(means, values, number)
            known = {id(mean) for mean, _ in averaged}
            for kept, value in pairs + buffers:
                if id(kept) not in known:
                    kept[...] = value.detach().to(kept.device)
            self.n_averaged[...] = number + 1


def update_bn(loader: Iterable[object], model: Module) -> None:
    """Compute the running statistics of a model's batch norms anew, as means over all batches.

    Parameters
    ----------
    loader : iterable
        The batches: inputs, or tuples and lists that begin with them.
    model : Module
        The model; it is in the mode it was in afterwards.
    """
    kinds = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
    norms = [module for _, module in model.named_modules() if isinstance(module, kinds)]
    if not norms:
        return
    kept = [norm.momentum for norm in norms]
    modes = [(module, module.training) for _, module in model.named_modules()]
    model.train()
    try:
        with no_grad():
            for number, batch in enumerate(loader):
                for norm in norms:
                    norm.momentum = 1 / (number + 1)
                model(batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


class SWALR(Schedule):
    """Bring the rate to that of weight averaging, where it stays.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    swa_lr : float or sequence of float
        The last rate, or that of each group.
    anneal_epochs : int, default 10
        The number of steps until then.
    anneal_strategy : {"cos", "linear"}, default "cos"
        Whether the rate follows half a cosine or a straight line.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.swa_utils.SWALR(optimizer, 0.5, anneal_epochs=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.75, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self.swa_lrs = each_group("SWALR", "swa_lr", swa_lr, optimizer)
        self.anneal_epochs = count("SWALR", "anneal_epochs", anneal_epochs, least=0)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"[SWALR] anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self._between = cosine if anneal_strategy == "cos" else line
        super().__init__(optimizer, last_epoch)

    def _toward(self, target: float, step: int, base: float) -> float:
        done = min(step / self.anneal_epochs, 1.0) if self.anneal_epochs else 1.0
        return self._between(base, target, done)

    def rate(self, step: int, base: float) -> float:
        return self._toward(self.swa_lrs[0], step, base)

    def _rates(self, step: int) -> list[float]:
        return [
            self._toward(of_group(self.swa_lrs, i), step, base)
            for i, base in enumerate(self.base_lrs)
        ]


__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip
