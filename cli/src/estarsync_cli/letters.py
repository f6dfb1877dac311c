"""Dead letters as the command sees them: which there are, and which a person has dealt with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as made_by
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec
from confluent_kafka import Message

from estarsync_core.control import Drop, Letter, Redrive, Words
from estarsync_core.deadletters import ATTEMPT, CODE, FIELD
from estarsync_core.entities import Entity
from estarsync_core.topics import EXTRACT_DLQ, dlq_topic, raw_topic, typed_topic
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.messages import headers_of

State = Literal["open", "redriven", "dropped"]
EXAMPLES = 3


class Hop(StrEnum):
    """Where a record failed: as it was read from the shop, was mapped, or was delivered."""

    SHOP = "shop"
    MAPPING = "mapping"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        letter: where it stands.
        hop: where the record failed.
        entity: whose record.
        key: the record's key; of one that could not be read from the shop, its id there.
        field: where the trouble is; never a value.
        code: the reason.
        attempt: how often the record has failed, this time included.
        at: when.
        state: whether a person has dealt with it.
        value: the original bytes.
    """

    letter: Letter
    hop: Hop
    entity: Entity
    key: str
    field: str
    code: str
    attempt: int
    at: datetime
    state: State
    value: bytes | None

    @property
    def id(self) -> str:
        """How people name it: `<topic>/<partition>/<offset>`."""
        return f"{self.letter.topic}/{self.letter.partition}/{self.letter.offset}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; None means any. The values of one part are alternatives."""

    entities: frozenset[Entity] | None = None
    hops: frozenset[Hop] | None = None
    fields: frozenset[str] | None = None
    codes: frozenset[str] | None = None
    keys: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    states: frozenset[State] | None = frozenset({"open"})

    @property
    def touches_everything(self) -> bool:
        """Whether nothing narrows it."""
        parts = (
            self.entities,
            self.hops,
            self.fields,
            self.codes,
            self.keys,
            self.ids,
            self.since,
            self.until,
        )
        return all(part is None for part in parts)

    def takes(self, each: DeadLetter) -> bool:
        """Whether a dead letter is among them."""
        pairs: tuple[tuple[object, frozenset[Any] | None], ...] = (
            (each.entity, self.entities),
            (each.hop, self.hops),
            (each.field, self.fields),
            (each.code, self.codes),
            (each.key, self.keys),
            (each.id, self.ids),
            (each.state, self.states),
        )
        late = self.since is None or each.at >= self.since
        early = self.until is None or each.at < self.until
        return late and early and all(wanted is None or value in wanted for value, wanted in pairs)


@dataclass(slots=True)
class Group:
    """Dead letters of one topic with one reason."""

    topic: str
    field: str
    code: str
    count: int = 0
    attempts: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    examples: list[DeadLetter] = made_by(default_factory=list)

    def add(self, each: DeadLetter) -> None:
        """Count one."""
        self.count += 1
        self.attempts = max(self.attempts, each.attempt)
        self.oldest = each.at if self.oldest is None else min(self.oldest, each.at)
        self.newest = each.at if self.newest is None else max(self.newest, each.at)
        if len(self.examples) < EXAMPLES:
            self.examples.append(each)


def grouped(letters: Iterable[DeadLetter]) -> list[Group]:
    """By topic, field and reason; the largest group first."""
    groups: dict[tuple[str, str, str], Group] = {}
    for each in letters:
        name = (each.letter.topic, each.field, each.code)
        groups.setdefault(name, Group(*name)).add(each)
    return sorted(groups.values(), key=lambda group: (-group.count, group.topic, group.field, group.code))


def letter_topics() -> dict[str, tuple[Hop, Entity | None]]:
    """Every dead-letter topic by its declared name: where its records failed, and whose they are."""
    found: dict[str, tuple[Hop, Entity | None]] = {EXTRACT_DLQ: (Hop.SHOP, None)}
    for entity in Entity:
        found[dlq_topic(raw_topic(entity))] = (Hop.MAPPING, entity)
        found[dlq_topic(typed_topic(entity))] = (Hop.DELIVERY, entity)
    return found


def read_letters(lookup: Lookup, words: Words, selection: Selection) -> Iterator[DeadLetter]:
    """The dead letters that are selected; blocks while reading.

    Args:
        lookup: open for `letter_topics()`.
        words: the control topic, which says what was dealt with.
        selection: which.
    """
    states: dict[Letter, State] = {}
    for drop in words.all("drop/", Drop).values():
        states.update(dict.fromkeys(drop.letters, "dropped"))
    for redrive in words.all("redrive/", Redrive).values():
        states.update(dict.fromkeys(redrive.letters, "redriven"))
    for topic, (hop, entity) in letter_topics().items():
        if selection.hops is not None and hop not in selection.hops:
            continue
        if entity is not None and selection.entities is not None and entity not in selection.entities:
            continue
        for message in lookup.where(topic, lambda _: True, selection.since):
            found = _letter(topic, hop, entity, message, states)
            if found is not None and selection.takes(found):
                yield found


def _letter(
    topic: str, hop: Hop, entity: Entity | None, message: Message, states: dict[Letter, State]
) -> DeadLetter | None:
    letter = Letter(topic, message.partition() or 0, message.offset() or 0)
    at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    key = (message.key() or b"").decode("utf-8", "replace")
    state = states.get(letter, "open")
    value = message.value()
    headers = {name: (content or b"").decode("utf-8", "replace") for name, content in headers_of(message)}
    attempt = int(headers.get(ATTEMPT, "1"))
    if entity is None:
        try:
            row = msgspec.json.decode(value or b"{}", type=dict[str, Any])
            owner, identity = Entity(row["entity"]), str(row["id"])
        except (msgspec.DecodeError, KeyError, ValueError):
            return None  # nothing that the extractor wrote: nobody could fetch it again
        return DeadLetter(
            letter, hop, owner, identity, "", str(row.get("code", "")), attempt, at, state, value
        )
    field_, code = headers.get(FIELD, ""), headers.get(CODE, "")
    return DeadLetter(letter, hop, entity, key, field_, code, attempt, at, state, value)
