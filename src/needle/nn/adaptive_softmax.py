"""Log-softmax over many classes, of which few are frequent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .. import ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from .arguments import positive, positive_int
from .collection import ModuleList
from .container import Sequential
from .linear import Linear
from .module import Module


class AdaptiveLogSoftmaxResult(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` returns."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax whose rarer classes lie in clusters with fewer features.

    The head scores the frequent classes and the clusters; a cluster scores its own classes from
    in_features // div_value^(i + 1) features. Classes are numbered by falling frequency. Every
    cluster is computed for the whole batch, so that shapes depend on no value: what is saved are
    the features of rare classes.

    Parameters
    ----------
    in_features : int
        The number of features of the input.
    n_classes : int
        The number of classes.
    cutoffs : sequence of int
        The first classes of the clusters, rising, between 1 and n_classes - 1.
    div_value : float, default 4.0
        By how much each cluster has fewer features than the one before.
    head_bias : bool, default False
        Whether the head has a bias.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Raises
    ------
    ValueError
        If `cutoffs` do not rise or reach `n_classes`.

    References
    ----------
    Grave et al., "Efficient softmax approximation for GPUs", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[5, 10])
    >>> result = layer(ndl.ones(3, 8), ndl.tensor([0, 7, 19]))
    >>> result.output.shape, result.loss.shape, layer.log_prob(ndl.ones(3, 8)).shape
    ((3,), (), (3, 20))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_features = positive_int(name, "in_features", in_features)
        self.n_classes = positive_int(name, "n_classes", n_classes)
        first = [positive_int(name, "cutoffs", cutoff) for cutoff in cutoffs]
        if not first or first != sorted(set(first)) or first[-1] > n_classes - 1:
            raise ValueError(
                f"[{name}] cutoffs must rise and lie between 1 and n_classes - 1 = "
                f"{n_classes - 1}, got {list(cutoffs)}"
            )
        self.cutoffs = [*first, n_classes]
        self.div_value = positive(name, "div_value", div_value)
        self.head_bias = head_bias
        self.shortlist_size = first[0]
        self.n_clusters = len(first)
        self.head_size = first[0] + len(first)
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = max(1, int(in_features // div_value ** (i + 1)))
            classes = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, device, dtype),
                    Linear(width, classes, False, device, dtype),
                )
            )

    def forward(self, input: Tensor, target: Tensor) -> AdaptiveLogSoftmaxResult:
        """Compute the log-probability of each target, and the loss.

        Parameters
        ----------
        input : Tensor, shape (N, in_features) or (in_features,)
            The features.
        target : Tensor, shape (N,) or ()
            The classes.

        Returns
        -------
        output : Tensor, the shape of `target`
            The log-probabilities of the targets.
        loss : Tensor, shape ()
            Minus their mean.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        if input.shape[:-1] != target.shape or input.ndim not in (1, 2):
            raise ValueError(
                f"[AdaptiveLogSoftmaxWithLoss] input (N, {self.in_features}) needs a target (N,), "
                f"got {input.shape} and {target.shape}"
            )
        scores = self.log_prob(input)
        places = ops.unsqueeze(ops.to(target, "int64"), target.ndim)
        output = ops.squeeze(ops.take_along_dim(scores, places, target.ndim), target.ndim)
        return AdaptiveLogSoftmaxResult(output, -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes, (N, n_classes)."""
        axis = input.ndim - 1
        head = ops.log_softmax(self.head(input), axis)
        parts = [head[..., : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            place = self.shortlist_size + i
            parts.append(head[..., place : place + 1] + ops.log_softmax(cluster(input), axis))
        return ops.concatenate(parts, axis)

    def predict(self, input: Tensor) -> Tensor:
        """The most likely class of each row, (N,)."""
        return ops.argmax(self.log_prob(input), input.ndim - 1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.n_classes}, cutoffs={self.cutoffs[:-1]}"
