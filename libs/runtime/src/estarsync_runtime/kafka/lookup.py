"""Finding a few records among many: only the partitions where a key can be are read, and only keys are looked at."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message, TopicPartition

from estarsync_core.partitions import partition_of
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.patience import patiently
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings

_AT_ONCE = 10_000
_TIMEOUT = 15.0
Place = tuple[str, int]


class Lookup:
    """Reads chosen partitions of topics, as they are at that moment. For one thread; close it in the end.

    Args:
        settings: which Kafka.
        topics: declared names of the topics that will be looked at.
        fast: whether much is to be read, which takes memory for large fetches; not for single records.

    Raises:
        ConfigurationError: a topic is missing, or no broker answers.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], *, fast: bool = True) -> None:
        self._settings = settings
        # Reading as fast as the broker gives: the service's own small queues would make it wait.
        large = {
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "queued.max.messages.kbytes": 32 * 1024,
            "queued.min.messages": 200_000,
        }
        self._consumer = Consumer(
            {**consumer_config(settings, "estarsync-lookup"), **(large if fast else {})}
        )
        self._counts: dict[str, int] = {}
        try:
            for each in partitions_of(self._consumer, [settings.topic(topic) for topic in topics]):
                self._counts[each.topic] = self._counts.get(each.topic, 0) + 1
        except BaseException:
            self._consumer.close()
            raise

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, by its declared name."""
        return self._counts[self._settings.topic(topic)]

    def by_key(
        self, keys: Mapping[str, Sequence[bytes]], since: datetime | None = None
    ) -> Iterator[tuple[str, Message]]:
        """The records with these keys, each with its topic's declared name; blocks while reading.

        Args:
            keys: by the topic's declared name.
            since: nothing that was written before.
        """
        places = {
            (self._settings.topic(topic), partition_of(key, self.partitions(topic)))
            for topic, wanted in keys.items()
            for key in wanted
        }
        every = {key for wanted in keys.values() for key in wanted}
        names = {self._settings.topic(topic): (topic, frozenset(wanted)) for topic, wanted in keys.items()}
        for message in self._read(places, lambda message: message.key() in every, since):
            topic, wanted = names[message.topic() or ""]
            if message.key() in wanted:
                yield topic, message

    def where(
        self, topic: str, matches: Callable[[Message], bool], since: datetime | None = None
    ) -> Iterator[Message]:
        """The records of a topic that match; blocks while reading all of it."""
        name = self._settings.topic(topic)
        return self._read({(name, number) for number in range(self._counts[name])}, matches, since)

    def at(self, topic: str, partition: int, offset: int) -> Message | None:
        """The first record at or after a place; None where there is none."""
        begin = [TopicPartition(self._settings.topic(topic), partition, offset)]
        found = self._from(begin, lambda _: True)
        first = next(found, None)
        found.close()
        return first

    def _read(
        self, places: set[Place], matches: Callable[[Message], bool], since: datetime | None
    ) -> Iterator[Message]:
        start = 0 if since is None else int(since.timestamp() * 1000)
        begin = [TopicPartition(topic, number, start) for topic, number in sorted(places)]
        if since is None:
            for each in begin:
                each.offset = OFFSET_BEGINNING
        else:
            asked = begin
            begin = patiently(lambda: self._consumer.offsets_for_times(asked, timeout=_TIMEOUT))
            begin = [each for each in begin if each.offset != OFFSET_END]  # nothing that young
        return self._from(begin, matches)

    def _from(
        self, begin: Sequence[TopicPartition], matches: Callable[[Message], bool]
    ) -> Generator[Message, None, None]:
        if not begin:
            return
        with translated():
            self._consumer.assign(list(begin))
        open_places = {(each.topic, each.partition) for each in begin}
        try:
            while open_places:
                with translated():
                    messages = self._consumer.consume(_AT_ONCE, timeout=0.1)
                for message in messages:
                    error = message.error()
                    if error is None:
                        if matches(message):
                            yield message
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                        open_places.discard((message.topic() or "", message.partition() or 0))
                    elif not error.retriable():
                        raise translate(error)
        finally:
            with translated():
                self._consumer.unassign()
