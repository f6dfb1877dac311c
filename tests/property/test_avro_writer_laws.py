"""The generated writer writes what fastavro writes, byte for byte."""

import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from importlib.resources import files
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estarsync_core.entities import Entity
from estarsync_core.mapping.result import Shared
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.avro_writer import compile_writer

NAMES = {Entity.CONTACTS: "contact", Entity.PRODUCTS: "product", Entity.ORDERS: "order"}
CODEC = AvroCodec()
TEXTS = (
    st.text()
    | st.text(alphabet="ab\u00e9\u4e16\U0001f600", max_size=40)
    | st.sampled_from(["x" * 5000, "\u00e9" * 100])
)
SECONDS = st.integers(min_value=-2_000_000_000, max_value=4_000_000_000)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=13)), timezone(timedelta(hours=-3, minutes=-30))])


def schema(entity: Entity) -> dict[str, Any]:
    path = files("estarsync_schemas").joinpath("avro", f"dotdigital.{NAMES[entity]}.v1.avsc")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def moments() -> st.SearchStrategy[datetime]:
    def moment(seconds: int, micros: int, zone: timezone) -> datetime:
        return (
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)
        ).astimezone(zone)

    return st.builds(moment, SECONDS, st.integers(0, 999_999), ZONES)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a schema's type."""
    match kind:
        case ["null", other]:
            return st.none() | values(other)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in fields})
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=5)
        case {"logicalType": "date"}:
            return st.dates()
        case {"logicalType": "timestamp-millis"}:
            return moments()
        case _:
            return plain_values(kind)


def plain_values(kind: str) -> st.SearchStrategy[Any]:
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": TEXTS.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text)),
        "double": st.floats(),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
        "long": st.integers(-(2**63), 2**63 - 1),
    }
    return plain[kind]


def by_fastavro(kind: Any, document: object) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(kind), document)
    return body.getvalue()


@pytest.mark.parametrize("entity", Entity)
@settings(suppress_health_check=[HealthCheck.too_slow])  # a contact is large, and a machine may be busy
@given(st.data())
def test_the_bytes_are_fastavros(entity: Entity, data: st.DataObject) -> None:
    kind = schema(entity)
    document = data.draw(values(kind))
    assert CODEC.encode(entity, document)[10:] == by_fastavro(kind, document)


@pytest.mark.parametrize("entity", Entity)
def test_every_schema_of_ours_has_a_writer(entity: Entity) -> None:
    assert compile_writer(schema(entity)) is not None


RECORD = {
    "type": "record",
    "name": "All",
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "b", "type": {"type": "array", "items": ["null", "double"]}},
        {"name": "c", "type": "double"},
        {"name": "d", "type": "double"},
        {"name": "e", "type": "boolean"},
        {"name": "f", "type": {"type": "array", "items": {"type": "array", "items": "int"}}},
    ],
}


@given(values(RECORD))
def test_other_shapes_too(document: dict[str, Any]) -> None:
    writer = compile_writer(RECORD)
    assert writer is not None
    assert writer(document) == by_fastavro(RECORD, document)


@pytest.mark.parametrize(
    "kind",
    [
        "string",
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "bytes"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["string", "null"]}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "map", "values": "int"}}]},
    ],
)
def test_what_the_generator_does_not_know_it_leaves_alone(kind: Any) -> None:
    assert compile_writer(kind) is None


LINE: dict[str, Any] = {"name": "Tee", "sku": "S", "price": -0.0, "qty": 1, "product_id": None}
OTHER_LINE = {
    "type": "record",
    "name": "R",
    "fields": [
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {"type": "record", "name": "L", "fields": [{"name": "qty", "type": "long"}]},
            },
        }
    ],
}


@given(st.fixed_dictionaries({name: st.just(value) for name, value in LINE.items()} | {"name": TEXTS}))
def test_a_shared_part_is_written_as_any_other_by_each_schema(line: dict[str, Any]) -> None:
    shared = Shared(**line)
    order = dict.fromkeys(("id", "email", "currency", "order_status"), "x") | {
        "order_total": 1.0,
        "order_subtotal": 1.0,
        "discount_amount": 0.0,
        "delivery_total": 0.0,
        "purchase_date": datetime(2024, 1, 1, tzinfo=UTC),
        "products": [shared, line, shared],
    }
    order |= dict.fromkeys(("delivery_method", "billing_address", "delivery_address"))
    kind = schema(Entity.ORDERS)
    other = compile_writer(OTHER_LINE)
    assert other is not None
    for _ in range(2):
        assert CODEC.encode(Entity.ORDERS, order)[10:] == by_fastavro(kind, order)
        assert other({"lines": [shared]}) == by_fastavro(OTHER_LINE, {"lines": [{"qty": 1}]})


PRODUCT: dict[str, Any] = dict.fromkeys(("id", "sku", "status", "name", "currency", "url"), "x") | {
    "price": 1.0,
    "specialprice": None,
    "image_path": None,
    "brand": None,
}


@pytest.mark.parametrize(
    "odd", [{"price": 1}, {"price": True}, {"name": "y" * 5000}, {"brand": "\u00e9" * 3000}, {"extra": 1}]
)
def test_an_odd_form_is_written_as_fastavro_does(odd: dict[str, Any]) -> None:
    document = PRODUCT | odd
    assert CODEC.encode(Entity.PRODUCTS, document)[10:] == by_fastavro(schema(Entity.PRODUCTS), document)


def test_a_missing_field_gets_its_default() -> None:
    document = {name: value for name, value in PRODUCT.items() if name != "brand"}
    assert CODEC.decode(Entity.PRODUCTS, CODEC.encode(Entity.PRODUCTS, document)) == PRODUCT


@pytest.mark.parametrize(
    "odd", [{"price": None}, {"name": None}, {"name": b"x"}, {"name": "\ud800"}, {"id": 5}]
)
def test_a_document_that_does_not_fit_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        CODEC.encode(Entity.PRODUCTS, PRODUCT | odd)


def test_a_date_comes_back() -> None:
    contact: dict[str, Any] = {
        "email": "e",
        "renamed_from": None,
        "data_fields": {"DOB": date(1970, 1, 2)},
        "omitted": [],
    }
    decoded = CODEC.decode(Entity.CONTACTS, CODEC.encode(Entity.CONTACTS, contact))
    assert decoded["data_fields"]["DOB"] == date(1970, 1, 2)
