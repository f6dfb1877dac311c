"""What holds for every record, whatever a shop puts into it."""

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.dotdigital.fields import DATA_FIELDS
from estarsync_core.entities import Entity, Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Mapped
from estarsync_core.mapping.text import clean, clean_title, cut
from estarsync_core.profile import load_profile
from estarsync_runtime.avro import AvroCodec

Record = dict[str, Any]
Case = tuple[Entity, str, Record]

PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}/{sku}", image_base: "https://shop.example"}
contacts: {fields: {CUSTOMER_USER_GROUP: {path: Tier}}}
"""
MAPPER = Mapper(load_profile(PROFILE, "test"))
CODEC = AvroCodec()
KEY = "aroha@shop.example"

WORDS = [
    "true",
    "0",
    "1",
    "1980-02-03",
    "0001-01-01T00:00:00",
    "2024-01-02T03:04:05.1+13:00",
    "1,299.00",
    "NaN",
]
NOISE = [
    "Billing",
    "Completed",
    "Deleted",
    "&amp;lt;b&gt;",
    "<br>",
    "a%20b",
    "//x",
    "e\u0301" * 700,
    "😀" * 600,
]
TEXT = st.none() | st.text(max_size=8) | st.sampled_from(WORDS + NOISE)
LEAF = TEXT | st.integers() | st.lists(TEXT, max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def records(names: str, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Record]:
    return st.fixed_dictionaries(fixed, optional=dict.fromkeys(names.split(), TEXT))


ADDRESS = records("Type ContactPhone Company Street Suburb State City Postcode Country")
PAIR = st.fixed_dictionaries(
    {"Name": st.sampled_from(["DOB", "Active", "OnCreditHold", None]), "Value": TEXT}
)
CUSTOMER = records(
    "FirstName LastName Phone Mobile CustomerType LpmStatus DateModified Tier",
    ID=st.text(max_size=4),
    Email=st.just(KEY) | TEXT,
    Addresses=st.lists(ADDRESS, max_size=2),
    Attributes=st.lists(PAIR, max_size=3),
)
GROUP = st.fixed_dictionaries({"customers": st.lists(CUSTOMER, max_size=3), "renamed_from": TEXT})
IMAGES = st.lists(st.fixed_dictionaries({"Value": TEXT}), max_size=2)
ITEM = st.fixed_dictionaries(
    {
        "product": records(
            "Title Supplier Manufacturer Status Price SalePrice", ID=st.text(max_size=4), Images=IMAGES
        ),
        "item": records("Price SalePrice", Barcode=st.just("SKU 1")),
    }
)
MONEY = st.none() | st.sampled_from(["0", "5", "2.50", "0.001", "-1.005", "1,299.00", "$19.95"])
COUNT = st.sampled_from(["0", "1", "2", "-1", "7.0", "1.5"])
LINE = records(
    "Barcode Title ProductID",
    Quantity=COUNT,
    UnitPrice=MONEY,
    UnitDiscount=MONEY,
    StatusCode=st.sampled_from(["Ordered", "Deleted", "SplitToNewOrder", None]),
)
ORDER = records(
    "DeliveryMethod",
    ID=st.just("100045"),
    Email=st.just(KEY),
    OrderDate=st.just("2024-01-02T03:04:05"),
    Status=st.sampled_from(["Completed", "Cancelled", "Initiated"]),
    FreightTotal=MONEY,
    DiscountTotal=MONEY,
    Total=MONEY,
    Addresses=st.lists(ADDRESS, max_size=2),
    Items=st.lists(LINE, max_size=4),
)
TREE = st.fixed_dictionaries({"orders": st.lists(ORDER, min_size=1, max_size=3)})
RECORD = (
    st.tuples(st.just(Entity.CONTACTS), st.just(KEY), GROUP)
    | st.tuples(st.just(Entity.PRODUCTS), st.just("SKU 1"), ITEM)
    | st.tuples(st.just(Entity.ORDERS), st.just("100045"), TREE)
)


def outcome(entity: Entity, key: str, value: bytes) -> Mapped | tuple[str, str]:
    try:
        return MAPPER.record(entity, key, value)
    except InvalidRecord as invalid:
        return invalid.field, invalid.code


def mapped(entity: Entity, key: str, record: object) -> Mapped | None:
    result = outcome(entity, key, json.dumps(record).encode())
    return None if isinstance(result, tuple) else result


@given(st.sampled_from(Entity), st.text(), st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_mapped_or_refused(entity: Entity, key: str, value: bytes) -> None:
    outcome(entity, key, value)


@given(
    st.sampled_from(Entity),
    st.recursive(
        LEAF,
        lambda inner: (
            st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(
                    ["ID", "Email", "Barcode", "Items", "Account", "Attributes", "Status"], inner
                ),
            )
            | st.lists(inner, max_size=2)
            | inner.map(
                lambda value: {"customers": [value], "orders": [value], "product": value, "item": value}
            )
        ),
        max_leaves=12,
    ),
)
def test_records_of_wrong_shapes_are_mapped_or_refused(entity: Entity, record: object) -> None:
    outcome(entity, KEY, json.dumps(record).encode())


@given(RECORD)
def test_the_same_record_maps_to_the_same_document(case: Case) -> None:
    entity, key, record = case
    value = json.dumps(record).encode()
    assert outcome(entity, key, value) == outcome(entity, key, value)


@given(RECORD)
def test_every_document_survives_avro_and_keeps_its_key(case: Case) -> None:
    result = mapped(*case)
    if result is not None and result.document is not None:
        entity, key, _ = case
        assert CODEC.decode(entity, CODEC.encode(entity, result.document)) == result.document
        name = {Entity.CONTACTS: "email", Entity.PRODUCTS: "sku", Entity.ORDERS: "id"}[entity]
        assert result.document[name] == key


@given(RECORD)
def test_no_text_is_longer_than_dotdigital_takes(case: Case) -> None:
    result = mapped(*case)
    if result is not None:
        assert all(len(text.encode("utf-16-le")) <= 2000 for text in texts_in(result.document))


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from texts_in(child)


ELEMENTS = {
    "FIRSTNAME": "FirstName",
    "LASTNAME": "LastName",
    "CUSTOMER_TYPE": "CustomerType",
    "CUSTOMER_USER_GROUP": "Tier",
    "NEWSLETTER_SUBSCRIBE": "LpmStatus",
}


@given(CUSTOMER)
def test_no_field_of_a_customer_is_silently_dropped(customer: Record) -> None:
    result = mapped(Entity.CONTACTS, KEY, {"customers": [customer | {"Email": KEY}]})
    assert result
    assert result.document
    noted = {field for field, _ in result.dropped}
    for name, element in ELEMENTS.items():
        told = clean(customer.get(element))
        sent = result.document["data_fields"][name]
        assert (sent is None) == (told is None) or name in noted
    codes_that_keep = {"cut", "not_in_lookup"}
    lost = {field for field, code in result.dropped if code not in codes_that_keep} & set(DATA_FIELDS)
    assert set(result.document["omitted"]) == lost
    assert all(result.document["data_fields"][name] is None for name in lost)


@given(st.permutations([{"ID": str(number), "Email": KEY} for number in (2, 10, 9)]), st.data())
def test_the_winner_does_not_depend_on_the_order_of_the_customers(
    customers: list[Record], data: st.DataObject
) -> None:
    dates = data.draw(st.lists(st.sampled_from(["2024-01-01", "2024-01-02", None]), min_size=3, max_size=3))
    group = [customer | {"DateModified": when} for customer, when in zip(customers, dates, strict=True)]
    either = mapped(Entity.CONTACTS, KEY, {"customers": group})
    assert either == mapped(Entity.CONTACTS, KEY, {"customers": group[::-1]})


AMOUNTS: dict[str, int | str] = {
    "0": 0,
    "5": 5,
    "2.50": "5/2",
    "0.001": "1/1000",
    "-1.005": "-1005/1000",
    "1,299.00": 1299,
    "$19.95": "399/20",
}


def exact(text: str | None) -> Fraction:
    return Fraction(AMOUNTS[text]) if text else Fraction(0)


@given(TREE)
def test_totals_are_what_the_lines_come_to(tree: Record) -> None:
    result = mapped(Entity.ORDERS, "100045", tree)
    if result is None or result.document is None:
        assert result is None or result.reason is Reason.REMOVED
        return
    sent = result.document
    lines = [line for order in tree["orders"] for line in order["Items"]]
    kept = [line for line in lines if line["StatusCode"] in {"Ordered", None} and line["Quantity"] != "0"]
    subtotal = sum(
        int(line["Quantity"][:2].rstrip(".")) * (exact(line["UnitPrice"]) - exact(line["UnitDiscount"]))
        for line in kept
    )
    freight = sum(exact(order["FreightTotal"]) for order in tree["orders"])
    discount = sum(exact(order["DiscountTotal"]) for order in tree["orders"]) if kept else 0
    half = Fraction(1, 200)
    assert abs(Fraction(sent["order_subtotal"]) - subtotal) <= half + Fraction(1, 10**9)
    assert sent["products"]
    assert len(sent["products"]) == len(kept or lines)
    assert sent["order_subtotal"] == float(round(subtotal, 2))
    untouched = len(tree["orders"]) == 1 and all(line["StatusCode"] in {"Ordered", None} for line in lines)
    total = exact(tree["orders"][0]["Total"]) if untouched and tree["orders"][0]["Total"] else None
    assert sent["order_total"] == float(round(subtotal + freight - discount if total is None else total, 2))


@pytest.mark.parametrize("function", [clean, clean_title])
@given(TEXT)
def test_clean_text_stays_clean(function: Callable[[str | None], str | None], text: str | None) -> None:
    once = function(text)
    if once is not None:
        assert once
        assert once == once.strip()
        assert clean(once) == once
        assert once.startswith(cut(once))
