"""Laws of windows: whatever happens, in whatever order, no instant is skipped."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.estar.windows import (
    SMALLEST,
    Place,
    Window,
    begin_run,
    completed,
    failed,
    horizon,
    next_window,
    place_at,
    shop_bounds,
)
from estarsync_core.profile import Windows

START = datetime(2020, 1, 1, tzinfo=UTC)
limits = st.builds(
    Windows,
    initial_hours=st.floats(0.0001, 1000),
    max_hours=st.floats(0.0001, 10_000),
    max_ids=st.integers(1, 50),
    overlap_minutes=st.floats(0, 120),
    lag_seconds=st.floats(0, 600),
)
# What happens next: a window holds so many ids, a window fails, the process restarts, or time passes.
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("listed"), st.integers(0, 200)),
        st.tuples(st.just("failed"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("later"), st.integers(1, 1_000_000)),
    ),
    max_size=60,
)


@given(limits, happenings)
def test_no_instant_is_ever_skipped(windows: Windows, story: list[tuple[str, int]]) -> None:
    now = START + timedelta(hours=1)
    place = begin_run(place_at(START, windows), windows)
    read: list[Window] = []
    for what, number in story:
        if what == "later":
            now += timedelta(seconds=number)
        elif what == "restart":  # only the checkpoint survives
            place = begin_run(place_at(place.cursor, windows, place.window_hours), windows)
        window = next_window(place, horizon(now, windows))
        if window is None:
            place = begin_run(place, windows)
        elif what == "failed":
            place = failed(place, window)
        elif what == "listed":
            before = place.cursor
            read.append(window)
            place = completed(place, window, number, windows)
            assert place.cursor >= before
            assert place.cursor == max(before, window.end) <= max(horizon(now, windows), before)
        assert place.width >= SMALLEST
    assert covers(read, START, place.cursor)


def covers(read: list[Window], start: datetime, end: datetime) -> bool:
    """Whether the windows together hold every instant from `start` up to `end`."""
    reached = start
    for window in sorted(read, key=lambda w: w.start):
        if window.start > reached:
            return False
        reached = max(reached, window.end)
    return reached >= end


@given(limits, st.integers(1, 3600))
def test_a_run_without_trouble_reaches_the_horizon(windows: Windows, seconds: int) -> None:
    until = START + timedelta(seconds=seconds)
    place = begin_run(place_at(START, windows), windows)
    while (window := next_window(place, until)) is not None:
        place = completed(place, window, 0, windows)
    assert place.cursor == until


@given(limits, st.integers(2, 10_000_000))
def test_what_keeps_failing_ends_up_alone_in_one_second(windows: Windows, seconds: int) -> None:
    until = START + timedelta(seconds=seconds)
    place = place_at(START, windows)
    for _ in range(64):
        window = next_window(place, until)
        assert window is not None
        place = failed(place, window)
    window = next_window(place, until)
    assert window is not None
    assert window.smallest
    assert window.start == START


zones = st.sampled_from(
    ["Pacific/Auckland", "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]
)


@given(zones, st.integers(0, 3600 * 24 * 366 * 5), st.integers(1, 3600 * 24 * 400), st.floats(0, 1))
def test_the_shops_clock_times_hold_every_instant_of_the_window(
    name: str, offset: int, length: int, share: float
) -> None:
    zone = ZoneInfo(name)
    window = Window(START + timedelta(seconds=offset), START + timedelta(seconds=offset + length))
    instant = window.start + timedelta(seconds=min(int(length * share), length - 1))
    start, end = shop_bounds(window, zone)
    assert start <= instant.astimezone(zone).replace(tzinfo=None) < end
    assert window.smallest or start < window.start.astimezone(zone).replace(tzinfo=None)
    assert end - start <= window.end - window.start + timedelta(hours=2)


def test_both_hours_of_a_clock_that_is_set_back_are_asked_for() -> None:
    # Europe/London, 27 October 2024: 02:00 summer time is 01:00 winter time (01:00 UTC).
    window = Window(datetime(2024, 10, 27, 0, 30, tzinfo=UTC), datetime(2024, 10, 27, 1, 15, tzinfo=UTC))
    start, end = shop_bounds(window, ZoneInfo("Europe/London"))
    assert start <= datetime(2024, 10, 27, 1, 0)  # noqa: DTZ001 - the shop's clock
    assert end >= datetime(2024, 10, 27, 2, 0)  # noqa: DTZ001 - the shop's clock


def test_windows_widen_when_they_hold_little_and_narrow_when_they_hold_much() -> None:
    windows = Windows(initial_hours=10, max_hours=30, max_ids=100, overlap_minutes=0, lag_seconds=0)
    place = place_at(START, windows)
    window = next_window(place, START + timedelta(days=100))
    assert window is not None
    assert completed(place, window, 24, windows).window_hours == 20
    assert completed(place, window, 25, windows).window_hours == 10
    assert completed(place, window, 100, windows).window_hours == 10
    assert completed(place, window, 101, windows).window_hours == 5
    wide = completed(
        replace(place, width=timedelta(hours=30)), Window(START, START + timedelta(hours=30)), 0, windows
    )
    assert wide.window_hours == 30


def test_a_window_cut_short_by_the_horizon_does_not_widen() -> None:
    windows = Windows(initial_hours=10, max_hours=30, max_ids=100, overlap_minutes=0, lag_seconds=0)
    place = place_at(START, windows)
    window = next_window(place, START + timedelta(hours=1))
    assert window == Window(START, START + timedelta(hours=1))
    assert completed(place, window, 0, windows) == Place(window.end, window.end, timedelta(hours=10))
