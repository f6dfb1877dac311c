import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.pace import Pace


def test_nothing_is_said_before_there_is_something_to_say() -> None:
    pace = Pace(100.0, 0.0)
    pace.saw(104.0, 400.0)
    assert pace.left(1000.0) is None


def test_at_an_even_pace_both_ends_agree() -> None:
    pace = Pace(0.0, 0.0)
    for second in range(1, 301):
        pace.saw(float(second), 10.0 * second)
    assert pace.left(500.0) == pytest.approx((50.0, 50.0))
    assert pace.left(0.0) == (0.0, 0.0)


def test_one_that_slows_down_is_between_its_best_and_its_last_minute() -> None:
    pace = Pace(0.0, 0.0)
    done = 0.0
    for second in range(1, 601):
        done += 10.0 if second <= 300 else 2.0
        pace.saw(float(second), done)
    low, high = pace.left(600.0) or (0.0, 0.0)
    assert (low, high) == pytest.approx((100.0, 300.0))


def test_what_was_done_before_a_restart_is_no_merit_of_this_process() -> None:
    pace = Pace(0.0, 1_000_000.0)
    pace.saw(10.0, 1_000_010.0)
    assert pace.left(10.0) == pytest.approx((10.0, 10.0))


def test_where_nothing_moves_nobody_can_say() -> None:
    pace = Pace(0.0, 0.0)
    pace.saw(10.0, 100.0)
    pace.saw(200.0, 100.0)
    low, high = pace.left(50.0) or (0.0, 0.0)
    assert low == pytest.approx(100.0)
    assert math.isinf(high)
    still = Pace(0.0, 0.0)
    still.saw(200.0, 0.0)
    assert still.left(50.0) is None


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 1000)), min_size=1), st.floats(0, 1e6))
def test_the_band_is_a_band(steps: list[tuple[float, float]], remaining: float) -> None:
    pace, now, done = Pace(0.0, 0.0), 0.0, 0.0
    for seconds, more in steps:
        now, done = now + seconds, done + more
        pace.saw(now, done)
    band = pace.left(remaining)
    if band is not None:
        assert 0.0 <= band[0] <= band[1]
