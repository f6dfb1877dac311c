"""From the typed topics into the pending table, as fast as they come: reading never waits for delivery."""

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, Message
from msgspec.structs import replace

from estarsync_core.deadletters import CONNECT_PREFIX
from estarsync_core.dotdigital.scope import ContactScope, in_scope
from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.errors import InvalidRecord, RetryLater, Stop
from estarsync_core.headers import FORCED, version_of
from estarsync_core.topics import typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.kafka.errors import translate
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from loader.batches import content_hash
from loader.ledger import Ledger, Place, packed_headers
from loader.records import BARE, KeyState, Outcome, Pending, Settled, filtered, refused
from loader.table import Table

_UNKNOWN = Version(-1, -1)
_ID = {Entity.CONTACTS: "email", Entity.PRODUCTS: "sku", Entity.ORDERS: "id"}
_FATAL = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's own codes are public in spite of the name
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - as above
}
# Not the record's fault: thousands of others would follow it into the dead letters.
_NEWER = {
    "unknown_schema": "a newer transformer wrote a record whose schema this loader does not know: start the loader of that"
    " release (loaders are updated before transformers); nothing is lost",
    "no_registry": "the transformer writes with a schema registry: set SCHEMA_REGISTRY_URL for the loader, too; nothing is"
    " lost",
}
_log = structlog.get_logger()


class _People(NamedTuple):
    """An order's contact; the e-mail that a contact had before, and whether it may be created."""

    email: str | None = None
    origin: str | None = None
    in_scope: bool = True


