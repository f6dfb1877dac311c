"""Time, passed in."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where a component gets its time from; the real one is `estarsync_runtime.clock.SystemClock`."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block for so many seconds."""
        ...
