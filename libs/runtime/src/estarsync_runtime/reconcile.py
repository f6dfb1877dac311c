"""Is it all there? The latest typed payloads against what Dotdigital holds.

The expected side is kept in a table on disk, and the read-back streams past it: memory does not grow with the
shop.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from confluent_kafka import Message

from estarsync_core.dotdigital.compare import differing_data_fields, differing_fields
from estarsync_core.dotdigital.payloads import contact_entry, insight_record
from estarsync_core.dotdigital.scope import ContactScope, in_scope
from estarsync_core.entities import Entity
from estarsync_core.keys import record_key
from estarsync_core.topics import DELIVERED, typed_topic
from estarsync_runtime.avro import codec_for
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.provisioning import Account
from estarsync_runtime.dotdigital.readback import read_contact, read_contacts, read_record, read_records
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings

_SAMPLES = 20
_AT_ONCE = 1000
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE extra (entity TEXT, key TEXT, PRIMARY KEY (entity, key)) WITHOUT ROWID;
CREATE TABLE expected (
    entity TEXT, key TEXT, name TEXT, payload BLOB, seen INTEGER DEFAULT 0, kind TEXT, picked INTEGER DEFAULT 1,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
CREATE TABLE refused (entity TEXT, key TEXT, PRIMARY KEY (entity, key)) WITHOUT ROWID;
CREATE TABLE contacts (email TEXT PRIMARY KEY, outcome TEXT, now_called TEXT, there INTEGER) WITHOUT ROWID;
"""


class _SettledRow(msgspec.Struct, frozen=True, gc=False):
    """What is needed of the loader's rows."""

    sequence: int = -1
    outcome: str | None = None
    email: str | None = None
    there: bool = False


_FORGOTTEN = _SettledRow()


@dataclass(slots=True)
class Difference:
    """One record on which the two sides differ.

    Attributes:
        key: as on the topics; an extra record's as Dotdigital has it.
        kind: `different`, `missing` or `extra`.
        fields: where they differ.
        expected: what was sent, or would be, as Dotdigital gets it.
        actual: what it holds.
    """

    key: str
    kind: str
    fields: list[str]
    expected: dict[str, Any] = field(default_factory=dict)
    actual: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Comparison:
    """How one entity compares.

    Attributes:
        agree: records that say the same on both sides.
        different: records that don't; the first few are in `samples` with their fields.
        missing: expected records that Dotdigital does not hold.
        extra: records that Dotdigital holds and nobody expects.
        dead_letters: expected records that Dotdigital refused, each in the dead letters with its reason; and contacts
            whose erasure it refused.
        kept: contacts that the shop no longer has, by its own word, or that were made for orders which are no more, and
            that Dotdigital holds: only an erasure deletes a contact.
        filtered: records that CONTACT_SCOPE leaves out.
        revenue_expected: the sum of the orders' totals as they were sent.
        revenue_actual: the sum of the orders' totals as Dotdigital holds them.
        samples: the first differences.
    """

    agree: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    dead_letters: int = 0
    kept: int = 0
    filtered: int = 0
    revenue_expected: Decimal = Decimal(0)
    revenue_actual: Decimal = Decimal(0)
    samples: list[Difference] = field(default_factory=list)

    @property
    def in_agreement(self) -> bool:
        """Whether nothing differs, nothing is missing and nothing is too much."""
        return not (self.different or self.missing or self.extra)

    @property
    def compared(self) -> int:
        """How many records were looked at on either side, those aside that are in the dead letters."""
        return self.agree + self.different + self.missing + self.extra

    @property
    def percentage(self) -> float | None:
        """How much of it agrees; None where there is nothing on either side."""
        return 100 * self.agree / self.compared if self.compared else None

    def note(self, key: str, kind: str, fields: list[str]) -> None:
        """Keep a sample."""
        self.keep(Difference(key, kind, fields))

    def keep(self, difference: Difference) -> None:
        """Keep a sample, with its documents."""
        if len(self.samples) < _SAMPLES:
            self.samples.append(difference)


