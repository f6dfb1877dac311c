"""Products from a feed: each snapshot is written into a table on disk first, and then read page by page.

So a feed takes the same path as the site's operations: the same pages, the same comparison, the same brake.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import structlog

from estarsync_core.clock import Clock
from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import Record, canonical_json, rows_of, text_of
from estarsync_core.profile import ProductFeed, Records, TenantProfile
from extractor.feed_file import FeedFile, download, newest
from extractor.feed_rows import Row, rows
from extractor.fetch import NOT_RETURNED, Fetched

NO_ID = "no_id"
_SCHEMA = """
DROP TABLE IF EXISTS products;
CREATE TABLE products (id TEXT PRIMARY KEY, value BLOB, code TEXT NOT NULL) WITHOUT ROWID;
"""
_BEAT_EVERY = 500  # rows
_BAD_SHARE = 0.2  # of the rows; where more can't be read, it is the feed that is wrong
_BAD_FEW = 20
_log = structlog.get_logger()


class FeedProducts:
    """The products of one feed. Not safe to use from several threads.

    Args:
        feed: the profile's.
        records: the profile's.
        folder: where the table and a download go.
        http: for a download.
        clock: for time-outs, and to see whether a file is still being written.
        beat: called during long work.
    """

    def __init__(
        self,
        feed: ProductFeed,
        records: Records,
        folder: Path,
        http: httpx.Client,
        clock: Clock,
        beat: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._records = records
        self._folder = folder
        self._http = http
        self._clock = clock
        self._beat = beat
        self._taken: FeedFile | None = None
        self._db = sqlite3.connect(folder / "feed.sqlite", isolation_level=None)
        # Losing the file costs nothing, so it needs no journal and no flush to disk.
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Close the table."""
        self._db.close()

    def list_ids(self) -> list[str]:
        """Take a snapshot: the ids of all products, and a name for each row that can't be used; blocks.

        Raises:
            RetryLater: there is no whole feed at the moment, or it can't be read; nothing is known of any product.
            ConfigurationError: the feed's credentials or place are wrong.
        """
        file = self._file()
        if self._taken is None or not file.stamp or file.stamp != self._taken.stamp:
            self._taken = None  # until all of it is in the table
            self._take(file)
            self._taken = file
        return [identity for (identity,) in self._db.execute("SELECT id FROM products ORDER BY id")]

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Products of the snapshot by id, and the codes of those that can't be had."""
        result = Fetched()
        for identity in ids:
            found = self._db.execute("SELECT value, code FROM products WHERE id = ?", (identity,)).fetchone()
            if found is None:
                result.failed[identity] = NOT_RETURNED
            elif found[1]:
                result.failed[identity] = found[1]
            else:
                result.records[identity] = msgspec.json.decode(found[0])
        return result

    def _file(self) -> FeedFile:
        if not self._feed.is_remote:
            return newest(self._feed, self._clock)
        target = self._folder / "feed.download"
        return download(self._feed, self._http, target, self._taken, self._clock, self._beat)

    def _take(self, file: FeedFile) -> None:
        self._db.executescript(_SCHEMA)
        read = bad = 0
        self._db.execute("BEGIN")
        try:
            for row in rows(self._feed, self._records, file.path, file.name):
                read += 1
                bad += not self._put(row)
                if read % _BEAT_EVERY == 0:
                    self._beat()
        finally:  # without a journal nothing could be taken back
            self._db.execute("COMMIT")
        if bad > max(_BAD_FEW, _BAD_SHARE * read):
            raise RetryLater(
                f"{bad} of the product feed's {read} rows can't be read: check products.feed against the file"
            )
        _log.info("feed_taken", rows=read, unreadable=bad)

    def _put(self, row: Row) -> bool:
        """File a row under its product; false where it can't be used."""
        identity = "" if row.record is None else text_of(row.record, "ID")
        code = row.code or ("" if identity and "/" not in identity else NO_ID)
        if code or row.record is None:
            name = row.identity if row.identity and "/" not in row.identity else f"row/{row.number}"
            self._db.execute("INSERT OR REPLACE INTO products VALUES (?, NULL, ?)", (name, code))
            return False
        record = row.record
        before = self._db.execute("SELECT value FROM products WHERE id = ?", (identity,)).fetchone()
        if before is not None and before[0] is None:
            return True  # a row of this product can't be used: half a product is none
        if before is not None:
            first: Record = msgspec.json.decode(before[0])
            record = {**first, "Items": [*rows_of(first, "Items"), *rows_of(record, "Items")]}
        values = (identity, canonical_json(record), "")
        self._db.execute("INSERT OR REPLACE INTO products VALUES (?, ?, ?)", values)
        return True


@contextmanager
def product_feed(
    profile: TenantProfile,
    clock: Clock,
    beat: Callable[[], None],
    folder: Path | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[FeedProducts | None]:
    """The profile's feed, for as long as the context is open; None where products come from the site's operations.

    Args:
        profile: the tenant's.
        clock: the time.
        beat: called during long work.
        folder: where a snapshot is kept; None for one that goes afterwards.
        transport: how a URL is reached; None for the network.
    """
    feed = profile.products.feed
    if feed is None:
        yield None
        return
    with (
        TemporaryDirectory(prefix="extractor-feed-", dir=folder) as own,
        httpx.Client(transport=transport) as http,
    ):
        products = FeedProducts(feed, profile.records, Path(own), http, clock, beat)
        with closing(products):
            yield products
