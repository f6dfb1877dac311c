"""What becomes of one raw event: a payload, a tombstone, or a dead letter. No Kafka in here."""

from collections.abc import Callable, Iterable

import msgspec

from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.topics import dlq_topic, raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from transformer.heading import Again, Headings

SERVICE = "transformer"
PAYLOAD = "payload"
TOMBSTONE = "tombstone"
DEAD_LETTER = "dead_letter"

Headers = Iterable[tuple[str, bytes | None]]


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """A record of a raw topic, and where it stood; `again` where it is transformed once more."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    again: Again | None = None


class Output(msgspec.Struct, frozen=True, gc=False):
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


class _Route(msgspec.Struct, frozen=True):
    """Everything that is the same for all events of an input topic."""

    entity: Entity
    output: str
    headings: Headings
    map: Callable[[str, bytes], Mapped]
    encode: Callable[[Document], bytes]


class Handler:
    """A pure function of a raw event.

    Args:
        mapper: from raw to payload.
        codec: from payload to bytes, ready to write.
        prefix: of the topics on this cluster.
        instance: this process, for dead letters.
    """

    def __init__(self, mapper: Mapper, codec: AvroCodec, prefix: str, instance: str) -> None:
        self._instance = instance
        self._routes = {
            f"{prefix}{raw_topic(entity)}": _Route(
                entity,
                f"{prefix}{typed_topic(entity)}",
                Headings(entity),
                mapper.function(entity),
                codec.encoder(entity),
            )
            for entity in Entity
        }

    def handle(self, event: RawEvent) -> Output:
        """The record to write for a raw event; whatever is wrong with it becomes a dead letter."""
        route = self._routes[event.topic]
        try:
            return _transform(route, event.key, event.value, event.headers, event.again)
        except InvalidRecord as invalid:
            origin = Origin(
                event.topic, event.partition, event.offset, SERVICE, self._instance, "map", __name__
            )
            headers = dead_letter_headers(event.headers, origin, invalid)
            return Output(
                dlq_topic(event.topic),
                event.key,
                event.value,
                headers,
                route.entity,
                DEAD_LETTER,
                invalid.code,
            )


def _transform(
    route: _Route, key: bytes | None, value: bytes | None, headers: Headers, again: Again | None
) -> Output:
    sequence, time, form = route.headings.read(headers, again)
    if value is None:
        if form.reason is None:
            raise InvalidRecord("headers", "no_reason")
        _text(key)
        return Output(route.output, key, None, form.filled(sequence, time), route.entity, TOMBSTONE)
    mapped = route.map(_text(key), value)
    document = mapped.document
    if mapped.reason is not form.reason:
        form = form.with_reason(mapped.reason)
    encoded = None if document is None else route.encode(document)
    outcome = TOMBSTONE if document is None else PAYLOAD
    return Output(
        route.output,
        key,
        encoded,
        form.filled(sequence, time),
        route.entity,
        outcome,
        "",
        mapped.dropped,
    )


def _text(key: bytes | None) -> str:
    if not key:
        raise InvalidRecord("key", "missing")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidRecord("key", "not_utf8") from None
