"""Mistakes of people who know PyTorch and NumPy: each error has a sentence with the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.data import DataLoader, TensorDataset
from needle.jit import TraceError
from needle.nn import functional as F
from needle.optim import lr_scheduler

ELSEWHERE = ndl.cpu_numpy() if ndl.default_device() != ndl.cpu_numpy() else ndl.cpu()


def array(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randn(*shape).astype("float32")


X = ndl.tensor(array(4, 3))
LABELS = ndl.tensor(np.array([0, 1, 2, 0]))
SERIES = ndl.tensor(array(5, 4, 3))


def linear() -> nn.Linear:
    return nn.Linear(3, 2)


def sgd() -> optim.SGD:
    return optim.SGD(linear().parameters(), lr=0.1)


def samples() -> list:
    return [array(3), array(4)]


class NoForward(nn.Module):
    def foward(self, x: ndl.Tensor) -> ndl.Tensor:
        return x


class NoReturn(nn.Module):
    def forward(self, x: ndl.Tensor) -> None:
        F.relu(x)


class SetOfLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = {linear(), linear()}


class PlainTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = ndl.Tensor(array(3))


class Scale(nn.Module):
    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        return 2 * x


def overwritten(value: object) -> None:
    linear().weight = value


def in_place(change: Callable[[ndl.Tensor], object]) -> None:
    change(linear().weight)


def subtracted(w: ndl.Tensor) -> None:
    w -= 0.1


def zeroed(w: ndl.Tensor) -> None:
    w[0] = 0


class Mistake(NamedTuple):
    name: str
    make: Callable[[], object]
    error: type[Exception]
    says: str  # what came, what was expected or what to write


MISTAKES = [
    # ---- a text, None or a list where a number or a Tensor belongs
    Mistake("text as an operand", lambda: X + "1", TypeError, "got str: write float(x)"),
    Mistake("text as data", lambda: ndl.tensor("1.0"), TypeError, "must be real numbers"),
    Mistake("text as a size", lambda: nn.Linear("3", 2), TypeError, "must be an integer, got '3'"),
    Mistake("text as a shape", lambda: ndl.zeros("3"), TypeError, "[zeros] the shape must be made"),
    Mistake("text as a rate", lambda: nn.Dropout("0.5"), TypeError, "must be a number, got '0.5'"),
    Mistake("percent as a rate", lambda: nn.Dropout(50), ValueError, "p must be in [0, 1], got 50"),
    Mistake("float as a size", lambda: nn.Linear(3.0, 2), TypeError, "must be an integer, got 3.0"),
    Mistake("unknown dtype", lambda: X.to("floaty"), TypeError, "use one of bool, uint8, int32"),
    Mistake("unknown device", lambda: X.to("gpu"), TypeError, "or a device: cpu, cpu_numpy, cuda"),
    Mistake("None as an operand", lambda: X + None, TypeError, "lacks its return gives None"),
    Mistake("list into a layer", lambda: linear()([[1.0, 2.0, 3.0]]), TypeError, "ndl.tensor(x)"),
    Mistake("list of Tensors", lambda: linear()([X, X]), TypeError, "write ndl.stack(x)"),
    Mistake("sum of a list", lambda: ndl.sum([X, X]), TypeError, "write ndl.stack(a)"),
    Mistake(
        "gradients of Tensors in lists", lambda: ndl.tensor([[X], [linear()(X)]]), ValueError,
        "ndl.stack",
    ),
    Mistake("ragged lists", lambda: ndl.tensor([[1, 2], [3]]), ValueError, "different lengths"),
    Mistake("cat of two", lambda: ndl.cat(X, X), TypeError, "got Tensor: write [x, y]"),
    # ---- a forgotten .item()
    Mistake("format", lambda: f"{X:.3f}", ValueError, "x.item() of one element, or x.mean()"),
    Mistake("item of many", lambda: X.item(), ValueError, "reduce it first, as by .mean()"),
    Mistake("truth", lambda: bool(X > 0), ValueError, "use .any() or .all()"),
    Mistake("range", lambda: range(ndl.tensor(3.0)), TypeError, "write int(x)"),
    Mistake("len of a loss", lambda: len(X.sum()), TypeError, "x.item() gives it"),
    Mistake("backward of a number", lambda: X.sum().item().backward(), AttributeError, "backward"),
    # ---- labels
    Mistake(
        "float labels", lambda: F.cross_entropy(X, ndl.tensor([0.0, 1.0, 2.0, 0.0])), TypeError,
        "target.long()",
    ),
    Mistake(
        "one-hot integers", lambda: F.cross_entropy(X, ndl.tensor(np.eye(4, 3, dtype="int64"))),
        ValueError, "write target.argmax(1)",
    ),
    Mistake(
        "a column of labels", lambda: F.cross_entropy(X, LABELS.reshape(4, 1)), ValueError,
        "got (4, 1): write target.squeeze(1)",
    ),
    Mistake(
        "labels out of range", lambda: F.cross_entropy(X, LABELS + 1), IndexError,
        "label 3 is out of range for 3 classes",
    ),
    Mistake("too few labels", lambda: F.cross_entropy(X, LABELS[:3]), ValueError, "got (3,)"),
    Mistake(
        "float labels of nll_loss", lambda: F.nll_loss(X, ndl.tensor([0.0, 1.0, 2.0, 0.0])),
        TypeError, "target.long()",
    ),
    Mistake(
        "logits as probabilities", lambda: F.binary_cross_entropy(X, ndl.zeros(4, 3)), ValueError,
        "BCEWithLogitsLoss",
    ),
    Mistake(
        "a column of targets", lambda: F.mse_loss(X[:, :1], X[:, 0]), ValueError,
        "must have one shape, got (4, 1) and (4,)",
    ),
    # ---- NumPy
    Mistake("array into Linear", lambda: linear()(array(4, 3)), TypeError, "ndl.tensor(x)"),
    Mistake("array into ReLU", lambda: F.relu(array(3)), TypeError, "write ndl.tensor(a)"),
    Mistake("array into Embedding", lambda: nn.Embedding(5, 3)(array(3)), TypeError, "got ndarray"),
    Mistake("array into LSTM", lambda: nn.LSTM(3, 4)(array(5, 4, 3)), TypeError, "ndl.tensor(x)"),
    Mistake("array in cat", lambda: ndl.cat([X, array(4, 3)]), TypeError, "write ndl.tensor(x)"),
    Mistake(
        "array as logits", lambda: F.cross_entropy(array(4, 3), LABELS), TypeError,
        "write ndl.tensor(logits)",
    ),
    Mistake("array to train", lambda: optim.SGD([array(3)], lr=0.1), TypeError, "nn.Parameter(x)"),
    # ---- devices and dtypes
    Mistake(
        "model elsewhere", lambda: nn.Linear(3, 2, device=ELSEWHERE)(X), ValueError,
        "x.to(device) for data, model.to(device) for a module",
    ),
    Mistake(
        "convolution elsewhere",
        lambda: nn.Conv2d(3, 4, 3, device=ELSEWHERE)(ndl.tensor(array(1, 3, 8, 8))), ValueError,
        "model.to(device) for a module",
    ),
    Mistake("operand elsewhere", lambda: X + X.to(ELSEWHERE), ValueError, "cannot be mixed"),
    Mistake(
        "float64 into LSTM", lambda: nn.LSTM(3, 4)(SERIES.double()), TypeError,
        "write x.to('float32')",
    ),
    Mistake(
        "gradient of integers", lambda: ndl.tensor([1, 2], requires_grad=True), TypeError,
        "needs a floating dtype, got int64",
    ),
    Mistake("minus a mask", lambda: -(X > 0), TypeError, "a == False (not a)"),
    Mistake("float mask", lambda: X.masked_fill(X, 0), TypeError, "write mask != 0"),
    Mistake("float index", lambda: X.gather(1, X), TypeError, "index must hold integers"),
    # ---- shapes
    Mistake(
        "channels last", lambda: nn.Conv2d(3, 4, 3)(ndl.tensor(array(1, 8, 8, 3))), ValueError,
        "write x.permute(0, 3, 1, 2)",
    ),
    Mistake(
        "gray images", lambda: nn.Conv2d(1, 4, 3)(ndl.tensor(array(5, 8, 8))), ValueError,
        "write x.unsqueeze(1)",
    ),
    Mistake(
        "image into Linear", lambda: nn.Linear(64, 2)(ndl.tensor(array(2, 1, 8, 8))), ValueError,
        "x.flatten(1), or nn.Flatten(), comes first",
    ),
    Mistake(
        "features of Linear", lambda: nn.Linear(5, 2)(X), ValueError,
        "x of shape (4, 3) needs a weight (3, n), got (5, 2)",
    ),
    Mistake("features of BatchNorm", lambda: nn.BatchNorm1d(5)(X), ValueError, "got (4, 3)"),
    Mistake("batch of one", lambda: nn.BatchNorm1d(3)(X[:1]), ValueError, "or eval()"),
    Mistake("features of LSTM", lambda: nn.LSTM(5, 4)(SERIES), ValueError, "(B, T, 5)"),
    Mistake(
        "h without c", lambda: nn.LSTM(3, 4)(SERIES, ndl.zeros(1, 4, 4)), TypeError,
        "the initial state is (h, c), got 1",
    ),
    Mistake(
        "state of GRU", lambda: nn.GRU(3, 4)(SERIES, (ndl.zeros(1, 4, 4),) * 2), TypeError,
        "the initial state is one Tensor",
    ),
    Mistake(
        "index of Embedding", lambda: nn.Embedding(2, 3)(LABELS), IndexError,
        "index 2 is out of range for 2 embeddings",
    ),
    Mistake(
        "negative index of Embedding", lambda: nn.Embedding(2, 3)(LABELS - 1), IndexError,
        "index -1 is out of range",
    ),
    Mistake("view", lambda: X.view(5, 3), ValueError, "12 elements the shape (5, 3)"),
    Mistake("matmul", lambda: X @ X, ValueError, "inner dimensions 3 and 4 differ"),
    Mistake("broadcast", lambda: X + ndl.ones(4, 2), ValueError, "shapes (4, 3) and (4, 2)"),
    Mistake("cat", lambda: ndl.cat([X, ndl.ones(4, 2)]), ValueError, "differ outside axis 0"),
    Mistake("stack", lambda: ndl.stack([X, ndl.ones(4, 2)]), ValueError, "[(4, 3), (4, 2)]"),
    Mistake("dim out of range", lambda: X.sum(dim=2), ValueError, "axis 2 is out of range"),
    Mistake("x.size[0]", lambda: X.size[0], TypeError, "write x.size(0) or x.shape[0]"),
    Mistake("x.shape()", lambda: X.shape(), TypeError, "not callable"),
    # ---- modules
    Mistake("nn.ReLU(x)", lambda: nn.ReLU(X), TypeError, "as in ReLU(…)(x)"),
    Mistake("nn.Linear(x, 2)", lambda: nn.Linear(X, 2), TypeError, "as in Linear(…)(x)"),
    Mistake("nn.Softmax(x)", lambda: nn.Softmax(X), TypeError, "as in Softmax(…)(x)"),
    Mistake(
        "loss without ()", lambda: nn.CrossEntropyLoss(X, LABELS), TypeError,
        "as in CrossEntropyLoss(…)(x)",
    ),
    Mistake("nn.MSELoss(x)", lambda: nn.MSELoss(X), TypeError, "as in MSELoss(…)(x)"),
    Mistake("own class", lambda: Scale(X), TypeError, "as in Scale(…)(x)"),
    Mistake("class in Sequential", lambda: nn.Sequential(nn.ReLU)(X), TypeError, "ReLU(…)(x)"),
    Mistake("layer as a Tensor", lambda: F.relu(nn.ReLU()), TypeError, "as in ReLU(…)(x)"),
    Mistake("list of layers", lambda: nn.Sequential([nn.ReLU()]), TypeError, "Sequential(*list)"),
    Mistake("calling a list", lambda: nn.ModuleList([linear()])(X), NotImplementedError, "members"),
    Mistake("no forward", lambda: NoForward()(X), NotImplementedError, "defines no forward"),
    Mistake("no return", lambda: F.relu(NoReturn()(X)), TypeError, "lacks its return"),
    Mistake("set of layers", lambda: SetOfLayers().parameters(), TypeError, "use a list"),
    Mistake("train('eval')", lambda: linear().train("eval"), TypeError, "must be True or False"),
    Mistake("weight = Tensor", lambda: overwritten(ndl.zeros(3, 2)), TypeError, "nn.Parameter(t"),
    Mistake("weight = array", lambda: overwritten(array(3, 2)), TypeError, ".data = tensor"),
    Mistake("leaf.add_", lambda: in_place(lambda w: w.add_(1)), RuntimeError, "needle.no_grad()"),
    Mistake("leaf -=", lambda: in_place(subtracted), RuntimeError, "no_grad()"),
    Mistake("leaf[0] =", lambda: in_place(zeroed), RuntimeError, "needle.no_grad()"),
    Mistake(
        "load of a module", lambda: linear().load_state_dict(linear()), TypeError,
        "write x.state_dict()",
    ),
    Mistake(
        "load of a path", lambda: linear().load_state_dict("model.pt"), TypeError, "must be a dict"
    ),
    Mistake(
        "arrays in PyTorch's shapes",
        lambda: linear().load_state_dict({"weight": array(2, 3), "bias": array(2)}), ValueError,
        "nn.from_torch_state_dict(model, state)",
    ),
    # ---- training
    Mistake("model to train", lambda: optim.SGD(linear(), lr=0.1), TypeError, "model.parameters()"),
    Mistake(
        "parameters, not called", lambda: optim.SGD(linear().parameters, lr=0.1), TypeError,
        "model.parameters(), called",
    ),
    Mistake("nothing to train", lambda: optim.SGD([], lr=0.1), ValueError, "params is empty"),
    Mistake(
        "plain Tensors", lambda: optim.SGD(PlainTensor().parameters(), lr=0.1), ValueError,
        "nn.Parameters, not plain Tensors",
    ),
    Mistake(
        "exhausted iterator", lambda: optim.SGD(iter(()), lr=0.1), ValueError,
        "an iterator is empty after its first use",
    ),
    Mistake(
        "names of parameters", lambda: optim.SGD(linear().named_parameters(), lr=0.1), TypeError,
        "write parameters(), not named_parameters()",
    ),
    Mistake(
        "not a leaf", lambda: optim.SGD([linear().weight * 2], lr=0.1), ValueError,
        "nn.Parameter(x)",
    ),
    Mistake("lr as text", lambda: optim.SGD(linear().parameters(), lr="0.1"), TypeError, "'0.1'"),
    Mistake("negative lr", lambda: optim.SGD(linear().parameters(), lr=-1), ValueError, "[0, inf)"),
    Mistake(
        "one beta", lambda: optim.Adam(linear().parameters(), betas=0.9), TypeError,
        "betas must be a pair",
    ),
    Mistake("no gradient", lambda: X.sum().backward(), RuntimeError, "nothing was recorded"),
    Mistake("integers", lambda: LABELS.sum().backward(), TypeError, "needs floating-point data"),
    Mistake(
        "schedule of a model", lambda: lr_scheduler.StepLR(linear(), 3), TypeError,
        "optimizer = optim.SGD(model.parameters(), lr=0.1)",
    ),
    Mistake(
        "schedule of a loss", lambda: lr_scheduler.StepLR(sgd(), 3).step(0.5), TypeError,
        "ReduceLROnPlateau",
    ),
    Mistake(
        "plateau without a loss", lambda: lr_scheduler.ReduceLROnPlateau(sgd()).step(), TypeError,
        "metrics",
    ),
    Mistake(
        "clip of a model", lambda: nn.utils.clip_grad_norm_(linear(), 1.0), TypeError,
        "write model.parameters()",
    ),
    Mistake(
        "clip at a text", lambda: nn.utils.clip_grad_norm_([], "1"), TypeError,
        "max_norm must be a number",
    ),
    Mistake("jit of a result", lambda: ndl.jit(linear()(X)), TypeError, "write ndl.jit(f)(x)"),
    # ---- data
    Mistake("loader of a number", lambda: DataLoader(5), TypeError, "__getitem__ and __len__"),
    Mistake("workers", lambda: DataLoader(samples(), num_workers=-1), ValueError, "negative"),
    Mistake("next of a loader", lambda: next(DataLoader(samples())), TypeError, "call iter()"),
    Mistake(
        "samples of two shapes", lambda: list(DataLoader(samples(), batch_size=2)), ValueError,
        "make them equal with a transform or pass a collate_fn",
    ),
    Mistake(
        "samples that are None", lambda: list(DataLoader([None, None], batch_size=2)), TypeError,
        "pass a collate_fn",
    ),
    Mistake(
        "a table that is a Linear's weight",
        lambda: setattr(nn.Embedding(5, 3), "weight", nn.Linear(3, 5).weight), ValueError,
        "head.tie(embedding.weight)",
    ),
    Mistake(
        "gradients of single rows", lambda: nn.EmbeddingBag(5, 3, sparse=True),
        NotImplementedError, "leave it out",
    ),
    Mistake("Tensors of two lengths", lambda: TensorDataset(X, X[1:]), ValueError, "equal length"),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_error_names_the_way_out(mistake: Mistake) -> None:
    with pytest.raises(mistake.error, match=re.escape(mistake.says)):
        mistake.make()


# ---- in compiled functions ----------------------------------------------------------------------


def printed(x: ndl.Tensor) -> ndl.Tensor:
    print(x.sum())
    return x


def branched(x: ndl.Tensor) -> ndl.Tensor:
    return x if x.sum() > 0 else -x


COMPILED = [
    (lambda x: x.numpy(), ".numpy()"),
    (lambda x: x * x.sum().item(), ".item()"),
    (lambda x: float(x.sum()), "Outside of the function"),
    (lambda x: f"{x.sum():.3f}", "printing it"),
    (lambda x: x[x > 0], "ndl.where does not"),
    (printed, "printing it"),
    (branched, "branching on it"),
]


@pytest.mark.parametrize("case", COMPILED)
def test_a_value_that_a_compiled_function_needs(case: tuple) -> None:
    function, says = case
    with pytest.raises(TraceError, match=re.escape(says)) as info:
        ndl.jit(function)(X)
    assert Path(__file__).name in str(info.value), "it names the line"


def test_the_mistake_in_a_compiled_function_is_the_eager_one() -> None:
    model = nn.Linear(3, 2)
    for function, error, says in [
        (lambda x: model(x.numpy_array), AttributeError, "numpy_array"),
        (lambda x: F.relu(nn.ReLU(x)), TypeError, "as in ReLU(…)(x)"),
        (lambda x: x @ x, ValueError, "inner dimensions 3 and 4 differ"),
        (lambda x: F.cross_entropy(x, x[:, 0]), TypeError, "target.long()"),
    ]:
        with pytest.raises(error, match=re.escape(says)):
            ndl.jit(function)(X)


def test_what_a_compiled_function_appends() -> None:
    losses = []

    @ndl.jit
    def step(x: ndl.Tensor) -> ndl.Tensor:
        losses.append(x.sum())
        return x

    step(X)
    with pytest.warns(UserWarning, match="return what is to be kept"):
        step(X)
    assert len(losses) == 2


# ---- PyTorch's objects --------------------------------------------------------------------------


def test_objects_of_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(3, 3)
    t = torch.zeros(4, 3)
    for make, says in [
        (lambda: linear()(t), "got torch.Tensor: write ndl.tensor(x.detach().cpu())"),
        (lambda: X + t, "write ndl.tensor(x.detach().cpu())"),
        (lambda: t + X, "write ndl.tensor(x.detach().cpu())"),
        (lambda: ndl.exp(t), "write ndl.tensor(a.detach().cpu())"),
        (lambda: ndl.jit(lambda x: x + t)(X), "write ndl.tensor(x.detach().cpu())"),
        (lambda: F.cross_entropy(X, torch.zeros(4)), "write ndl.tensor(x.detach().cpu())"),
        (lambda: optim.SGD(theirs.parameters(), lr=0.1), "nn.from_torch_state_dict"),
        (lambda: nn.Sequential(theirs), "must be a Module, got torch.Linear"),
        (lambda: ndl.zeros(3, dtype=torch.float32), "write ndl.float32"),
        (lambda: ndl.zeros(3, device=torch.device("cpu")), "write ndl.device(str(device))"),
        (lambda: nn.Linear(3, 3).load_state_dict(theirs.state_dict()), "from_torch_state_dict("),
    ]:
        with pytest.raises(TypeError, match=re.escape(says)):
            make()


# ---- what is no mistake -------------------------------------------------------------------------


def test_what_looks_like_a_mistake_and_works() -> None:
    assert nn.Linear(ndl.tensor(3), ndl.tensor(2))(X).shape == (4, 2)
    assert nn.CrossEntropyLoss(ndl.ones(3))(X, [0, 1, 2, 0]).shape == ()
    weights = F.binary_cross_entropy(ndl.sigmoid(X), ndl.zeros(4, 3))
    assert weights.item() > 0
    assert linear()(ndl.tensor(np.ones((4, 3), "uint8"))).dtype == "float32"
    assert F.cross_entropy(X, np.array([0, 1, 2, 0], "int32")).shape == ()
    assert nn.utils.clip_grad_norm_(linear().parameters(), float("inf")).item() == 0
