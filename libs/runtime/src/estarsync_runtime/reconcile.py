"""Is it all there? The latest typed payloads against what Dotdigital holds.

The expected side is kept in a table on disk, and the read-back streams past it: memory does not grow with the
shop.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from estarsync_core.dotdigital.compare import differing_data_fields, differing_fields
from estarsync_core.dotdigital.payloads import contact_entry, insight_record
from estarsync_core.entities import Entity
from estarsync_core.keys import record_key
from estarsync_core.topics import DELIVERED, typed_topic
from estarsync_runtime.avro import codec_for
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.provisioning import Account
from estarsync_runtime.dotdigital.readback import read_contacts, read_records
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings

_SAMPLES = 20
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE expected (entity TEXT, key TEXT, payload BLOB, seen INTEGER DEFAULT 0, PRIMARY KEY (entity, key)) WITHOUT ROWID;
CREATE TABLE refused (entity TEXT, key TEXT, PRIMARY KEY (entity, key)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Difference:
    """One record on which the two sides differ."""

    key: str
    kind: str
    fields: list[str]


@dataclass(slots=True)
class Comparison:
    """How one entity compares.

    Attributes:
        agree: records that say the same on both sides.
        different: records that don't; the first few are in `samples` with their fields.
        missing: expected records that Dotdigital does not hold.
        extra: records that Dotdigital holds and nobody expects.
        dead_letters: expected records that Dotdigital refused, each in the dead letters with its reason.
        revenue_expected: the sum of the orders' totals as they were sent.
        revenue_actual: the sum of the orders' totals as Dotdigital holds them.
        samples: the first differences.
    """

    agree: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    dead_letters: int = 0
    revenue_expected: Decimal = Decimal(0)
    revenue_actual: Decimal = Decimal(0)
    samples: list[Difference] = field(default_factory=list)

    @property
    def in_agreement(self) -> bool:
        """Whether nothing differs, nothing is missing and nothing is too much."""
        return not (self.different or self.missing or self.extra)

    def note(self, key: str, kind: str, fields: list[str]) -> None:
        """Keep a sample."""
        if len(self.samples) < _SAMPLES:
            self.samples.append(Difference(key, kind, fields))


class Reconciler:
    """Compares the typed topics with the account. Blocks while reading; close it in the end.

    Args:
        settings: of Kafka.
        client: Dotdigital.
        account: what was provisioned.
    """

    def __init__(self, settings: KafkaSettings, client: DotdigitalClient, account: Account) -> None:
        self._settings = settings
        self._client = client
        self._account = account
        self._codec = codec_for(settings)
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

    def compare(self, entity: Entity) -> Comparison:
        """Read the entity back and compare.

        Raises:
            RetryLater: Dotdigital keeps failing.
            Stop: it refuses.
        """
        result = Comparison()
        for key, actual in self._actual(entity):
            self._one(entity, key, actual, result)
        for key, payload, refused in self._db.execute(
            "SELECT e.key, e.payload, r.key IS NOT NULL FROM expected e LEFT JOIN refused r"
            " ON r.entity = e.entity AND r.key = e.key WHERE e.entity = ? AND e.seen = 0",
            (entity,),
        ):
            if entity is Entity.ORDERS and not refused:
                result.revenue_expected += self._total(payload)
            if refused:
                result.dead_letters += 1
            else:
                result.missing += 1
                result.note(key, "missing", [])
        return result

    def _one(self, entity: Entity, key: str, actual: dict[str, Any], result: Comparison) -> None:
        row = self._db.execute(
            "SELECT payload FROM expected WHERE entity = ? AND key = ?", (entity, key)
        ).fetchone()
        if entity is Entity.ORDERS:
            result.revenue_actual += Decimal(repr(actual.get("order_total", 0)))
        if row is None:
            result.extra += 1
            result.note(key, "extra", [])
            return
        self._db.execute("UPDATE expected SET seen = 1 WHERE entity = ? AND key = ?", (entity, key))
        # A contact that only orders know has no data of ours.
        document = self._codec.decode(entity, row[0]) if row[0] is not None else None
        if document is not None and entity is Entity.ORDERS:
            result.revenue_expected += Decimal(repr(document["order_total"]))
        fields = self._differences(entity, document, actual) if document is not None else []
        if fields:
            result.different += 1
            result.note(key, "different", fields)
        else:
            result.agree += 1

    def _differences(self, entity: Entity, document: dict[str, Any], actual: dict[str, Any]) -> list[str]:
        if entity is Entity.CONTACTS:
            return differing_data_fields(contact_entry(document, self._account.list_id)["dataFields"], actual)
        expected = insight_record(entity, document)["json"]
        return [] if expected == actual else differing_fields(expected, actual)

    def _total(self, payload: bytes) -> Decimal:
        return Decimal(repr(self._codec.decode(Entity.ORDERS, payload)["order_total"]))

    def _actual(self, entity: Entity) -> Iterator[tuple[str, dict[str, Any]]]:
        if entity is Entity.CONTACTS:
            return read_contacts(self._client, self._account.list_id)
        if entity is Entity.PRODUCTS:
            return read_records(self._client, "account", self._account.catalog_collection)
        return read_records(self._client, "contacts", self._account.orders_collection)

    def _read_expected(self) -> None:
        topics = {self._settings.topic(typed_topic(entity)): entity for entity in Entity}
        self._db.execute("BEGIN")
        for message in read_topics(self._settings, list(topics)):
            entity = topics[message.topic() or ""]
            key = (message.key() or b"").decode()
            held = key if entity is Entity.CONTACTS else record_key(key)
            value = message.value()
            if value is None:
                self._db.execute("DELETE FROM expected WHERE entity = ? AND key = ?", (entity, held))
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO expected (entity, key, payload) VALUES (?, ?, ?)",
                    (entity, held, value),
                )
        self._read_refused()
        orders = self._db.execute(
            "SELECT e.payload FROM expected e LEFT JOIN refused r ON r.entity = e.entity AND r.key = e.key"
            " WHERE e.entity = ? AND r.key IS NULL",
            (Entity.ORDERS,),
        ).fetchall()
        for (payload,) in orders:
            email = self._codec.decode(Entity.ORDERS, payload)["email"]
            self._db.execute(
                "INSERT OR IGNORE INTO expected (entity, key) VALUES (?, ?)", (Entity.CONTACTS, email)
            )
        self._db.execute("COMMIT")

    def _read_refused(self) -> None:
        for message in read_topics(self._settings, [self._settings.topic(DELIVERED)]):
            entity, _, key = (message.key() or b"").decode().partition(":")
            held = key if entity == Entity.CONTACTS else record_key(key)
            value = message.value()
            refused = value is not None and msgspec.json.decode(value)["outcome"] == "dead_letter"
            self._db.execute(
                "INSERT OR IGNORE INTO refused VALUES (?, ?)"
                if refused
                else "DELETE FROM refused WHERE entity = ? AND key = ?",
                (entity, held),
            )
