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

_rows = msgspec.json.Decoder(Row)


def restore_checkpoints(settings: Settings) -> dict[Entity, Checkpoint]:
    """How far each entity has been read; blocks.

    Raises:
        Stop: a checkpoint can't be read.
    """
    found: dict[Entity, Checkpoint] = {}
    for key, message in _keyed(settings, topics.CHECKPOINTS):
        try:
            found[Entity(key)] = decode_checkpoint(message.value() or b"{}")
        except (ValueError, msgspec.DecodeError) as error:
            raise Stop(_unreadable(message)) from error
    return found


def restore_rows(settings: Settings) -> Iterator[tuple[Entity, str, Row | None]]:
    """What was published of each record, the latest last; blocks.

    Raises:
        Stop: a record can't be read.
    """
    for key, message in _keyed(settings, topics.SOURCE_STATE):
        entity, _, identity = key.partition(":")
        value = message.value()
        try:
            yield Entity(entity), identity, None if value is None else _rows.decode(value)
        except (ValueError, msgspec.DecodeError) as error:
            raise Stop(_unreadable(message)) from error


def _keyed(settings: Settings, topic: str) -> Iterator[tuple[str, Message]]:
    for message in read_topics(settings, [settings.topic(topic)]):
        yield (message.key() or b"").decode("utf-8", "replace"), message


def _unreadable(message: Message) -> str:
    place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    return f"{place} was not written by this extractor: remove what else writes to this topic"
