"""How fast something long goes, and so when it will be over: a band, since nobody knows better."""

from collections import deque

from estarsync_core.progress import seconds_left

_RECENT = 60.0
_SOONEST = 5.0  # before that nothing is said: the first pages tell of caches and connections
_APART = 1.0


class Pace:
    """What has been done by when, since this process began with it.

    The rate over all that time makes one end of the band, the last minute's the other: a shop whose orders get denser
    towards today slows down, one that has just answered badly picks up again.

    Args:
        now: seconds on a clock that never goes back.
        done: how much was done before.
    """

    def __init__(self, now: float, done: float) -> None:
        self._first = (now, done)
        self._recent: deque[tuple[float, float]] = deque([self._first])
        self._last = self._first

    def saw(self, now: float, done: float) -> None:
        """So much is done by now."""
        self._last = (now, done)
        if now >= self._recent[-1][0] + _APART:
            self._recent.append(self._last)
        while self._recent[0][0] < now - _RECENT:
            self._recent.popleft()

    def left(self, remaining: float) -> tuple[float, float] | None:
        """The band within which so much more will be done, in seconds from now; None where that can't be said yet.

        The upper end is infinite where nothing has moved for a minute.
        """
        if self._last[0] < self._first[0] + _SOONEST:
            return None
        rates = [_rate(self._first, self._last), _rate(self._recent[0], self._last)]
        return seconds_left(remaining, rates)


def _rate(begin: tuple[float, float], end: tuple[float, float]) -> float:
    seconds = end[0] - begin[0]
    return max(0.0, end[1] - begin[1]) / seconds if seconds > 0 else 0.0
