"""Datasets, samplers, transforms and the loader."""

from __future__ import annotations

import collections
import gc
import itertools
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle import data
from needle.models import sample


class Items(data.Dataset):
    """Samples one by one: (array, label)."""

    def __init__(self, n=10, transforms=None):
        super().__init__(transforms)
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.apply_transforms(np.full((4, 4, 1), i, dtype="float32")), i


class Noise:
    """A transform that draws."""

    def __call__(self, x):
        return x + data.random_state().rand()


def labels(loader):
    return [batch[1].tolist() for batch in loader]


def test_batches_are_tuples_of_constant_tensors(device):
    loader = data.DataLoader(Items(5), batch_size=2, device=device)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    x, y = batches[0]
    assert (x.shape, y.shape) == ((2, 4, 4, 1), (2,))
    assert (x.dtype, y.dtype) == ("float32", "int64")
    assert not x.requires_grad
    assert x.device == device
    assert batches[-1][0].shape == (1, 4, 4, 1)
    assert labels(loader) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("as_dict", [False, True])
def test_batches_are_compared_by_identity(workers, as_dict):
    samples = [{"x": np.ones(2), "y": 1} if as_dict else (np.ones(2), 1) for _ in range(6)]
    first, second, _ = data.DataLoader(samples, batch_size=2, num_workers=workers)
    assert (first == second) is False
    assert (first != second) is True
    assert (first == first) is True
    assert (first != first) is False
    assert first in [second, first]
    assert isinstance(first, dict if as_dict else tuple)


def test_drop_last_and_dtype():
    loader = data.DataLoader(Items(5), 2, drop_last=True, dtype="float64")
    assert len(loader) == 2
    assert labels(loader) == [[0, 1], [2, 3]]
    assert next(iter(loader))[0].dtype == "float64"


def test_shuffling_draws_one_permutation_at_iter():
    loader = data.DataLoader(Items(10), 4, shuffle=True)
    np.random.seed(3)
    first = iter(loader)
    after = np.random.rand()
    got = [batch[1].tolist() for batch in first]
    np.random.seed(3)
    order = np.random.permutation(10)
    assert after == np.random.rand()
    assert got == [part.tolist() for part in np.array_split(order, range(4, 10, 4))]


def test_next_on_the_loader_and_nested_iteration():
    loader = data.DataLoader(Items(4), 2)
    with pytest.raises(TypeError, match="iter"):
        next(loader)
    iter(loader)
    assert next(loader)[1].tolist() == [0, 1]
    assert next(loader)[1].tolist() == [2, 3]
    with pytest.raises(StopIteration):
        next(loader)
    pairs = [(a[1].tolist(), b[1].tolist()) for a in loader for b in loader]
    assert len(pairs) == 4


def test_samples_of_other_forms():
    class Named(Items):
        def __getitem__(self, i):
            return {"x": np.ones(2), "y": i}

    class Single(Items):
        def __getitem__(self, i):
            return np.array([i, i])

    batch = next(iter(data.DataLoader(Named(4), 3)))
    assert batch["x"].shape == (3, 2)
    assert batch["y"].tolist() == [0, 1, 2]
    assert next(iter(data.DataLoader(Single(4), 2))).tolist() == [[0, 0], [1, 1]]


def test_collate_fn_gets_the_list_of_samples():
    loader = data.DataLoader(Items(3), 2, collate_fn=lambda s: np.array([label for _, label in s]))
    assert [batch.tolist() for batch in loader] == [[0, 1], [2]]


def test_samples_of_different_shapes_are_named():
    class Ragged(Items):
        def __getitem__(self, i):
            return np.zeros(i)

    with pytest.raises(ValueError, match="different shapes"):
        next(iter(data.DataLoader(Ragged(3), 2)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"batch_size": 0}, ValueError), ({"batch_size": 1.5}, TypeError),
        ({"batch_size": True}, TypeError), ({"num_workers": -1}, ValueError),
        ({"shuffle": True, "sampler": [0]}, ValueError),
        ({"batch_sampler": [[0]], "drop_last": True}, ValueError),
    ],
)  # fmt: skip
def test_bad_options(options, error):
    with pytest.raises(error):
        data.DataLoader(Items(), **options)


