"""What was last published for each record of the shop: a table on disk, rebuilt from Kafka at every start."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from estarsync_core.entities import Entity
from estarsync_core.estar.changes import Row

_SCHEMA = """
CREATE TABLE rows (
    entity TEXT NOT NULL, id TEXT NOT NULL, key TEXT, hash TEXT NOT NULL, who TEXT NOT NULL,
    PRIMARY KEY (entity, id)
) WITHOUT ROWID;
CREATE INDEX rows_by_key ON rows (entity, key);
CREATE TABLE seen (entity TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (entity, id)) WITHOUT ROWID;
"""
_VANISHED = "NOT EXISTS (SELECT 1 FROM seen WHERE seen.entity = rows.entity AND seen.id = rows.id)"
_AT_ONCE = 500  # far below SQLite's limit of parameters


class SourceState:
    """Rows by entity and source id. Not safe to use from several threads.

    Args:
        path: where the file goes; what was there before is deleted, since Kafka holds the truth.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        # Losing the file costs nothing, so it needs no journal and no flush to disk.
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def apply(self, entity: Entity, rows: Mapping[str, Row | None]) -> None:
        """Remember rows; None forgets one."""
        self.restore((entity, identity, row) for identity, row in rows.items())

    def restore(self, rows: Iterable[tuple[Entity, str, Row | None]]) -> None:
        """Remember many rows in the order given."""
        self._db.execute("BEGIN")
        try:
            for entity, identity, row in rows:
                if row is None:
                    self._db.execute("DELETE FROM rows WHERE entity = ? AND id = ?", (entity, identity))
                else:
                    values = (entity, identity, row.key, row.hash, " ".join(row.who))
                    self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", values)
        finally:  # what was given before the trouble holds; without a journal nothing could be taken back
            self._db.execute("COMMIT")

    def rows(self, entity: Entity, ids: Collection[str]) -> dict[str, Row]:
        """What is remembered of these source ids."""
        return self._select(entity, "id", ids)

    def members(self, entity: Entity, keys: Collection[str]) -> dict[str, Row]:
        """What is remembered under these keys, by source id."""
        return self._select(entity, "key", keys)

    def published_after(self, entity: Entity, identity: str | None) -> str | None:
        """A source id that was published: the next after the one given, then the first again; None for none."""
        query = "SELECT id FROM rows WHERE entity = ? AND id > ? AND key IS NOT NULL ORDER BY id LIMIT 1"
        for start in (identity or "", ""):
            found = self._db.execute(query, (entity, start)).fetchone()
            if found is not None:
                return str(found[0])
        return None

    def count_keys(self, entity: Entity) -> int:
        """How many keys are published; reads the whole index."""
        query = "SELECT count(DISTINCT key) FROM rows WHERE entity = ?"
        return int(self._db.execute(query, (entity,)).fetchone()[0])

    def keys(self, entity: Entity) -> Iterator[str]:
        """Every published key; some more than once."""
        query = "SELECT key FROM rows WHERE entity = ? AND key IS NOT NULL"
        return (str(found[0]) for found in self._db.execute(query, (entity,)))

    def keys_of_shopper(self, entity: Entity, digest: str) -> set[str]:
        """The published keys whose rows name a shopper; reads the whole table."""
        query = "SELECT key FROM rows WHERE entity = ? AND key IS NOT NULL AND instr(who, ?) > 0"
        return {str(found[0]) for found in self._db.execute(query, (entity, digest))}

    def forget_seen(self, entity: Entity) -> None:
        """A snapshot begins: none of its records has been seen."""
        self._db.execute("DELETE FROM seen WHERE entity = ?", (entity,))

    def see(self, entity: Entity, ids: Iterable[str]) -> None:
        """The snapshot holds these source ids."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", ((entity, each) for each in ids))
        self._db.execute("COMMIT")

    def see_source(self, entity: Entity, identity: str) -> bool:
        """The snapshot holds all that is remembered of one record, whose parts are named `<id>/<part>`.

        Returns:
            Whether anything is.
        """
        query = (
            "INSERT OR IGNORE INTO seen SELECT entity, id FROM rows WHERE entity = ? AND id >= ? AND id < ?"
        )
        # 0 comes next after the slash.
        return self._db.execute(query, (entity, f"{identity}/", f"{identity}0")).rowcount > 0

    def vanished(self, entity: Entity) -> list[str]:
        """Source ids that are remembered and were not seen."""
        query = f"SELECT id FROM rows WHERE entity = ? AND {_VANISHED}"  # noqa: S608 - a constant
        return [str(found[0]) for found in self._db.execute(query, (entity,))]

    def vanished_keys(self, entity: Entity) -> list[str]:
        """Published keys of which no source id was seen."""
        query = (
            "SELECT key FROM rows WHERE entity = ? AND key IS NOT NULL "  # noqa: S608 - a constant
            f"GROUP BY key HAVING min({_VANISHED}) = 1"
        )
        return [str(found[0]) for found in self._db.execute(query, (entity,))]

    def _select(self, entity: Entity, column: str, values: Collection[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for part in _parts(values):
            marks = ",".join("?" * len(part))
            query = f"SELECT id, key, hash, who FROM rows WHERE entity = ? AND {column} IN ({marks})"  # noqa: S608 - no value is in the text
            for identity, key, digest, who in self._db.execute(query, (entity, *part)):
                found[identity] = Row(key, digest, tuple(who.split()))
        return found


def _parts(values: Collection[str]) -> Iterator[tuple[str, ...]]:
    remaining = iter(values)
    while part := tuple(islice(remaining, _AT_ONCE)):
        yield part
