"""Arithmetic on shapes and strides, and the tables of names that several devices share."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from needle.backend_ndarray.device_numpy import REDUCE
from needle.backend_ndarray.layout import joined_axes
from needle.backend_ndarray.primitives import REDUCTIONS

Axis = tuple[int, tuple[int, ...], bool]


def offsets(axes: list[Axis], array: int) -> list[int]:
    """The offsets of an array's elements, in the order of the loop."""
    places = np.zeros(1, np.int64)
    for length, strides, _ in axes:
        places = np.add.outer(places, np.arange(length) * strides[array]).ravel()
    return places.tolist()


@st.composite
def loops(draw: st.DrawFn) -> list[Axis]:
    """Axes of two arrays; many of them are the parts of one evenly strided axis."""
    axes: list[Axis] = []
    step = (1, draw(st.sampled_from([0, 1, 3])))
    for _ in range(draw(st.integers(0, 5))):
        length = draw(st.integers(1, 4))
        axes.append((length, step, draw(st.booleans())))
        factor = length if draw(st.booleans()) else draw(st.integers(-3, 7))
        step = step[0] * factor, step[1] * factor
    return axes[::-1]


@given(loops())
def test_joined_axes_visit_the_same_elements(axes):
    joined = joined_axes(axes)
    for array in range(2):
        assert offsets(joined, array) == offsets(axes, array)
    assert all(length != 1 for length, _, _ in joined)


@given(loops())
def test_what_can_be_joined_is(axes):
    for (_, outer, a), (length, inner, b) in itertools.pairwise(joined_axes(axes)):
        assert a != b or outer != tuple(step * length for step in inner)


def test_axes_of_different_groups_stay_apart():
    assert joined_axes([(4, (3,), True), (3, (1,), True)]) == [(12, (1,), True)]
    assert joined_axes([(4, (3,), False), (3, (1,), True)]) == [(4, (3,), False), (3, (1,), True)]


def test_every_reduction_has_names_and_a_definition():
    assert set(REDUCE) == set(REDUCTIONS)
