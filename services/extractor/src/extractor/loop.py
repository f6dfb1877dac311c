"""The main loop: one step of one feed at a time, the most urgent first."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from estarsync_core.clock import Clock
from estarsync_core.errors import RetryLater
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from extractor.feeds import Feed
from extractor.firstload import Progress
from extractor.state import SourceState

_LONGEST_PAUSE = 10.0  # soon after the shop is back, so are we
_LONGEST_WAIT = 1.0
_PROGRESS_EVERY = 5.0
_log = structlog.get_logger()


@dataclass(slots=True)
class _Slot:
    feed: Feed
    cadence: float
    due: float
    failures: int = 0
    stepped: float = 0.0


class Loop:
    """Runs feeds for ever: each waits its cadence after the end of its last run.

    A feed whose first load is done goes before one whose is not, so that a long first load holds nothing up;
    first loads go one after the other, in the order given, past one that the shop does not answer.

    Args:
        feeds: contacts first, since orders wait for their contacts.
        cadences: seconds between two runs, by feed.
        state: to show how many keys there are.
        clock: the time.
        rng: spreads the pauses while the shop is in trouble.
        metrics: what is shown.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        cadences: Mapping[str, float],
        state: SourceState,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        now = clock.monotonic()
        self._slots = [_Slot(feed, cadences[feed.name], now + feed.rest) for feed in feeds]
        self._state = state
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._last_progress = now
        for feed in feeds:
            metrics.cadence.labels(feed.name).set(cadences[feed.name])
            self._show_keys(feed)

    def run(self, stop: StopSignal, beat: Callable[[], None]) -> None:
        """Run until told to stop, which takes effect between two steps.

        Args:
            stop: says when.
            beat: called before every step; raises where this process may not go on.

        Raises:
            EstarsyncError: for anything but a shop in trouble.
        """
        while not stop.is_set():
            beat()
            wait = self.turn()
            if wait > 0:
                stop.wait(min(wait, _LONGEST_WAIT))

    def turn(self) -> float:
        """Take one step of the most urgent feed; how many seconds there is nothing to do after it."""
        now = self._clock.monotonic()
        slot = self._next(now)
        if slot is None:
            return min((slot.due - now for slot in self._slots if slot.feed.ready), default=_LONGEST_WAIT)
        slot.stepped = now
        try:
            ended = slot.feed.step()
        except RetryLater as error:
            self._pause(slot, error)
            return 0.0
        slot.failures = 0
        if ended:
            slot.due = self._clock.monotonic() + slot.cadence
            if slot.feed.counted:
                self._show_keys(slot.feed)
        if slot.feed.counted:
            self._progress(slot.feed)
        return 0.0

    def _next(self, now: float) -> _Slot | None:
        due = [slot for slot in self._slots if slot.feed.ready and slot.due <= now]
        live = [slot for slot in due if slot.feed.loaded]
        if live:
            return min(live, key=lambda slot: slot.stepped)
        return next(iter(due), None)

    def _pause(self, slot: _Slot, error: RetryLater) -> None:
        slot.failures += 1
        pause = self._rng.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 2.0 ** min(slot.failures, 10) / 2)
        pause = max(pause, error.after or 0.0)
        slot.due = self._clock.monotonic() + pause
        _log.warning("shop_in_trouble", feed=slot.feed.name, reason=str(error), again_in=round(pause, 1))

    def _progress(self, feed: Feed) -> None:
        if self._clock.monotonic() - self._last_progress < _PROGRESS_EVERY:
            return
        self._last_progress = self._clock.monotonic()
        mark = feed.mark
        cursor = None if mark is None else mark.cursor.isoformat()
        first = {} if feed.first_load is None else _told(feed.first_load.progress)
        _log.info("progress", feed=feed.name, lane=feed.lane, cursor=cursor, **first)

    def _show_keys(self, feed: Feed) -> None:
        self._metrics.keys.labels(feed.entity).set(self._state.count_keys(feed.entity))


def _told(progress: Progress) -> dict[str, Any]:
    left = {}
    if progress.left is not None:
        low, high = (None if math.isinf(each) else round(each) for each in progress.left)
        left = {"seconds_left_from": low, "seconds_left_to": high}
    return {"records": progress.records, "percent": round(progress.ratio * 100, 1), **left}
