"""Lag and time behind, as they are shown."""

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message
from prometheus_client import CollectorRegistry

from estarsync_runtime.kafka.positions import Place, Positions
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock

PLACE = ("dotdigital.orders.v1", 3)
LABELS = {"topic": PLACE[0], "partition": "3"}


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.ends: dict[Place, int] = {}
        self.positions = Positions(Metrics(self.registry), self.clock, self.ends.get)

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    def read(self, offset: int, published: float | None) -> None:
        stamp = (TIMESTAMP_NOT_AVAILABLE, 0)
        if published is not None:
            stamp = (TIMESTAMP_CREATE_TIME, round(published * 1000))
        message = Message(topic=PLACE[0], partition=PLACE[1], offset=offset, timestamp=stamp)
        self.positions.read([message])

    def show(self) -> tuple[float | None, float | None]:
        """Lag and seconds behind."""
        self.clock.advance(1)
        self.positions.show()
        until = self.registry.get_sample_value("estarsync_finished_until_seconds", LABELS)
        behind = None if until is None else round(self.now - until, 3)
        return self.registry.get_sample_value("estarsync_lag_records", LABELS), behind


@pytest.fixture
def at_end() -> Rig:
    rig = Rig()
    rig.ends[PLACE] = 10
    rig.positions.finished(PLACE, 10)
    return rig


def test_at_the_end_nothing_is_late_however_old_the_last_record_is(at_end):
    at_end.read(9, at_end.now - 86_400)
    assert at_end.show() == (0, 0)
    at_end.clock.advance(3600)
    assert at_end.show() == (0, 0)


def test_behind_the_end_it_is_as_late_as_the_first_record_that_is_not_finished(at_end):
    at_end.show()
    at_end.ends[PLACE] = 30
    at_end.read(10, at_end.now)
    at_end.clock.advance(60)
    at_end.read(20, at_end.now)
    at_end.clock.advance(60)
    assert at_end.show() == (20, 121)
    at_end.positions.finished(PLACE, 20)
    assert at_end.show() == (10, 62)
    at_end.positions.finished(PLACE, 30)
    assert at_end.show() == (0, 0)


def test_a_consumer_that_stands_still_grows_late(at_end):
    at_end.show()
    at_end.ends[PLACE] = 11
    at_end.clock.advance(500)
    assert at_end.show() == (1, 501)


def test_after_a_start_it_is_as_late_as_the_first_record_that_it_reads():
    rig = Rig()
    rig.ends[PLACE] = 100
    rig.read(40, rig.now - 7200)
    rig.positions.finished(PLACE, 40)
    assert rig.show() == (60, 7201)


def test_what_is_read_again_counts_from_there(at_end):
    at_end.ends[PLACE] = 30
    at_end.read(10, at_end.now - 100)
    at_end.read(20, at_end.now - 50)
    at_end.read(10, at_end.now - 100)
    assert at_end.show() == (20, 101)


def test_unknown_ends_and_times_say_nothing():
    rig = Rig()
    rig.read(4, None)
    rig.positions.finished(PLACE, 4)
    assert rig.show() == (None, None)
    rig.ends[PLACE] = 9
    assert rig.show() == (5, None)


def test_a_partition_that_left_is_not_shown(at_end):
    at_end.show()
    at_end.positions.lost(PLACE)
    assert at_end.show() == (None, None)
    at_end.positions.lost(PLACE)


def test_a_long_backlog_takes_little_memory(at_end):
    at_end.ends[PLACE] = 100_000
    for offset in range(10, 20_000):
        at_end.read(offset, at_end.now + offset)
    at_end.positions.finished(PLACE, 15_000)
    lag, behind = at_end.show()
    assert lag == 85_000
    assert behind == pytest.approx(-15_000, abs=20)
