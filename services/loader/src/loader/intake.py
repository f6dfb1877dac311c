"""From the typed topics into the pending table, as fast as they come: reading never waits for delivery."""

from collections.abc import Sequence
from dataclasses import replace

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import version_of
from estarsync_core.topics import typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from loader.batches import content_hash
from loader.ledger import Entry, Ledger, packed_headers
from loader.table import DELIVERED, Pending, Table

GROUP = "estarsync-loader"
_TIMEOUT = 15.0
_log = structlog.get_logger()


def open_consumer(settings: KafkaSettings) -> Consumer:
    """A consumer of every partition of the typed topics, at the offsets that the last loader committed.

    There is one active loader, so it takes all partitions itself: no rebalance, no pause. A newer loader fences
    it through the producer.
    """
    consumer = Consumer(consumer_config(settings, GROUP))
    topics = [settings.topic(typed_topic(entity)) for entity in Entity]
    partitions = partitions_of(consumer, topics)
    with translated():
        committed = consumer.committed(partitions, timeout=_TIMEOUT)
        consumer.assign(
            [
                TopicPartition(
                    start.topic, start.partition, found.offset if found.offset >= 0 else start.offset
                )
                for start, found in zip(partitions, committed, strict=True)
            ]
        )
    return consumer


class Intake:
    """Takes records in.

    Args:
        settings: for topic names.
        table: where records wait.
        codec: to read them.
        ledger: makes the dead letters of records that can't be read.
        metrics: where fates are counted.
    """

    def __init__(
        self, settings: KafkaSettings, table: Table, codec: AvroCodec, ledger: Ledger, metrics: Metrics
    ) -> None:
        self._entities = {settings.topic(typed_topic(entity)): entity for entity in Entity}
        self._table = table
        self._codec = codec
        self._ledger = ledger
        self._metrics = metrics
        self._at_end: set[tuple[str, int]] = set()
        self.positions: dict[tuple[str, int], int] = {}
        self.outbox: list[Entry] = []
        """Dead letters to be written with the next commit of offsets, never after it."""

    def contacts_read(self, partitions: Sequence[TopicPartition]) -> bool:
        """Whether everything that stands in the contacts topic has been read."""
        return all(
            (partition.topic, partition.partition) in self._at_end
            for partition in partitions
            if self._entities[partition.topic] is Entity.CONTACTS
        )

    def take(self, messages: Sequence[Message]) -> None:
        """Put records into the table, and remember how far the topics were read."""
        with self._table.transaction():
            for message in messages:
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is None:
                    self._take_one(message)
                    self.positions[place] = (message.offset() or 0) + 1
                    self._at_end.discard(place)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                    # Transaction markers take offsets too: the end may lie beyond the last record.
                    self.positions[place] = message.offset() or 0
                    self._at_end.add(place)
                elif not error.retriable():
                    raise translate(error)

    def _take_one(self, message: Message) -> None:
        entity = self._entities[message.topic() or ""]
        headers = headers_of(message)
        key = (message.key() or b"").decode(errors="replace")
        record = Pending(
            entity,
            key,
            Version(0, 0),
            Lane.BULK,
            message.value(),
            headers=packed_headers(headers),
            topic=message.topic(),
            partition=message.partition() or 0,
            offset=message.offset() or 0,
        )
        try:
            version, lane, reason = version_of(headers)
            email = self._check(record)
        except InvalidRecord as error:
            self.outbox.append(self._ledger.dead_letter(record, error))
            self._count(entity, "dead_letter")
            _log.warning("unreadable_record", entity=entity, field=error.field, code=error.code)
            return
        self._put(replace(record, version=version, lane=lane, email=email), reason)

    def _check(self, record: Pending) -> str | None:
        """An order's e-mail; raises InvalidRecord for a payload that can't be read."""
        if record.payload is None:
            return None
        document = self._codec.decode(record.entity, record.payload)
        return str(document["email"]) if record.entity is Entity.ORDERS else None

    def _put(self, record: Pending, reason: Reason | None) -> None:
        settled = self._table.delivered(record.entity, record.key)
        waiting = self._table.get(record.entity, record.key)
        fenced = self._table.fenced(record.entity, record.key)
        if settled is not None and record.version <= settled.version:
            self._count(record.entity, "superseded")
            return
        if waiting is not None and not waiting.bare:
            self._count(record.entity, "superseded")
            if record.version <= waiting.version:
                return
        if record.tombstone:
            # A contact is only ever deleted by an erasure, and what is not there needs no removal; but an open
            # import may be about to put it there.
            there = fenced or (settled is not None and settled.outcome == DELIVERED)
            if record.entity is Entity.CONTACTS or not there or reason is Reason.RENAMED:
                self._table.drop(record.entity, record.key)
                self._count(record.entity, "removed")
            else:
                self._table.put(replace(record, email=self._table.owner(record.entity, record.key)))
            return
        same = (
            settled is not None
            and settled.outcome == DELIVERED
            and settled.hash == content_hash(record.payload)
        )
        if same and not fenced:
            self._table.drop(record.entity, record.key)
            self._count(record.entity, "unchanged")
            return
        waits = False
        if record.entity is Entity.ORDERS:
            contact = self._table.delivered(Entity.CONTACTS, record.email or "")
            waits = contact is None or contact.outcome != DELIVERED
        self._table.put(record, waits=waits)

    def _count(self, entity: Entity, outcome: str) -> None:
        self._metrics.delivered.labels(entity, outcome).inc()