class Reconciler:
    """Compares the typed topics with the account. Blocks while reading; close it in the end.

    Args:
        settings: of Kafka.
        client: Dotdigital.
        account: what was provisioned.
        scope: which contacts may be created.
        read: gives all records of topics.
        without: entities and keys, as on the topics, that are left out on both sides: the canary's.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client: DotdigitalClient,
        account: Account,
        scope: ContactScope = ContactScope.ALL,
        read: Callable[[KafkaSettings, Sequence[str]], Iterable[Message]] = read_topics,
        without: Iterable[tuple[Entity, str]] = (),
    ) -> None:
        self._settings = settings
        self._without = frozenset((entity, _held(entity, key)) for entity, key in without)
        self._scope = scope
        self._read = read
        self._filtered: Counter[Entity] = Counter()
        self._client = client
        self._account = account
        self._codec = codec_for(settings)
        self._partial: set[Entity] = set()
        self._sampled: set[Entity] = set()
        self._folder = TemporaryDirectory(prefix="reconcile-")
        self._db = sqlite3.connect(Path(self._folder.name) / "expected.sqlite", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._read_expected()

    def close(self) -> None:
        """Delete the table."""
        self._db.close()
        self._folder.cleanup()

    def expected_keys(self, entity: Entity) -> Iterator[str]:
        """The keys that Dotdigital should hold."""
        for (key,) in self._db.execute("SELECT key FROM expected WHERE entity = ?", (entity,)):
            yield key

    def only(self, entity: Entity, documents: Iterable[tuple[str, bytes | None]]) -> int:
        """From now on, compare only these records of an entity, and nothing is extra.

        Args:
            entity: whose records.
            documents: keys as on the topics, with the payloads to expect instead of the latest; None for none: the
                record is not expected to be there.

        Returns:
            how many there are.
        """
        self._partial.add(entity)
        self._db.execute("BEGIN")
        self._db.execute("UPDATE expected SET picked = 0 WHERE entity = ?", (entity,))
        for key, payload in documents:
            self._forget(entity, key)
            if payload is not None:
                self._expect(entity, key, payload)
        self._db.execute("COMMIT")
        return self.count(entity)

    def sample(self, entity: Entity, count: int, rng: Random) -> int:
        """From now on, compare only so many records of an entity, chosen by the dice and read one by one.

        Nothing is extra then: what nobody expects is not read.

        Returns:
            how many there are.
        """
        chosen: list[str] = []
        for number, key in enumerate(self.expected_keys(entity)):
            if number < count:
                chosen.append(key)
            elif (at := rng.randrange(number + 1)) < count:
                chosen[at] = key
        self._partial.add(entity)
        self._sampled.add(entity)
        self._db.execute("BEGIN")
        self._db.execute("UPDATE expected SET picked = 0 WHERE entity = ?", (entity,))
        query = "UPDATE expected SET picked = 1 WHERE entity = ? AND key = ?"
        self._db.executemany(query, ((entity, key) for key in chosen))
        self._db.execute("COMMIT")
        return len(chosen)

    def count(self, entity: Entity) -> int:
        """How many records are expected, of those that are looked at."""
        query = "SELECT count(*) FROM expected WHERE entity = ? AND picked = 1"
        return int(self._db.execute(query, (entity,)).fetchone()[0])

    def compare(self, entity: Entity, came: Callable[[int], None] = lambda _: None) -> Comparison:
        """Read the entity back and compare.

        Args:
            entity: which.
            came: told now and then how many records were read.

        Raises:
            RetryLater: Dotdigital keeps failing.
            Stop: it refuses.
        """
        result = Comparison(filtered=self._filtered[entity])
        self._db.execute("BEGIN")
        for number, (key, actual) in enumerate(self._actual(entity)):
            if not number % _AT_ONCE:
                came(number)
            if (entity, key) not in self._without:
                self._one(entity, key, actual, result)
        self._db.execute("COMMIT")
        for name, payload, refused in self._db.execute(
            "SELECT e.name, e.payload, r.key IS NOT NULL FROM expected e LEFT JOIN refused r"
            " ON r.entity = e.entity AND r.key = e.key WHERE e.entity = ? AND e.seen = 0 AND e.picked = 1",
            (entity,),
        ):
            if entity is Entity.ORDERS and not refused:
                result.revenue_expected += self._total(payload)
            if refused and (entity not in self._partial or entity in self._sampled):
                result.dead_letters += 1
            else:
                result.missing += 1
                result.note(name, "missing", [])
        return result

    def differing(self, entity: Entity) -> Iterator[tuple[str, str]]:
        """After `compare`: keys as on the topics of what differs or is missing, each with its kind.

        Records in the dead letters are not among these: what refused them would do so again.
        """
        query = (
            "SELECT e.name, e.kind, e.key FROM expected e LEFT JOIN refused r ON r.entity = e.entity AND r.key = e.key"
            " WHERE e.picked = 1 AND r.key IS NULL AND (e.seen = 0 OR e.kind IS NOT NULL)"
        )
        for name, kind, _ in self._pages(query, entity, "e."):
            yield str(name), str(kind or "missing")

    def extras(self, entity: Entity) -> Iterator[str]:
        """After `compare`: what Dotdigital holds and nobody expects, by Dotdigital's keys."""
        for (key,) in self._db.execute("SELECT key FROM extra WHERE entity = ? ORDER BY key", (entity,)):
            yield str(key)

    def _one(self, entity: Entity, key: str, actual: dict[str, Any], result: Comparison) -> None:
        row = self._db.execute(
            "SELECT payload, picked, name FROM expected WHERE entity = ? AND key = ?", (entity, key)
        ).fetchone()
        if entity is Entity.ORDERS:
            result.revenue_actual += Decimal(repr(actual.get("order_total", 0)))
        if row is None:
            if entity not in self._partial:
                self._not_expected(entity, key, result)
            return
        payload, picked, name = row
        # A contact that only orders know has no data of ours.
        document = self._codec.decode(entity, payload) if payload is not None else None
        if document is not None and entity is Entity.ORDERS:
            result.revenue_expected += Decimal(repr(document["order_total"]))
        if not picked:
            return
        fields, expected = self._differences(entity, document, actual) if document is not None else ([], {})
        self._db.execute(
            "UPDATE expected SET seen = 1, kind = ? WHERE entity = ? AND key = ?",
            ("different" if fields else None, entity, key),
        )
        if fields:
            result.different += 1
            result.keep(Difference(name, "different", fields, expected, actual))
        else:
            result.agree += 1

    def _not_expected(self, entity: Entity, key: str, result: Comparison) -> None:
        outcome, there = None, False
        if entity is Entity.CONTACTS:
            row = self._db.execute("SELECT outcome, there FROM contacts WHERE email = ?", (key,)).fetchone()
            outcome, there = row or (None, False)
        if outcome == "kept":
            result.kept += 1
        elif outcome == "dead_letter" and there:
            result.dead_letters += 1
        else:
            result.extra += 1
            result.note(key, "extra", [])
            self._db.execute("INSERT OR IGNORE INTO extra VALUES (?, ?)", (entity, key))

    def _differences(
        self, entity: Entity, document: dict[str, Any], actual: dict[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        if entity is Entity.CONTACTS:
            fields = contact_entry(document, self._account.list_id)["dataFields"]
            return differing_data_fields(fields, actual), fields
        expected = insight_record(entity, document)["json"]
        return ([] if expected == actual else differing_fields(expected, actual)), expected

    def _total(self, payload: bytes) -> Decimal:
        return Decimal(repr(self._codec.decode(Entity.ORDERS, payload)["order_total"]))

    def _actual(self, entity: Entity) -> Iterator[tuple[str, dict[str, Any]]]:
        if entity in self._sampled:
            return self._singles(entity)
        if entity is Entity.CONTACTS:
            return read_contacts(self._client, self._account.list_id)
        if entity is Entity.PRODUCTS:
            return read_records(self._client, "account", self._account.catalog_collection)
        return read_records(self._client, "contacts", self._account.orders_collection)

    def _singles(self, entity: Entity) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the account holds of the picked records, a call each."""
        for payload, key in self._pages("SELECT payload, key FROM expected WHERE picked = 1", entity):
            if entity is Entity.CONTACTS:
                found = read_contact(self._client, key)
            elif entity is Entity.PRODUCTS:
                found = read_record(self._client, self._account.catalog_collection, key)
            else:
                email = self._now_called(str(self._codec.decode(entity, payload)["email"]))
                found = read_record(self._client, self._account.orders_collection, key, email)
            if found is not None:
                yield key, found

    def _read_expected(self) -> None:
        self._db.execute("BEGIN")
        for entity in Entity:  # one after the other: what waits to be read is memory, for each partition
            for message in self._read(self._settings, [self._settings.topic(typed_topic(entity))]):
                key = (message.key() or b"").decode()
                value = message.value()
                if value is None or (self._without and (entity, _held(entity, key)) in self._without):
                    self._forget(entity, key)
                else:
                    self._expect(entity, key, value)
        self._read_settled()
        if self._scope is not ContactScope.ALL:
            self._leave_out()
        orders = (
            "SELECT e.payload, e.key FROM expected e LEFT JOIN refused r ON r.entity = e.entity AND r.key = e.key"
            " WHERE r.key IS NULL"
        )
        for payload, _ in self._pages(orders, Entity.ORDERS, "e."):
            email = self._now_called(self._codec.decode(Entity.ORDERS, payload)["email"])
            self._db.execute(
                "INSERT OR IGNORE INTO expected (entity, key, name) VALUES (?, ?, ?)",
                (Entity.CONTACTS, email, email),
            )
        self._db.execute("COMMIT")

    def _expect(self, entity: Entity, key: str, payload: bytes) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO expected (entity, key, name, payload) VALUES (?, ?, ?, ?)",
            (entity, _held(entity, key), key, payload),
        )

    def _forget(self, entity: Entity, key: str) -> None:
        self._db.execute("DELETE FROM expected WHERE entity = ? AND key = ?", (entity, _held(entity, key)))

    def _pages(self, query: str, entity: Entity, table: str = "") -> Iterator[tuple[Any, ...]]:
        """The rows of a query, whose last column is the key, a page at a time: the table may change meanwhile."""
        last = ""
        page = f"{query} AND {table}entity = ? AND {table}key > ? ORDER BY {table}key LIMIT {_AT_ONCE}"
        while rows := self._db.execute(page, (entity, last)).fetchall():
            yield from rows
            last = rows[-1][-1]

    def _leave_out(self) -> None:
        """Expect no contact that may not be created, unless it was before, and no order of such a one."""
        for payload, email in self._pages(
            "SELECT payload, key FROM expected WHERE payload IS NOT NULL", Entity.CONTACTS
        ):
            if not in_scope(self._scope, self._codec.decode(Entity.CONTACTS, payload)) and not self._there(
                email
            ):
                self._forget(Entity.CONTACTS, email)
                self._filtered[Entity.CONTACTS] += 1
        expected = "SELECT 1 FROM expected WHERE entity = ? AND key = ?"
        for payload, name, _ in self._pages("SELECT payload, name, key FROM expected WHERE 1", Entity.ORDERS):
            email = self._now_called(self._codec.decode(Entity.ORDERS, payload)["email"])
            if not self._there(email) and not self._db.execute(expected, (Entity.CONTACTS, email)).fetchone():
                self._forget(Entity.ORDERS, name)
                self._filtered[Entity.ORDERS] += 1

    def _there(self, email: str) -> bool:
        """Whether the loader has created this contact."""
        return bool(
            self._db.execute("SELECT 1 FROM contacts WHERE email = ? AND there = 1", (email,)).fetchone()
        )

    def _now_called(self, email: str) -> str:
        """The e-mail under which Dotdigital has a contact: another one where it was renamed."""
        seen = {email}
        query = "SELECT now_called FROM contacts WHERE email = ? AND outcome = 'renamed'"
        while (row := self._db.execute(query, (email,)).fetchone()) and row[0] and row[0] not in seen:
            email = row[0]
            seen.add(email)
        return email

    def _read_settled(self) -> None:
        decoder = msgspec.json.Decoder(_SettledRow)
        every = self._scope is not ContactScope.ALL  # else only those matter that are not simply delivered
        refused, contacts = 0, 0
        for message in self._read(self._settings, [self._settings.topic(DELIVERED)]):
            entity, _, key = (message.key() or b"").decode().partition(":")
            value = message.value()
            row = _FORGOTTEN if value is None else decoder.decode(value)
            if entity == Entity.CONTACTS:
                # Of no version: a contact that was made for its orders.
                bare = row.outcome == "delivered" and row.sequence == 0
                outcome = "kept" if bare else row.outcome
                if every or outcome != "delivered":
                    contacts += 1
                    state = (key, outcome, row.email, row.there)
                    self._db.execute("INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?)", state)
                elif contacts:
                    self._db.execute("DELETE FROM contacts WHERE email = ?", (key,))
            if row.outcome == "dead_letter":
                refused += 1
                name = _held(Entity(entity), key)
                self._db.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (entity, name))
            elif refused:
                name = _held(Entity(entity), key)
                self._db.execute("DELETE FROM refused WHERE entity = ? AND key = ?", (entity, name))


def _held(entity: Entity, key: str) -> str:
    """Under which key Dotdigital holds a record."""
    return key if entity is Entity.CONTACTS else record_key(key)
