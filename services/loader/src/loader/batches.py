"""Batches: records that go to Dotdigital in one call, spooled to disk so that a body is never held in memory."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from errno import ENOSPC
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec
from typing_extensions import Buffer

from estarsync_core.dotdigital.payloads import bare_contact_entry, contact_entry, insight_record
from estarsync_core.entities import Entity, Lane
from estarsync_core.keys import record_key
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.client import Operation, path_value
from estarsync_runtime.dotdigital.provisioning import Account
from loader.fences import CHUNK, Fences
from loader.records import Fence, Pending

_CHUNK = 65_536
_MOST_DELETED = 5000  # keys of one call (API facts, 2.4)
_ROWS = 500  # in memory at once
_TAIL = b"]}"
Write = Callable[[int, Buffer, int], int]
Note = Callable[["Batch", Pending], None]


class Kind(StrEnum):
    """What the call does."""

    IMPORT = "import"
    DELETE = "delete"


class State(StrEnum):
    """Where a batch is."""

    FILLING = "filling"
    TO_SEND = "to_send"
    SENDING = "sending"
    TO_ASK = "to_ask"
    ASKING = "asking"
    REPORTED = "reported"
    SETTLING = "settling"


@dataclass(slots=True, eq=False, weakref_slot=True)
class Batch:
    """One call's records.

    Attributes:
        id: ours; the same for every try.
        lane: of its records.
        body: the spooled body, a file without a name; None on a batch that was restored after a restart.
        digest: SHA-256 of its rows.
        path: where the call goes.
        import_id: Dotdigital's, once it has accepted the batch.
        due: when something is to be done next.
        sent_at: when it was last sent.
        took: seconds from then to its report.
        failures: how often the import came to nothing.
        tries: since something last went well; for the waits between them.
        lost: whether Dotdigital may hold an import of this body that we have no id for.
        held: whether nothing is asked or sent while its lane is stopped, since its last answer is why.
        restored: whether it was left by an earlier process.
        settling: settles its records, a few with every step, once its report is there.
        reported: whether a report has said what became of its records.
        closing: whether it is over once `settling` is through.
    """

    id: str
    entity: Entity
    kind: Kind
    fences: Fences
    lane: Lane = Lane.BULK
    body: IO[bytes] | None = None
    size: int = 0
    digest: str = ""
    path: str = ""
    import_id: str | None = None
    state: State = State.TO_SEND
    due: float = 0.0
    sent_at: float | None = None
    took: float | None = None
    opened_at: float = 0.0
    failures: int = 0
    tries: int = 0
    lost: bool = False
    held: bool = False
    restored: bool = False
    settling: Iterator[None] | None = None
    reported: bool = False
    closing: bool = False

    @property
    def operation(self) -> Operation:
        """The call that sends it."""
        if self.kind is Kind.DELETE:
            return "delete_products" if self.entity is Entity.PRODUCTS else "delete_order"
        return "contact_import" if self.entity is Entity.CONTACTS else "insight_import"

    @property
    def status_operation(self) -> Operation:
        """The call that asks for its report."""
        return "contact_import_status" if self.entity is Entity.CONTACTS else "insight_import_status"

    @property
    def status_path(self) -> str:
        """Where its report is."""
        service = "contacts" if self.entity is Entity.CONTACTS else "insightData"
        return f"/{service}/v3/import/{path_value(self.import_id or '')}"

    @property
    def holds_slot(self) -> bool:
        """Whether it takes, or may take, one of the account's import slots."""
        free = {State.FILLING, State.TO_SEND, State.REPORTED}
        return self.kind is Kind.IMPORT and (self.state not in free or self.lost)

    def chunks(self) -> Iterator[bytes]:
        """The spooled body, piece by piece; may be read again, from any thread."""
        if self.body is None:
            raise ValueError("a restored batch has no body")
        number, offset = self.body.fileno(), 0
        while chunk := os.pread(number, _CHUNK, offset):
            offset += len(chunk)
            yield chunk

    def discard(self) -> None:
        """Give the body's disk space back. Its fences stay."""
        if self.body is not None:
            self.body.close()
            self.body = None

    def close(self) -> None:
        """Give all its disk space back; nothing may follow."""
        self.discard()
        self.fences.close()


