from datetime import UTC, datetime, timedelta, timezone

import pytest

from estarsync_runtime.testing import FakeClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=12))))
    assert clock.now() == clock.now() == datetime(2026, 5, 1, tzinfo=UTC)
    clock.advance(1.5)
    assert clock.now() == datetime(2026, 5, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert clock.monotonic() == 1.5


def test_sleeping_moves_it() -> None:
    clock = FakeClock()
    clock.sleep(60)
    clock.sleep(-1)
    assert clock.monotonic() == 60


def test_it_does_not_go_back_and_knows_its_zone() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        FakeClock().advance(-1)
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
