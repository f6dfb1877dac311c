import json
from datetime import UTC, datetime
from typing import Any

import pytest

from estarsync_core.entities import Entity, Reason
from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.profile import load_profile

Record = dict[str, Any]

PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
  "2": {currency: AUD, product_url: "https://au.example/p/{id}", image_base: "https://au.example"}
"""
MAPPER = Mapper(load_profile(PROFILE, "test"))


def line(quantity: str | None = "1", price: str | None = "10", **changes: object) -> Record:
    return {
        "Barcode": "SKU-1",
        "Title": "Merino Tee",
        "Quantity": quantity,
        "UnitPrice": price,
        "StatusCode": "Ordered",
    } | changes


def order(*lines: Record, **changes: object) -> Record:
    return {
        "ID": "100045",
        "Email": "Aroha@Shop.Example",
        "OrderDate": "2024-01-02T03:04:05",
        "Status": "Completed",
        "Items": list(lines or [line()]),
    } | changes


def map_tree(*orders: Record) -> Mapped:
    return MAPPER.record(Entity.ORDERS, "100045", json.dumps({"orders": orders}).encode())


def document_of(mapped: Mapped) -> Document:
    assert mapped.document is not None
    return mapped.document


def document(*orders: Record) -> Document:
    return document_of(map_tree(*orders))


def money_of(sent: Document) -> tuple[float, float, float, float]:
    return sent["order_subtotal"], sent["delivery_total"], sent["discount_amount"], sent["order_total"]


def invalid(*orders: Record) -> tuple[str, str]:
    with pytest.raises(InvalidRecord) as caught:
        map_tree(*orders)
    return caught.value.field, caught.value.code


def test_every_part_of_an_order() -> None:
    mapped = map_tree(
        order(
            line("2", "19.95", Title=" Merino &amp; Silk ", ProductID="501", UnitDiscount="0.95"),
            line("1", "0.001", Barcode="SKU-2", Title=""),
            Website="2",
            FreightTotal="5.00",
            DiscountTotal="3",
            Total="40.0",
            DeliveryMethod=" Courier ",
            Addresses=[
                {"Type": "billing", "Street": "1 Cuba St", "Suburb": "Te Aro", "Postcode": "6011"},
                {"Type": "Delivery", "City": "Nelson", "State": "NSN", "Country": "NZ"},
            ],
        )
    )
    assert mapped.document == {
        "id": "100045",
        "email": "aroha@shop.example",
        "order_total": 40.0,
        "order_subtotal": 38.0,
        "discount_amount": 3.0,
        "delivery_total": 5.0,
        "currency": "AUD",
        "purchase_date": datetime(2024, 1, 1, 14, 4, 5, tzinfo=UTC),
        "order_status": "Completed",
        "delivery_method": "Courier",
        "billing_address": {
            "billing_address_1": "1 Cuba St",
            "billing_address_2": "Te Aro",
            "billing_city": None,
            "billing_region": None,
            "billing_country": None,
            "billing_postcode": "6011",
        },
        "delivery_address": {
            "delivery_address_1": None,
            "delivery_address_2": None,
            "delivery_city": "Nelson",
            "delivery_region": "NSN",
            "delivery_country": "NZ",
            "delivery_postcode": None,
        },
        "products": [
            {"name": "Merino & Silk", "sku": "SKU-1", "price": 19.95, "qty": 2, "product_id": "501"},
            {"name": "SKU-2", "sku": "SKU-2", "price": 0.001, "qty": 1, "product_id": None},
        ],
    }
    assert mapped.dropped == ()


def test_a_split_tree_counts_once() -> None:
    root = order(
        line("1", "10"),
        line("3", "20", StatusCode="SplitToNewOrder"),
        line("1", "5", StatusCode="PartialSplit"),
        FreightTotal="6",
        DiscountTotal="1",
        Total="81",
    )
    child = order(line("3", "20"), ID="100046", Status="InProgress", FreightTotal="2", Total="60")
    assert money_of(document(root, child)) == (75.0, 8.0, 1.0, 82.0)
    assert [product["qty"] for product in document(root, child)["products"]] == [1, 1, 3]


@pytest.mark.parametrize("line_changes", [{"StatusCode": "Deleted"}, {"Quantity": "0"}])
def test_a_returned_line_leaves_the_products(line_changes: Record) -> None:
    sent = document(order(line("2", "10"), line("1", "7") | line_changes, Barcode="SKU-2"))
    assert [product["qty"] for product in sent["products"]] == [2]
    assert sent["order_total"] == 20.0


def test_a_deleted_line_makes_the_shops_own_total_old() -> None:
    assert (
        document(order(line("2", "10"), line("1", "7", StatusCode=" Deleted "), Total="27"))["order_total"]
        == 20
    )


def test_where_no_line_is_left_the_lines_stay_with_quantity_zero() -> None:
    sent = document(
        order(
            line("2", "10", StatusCode="Deleted"),
            line("0", "7"),
            Total="31",
            FreightTotal="5",
            DiscountTotal="10",
        )
    )
    assert [product["qty"] for product in sent["products"]] == [0, 0]
    assert money_of(sent) == (0.0, 5.0, 0.0, 5.0)


def test_a_negative_line_is_subtracted() -> None:
    sent = document(order(line("3", "10"), line("-1", "10")))
    assert [product["qty"] for product in sent["products"]] == [3, -1]
    assert sent["order_total"] == 20.0


@pytest.mark.parametrize(
    ("quantity", "price", "total"),
    [
        ("1", "0.005", 0.0),
        ("3", "0.005", 0.02),
        ("1", "0.015", 0.02),
        ("1", "2.675", 2.68),
        ("10", "0.001", 0.01),
    ],
)
def test_totals_have_two_decimals_half_even(quantity: str, price: str, total: float) -> None:
    sent = document(order(line(quantity, price)))
    assert (sent["order_subtotal"], sent["order_total"]) == (total, total)
    assert sent["products"][0]["price"] == float(price)


def test_the_shops_own_total_counts_for_a_whole_single_order() -> None:
    assert document(order(line("2", "10"), line("0", "9"), Total="23.00"))["order_total"] == 23.0


def test_a_bad_total_is_computed_and_reported() -> None:
    mapped = map_tree(order(Total="?"))
    assert document_of(mapped)["order_total"] == 10.0
    assert mapped.dropped == (("order_total", "not_a_number"),)


def test_a_line_without_a_barcode_keeps_its_place_and_its_amount() -> None:
    mapped = map_tree(order(line(Barcode=None, Title="Gift wrap"), line("1", "5", Barcode=" ", Title=None)))
    products = document_of(mapped)["products"]
    assert [(product["name"], product["sku"]) for product in products] == [
        ("Gift wrap", "unknown"),
        ("unknown", "unknown"),
    ]
    assert document_of(mapped)["order_total"] == 15.0
    assert mapped.dropped == (("lines[].sku", "missing"), ("lines[].sku", "missing"))


def test_a_barcode_too_long_to_send_is_reported() -> None:
    mapped = map_tree(order(line(Barcode="x" * 1001)))
    assert document_of(mapped)["products"][0]["sku"] == "unknown"
    assert mapped.dropped == (("lines[].sku", "too_long"),)


@pytest.mark.parametrize("status", ["Initiated", "FraudulentOrder", "SomethingNew"])
def test_an_order_that_is_not_sent_is_a_tombstone(status: str | None) -> None:
    mapped = map_tree(order(Status=status, Email=None, Items=None))
    assert (mapped.document, mapped.reason) == (None, Reason.REMOVED)


def test_a_cancelled_order_stays() -> None:
    assert document(order(Status="Cancelled"))["order_status"] == "Cancelled"


@pytest.mark.parametrize(
    "addresses",
    [
        None,
        [],
        [{"Type": "Billing"}, {"Type": "Shipping", "City": " "}],
        [{"Type": None, "City": "Nelson"}, {"Type": "Gift", "City": "Nelson"}],
    ],
)
def test_no_address_is_null(addresses: list[Record] | None) -> None:
    sent = document(order(Addresses=addresses))
    assert (sent["billing_address"], sent["delivery_address"]) == (None, None)


def test_an_empty_address_does_not_hide_the_next() -> None:
    sent = document(order(Addresses=[{"Type": "Shipping"}, {"Type": "Delivery", "City": "Nelson"}]))
    assert sent["delivery_address"]["delivery_city"] == "Nelson"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ID": "5"}, ("id", "key_mismatch")),
        ({"Status": " "}, ("order_status", "missing")),
        ({"Email": None}, ("email", "missing")),
        ({"Email": "noemail"}, ("email", "not_an_email")),
        ({"OrderDate": None}, ("purchase_date", "missing")),
        ({"OrderDate": "0001-01-01T00:00:00"}, ("purchase_date", "missing")),
        ({"OrderDate": "soon"}, ("purchase_date", "not_a_time")),
        ({"Website": "9"}, ("currency", "unknown_website")),
        ({"Items": []}, ("lines", "missing")),
        ({"Items": None}, ("lines", "missing")),
        ({"FreightTotal": "free"}, ("delivery_total", "not_a_number")),
        ({"DiscountTotal": "1,5"}, ("discount_amount", "ambiguous_number")),
        ({"Total": "99999999999999"}, ("order_total", "out_of_range")),
        ({"Items": [line(), line("1.5")]}, ("lines[1].quantity", "not_an_integer")),
        ({"Items": [line(None)]}, ("lines[0].quantity", "missing")),
        ({"Items": [line("1", "x")]}, ("lines[0].unit_price", "not_a_number")),
        ({"Items": [line("1", None)]}, ("lines[0].unit_price", "missing")),
        ({"Items": [line(UnitDiscount="x")]}, ("lines[0].unit_discount", "not_a_number")),
        ({"Items": [line("2000000000", "900000000000000")]}, ("order_total", "out_of_range")),
        ({"Items": [{"Quantity": 1}]}, ("orders[0].Items[0].Quantity", "wrong_type")),
    ],
)
def test_what_is_no_order(changes: Record, problem: tuple[str, str]) -> None:
    assert invalid(order(**changes)) == problem


@pytest.mark.parametrize("field", ["FreightTotal", "DiscountTotal"])
def test_a_bad_amount_anywhere_in_a_tree_is_no_order(field: str) -> None:
    child = order(line(), ID="2", ParentOrderID="1", **{field: "many"})
    problem = {"FreightTotal": "delivery_total", "DiscountTotal": "discount_amount"}[field]
    assert invalid(order(line()), child)[0] == problem


def test_a_tree_without_orders_is_no_order() -> None:
    assert invalid() == ("orders", "missing")


def mapped_by(orders: str, *tree: Record) -> Mapped:
    by = Mapper(load_profile(PROFILE + f"orders: {{{orders}}}", "test"))
    return by.record(Entity.ORDERS, "100045", json.dumps({"orders": tree}).encode())


def test_a_voided_order_stays_with_its_status() -> None:
    assert document(order(Status="Cancelled"))["order_status"] == "Cancelled"


@pytest.mark.parametrize(
    ("setting", "status", "sent"),
    [
        ("voided: keep, void_statuses: [Voided]", "Voided", True),
        ("voided: remove, void_statuses: [Voided]", "Voided", False),
        ("voided: remove", "Cancelled", False),
        ("voided: remove", "Completed", True),
        ("statuses: [Completed], voided: keep", "Cancelled", True),
        ("statuses: [Cancelled], voided: remove", "Cancelled", False),
    ],
)
def test_voided_orders_are_kept_or_removed_by_setting(setting: str, status: str, *, sent: bool) -> None:
    mapped = mapped_by(setting, order(Status=status))
    assert (mapped.document is not None, mapped.reason) == (sent, None if sent else Reason.REMOVED)


@pytest.mark.parametrize(
    ("setting", "original", "sent"),
    [
        ("replacements: remove", "100001", False),
        ("replacements: keep", "100001", True),
        ("replacements: remove", "0", True),
        ("replacements: remove", " ", True),
        ("replacements: remove", None, True),
        ("replacements: remove, replacement_values: [Replacement]", "Replacement", False),
        ("replacements: remove, replacement_values: [Replacement]", "Sale", True),
    ],
)
def test_a_replacement_is_sent_by_setting(setting: str, original: str | None, *, sent: bool) -> None:
    mapped = mapped_by(setting, order(ReplacementOf=original))
    assert (mapped.document is not None, mapped.reason) == (sent, None if sent else Reason.REMOVED)


def test_a_replacement_inside_a_tree_counts_for_nothing() -> None:
    root = order(line("1", "10"), Total="15.00", FreightTotal="5")
    again = order(
        line("1", "10"), ID="100046", ParentOrderID="100045", ReplacementOf="100045", FreightTotal="5"
    )
    assert money_of(document(root, again)) == (10.0, 5.0, 0.0, 15.0)
    kept = document_of(mapped_by("replacements: keep", root, again))
    assert money_of(kept) == (20.0, 10.0, 0.0, 30.0)


@pytest.mark.parametrize(
    ("names", "sent"), [("{7: Completed}", "Completed"), ("{8: Cancelled}", None), ("{}", None)]
)
def test_a_status_that_is_only_a_number_has_a_name_in_the_profile(names: str, sent: str | None) -> None:
    record = order(Status=" ", OrderStatus="7")
    if names == "{}":
        assert invalid(record) == ("order_status", "missing")
        return
    mapped = mapped_by(f"status_names: {names}", record)
    assert (mapped.document or {}).get("order_status") == sent


def test_an_order_without_any_status_is_refused() -> None:
    with pytest.raises(InvalidRecord) as caught:
        mapped_by("status_names: {7: Completed}", order(Status=None, OrderStatus=""))
    assert (caught.value.field, caught.value.code) == ("order_status", "missing")


def test_countries_are_sent_as_the_profile_says() -> None:
    by = Mapper(load_profile(PROFILE + "countries: {nz: New Zealand}", "test"))
    places = [{"Type": kind, "Country": "NZ"} for kind in ("Billing", "Shipping")]
    mapped = by.record(Entity.ORDERS, "100045", json.dumps({"orders": [order(Addresses=places)]}).encode())
    sent = document_of(mapped)
    assert sent["billing_address"]["billing_country"] == "New Zealand"
    assert sent["delivery_address"]["delivery_country"] == "New Zealand"


def test_a_part_of_an_address_that_is_too_long_is_cut() -> None:
    mapped = map_tree(order(Addresses=[{"Type": "Billing", "Street": "x" * 1200, "City": "Nelson"}]))
    billing = document_of(mapped)["billing_address"]
    assert (len(billing["billing_address_1"]), billing["billing_city"]) == (1000, "Nelson")
    assert mapped.dropped == (("billing_address_1", "cut"),)
