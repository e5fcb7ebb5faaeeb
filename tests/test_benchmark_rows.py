"""The rows of the benchmarks' report: ratios, targets met or missed, and knees of growth."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import growth
import rows


def test_a_time_is_compared_with_the_fastest_peer_and_the_roofline() -> None:
    fast, slow = rows.Target("<=", 0.5), rows.Target("<=", 1.5, "roofline")
    row = rows.Row("steps", "mlp", 2.0, "ms", {"A": 8.0, "B": 5.0}, 1.0, (fast, slow))
    assert row.fastest_peer == "B"
    assert (row.over_peer, row.over_roofline) == (0.4, 2.0)
    assert (row.met(fast), row.met(slow)) == (True, False)
    assert row.met(rows.Target("<=", 0.2, "A")) is False
    assert "**missed**" in row.cells()[6]


def test_of_rates_the_largest_is_the_fastest() -> None:
    row = rows.Row("products", "8", 3.0, "GFLOP/s", {"A": 1.0, "B": 2.0}, None,
                   (rows.Target(">=", 1.0),))  # fmt: skip
    assert row.fastest_peer == "B"
    assert row.as_json()["targets"][0]["met"] is True


def test_a_target_without_its_peer_is_not_measured() -> None:
    row = rows.Row("steps", "mlp", 2.0, "ms", targets=(rows.Target("<=", 0.5),))
    assert row.met(row.targets[0]) is None
    assert rows.summary([row]) == "0 targets met, 0 missed, 1 not measured"


def test_a_target_has_a_direction() -> None:
    with pytest.raises(ValueError, match="direction: got '<'"):
        rows.Target("<", 1.0)


def test_a_knee_is_where_the_exponent_of_growth_jumps() -> None:
    flat_then_linear = {1: 1.0, 2: 1.0, 4: 1.0, 8: 2.0, 16: 4.0}
    assert growth.knees(flat_then_linear) == {4: ["knee: exponent 0.00, then 1.00"]}
    assert growth.knees({n: float(n**2) for n in (1, 2, 4, 8)}) == {}