def test_what_is_no_dataset():
    with pytest.raises(TypeError, match="int"):
        data.DataLoader(3)


# ---- workers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_give_the_batches_in_order(workers):
    plain = labels(data.DataLoader(Items(11), 3))
    assert labels(data.DataLoader(Items(11), 3, num_workers=workers)) == plain


def test_workers_draw_the_same_whatever_their_number():
    def run(workers):
        np.random.seed(0)
        loader = data.DataLoader(Items(12, [Noise()]), 3, shuffle=True, num_workers=workers)
        return [batch[0].numpy() for _ in range(2) for batch in loader]

    first, second = run(1), run(4)
    np.testing.assert_array_equal(first, second)
    assert len({float(x.sum() % 1) for x in first}) > 1


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_a_generator_gives_the_same_batches_without_workers(kind):
    def run(workers):
        loader = data.DataLoader(
            Items(12, [Noise()]), 3, shuffle=True, num_workers=workers, generator=kind(5)
        )
        batches = []
        for _ in range(2):
            for x, _ in loader:
                np.random.rand()  # what else a program draws makes no difference
                batches.append(x.numpy().tolist())
        return batches

    assert run(0) == run(1) == run(3)


def test_workers_fetch_ahead_in_other_threads():
    seen, seen_items = set(), set()

    class Slow(Items):
        def __getitem__(self, i):
            seen.add(threading.current_thread().name)
            seen_items.add(i)
            return np.zeros(1), i

    loader = data.DataLoader(Slow(10), 1, num_workers=2)
    batches = iter(loader)
    next(batches)
    deadline = time.monotonic() + 10
    while len(seen_items) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(seen_items) >= 4, "further batches are fetched ahead"
    assert all(name.startswith("needle-data") for name in seen)
    batches.close()
    assert not workers_alive()


def workers_alive():
    return [t for t in threading.enumerate() if t.name.startswith("needle-data")]


def test_a_loop_that_is_left_leaves_no_threads():
    def leave_by_return(loader):
        for _ in loader:
            return

    def leave_by_error(loader):
        for _ in loader:
            raise KeyError

    loader = data.DataLoader(Items(40), 2, num_workers=3)
    gc.disable()
    try:
        for _ in loader:
            break
        assert not workers_alive()
        leave_by_return(loader)
        assert not workers_alive()
        with pytest.raises(KeyError):
            leave_by_error(loader)
        assert not workers_alive()
        next(b for b in loader)
        list(zip(range(2), loader, strict=False))
        assert not workers_alive()
        for _ in loader:
            assert workers_alive()
        assert not workers_alive()
    finally:
        gc.enable()


def test_the_rest_of_a_loop_that_was_left():
    """`next(loader)` goes on with the latest `iter()`, also after its threads have ended."""
    plain = labels(data.DataLoader(Items(20), 2))
    loader = data.DataLoader(Items(20), 2, num_workers=2)
    found = []
    for _, y in loader:
        found.append(y.numpy().tolist())
        if len(found) == 3:
            break
    while len(found) < 10:
        found.append(next(loader)[1].numpy().tolist())
    assert found == plain
    with pytest.raises(StopIteration):
        next(loader)
    assert not workers_alive()
    iter(loader)  # its result is not kept
    assert next(loader)[1].numpy().tolist() == plain[0]
    assert next(loader)[1].numpy().tolist() == plain[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_samplers(workers):
    class Endless:
        def __iter__(self):
            return itertools.cycle(range(5))

    for sampler in (Endless(), (i % 5 for i in itertools.count())):
        loader = data.DataLoader(Items(5), 2, sampler=sampler, num_workers=workers)
        found = [y.numpy().tolist() for (_, y), _ in zip(loader, range(4), strict=False)]
        assert found[:3] == [[0, 1], [2, 3], [4, 0]]
        with pytest.raises(TypeError):
            len(loader)
    loader = data.DataLoader(
        Items(5), batch_sampler=([i % 5] for i in itertools.count()), num_workers=workers
    )
    assert next(iter(loader))[1].numpy().tolist() == [0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], []), ((), []), (np.zeros((0, 2), int), []), ([[0, 1], [2]], [[0, 1], [2]]),
        (np.array([[3, 1], [2, 0]]), [[3, 1], [2, 0]]), ([np.array([1, 2])], [[1, 2]]),
        (((4, 3),), [[4, 3]]), (range(0), []),
    ],
)  # fmt: skip
def test_batch_samplers_of_every_kind(indices, expected, workers):
    for dataset in (Items(5), data.NDArrayDataset(np.zeros(5), np.arange(5))):
        loader = data.DataLoader(dataset, batch_sampler=indices, num_workers=workers)
        assert len(loader) == len(expected)
        assert labels(loader) == expected


