"""What becomes of one raw event: a payload, a tombstone, or a dead letter. No Kafka in here."""

from collections.abc import Iterable
from typing import NamedTuple

from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.topics import dlq_topic, raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from transformer.heading import read_heading

SERVICE = "transformer"
PAYLOAD = "payload"
TOMBSTONE = "tombstone"
DEAD_LETTER = "dead_letter"

Headers = Iterable[tuple[str, bytes | None]]


class RawEvent(NamedTuple):
    """A record of a raw topic, and where it stood."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Output(NamedTuple):
    """The one record that a raw event becomes, and what the metrics say of it.

    `code` is the dead letter's reason; `dropped` are the mapping's (field, code) pairs.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    entity: Entity
    outcome: str
    code: str = ""
    dropped: tuple[tuple[str, str], ...] = ()


class Handler:
    """A pure function of a raw event.

    Args:
        mapper: from raw to payload.
        codec: from payload to bytes.
        prefix: of the topics on this cluster.
        instance: this process, for dead letters.
    """

    def __init__(self, mapper: Mapper, codec: AvroCodec, prefix: str, instance: str) -> None:
        self._mapper = mapper
        self._codec = codec
        self._instance = instance
        self._entities = {f"{prefix}{raw_topic(entity)}": entity for entity in Entity}
        self._outputs = {entity: f"{prefix}{typed_topic(entity)}" for entity in Entity}

    def handle(self, event: RawEvent) -> Output:
        """The record to write for a raw event; whatever is wrong with it becomes a dead letter."""
        entity = self._entities[event.topic]
        try:
            return self._transform(entity, event)
        except InvalidRecord as invalid:
            origin = Origin(
                event.topic, event.partition, event.offset, SERVICE, self._instance, "map", __name__
            )
            headers = dead_letter_headers(event.headers, origin, invalid)
            return Output(
                dlq_topic(event.topic), event.key, event.value, headers, entity, DEAD_LETTER, invalid.code
            )

    def _transform(self, entity: Entity, event: RawEvent) -> Output:
        key, value = event.key, event.value
        heading = read_heading(entity, event.headers)
        if value is None:
            if heading.reason is None:
                raise InvalidRecord("headers", "no_reason")
            _text(key)
            return Output(self._outputs[entity], key, None, heading.typed(heading.reason), entity, TOMBSTONE)
        mapped = self._mapper.record(entity, _text(key), value)
        headers = heading.typed(mapped.reason)
        document, dropped = mapped.document, mapped.dropped
        if document is None:
            return Output(self._outputs[entity], key, None, headers, entity, TOMBSTONE, "", dropped)
        encoded = self._codec.encode(entity, document)
        return Output(self._outputs[entity], key, encoded, headers, entity, PAYLOAD, "", dropped)


def _text(key: bytes | None) -> str:
    if not key:
        raise InvalidRecord("key", "missing")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidRecord("key", "not_utf8") from None
