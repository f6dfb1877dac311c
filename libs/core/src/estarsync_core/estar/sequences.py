"""Which of a subscriber's notifications have been dealt with, and which are missing: pure, for one poller.

Each subscriber's messages are numbered without gaps. They may come twice, in another order, or not at all; so the
numbers that are settled are kept as ranges, and what lies between two ranges is missing: it is asked for until it
is settled, whether the shop returned it or was asked often enough to believe that it has it no more.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

Range = tuple[int, int]
Ranges = tuple[Range, ...]
"""First and last number of each run of settled numbers, in order, with at least one missing number between."""
Place = tuple[int, int]
"""A notification: subscriber and number."""

MAX_GAP = 10_000  # of a wider gap only the last numbers are asked for: it is no loss but another start
_GRACE = 2.0  # seconds: most of what is missing is only late
_LONGEST = 300.0
_ASKS = 8


def is_settled(ranges: Ranges, number: int) -> bool:
    """Whether a number is in one of the ranges."""
    at = bisect_right(ranges, number, key=lambda each: each[0]) - 1
    return at >= 0 and number <= ranges[at][1]


def settle(ranges: Ranges, number: int) -> Ranges:
    """The ranges with one number more."""
    return _joined(sorted([*ranges, (number, number)]))


def missing(ranges: Ranges) -> list[int]:
    """The numbers between the first and the last that are not settled."""
    pairs = pairwise(ranges)
    return [number for (_, last), (first, _) in pairs for number in range(last + 1, first)]


def _joined(ranges: list[Range]) -> Ranges:
    joined: list[Range] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


@dataclass(slots=True)
class _Ask:
    due: float
    times: int = 0


class Sequences:
    """The numbers of every subscriber.

    Args:
        settled: as a checkpoint kept them; what is missing there is due at once.
        now: seconds on a clock that never goes back, as everywhere here.
    """

    def __init__(self, settled: Mapping[str, Ranges], now: float) -> None:
        self._settled = {int(subscriber): ranges for subscriber, ranges in settled.items()}
        self._asks: dict[Place, _Ask] = {}
        for subscriber, ranges in self._settled.items():
            self._asks.update({(subscriber, number): _Ask(now) for number in missing(ranges)})

    @property
    def settled(self) -> dict[str, Ranges]:
        """What a checkpoint keeps."""
        return {str(subscriber): ranges for subscriber, ranges in self._settled.items()}

    @property
    def open(self) -> int:
        """How many numbers are missing."""
        return len(self._asks)

    def arrived(self, place: Place, now: float) -> bool:
        """Settle a notification that is here; false where it was before."""
        subscriber, number = place
        ranges = self._settled.get(subscriber, ())
        if is_settled(ranges, number):
            return False
        near = _without_wide_gap(ranges, number)
        self._settled[subscriber] = settle(near, number)
        self._asks.pop(place, None)
        for each in _gap(near, number):
            self._asks[subscriber, each] = _Ask(now + _GRACE)
        return True

    def due(self, now: float, limit: int) -> list[Place]:
        """Which to ask the shop for now, at most so many; the lowest first."""
        return sorted(place for place, ask in self._asks.items() if ask.due <= now)[:limit]

    def not_returned(self, place: Place, now: float) -> bool:
        """Note that the shop answered without it; true where it is given up, and so settled."""
        ask = self._asks[place]
        ask.times += 1
        if ask.times < _ASKS:
            ask.due = now + min(_LONGEST, _GRACE * 2.0**ask.times)
            return False
        del self._asks[place]
        subscriber, number = place
        self._settled[subscriber] = settle(self._settled[subscriber], number)
        return True


def _gap(ranges: Ranges, number: int) -> range:
    """The numbers between a new one and the ranges, where it is outside."""
    if ranges and number > ranges[-1][1]:
        return range(ranges[-1][1] + 1, number)
    if ranges and number < ranges[0][0]:
        return range(number + 1, ranges[0][0])
    return range(0)


def _without_wide_gap(ranges: Ranges, number: int) -> Ranges:
    """The ranges, stretched towards a number that is far from them, so that at most `MAX_GAP` are missing."""
    if not ranges:
        return ranges
    (first, first_last), (last_first, last) = ranges[0], ranges[-1]
    if number > last + MAX_GAP + 1:
        return _joined([*ranges[:-1], (last_first, number - MAX_GAP - 1)])
    if number < first - MAX_GAP - 1:
        return _joined([(number + MAX_GAP + 1, first_last), *ranges[1:]])
    return ranges
