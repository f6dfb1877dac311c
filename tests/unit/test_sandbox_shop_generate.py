"""The made-up shop: the same for the same seed, with every kind of dirt, and true to its own totals."""

from collections import Counter
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import canonical_email
from sandbox.estar import render
from sandbox.estar.contract import Contract
from sandbox.estar.generate import DEFAULT_NOW, generate
from sandbox.estar.generate_dice import HISTORY, SECRET_MARKS
from sandbox.estar.state import Record, Shop
from sandbox.estar.truth import canonical, truth

LONDON = ZoneInfo("Europe/London")


def xml(shop: Shop) -> str:
    tables: list[list[Record]] = [
        list(shop.customers.records.values()),
        list(shop.products.records.values()),
        list(shop.orders.records.values()),
    ]
    return "\n".join(render.record("Record", record) for table in tables for record in table)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(200, 11, LONDON)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first, again, other = (xml(generate(40, seed, LONDON)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_tiny_shop_is_a_shop(size: int) -> None:
    shop = generate(size, 1, LONDON)
    assert len(shop.customers.records) == size
    assert truth(shop, Contract()).orders


def test_size_is_customers_with_half_as_many_products_and_twice_as_many_orders(shop: Shop) -> None:
    assert len(shop.customers.records) == 200
    assert len(shop.products.records) == 100
    assert sum(order.parent is None for order in shop.orders.records.values()) == 400


def test_its_history_is_the_two_years_before_now(shop: Shop) -> None:
    for table in (shop.customers.records, shop.products.records, shop.orders.records):
        for record in table.values():
            assert DEFAULT_NOW - HISTORY <= record.created <= record.modified
            assert record.modified <= DEFAULT_NOW.replace(day=2)


def test_its_customers_are_dirty(shop: Shop) -> None:
    customers = list(shop.customers.records.values())
    emails = [c.leaf("Email") for c in customers]
    same = Counter(email for email in emails if email and canonical(email) == email)
    assert max(same.values()) > 1
    assert any(e and e.strip() == e and e.lower() != e and canonical(e) in same for e in emails)
    assert any(e and e.strip() != e and canonical(e) in same for e in emails)
    assert {None, "", "absent"} <= {c.leaf("Email") if "Email" in c.body else "absent" for c in customers}
    assert any(e and e.strip() and canonical(e) is None for e in emails)
    births = [row["Value"] for c in customers for row in c.rows("Attributes") if row["Name"] == "DOB"]
    assert "31/02/1980" in births
    assert any(c.body["DateCreated"] == "0001-01-01T00:00:00" for c in customers)
    assert any("FirstName" not in c.body for c in customers)
    assert {None, ""} <= {c.leaf("FirstName") if "FirstName" in c.body else "absent" for c in customers}
    assert any(c.body["Addresses"] == [] for c in customers)


def test_its_products_are_dirty(shop: Shop) -> None:
    products = list(shop.products.records.values())
    items = [item for p in products for item in p.rows("Items")]
    codes = Counter(str(item["Barcode"]) for item in items if item["Barcode"])
    assert max(codes.values()) > 1
    for sign in ("00", "AB "):
        assert any(code.startswith(sign) for code in codes)
    assert any("/" in code for code in codes)
    assert {None, ""} & {item["Barcode"] for item in items}
    assert {"0.0000", None} <= {item.get("SalePrice", "absent") for item in items}
    priced = [i for i in items if i.get("SalePrice")]
    assert any(Decimal(str(i["SalePrice"])) > Decimal(str(i["Price"])) for i in priced)
    assert any(i.get("Price") == "0.00" for i in items)
    assert any("Price" not in i for i in items)
    images = [str(p.rows("Images")[0]["Value"]) for p in products if p.rows("Images")]
    assert len(images) < len(products)
    assert any(not path.startswith(("/", "http")) for path in images)
    assert any(" " in path for path in images)
    titles = "".join(p.leaf("Title") or "" for p in products)
    for part in ("ā", "🎉", "&amp;amp;", "<br/>"):
        assert part in titles
    assert any(not p.rows("Items") for p in products)


def test_its_orders_are_dirty(shop: Shop) -> None:
    orders = list(shop.orders.records.values())
    statuses = {order.leaf("Status") for order in orders}
    assert {"Initiated", "InvalidCardNumber", "FraudulentOrder", "Cancelled", "AwaitingDrone"} <= statuses
    lines = {line.status for order in orders for line in order.lines}
    assert {"SplitToNewOrder", "PartialSplit", "PartialSplitToNewOrder", "Deleted", "Ordered"} == lines
    assert {"0", None} <= {order.body["Customer"] for order in orders}
    assert max(len(shop.tree(order)) for order in orders) == 3
    assert any(all(line.status == "Deleted" for line in order.lines) for order in orders)
    assert any(line.discount != "0" for order in orders for line in order.lines)


def test_secrets_are_planted(shop: Shop) -> None:
    customer = render.record("Customer", next(iter(shop.customers.records.values())))
    assert f"<Password>{SECRET_MARKS[0]}" in customer
    assert f"<PreferencesToken>{SECRET_MARKS[0]}" in customer
    assert f"<Notes><string>{SECRET_MARKS[0]}" in customer
    order = render.record("Order", next(iter(shop.orders.records.values())))
    assert f"<CardNumber>{SECRET_MARKS[1]}</CardNumber>" in order
    assert f"<PackingInstructions>{SECRET_MARKS[0]}" in order
    product = render.record("Product", next(iter(shop.products.records.values())))
    assert f"{SECRET_MARKS[2]}</Cost>" in product
    assert "<RecipientEmail>SECRET-" in xml(shop)


def test_the_truth_agrees_with_each_records_own_total_and_with_the_canonical_e_mail(shop: Shop) -> None:
    contract = Contract()
    found = truth(shop, contract)
    for expected in found.orders:
        tree = shop.tree(shop.orders.records[int(expected.id)])
        assert Decimal(expected.total) == sum(Decimal(str(order.body["Total"])) for order in tree)
        assert canonical_email(tree[0].leaf("Email")) == expected.email
    refused = 0
    for customer in shop.customers.records.values():
        try:
            assert canonical_email(customer.leaf("Email")) in found.contacts
        except InvalidRecord:
            refused += 1
    assert refused == found.unusable_contacts > 0
    assert found.unusable_products > 0
    assert found.unusable_orders > 0
    assert found.filtered_orders > 0
    assert len(found.orders) + found.unusable_orders + found.filtered_orders == 400
    assert set(found.contacts) >= {order.email for order in found.orders}
    document = found.document()
    assert document["revenue"] == str(sum(Decimal(order.total) for order in found.orders))
    assert document["orders"]["expected"][0].keys() == {"id", "email", "total"}
