"""Insight collections: how records are kept, checked and shown."""

import re
import zlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sandbox.dotdigital.rows import Rows
from sandbox.dotdigital.schema import Schema
from sandbox.dotdigital.times import stamp

Scope = Literal["account", "contact"]
COLLECTION_TYPES = {
    kind.lower(): kind
    for kind in (
        "cartInsight",
        "catalog",
        "consentInsight",
        "custom",
        "easyEditorExtensions",
        "nostoEmailCampaigns",
        "orders",
        "productCategories",
        "webInsight",
        "wishList",
    )
}
_NAME = re.compile(r"[-A-Za-z_][-A-Za-z0-9_]{1,254}")
_CATALOGUE_TEXTS = ("name", "sku", "url", "image_path")


def is_collection_name(name: str) -> bool:
    """Whether a collection can be called so."""
    return _NAME.fullmatch(name) is not None


class Record:
    """One record; its json is kept as it was sent, compressed."""

    __slots__ = ("_json", "created", "key", "owner", "row", "updated", "written")

    def __init__(self, row: int, key: str, owner: int | None, now: float) -> None:
        self.row = row
        self.key = key
        self.owner = owner
        self.created = now
        self.updated = now
        self.written = b""  # the hash of the last write
        self._json = b""

    @property
    def json(self) -> bytes:
        """The document, byte for byte as it came."""
        return zlib.decompress(self._json)

    @json.setter
    def json(self, document: bytes) -> None:
        self._json = zlib.compress(document, 1)

    def shown(self) -> dict[str, Any]:
        """As a call shows it."""
        shown = {
            "key": self.key,
            "json": msgspec.Raw(self.json),
            "created": stamp(self.created),
            "updated": stamp(self.updated),
        }
        return shown if self.owner is None else {**shown, "ownerContactId": self.owner}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record was not taken."""

    reason: str
    details: tuple[str, ...] = ()


class Collection:
    """A collection. Its name is kept, and compared, in its exact case."""

    def __init__(self, name: str, kind: str, scope: Scope) -> None:
        self.name = name
        self.kind = kind
        self.scope: Scope = scope
        self.schema = Schema()
        self.rows: Rows[Record] = Rows()
        self._by_key: dict[str, Record] = {}

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.rows)

    def summary(self) -> dict[str, Any]:
        """As listings show it."""
        return {
            "collectionName": self.name,
            "collectionType": self.kind,
            "collectionScope": self.scope,
            "recordCount": len(self),
        }

    def find(self, key: str) -> Record | None:
        """A record by its key, whoever owns it."""
        return self._by_key.get(key)

    def put(self, key: str, owner: int | None, document: bytes, now: float) -> tuple[Record, bool]:
        """Create or replace a record; the second value says which."""
        record = self._by_key.get(key)
        created = record is None
        if record is None:
            record = Record(self.rows.next_number(), key, owner, now)
            self._by_key[key] = record
            self.rows.add(record.row, record)
        record.json = document
        record.updated = now
        return record, created

    def remove(self, record: Record) -> None:
        """Take a record out."""
        self.rows.remove(record.row)
        del self._by_key[record.key]

    def remove_owned_by(self, owners: Container[int]) -> None:
        """Take out the records of some contacts."""
        if self.scope == "contact":
            for record in [one for one in self.rows if one.owner in owners]:
                self.remove(record)

    def empty(self) -> None:
        """Take every record out; the schema stays."""
        self.rows.clear()
        self._by_key.clear()


def catalogue_problems(document: dict[str, Any]) -> tuple[str, ...]:
    """What product blocks and recommendations would miss in a product."""
    missing = [
        f"Field '{name}' is required but was missing"
        for name in _CATALOGUE_TEXTS
        if not isinstance(document.get(name), str)
    ]
    price = document.get("price")
    if not isinstance(price, int | float) or isinstance(price, bool):
        missing.append("Field 'price' is expected to be a number")
    return tuple(missing)
