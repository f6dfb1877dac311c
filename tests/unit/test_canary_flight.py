"""What a canary's path makes of the topics' records, in whatever order they are read."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from estarsync_cli.flight import Path, Seen
from estarsync_core.entities import Entity

ASKED = datetime(2026, 5, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ASKED + timedelta(seconds=seconds)


def flown(*records: tuple[str, Seen]) -> Path:
    path = Path(Entity.ORDERS, ASKED)
    for hop, seen in records:
        path.take(hop, seen)
    return path


SENT = ("extract", Seen(7, at(1), tombstone=False))
MAPPED = ("transform", Seen(7, at(3), tombstone=False))
DELIVERED = ("deliver", Seen(7, at(6), tombstone=False, outcome="delivered"))


@pytest.mark.parametrize("records", list(itertools.permutations([SENT, MAPPED, DELIVERED])))
def test_each_hop_is_measured_whatever_is_read_first(records):
    path = flown(*records)
    assert path.seconds == {"extract": 1.0, "transform": 2.0, "deliver": 3.0}
    assert (path.result, path.stuck) == ("under_way", "Dotdigital does not show it")
    path.times["read_back"] = at(7)
    assert path.result == "arrived"
    assert path.seconds["end_to_end"] == 7.0


def test_what_is_of_an_earlier_flight_does_not_count():
    old = ("deliver", Seen(5, at(0), tombstone=False, outcome="removed"))
    gone = ("extract", Seen(5, at(0), tombstone=True))
    path = flown(old, gone, SENT)
    assert (path.outcome, path.removed, path.stuck) == (None, False, "the transformer has not mapped it")


def test_what_is_taken_back_is_told_from_what_arrived():
    gone = ("extract", Seen(8, at(9), tombstone=True))
    removed = ("deliver", Seen(8, at(11), tombstone=False, outcome="removed"))
    path = flown(SENT, MAPPED, DELIVERED, removed, gone)
    assert path.removed
    assert path.outcome == "delivered"
    assert not flown(SENT, MAPPED, DELIVERED, gone).removed


@pytest.mark.parametrize(("outcome", "result"), [("filtered", "filtered"), ("dead_letter", "refused")])
def test_one_that_ends_at_the_loader_is_over(outcome, result):
    path = flown(SENT, MAPPED, ("deliver", Seen(7, at(6), tombstone=False, outcome=outcome)))
    assert (path.result, path.over) == (result, True)
    assert "deliver" not in path.times


def test_one_that_a_poller_published_twice_after_a_crash_is_measured_from_the_first():
    again = ("extract", Seen(8, at(2), tombstone=False))
    mapped = ("transform", Seen(8, at(4), tombstone=False))
    delivered = ("deliver", Seen(8, at(5), tombstone=False, outcome="delivered"))
    path = flown(SENT, again, mapped, delivered)
    assert path.seconds == {"extract": 1.0, "transform": 3.0, "deliver": 1.0}


def test_clocks_that_differ_give_no_negative_seconds():
    path = flown(("extract", Seen(7, at(-2), tombstone=False)), MAPPED)
    assert path.seconds["extract"] == 0.0
