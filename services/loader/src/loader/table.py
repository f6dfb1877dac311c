"""The pending table: the latest version of every key that is not delivered yet, on local disk.

It is a cache of Kafka, made anew at every start: what was not delivered is read again from the committed
offsets, and what was is known from `estarsync.delivered.v1`. So it needs no durability and no repair, and its file has
no name: nothing of a shopper is left behind, however the process ends.

The backlog is compacted as a whole: a newer version replaces an older one that still waits, and memory does not
grow with it.
"""

import os
import sqlite3
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from msgspec.structs import replace

from estarsync_core.entities import Entity, Lane, Version
from loader.records import Fence, Filtered, KeyState, Outcome, Pending, Person, Settled

_SCHEMA = """
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -12000;
PRAGMA temp_store = MEMORY;
CREATE TABLE pending (
    id INTEGER PRIMARY KEY,
    entity TEXT, key TEXT, sequence INTEGER, revision INTEGER, lane INTEGER,
    waits INTEGER,           -- 1: an order whose contact is not there yet; 2: an errand comes first
    batch TEXT,              -- an open batch holds this key, in this version or an older one
    not_before REAL, attempts INTEGER, parked_at REAL,
    topic TEXT, part INTEGER, place INTEGER,
    again INTEGER,           -- 1: it was settled before and is offered once more
    bare INTEGER, email TEXT, origin TEXT, headers BLOB, payload BLOB,
    UNIQUE (entity, key)
);
CREATE INDEX ready ON pending (entity, lane, sequence, not_before) WHERE batch IS NULL AND waits = 0;
CREATE INDEX held ON pending (batch) WHERE batch IS NOT NULL;
CREATE INDEX waiting ON pending (email, lane) WHERE waits = 1;
CREATE INDEX origins ON pending (origin) WHERE origin IS NOT NULL;
CREATE INDEX errands ON pending (lane, sequence) WHERE batch IS NULL AND waits = 2;
CREATE INDEX places ON pending (topic, part, place) WHERE topic IS NOT NULL AND again = 0;
CREATE INDEX again ON pending (entity, topic, part, place) WHERE again = 1;
CREATE TABLE unsure (email TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fences (
    entity TEXT, key TEXT, batch TEXT, sequence INTEGER, revision INTEGER, hash TEXT, email TEXT,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
CREATE INDEX fenced ON fences (batch);
CREATE TABLE settled (
    entity TEXT, key TEXT, sequence INTEGER, revision INTEGER, hash TEXT, outcome TEXT, email TEXT, there INTEGER,
    part INTEGER, place INTEGER,  -- of a record that CONTACT_SCOPE leaves out
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;
CREATE INDEX owned ON settled (email) WHERE entity = 'orders' AND email IS NOT NULL;
CREATE INDEX former ON settled (email) WHERE entity = 'contacts' AND email IS NOT NULL;
CREATE TABLE recalls (entity TEXT, key TEXT, PRIMARY KEY (entity, key)) WITHOUT ROWID;
CREATE TABLE counts (entity TEXT, lane INTEGER, records INTEGER, PRIMARY KEY (entity, lane)) WITHOUT ROWID;
CREATE TRIGGER came AFTER INSERT ON pending BEGIN
    INSERT INTO counts VALUES (new.entity, new.lane, 1)
        ON CONFLICT DO UPDATE SET records = records + 1;
END;
CREATE TRIGGER went AFTER DELETE ON pending BEGIN
    UPDATE counts SET records = records - 1 WHERE entity = old.entity AND lane = old.lane;
END;
CREATE TRIGGER moved AFTER UPDATE OF lane ON pending WHEN new.lane <> old.lane BEGIN
    UPDATE counts SET records = records - 1 WHERE entity = old.entity AND lane = old.lane;
    INSERT INTO counts VALUES (new.entity, new.lane, 1)
        ON CONFLICT DO UPDATE SET records = records + 1;
END;
"""
_COLUMNS = "entity, key, sequence, revision, lane, payload, bare, email, headers, topic, part, place, attempts, parked_at, again, origin"
_PUT = f"""
INSERT INTO pending ({_COLUMNS}, waits, not_before, batch)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,(SELECT batch FROM fences WHERE entity = ?1 AND key = ?2))
ON CONFLICT (entity, key) DO UPDATE SET
    sequence = excluded.sequence, revision = excluded.revision, lane = min(lane, excluded.lane),
    payload = excluded.payload, bare = excluded.bare, email = excluded.email, headers = excluded.headers,
    topic = excluded.topic, part = excluded.part, place = excluded.place, attempts = excluded.attempts,
    parked_at = excluded.parked_at, again = excluded.again, origin = excluded.origin, waits = excluded.waits, not_before = 0, batch = excluded.batch
"""
_STATE = """
SELECT p.sequence, p.revision, p.bare, p.attempts, p.parked_at, f.sequence, f.revision,
       s.sequence, s.revision, s.hash, s.outcome, s.email, s.there
FROM (SELECT ? AS entity, ? AS key) k
LEFT JOIN pending p ON p.entity = k.entity AND p.key = k.key
LEFT JOIN fences f ON f.entity = k.entity AND f.key = k.key
LEFT JOIN settled s ON s.entity = k.entity AND s.key = k.key
"""
_RELEASE = """
DELETE FROM fences WHERE (entity, key) IN (SELECT entity, key FROM fences WHERE batch = ? LIMIT 2000)
"""
_LEFT_OUT = "SELECT entity, key FROM settled WHERE outcome = 'filtered'"
_READY = "entity = ? AND batch IS NULL AND waits = 0"
_LANES = (Lane.LIVE, Lane.BULK)


