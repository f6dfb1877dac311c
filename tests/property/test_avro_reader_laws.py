"""The generated reader reads what fastavro reads, and leaves to fastavro whatever it does not."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from estarsync_core.entities import Entity
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.avro_reader import compile_reader

NAMES = {Entity.CONTACTS: "contact", Entity.PRODUCTS: "product", Entity.ORDERS: "order"}
CODEC = AvroCodec()
EVERYTHING = {
    "type": "record",
    "name": "All",
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "b", "type": {"type": "array", "items": ["null", "double"]}},
        {"name": "c", "type": "double"},
        {"name": "d", "type": "double"},
        {"name": "e", "type": "boolean"},
        {"name": "f", "type": {"type": "array", "items": {"type": "array", "items": "int"}}},
        {"name": "g", "type": {"type": "int", "logicalType": "date"}},
        {"name": "h", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "i", "type": "string"},
    ],
}


def schema(entity: Entity) -> dict[str, Any]:
    path = files("estarsync_schemas").joinpath("avro", f"dotdigital.{NAMES[entity]}.v1.avsc")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


SCHEMAS = [*map(schema, Entity), EVERYTHING]


BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(codec="utf-8")) | st.just("\u00e9" * 3000),
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
    "long": st.integers(-(2**63), 2**63 - 1),
    "date": st.dates(),
    "timestamp-millis": st.integers(-(10**13), 10**13).map(
        lambda millis: BEGIN + timedelta(milliseconds=millis)
    ),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a schema's type that comes back as it went."""
    match kind:
        case ["null", other]:
            return st.none() | values(other)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in fields})
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=5)
        case {"logicalType": name}:
            return PLAIN[name]
        case _:
            return PLAIN[kind]


def written(kind: Any, document: object) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(kind), document)
    return body.getvalue()


def by_fastavro(kind: Any, data: bytes) -> Any:
    body = io.BytesIO(data)
    document = fastavro.schemaless_reader(body, fastavro.parse_schema(kind), None)
    assert body.tell() == len(data)
    return document


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind["name"])
@settings(suppress_health_check=[HealthCheck.too_slow])  # a contact is large, and a machine may be busy
@given(st.data())
def test_a_document_comes_back(kind: Any, data: st.DataObject) -> None:
    document = data.draw(values(kind))
    reader = compile_reader(kind)
    assert reader is not None
    assert reader(b"before" + written(kind, document), 6) == document


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind["name"])
@settings(suppress_health_check=[HealthCheck.too_slow])  # as above
@given(st.data())
def test_what_it_reads_of_damaged_bytes_fastavro_reads_too(kind: Any, data: st.DataObject) -> None:
    whole = written(kind, data.draw(values(kind)))
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 3))
    damaged = whole[:at] + data.draw(st.binary(max_size=12)) + whole[at + gone :]
    reader = compile_reader(kind)
    assert reader is not None
    try:
        found = reader(damaged, 0)
    except Exception:  # noqa: BLE001 - anything at all says that it is fastavro's
        assume(False)  # noqa: FBT003 - hypothesis's own form
    # A number that is none is not equal to itself, but it looks the same.
    assert repr(found) == repr(by_fastavro(kind, damaged))


LENGTHS = {
    "never ends": b"\xff" * 11,
    "too many bits": b"\x80" * 9 + b"\x7f",
    "negative": b"\x01",
    "beyond the end": b"\x7e",
}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_lies_is_not_read(length: bytes) -> None:
    reader = compile_reader(schema(Entity.PRODUCTS))
    assert reader is not None
    with pytest.raises((OverflowError, ValueError, IndexError)):
        reader(length + b"x" * 20, 0)


def test_an_array_in_blocks_with_their_sizes_is_left_to_fastavro() -> None:
    kind = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "a", "type": {"type": "array", "items": "int"}}],
    }
    reader = compile_reader(kind)
    assert reader is not None
    assert reader(b"\x02\x0e\x04\x10\x12\x00", 0) == {"a": [7, 8, 9]}
    sized = b"\x03\x04\x10\x12\x00"  # two items, in so many bytes
    assert by_fastavro(kind, sized) == {"a": [8, 9]}
    with pytest.raises(ValueError):  # noqa: PT011 - which error is nobody's business: fastavro reads it then
        reader(sized, 0)


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "bytes"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["string", "null"]}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "map", "values": "int"}}]},
    ],
)
def test_what_the_generator_does_not_know_it_leaves_alone(kind: Any) -> None:
    assert compile_reader(kind) is None


def test_the_codec_reads_with_it_and_without_the_same() -> None:
    document: dict[str, Any] = {
        "email": "e",
        "renamed_from": None,
        "data_fields": {"DOB": date(1970, 1, 2)},
        "omitted": ["FIRSTNAME"],
    }
    data = CODEC.encode(Entity.CONTACTS, document)
    assert CODEC.decode(Entity.CONTACTS, data) == by_fastavro(schema(Entity.CONTACTS), data[10:])
