"""What happened to one record, from the topics: the shop's events, payloads, imports, attempts, dead letters."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import Message

from estarsync_core.control import Erasure, Words, erased_key
from estarsync_core.deadletters import ATTEMPT, CODE, FIELD
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import version_of
from estarsync_core.keys import canonical_email
from estarsync_core.topics import (
    DELIVERED,
    DELIVERIES,
    EXTRACT_DLQ,
    IMPORTS,
    SOURCE_STATE,
    dlq_topic,
    raw_topic,
    typed_topic,
)
from estarsync_runtime.avro import codec_for
from estarsync_runtime.kafka.control import read_words
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.settings import KafkaSettings

Row = tuple[str, Message]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at: when; UTC.
        what: `shop event`, `payload`, `import`, `attempt`, `state`, `dead letter`, `extract dead letter`, `erased`.
        facts: numbers, ids, codes and names of fields; never a value of the record.
    """

    at: datetime
    what: str
    facts: dict[str, Any]


@dataclass(slots=True)
class Story:
    """All that is known of one key, oldest first.

    Attributes:
        entity: of the record.
        key: of the record.
        events: in time order.
        payload: the latest payload that could be read, or None.
    """

    entity: Entity
    key: str
    events: list[Event] = field(default_factory=list)
    payload: dict[str, Any] | None = None

    def last(self, what: str) -> Event | None:
        """The latest event of a kind."""
        return next((each for each in reversed(self.events) if each.what == what), None)

    @property
    def verdict(self) -> str:
        """Where the record stands, in one line."""
        if not self.events:
            return "nothing is known of it"
        if self.last("erased"):
            return "erased: nothing of it is published or sent"
        payload, state = self.last("payload"), self.last("state")
        if state is not None and (payload is None or _version(state) >= _version(payload)):
            return self._settled(state)
        return self._on_its_way(payload)

    def _settled(self, state: Event) -> str:
        version = f"version {state.facts.get('sequence')}/{state.facts.get('revision')}"
        if state.facts["outcome"] == "delivered":
            return f"delivered: Dotdigital holds {version}"
        letter = self.last("dead letter")
        return f"{state.facts['outcome']}: {version}" + (f", {letter.facts['code']}" if letter else "")

    def _on_its_way(self, payload: Event | None) -> str:
        letter, event = self.last("dead letter"), self.last("shop event")
        if letter is not None and (event is None or letter.at >= event.at):
            return f"a dead letter: {letter.facts['field']} {letter.facts['code']}"
        if payload is not None:
            sequence, revision = _version(payload)
            return f"on its way: version {sequence}/{revision} waits for delivery"
        if event is not None:
            return "on its way: the transformer has not mapped it yet"
        return "a dead letter of the extractor: it could not be read from the shop"


def _version(event: Event) -> tuple[int, int]:
    return int(event.facts.get("sequence", -1)), int(event.facts.get("revision", -1))


def stories(settings: KafkaSettings, text: str, entity: Entity | None) -> list[Story]:
    """What is known of an e-mail, a sku or an order number; blocks while reading.

    Args:
        settings: which Kafka.
        text: an e-mail is looked for among contacts, anything else among products and orders.
        entity: look only there.

    Raises:
        InvalidRecord: a contact is asked for, and the text is no e-mail.
    """
    candidates = [entity] if entity else _candidates(text)
    found = []
    every = [raw_topic(each) for each in candidates] + [typed_topic(each) for each in candidates]
    every += [dlq_topic(topic) for topic in every] + [
        DELIVERED,
        DELIVERIES,
        EXTRACT_DLQ,
        IMPORTS,
        SOURCE_STATE,
    ]
    words = read_words(settings)
    with closing(Lookup(settings, every)) as lookup:
        for each in candidates:
            key = canonical_email(text) if each is Entity.CONTACTS else text
            story = _story(settings, lookup, words, each, key)
            if not story.events and each is Entity.ORDERS and (root := _root(lookup, key)):
                story = _story(settings, lookup, words, each, root)
            if story.events:
                found.append(story)
    return found


def _candidates(text: str) -> list[Entity]:
    return [Entity.CONTACTS] if "@" in text else [Entity.ORDERS, Entity.PRODUCTS]


def _root(lookup: Lookup, order: str) -> str | None:
    """The order at the root of the split tree that an order belongs to."""
    root = None
    for _, message in lookup.by_key({SOURCE_STATE: [f"orders:{order}".encode()]}):
        value = message.value()
        root = None if value is None else msgspec.json.decode(value).get("key")
    return None if root == order else root


