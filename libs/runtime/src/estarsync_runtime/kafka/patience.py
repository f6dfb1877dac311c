"""Questions to Kafka that a leader election answers with "not now": asked again for a while."""

from collections.abc import Callable
from typing import TypeVar

from estarsync_core.clock import Clock
from estarsync_core.errors import RetryLater
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.errors import translated

T = TypeVar("T")
_BUDGET = 15.0
_PAUSE = 0.1
_CLOCK = SystemClock()


def patiently(call: Callable[[], T], clock: Clock = _CLOCK) -> T:
    """What the call gives; blocks for at most about fifteen seconds longer than the call itself.

    Only for calls that change nothing.

    Raises:
        RetryLater: it still fails in a way that passes.
        Stop: Kafka refuses for good.
    """
    deadline = clock.monotonic() + _BUDGET
    while True:
        try:
            with translated():
                return call()
        except RetryLater:
            if clock.monotonic() > deadline:
                raise
            clock.sleep(_PAUSE)
