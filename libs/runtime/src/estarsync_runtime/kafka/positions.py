"""How far a consumer has come, shown as people ask: how many records behind, and how long."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, Message, TopicPartition

from estarsync_core.clock import Clock
from estarsync_runtime.metrics import Metrics

Place = tuple[str, int]
_MOST_SAMPLES = 4096
_SHOW_SECONDS = 1.0


def ends_of(consumer: Consumer) -> Callable[[Place], int | None]:
    """Where a partition ends, as the consumer's last fetch knew; None before the first. Does not block."""

    def end(place: Place) -> int | None:
        watermarks = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return watermarks[1] if watermarks[1] >= 0 else None

    return end


@dataclass(slots=True)
class _Progress:
    finished: int | None = None
    until: float | None = None
    read: deque[tuple[int, float]] = field(default_factory=deque)


class Positions:
    """Shows offset, lag and time of every partition that the process reads. For one thread.

    The time is the one up to which everything published is finished. It says how late a consumer is where a
    number of records does not: a thousand may be a second or a day. A partition that is read to its end is finished
    up to now; else up to the publication of the first record that is not finished.

    Args:
        metrics: where it is shown.
        clock: the time.
        end: where a partition ends; None where that is not known.
    """

    def __init__(self, metrics: Metrics, clock: Clock, end: Callable[[Place], int | None]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._end = end
        self._places: dict[Place, _Progress] = {}
        self._due = 0.0

    def read(self, messages: Iterable[Message]) -> None:
        """Remember when the first record of each partition among these was published."""
        seen: set[Place] = set()
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            if place in seen or message.error() is not None:
                continue
            seen.add(place)
            kind, milliseconds = message.timestamp()
            offset = message.offset()
            if kind != TIMESTAMP_NOT_AVAILABLE and offset is not None:
                self._sample(self._progress(place).read, offset, milliseconds / 1000)

    def finished(self, place: Place, offset: int) -> None:
        """Everything before this offset is finished."""
        self._progress(place).finished = offset
        self._metrics.position.labels(*place).set(offset)

    def lost(self, place: Place) -> None:
        """Another process reads this partition now."""
        if self._places.pop(place, None) is not None:
            for metric in (self._metrics.position, self._metrics.lag, self._metrics.finished_until):
                metric.remove(*place)

    def show(self) -> None:
        """Show lag and time, once a second at most; call it often."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + _SHOW_SECONDS
        for place, progress in self._places.items():
            self._show_one(place, progress)

    def _show_one(self, place: Place, progress: _Progress) -> None:
        end, finished = self._end(place), progress.finished
        if finished is None or end is None:
            return
        lag = max(0, end - finished)
        if lag == 0:
            progress.until = self._clock.now().timestamp()
        while progress.read and progress.read[0][0] <= finished:
            progress.until = max(progress.until or 0.0, progress.read.popleft()[1])
        self._metrics.lag.labels(*place).set(lag)
        if progress.until is not None:
            self._metrics.finished_until.labels(*place).set(progress.until)

    def _progress(self, place: Place) -> _Progress:
        return self._places.setdefault(place, _Progress())

    @staticmethod
    def _sample(read: deque[tuple[int, float]], offset: int, published: float) -> None:
        while read and read[-1][0] >= offset:  # it is read again
            read.pop()
        read.append((offset, published))
        if len(read) > _MOST_SAMPLES:  # a long backlog: half as exact from here on
            kept = list(read)[::2]
            read.clear()
            read.extend(kept)