class Table:
    """See the module. For one thread.

    Args:
        folder: on the disk that takes the backlog.
    """

    def __init__(self, folder: Path) -> None:
        number, name = mkstemp(suffix=".sqlite", prefix="loader-", dir=folder)
        os.close(number)
        self._db = sqlite3.connect(name, isolation_level=None)
        self._db.executescript(_SCHEMA)
        Path(name).unlink()
        # Most shops' days go by without these, and looking for them would cost as much as the rest.
        self._orders_waited = self._some_renamed = self._some_left_out = False

    def close(self) -> None:
        """Give the disk space back."""
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

    def state(self, entity: Entity, key: str) -> KeyState:
        """All that is known of a key."""
        row = self._db.execute(_STATE, (entity, key)).fetchone()
        settled = _settled(row[7:]) if row[7] is not None else None
        return KeyState(
            waiting=None if row[0] is None else Version(row[0], row[1]),
            bare=bool(row[2]),
            attempts=row[3] or 0,
            parked_at=row[4],
            held=None if row[5] is None else Version(row[5], row[6]),
            settled=settled,
        )

    def is_there(self, email: str) -> bool:
        """Whether Dotdigital holds a contact, as far as is known for certain."""
        query = "SELECT there FROM settled WHERE entity = 'contacts' AND key = ?"
        row = self._db.execute(query, (email,)).fetchone()
        return row is not None and bool(row[0])

    def get(self, entity: Entity, key: str) -> Pending | None:
        """The key's waiting version."""
        query = f"SELECT {_COLUMNS} FROM pending WHERE entity = ? AND key = ?"
        row = self._db.execute(query, (entity, key)).fetchone()
        return _pending(row) if row else None

    def put(self, record: Pending, *, waits: bool = False) -> None:
        """Make this the key's waiting version, in place of an older one; the more urgent lane stays."""
        values = (
            record.entity, record.key, record.version.sequence, record.version.revision,
            _LANES.index(record.lane), record.payload, record.bare, record.email, record.headers,
            record.topic, record.partition, record.offset, record.attempts, record.parked_at,
            record.again, record.origin, 2 if record.errand else waits,
        )  # fmt: skip
        self._db.execute(_PUT, values)
        if waits:
            self._orders_waited = True
            self._db.execute("INSERT OR IGNORE INTO unsure VALUES (?)", (record.email,))

    def drop(self, entity: Entity, key: str) -> None:
        """Nothing of this key waits any more."""
        query = "DELETE FROM pending WHERE entity = ? AND key = ? RETURNING origin"
        rows = self._db.execute(query, (entity, key)).fetchall()
        if entity is Entity.CONTACTS:
            self.doubt(key)
            for (origin,) in rows:
                self.doubt(origin)

    def postpone(
        self, entity: Entity, key: str, until: float, attempts: int, parked_at: float | None
    ) -> None:
        """Offer the waiting version again at `until`."""
        self._db.execute(
            "UPDATE pending SET not_before = ?, attempts = ?, parked_at = ? WHERE entity = ? AND key = ?",
            (until, attempts, parked_at, entity, key),
        )

    def ready(
        self,
        entity: Entity,
        now: float,
        limit: int,
        lane: Lane | None = None,
        *,
        removals: bool | None = None,
    ) -> Generator[Pending, None, None]:
        """Records that may go now: the live lane first, the oldest first. The table must not change meanwhile.

        Args:
            entity: whose.
            now: the time.
            limit: how many at most.
            lane: only these; None for both.
            removals: only these, or only all others; None for both.
        """
        for each in _LANES if lane is None else (lane,):
            query = f"SELECT {_COLUMNS} FROM pending WHERE {_READY} AND lane = ? AND not_before <= ?"
            if removals is not None:
                query += f" AND {'' if removals else 'NOT'} (payload IS NULL AND bare = 0)"
            query += " ORDER BY sequence LIMIT ?"
            with closing(self._db.execute(query, (entity, _LANES.index(each), now, limit))) as rows:
                for row in rows:
                    limit -= 1
                    yield _pending(row)

    def ready_among(self, entity: Entity, keys: Iterable[str]) -> Iterator[Pending]:
        """The waiting versions of these keys, as far as they may go. The table must not change meanwhile."""
        query = f"SELECT {_COLUMNS} FROM pending WHERE {_READY} AND key = ?"
        for key in keys:
            row = self._db.execute(query, (entity, key)).fetchone()
            if row:
                yield _pending(row)

    def any_ready(self, entity: Entity, now: float, lane: Lane | None = None) -> bool:
        """Whether a record may go now."""
        lanes = _LANES if lane is None else (lane,)
        query = f"SELECT 1 FROM pending WHERE {_READY} AND lane = ? AND not_before <= ? LIMIT 1"
        return any(self._db.execute(query, (entity, _LANES.index(each), now)).fetchone() for each in lanes)

    def count_ready(self, entity: Entity, now: float, limit: int, lane: Lane) -> int:
        """How many records of a lane may go now, counted up to `limit`."""
        query = f"SELECT count(*) FROM (SELECT 1 FROM pending WHERE {_READY} AND lane = ? AND not_before <= ? LIMIT ?)"
        return int(self._db.execute(query, (entity, _LANES.index(lane), now, limit)).fetchone()[0])

    @property
    def bytes_used(self) -> int:
        """What its records take on disk; space that was given back is used again."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def counts(self) -> dict[tuple[Entity, Lane], int]:
        """How many records wait or are in flight."""
        rows = self._db.execute("SELECT entity, lane, records FROM counts")
        return {(Entity(entity), _LANES[lane]): records for entity, lane, records in rows}

    def fence(self, entity: Entity, batch: str, fences: Collection[Fence]) -> None:
        """From now on an open batch holds these keys: no other batch takes them."""
        self._db.executemany(
            "INSERT INTO fences VALUES (?,?,?,?,?,?,?)",
            [(entity, f.key, batch, f.version.sequence, f.version.revision, f.hash, f.email) for f in fences],
        )
        self._db.executemany(
            "UPDATE pending SET batch = ? WHERE entity = ? AND key = ?",
            [(batch, entity, f.key) for f in fences],
        )

    def release(self, batch: str) -> None:
        """A batch is closed: its keys may go into others.

        Some at a time: until a statement is over, SQLite keeps every page that it changes in memory.
        """
        self._db.execute("UPDATE pending SET batch = NULL WHERE batch = ?", (batch,))
        while self._db.execute(_RELEASE, (batch,)).rowcount > 0:
            pass

    def owner(self, entity: Entity, key: str) -> str | None:
        """The e-mail of the contact under which an order is, or is about to be, at Dotdigital."""
        for table in ("fences", "settled"):
            query = f"SELECT email FROM {table} WHERE entity = ? AND key = ? AND email IS NOT NULL"
            row = self._db.execute(query, (entity, key)).fetchone()
            if row:
                return str(row[0])
        return None

    def settle(self, entity: Entity, key: str, state: Settled) -> None:
        """Remember a key's settled state; a contact that is there now sets its orders free."""
        version = (state.version.sequence, state.version.revision)
        self._db.execute(
            "INSERT OR REPLACE INTO settled VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                entity,
                key,
                *version,
                state.hash,
                state.outcome,
                state.email,
                state.there,
                *(state.place or (None, None)),
            ),
        )
        self._some_renamed = self._some_renamed or state.outcome is Outcome.RENAMED
        self._some_left_out = self._some_left_out or state.outcome is Outcome.FILTERED
        if entity is Entity.CONTACTS and state.there:
            self.set_free(key)
            if self._some_left_out:
                self._db.execute(
                    f"INSERT OR IGNORE INTO recalls {_LEFT_OUT} AND entity = 'orders' AND email = ?", (key,)
                )
        elif entity is Entity.CONTACTS:
            self.doubt(key)
        if entity is Entity.CONTACTS and state.outcome is Outcome.KEPT and state.email is not None:
            self._db.execute("INSERT OR IGNORE INTO unsure VALUES (?)", (key,))

    def forget(self, entity: Entity, key: str) -> None:
        """Nothing is known of a key any more."""
        self._db.execute("DELETE FROM settled WHERE entity = ? AND key = ?", (entity, key))

    def contacts_after(self, email: str, limit: int) -> list[str]:
        """The contacts of which something is settled, in order, from one on."""
        query = "SELECT key FROM settled WHERE entity = 'contacts' AND key > ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._db.execute(query, (email, limit))]

    def bare_in_flight(self) -> list[str]:
        """The contacts that only orders know and that an open batch holds."""
        query = "SELECT key FROM fences WHERE entity = 'contacts' AND sequence = 0 AND revision = 0"
        return [key for (key,) in self._db.execute(query)]

    def hold(self, key: str) -> None:
        """An order waits until its contact is there."""
        self._orders_waited = True
        self._db.execute("UPDATE pending SET waits = 1 WHERE entity = ? AND key = ?", (Entity.ORDERS, key))

    def set_free(self, email: str) -> None:
        """The contact is there: its orders may go."""
        if self._orders_waited:
            self._db.execute("UPDATE pending SET waits = 0 WHERE email = ? AND waits = 1", (email,))

    def errands(self, limit: int) -> list[Pending]:
        """Records that need a call of their own, the most urgent first; no open batch holds their keys."""
        query = f"SELECT {_COLUMNS} FROM pending WHERE batch IS NULL AND waits = 2 ORDER BY lane, sequence LIMIT ?"
        return [_pending(row) for row in self._db.execute(query, (limit,))]

    def errand_done(self, record: Pending, *, waits: bool) -> None:
        """Nothing stands before this key's import any more.

        Args:
            record: as the errand knew it; a newer version with the same origin is free, too.
            waits: whether it is an order whose contact is not there yet.
        """
        self._db.execute(
            "UPDATE pending SET origin = NULL, waits = ? WHERE entity = ? AND key = ? AND origin = ?",
            (waits, record.entity, record.key, record.origin),
        )
        if waits:
            self._orders_waited = True
            self.doubt(record.email or "")

    def people(self) -> Iterator[Person]:
        """Whose the waiting contacts and orders are, deletions and those in flight left out."""
        query = (
            "SELECT entity, key, coalesce(email, key), bare FROM pending"
            " WHERE entity IN ('contacts', 'orders') AND batch IS NULL AND (payload IS NOT NULL OR bare)"
        )
        for entity, key, email, bare in self._db.execute(query):
            yield Person(Entity(entity), key, email, bool(bare))

    def recall_all(self, *, whole: bool) -> None:
        """See to what was left out before: everything, or the orders whose contact is there by now."""
        query = f"INSERT OR IGNORE INTO recalls {_LEFT_OUT}"
        if not whole:
            query += (
                " AND entity = 'orders' AND EXISTS (SELECT 1 FROM settled c"
                " WHERE c.entity = 'contacts' AND c.key = settled.email AND c.there = 1)"
            )
        self._db.execute(query)

    def recalls(self, limit: int) -> list[Filtered]:
        """Records that were left out and may go now, in the order in which they stand in their topics."""
        query = (
            "SELECT entity, key, part, place FROM recalls JOIN settled USING (entity, key)"
            " WHERE outcome = 'filtered' AND place >= 0 ORDER BY entity, part, place LIMIT ?"
        )
        return [Filtered(Entity(entity), *rest) for entity, *rest in self._db.execute(query, (limit,))]

    def recalled(self, records: Iterable[Filtered]) -> None:
        """These were read again."""
        keys = [(each.entity, each.key) for each in records]
        self._db.executemany("DELETE FROM recalls WHERE entity = ? AND key = ?", keys)

    def fenced(self, entity: Entity, key: str) -> bool:
        """Whether an open batch, or an errand, holds a key."""
        query = "SELECT 1 FROM fences WHERE entity = ? AND key = ?"
        return self._db.execute(query, (entity, key)).fetchone() is not None

    def orders_in_flight(self, email: str) -> bool:
        """Whether an open batch holds an order of this contact."""
        query = "SELECT 1 FROM fences WHERE entity = ? AND email = ? LIMIT 1"
        return self._db.execute(query, (Entity.ORDERS, email)).fetchone() is not None

    def has_successor(self, email: str) -> bool:
        """Whether a contact waits that had this e-mail before."""
        query = "SELECT 1 FROM pending WHERE origin = ? AND entity = 'contacts'"
        return self._db.execute(query, (email,)).fetchone() is not None

    def elder(self, email: str) -> str | None:
        """The e-mail under which Dotdigital holds the contact that the shop has given this one."""
        query = (
            "SELECT key FROM settled WHERE entity = 'contacts' AND email = ? AND there = 1"
            " ORDER BY sequence DESC LIMIT 1"
        )
        row = self._db.execute(query, (email,)).fetchone()
        return None if row is None else str(row[0])

    def set_origin(self, key: str, origin: str) -> None:
        """A waiting contact had this e-mail before, when Dotdigital saw it last."""
        self._db.execute(
            "UPDATE pending SET origin = ? WHERE entity = ? AND key = ?", (origin, Entity.CONTACTS, key)
        )

    def left_behind(self) -> list[str]:
        """Contacts that stay under an e-mail which the shop knows by another one by now."""
        query = "SELECT key FROM settled WHERE entity = 'contacts' AND email IS NOT NULL AND outcome = 'kept'"
        return [key for (key,) in self._db.execute(query)]

    def orders_of(self, email: str) -> dict[str, Settled]:
        """The settled states of the orders that belong to a contact."""
        query = (
            "SELECT key, sequence, revision, hash, outcome, email, there, part, place FROM settled"
            " WHERE entity = 'orders' AND email = ?"
        )
        return {key: _settled(tuple(row)) for key, *row in self._db.execute(query, (email,))}

    def renamed_to(self, email: str) -> str:
        """The e-mail that a contact has now: its own, unless it was renamed."""
        if not self._some_renamed:
            return email
        return self._follow(email, "outcome = 'renamed'")

    def known_as(self, email: str) -> str:
        """The e-mail that the shop has for somebody now, also where Dotdigital has not taken it over."""
        return self._follow(email, "outcome IN ('renamed', 'kept', 'removed')")

    def _follow(self, email: str, condition: str) -> str:
        query = f"SELECT email FROM settled WHERE entity = 'contacts' AND key = ? AND email IS NOT NULL AND {condition}"
        seen = {email}
        while row := self._db.execute(query, (email,)).fetchone():
            if row[0] in seen:
                break  # there and back again: the last word is in the shop's own records
            email = row[0]
            seen.add(email)
        return email

    def pass_on(self, old: str, new: str) -> dict[str, Settled]:
        """A contact was renamed, and its orders went with it; gives the settled states that changed."""
        found = {key: replace(state, email=new) for key, state in self.orders_of(old).items()}
        for key, state in found.items():
            self.settle(Entity.ORDERS, key, state)
            self._db.execute(
                "UPDATE pending SET email = CASE email WHEN ?1 THEN ?2 ELSE email END,"
                " origin = CASE origin WHEN ?1 THEN ?2 ELSE origin END WHERE entity = ?3 AND key = ?4",
                (old, new, Entity.ORDERS, key),
            )
        self.give_all(old, new)
        return found

    def give_to(self, order: str, email: str) -> None:
        """A waiting order goes under this contact."""
        self._db.execute(
            "UPDATE pending SET email = ? WHERE entity = ? AND key = ?", (email, Entity.ORDERS, order)
        )

    def give_all(self, old: str, new: str) -> None:
        """The orders that wait for a contact wait for another one."""
        self._db.execute("UPDATE pending SET email = ? WHERE email = ? AND waits = 1", (new, old))

    def waiting_orders(self, email: str) -> list[str]:
        """The keys of the orders that wait for a contact, the most urgent first."""
        query = "SELECT key FROM pending WHERE email = ? AND waits = 1 ORDER BY lane"
        return [key for (key,) in self._db.execute(query, (email,))]

    def any_waiting(self) -> bool:
        """Whether an order waits for its contact."""
        return (
            self._db.execute("SELECT 1 FROM pending WHERE waits = 1 AND email > '' LIMIT 1").fetchone()
            is not None
        )

    def unsure(self, limit: int) -> list[str]:
        """E-mails that orders wait for, and of whose contact something has changed since `sure` was said."""
        return [email for (email,) in self._db.execute("SELECT email FROM unsure LIMIT ?", (limit,))]

    def sure(self, emails: Iterable[str]) -> None:
        """Everything was done for the orders of these contacts that can be done now."""
        self._db.executemany("DELETE FROM unsure WHERE email = ?", [(email,) for email in emails])

    def oldest(self, topic: str, partition: int) -> int | None:
        """The offset of the oldest record of a partition that is not settled yet."""
        query = "SELECT min(place) FROM pending WHERE topic = ? AND part = ? AND again = 0"
        found: int | None = self._db.execute(query, (topic, partition)).fetchone()[0]
        return found

    def oldest_again(self, entity: Entity, topic: str, partition: int) -> int | None:
        """The offset of the oldest record of a partition that is offered once more and not settled."""
        query = "SELECT min(place) FROM pending WHERE entity = ? AND topic = ? AND part = ? AND again = 1"
        found: int | None = self._db.execute(query, (entity, topic, partition)).fetchone()[0]
        return found

    def count_again(self, entity: Entity) -> int:
        """How many records are offered once more and not settled."""
        query = "SELECT count(*) FROM pending WHERE entity = ? AND again = 1"
        return int(self._db.execute(query, (entity,)).fetchone()[0])

    def doubt(self, email: str | None) -> None:
        """Something has changed for the orders that wait for a contact."""
        if not self._orders_waited:
            return
        self._db.execute(
            "INSERT OR IGNORE INTO unsure SELECT ?1 WHERE EXISTS (SELECT 1 FROM pending WHERE email = ?1 AND waits = 1)",
            (email,),
        )


def _pending(row: tuple[Any, ...]) -> Pending:
    entity, key, sequence, revision, lane, payload, bare, *rest = row
    rest[-2] = bool(rest[-2])  # again
    return Pending(Entity(entity), key, Version(sequence, revision), _LANES[lane], payload, bool(bare), *rest)


def _settled(row: tuple[Any, ...]) -> Settled:
    sequence, revision, content, outcome, email, there, *place = row
    where = (place[0], place[1]) if place and place[0] is not None else None
    return Settled(Version(sequence, revision), content, Outcome(outcome), email, bool(there), where)
