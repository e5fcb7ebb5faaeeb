"""Data sets made of others, streams, and batches of any structure."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import data


class Letters(data.IterableDataset):
    """A stream of letters."""

    def __init__(self, letters):
        self.letters = letters

    def __iter__(self):
        return iter(self.letters)


class Counted(Letters):
    """A stream of known length."""

    def __len__(self):
        return len(self.letters)


def test_tensor_dataset_gathers_batches_on_the_device(device):
    x = ndl.Tensor(np.arange(12).reshape(6, 2), device=device, dtype="float32")
    dataset = data.TensorDataset(x, np.arange(6))
    assert len(dataset) == 6
    batches = list(data.DataLoader(dataset, 4))
    assert [b[0].device for b in batches] == [device, device]
    assert batches[1][0].tolist() == [[8, 9], [10, 11]]
    assert batches[1][1].tolist() == [4, 5]
    assert not batches[0][0].requires_grad
    (half,) = data.DataLoader(dataset, 6, dtype="float16")
    assert half[0].dtype == "float16"
    assert [y.tolist() for _, y in data.DataLoader(dataset, batch_size=None)] == list(range(6))
    for bad in ((), (np.ones(2), np.ones(3)), (np.float32(1),)):
        with pytest.raises(ValueError, match="equal length"):
            data.TensorDataset(*bad)


def test_stack_dataset():
    both = data.StackDataset([1, 2], ["a", "b"])
    assert list(both) == [(1, "a"), (2, "b")]
    (batch,) = data.DataLoader(data.StackDataset(x=[1, 2], name=["a", "b"]), 2)
    assert batch["x"].tolist() == [1, 2]
    assert batch["name"] == ["a", "b"]
    for positions, names in (((), {}), (([1],), {"x": [1]}), (([1], [1, 2]), {})):
        with pytest.raises(ValueError, match="StackDataset"):
            data.StackDataset(*positions, **names)


def test_concat_dataset_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    parts = [[1, 2, 3], [], [4], [5, 6]]
    ours, theirs = data.ConcatDataset(parts), torch.utils.data.ConcatDataset(parts)
    assert len(ours) == len(theirs)
    assert ours.cumulative_sizes == theirs.cumulative_sizes
    assert [ours[i] for i in range(-6, 6)] == [theirs[i] for i in range(-6, 6)]
    numbers = data.NDArrayDataset(np.arange(3))
    assert [int(x) for (x,) in numbers + numbers] == [0, 1, 2, 0, 1, 2]
    for wrong in (6, -7):
        with pytest.raises(IndexError, match="of 6 samples"):
            ours[wrong]
    with pytest.raises(ValueError, match="at least one"):
        data.ConcatDataset([])
    with pytest.raises(TypeError, match="ChainDataset"):
        data.ConcatDataset([Letters("ab")])


def test_chain_dataset():
    chain = Letters("ab") + Letters("c")
    assert list(chain) == ["a", "b", "c"]
    assert [*data.DataLoader(chain, 2)] == [["a", "b"], ["c"]]
    assert len(data.ChainDataset([Counted("ab"), Counted("c")])) == 3
    with pytest.raises(TypeError, match="ConcatDataset"):
        data.ChainDataset([[1]])


@pytest.mark.parametrize("lengths", [[3, 7], [0.5, 0.5], [0.33, 0.33, 0.34], [0, 10], [1.0]])
@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_random_split_has_the_lengths_of_pytorch(lengths, kind):
    torch = pytest.importorskip("torch")
    parts = data.random_split(range(10), lengths, kind(0))
    assert [len(p) for p in parts] == [
        len(p) for p in torch.utils.data.random_split(range(10), lengths)
    ]
    assert sorted(i for part in parts for i in part) == list(range(10))
    again = data.random_split(range(10), lengths, generator=kind(0))
    assert [list(p) for p in parts] == [list(p) for p in again]


@pytest.mark.parametrize("lengths", [[3, 6], [0.5, 0.6], [-1, 11]])
def test_random_split_refuses_other_lengths(lengths):
    with pytest.raises(ValueError, match="random_split"):
        data.random_split(range(10), lengths)


def test_lengths_of_loaders_of_streams():
    stream = Counted("abcde")
    assert len(data.DataLoader(stream, 2)) == 3
    assert len(data.DataLoader(stream, 2, drop_last=True)) == 2
    assert len(data.DataLoader(stream, None)) == 5
    assert [*data.DataLoader(stream, 2, drop_last=True)] == [["a", "b"], ["c", "d"]]
    assert [*data.DataLoader(stream, None)] == list("abcde")
    with pytest.raises(TypeError):
        len(data.DataLoader(Letters("ab")))
    for options in ({"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}):
        with pytest.raises(ValueError, match="no indices"):
            data.DataLoader(stream, **options)
    with pytest.raises(ValueError, match="batch_size"):
        data.DataLoader(stream, 0)
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(data.IterableDataset())


def test_samples_without_batches():
    samples = [{"x": np.ones(2), "name": "a"}, {"x": np.zeros(2), "name": "b"}]
    first, second = data.DataLoader(samples, batch_size=None)
    assert first["x"].tolist() == [1, 1]
    assert second["name"] == "b"
    doubled = data.DataLoader([1, 2, 3], None, sampler=[2, 0], collate_fn=lambda x: 2 * x)
    assert [x.item() for x in doubled] == [6, 2]
    assert len(doubled) == 2


def test_what_collate_refuses():
    cases = [
        ([{"a": 1}, {"b": 1}], ValueError, "different keys"),
        ([(1, 2), (1,)], ValueError, "different lengths"),
        ([object(), object()], TypeError, "samples of type object"),
        ([None], TypeError, "NoneType"),
    ]
    for samples, error, message in cases:
        with pytest.raises(error, match=message):
            data.default_collate(samples)


def test_a_collate_fn_may_return_anything():
    class Graph:
        pass

    graph = Graph()
    (batch,) = data.DataLoader([1], collate_fn=lambda samples: {"graph": graph, "n": 3})
    assert batch["graph"] is graph
    assert batch["n"].item() == 3


def test_the_name_of_pytorch():
    from needle.utils.data import DataLoader

    from needle.utils import data as by_utils

    assert by_utils is data
    assert DataLoader is data.DataLoader
