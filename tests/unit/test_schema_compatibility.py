"""FULL_TRANSITIVE: every released form of a schema and the present one read each other."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from estarsync_core.entities import Entity
from estarsync_runtime.avro import AvroCodec

FOLDER = files("estarsync_schemas").joinpath("avro")
RELEASED = sorted(entry.name for entry in FOLDER.joinpath("released").iterdir())
PROMOTED = {"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}}


def read(*path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FOLDER.joinpath(*path).read_text(encoding="utf-8"))
    return found


def present(name: str) -> dict[str, Any]:
    return read(re.sub(r"\.[0-9a-f]{16}\.avsc$", ".avsc", name))


def problems(reader: Any, writer: Any, path: str) -> list[str]:
    """Why a reader's schema can't read what the writer's schema has written."""
    if isinstance(writer, list):
        return [problem for branch in writer for problem in problems(reader, branch, path)]
    if isinstance(reader, list):
        tries = [problems(branch, writer, path) for branch in reader]
        return [] if [] in tries else [f"{path}: no branch of the union fits"]
    if isinstance(reader, dict) and isinstance(writer, dict):
        return of_structures(reader, writer, path)
    named = isinstance(reader, str) and isinstance(writer, str)
    fits = reader == writer or (named and reader in PROMOTED.get(writer, ()))
    return [] if fits else [f"{path}: {writer} can't be read as {reader}"]


def of_structures(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    if any(reader.get(part) != writer.get(part) for part in ("type", "logicalType", "namespace", "name")):
        return [f"{path}: another type or name"]
    if reader["type"] == "array":
        return problems(reader["items"], writer["items"], f"{path}[]")
    written = {field["name"]: field["type"] for field in writer.get("fields", ())}
    found: list[str] = []
    for field in reader.get("fields", ()):
        place = f"{path}.{field['name']}"
        if field["name"] in written:
            found += problems(field["type"], written[field["name"]], place)
        elif "default" not in field:
            found.append(f"{place}: new, without a default")
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_the_present_schema_and_every_released_form_read_each_other(name: str) -> None:
    old, new = read("released", name), present(name)
    assert problems(new, old, "new reads old") == []
    assert problems(old, new, "old reads new") == []


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_form_is_named_by_its_fingerprint_and_never_changes(name: str) -> None:
    mark = fingerprint(to_parsing_canonical_form(read("released", name)), "CRC-64-AVRO")
    assert name.split(".")[-2] == mark


@pytest.mark.parametrize("name", RELEASED)
def test_the_codec_knows_every_released_form(name: str) -> None:
    entity = {"contact": Entity.CONTACTS, "product": Entity.PRODUCTS, "order": Entity.ORDERS}[
        name.split(".")[1]
    ]
    header = b"\xc3\x01" + bytes.fromhex(name.split(".")[-2])
    assert header in AvroCodec()._versions[entity].writers


def test_every_entity_has_a_released_form() -> None:
    assert {name.split(".")[1] for name in RELEASED} == {"contact", "product", "order"}


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields)}


A = {"name": "a", "type": "int"}


@pytest.mark.parametrize(
    ("reader", "writer", "fits"),
    [
        (record(A), record(A), True),
        (record(A), record(), False),
        (record(A | {"default": 0}), record(), True),
        (record({"name": "a", "type": "long"}), record(A), True),
        (record(A), record({"name": "a", "type": "long"}), False),
        (record({"name": "a", "type": ["null", "int"]}), record(A), True),
        (record(A), record({"name": "a", "type": ["null", "int"]}), False),
        (record({"name": "a", "type": {"type": "int", "logicalType": "date"}}), record(A), False),
        (record(A), record(A) | {"name": "S"}, False),
    ],
)
def test_the_check_tells_what_fits(reader: Any, writer: Any, fits: bool) -> None:  # noqa: FBT001 - a table's column
    assert (problems(reader, writer, "") == []) is fits


def test_every_field_is_documented() -> None:
    def undocumented(schema: Any) -> list[str]:
        if isinstance(schema, list):
            return [name for branch in schema for name in undocumented(branch)]
        if not isinstance(schema, dict):
            return []
        fields = schema.get("fields", [])
        own = [field["name"] for field in fields if not field.get("doc")]
        inner = [name for field in fields for name in undocumented(field["type"])]
        return own + inner + undocumented(schema.get("items"))

    for name in RELEASED:
        assert undocumented(present(name)) == []
