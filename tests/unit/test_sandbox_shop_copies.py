"""A shop of any size in little memory: its copies are whole, have names of their own, and can be edited."""

import random
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sandbox.estar.contract import Contract
from sandbox.estar.copies import TEMPLATE, repeated_shop
from sandbox.estar.edits import KINDS, Edit, Editor
from sandbox.estar.generate import generate
from sandbox.estar.state import Shop
from sandbox.estar.truth import truth

ZONE = ZoneInfo("Europe/London")
BEGIN = datetime(2023, 1, 1)  # noqa: DTZ001 - the shop's own time
END = datetime(2027, 1, 1)  # noqa: DTZ001 - the shop's own time


@pytest.fixture
def shop() -> Shop:
    return repeated_shop(800, 250, 1000, 3, ZONE)


def test_there_are_at_least_so_many_and_each_has_an_id_of_its_own(shop: Shop) -> None:
    for table, wanted in ((shop.customers, 800), (shop.products, 250), (shop.orders, 1000)):
        assert wanted <= len(table.records) < wanted + 500
        assert len(set(table.records)) == len(table.records)
        assert all(table.records[i].id == i for i in table.records)
        assert table.next_id() == max(table.records) + 1


def test_windows_that_meet_list_each_record_once_and_in_order(shop: Shop) -> None:
    for table in (shop.customers, shop.products, shop.orders):
        for index, name in ((table.created, "created"), (table.modified, "modified")):
            listed: list[int] = []
            start = BEGIN
            while start < END:
                listed += index.between(start, start + timedelta(days=17))
                start += timedelta(days=17)
            assert sorted(listed) == sorted(table.records)
            times = [getattr(table.records[i], name) for i in listed]
            assert times == sorted(times)


def test_one_copy_is_the_template_and_each_further_one_adds_as_much() -> None:
    contract = Contract()
    template = truth(generate(TEMPLATE, 3, ZONE), contract)
    one = truth(repeated_shop(1, 1, 1, 3, ZONE), contract)
    assert one == template
    orders = len(generate(TEMPLATE, 3, ZONE).orders.records)
    three = truth(repeated_shop(3 * TEMPLATE, 1, 3 * orders, 3, ZONE), contract)
    assert three.revenue == 3 * template.revenue
    assert len(three.contacts) == 3 * len(template.contacts)
    assert three.unusable_contacts == 3 * template.unusable_contacts
    assert len({order.id for order in three.orders}) == 3 * len(template.orders)


def test_products_of_copies_have_barcodes_of_their_own_which_their_orders_name() -> None:
    contract = Contract()
    template = truth(repeated_shop(1, 1, 1, 3, ZONE), contract)
    shop = repeated_shop(1, 300, 1500, 3, ZONE)
    assert len(truth(shop, contract).products) == 3 * len(template.products)
    for order in shop.orders.records.values():
        for line in order.lines:
            codes = [item["Barcode"] for item in shop.products.records[line.product_id].rows("Items")]
            assert line.barcode in codes


def test_trees_stay_whole(shop: Shop) -> None:
    split = [order for order in shop.orders.records.values() if order.children]
    assert split
    for order in split:
        tree = shop.tree(order)
        assert {shop.tree(member)[0].id for member in tree} == {tree[0].id}
        assert all(member.body["ParentOrderID"] == str(member.parent) for member in tree[1:])


def test_what_is_edited_is_kept_and_the_rest_is_as_it_was(shop: Shop) -> None:
    contract, before = Contract(), truth(shop, Contract())
    now = datetime(2026, 6, 1)  # noqa: DTZ001 - the shop's own time
    editor = Editor(shop, contract, random.Random(5))  # noqa: S311 - seeded
    done = [editor.apply(Edit(kind=KINDS[number % len(KINDS)]), now) for number in range(70)]
    tables: dict[str, Any] = {"customers": shop.customers, "products": shop.products, "orders": shop.orders}
    for edit in done:
        record = tables[edit.entity].records[edit.id]
        assert record.modified >= now
        assert tables[edit.entity].modified.between(now, END).count(edit.id) == 1
        assert edit.id not in tables[edit.entity].modified.between(BEGIN, now)
    after = truth(shop, contract)
    assert len(after.orders) == len(before.orders) + 10
    assert after.revenue != before.revenue
    touched = {str(shop.tree(shop.orders.records[edit.id])[0].id) for edit in done if edit.entity == "orders"}
    same = {order for order in before.orders if order.id not in touched}
    assert same <= set(after.orders)
    split = [edit for edit in done if edit.kind == "split"]
    assert all(shop.orders.records[edit.id].children for edit in split)


def test_nothing_but_what_is_edited_takes_memory() -> None:
    shop = repeated_shop(1_000_000, 200_000, 1_000_000, 1, ZONE)
    assert len(shop.customers.records) == 1_000_000
    day = shop.orders.created.between(datetime(2025, 6, 1), datetime(2025, 6, 2))  # noqa: DTZ001 - the shop's own time
    assert 1000 < len(day) < 2000
    assert len(shop.orders.records[day[0]].lines) > 0


def test_a_large_shop_is_edited_without_looking_at_every_record() -> None:
    shop = repeated_shop(20_000, 20_000, 20_000, 1, ZONE)
    editor = Editor(shop, Contract(), random.Random(5))  # noqa: S311 - seeded
    done = [editor.apply(Edit(kind=kind), datetime(2026, 6, 1)) for kind in KINDS]  # noqa: DTZ001 - the shop's own time
    assert shop.customers.records[done[KINDS.index("unsubscribe")].id].body["LpmStatus"] == "0"
    assert shop.orders.records[done[KINDS.index("void")].id].body["Status"] == "Cancelled"
