"""Where a payload's fields come from: asked of the mapping itself, so that the answer is true by construction."""

import json
from typing import Any

from estarsync_core.entities import Entity
from estarsync_core.mapping.explain import MOST_LEAVES, Explained, Explanation, explain
from estarsync_core.profile import load_profile

WEBSITES = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
FIELDS = """
lookups: {kinds: {1: Retail}}
contacts:
  fields:
    CUSTOMER_TYPE: {path: CustomerType, use: [lower, digits], lookup: kinds, default: None}
    CUSTOMER_USER_GROUP: {path: Tier, lookup: {a: A}}
    ON_CREDIT_HOLD: null
"""
CUSTOMER = {
    "ID": "7",
    "Email": "Aroha@Shop.Example",
    "FirstName": "Aroha",
    "CustomerType": "x1",
    "LpmStatus": "5",
    "Phone": "",
    "Fax": None,
    "DateModified": "2024-01-09T00:00:00",
    "Addresses": [{"Type": "Shipping", "City": "Wellington"}, {"Type": "Billing", "City": "Auckland"}],
    "Attributes": [{"Name": "DOB", "Value": "1980-02-03"}],
}
ORDER = {
    "ID": "45",
    "Email": "aroha@shop.example",
    "OrderDate": "2024-01-02T03:04:05",
    "Status": "Completed",
    "Total": "25.00",
    "FreightTotal": "5",
    "Items": [
        {"Barcode": "A", "Title": "Tee", "Quantity": "2", "UnitPrice": "10", "StatusCode": "Ordered"},
        {"Barcode": "", "Title": "Cap", "Quantity": "1", "UnitPrice": "3", "StatusCode": "Ordered"},
    ],
}


def explained(entity: Entity, key: str, value: Any, profile: str = WEBSITES) -> Explanation:
    return explain(load_profile(profile, "test"), entity, key, json.dumps(value).encode())


def field(found: Explanation, name: str) -> Explained:
    return next(each for each in found.fields if each.name == name)


def paths(found: Explanation, name: str) -> list[str]:
    return [leaf.path.removeprefix("customers[0].") for leaf in field(found, name).sources]


def test_a_contacts_fields_come_from_their_elements() -> None:
    found = explained(Entity.CONTACTS, "aroha@shop.example", {"customers": [CUSTOMER]}, WEBSITES + FIELDS)
    assert (found.outcome, found.problem, found.complete) == ("payload", None, True)
    assert paths(found, "email") == ["Email"]
    assert paths(found, "FULLNAME") == ["FirstName"]
    assert field(found, "FULLNAME").sources[0].text == "Aroha"
    assert paths(found, "BILLING_CITY") == ["Addresses[1].Type", "Addresses[1].City"]
    assert paths(found, "DOB") == ["Attributes[0].Name", "Attributes[0].Value"]


def test_a_field_is_sent_or_null_or_omitted() -> None:
    found = explained(Entity.CONTACTS, "aroha@shop.example", {"customers": [CUSTOMER]}, WEBSITES + FIELDS)
    sent = field(found, "CUSTOMER_TYPE")
    assert (sent.state, sent.value) == ("sent", "Retail")
    assert sent.rule == "path CustomerType, use lower, digits, lookup kinds, default None"
    phone = field(found, "BILLING_TELEPHONE")
    assert (phone.state, paths(found, "BILLING_TELEPHONE")) == ("null", ["Phone"])
    consent = field(found, "NEWSLETTER_SUBSCRIBE")
    assert (consent.state, consent.codes) == ("omitted", ("not_in_lookup", "not_a_boolean"))
    assert paths(found, "NEWSLETTER_SUBSCRIBE") == ["LpmStatus"]
    assert ("NEWSLETTER_SUBSCRIBE", "not_a_boolean") in found.dropped
    assert (field(found, "ON_CREDIT_HOLD").state, field(found, "ON_CREDIT_HOLD").rule) == (
        "omitted",
        "not mapped",
    )
    assert field(found, "CUSTOMER_USER_GROUP").rule == "path Tier, lookup of its own"


def test_what_decides_who_speaks_for_a_contact_is_told_apart() -> None:
    other = {**CUSTOMER, "ID": "8", "FirstName": "Ben", "LastName": "Baker", "DateModified": "2024-01-08"}
    other["Addresses"] = [{"Type": "Billing", "City": "Leeds", "Street": "1 High Street", "Postcode": "LS1"}]
    found = explained(Entity.CONTACTS, "aroha@shop.example", {"customers": [CUSTOMER, other]})
    assert field(found, "FIRSTNAME").value == "Aroha"
    assert {leaf.path for leaf in found.deciding} == {
        "customers[0].DateModified",
        "customers[1].DateModified",
    }


def test_a_products_fields_name_what_they_would_fall_back_on() -> None:
    product = {"ID": "5", "Title": "Tee", "Price": "10", "Manufacturer": "", "Supplier": "Acme"}
    found = explained(
        Entity.PRODUCTS,
        "A/1",
        {"product": product, "item": {"Barcode": "A/1", "Price": "9", "SalePrice": "8"}},
    )
    assert paths(found, "brand") == ["product.Manufacturer", "product.Supplier"]
    assert paths(found, "price") == ["item.Price"]
    assert paths(found, "url") == ["product.ID"]
    assert paths(found, "currency") == []


def test_an_orders_totals_name_every_part() -> None:
    found = explained(Entity.ORDERS, "45", {"orders": [ORDER]})
    assert paths(found, "order_total") == ["orders[0].Total"]
    assert paths(found, "products[1].qty") == ["orders[0].Items[1].Quantity"]
    assert paths(found, "purchase_date") == ["orders[0].OrderDate"]
    assert paths(found, "order_status") == ["orders[0].Status"]
    assert found.dropped == (("lines[].sku", "missing"),)
    split = {**ORDER, "ID": "46", "ParentOrderID": "45"}
    of_tree = explained(Entity.ORDERS, "45", {"orders": [ORDER, split]})
    assert "orders[1].FreightTotal" in paths(of_tree, "order_total")
    assert "orders[0].Total" not in paths(of_tree, "order_total")


def test_what_is_not_sent_says_why() -> None:
    found = explained(Entity.ORDERS, "45", {"orders": [{**ORDER, "Email": "nobody"}]})
    assert (found.outcome, found.problem, found.fields) == ("dead_letter", "email: not_an_email", ())
    found = explained(Entity.ORDERS, "45", {"orders": [{**ORDER, "Status": "Initiated"}]})
    assert (found.outcome, found.problem) == ("tombstone", "removed")


def test_a_very_long_record_is_not_tried_to_its_end() -> None:
    line = {"Title": "Tee", "Quantity": "2", "UnitPrice": "10", "StatusCode": "Ordered"}
    lines = [{"Barcode": str(number), **line} for number in range(MOST_LEAVES // 5)]
    long = explained(Entity.ORDERS, "45", {"orders": [{**ORDER, "Total": None, "Items": lines}]})
    assert not long.complete
    assert paths(long, "products[0].sku") == ["orders[0].Items[0].Barcode"]
