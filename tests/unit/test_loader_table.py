"""The pending table: what may go, in which order, and that no query reads more than it has to."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from estarsync_core.entities import Entity, Lane, Version
from loader.records import BARE, Fence, Outcome, Pending, Settled, refused
from loader.table import Table

NOW = 100.0
ORDERS, CONTACTS, PRODUCTS = Entity.ORDERS, Entity.CONTACTS, Entity.PRODUCTS


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.close()


def record(key: str, sequence: int = 1, entity: Entity = PRODUCTS, **more: object) -> Pending:
    made = Pending(
        entity,
        key,
        Version(sequence, 1),
        Lane.BULK,
        b"payload",
        topic="t",
        partition=0,
        offset=sequence,
    )
    return replace(made, **more)


def delivered(sequence: int = 1, *, there: bool = True, outcome: Outcome = Outcome.DELIVERED) -> Settled:
    return Settled(Version(sequence, 1), "hash", outcome, None, there)


def keys(table: Table, entity: Entity = PRODUCTS, now: float = NOW, limit: int = 100) -> list[str]:
    return [each.key for each in table.ready(entity, now, limit)]


def test_a_record_comes_back_as_it_went_in(table):
    given = record(
        "A", email="a@shop.example", headers=b"[]", attempts=3, parked_at=7.0, lane=Lane.LIVE, payload=None
    )
    table.put(given)
    assert table.get(PRODUCTS, "A") == given
    assert table.get(ORDERS, "A") is None
    bare = Pending(CONTACTS, "g@shop.example", BARE, Lane.BULK, None, bare=True)
    table.put(bare)
    assert table.get(CONTACTS, "g@shop.example") == bare
    assert not bare.tombstone
    assert given.tombstone


def test_the_live_lane_goes_first_and_then_the_oldest(table):
    for sequence, (key, lane) in enumerate(
        [("a", Lane.BULK), ("b", Lane.LIVE), ("c", Lane.BULK), ("d", Lane.LIVE)]
    ):
        table.put(record(key, sequence, lane=lane))
    assert keys(table) == ["b", "d", "a", "c"]
    assert keys(table, limit=2) == ["b", "d"]
    assert keys(table, ORDERS) == []


def test_a_newer_version_takes_the_place_of_an_older_one_and_keeps_its_urgency(table):
    table.put(record("A", 1, lane=Lane.LIVE, attempts=4, parked_at=1.0))
    table.postpone(PRODUCTS, "A", NOW + 5, 4, 1.0)
    table.put(record("A", 2, lane=Lane.BULK))
    (found,) = table.ready(PRODUCTS, NOW, 10)
    assert found == record("A", 2, lane=Lane.LIVE)
    assert table.oldest("t", 0) == 2


def test_a_held_key_goes_into_no_other_batch_in_no_version(table):
    table.put(record("A", 1))
    table.fence(PRODUCTS, "batch-1", [Fence("A", Version(1, 1), "h"), Fence("B", Version(1, 1), "h")])
    table.put(record("A", 2))
    table.put(record("B", 2))
    table.put(record("C", 3))
    assert keys(table) == ["C"]
    assert table.state(PRODUCTS, "A").held == Version(1, 1)
    assert table.state(PRODUCTS, "A").waiting == Version(2, 1)
    table.release("batch-1")
    assert sorted(keys(table)) == ["A", "B", "C"]
    assert table.state(PRODUCTS, "A").held is None


def test_one_key_in_two_batches_is_refused(table):
    table.fence(PRODUCTS, "batch-1", [Fence("A", Version(1, 1), "h")])
    with pytest.raises(sqlite3.IntegrityError):
        table.fence(PRODUCTS, "batch-2", [Fence("A", Version(1, 1), "h")])


def test_a_postponed_record_waits_for_its_time(table):
    table.put(record("A"))
    table.postpone(PRODUCTS, "A", NOW + 1, 2, None)
    assert not table.any_ready(PRODUCTS, NOW)
    assert table.any_ready(PRODUCTS, NOW + 1)
    assert table.count_ready(PRODUCTS, NOW, 10, Lane.BULK) == 0
    assert table.state(PRODUCTS, "A").attempts == 2


def test_ready_records_are_counted_up_to_a_limit(table):
    for number in range(9):
        table.put(record(str(number), number))
    assert table.count_ready(PRODUCTS, NOW, 5, Lane.BULK) == 5
    assert table.count_ready(PRODUCTS, NOW, 50, Lane.BULK) == 9
    assert table.any_ready(PRODUCTS, NOW, Lane.BULK)
    assert not table.any_ready(PRODUCTS, NOW, Lane.LIVE)


def test_only_some_keys_may_be_asked_for(table):
    for number, key in enumerate("abcd"):
        table.put(record(key, number))
    table.fence(PRODUCTS, "batch", [Fence("b", Version(1, 1), "h")])
    assert [each.key for each in table.ready_among(PRODUCTS, ["d", "b", "x", "a"])] == ["d", "a"]


def test_counts_follow_every_change(table):
    table.put(record("A", 1))
    table.put(record("B", 2, lane=Lane.LIVE))
    table.put(record("A", 3, lane=Lane.LIVE))
    assert {key: count for key, count in table.counts().items() if count} == {(PRODUCTS, Lane.LIVE): 2}
    table.drop(PRODUCTS, "A")
    table.drop(PRODUCTS, "A")
    assert table.counts()[PRODUCTS, Lane.LIVE] == 1


def test_a_transaction_is_all_or_nothing(table):
    def fail() -> None:
        with table.transaction():
            table.put(record("A"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert keys(table) == []


def test_the_oldest_place_is_known_per_partition(table):
    assert table.oldest("t", 0) is None
    table.put(record("A", 7))
    table.put(record("B", 5))
    table.put(record("C", 3, partition=1))
    table.put(Pending(CONTACTS, "g@shop.example", BARE, Lane.BULK, None, bare=True))
    assert (table.oldest("t", 0), table.oldest("t", 1), table.oldest("other", 0)) == (5, 3, None)


def test_orders_wait_and_go_with_their_contact(table):
    for name in ("O-1", "O-2"):
        table.put(record(name, entity=ORDERS, email="a@shop.example"), waits=True)
    assert keys(table, ORDERS) == []
    assert table.unsure(10) == ["a@shop.example"]
    table.sure(["a@shop.example"])
    assert table.unsure(10) == []
    table.settle(CONTACTS, "a@shop.example", delivered())
    assert keys(table, ORDERS) == ["O-1", "O-2"]
    table.hold("O-1")
    assert keys(table, ORDERS) == ["O-2"]
    assert table.waiting_orders("a@shop.example") == ["O-1"]


def test_whatever_changes_with_a_contact_makes_its_orders_unsure(table):
    table.put(record("O-1", entity=ORDERS, email="a@shop.example"), waits=True)
    for change in (
        lambda: table.drop(CONTACTS, "a@shop.example"),
        lambda: table.settle(CONTACTS, "a@shop.example", delivered(there=False)),
    ):
        table.sure(["a@shop.example"])
        change()
        assert table.unsure(10) == ["a@shop.example"]
    table.sure(["a@shop.example"])
    table.drop(CONTACTS, "b@shop.example")  # nobody waits for this one
    table.drop(PRODUCTS, "a@shop.example")
    assert table.unsure(10) == []


def test_the_owner_of_an_order_is_known_while_it_is_in_flight_and_afterwards(table):
    assert table.owner(ORDERS, "O-1") is None
    table.settle(ORDERS, "O-1", Settled(Version(1, 1), "h", Outcome.DELIVERED, "a@shop.example", there=True))
    assert table.owner(ORDERS, "O-1") == "a@shop.example"
    table.fence(ORDERS, "batch", [Fence("O-1", Version(2, 1), "h", "b@shop.example")])
    assert table.owner(ORDERS, "O-1") == "b@shop.example"


def test_a_settled_state_is_kept_and_forgotten(table):
    assert table.state(PRODUCTS, "A").settled is None
    table.settle(PRODUCTS, "A", delivered(5))
    assert table.state(PRODUCTS, "A").settled == delivered(5)
    assert table.state(PRODUCTS, "A").there
    table.forget(PRODUCTS, "A")
    assert table.state(PRODUCTS, "A").settled is None


def test_a_state_never_goes_back():
    old, new = delivered(1), delivered(2)
    assert new.after(old) == new
    assert old.after(None) == old
    assert old.after(new) == replace(new, hash="")
    letter = refused(record("A", 3), old)
    assert (letter.outcome, letter.there, letter.version) == (Outcome.DEAD_LETTER, True, Version(3, 1))
    assert old.after(letter).outcome is Outcome.DEAD_LETTER
    missing = delivered(4, there=False, outcome=Outcome.MISSING)
    bare = Settled(BARE, "", Outcome.DELIVERED, None, there=True)
    assert bare.after(missing) == Settled(Version(4, 1), "", Outcome.DELIVERED, None, there=True)
    assert not refused(record("A", 3), None).there


def test_nothing_is_left_in_the_folder(tmp_path):
    made = Table(tmp_path)
    made.put(record("A"))
    assert list(tmp_path.iterdir()) == []
    made.close()


def test_no_query_scans_the_table(table):
    """What is asked at every turn must cost the same with a million records as with one."""
    seen: list[str] = []
    table._db.set_trace_callback(seen.append)
    table.put(record("A", entity=ORDERS, email="a@shop.example"), waits=True)
    table.state(PRODUCTS, "A")
    table.get(PRODUCTS, "A")
    keys(table)
    list(table.ready_among(PRODUCTS, ["A"]))
    list(table.ready(PRODUCTS, NOW, 10, Lane.LIVE, removals=True))
    list(table.ready(PRODUCTS, NOW, 10, Lane.BULK, removals=False))
    table.any_ready(PRODUCTS, NOW)
    table.any_waiting()
    table.count_ready(PRODUCTS, NOW, 10, Lane.BULK)
    table.postpone(PRODUCTS, "A", NOW, 1, None)
    table.fence(PRODUCTS, "b", [Fence("A", Version(1, 1), "h")])
    table.release("b")
    table.settle(CONTACTS, "a@shop.example", delivered())
    table.settle(CONTACTS, "b@shop.example", delivered(there=False))
    table.drop(CONTACTS, "a@shop.example")
    table.hold("O")
    table.waiting_orders("a@shop.example")
    table.unsure(1)
    table.sure(["a@shop.example"])
    table.owner(ORDERS, "O")
    table.forget(ORDERS, "O")
    table.oldest("t", 0)
    table._db.set_trace_callback(None)
    statements = [text for text in seen if not text.startswith("--")]
    assert len(statements) > 20
    for text in statements:
        plan = [row[3] for row in table._db.execute(f"EXPLAIN QUERY PLAN {text}")]
        scans = [line for line in plan if re.match(r"SCAN (?!k$|CONSTANT|\(subquery|unsure)", line)]
        assert scans == [], (text, plan)
        assert not any("TEMP B-TREE" in line for line in plan), (text, plan)