class Intake:
    """Takes records in.

    Args:
        settings: for topic names.
        table: where records wait.
        codec: to read them.
        ledger: makes the dead letters of records that can't be read.
        metrics: where fates are counted.
        blocked: e-mails that were erased; nothing of theirs is sent.
        scope: which contacts may be created.
        unread: where a part of a partition begins that is read only after what is taken now; None where there is none.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        table: Table,
        codec: AvroCodec,
        ledger: Ledger,
        metrics: Metrics,
        blocked: Container[object] = (),
        scope: ContactScope = ContactScope.ALL,
        unread: Callable[[Place], int | None] = lambda _: None,
    ) -> None:
        self._entities = {settings.topic(typed_topic(entity)): entity for entity in Entity}
        self._table = table
        self._codec = codec
        self._ledger = ledger
        self._metrics = metrics
        self._blocked = blocked
        self._scope = scope
        self._unread = unread
        self._at_end: set[Place] = set()
        self._untaken: deque[Message] = deque()
        self._offered = 0
        self.positions: dict[Place, int] = {}
        """How far each partition was read."""

    def contacts_read(self, partitions: Sequence[Place]) -> bool:
        """Whether everything that stands in the contacts topic has been read."""
        return all(
            place in self._at_end for place in partitions if self._entities[place[0]] is Entity.CONTACTS
        )

    @property
    def stalled(self) -> bool:
        """Whether records are left that could not be taken yet."""
        return bool(self._untaken)

    def coming(self, partitions: Sequence[Place]) -> set[Entity]:
        """The entities of which more stands in their topics, and can be taken."""
        if self.stalled:
            return set()
        return {self._entities[place[0]] for place in partitions if place not in self._at_end}

    def take(self, messages: Sequence[Message]) -> None:
        """Put records into the table, and remember how far the topics were read.

        Raises:
            RetryLater: the schema registry does not answer. What was not taken is kept: call again, with no more
                records, while `stalled` says so.
            Stop: Kafka refuses something for good, or a newer transformer wrote a record.
        """
        self._untaken += messages
        trouble: RetryLater | None = None
        with self._table.transaction():
            while self._untaken and trouble is None:
                try:
                    self._take_next(self._untaken[0])
                except RetryLater as error:
                    trouble = error
                else:
                    self._untaken.popleft()
        if trouble is not None:
            raise trouble

    def _take_next(self, message: Message) -> None:
        place = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is None:
            self._take_one(message)
            self.positions[place] = max(self.positions.get(place, 0), (message.offset() or 0) + 1)
            self._at_end.discard(place)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
            # Transaction markers take offsets too: the end may lie beyond the last record.
            self.positions[place] = message.offset() or 0
            self._at_end.add(place)
        else:
            _look_at(error)

    def again(self, messages: Sequence[Message]) -> int:
        """Offer records once more that were read before, in the bulk lane, where none of their keys has a newer version.

        Returns:
            How many wait now because of that.

        Raises:
            RetryLater: the schema registry does not answer; nothing was taken.
        """
        before = self._offered
        with self._table.transaction():
            for message in messages:
                record, reason, trouble = self._record(message)
                if trouble is None:  # else it is a dead letter already
                    self._offer_again(record, reason)
        return self._offered - before

    def bare_again(self, emails: Iterable[str]) -> int:
        """Offer contacts once more that only orders know, in the bulk lane.

        Returns:
            How many wait now because of that.
        """
        offered = 0
        with self._table.transaction():
            for email in emails:
                state = self._table.state(Entity.CONTACTS, email)
                settled = state.settled
                known = settled is not None and (settled.version == BARE or settled.outcome is Outcome.KEPT)
                idle = state.waiting is None and state.held is None
                if known and state.there and idle and email not in self._blocked:
                    self._table.put(
                        Pending(Entity.CONTACTS, email, BARE, Lane.BULK, None, bare=True, again=True)
                    )
                    offered += 1
        return offered

    def redrive(self, letter: Message) -> Pending | None:
        """Offer a dead letter's record once more, unless a newer version or this one was delivered.

        Returns:
            What waits now. None where nothing does: it was overtaken, or is a dead letter again.

        Raises:
            RetryLater: the schema registry does not answer.
        """
        headers = headers_of(letter)
        found = {name: value or b"" for name, value in headers}
        topic = found.get(CONNECT_PREFIX + "topic", b"").decode("utf-8", "replace")
        if topic not in self._entities:
            return None
        original = Message(
            topic=topic,
            partition=int(found[CONNECT_PREFIX + "partition"]),
            offset=int(found[CONNECT_PREFIX + "offset"]),
            key=letter.key(),
            value=letter.value(),
            headers=list(headers),
        )
        record, reason, trouble = self._record(original)
        if trouble is not None:
            self._ledger.outbox.append(self._ledger.dead_letter(record, trouble, original.key()))
            self._count(record.entity, "dead_letter")
            return None
        settled = self._table.state(record.entity, record.key).settled
        done = settled is not None and settled.outcome in {Outcome.DELIVERED, Outcome.REMOVED}
        if done and settled is not None and settled.version == record.version:
            return None
        before = self._offered
        with self._table.transaction():
            self._offer_again(record, reason)
        return record if self._offered > before else None

    def _offer_again(self, record: Pending, reason: Reason | None) -> None:
        state = self._table.state(record.entity, record.key)
        newest = max(
            (each for each in (_version(state), state.waiting) if each is not None), default=_UNKNOWN
        )
        if record.version < newest or (state.waiting == record.version and not state.bare):
            return
        again = replace(record, lane=Lane.BULK, again=True)
        if record.tombstone:
            self._remove(again, reason, state)
        elif not self._is_blocked(again) and self._may_be_created(again, state):
            self._offer(again, state)
        self._offered += self._table.get(record.entity, record.key) is not None

    def _take_one(self, message: Message) -> None:
        record, reason, trouble = self._record(message)
        if trouble is None:
            forced = FORCED in dict(headers_of(message))
            self._put(record, reason, forced=forced)
        else:
            self._refuse(record, message.key(), trouble)

    def _record(self, message: Message) -> tuple[Pending, Reason | None, InvalidRecord | None]:
        """A record, as far as it can be read, and why it can't be used."""
        entity = self._entities[message.topic() or ""]
        headers = headers_of(message)
        key, version, lane, reason, people = "", _UNKNOWN, Lane.BULK, None, _People()
        trouble: InvalidRecord | None = None
        try:
            key = _key(message.key())
            version, lane, reason = version_of(headers)
            people = self._people(entity, key, message.value())
        except InvalidRecord as error:
            if error.code in _NEWER:
                raise Stop(_NEWER[error.code]) from error
            trouble = error
        record = Pending(
            entity,
            key,
            version,
            lane,
            message.value(),
            email=people.email,
            headers=packed_headers(headers),
            topic=message.topic(),
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            origin=people.origin,
            in_scope=people.in_scope,
        )
        return record, reason, trouble

    def _people(self, entity: Entity, key: str, payload: bytes | None) -> _People:
        """Whom a record is about.

        Raises:
            InvalidRecord: the payload can't be read, or is another key's.
        """
        if payload is None:
            return _People()
        document = self._codec.decode(entity, payload)
        if document[_ID[entity]] != key:
            raise InvalidRecord("key", "mismatch")
        if entity is Entity.ORDERS:
            return _People(self._table.renamed_to(str(document["email"])))
        if entity is Entity.CONTACTS:
            former = document["renamed_from"]
            return _People(None, None if former == key else former, in_scope(self._scope, document))
        return _People()

    def _refuse(self, record: Pending, key: bytes | None, error: InvalidRecord) -> None:
        """Before it costs a call, a record that can't be read is a dead letter."""
        letter = self._ledger.dead_letter(record, error, key)
        if record.version == _UNKNOWN:
            self._ledger.outbox.append(letter)
        else:
            before = self._table.state(record.entity, record.key).settled
            if before is not None and record.version <= before.version:
                self._count(record.entity, "superseded")  # or read again after a restart
                return
            state = refused(record, before)
            self._table.settle(record.entity, record.key, state)
            self._ledger.outbox += [letter, self._ledger.settled(record.entity, record.key, state, None)]
        self._count(record.entity, "dead_letter")
        _log.warning("unreadable_record", entity=record.entity, field=error.field, code=error.code)

    def _put(self, record: Pending, reason: Reason | None, *, forced: bool = False) -> None:
        entity, key = record.entity, record.key
        state = self._table.state(entity, key)
        if self._is_overtaken(record, state, forced=forced):
            return
        if state.waiting is not None and not state.bare and state.waiting != state.held:
            self._count(
                entity, "superseded"
            )  # the waiting one; one that is in flight is counted by its report
        if record.tombstone:
            self._remove(record, reason, state)
            return
        if record.origin is not None:
            self._link(record)
        if self._is_blocked(record):
            self._table.drop(entity, key)
            self._count(entity, "blocked")
            return
        if not self._may_be_created(record, state):
            self._remember(record, filtered(record, state.settled))
            self._table.drop(entity, key)
            self._count(entity, "filtered")
            return
        settled = state.settled
        if settled is not None and entity is Entity.CONTACTS and settled.email is not None:
            # Somebody has this address again: later orders under it are theirs.
            outcome = Outcome.MISSING if settled.outcome is Outcome.RENAMED else settled.outcome
            self._remember(record, replace(settled, outcome=outcome, email=None))
        same = (
            settled is not None
            and settled.outcome is Outcome.DELIVERED
            and settled.hash == content_hash(record.payload)
        )
        if same and state.held is None and not forced:
            if settled is not None and self._is_early(record):
                self._remember(record, replace(settled, version=record.version))
            self._table.drop(entity, key)
            self._count(entity, "unchanged")
            return
        self._offer(record, state)

    def _is_overtaken(self, record: Pending, state: KeyState, *, forced: bool) -> bool:
        """Whether this version, or a newer one, is known already."""
        newest = max(
            (each for each in (_version(state), state.waiting) if each is not None), default=_UNKNOWN
        )
        once_more = forced and record.version == newest and state.waiting is None
        if record.version > newest or once_more:
            return False
        if record.origin is not None:
            self._pass_origin_on(record, state)
        self._count(record.entity, "superseded")
        return True

    def _pass_origin_on(self, record: Pending, state: KeyState) -> None:
        """The rename comes first, also where a newer version was read before the one that tells of it.

        Only as long as nothing was sent.
        """
        waiting = self._table.get(record.entity, record.key)
        settled = _version(state)
        if waiting is None or waiting.origin is not None or waiting.tombstone or state.held is not None:
            return
        if settled is None or settled < record.version:
            offset = min(waiting.offset, record.offset)
            self._table.put(replace(waiting, origin=record.origin, offset=offset))

    def _is_blocked(self, record: Pending) -> bool:
        """Whether it is of a shopper who was erased."""
        owner = record.key if record.entity is Entity.CONTACTS else record.email or ""
        return owner in self._blocked or (
            bool(self._blocked)
            and record.entity is Entity.ORDERS
            and self._table.known_as(owner) in self._blocked
        )

    def _link(self, contact: Pending) -> None:
        """Remember where the shop's customer has gone from an address that nobody has by now."""
        former = self._table.state(Entity.CONTACTS, contact.origin or "")
        newest = max(each for each in (_version(former), former.waiting, _UNKNOWN) if each is not None)
        left = former.settled is not None and former.settled.outcome in {Outcome.KEPT, Outcome.REMOVED}
        if (newest < contact.version or left) and not _is_renamed(former):
            before = former.settled or Settled(BARE, "", Outcome.MISSING, None, there=False)
            linked = replace(before, email=contact.key)
            self._table.settle(Entity.CONTACTS, contact.origin or "", linked)
            self._ledger.outbox.append(
                self._ledger.settled(Entity.CONTACTS, contact.origin or "", linked, None)
            )

    def _may_be_created(self, record: Pending, state: KeyState) -> bool:
        """Whether it is in scope, or is or may be there already: then an unsubscribe must arrive."""
        if record.in_scope or state.perhaps_there:
            return True
        doubtful = state.settled is not None and state.settled.outcome is Outcome.UNSURE
        origin = record.origin
        if origin is None and state.waiting is not None and record.entity is Entity.CONTACTS:
            before = self._table.get(Entity.CONTACTS, record.key)
            origin = None if before is None else before.origin
        return doubtful or (origin is not None and self._table.is_there(origin))

    def _offer(self, record: Pending, state: KeyState) -> None:
        """Put a record into the table, with what must come before it."""
        waits = False
        if record.entity is Entity.ORDERS:
            owner = self._table.owner(Entity.ORDERS, record.key) if state.perhaps_there else None
            if owner not in {None, record.email}:
                record = replace(record, origin=owner)
            waits = not self._table.is_there(record.email or "")
        elif record.entity is Entity.CONTACTS and record.origin is None and state.waiting is not None:
            before = self._table.get(Entity.CONTACTS, record.key)
            if before is not None and before.origin is not None:
                # Only the first record under a new e-mail says which one it had before, so offsets wait for that one.
                record = replace(record, origin=before.origin, offset=before.offset, again=before.again)
        self._table.put(record, waits=waits)

    def _remove(self, record: Pending, reason: Reason | None, state: KeyState) -> None:
        """What is not there needs no removal, and a contact is only ever deleted by an erasure."""
        entity, key = record.entity, record.key
        if entity is Entity.CONTACTS and reason is Reason.ERASED:
            self._table.drop(entity, key)
            self._table.put(record)  # whatever we know of it: Dotdigital is asked
        elif entity is Entity.CONTACTS or reason is Reason.RENAMED or not state.perhaps_there:
            if entity is Entity.CONTACTS and state.perhaps_there:
                known_as = None if state.settled is None else state.settled.email
                self._remember(record, Settled(record.version, "", Outcome.KEPT, known_as, state.there))
            elif state.settled is not None or reason is Reason.RENAMED or self._is_early(record):
                # What was left out, renamed, or is a dead letter, must not come back in an older version.
                before = state.settled or Settled(BARE, "", Outcome.REMOVED, None, there=False)
                outcome = Outcome.RENAMED if before.outcome is Outcome.RENAMED else Outcome.REMOVED
                self._remember(record, Settled(record.version, "", outcome, before.email, before.there))
            self._table.drop(entity, key)
            self._count(entity, "removed")
        else:
            self._table.put(replace(record, email=self._table.owner(entity, key)))

    def _is_early(self, record: Pending) -> bool:
        """Whether older versions may be read after it: then they must be known for what they are."""
        begin = self._unread((record.topic or "", record.partition))
        return begin is not None and begin <= record.offset

    def _remember(self, record: Pending, state: Settled) -> None:
        self._table.settle(record.entity, record.key, state)
        self._ledger.outbox.append(self._ledger.settled(record.entity, record.key, state, None))

    def _count(self, entity: Entity, outcome: str) -> None:
        self._metrics.delivered.labels(entity, outcome).inc()


def _is_renamed(state: KeyState) -> bool:
    return state.settled is not None and state.settled.outcome is Outcome.RENAMED


def _version(state: KeyState) -> Version | None:
    return None if state.settled is None else state.settled.version


def _key(key: bytes | None) -> str:
    if not key:
        raise InvalidRecord("key", "missing")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord("key", "not_text") from error


def _look_at(error: KafkaError) -> None:
    meaning = translate(error)
    if not isinstance(meaning, RetryLater):
        raise meaning
    if error.code() in _FATAL:
        raise Stop(f"{meaning}: see that the topics are there and that this user may read them")
    _log.warning("kafka_error", reason=str(meaning))  # librdkafka goes on by itself
