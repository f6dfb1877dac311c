"""Batches: records that go to Dotdigital in one call, spooled to disk so that a body is never held in memory."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from estarsync_core.dotdigital.payloads import bare_contact_entry, contact_entry, insight_record
from estarsync_core.entities import ContactEmail, Entity
from estarsync_core.keys import record_key
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.client import path_value
from estarsync_runtime.dotdigital.provisioning import Account
from loader.table import Fence, Pending

_CHUNK = 65_536


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


@dataclass(slots=True)
class Batch:
    """One call's records. `body` is None on a batch that was restored after a restart."""

    id: str
    entity: Entity
    kind: Kind
    fences: list[Fence]
    body: Path | None = None
    size: int = 0
    digest: str = ""
    path: str = ""
    import_id: str | None = None
    state: State = State.TO_SEND
    due: float = 0.0
    sent_at: float | None = None
    attempts: int = 0
    polls: int = 0
    lost: bool = False
    opened_at: float = 0.0
    restored: bool = field(default=False)

    def chunks(self) -> Iterator[bytes]:
        """The spooled body, piece by piece."""
        if self.body is None:
            raise ValueError("a restored batch has no body")
        with self.body.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def discard(self) -> None:
        """Delete the spooled body."""
        if self.body is not None:
            self.body.unlink(missing_ok=True)


class Spooler:
    """Builds batches out of pending records.

    Args:
        folder: where bodies are spooled.
        account: the list and the collections.
        codec: to read the records.
        max_bytes: the largest body.
    """

    def __init__(self, folder: Path, account: Account, codec: AvroCodec, max_bytes: int) -> None:
        self._folder = folder
        self._account = account
        self._codec = codec
        self._max_bytes = max_bytes

    def build(self, batch_id: str, entity: Entity, records: Iterable[Pending]) -> tuple[Batch, list[Pending]]:
        """One batch of the records' first kind (imports or deletions), as many as fit; and what went in.

        An order's deletion is a call of its own, since it names its contact.
        """
        taken: list[Pending] = []
        deletes: bool | None = None
        path = self._folder / f"{batch_id}.json"
        size = 0
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for record in records:
                if deletes is None:
                    deletes = record.tombstone
                    size += file.write(self._head(entity, deletes=deletes))
                if record.tombstone != deletes:
                    continue
                row = msgspec.json.encode(self._row(record))
                if taken and (size + len(row) + 8 > self._max_bytes or (deletes and entity is Entity.ORDERS)):
                    break
                size += file.write(b"," + row if taken else row)
                digest.update(row)
                taken.append(record)
            size += file.write(b"]}")
        fences = [Fence(r.key, r.version, content_hash(r.payload), r.email) for r in taken]
        kind = Kind.DELETE if deletes else Kind.IMPORT
        batch = Batch(batch_id, entity, kind, fences, path, size, digest.hexdigest())
        batch.path = self._path(batch, taken)
        return batch, taken

    def _head(self, entity: Entity, *, deletes: bool) -> bytes:
        if deletes:
            return b'{"keys":['
        if entity is Entity.CONTACTS:
            return b'{"mergeOption":"overwrite","contacts":['
        orders = entity is Entity.ORDERS
        head = {
            "collectionName": self._account.orders_collection if orders else self._account.catalog_collection,
            "collectionScope": "contact" if orders else "account",
            "collectionType": "orders" if orders else "catalog",
        }
        return msgspec.json.encode(head)[:-1] + b',"records":['

    def _row(self, record: Pending) -> Any:  # noqa: ANN401 - JSON
        if record.bare:
            return bare_contact_entry(ContactEmail(record.key), self._account.list_id)
        if record.payload is None:
            return record_key(record.key)
        document = self._codec.decode(record.entity, record.payload)
        if record.entity is Entity.CONTACTS:
            return contact_entry(document, self._account.list_id)
        return insight_record(record.entity, document)

    def _path(self, batch: Batch, taken: list[Pending]) -> str:
        if batch.kind is Kind.IMPORT:
            return "/contacts/v3/import" if batch.entity is Entity.CONTACTS else "/insightData/v3/import"
        if batch.entity is Entity.PRODUCTS:
            return f"/insightData/v3/accounts/{self._account.catalog_collection}/deleteRecords"
        return order_path(self._account.orders_collection, taken[0].email or "", batch.fences[0].key)


def order_path(collection: str, email: str, order_id: str) -> str:
    """Where one order of one contact is."""
    return (
        f"/insightData/v3/contacts/email/{path_value(email)}/{collection}/{path_value(record_key(order_id))}"
    )


def content_hash(payload: bytes | None) -> str:
    """Whether two versions of a record say the same."""
    return hashlib.blake2b(payload, digest_size=12).hexdigest() if payload is not None else ""
