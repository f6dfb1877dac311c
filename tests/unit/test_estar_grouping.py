from zoneinfo import ZoneInfo

from estarsync_core.estar.content import RawValue, Record, text_of
from estarsync_core.estar.grouping import (
    Group,
    Grouped,
    group_customers,
    group_items,
    group_orders,
    id_order,
    may_have_relatives,
    product_of,
)

ENABLED = frozenset({"1", "Active"})
SPLIT = frozenset({"SplitToNewOrder"})
ZONE = ZoneInfo("Pacific/Auckland")


def by_id(*records: Record) -> dict[str, Record]:
    return {text_of(record, "ID"): record for record in records}


def items(*products: Record) -> Grouped:
    return group_items(by_id(*products), ENABLED, ZONE)


def product(identity: str, *barcodes: str, **more: RawValue) -> Record:
    rows: list[RawValue] = [{"ID": str(number), "Barcode": code} for number, code in enumerate(barcodes)]
    return {"ID": identity, "Status": "1", "Items": rows, **more}


def test_customers_that_share_an_email_travel_together_in_order_of_id() -> None:
    a: Record = {"ID": "10", "Email": "A@x.nz"}
    b: Record = {"ID": "9", "Email": " a@X.nz "}
    c: Record = {"ID": "2", "Email": "b@x.nz"}
    grouped = group_customers(by_id(a, b, c))
    assert grouped.groups == [
        Group("b@x.nz", {"customers": [c]}, ("2",)),
        Group("a@x.nz", {"customers": [b, a]}, ("9", "10")),
    ]
    assert grouped.unusable == {}


def test_customers_without_a_usable_email_are_named_with_the_reason() -> None:
    grouped = group_customers(by_id({"ID": "1"}, {"ID": "2", "Email": "nobody"}, {"ID": "3", "Email": None}))
    assert grouped.groups == []
    assert grouped.unusable == {"1": "missing", "2": "not_an_email", "3": "missing"}


def test_a_product_is_split_into_its_items() -> None:
    grouped = items(product("7", "S", "L", Title="Shirt"))
    own: Record = {"ID": "7", "Status": "1", "Title": "Shirt"}
    assert grouped.groups == [
        Group("S", {"product": own, "item": {"ID": "0", "Barcode": "S"}}, ("7/S",)),
        Group("L", {"product": own, "item": {"ID": "1", "Barcode": "L"}}, ("7/L",)),
    ]
    assert product_of("7/a/b") == "7"


def test_an_item_without_a_barcode_is_named() -> None:
    assert items(product("7", "", "S")).unusable == {"7/": "no_barcode"}


def part(group: Group, name: str) -> Record:
    value = group.value[name]
    assert isinstance(value, dict)
    return value


def winner(*products: Record) -> tuple[str, tuple[str, ...]]:
    (group,) = items(*products).groups
    return text_of(part(group, "product"), "ID"), group.members


def test_of_two_items_with_one_barcode_the_enabled_wins() -> None:
    old = product("1", "S", DateModified="2020-01-01T00:00:00")
    off = product("2", "S", DateModified="2021-01-01T00:00:00", Status="0")
    assert winner(old, off) == ("1", ("1/S", "2/S"))


def test_then_the_last_modified_or_else_created_wins() -> None:
    created = product("1", "S", DateCreated="2021-01-02T00:00:00", DateModified="not a date")
    modified = product("2", "S", DateCreated="2022-01-01T00:00:00", DateModified="2021-01-01T00:00:00")
    assert winner(created, modified)[0] == "1"
    # 12:30 UTC is past midnight in Auckland.
    utc = product("3", "S", DateModified="2021-01-02T12:30:00.1234567Z")
    assert winner(created, utc)[0] == "3"
    beyond = product("4", "S", DateModified="0001-01-01T00:00:00+13:00")
    assert winner(beyond, modified)[0] == "2"


def test_then_the_higher_id_wins() -> None:
    assert winner(product("9", "S"), product("10", "S")) == ("10", ("10/S", "9/S"))


def test_one_product_with_a_barcode_twice_is_one_member() -> None:
    (group,) = items(product("1", "S", "S")).groups
    assert group.members == ("1/S",)
    assert part(group, "item")["ID"] == "1"


def test_ids_are_ordered_as_numbers_where_they_are_numbers() -> None:
    assert sorted(["10", "9", "A1", "٣"], key=id_order) == ["9", "10", "A1", "٣"]


def order(identity: str, parent: str | None = None, **more: RawValue) -> Record:
    return {"ID": identity, **({} if parent is None else {"ParentOrderID": parent}), **more}


def trees(*orders: Record) -> list[tuple[str, tuple[str, ...]]]:
    return [(group.key, group.members) for group in group_orders(by_id(*orders)).groups]


def test_an_order_tree_is_its_root_and_then_the_others_by_id() -> None:
    assert trees(order("20", "3"), order("100"), order("3", "100"), order("7", "100")) == [
        ("100", ("100", "3", "7", "20"))
    ]
    (group,) = group_orders(by_id(order("2", "0"))).groups
    assert group.value == {"orders": [order("2", "0")]}


def test_orders_that_are_not_related_are_trees_of_their_own() -> None:
    assert trees(order("1", ""), order("2", "0"), order("3")) == [("1", ("1",)), ("2", ("2",)), ("3", ("3",))]


def test_where_the_parent_is_not_given_the_topmost_known_order_is_the_root() -> None:
    assert trees(order("5", "4"), order("6", "5")) == [("5", ("5", "6"))]


def test_a_ring_of_parents_has_the_lowest_id_as_its_root() -> None:
    assert trees(order("10", "9"), order("9", "10"), order("11", "10")) == [("9", ("9", "10", "11"))]
    assert trees(order("8", "8")) == [("8", ("8",))]


def test_an_order_says_whether_it_may_have_relatives() -> None:
    plain: list[RawValue] = [{"StatusCode": "Ordered"}]
    split: list[RawValue] = [{"StatusCode": "Ordered"}, {"StatusCode": "SplitToNewOrder"}]
    assert may_have_relatives(order("1", "2"), SPLIT)
    assert may_have_relatives(order("1", "0", Items=split), SPLIT)
    assert not may_have_relatives(order("1", "0", Items=plain), SPLIT)
    assert not may_have_relatives(order("1", None), SPLIT)
