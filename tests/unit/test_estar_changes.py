from typing import Any

import msgspec
import pytest

from estarsync_core.entities import Reason
from estarsync_core.estar.changes import Changes, Event, Row, Rules, changes, touched_keys
from estarsync_core.estar.content import DropList
from estarsync_core.estar.grouping import Grouped, group_customers, group_orders

CONTACTS = Rules(DropList(["Password"]), 10_000, Reason.RENAMED, renames=True)
ORDERS = Rules(DropList([]), 10_000, Reason.REMOVED)
PRODUCTS = Rules(DropList([]), 10_000)


def customers(*pairs: tuple[str, str]) -> Grouped:
    return group_customers({i: {"ID": i, "Email": email, "Password": "x"} for i, email in pairs})


def published(result: Changes) -> dict[str, Any]:
    return {e.key: msgspec.json.decode(e.value) if e.value is not None else e.reason for e in result.events}


Rows = dict[str, Row]


def after(before: Rows, result: Changes) -> Rows:
    rows = {**before, **result.rows}
    return {identity: row for identity, row in rows.items() if row is not None}


@pytest.fixture
def known() -> Rows:
    return after({}, changes(customers(("1", "a@x.nz"), ("2", "a@x.nz"), ("3", "b@x.nz")), (), {}, CONTACTS))


def test_new_groups_are_published_and_remembered_under_one_hash(known: Rows) -> None:
    result = changes(customers(("1", "a@x.nz"), ("2", "a@x.nz")), (), {}, CONTACTS)
    one, two = {"ID": "1", "Email": "a@x.nz"}, {"ID": "2", "Email": "a@x.nz"}
    assert published(result) == {"a@x.nz": {"customers": [one, two]}}
    assert result.rows["1"] == result.rows["2"] == known["1"]
    assert (result.dead, result.unchanged) == ({}, 0)


def test_what_did_not_change_is_counted_and_not_published(known: Rows) -> None:
    result = changes(customers(("3", "b@x.nz")), (), {"3": known["3"]}, CONTACTS)
    assert (result.events, result.rows, result.unchanged) == ([], {}, 1)


def test_a_changed_email_tells_the_old_key_and_leaves_the_others_there(known: Rows) -> None:
    fresh = customers(("1", "new@x.nz"), ("2", "a@x.nz"))
    assert touched_keys(fresh, known) == {"a@x.nz", "new@x.nz"}
    result = changes(fresh, (), known, CONTACTS)
    assert published(result) == {
        "new@x.nz": {"customers": [{"ID": "1", "Email": "new@x.nz"}], "renamed_from": "a@x.nz"},
        "a@x.nz": {"customers": [{"ID": "2", "Email": "a@x.nz"}]},
    }
    again = changes(fresh, (), after(known, result), CONTACTS)
    assert (again.events, again.unchanged) == ([], 2)


def test_a_key_that_all_have_left_gets_a_tombstone(known: Rows) -> None:
    result = changes(customers(("3", "new@x.nz")), (), known, CONTACTS)
    assert result.events[-1] == Event("b@x.nz", None, Reason.RENAMED)
    assert {i: row.key for i, row in after({}, result).items()} == {"3": "new@x.nz"}


def test_of_several_that_came_from_elsewhere_the_highest_id_is_told(known: Rows) -> None:
    result = changes(
        customers(("1", "c@x.nz"), ("2", "c@x.nz"), ("3", "c@x.nz"), ("4", "c@x.nz")), (), known, CONTACTS
    )
    assert published(result)["c@x.nz"]["renamed_from"] == "b@x.nz"
    assert published(result)["a@x.nz"] is published(result)["b@x.nz"] is Reason.RENAMED


def test_a_record_that_becomes_unusable_leaves_its_key_and_is_reported_once(known: Rows) -> None:
    fresh = customers(("3", "nobody"))
    result = changes(fresh, (), known, CONTACTS)
    assert published(result) == {"b@x.nz": Reason.RENAMED}
    assert result.dead == {"3": "not_an_email"}
    assert result.rows == {"3": Row(None, "not_an_email")}
    again = changes(fresh, (), after(known, result), CONTACTS)
    assert (again.events, again.rows, again.dead) == ([], {}, {})


def test_a_record_that_becomes_usable_again_is_published() -> None:
    result = changes(customers(("3", "b@x.nz")), (), {"3": Row(None, "missing")}, CONTACTS)
    assert published(result) == {"b@x.nz": {"customers": [{"ID": "3", "Email": "b@x.nz"}]}}


def test_what_the_shop_no_longer_returns_is_forgotten_and_leaves_its_key(known: Rows) -> None:
    result = changes(customers(("1", "a@x.nz")), ("2", "3", "never seen"), known, CONTACTS)
    assert published(result) == {
        "a@x.nz": {"customers": [{"ID": "1", "Email": "a@x.nz"}]},
        "b@x.nz": Reason.RENAMED,
    }
    assert (result.rows["2"], result.rows["3"], "never seen" in result.rows) == (None, None, False)


def test_a_key_is_not_taken_away_while_one_of_its_records_can_not_be_read(known: Rows) -> None:
    result = changes(customers(("1", "new@x.nz")), (), known, CONTACTS)
    assert set(published(result)) == {"new@x.nz"}
    back = changes(customers(("1", "new@x.nz"), ("2", "a@x.nz")), (), after(known, result), CONTACTS)
    assert set(published(back)) == {"a@x.nz"}


def test_an_order_that_moves_under_another_root_takes_its_old_key_away() -> None:
    before = after({}, changes(group_orders({"2": {"ID": "2"}}), (), {}, ORDERS))
    result = changes(
        group_orders({"1": {"ID": "1"}, "2": {"ID": "2", "ParentOrderID": "1"}}), (), before, ORDERS
    )
    assert published(result) == {
        "1": {"orders": [{"ID": "1"}, {"ID": "2", "ParentOrderID": "1"}]},
        "2": Reason.REMOVED,
    }


def test_where_keys_are_removed_by_other_means_no_tombstone_is_written(known: Rows) -> None:
    assert changes(Grouped([], {}), ("3",), known, PRODUCTS).events == []


def test_a_value_too_large_for_kafka_is_reported_once() -> None:
    fresh = customers(("1", "a@x.nz"))
    small = Rules(CONTACTS.drop, 10, CONTACTS.left, renames=True)
    result = changes(fresh, (), {}, small)
    assert (result.events, result.dead) == ([], {"1": "too_large"})
    assert changes(fresh, (), after({}, result), small).dead == {}
