"""What the extractor knew when it last committed, read back from Kafka, and kept up to date while another one works."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core import topics
from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater, Stop
from estarsync_core.estar.changes import Row
from estarsync_core.estar.checkpoint import Checkpoint, decode_checkpoint
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.restore import partitions_of
from extractor.settings import Settings
from extractor.state import SourceState

_AT_ONCE = 1000
_TURN = 0.1
_PATIENCE = 15.0
_FOLLOW_SECONDS = 2.0
_row = msgspec.json.Decoder(Row)
Restored = tuple[Entity, str, Row | None]


class Memory:
    """The rows and checkpoints that Kafka holds, as far as they have been read. Make it with `remembering`.

    Attributes:
        state: the rows.
        checkpoints: how far each entity has been read from the shop.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        state: SourceState,
        clock: Clock,
        beat: Callable[[], None],
    ) -> None:
        self.state = state
        self.checkpoints: dict[Entity, Checkpoint] = {}
        self._checkpoints = settings.topic(topics.CHECKPOINTS)
        self._consumer = consumer
        self._clock = clock
        self._beat = beat
        self._next = partitions_of(consumer, [self._checkpoints, settings.topic(topics.SOURCE_STATE)])
        self._followed: float | None = None

    def follow(self) -> None:
        """Catch up, but only every other second: for a standby, so that it takes over quickly; blocks.

        Raises:
            RetryLater: Kafka does not answer.
            Stop: a record can't be read.
        """
        now = self._clock.monotonic()
        if self._followed is None or now >= self._followed + _FOLLOW_SECONDS:
            self.catch_up()
            self._followed = self._clock.monotonic()

    def catch_up(self) -> None:
        """Take in everything that is committed now; blocks. Doing it again costs only what is new.

        Raises:
            RetryLater: Kafka does not answer.
            Stop: a record can't be read.
        """
        # Assigned anew, every partition reports its end again.
        with translated():
            self._consumer.assign(self._next)
        open_partitions = {(each.topic, each.partition) for each in self._next}
        places = {(each.topic, each.partition): each for each in self._next}
        quiet_since = self._clock.monotonic()
        while open_partitions:
            self._beat()
            # `consume` waits for the whole time-out where there are fewer: a long one delays every start.
            with translated():
                messages = self._consumer.consume(_AT_ONCE, timeout=_TURN)
            self.state.restore(self._rows(messages, places, open_partitions))
            now = self._clock.monotonic()
            quiet_since = now if messages else quiet_since
            if now > quiet_since + _PATIENCE:
                raise RetryLater("Kafka does not give out the source state")
        with translated():
            self._consumer.unassign()  # while this one works nothing is read

    def _rows(
        self,
        messages: list[Message],
        places: dict[tuple[str, int], TopicPartition],
        open_partitions: set[tuple[str, int]],
    ) -> Iterator[Restored]:
        """The rows in the order of their topic; checkpoints are put aside."""
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                row = self._taken(message)
                if row is not None:
                    yield row
                places[place].offset = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                open_partitions.discard(place)
            elif not error.retriable():
                raise translate(error)

    def _taken(self, message: Message) -> Restored | None:
        key = (message.key() or b"").decode("utf-8", "replace")
        value = message.value()
        try:
            if message.topic() == self._checkpoints:
                self.checkpoints[Entity(key)] = decode_checkpoint(value or b"")
                return None
            entity, _, identity = key.partition(":")
            return Entity(entity), identity, None if value is None else _row.decode(value)
        except (ValueError, msgspec.DecodeError) as error:
            raise Stop(_unreadable(message)) from error


@contextmanager
def remembering(
    settings: Settings, state: SourceState, clock: Clock, beat: Callable[[], None]
) -> Iterator[Memory]:
    """A memory in which nothing is yet.

    Args:
        settings: how to reach Kafka.
        state: where the rows go.
        clock: the time.
        beat: called now and then while it reads.

    Raises:
        ConfigurationError: a topic is missing, or no broker answers.
    """
    consumer = Consumer(consumer_config(settings, "estarsync-restore"))
    try:
        yield Memory(settings, consumer, state, clock, beat)
    finally:
        consumer.close()


def _unreadable(message: Message) -> str:
    place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    return f"{place} was not written by this extractor: remove what else writes to this topic"
