"""Batches: records that go to Dotdigital in one call, spooled to disk so that a body is never held in memory."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec

from estarsync_core.dotdigital.payloads import bare_contact_entry, contact_entry, insight_record
from estarsync_core.entities import Entity
from estarsync_core.keys import record_key
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.client import Operation, path_value
from estarsync_runtime.dotdigital.provisioning import Account
from loader.records import Fence, Pending

_CHUNK = 65_536
_MOST_DELETED = 5000  # keys of one call (API facts, 2.4)
_TAIL = b"]}"


class Kind(StrEnum):
    """What the call does."""

    IMPORT = "import"
    DELETE = "delete"


class State(StrEnum):
    """Where a batch is."""

    TO_SEND = "to_send"
    SENDING = "sending"
    TO_ASK = "to_ask"
    ASKING = "asking"
    SETTLING = "settling"


@dataclass(slots=True, eq=False)
class Batch:
    """One call's records.

    Attributes:
        id: ours; the same for every try.
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
        reported: whether a report has said what became of its records.
    """

    id: str
    entity: Entity
    kind: Kind
    fences: list[Fence]
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
    reported: bool = False

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
        return self.kind is Kind.IMPORT and (self.state is not State.TO_SEND or self.lost)

    def chunks(self) -> Iterator[bytes]:
        """The spooled body, piece by piece; may be read again, from any thread."""
        if self.body is None:
            raise ValueError("a restored batch has no body")
        number, offset = self.body.fileno(), 0
        while chunk := os.pread(number, _CHUNK, offset):
            offset += len(chunk)
            yield chunk

    def discard(self) -> None:
        """Give the body's disk space back."""
        if self.body is not None:
            self.body.close()
            self.body = None


class Spooler:
    """Builds batches out of pending records, one record in memory at a time.

    Args:
        folder: on the disk that takes the bodies.
        account: the list and the collections.
        codec: to read the records.
        max_bytes: the largest body.
    """

    def __init__(self, folder: Path, account: Account, codec: AvroCodec, max_bytes: int) -> None:
        self._folder = folder
        self._account = account
        self._codec = codec
        self._max_bytes = max_bytes

    def build(self, batch_id: str, records: Iterable[Pending]) -> Batch | None:
        """One batch of the records' first kind (imports or deletions), as many as fit; None without records.

        An order's deletion is a call of its own, since it names its contact.
        """
        batch: Batch | None = None
        digest = hashlib.sha256()
        for record in records:
            if batch is None:
                batch = self._begin(batch_id, record)
            if record.tombstone != (batch.kind is Kind.DELETE):
                continue
            row = msgspec.json.encode(self._row(record))
            if batch.fences and not self._fits(batch, row):
                break
            self._write(batch, b"," + row if batch.fences else row)
            digest.update(row)
            batch.fences.append(Fence(record.key, record.version, content_hash(record.payload), record.email))
        if batch is not None and batch.body is not None:
            self._write(batch, _TAIL)
            batch.body.flush()
            batch.digest = digest.hexdigest()
        return batch

    def _begin(self, batch_id: str, first: Pending) -> Batch:
        kind = Kind.DELETE if first.tombstone else Kind.IMPORT
        body = TemporaryFile(dir=self._folder, prefix="loader-")  # noqa: SIM115 - the batch closes it
        batch = Batch(batch_id, first.entity, kind, [], body, path=self._path(kind, first))
        self._write(batch, self._head(batch))
        return batch

    def _fits(self, batch: Batch, row: bytes) -> bool:
        if batch.kind is Kind.DELETE:
            return batch.entity is Entity.PRODUCTS and len(batch.fences) < _MOST_DELETED
        return batch.size + len(row) + len(_TAIL) + 1 <= self._max_bytes

    @staticmethod
    def _write(batch: Batch, piece: bytes) -> None:
        if batch.body is not None:
            batch.size += batch.body.write(piece)

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
