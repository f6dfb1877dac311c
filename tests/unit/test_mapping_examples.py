"""The examples in schemas/avro/examples are golden pairs of the mapping, and the page made from them is up to date."""

import importlib.util
import io
import json
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro
import pytest

from estarsync_core.entities import Entity
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_runtime.avro import AvroCodec

ROOT = Path(__file__).parents[2]
NAMES = {Entity.CONTACTS: "contact", Entity.PRODUCTS: "product", Entity.ORDERS: "order"}
CODEC = AvroCodec()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mapping_page", ROOT / "tools" / "mapping_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(value: object) -> str:
    assert isinstance(value, (date, datetime))
    return value.isoformat()


@pytest.mark.parametrize("entity", Entity)
def test_an_example_maps_to_its_payload(tool: ModuleType, entity: Entity) -> None:
    example = tool.example(entity)
    mapped = Mapper(load_profile(tool.PROFILE, "test")).record(
        entity, example["key"], json.dumps(example["raw"]).encode()
    )
    assert json.loads(json.dumps(mapped.document, default=plain)) == example["payload"]
    assert mapped.dropped == ()
    assert CODEC.decode(entity, CODEC.encode(entity, mapped.document or {})) == mapped.document


@pytest.mark.parametrize("entity", Entity)
def test_an_example_is_a_record_of_its_schema_for_any_avro_library(tool: ModuleType, entity: Entity) -> None:
    path = files("estarsync_schemas").joinpath("avro", f"dotdigital.{NAMES[entity]}.v1.avsc")
    schema = fastavro.parse_schema(json.loads(path.read_text(encoding="utf-8")))
    payload = typed(tool.example(entity)["payload"])
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, payload, strict=True)
    assert CODEC.encode(entity, payload)[10:] == body.getvalue()


def typed(payload: dict[str, Any]) -> dict[str, Any]:
    if "purchase_date" in payload:
        return payload | {"purchase_date": datetime.fromisoformat(payload["purchase_date"]).astimezone(UTC)}
    if "data_fields" in payload:
        fields = payload["data_fields"]
        return payload | {"data_fields": fields | {"DOB": date.fromisoformat(fields["DOB"])}}
    return payload


NOT_SENT = {
    Entity.CONTACTS: {"customers[].Addresses[].FirstName", "customers[].Addresses[].LastName"},
    Entity.PRODUCTS: {
        "product.Images[].Name",
        "product.DateModified",
        "item.ID",
        "item.Size",
        "item.Colour",
        "item.Quantity",
    },
    Entity.ORDERS: {"orders[].Customer", "orders[].Items[].ID", "orders[].DateModified"},
}
"""Every place of the examples that reaches no payload, on purpose. Whatever else is dropped is a mistake."""


@pytest.mark.parametrize("entity", Entity)
def test_nothing_of_a_record_is_dropped_but_what_is_meant_to_be(tool: ModuleType, entity: Entity) -> None:
    assert set(tool.not_sent(entity)) == NOT_SENT[entity]


def test_the_page_is_up_to_date(tool: ModuleType) -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run `make docs`"
