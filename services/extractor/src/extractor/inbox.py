"""Verified notifications as the receivers wrote them, read from where the last transaction left off."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.notifications import Notification, read_notification
from estarsync_core.headers import traceparent_of
from estarsync_core.topics import NOTIFICATIONS
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings

_AT_ONCE = 500
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """One message; without a notification it can't be read, and `code` says why. `trace` is its trace context."""

    place: str
    notification: Notification | None
    code: str = ""
    trace: bytes | None = None


class Inbox(Protocol):
    """Where notifications come from."""

    def take(self) -> list[Received]:
        """What has come since the last time; doesn't wait."""
        ...

    def settle(self) -> None:
        """Make all that was taken a part of the open transaction."""
        ...


class Offsets(Protocol):
    """What the inbox needs of `TransactionalProducer`."""

    def send_offsets(self, offsets: Sequence[TopicPartition], consumer: Consumer) -> None:
        """Make the consumer's progress part of the open transaction."""
        ...


class KafkaInbox:
    """Reads one topic. Make it with `kafka_inbox`."""

    def __init__(self, consumer: Consumer, producer: Offsets) -> None:
        self._consumer = consumer
        self._producer = producer
        self._next: dict[tuple[str, int], int] = {}

    def take(self) -> list[Received]:
        """What has come since the last time; doesn't wait.

        Raises:
            RetryLater: Kafka is in trouble.
        """
        received: list[Received] = []
        with translated():
            messages = self._consumer.consume(_AT_ONCE, timeout=0.0)
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF or error.retriable():  # noqa: SLF001 - librdkafka's own code
                    continue
                raise translate(error)
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            self._next[topic, partition] = offset + 1
            place = f"notification/{partition}/{offset}"
            try:
                notification = read_notification(message.value() or b"")
                received.append(Received(place, notification, trace=traceparent_of(headers_of(message))))
            except InvalidRecord as trouble:
                received.append(Received(place, None, trouble.code))
        return received

    def settle(self) -> None:
        """Make all that was taken a part of the open transaction."""
        offsets = [TopicPartition(*place, offset) for place, offset in self._next.items()]
        if offsets:
            self._producer.send_offsets(offsets, self._consumer)


@contextmanager
def kafka_inbox(settings: KafkaSettings, producer: Offsets) -> Iterator[KafkaInbox]:
    """An inbox that goes on where the last committed transaction left off; blocks.

    Args:
        settings: how to reach Kafka.
        producer: whose transactions commit how far it was read; it has fenced older ones.

    Raises:
        ConfigurationError: the topic is missing.
        RetryLater: Kafka does not answer.
    """
    consumer = Consumer(consumer_config(settings, "estarsync-extractor"))
    try:
        partitions = partitions_of(consumer, [settings.topic(NOTIFICATIONS)])
        with translated():
            bare = [TopicPartition(each.topic, each.partition) for each in partitions]
            committed = consumer.committed(bare, timeout=_TIMEOUT)
            # Without an offset yet it begins with the oldest.
            known = {each.partition: each.offset for each in committed if each.offset >= 0}
            for each in partitions:
                each.offset = known.get(each.partition, each.offset)
            consumer.assign(partitions)
        yield KafkaInbox(consumer, producer)
    finally:
        consumer.close()
