"""Ends a process whose call into librdkafka does not come back.

After a broker was away for long, a call such as `send_offsets_to_transaction` may ignore its own time-out for good.
Nothing else in the process can end it, and a new process goes on where this one ended.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

_FAILED = 1  # as `lifecycle.EXIT_FAILED`
_log = structlog.get_logger()


def _end() -> None:
    os._exit(_FAILED)


class Watchdog:
    """Watches one call at a time.

    Args:
        end: ends the process; called in another thread than the one that hangs.
    """

    def __init__(self, end: Callable[[], None] = _end) -> None:
        self._end = end

    @contextmanager
    def over(self, call: str, seconds: float) -> Iterator[None]:
        """End the process where the block takes longer than this."""
        timer = threading.Timer(seconds, self._hangs, (call, seconds))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _hangs(self, call: str, seconds: float) -> None:
        _log.error("kafka_call_hangs", call=call, seconds=seconds, remedy="this process ends: start it again")
        self._end()
