"""A request's progress over its parts, and the time that is left."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from estarsync_core.control import Drop, Letter, Progress, Words, encode, progress_key, request_key
from estarsync_core.progress import overall, seconds_left

AT = datetime(2026, 5, 1, tzinfo=UTC)


def words(*parts: Progress, whole: Progress | None = None) -> Words:
    found = Words()
    for number, part in enumerate(parts):
        found.take(progress_key(part.id, number).encode(), encode(part))
    if whole is not None:
        found.take(progress_key(whole.id).encode(), encode(whole))
    return found


def part(state: str, done: int = 1, total: int | None = 2, reason: str | None = None) -> Progress:
    return Progress("r", state, done, total, AT + timedelta(seconds=done), reason)  # type: ignore[arg-type]


def test_nobody_has_begun() -> None:
    assert overall(words(), "r", 2) is None


def test_one_writer_speaks_for_all() -> None:
    whole = part("done", 5, 5)
    assert overall(words(part("running"), whole=whole), "r", 2) == whole


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        ((part("done"),), "running"),
        ((part("done"), part("running")), "running"),
        ((part("done"), part("done")), "done"),
        ((part("cancelled"), part("done")), "cancelled"),
        ((part("cancelled"), part("cancelled")), "cancelled"),
        ((part("refused"),), "refused"),
    ],
)
def test_parts_make_a_whole(parts: tuple[Progress, ...], state: str) -> None:
    found = overall(words(*parts), "r", 2)
    assert found is not None
    assert found.state == state


def test_numbers_add_up_and_an_unknown_total_stays_unknown() -> None:
    found = overall(words(part("running", 3, 10), part("refused", 4, 20, "why")), "r", 2)
    assert found == Progress("r", "refused", 7, 30, AT + timedelta(seconds=4), "why")
    found = overall(words(part("running", 3, 10), part("running", 4, None)), "r", 2)
    assert found is not None
    assert found.total is None
    found = overall(words(part("running", 3, 10)), "r", 2)
    assert found is not None
    assert found.total is None


@pytest.mark.parametrize(
    ("remaining", "rates", "band"),
    [
        (0, [], (0.0, 0.0)),
        (10, [], None),
        (10, [0.0], None),
        (10, [2.0], (5.0, 5.0)),
        (10, [1.0, 2.0], (5.0, 10.0)),
        (10, [0.0, 2.0], (5.0, math.inf)),
    ],
)
def test_the_band(remaining: int, rates: list[float], band: tuple[float, float] | None) -> None:
    assert seconds_left(remaining, rates) == band


def test_what_is_set_aside_has_a_key() -> None:
    assert request_key(Drop("d1", AT, (Letter("t", 0, 1),))) == "drop/d1"
