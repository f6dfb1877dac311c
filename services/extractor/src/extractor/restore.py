"""What the extractor knew when it last committed, read back from Kafka."""

from collections.abc import Iterator

import msgspec
from confluent_kafka import Message

from estarsync_core import topics
from estarsync_core.entities import Entity
from estarsync_core.errors import Stop
from estarsync_core.estar.changes import Row
from estarsync_core.estar.checkpoint import Checkpoint, decode_checkpoint
from estarsync_runtime.kafka.restore import read_topics
from extractor.settings import Settings
from extractor.state import SourceState

_row = msgspec.json.Decoder(Row)


def restore(settings: Settings, state: SourceState) -> dict[Entity, Checkpoint]:
    """Fill the state, and say how far each entity has been read; blocks.

    Raises:
        ConfigurationError: a topic is missing.
        RetryLater: Kafka does not answer.
        Stop: a record can't be read.
    """
    checkpoints: dict[Entity, Checkpoint] = {}
    state.restore(_rows(settings, checkpoints))
    return checkpoints


def _rows(
    settings: Settings, checkpoints: dict[Entity, Checkpoint]
) -> Iterator[tuple[Entity, str, Row | None]]:
    """The rows in the order of their topic; checkpoints are put aside."""
    names = [settings.topic(topics.CHECKPOINTS), settings.topic(topics.SOURCE_STATE)]
    for message in read_topics(settings, names):
        key = (message.key() or b"").decode("utf-8", "replace")
        value = message.value()
        try:
            if message.topic() == names[0]:
                checkpoints[Entity(key)] = decode_checkpoint(value or b"")
            else:
                entity, _, identity = key.partition(":")
                yield Entity(entity), identity, None if value is None else _row.decode(value)
        except (ValueError, msgspec.DecodeError) as error:
            raise Stop(_unreadable(message)) from error


def _unreadable(message: Message) -> str:
    place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    return f"{place} was not written by this extractor: remove what else writes to this topic"
