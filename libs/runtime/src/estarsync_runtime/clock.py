"""The real clock."""

import time
from datetime import UTC, datetime

from typing_extensions import override

from estarsync_core.clock import Clock


class SystemClock(Clock):
    """The machine's clock: the one place that reads it."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock

    @override
    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - this is the Clock

    @override
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: TID251 - this is the Clock
