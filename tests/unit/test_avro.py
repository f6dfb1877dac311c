from datetime import UTC, date, datetime

import pytest

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.result import Document
from estarsync_runtime.avro import AvroCodec

CODEC = AvroCodec()
CONTACT: Document = {
    "email": "aroha@shop.example",
    "renamed_from": None,
    "data_fields": dict.fromkeys(DATA_FIELDS)
    | {"FIRSTNAME": "Ngāta", "DOB": date(1980, 2, 3), "ON_CREDIT_HOLD": True},
    "omitted": ["CUSTOMER_ACTIVE"],
}
PRODUCT: Document = {
    "id": "501",
    "sku": "SKU-1",
    "status": "Enabled",
    "name": "Merino Tee",
    "price": 0.001,
    "specialprice": None,
    "currency": "NZD",
    "image_path": None,
    "brand": "Ice",
    "url": "https://shop.example/p/501",
}
ORDER: Document = {
    "id": "100045",
    "email": "aroha@shop.example",
    "order_total": 129.9,
    "order_subtotal": 119.9,
    "discount_amount": 0.0,
    "delivery_total": 10.0,
    "currency": "NZD",
    "purchase_date": datetime(2024, 1, 2, 3, 4, 5, 123000, tzinfo=UTC),
    "order_status": "Completed",
    "delivery_method": None,
    "billing_address": None,
    "delivery_address": {
        "delivery_address_1": "1 Cuba St",
        "delivery_address_2": None,
        "delivery_city": None,
        "delivery_region": None,
        "delivery_country": "NZ",
        "delivery_postcode": None,
    },
    "products": [{"name": "Merino Tee", "sku": "SKU-1", "price": 119.9, "qty": 1, "product_id": None}],
}
DOCUMENTS = [(Entity.CONTACTS, CONTACT), (Entity.PRODUCTS, PRODUCT), (Entity.ORDERS, ORDER)]


@pytest.mark.parametrize(("entity", "document"), DOCUMENTS)
def test_what_is_encoded_comes_back(entity: Entity, document: Document) -> None:
    data = CODEC.encode(entity, document)
    assert data.startswith(b"\xc3\x01")
    assert CODEC.decode(entity, data) == document


def test_data_fields_stand_in_the_schema_in_the_tables_order() -> None:
    decoded = CODEC.decode(Entity.CONTACTS, CODEC.encode(Entity.CONTACTS, CONTACT))
    assert list(decoded["data_fields"]) == list(DATA_FIELDS)


@pytest.mark.parametrize(("entity", "document"), DOCUMENTS)
def test_half_a_record_is_no_record(entity: Entity, document: Document) -> None:
    data = CODEC.encode(entity, document)
    for length in range(len(data)):
        with pytest.raises(InvalidRecord) as caught:
            CODEC.decode(entity, data[:length])
        assert (caught.value.field, caught.value.code) == ("value", "not_avro")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_avro"),
        (b'{"id": "1"}', "not_avro"),
        (b"\xc3\x02" + bytes(8), "not_avro"),
        (b"\xc3\x01" + bytes(8), "unknown_schema"),
    ],
)
def test_what_is_not_ours(data: bytes, code: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        CODEC.decode(Entity.ORDERS, data)
    assert (caught.value.field, caught.value.code) == ("value", code)


def test_another_entitys_record_is_told_from_an_unknown_one() -> None:
    with pytest.raises(InvalidRecord, match="other_schema"):
        CODEC.decode(Entity.ORDERS, CODEC.encode(Entity.PRODUCTS, PRODUCT))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(InvalidRecord, match="not_avro"):
        CODEC.decode(Entity.PRODUCTS, CODEC.encode(Entity.PRODUCTS, PRODUCT) + b"x")
