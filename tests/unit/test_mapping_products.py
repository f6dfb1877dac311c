import json
from typing import Any

import pytest

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.profile import load_profile

Record = dict[str, Any]

PROFILE = """
default_website: "1"
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}/{sku}", image_base: "https://shop.example/i/"}
  "2": {currency: AUD, product_url: "https://au.example/p/{id}", image_base: "https://au.example"}
"""
MAPPER = Mapper(load_profile(PROFILE, "test"))


def map_item(product: Record | None = None, item: Record | None = None, key: str = "SKU-1") -> Mapped:
    value = {
        "product": {"ID": "501", "Title": "Merino Tee", "Price": "119.90", "Status": "1"} | (product or {}),
        "item": {"Barcode": key} | (item or {}),
    }
    return MAPPER.record(Entity.PRODUCTS, key, json.dumps(value).encode())


def document_of(mapped: Mapped) -> Document:
    assert mapped.document is not None
    return mapped.document


def document(product: Record | None = None, item: Record | None = None, key: str = "SKU-1") -> Document:
    return document_of(map_item(product, item, key))


def invalid(product: Record | None = None, item: Record | None = None, key: str = "SKU-1") -> tuple[str, str]:
    with pytest.raises(InvalidRecord) as caught:
        map_item(product, item, key)
    return caught.value.field, caught.value.code


def test_every_attribute_of_the_integration() -> None:
    mapped = map_item(
        {
            "Title": " Merino &amp; Silk Tee ",
            "Manufacturer": "Ice",
            "Supplier": "Warehouse",
            "SalePrice": "99",
            "Websites": ["2", "1"],
            "Images": [
                {"Name": "Empty", "Value": " "},
                {"Name": "Main", "Value": "a b.jpg"},
                {"Value": "c.jpg"},
            ],
        }
    )
    assert mapped.document == {
        "id": "501",
        "sku": "SKU-1",
        "status": "Enabled",
        "name": "Merino & Silk Tee",
        "price": 119.9,
        "specialprice": 99.0,
        "currency": "NZD",
        "image_path": "https://shop.example/i/a%20b.jpg",
        "brand": "Ice",
        "url": "https://shop.example/p/501/SKU-1",
    }
    assert mapped.dropped == ()


def test_a_sku_stays_as_it_is() -> None:
    sent = document(key="BANK CHARGES")
    assert (sent["sku"], sent["url"]) == ("BANK CHARGES", "https://shop.example/p/501/BANK%20CHARGES")
    assert document(item={"Barcode": " SKU-1 "})["sku"] == "SKU-1"
    assert document(key="0012")["sku"] == "0012"


@pytest.mark.parametrize(
    ("status", "sent"),
    [("1", "Enabled"), (" Active ", "Enabled"), ("0", "Disabled"), ("new", "Disabled"), (None, "Enabled")],
)
def test_status(status: str | None, sent: object) -> None:
    assert document({"Status": status})["status"] == sent


@pytest.mark.parametrize(
    ("product", "item", "price", "special"),
    [
        ({"Price": "10"}, {"Price": "12"}, 12.0, None),
        ({"Price": "10"}, {"Price": ""}, 10.0, None),
        ({"Price": "0"}, {}, 0.0, None),
        ({"Price": "0.001"}, {}, 0.001, None),
        ({"Price": "1,299.00"}, {}, 1299.0, None),
        ({"Price": "10", "SalePrice": "8"}, {}, 10.0, 8.0),
        ({"Price": "10", "SalePrice": "8"}, {"SalePrice": "7"}, 10.0, 7.0),
        ({"Price": "10", "SalePrice": "8"}, {"Price": "10"}, 10.0, 8.0),
        ({"Price": "10", "SalePrice": "8"}, {"Price": "12"}, 12.0, None),
        ({"Price": "10", "SalePrice": "0"}, {}, 10.0, None),
        ({"Price": "10", "SalePrice": "10"}, {}, 10.0, None),
        ({"Price": "10", "SalePrice": "11"}, {}, 10.0, None),
        ({"Price": "10", "SalePrice": "-1"}, {}, 10.0, None),
    ],
)
def test_prices(product: Record | None, item: Record | None, price: float, special: float | None) -> None:
    sent = document(product, item)
    assert (sent["price"], sent["specialprice"]) == (price, special)


def test_a_bad_sale_price_or_image_is_left_out_and_reported() -> None:
    mapped = map_item({"SalePrice": "cheap", "Images": [{"Value": "data:,x"}]})
    assert (document_of(mapped)["specialprice"], document_of(mapped)["image_path"]) == (None, None)
    assert mapped.dropped == (("specialprice", "not_a_number"), ("image_path", "not_a_url"))


@pytest.mark.parametrize(
    ("product", "brand"),
    [({"Manufacturer": " ", "Supplier": "Warehouse"}, "Warehouse"), ({}, None)],
)
def test_brand(product: Record | None, brand: str | None) -> None:
    assert document(product)["brand"] == brand


@pytest.mark.parametrize(
    ("websites", "currency"),
    [(None, "NZD"), ([], "NZD"), (["2"], "AUD"), (["9", "2"], "AUD"), ([None, " "], "NZD")],
)
def test_the_website_gives_currency_and_addresses(websites: list[str | None] | None, currency: str) -> None:
    assert document({"Websites": websites})["currency"] == currency


def test_a_long_name_is_cut_and_reported() -> None:
    mapped = map_item({"Title": "x" * 1200})
    assert document_of(mapped)["name"] == "x" * 1000
    assert mapped.dropped == (("name", "cut"),)


@pytest.mark.parametrize(
    ("product", "item", "problem"),
    [
        ({}, {"Barcode": "OTHER"}, ("sku", "key_mismatch")),
        ({}, {"Barcode": " "}, ("sku", "missing")),
        ({"ID": ""}, {}, ("id", "missing")),
        ({"Title": "<br>"}, {}, ("name", "missing")),
        ({"Price": None}, {}, ("price", "missing")),
        ({"Price": "-1"}, {}, ("price", "negative")),
        ({"Price": "NaN"}, {}, ("price", "not_a_number")),
        ({"Price": "19,95"}, {}, ("price", "ambiguous_number")),
        ({"Websites": ["9"]}, {}, ("currency", "unknown_website")),
        ({"ID": "/" * 400}, {}, ("url", "too_long")),
        ({"Price": 10}, {}, ("product.Price", "wrong_type")),
    ],
)
def test_what_is_no_product(product: Record | None, item: Record | None, problem: tuple[str, str]) -> None:
    assert invalid(product, item) == problem


def test_a_sku_too_long_to_send() -> None:
    assert invalid(key="x" * 1001) == ("sku", "too_long")


def test_templates_are_checked_at_start() -> None:
    profile = load_profile(
        'websites: {"1": {currency: NZD, product_url: "shop.example/{slug}", image_base: "shop.example"}}',
        "test",
    )
    with pytest.raises(ConfigurationError) as caught:
        Mapper(profile)
    assert len(caught.value.problems) == 2