class Filling:
    """A batch that is being filled, as many records at a time as the caller likes.

    Attributes:
        batch: what it becomes.
        full: whether nothing more fits.
    """

    def __init__(
        self,
        batch: Batch,
        body: IO[bytes],
        max_bytes: int,
        row: Callable[[Pending], Any],
        write: Write,
        note: Note | None = None,
    ) -> None:
        self.batch = batch
        self._note = note
        self._write_at = write
        self.full = False
        self._body = body
        self._max_bytes = max_bytes
        self._row = row
        self._digest = hashlib.sha256()

    def add(self, records: Iterable[Pending]) -> list[Fence]:
        """Take in what fits of the records that are of the batch's kind; gives their fences.

        Where the disk is full, the batch is full too.
        """
        added: list[Fence] = []
        waiting = (each for each in records if each.tombstone == (self.batch.kind is Kind.DELETE))
        while not self.full and (some := self._some(waiting)):
            added += some
        return added

    def finish(self) -> Batch:
        """The batch, ready to be sent; nothing may be added any more."""
        batch = self.batch
        batch.size += len(_TAIL)  # it is there already
        batch.digest = self._digest.hexdigest()
        batch.state = State.TO_SEND
        return batch

    def _some(self, records: Iterator[Pending]) -> list[Fence]:
        pieces: list[bytes] = []
        fences: list[Fence] = []
        size, count = self.batch.size, len(self.batch.fences)
        for record in islice(records, _ROWS):
            row = msgspec.json.encode(self._row(record))
            if count and not self._fits(size + len(row), count):
                self.full = True
                break
            pieces.append(b"," + row if count else row)
            size, count = size + len(pieces[-1]), count + 1
            fences.append(Fence(record.key, record.version, content_hash(record.payload), record.email))
            if self._note is not None:
                self._note(self.batch, record)
        piece = b"".join(pieces)
        if not self.write(piece):
            return []
        self._digest.update(piece)
        for fence in fences:
            self.batch.fences.append(fence)
        return fences

    def _fits(self, size: int, count: int) -> bool:
        if self.batch.kind is Kind.DELETE:
            return self.batch.entity is Entity.PRODUCTS and count < _MOST_DELETED
        return size + len(_TAIL) + 1 <= self._max_bytes

    def write(self, piece: bytes) -> bool:
        """Add to the body; whether there was room. Its end is written each time: `finish` must not need any."""
        size = self.batch.size
        try:
            self._write_all(piece + _TAIL, size)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            self.full = True
            if size:  # a part of the piece may stand where the end was: there is room for that, at least
                self._write_all(_TAIL, size)
                os.ftruncate(self._body.fileno(), size + len(_TAIL))
            return False
        self.batch.size += len(piece)
        return True

    def _write_all(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            written = self._write_at(self._body.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written


class Spooler:
    """Makes batches out of pending records, one record in memory at a time.

    Args:
        folder: on the disk that takes the bodies.
        account: the list and the collections.
        codec: to read the records.
        max_bytes: the largest body.
        chunk: how many records are worked on at a time.
        write: writes bytes to a descriptor at an offset, as `os.pwrite` does.
        note: told of every record that goes into a batch, where somebody wants to know.
    """

    def __init__(
        self,
        folder: Path,
        account: Account,
        codec: AvroCodec,
        max_bytes: int,
        chunk: int = CHUNK,
        write: Write = os.pwrite,
        note: Note | None = None,
    ) -> None:
        self.chunk = chunk
        self._note = note
        self._write = write
        self._folder = folder
        self._account = account
        self._codec = codec
        self._max_bytes = max_bytes

    def build(self, batch_id: str, records: Iterable[Pending]) -> Batch | None:
        """One batch of the records' first kind (imports or deletions), as many as fit; None without records.

        An order's deletion is a call of its own, since it names its contact.
        """
        rest = iter(records)
        first = next(rest, None)
        if first is None:
            return None
        filling = self.begin(batch_id, first)
        if filling is None:
            return None
        rest = chain([first], rest)
        del first  # one record in memory at a time
        filling.add(rest)
        batch = filling.finish()
        if batch.fences:
            return batch
        batch.close()  # the disk is full
        return None

    def begin(self, batch_id: str, first: Pending) -> Filling | None:
        """An empty batch of the kind and lane of its first record, which is yet to be added; None where the disk is full."""
        try:
            body = TemporaryFile(dir=self._folder, prefix="loader-", buffering=0)  # noqa: SIM115 - the batch closes it
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            return None
        kind = Kind.DELETE if first.tombstone else Kind.IMPORT
        batch = Batch(
            batch_id,
            first.entity,
            kind,
            Fences(self._folder, chunk=self.chunk, write=self._write),
            first.lane,
            body,
            path=self._path(kind, first),
            state=State.FILLING,
        )
        filling = Filling(batch, body, self._max_bytes, self._row, self._write, self._note)
        if filling.write(self._head(batch)):
            return filling
        batch.close()
        return None

    def _head(self, batch: Batch) -> bytes:
        if batch.kind is Kind.DELETE:
            return b'{"keys":['
        if batch.entity is Entity.CONTACTS:
            return b'{"mergeOption":"overwrite","contacts":['
        orders = batch.entity is Entity.ORDERS
        head = {
            "collectionName": self._account.orders_collection if orders else self._account.catalog_collection,
            "collectionScope": "contact" if orders else "account",
            "collectionType": "orders" if orders else "catalog",
        }
        return msgspec.json.encode(head)[:-1] + b',"records":['

    def _row(self, record: Pending) -> Any:  # noqa: ANN401 - JSON
        if record.bare:
            return bare_contact_entry(record.key, self._account.list_id)
        if record.payload is None:
            return record_key(record.key)
        document = self._codec.decode(record.entity, record.payload)
        if record.entity is Entity.CONTACTS:
            return contact_entry(document, self._account.list_id)
        return insight_record(record.entity, document, record.email)

    def _path(self, kind: Kind, first: Pending) -> str:
        if kind is Kind.IMPORT:
            return "/contacts/v3/import" if first.entity is Entity.CONTACTS else "/insightData/v3/import"
        if first.entity is Entity.PRODUCTS:
            return f"/insightData/v3/accounts/{self._account.catalog_collection}/deleteRecords"
        contact, order = path_value(first.email or ""), path_value(record_key(first.key))
        return f"/insightData/v3/contacts/email/{contact}/{self._account.orders_collection}/{order}"


def content_hash(payload: bytes | None) -> str:
    """Whether two versions of a record say the same."""
    return hashlib.blake2b(payload, digest_size=12).hexdigest() if payload is not None else ""
