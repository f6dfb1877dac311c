"""What becomes of one raw event: a payload, a tombstone, or a dead letter. No Kafka in here."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity, Version
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import EventHeaders, RawHeaders, version_of
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Mapped
from estarsync_core.topics import dlq_topic, raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec

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
        heading = _typed(entity, event.headers)
        if event.value is None:
            if heading.reason is None:
                raise InvalidRecord("headers", "no_reason")
            _text(event.key)
            mapped = Mapped(None, heading.reason)
        else:
            mapped = self._mapper.record(entity, _text(event.key), event.value)
        headers = EventHeaders(
            entity,
            heading.version,
            heading.lane,
            heading.source,
            heading.time,
            typed=True,
            reason=mapped.reason,
        ).encode()
        topic = self._outputs[entity]
        if mapped.document is None:
            return Output(topic, event.key, None, headers, entity, TOMBSTONE, "", mapped.dropped)
        value = self._codec.encode(entity, mapped.document)
        return Output(topic, event.key, value, headers, entity, PAYLOAD, "", mapped.dropped)


def _text(key: bytes | None) -> str:
    if not key:
        raise InvalidRecord("key", "missing")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidRecord("key", "not_utf8") from None


def _typed(entity: Entity, headers: Headers) -> EventHeaders:
    """The raw event's headers as those of what it becomes: same sequence, lane, source and time."""
    version, lane, reason = version_of(headers)
    found = {name: value for name, value in headers if value is not None}
    try:
        source, time = found["ce_source"].decode(), datetime.fromisoformat(found["ce_time"].decode())
    except (KeyError, ValueError):
        raise InvalidRecord("headers", "unreadable") from None
    if time.tzinfo is None:
        raise InvalidRecord("headers", "unreadable")
    return EventHeaders(
        entity, Version(version.sequence, MAPPING_REVISION), lane, source, time, typed=True, reason=reason
    )
