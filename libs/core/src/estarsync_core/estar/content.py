"""Raw values as plain data: what must not be in them, their canonical bytes, and the hash that tells a change."""

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

RawValue: TypeAlias = "str | list[RawValue] | dict[str, RawValue] | None"
"""What an element of the shop becomes: text, nothing (`xsi:nil`), a list, or named children."""
Record: TypeAlias = dict[str, RawValue]
"""One of the shop's records, under the published names."""

_ENCODER = msgspec.json.Encoder(order="sorted")
_HASH_BYTES = 16
_MOST_NAMES = 10_000


def canonical_json(value: RawValue) -> bytes:
    """The one JSON text of a value: UTF-8, names in order, no blanks."""
    return _ENCODER.encode(value)


def content_hash(content: bytes) -> str:
    """32 hex digits that differ when the content does."""
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).hexdigest()


class DropList:
    """What never leaves the extractor: elements of these names, at any depth, in upper or lower case.

    An entry of a list of names and values (an attribute, an aspect) goes too when its `Name` is on the list.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.casefold() for name in names)
        # Every record asks for the same few dozen names. A shop that makes up names by the thousand gets no more room.
        self._known: dict[str, bool] = {}

    def holds(self, name: str) -> bool:
        """Whether an element of this name is dropped."""
        known = self._known.get(name)
        if known is None:
            known = name.casefold() in self._names
            if len(self._known) < _MOST_NAMES:
                self._known[name] = known
        return known

    def holds_entry(self, value: RawValue) -> bool:
        """Whether a list's entry is a dropped name with its value."""
        name = value.get("Name") if isinstance(value, dict) else None
        return isinstance(name, str) and self.holds(name.strip())

    def strip_record(self, record: Record) -> Record:
        """The record without all that is dropped at any depth; the one given stays as it is."""
        known = self._known
        kept: Record = {}
        for name, child in record.items():
            dropped = known.get(name)
            if dropped or (dropped is None and self.holds(name)):
                continue
            # Nearly every child is text: a call for each would be half of the work.
            kept[name] = child if isinstance(child, str) else self.strip(child)
        return kept

    def strip(self, value: RawValue) -> RawValue:
        """The same for any value."""
        if isinstance(value, dict):
            return self.strip_record(value)
        if isinstance(value, list):
            return [self.strip(child) for child in value if not self.holds_entry(child)]
        return value


def text_of(record: Record, name: str) -> str:
    """A leaf's text without blanks around it; empty where it is absent, nil, or not a leaf."""
    value = record.get(name)
    return value.strip() if isinstance(value, str) else ""


def rows_of(record: Record, name: str) -> list[Record]:
    """The records in a list; empty where it is absent, nil, or not a list."""
    value = record.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
