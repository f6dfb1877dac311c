"""Records that CONTACT_SCOPE left out, read again once they may go.

Of an order whose contact is out of scope the loader keeps only where it stands in its topic, which keeps the latest
version of every key for good. When the contact is created after all, its orders are read again, a few at a time.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.dotdigital.scope import ContactScope
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_core.topics import typed_topic
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.settings import KafkaSettings
from loader.intake import Intake
from loader.table import Table

_AT_ONCE = 20
_NEAR = 200  # so far ahead, reading on is quicker than asking anew
_TURN = 0.1
_PATIENCE = 100  # turns
_GROUP = "estarsync-loader-recall"
_log = structlog.get_logger()


class Shelf(Protocol):
    """Where single records are read again: Kafka, or a fake."""

    def fetch(self, entity: Entity, places: Sequence[tuple[int, int]]) -> list[Message]:
        """The records at these partitions and offsets, as far as they are still there; blocks for a moment.

        Raises:
            RetryLater: Kafka does not give them out.
        """
        ...


class KafkaShelf:
    """Single records of the typed topics.

    Args:
        settings: which Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer: Consumer | None = None
        self._next: tuple[str, int, int] | None = None

    def fetch(self, entity: Entity, places: Sequence[tuple[int, int]]) -> list[Message]:
        """The records at these places; one that a newer version has displaced is left out.

        Raises:
            RetryLater: Kafka does not give them out.
        """
        if self._consumer is None:
            self._consumer = Consumer(consumer_config(self._settings, _GROUP))
        topic = self._settings.topic(typed_topic(entity))
        found = []
        for partition, offset in sorted(places):
            message = self._one(self._consumer, topic, partition, offset)
            if message is not None:
                found.append(message)
        return found

    def close(self) -> None:
        """Let go of Kafka."""
        if self._consumer is not None:
            self._consumer.close()

    def _one(self, consumer: Consumer, topic: str, partition: int, offset: int) -> Message | None:
        ahead = self._next is not None and self._next[:2] == (topic, partition)
        if self._next is None or not ahead or not 0 <= offset - self._next[2] < _NEAR:
            with translated():
                consumer.assign([TopicPartition(topic, partition, offset)])
        self._next = None
        for _ in range(_PATIENCE):
            with translated():
                messages = consumer.consume(1, timeout=_TURN)
            for message in messages:
                error = message.error()
                at = message.offset() or 0
                if error is None and at < offset:
                    continue
                if error is None:
                    self._next = (topic, partition, at + 1)
                    return message if at == offset else None
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                    return None
                if not isinstance(meaning := translate(error), RetryLater):
                    raise meaning
        raise RetryLater("Kafka does not give out records that were left out")


class Recall:
    """Offers what was left out, once it may go.

    Args:
        table: knows what that is.
        intake: puts records into the table.
        shelf: where they are read again.
        scope: the setting; everything that was left out before goes where it is `all` by now.
    """

    def __init__(self, table: Table, intake: Intake, shelf: Shelf, scope: ContactScope) -> None:
        self._table = table
        self._intake = intake
        self._shelf = shelf
        table.recall_all(whole=scope is ContactScope.ALL)

    def step(self) -> None:
        """Read a few again; blocks for a moment where there are any.

        Raises:
            RetryLater: Kafka, or the schema registry, does not answer; nothing is lost.
        """
        wanted = self._table.recalls(_AT_ONCE)
        for entity, group in groupby(wanted, attrgetter("entity")):
            records = list(group)
            messages = self._shelf.fetch(entity, [(each.partition, each.offset) for each in records])
            offered = self._intake.again(messages)
            self._table.recalled(records)
            _log.info("recalled", entity=entity, records=len(records), offered=offered)
