"""Typed values: Avro single-object encoding with the bundled schemas (`C3 01`, fingerprint, body).

Every released version of a schema is bundled, so a reader understands what an older transformer wrote; the
highest version is the one that is written.
"""

import io
import json
import re
import struct
from importlib.resources import files
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.result import Document
from estarsync_runtime.avro_writer import compile_writer

_MAGIC = b"\xc3\x01"
_HEADER = len(_MAGIC) + 8
_FILE = re.compile(r"dotdigital\.(contact|product|order)\.v([0-9]+)\.avsc")
_ENTITIES = {"contact": Entity.CONTACTS, "product": Entity.PRODUCTS, "order": Entity.ORDERS}
# What fastavro raises for bytes that are no such record; it has no class of its own for it.
_UNREADABLE = (EOFError, ValueError, IndexError, TypeError, OverflowError, MemoryError, struct.error)
# What the generated writer raises for a document, or a form of a value, that is not for it.
_UNUSUAL = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)

Schema = dict[str, Any]


class _Versions:
    """The bundled versions of one entity's schema."""

    def __init__(self, texts: dict[int, str]) -> None:
        parsed = {version: cast("Schema", json.loads(text)) for version, text in texts.items()}
        by_header = {_header(schema): fastavro.parse_schema(schema) for schema in parsed.values()}
        newest = parsed[max(parsed)]
        self.header = _header(newest)
        self.newest: Any = by_header[self.header]
        self.write = compile_writer(newest) or self.write_any
        self.writers: dict[bytes, Any] = by_header

    def write_any(self, document: Document) -> bytes:
        """The body of any document that fits the newest schema, by fastavro."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.newest, document)
        return body.getvalue()


class AvroCodec:
    """Encodes and decodes payloads. Building one reads the bundled schemas; then it does no I/O."""

    def __init__(self) -> None:
        texts: dict[Entity, dict[int, str]] = {entity: {} for entity in Entity}
        for entry in files("estarsync_schemas").joinpath("avro").iterdir():
            name = _FILE.fullmatch(entry.name)
            if name:
                texts[_ENTITIES[name[1]]][int(name[2])] = entry.read_text(encoding="utf-8")
        self._versions = {entity: _Versions(versions) for entity, versions in texts.items()}

    def encode(self, entity: Entity, document: Document) -> bytes:
        """The document as one value of the entity's typed topic, by the newest schema.

        Args:
            entity: whose schema.
            document: as `estarsync_core.mapping` makes it: aware times, `date`, `float`.

        Raises:
            ValueError, TypeError: the document does not fit its schema, which is a mistake in the mapping.
        """
        versions = self._versions[entity]
        try:
            return versions.header + versions.write(document)
        except _UNUSUAL:
            return versions.header + versions.write_any(document)

    def decode(self, entity: Entity, data: bytes) -> Document:
        """The document in a value of the entity's typed topic, in the shape of the newest schema.

        Raises:
            InvalidRecord: field `value`; code `not_avro` for anything that is not one whole record in single-object
                encoding, `unknown_schema` for a schema that is not bundled: a newer transformer wrote it.
        """
        versions = self._versions[entity]
        header = data[:_HEADER]
        if not header.startswith(_MAGIC) or len(header) < _HEADER:
            raise InvalidRecord("value", "not_avro")
        writer = versions.writers.get(header)
        if writer is None:
            raise InvalidRecord("value", "unknown_schema")
        body = io.BytesIO(data)
        body.seek(_HEADER)
        reader = None if header == versions.header else versions.newest
        try:
            document = fastavro.schemaless_reader(body, writer, reader)
        except _UNREADABLE:
            # Not chained: the cause may carry a part of the record.
            raise InvalidRecord("value", "not_avro") from None
        if body.tell() != len(data):
            raise InvalidRecord("value", "not_avro")
        return cast("Document", document)


def _header(schema: Schema) -> bytes:
    return _MAGIC + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
