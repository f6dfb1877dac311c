"""The pending table: the latest version of every key that is not delivered yet, on local disk.

It is a cache of Kafka, made anew at every start: what was not delivered is read again from the committed
offsets, and what was is known from `estarsync.delivered.v1`. So it needs no durability, and no repair.

The backlog is compacted as a whole: a newer version replaces an older one that still waits, and memory does not
grow with it.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estarsync_core.entities import Entity, Lane, Version

_SCHEMA = """
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8000;
CREATE TABLE pending (
    entity TEXT, key TEXT, sequence INTEGER, revision INTEGER, lane INTEGER,
    payload BLOB,            -- the record's value; NULL is a tombstone, or a contact that only orders know
    bare INTEGER,            -- 1: a contact that only orders know
    email TEXT,              -- an order's contact
    headers BLOB,            -- the record's headers, for its dead letter
    topic TEXT, part INTEGER, place INTEGER,
    batch TEXT,              -- an open batch holds this key, in this version or an older one
    waits INTEGER,           -- 1: an order whose contact is not there yet
    not_before REAL, attempts INTEGER, parked_at REAL,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
CREATE INDEX ready ON pending (entity, lane, sequence) WHERE batch IS NULL AND waits = 0;
CREATE INDEX held ON pending (batch) WHERE batch IS NOT NULL;
CREATE INDEX waiting ON pending (email) WHERE waits = 1;
CREATE INDEX places ON pending (topic, part, place);
CREATE TABLE fences (
    entity TEXT, key TEXT, batch TEXT, sequence INTEGER, revision INTEGER, hash TEXT, email TEXT,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
CREATE INDEX fenced ON fences (batch);
CREATE TABLE delivered (
    entity TEXT, key TEXT, sequence INTEGER, revision INTEGER, hash TEXT, outcome TEXT, email TEXT,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
"""
_LANES = {Lane.LIVE: 0, Lane.BULK: 1}
DELIVERED = "delivered"
DEAD_LETTER = "dead_letter"
REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Pending:
    """One key's latest version that is not delivered yet."""

    entity: Entity
    key: str
    version: Version
    lane: Lane
    payload: bytes | None
    bare: bool = False
    email: str | None = None
    headers: bytes = b"[]"
    topic: str | None = None
    partition: int = -1
    offset: int = -1
    attempts: int = 0
    parked_at: float | None = None

    @property
    def tombstone(self) -> bool:
        """Whether the key is to be removed."""
        return self.payload is None and not self.bare


@dataclass(frozen=True, slots=True)
class Delivered:
    """The last settled state of a key."""

    version: Version
    hash: str
    outcome: str
    email: str | None


@dataclass(frozen=True, slots=True)
class Fence:
    """A key that an open batch holds, and the version that it holds."""

    key: str
    version: Version
    hash: str
    email: str | None = None


_COLUMNS = "entity, key, sequence, revision, lane, payload, bare, email, headers, topic, part, place, attempts, parked_at"


class Table:
    """See the module. One thread only.

    Args:
        path: of the database file; an older one is replaced.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; it may be deleted."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def get(self, entity: Entity, key: str) -> Pending | None:
        """The key's waiting version."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM pending WHERE entity = ? AND key = ?", (entity, key)
        ).fetchone()
        return _pending(row) if row else None

    def put(self, record: Pending, *, waits: bool = False) -> None:
        """Make this the key's waiting version, in place of an older one."""
        fence = self._db.execute(
            "SELECT batch FROM fences WHERE entity = ? AND key = ?", (record.entity, record.key)
        ).fetchone()
        self._db.execute(
            f"INSERT OR REPLACE INTO pending ({_COLUMNS}, batch, waits, not_before)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0)",
            (
                record.entity, record.key, record.version.sequence, record.version.revision,
                _LANES[record.lane], record.payload, record.bare, record.email, record.headers,
                record.topic, record.partition, record.offset, record.attempts, record.parked_at,
                fence[0] if fence else None, waits,
            ),
        )  # fmt: skip

    def drop(self, entity: Entity, key: str) -> None:
        """Nothing of this key waits any more."""
        self._db.execute("DELETE FROM pending WHERE entity = ? AND key = ?", (entity, key))

    def postpone(
        self, record: Pending, until: float, attempts: int, *, parked_at: float | None = None
    ) -> None:
        """Offer the record again at `until`, if no newer version has taken its place."""
        self._db.execute(
            "UPDATE pending SET not_before = ?, attempts = ?, parked_at = ?"
            " WHERE entity = ? AND key = ? AND sequence = ? AND revision = ?",
            (
                until,
                attempts,
                parked_at,
                record.entity,
                record.key,
                record.version.sequence,
                record.version.revision,
            ),
        )

    def wait_for_contact(self, record: Pending) -> None:
        """Hold an order until its contact is there."""
        self._db.execute(
            "UPDATE pending SET waits = 1 WHERE entity = ? AND key = ?", (record.entity, record.key)
        )

    def ready(self, entity: Entity, now: float, limit: int) -> Iterator[Pending]:
        """Records that may go now: the live lane first, the oldest first. Don't change the table meanwhile."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM pending WHERE entity = ? AND batch IS NULL AND waits = 0"
            " AND not_before <= ? ORDER BY lane, sequence LIMIT ?",
            (entity, now, limit),
        )
        return map(_pending, rows)

    def count_ready(self, entity: Entity, now: float, limit: int) -> int:
        """How many records may go now, counted up to `limit`."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM pending WHERE entity = ? AND batch IS NULL AND waits = 0"
            " AND not_before <= ? LIMIT ?)"
        )
        return int(self._db.execute(query, (entity, now, limit)).fetchone()[0])

    def counts(self) -> dict[tuple[Entity, Lane], int]:
        """How many records wait or are in flight."""
        lanes = {number: lane for lane, number in _LANES.items()}
        rows = self._db.execute("SELECT entity, lane, count(*) FROM pending GROUP BY entity, lane")
        return {(Entity(entity), lanes[lane]): count for entity, lane, count in rows}

    def fence(self, entity: Entity, batch: str, fences: Iterable[Fence]) -> None:
        """From now on an open batch holds these keys: no other batch takes them."""
        rows = list(fences)
        self._db.executemany(
            "INSERT INTO fences VALUES (?,?,?,?,?,?,?)",
            [(entity, f.key, batch, f.version.sequence, f.version.revision, f.hash, f.email) for f in rows],
        )
        self._db.executemany(
            "UPDATE pending SET batch = ? WHERE entity = ? AND key = ?",
            [(batch, entity, f.key) for f in rows],
        )

    def fenced(self, entity: Entity, key: str) -> bool:
        """Whether an open batch holds the key."""
        query = "SELECT 1 FROM fences WHERE entity = ? AND key = ?"
        return self._db.execute(query, (entity, key)).fetchone() is not None

    def owner(self, entity: Entity, key: str) -> str | None:
        """The e-mail of the contact under which an order is, or is about to be, at Dotdigital."""
        query = (
            "SELECT email FROM fences WHERE entity = ?1 AND key = ?2 AND email IS NOT NULL"
            " UNION ALL SELECT email FROM delivered WHERE entity = ?1 AND key = ?2"
        )
        row = self._db.execute(query, (entity, key)).fetchone()
        return row[0] if row else None

    def release(self, batch: str) -> None:
        """A batch is closed: its keys may go into others."""
        self._db.execute("UPDATE pending SET batch = NULL WHERE batch = ?", (batch,))
        self._db.execute("DELETE FROM fences WHERE batch = ?", (batch,))

    def delivered(self, entity: Entity, key: str) -> Delivered | None:
        """The last settled state of a key."""
        row = self._db.execute(
            "SELECT sequence, revision, hash, outcome, email FROM delivered WHERE entity = ? AND key = ?",
            (entity, key),
        ).fetchone()
        return Delivered(Version(row[0], row[1]), row[2], row[3], row[4]) if row else None

    def settle(self, entity: Entity, key: str, state: Delivered) -> None:
        """Remember a key's settled state; a contact that is there now sets its orders free."""
        self._db.execute(
            "INSERT OR REPLACE INTO delivered VALUES (?,?,?,?,?,?,?)",
            (
                entity,
                key,
                state.version.sequence,
                state.version.revision,
                state.hash,
                state.outcome,
                state.email,
            ),
        )
        if entity is Entity.CONTACTS and state.outcome == DELIVERED:
            self._db.execute("UPDATE pending SET waits = 0 WHERE email = ? AND waits = 1", (key,))

    def forget(self, entity: Entity, key: str) -> None:
        """A key that we took for delivered is not there any more."""
        self._db.execute("DELETE FROM delivered WHERE entity = ? AND key = ?", (entity, key))

    def unknown_contacts(self, limit: int) -> list[tuple[str, Lane]]:
        """E-mails that orders wait for and of which nothing is pending or settled, with their most urgent lane."""
        rows = self._db.execute(
            "SELECT o.email, min(o.lane) FROM pending o WHERE o.waits = 1"
            " AND NOT EXISTS (SELECT 1 FROM pending c WHERE c.entity = 'contacts' AND c.key = o.email)"
            " AND NOT EXISTS (SELECT 1 FROM delivered d WHERE d.entity = 'contacts' AND d.key = o.email)"
            " GROUP BY o.email LIMIT ?",
            (limit,),
        ).fetchall()
        return [(email, Lane.LIVE if lane == 0 else Lane.BULK) for email, lane in rows]

    def orders_refused(self, limit: int) -> list[Pending]:
        """Orders that wait for a contact that Dotdigital has refused."""
        names = ", ".join(f"o.{name.strip()}" for name in _COLUMNS.split(","))
        rows = self._db.execute(
            f"SELECT {names} FROM pending o JOIN delivered d ON d.entity = 'contacts' AND d.key = o.email"
            " WHERE o.waits = 1 AND o.batch IS NULL AND d.outcome = ? "
            " AND NOT EXISTS (SELECT 1 FROM pending c WHERE c.entity = 'contacts' AND c.key = o.email) LIMIT ?",
            (DEAD_LETTER, limit),
        ).fetchall()
        return [_pending(row) for row in rows]

    def oldest_places(self) -> dict[tuple[str, int], int]:
        """The offset of the oldest record of each partition that is not settled yet."""
        rows = self._db.execute(
            "SELECT topic, part, min(place) FROM pending WHERE topic IS NOT NULL GROUP BY topic, part"
        )
        return {(topic, partition): offset for topic, partition, offset in rows}


def _pending(row: tuple[Any, ...]) -> Pending:
    entity, key, sequence, revision, lane, payload, bare, *rest = row
    lane_of = Lane.BULK if lane else Lane.LIVE
    return Pending(Entity(entity), key, Version(sequence, revision), lane_of, payload, bool(bare), *rest)
