"""Batch normalization under the name that it has in programs for several machines."""

from __future__ import annotations

from ..backend_selection import Device
from ..typing import DTypeLike
from .batch_norm import _BatchNorm
from .module import Module


class SyncBatchNorm(_BatchNorm):
    """Normalize each channel (axis 1) over all other axes; needle has one process.

    PyTorch's layer takes the statistics of all processes that train together. Here there is one, so
    that it behaves as `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d` do.

    Parameters
    ----------
    dim : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics, in [0, 1]; with None they are the mean of
        all batches'.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the batch's, too.
    process_group : object
        Accepted as in PyTorch.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Sequential(ndl.nn.Conv2d(3, 8, 3), ndl.nn.BatchNorm2d(8))
    >>> ndl.nn.SyncBatchNorm.convert_sync_batchnorm(model)[1]
    SyncBatchNorm(8, eps=1e-05, momentum=0.1)
    """

    _ndims, _wanted = tuple(range(2, 33)), "(N, dim, …)"

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: object = None,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__(dim, eps, momentum, device, dtype, affine, track_running_stats)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: object = None) -> Module:
        """Put a SyncBatchNorm with the same tensors in the place of each batch norm in `module`.

        Returns `module`, or the new layer where `module` is a batch norm itself.
        """
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            return cls._of(module)
        for name, child in list(module.named_children()):
            converted = cls.convert_sync_batchnorm(child)
            if converted is not child:
                _replace(module, name, converted)
        return module

    @classmethod
    def _of(cls, layer: _BatchNorm) -> SyncBatchNorm:
        converted = cls.__new__(cls)
        vars(converted).update(vars(layer))
        return converted


def _replace(module: Module, name: str, child: Module) -> None:
    """Put a module at a name of `named_children`, also into a list or a dict."""
    *path, last = name.split(".")
    if not path:
        setattr(module, last, child)
        return
    holder = getattr(module, path[0])
    for key in path[1:]:
        holder = holder[int(key)] if isinstance(holder, (list, tuple)) else holder[key]
    holder[int(last) if isinstance(holder, list) else last] = child
