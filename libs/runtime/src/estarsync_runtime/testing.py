"""Fakes that ship: for our tests, and for whoever tests against us."""

from datetime import UTC, datetime, timedelta
from threading import Lock

from typing_extensions import override

from estarsync_core.clock import Clock

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock(Clock):
    """A clock that stands still until somebody moves it; sleeping moves it and takes no time.

    Safe to use from several threads.

    Args:
        now: the time of day to begin with; aware.
    """

    def __init__(self, now: datetime = _BEGINNING) -> None:
        if now.tzinfo is None:
            raise ValueError("FakeClock needs an aware time: FakeClock(datetime(..., tzinfo=UTC))")
        self._beginning = now.astimezone(UTC)
        self._elapsed = 0.0
        self._lock = Lock()

    @override
    def now(self) -> datetime:
        return self._beginning + timedelta(seconds=self._elapsed)

    @override
    def monotonic(self) -> float:
        return self._elapsed

    @override
    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move both readings forward.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        with self._lock:
            self._elapsed += seconds
