"""Reading again what stands in Kafka: the typed topics for a resync, dead letters for a redrive."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.control import Letter
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_core.topics import typed_topic
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings
from loader.ledger import Place

_GROUP = "estarsync-loader-again"
_AT_ONCE = 500
_TIMEOUT = 15.0
_TURN = 0.1


class KafkaReading:
    """Parts of partitions, in order.

    Args:
        settings: which Kafka.
        offsets: where to begin.
    """

    def __init__(self, settings: KafkaSettings, offsets: Mapping[Place, int]) -> None:
        self._consumer = Consumer(consumer_config(settings, _GROUP))
        with translated():
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    def read(self, seconds: float = 0.0) -> list[Message]:
        """The next records and ends, waiting for at most so many seconds.

        Raises:
            Stop: Kafka refuses for good.
        """
        with translated():
            found = self._consumer.consume(_AT_ONCE, timeout=seconds)
        return [message for message in found if _is_of_use(message)]

    def close(self) -> None:
        """Let go of the partitions."""
        self._consumer.close()


class KafkaArchive:
    """See the module.

    Args:
        settings: which Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def spans(
        self, entity: Entity, since: datetime | None, until: datetime | None
    ) -> Mapping[Place, tuple[int, int]]:
        """Where each partition's records begin and end that were published between two times; blocks for a moment.

        Raises:
            RetryLater: Kafka does not say.
            ConfigurationError: there is no such topic.
        """
        consumer = Consumer(consumer_config(self._settings, _GROUP))
        try:
            partitions = partitions_of(consumer, [self._settings.topic(typed_topic(entity))])
            with translated():
                marks = {
                    (each.topic, each.partition): consumer.get_watermark_offsets(each, timeout=_TIMEOUT)
                    for each in partitions
                }
                starts = self._at(consumer, partitions, since)
                ends = self._at(consumer, partitions, until)
        finally:
            consumer.close()
        return {
            place: (low if since is None else starts.get(place, high), ends.get(place, high))
            for place, (low, high) in marks.items()
        }

    @staticmethod
    def _at(
        consumer: Consumer, partitions: Sequence[TopicPartition], moment: datetime | None
    ) -> dict[Place, int]:
        """The first offset at or after a moment, where there is one."""
        if moment is None:
            return {}
        stamp = int(moment.timestamp() * 1000)
        asked = [TopicPartition(each.topic, each.partition, stamp) for each in partitions]
        return {
            (found.topic, found.partition): found.offset
            for found in consumer.offsets_for_times(asked, timeout=_TIMEOUT)
            if found.offset >= 0
        }

    def reading(self, offsets: Mapping[Place, int]) -> KafkaReading:
        """Read these partitions from these offsets on."""
        return KafkaReading(self._settings, offsets)

    def fetch(self, letters: Sequence[Letter]) -> list[Message]:
        """These dead letters, as far as they are still there; blocks for a moment.

        Raises:
            RetryLater: Kafka does not give them out.
        """
        wanted: dict[Place, set[int]] = defaultdict(set)
        for letter in letters:
            wanted[self._settings.topic(letter.topic), letter.partition].add(letter.offset)
        found: list[Message] = []
        reading = KafkaReading(self._settings, {place: min(offsets) for place, offsets in wanted.items()})
        quiet = 0.0
        try:
            while wanted:
                messages = reading.read(_TURN)
                quiet = 0.0 if messages else quiet + _TURN
                if quiet > _TIMEOUT:
                    raise RetryLater("Kafka does not give out the dead letters")
                for message in messages:
                    place = (message.topic() or "", message.partition() or 0)
                    offset = message.offset() or 0
                    if message.error() is None and offset in wanted.get(place, ()):
                        found.append(message)
                    if message.error() is not None or offset >= max(wanted.get(place, {-1})):
                        wanted.pop(place, None)
        finally:
            reading.close()
        return found


def _is_of_use(message: Message) -> bool:
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
        return True
    meaning = translate(error)
    if not isinstance(meaning, RetryLater):
        raise meaning
    return False