def _story(settings: KafkaSettings, lookup: Lookup, words: Words, entity: Entity, key: str) -> Story:
    story = Story(entity, key)
    raw, typed = raw_topic(entity), typed_topic(entity)
    own, marked = [key.encode()], [f"{entity}:{key}".encode()]
    payload: bytes | None = None
    batches: set[bytes] = set()
    wanted = {
        **dict.fromkeys((raw, typed, dlq_topic(raw), dlq_topic(typed)), own),
        **dict.fromkeys((DELIVERED, DELIVERIES, EXTRACT_DLQ), marked),
    }
    for topic, message in lookup.by_key(wanted):
        story.events.append(_event(topic, message))
        if topic == typed:
            payload = message.value()
        if topic == DELIVERIES:
            batches.add(str(story.events[-1].facts["batch"]).encode())
    story.events += _imports(lookup, key, batches)
    if payload is not None:
        try:
            story.payload = codec_for(settings).decode(entity, payload)
        except InvalidRecord:
            story.payload = None  # its dead letter says so
    if story.payload is not None and entity is Entity.CONTACTS:
        story.events += _not_read(lookup, story.payload)
    if entity is Entity.CONTACTS and (erasure := words.get(erased_key(key), Erasure)):
        story.events.append(Event(erasure.at.astimezone(UTC), "erased", {"id": erasure.id}))
    story.events.sort(key=lambda each: each.at)
    return story


def _not_read(lookup: Lookup, contact: Mapping[str, Any]) -> Iterator[Event]:
    """What the extractor could not read of a contact's customer: those letters are by the customer's id."""
    customer = contact["data_fields"].get("CUSTOMER_ID")
    if customer:
        for topic, message in lookup.by_key({EXTRACT_DLQ: [f"contacts:{customer}".encode()]}):
            yield _event(topic, message)


def _imports(lookup: Lookup, key: str, batches: set[bytes]) -> list[Event]:
    """The imports that carried a key, those without an answer included."""
    needle = msgspec.json.encode(key)
    # An intent names its keys, and only a few records of the topic are of interest: bytes are compared, not parsed.
    rows = lookup.where(
        IMPORTS, lambda message: message.key() in batches or _names(message.value() or b"", needle)
    )
    found: list[tuple[bytes, Event]] = []
    for message in rows:
        value = message.value()
        if value is None:
            continue
        batch = message.key() or b""
        row = msgspec.json.decode(value)
        if row["state"] == "intent" and key not in {each[0] for each in row["keys"]}:
            continue  # the needle was somebody's e-mail, or another entity's key
        batches.add(batch)
        names = ("state", "kind", "import_id", "why", "seconds")
        facts = {name: row[name] for name in names if row.get(name) is not None}
        found.append((batch, Event(_moment(row["at"]), "import", {"batch": batch.decode(), **facts})))
    return [event for batch, event in found if batch in batches]


def _names(value: bytes, needle: bytes) -> bool:
    return value.startswith(b'{"state":"intent"') and needle in value


def _event(topic: str, message: Message) -> Event:
    value = message.value()
    place = {"partition": message.partition(), "offset": message.offset()}
    written = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    if topic in {DELIVERED, DELIVERIES, EXTRACT_DLQ}:
        row = msgspec.json.decode(value) if value else {"outcome": "forgotten"}
        row.pop("email", None)
        row.pop("hash", None)
        names = {DELIVERED: "state", DELIVERIES: "attempt", EXTRACT_DLQ: "extract dead letter"}
        at = _moment(row.pop("at")) if "at" in row else written
        return Event(
            at, names[topic], {each: content for each, content in row.items() if content is not None}
        )
    headers = dict(headers_of(message))
    if topic.endswith(".dlq"):
        texts = {name: (headers.get(name) or b"").decode() for name in (FIELD, CODE, ATTEMPT)}
        facts = {
            "topic": topic,
            **place,
            "field": texts[FIELD],
            "code": texts[CODE],
            "attempt": texts[ATTEMPT],
        }
        return Event(written, "dead letter", facts)
    what = "payload" if topic.startswith("dotdigital.") else "shop event"
    try:
        version, lane, reason = version_of(headers_of(message))
    except InvalidRecord:
        return Event(written, what, {**place, "headers": "unreadable"})
    facts = {"sequence": version.sequence, "lane": lane.value, **place, "bytes": len(value or b"")}
    if what == "payload":
        facts["revision"] = version.revision
    if value is None:
        facts["tombstone"] = None if reason is None else reason.value
    return Event(written, what, facts)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def as_document(found: Sequence[Story], *, show_values: bool) -> list[dict[str, Any]]:
    """Stories as plain data, for scripts."""
    return [
        {
            "entity": story.entity,
            "key": story.key,
            "verdict": story.verdict,
            "events": [{"at": each.at, "what": each.what, **each.facts} for each in story.events],
            **({"payload": story.payload} if show_values else {}),
        }
        for story in found
    ]