def test_samplers_of_every_kind():
    for indices in ([], (), np.array([], int), range(0)):
        assert labels(data.DataLoader(Items(5), sampler=indices)) == []
        with pytest.raises(ValueError, match="excludes"):
            data.DataLoader(Items(5), sampler=indices, batch_sampler=[[1]])
    for indices in ([3, 1], np.array([3, 1]), (3, 1)):
        assert labels(data.DataLoader(Items(5), 2, sampler=indices)) == [[3, 1]]
    for indices in ([0.7], ["1"], [None]):
        with pytest.raises((TypeError, IndexError, ValueError)):
            list(data.DataLoader(Items(5), batch_sampler=[indices]))
    with pytest.raises(ValueError, match="no samples"):
        list(data.DataLoader(Items(5), batch_sampler=[[]]))
    (empty,) = data.DataLoader(data.NDArrayDataset(np.zeros((5, 2))), batch_sampler=[[]])
    assert empty[0].shape == (0, 2)


Point = collections.namedtuple("Point", "x y")


class Line(NamedTuple):
    start: Point
    end: Point


@pytest.mark.parametrize("workers", [0, 2])
def test_named_tuples_are_kept(workers):
    lines = [Line(Point(i, 1.0), Point(i, [2.0, 3.0])) for i in range(4)]
    for batch in data.DataLoader(lines, 2, num_workers=workers):
        assert type(batch) is Line
        assert type(batch.start) is Point
        assert [y.shape for y in batch.end.y] == [(2,), (2,)]
    assert type(data.default_collate([Point(1, 2)])) is Point


def test_an_error_in_a_worker_reaches_the_caller():
    class Broken(Items):
        def __getitem__(self, i):
            if i == 3:
                raise KeyError("sample 3")
            return super().__getitem__(i)

    with pytest.raises(KeyError, match="sample 3"):
        list(data.DataLoader(Broken(6), 1, num_workers=2))


# ---- datasets and samplers --------------------------------------------------------------------


def test_ndarray_dataset_takes_any_arrays(device):
    x, y = np.arange(6).reshape(3, 2), ndl.array_api.array([5, 6, 7], device=device)
    dataset = data.NDArrayDataset(x, y)
    assert len(dataset) == 3
    assert dataset[1][0].tolist() == [2, 3]
    assert dataset[1][1] == 6
    (batch,) = data.DataLoader(data.NDArrayDataset(x), 3)
    assert batch[0].tolist() == x.tolist()
    for bad in ((), (np.ones(2), np.ones(3)), (np.float32(1),)):
        with pytest.raises(ValueError, match="equal length"):
            data.NDArrayDataset(*bad)


def test_subset():
    dataset = data.Subset(Items(10), [7, 1, 3])
    assert [label for _, label in dataset] == [7, 1, 3]
    assert labels(data.DataLoader(dataset, 2)) == [[7, 1], [3]]
    arrays = data.Subset(data.NDArrayDataset(np.arange(10), np.arange(10)), [7, 1, 3])
    assert labels(data.DataLoader(arrays, 2)) == [[7, 1], [3]]
    with pytest.raises(IndexError, match="10"):
        data.Subset(Items(10), [10])


