"""Writing: the events of a page, what is remembered of them, and how far the feed has come, all or nothing."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
import structlog

from estarsync_core import topics
from estarsync_core.clock import Clock
from estarsync_core.deadletters import ExtractLetter, attempt_header
from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.errors import EstarsyncError, RetryLater
from estarsync_core.estar.changes import Row
from estarsync_core.estar.checkpoint import Checkpoint, FeedMark
from estarsync_core.estar.sequences import Ranges
from estarsync_core.estar.windows import Window
from estarsync_core.headers import EventHeaders, RawHeaders
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.tracing import OFF, Attributes, Role, Span, Tracing
from extractor.pages import Page
from extractor.settings import Settings
from extractor.state import SourceState

_RAW_REVISION = 0
_encode = msgspec.json.encode
_log = structlog.get_logger()


class PublishFailed(EstarsyncError):  # noqa: N818 - named for what happened
    """Kafka did not take a page, or did not say so: begin anew from what it holds."""


class Transactions(Protocol):
    """What the publisher needs of `TransactionalProducer`."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything produced inside becomes visible together, or not at all."""
        ...

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders | None = None
    ) -> None:
        """Add a record to the open transaction."""
        ...


class Publisher:
    """The one writer of raw events. Everything that it holds beside Kafka follows a commit, and never goes before.

    Args:
        settings: for topic names and the events' source.
        producer: whose construction has fenced older ones.
        state: as restored.
        checkpoints: as restored.
        clock: for the events' times.
        metrics: what is shown.
        tracing: where each transaction is shown; its context goes with the events.
    """

    def __init__(
        self,
        settings: Settings,
        producer: Transactions,
        state: SourceState,
        checkpoints: Mapping[Entity, Checkpoint],
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._producer = producer
        self._state = state
        self._checkpoints = {entity: checkpoints.get(entity, Checkpoint()) for entity in Entity}
        self._clock = clock
        self._metrics = metrics

    def mark(self, entity: Entity, feed: str) -> FeedMark | None:
        """How far a feed has come; None before its first commit."""
        return self._checkpoints[entity].feeds.get(feed)

    @property
    def notifications(self) -> dict[str, Ranges]:
        """The notifications that are settled, as committed, by subscriber."""
        return self._checkpoints[Entity.ORDERS].notifications

    def commit(
        self,
        entity: Entity,
        lane: Lane,
        page: Page,
        marks: Mapping[str, FeedMark],
        window: Window | None = None,
        *,
        notifications: Mapping[str, Ranges] | None = None,
        within: Callable[[], None] | None = None,
        control: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Write a page in one transaction; blocks until Kafka has it.

        Args:
            entity: whose page.
            lane: how urgent its events are.
            page: what to publish and remember.
            marks: how far its feeds have come with it.
            window: where its ids were listed; goes into the dead letters.
            notifications: those that are settled with it, where that has changed.
            within: called inside the transaction, to make more a part of it.
            control: records for the control topic, by key.

        Raises:
            PublishFailed: it may or may not be written; nothing in memory has changed.
            Fenced: a newer extractor has taken over.
            Stop: Kafka can't be written to any more.
        """
        before = self._checkpoints[entity]
        after = before.with_sequence(before.sequence + len(page.changes.events))
        for name, mark in marks.items():
            after = after.with_feed(name, mark)
        if notifications is not None:
            after = after.with_notifications(notifications)
        dead = {**page.changes.dead, **page.failed}
        if after != before or page.changes.rows or dead or within is not None or control:
            try:
                with self._span(entity, lane, page) as span, self._producer.transaction():
                    self._events(entity, lane, page, before.sequence, span.header)
                    self._rows(entity, page.changes.rows)
                    self._dead_letters(entity, dead, window, page.attempt + 1)
                    self._produce(topics.CHECKPOINTS, entity.value, after.encode())
                    for key, value in (control or {}).items():
                        self._produce(topics.CONTROL, key, value)
                    if within is not None:
                        within()
            except RetryLater as error:
                raise PublishFailed(str(error)) from error
            self._checkpoints[entity] = after
            self._state.apply(entity, page.changes.rows)
        self._count(entity, lane, page, dead)

    def _span(self, entity: Entity, lane: Lane, page: Page) -> AbstractContextManager[Span]:
        facts: Attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": self._settings.topic(topics.raw_topic(entity)),
            "messaging.batch.message_count": len(page.changes.events),
            "estarsync.entity": entity.value,
            "estarsync.lane": lane.value,
            "estarsync.unchanged": page.changes.unchanged,
        }
        return self._tracing.span(f"publish {entity}", facts, role=Role.PRODUCER, parent=page.trace)

    def _events(self, entity: Entity, lane: Lane, page: Page, sequence: int, trace: RawHeaders) -> None:
        topic = self._settings.topic(topics.raw_topic(entity))
        now = self._clock.now()
        for number, event in enumerate(page.changes.events, sequence + 1):
            headers = EventHeaders(
                entity,
                Version(number, _RAW_REVISION),
                lane,
                self._settings.estar_base_url,
                now,
                typed=False,
                reason=event.reason,
            )
            again = attempt_header(page.attempt) if page.attempt else []
            self._producer.produce(topic, event.key.encode(), event.value, headers.encode() + again + trace)

    def _rows(self, entity: Entity, rows: Mapping[str, Row | None]) -> None:
        for identity, row in rows.items():
            value = None if row is None else _encode_row(row)
            self._produce(topics.SOURCE_STATE, f"{entity}:{identity}", value)

    def _dead_letters(
        self, entity: Entity, dead: Mapping[str, str], window: Window | None, attempt: int
    ) -> None:
        topic = self._settings.topic(topics.EXTRACT_DLQ)
        where = None if window is None else {"start": window.start, "end": window.end}
        for identity, code in dead.items():
            letter = ExtractLetter(entity, identity, where, code)
            self._producer.produce(topic, letter.key, _encode(letter), letter.headers(attempt))

    def _produce(self, topic: str, key: str, value: bytes | None) -> None:
        self._producer.produce(self._settings.topic(topic), key.encode(), value)

    def _count(self, entity: Entity, lane: Lane, page: Page, dead: Mapping[str, str]) -> None:
        self._metrics.read.labels(entity).inc(page.read)
        self._metrics.unchanged.labels(entity).inc(page.changes.unchanged)
        self._metrics.withheld.labels(entity).inc(page.changes.withheld)
        self._metrics.events.labels(entity, lane).inc(len(page.changes.events))
        self._metrics.sequence.labels(entity).set(self._checkpoints[entity].sequence)
        codes = Counter(dead.values())
        for code, number in codes.items():
            self._metrics.extract_dead.labels(entity, code).inc(number)
        if codes:
            _log.warning("dead_letters", entity=entity, codes=dict(codes))


def _encode_row(row: Row) -> bytes:
    who = {"who": row.who} if row.who else {}
    return _encode({"key": row.key, "hash": row.hash, **who})
