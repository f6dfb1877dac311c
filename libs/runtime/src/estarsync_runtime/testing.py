"""Fakes that ship: for our tests, and for whoever tests against us."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from confluent_kafka import TopicPartition
from typing_extensions import override

from estarsync_core.clock import Clock
from estarsync_core.headers import RawHeaders

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


@dataclass(frozen=True, slots=True)
class Written:
    """A record that a `FakeProducer` has committed."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders


class FakeProducer:
    """In place of a `TransactionalProducer`: keeps in memory what would have become visible.

    Attributes:
        records: what was committed, in order.
        offsets: the offsets that were committed last.
        failures: raised at the end of the next transactions, one each; nothing of those becomes visible.
    """

    def __init__(self) -> None:
        self.records: list[Written] = []
        self.offsets: dict[tuple[str, int], int] = {}
        self.failures: list[Exception] = []
        self._written: list[Written] = []
        self._sent: dict[tuple[str, int], int] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything produced inside becomes visible together at the end, or not at all."""
        self._written, self._sent = [], {}
        yield
        if self.failures:
            raise self.failures.pop(0)
        self.records += self._written
        self.offsets.update(self._sent)

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders | None = None
    ) -> None:
        """Add a record to the open transaction."""
        self._written.append(Written(topic, key, value, headers or []))

    def send_offsets(self, offsets: Sequence[TopicPartition], consumer: object = None) -> None:  # noqa: ARG002 - as the real one
        """Make a consumer's progress part of the open transaction."""
        self._sent |= {(each.topic, each.partition): each.offset for each in offsets}
