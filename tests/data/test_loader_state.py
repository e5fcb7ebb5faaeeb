"""A loader goes on from where another one was: the same batches, without loading those before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from needle.data import DataLoader, Dataset, random_state


class Counted(Dataset):
    """Notes which samples were loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: Any) -> float:
        self.loaded.append(int(i))
        return float(i + random_state().random())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
        {"num_workers": 2, "multiprocessing_context": "fork"},
    ],
    ids=["here", "threads", "persistent threads", "processes"],
)
@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("given", [1, 5])
def test_the_batches_that_follow_are_the_same(
    options: dict[str, Any], seeded: bool, given: int
) -> None:
    def loader(seed: int) -> DataLoader:
        np.random.seed(seed)
        generator = np.random.default_rng(seed) if seeded else None
        return DataLoader(Counted(), 4, shuffle=True, generator=generator, **options)

    first = loader(0)
    batches = iter(first)
    for _ in range(given):
        next(batches)
    state = first.state_dict()
    rest = [batch.tolist() for batch in batches]
    again = [batch.tolist() for batch in first]
    second = loader(1)
    second.load_state_dict(state)
    assert [batch.tolist() for batch in second] == rest
    assert [batch.tolist() for batch in second] == again
    if "multiprocessing_context" not in options:
        assert len(second.dataset.loaded) == 20 + 4 * len(rest)


def test_a_loader_that_is_in_no_pass_tells_where_its_generator_is() -> None:
    first = DataLoader(range(8), 4, shuffle=True, generator=np.random.default_rng(0))
    list(first)
    second = DataLoader(range(8), 4, shuffle=True, generator=np.random.default_rng(5))
    second.load_state_dict(first.state_dict())
    assert [b.tolist() for b in second] == [b.tolist() for b in first]


def test_a_state_of_something_else_is_an_error() -> None:
    with pytest.raises(ValueError, match="a state must have asked, given, now, start"):
        DataLoader([1]).load_state_dict({"given": 1})
