"""Typed values: Avro with the bundled schemas, in one of two framings, told apart by their first bytes.

Without a schema registry: Avro's single-object encoding (`C3 01`, fingerprint, body). With one: Confluent's wire
format (`00`, the schema's number in the registry, body). Every released form of a schema is bundled
(`avro/released/`, named by its fingerprint), so a reader understands what an older transformer wrote; what is written
is the highest version in `avro/`.
"""

import io
import json
import re
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.mapping.result import Document
from estarsync_runtime.avro_reader import compile_reader
from estarsync_runtime.avro_writer import compile_writer
from estarsync_runtime.registry import SchemaRegistry
from estarsync_runtime.settings import KafkaSettings

_MAGIC = b"\xc3\x01"
_HEADER = len(_MAGIC) + 8
_CONFLUENT = b"\0"
_CONFLUENT_HEADER = 5
_FILE = re.compile(r"dotdigital\.(contact|product|order)\.v([0-9]+)(?:\.[0-9a-f]{16})?\.avsc")
_ENTITIES = {"contact": Entity.CONTACTS, "product": Entity.PRODUCTS, "order": Entity.ORDERS}
# What fastavro raises for bytes that are no such record; it has no class of its own for it.
_UNREADABLE = (EOFError, ValueError, IndexError, TypeError, OverflowError, MemoryError, struct.error)
# What the generated writer and reader raise for a form of a value that is not for them.
_UNUSUAL = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error)

Schema = dict[str, Any]


class _Versions:
    """The bundled schemas of one entity: every version that is present, and every released form."""

    def __init__(self, present: dict[int, Schema], released: list[Schema]) -> None:
        newest = present[max(present)]
        by_header = {
            _header(schema): fastavro.parse_schema(schema) for schema in (*released, *present.values())
        }
        self.plain = newest
        self.own = self.header = _header(newest)
        self.newest: Any = by_header[self.own]
        self.write = compile_writer(newest) or self.write_any
        self.writers: dict[bytes, Any] = by_header
        self.read = compile_reader(newest)

    def encode(self, document: Document) -> bytes:
        """A whole value: header and body."""
        try:
            return self.header + self.write(document)
        except _UNUSUAL:
            return self.header + self.write_any(document)

    def write_any(self, document: Document) -> bytes:
        """The body of any document that fits the newest schema, by fastavro."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.newest, document)
        return body.getvalue()


class AvroCodec:
    """Encodes and decodes payloads. Building one reads the bundled schemas.

    Args:
        registry: where the schemas of values in Confluent's wire format are looked up, each once.
    """

    def __init__(self, registry: SchemaRegistry | None = None) -> None:
        self._registry = registry
        folder = files("estarsync_schemas").joinpath("avro")
        present, released = _schemas(folder), _schemas(folder.joinpath("released"))
        self._versions = {
            entity: _Versions(dict(present[entity]), [schema for _, schema in released[entity]])
            for entity in Entity
        }

    def register(self, topics: Mapping[Entity, str]) -> None:
        """Register the newest schemas as those of these topics' values; from now on, encode in Confluent's format.

        Does nothing without a registry. Blocks for as long as the registry takes to answer.

        Raises:
            ConfigurationError: the registry refuses; every problem at once.
            RetryLater: it does not answer.
        """
        if self._registry is None:
            return
        problems: list[str] = []
        for entity, topic in topics.items():
            versions = self._versions[entity]
            try:
                number = self._registry.register(f"{topic}-value", versions.plain)
            except ConfigurationError as error:
                problems += error.problems
            else:
                versions.header = _CONFLUENT + number.to_bytes(4, "big")
        if problems:
            raise ConfigurationError(problems)

    def encode(self, entity: Entity, document: Document) -> bytes:
        """The document as one value of the entity's typed topic, by the newest schema.

        Args:
            entity: whose schema.
            document: as `estarsync_core.mapping` makes it: aware times, `date`, `float`.

        Raises:
            ValueError, TypeError: the document does not fit its schema, which is a mistake in the mapping.
        """
        return self._versions[entity].encode(document)

    def encoder(self, entity: Entity) -> Callable[[Document], bytes]:
        """`encode` for one entity."""
        return self._versions[entity].encode

    def decode(self, entity: Entity, data: bytes) -> Document:
        """The document in a value of the entity's typed topic, in the shape of the newest schema.

        Asks the registry the first time that it meets one of its numbers, and blocks for that long.

        Raises:
            InvalidRecord: field `value`; code `not_avro` for anything that is not one whole record in one of the two
                framings; `other_schema` for a schema that is not this entity's; `unknown_schema` for one that nobody
                here knows: a newer transformer wrote it; `no_registry` for Confluent's format where
                SCHEMA_REGISTRY_URL is not set.
            RetryLater: the registry does not answer.
        """
        versions = self._versions[entity]
        confluent = data.startswith(_CONFLUENT)
        length = _CONFLUENT_HEADER if confluent else _HEADER
        header = data[:length]
        if len(header) < length or not (confluent or header.startswith(_MAGIC)):
            raise InvalidRecord("value", "not_avro")
        writer = versions.writers.get(header)
        if writer is None:
            if not confluent:
                others = any(header in each.writers for each in self._versions.values())
                raise InvalidRecord("value", "other_schema" if others else "unknown_schema")
            writer = versions.writers[header] = self._registered(versions, header)
        if versions.read is not None and writer is versions.newest:
            with suppress(*_UNUSUAL):
                return versions.read(data, length)
        body = io.BytesIO(data)
        body.seek(length)
        reader = None if writer is versions.newest else versions.newest
        try:
            document = fastavro.schemaless_reader(body, writer, reader)
        except _UNREADABLE:
            # Not chained: the cause may carry a part of the record.
            raise InvalidRecord("value", "not_avro") from None
        if body.tell() != len(data):
            raise InvalidRecord("value", "not_avro")
        return cast("Document", document)

    def _registered(self, versions: _Versions, header: bytes) -> Any:  # noqa: ANN401 - fastavro's own form
        if self._registry is None:
            raise InvalidRecord("value", "no_registry")
        schema = self._registry.schema(int.from_bytes(header[1:], "big"))
        if schema is None:
            raise InvalidRecord("value", "unknown_schema")
        if _name(schema) != _name(versions.plain):
            raise InvalidRecord("value", "other_schema")
        parsed = fastavro.parse_schema(schema)
        return versions.writers.get(_header(schema), parsed)


def codec_for(settings: KafkaSettings) -> AvroCodec:
    """The codec for a cluster: with the schema registry of SCHEMA_REGISTRY_URL, where that is set."""
    url = settings.schema_registry_url
    return AvroCodec(SchemaRegistry(url) if url else None)


def _schemas(folder: Traversable) -> dict[Entity, list[tuple[int, Schema]]]:
    found: dict[Entity, list[tuple[int, Schema]]] = {entity: [] for entity in Entity}
    for entry in folder.iterdir():
        name = _FILE.fullmatch(entry.name)
        if name:
            schema = json.loads(entry.read_text(encoding="utf-8"))
            found[_ENTITIES[name[1]]].append((int(name[2]), schema))
    return found


def _name(schema: Schema) -> tuple[object, object]:
    return schema.get("namespace"), schema.get("name")


def _header(schema: Schema) -> bytes:
    return _MAGIC + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