@given(st.integers(0, 30), st.integers(1, 12), st.booleans())
def test_batch_sampler_covers_everything_once(n, size, drop_last):
    sampler = data.BatchSampler(data.SequentialSampler(range(n)), size, drop_last)
    batches = [list(b) for b in sampler]
    assert len(batches) == len(sampler)
    flat = [i for b in batches for i in b]
    assert flat == list(range(n - n % size if drop_last else n))
    assert all(len(b) == size for b in batches[:-1])


def test_random_samplers():
    rng = np.random.default_rng(0)
    assert sorted(data.RandomSampler(range(7), rng)) == list(range(7))
    assert sorted(data.SubsetRandomSampler([4, 2, 9], rng)) == [2, 4, 9]
    weighted = data.WeightedRandomSampler([0, 1, 0, 3], 1000, generator=rng)
    counts = np.bincount(list(weighted), minlength=4)
    assert len(weighted) == counts.sum() == 1000
    assert counts[0] == counts[2] == 0
    assert 650 < counts[3] < 850
    for bad in ([], [0, 0], [-1, 2], [np.nan, 1]):
        with pytest.raises(ValueError, match="weights"):
            data.WeightedRandomSampler(bad, 2)
    with pytest.raises(ValueError, match="without replacement"):
        data.WeightedRandomSampler([1, 0], 2, replacement=False)
    loader = data.DataLoader(Items(5), 2, sampler=[3, 0, 3])
    assert labels(loader) == [[3, 0], [3]]
    assert labels(data.DataLoader(Items(5), batch_sampler=[[4], [1, 2]])) == [[4], [1, 2]]


# ---- transforms -------------------------------------------------------------------------------


def test_flip_draws_rand_and_mirrors_the_width():
    image = np.arange(12.0).reshape(2, 3, 2)
    flip = data.RandomFlipHorizontal(p=0.5)
    for seed in range(8):
        np.random.seed(seed)
        result = flip(image)
        np.random.seed(seed)
        expected = image[:, ::-1] if np.random.rand() < 0.5 else image
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("padding", [0, 2, 5])
def test_crop_is_a_window_of_the_padded_image(padding):
    image = np.random.RandomState(0).rand(4, 3, 2)
    for seed in range(30):
        np.random.seed(seed)
        result = data.RandomCrop(padding)(image)
        np.random.seed(seed)
        dx, dy = np.random.randint(low=-padding, high=padding + 1, size=2)
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        window = padded[padding + dx :][:4, padding + dy :][:, :3]
        np.testing.assert_array_equal(result, window)


def test_normalize_and_compose():
    image = np.full((2, 2, 2), 3.0)
    both = data.Compose([data.Normalize([1, 2], [2, 0.5]), lambda x: x + 1])
    result = both(image)
    assert result.dtype == "float32"
    assert result[0, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: data.RandomFlipHorizontal(1.5), lambda: data.RandomCrop(-1),
        lambda: data.Normalize(0, 0), lambda: data.RandomCrop()(np.zeros((3, 3))),
        lambda: data.RandomFlipHorizontal()(np.zeros(3)),
    ],
)  # fmt: skip
def test_bad_transforms(make):
    with pytest.raises(ValueError, match=r"^\["):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda g: data.DataLoader(Items(4), shuffle=True, generator=g),
        lambda g: data.DataLoader(Items(4), generator=g),
        lambda g: data.RandomSampler(Items(4), g),
        lambda g: data.SubsetRandomSampler([0, 1], g),
        lambda g: data.WeightedRandomSampler([1.0, 2.0], 3, generator=g),
        lambda g: sample(np.zeros(3), generator=g),
        lambda g: sample(np.zeros(3), 0, generator=g),
    ],
)
def test_generators_are_needles_or_numpys(make):
    for good in (
        None, np.random, np.random.default_rng(0), np.random.RandomState(0), ndl.Generator(0),
    ):  # fmt: skip
        made = make(good)
        assert isinstance(made, int) or list(made)
    for bad in (5, "seed"):
        with pytest.raises(TypeError, match=r"must be one of needle or of numpy\.random"):
            make(bad)
