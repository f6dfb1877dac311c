"""The extractor's feeds and loop against the sandbox shop, with a log in memory in the place of Kafka."""

from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from estarsync_core.entities import Lane
from estarsync_core.headers import RawHeaders, version_of
from sandbox.estar.contract import Contract
from sandbox.estar.faults import Faults
from sandbox.estar.generate_dice import PLANTED_COST, PLANTED_TEXT
from sandbox.estar.state import Body, Node
from sandbox.estar.truth import canonical, truth

RAW = {"contacts": "estar.contacts.v1", "products": "estar.products.v1", "orders": "estar.orders.v1"}
DLQ = "estarsync.extract.dlq.v1"
ZONE = ZoneInfo("Europe/London")


def test_a_whole_shop_is_published_once(world) -> None:
    world.load()
    world.assert_true_copy()
    lanes = {version_of(headers)[1] for entity in RAW for *_, headers in world.raw(entity)}
    assert lanes == {Lane.BULK}
    dead = world.log.latest(DLQ)
    unusable = truth(world.shop, Contract())
    codes = Counter(letter["code"] for letter in dead.values())
    assert codes["missing"] + codes["not_an_email"] == unusable.unusable_contacts
    assert codes["no_barcode"] > 0
    assert all(set(letter) == {"entity", "id", "window", "code"} for letter in dead.values())


def test_headers_say_what_they_should(world) -> None:
    world.load()
    _, key, value, headers = world.raw("orders")[0]
    told = {name: text.decode() for name, text in headers}
    assert told["ce_id"] == "orders/1"
    assert told["ce_type"] == "com.estarsync.orders.raw.v1"
    assert told["ce_source"] == "https://shop"
    assert told["content-type"] == "application/json"
    assert "ce_revision" not in told
    assert msgspec.json.decode(value or b"")["orders"][0]["ID"] == key


def test_contacts_are_loaded_before_orders(world) -> None:
    world.load()
    order = [topic for topic, *_ in world.log.messages if topic in RAW.values()]
    assert list(dict.fromkeys(order)) == [RAW["contacts"], RAW["products"], RAW["orders"]]


def test_what_did_not_change_is_not_published_again(world) -> None:
    world.load()
    before = len(world.log.messages)
    world.poll()
    world.loop = world.start()
    world.poll()
    after = [topic for topic, *_ in world.log.messages[before:]]
    assert set(after) == {"estarsync.checkpoints.v1"}


def test_edits_arrive_in_the_live_lane(world) -> None:
    world.load()
    before = {entity: len(world.raw(entity)) for entity in RAW}
    product, order = world.edit(kind="price"), world.edit(kind="order")
    world.poll()
    (_, _, value, headers), *more = world.raw("products")[before["products"] :]
    assert msgspec.json.decode(value or b"")["product"]["ID"] == str(product.id)
    assert version_of(headers)[1] is Lane.LIVE
    assert more == []
    assert [key for _, key, _, _ in world.raw("orders")[before["orders"] :]] == [str(order.id)]
    world.assert_true_copy()


def test_a_changed_email_moves_the_customer(world) -> None:
    world.load()
    edited = world.edit(kind="email", email="Brand.New@example.com")
    old = next(key for key, group in world.log.latest(RAW["contacts"]).items() if _holds(group, edited.id))
    alone = len(world.log.latest(RAW["contacts"])[old]["customers"]) == 1
    before = len(world.raw("contacts"))
    world.poll()
    (_, key, value, _), (_, left, rest, headers) = world.raw("contacts")[before:]
    assert (key, left) == ("brand.new@example.com", old)
    assert msgspec.json.decode(value or b"")["renamed_from"] == old
    assert alone == (rest is None)
    assert dict(headers).get("ce_reason") == (b"renamed" if alone else None)
    world.assert_true_copy()
    world.poll()
    assert len(world.raw("contacts")) == before + 2


def _holds(group: Any, customer_id: int) -> bool:
    return any(customer["ID"] == str(customer_id) for customer in group["customers"])


def test_a_shared_email_travels_whole_wherever_its_customers_are_read(world) -> None:
    world.load()
    one, two = [c for c in world.shop.customers.records.values() if canonical(c.leaf("Email"))][:2]
    for customer in (one, two):
        world.edit(kind="email", id=customer.id, email="both@example.com")
        world.poll()
    ids = [customer["ID"] for customer in world.log.latest(RAW["contacts"])["both@example.com"]["customers"]]
    assert ids == sorted([str(one.id), str(two.id)], key=int)
    world.edit(kind="email", id=one.id, email="apart@example.com")
    world.poll()
    assert len(world.log.latest(RAW["contacts"])["both@example.com"]["customers"]) == 1
    world.assert_true_copy()


def test_a_split_order_travels_as_one_tree(world) -> None:
    world.load()
    edited = world.edit(kind="split")
    world.poll()
    tree = next(
        t
        for t in world.log.latest(RAW["orders"]).values()
        if str(edited.id) in {o["ID"] for o in t["orders"]}
    )
    child = tree["orders"][-1]["ID"]
    assert len(tree["orders"]) > 1
    before = len(world.raw("orders"))
    world.edit(kind="void", id=int(tree["orders"][0]["ID"]))
    world.edit(kind="return", id=int(child), quantity=1)
    world.poll()
    assert [key for _, key, _, _ in world.raw("orders")[before:]] == [tree["orders"][0]["ID"]]
    world.assert_true_copy()


@pytest.mark.parametrize("lost", [False, True])
def test_a_crash_at_any_commit_neither_skips_nor_repeats(world, *, lost: bool) -> None:
    crashes = set(range(1, 200, 2))
    if lost:
        world.log.lose_reply = crashes
    else:
        world.log.roll_back = crashes
    world.load()
    assert world.starts > 20
    world.assert_true_copy()


def test_nothing_secret_leaves_the_extractor(world) -> None:
    tables = (world.shop.customers, world.shop.products, world.shop.orders)
    for record in (record for table in tables for record in table.records.values()):
        secrets: Body = {name: f"secret {name}" for name in world.profile.records.drop}
        deep: Body = {"Inner": dict(secrets), **{name.upper(): f"secret {name}" for name in secrets}}
        pairs: list[tuple[str, Node]] = [
            ("Pair", {"Name": name, "Value": f"secret {name}"}) for name in secrets
        ]
        record.body.update({**secrets, "Outer": deep, "Attributes": pairs})
    world.load()
    everything = b"\n".join(key.encode() + (value or b"") for _, key, value, _ in world.log.messages)
    assert len(world.raw("contacts")) > 30
    assert b"secret" not in everything
    assert PLANTED_TEXT.encode() not in everything
    assert PLANTED_COST.encode() not in everything
    names = {name.casefold() for message in world.log.messages for name in _names(message)}
    assert not names & {name.casefold() for name in world.profile.records.drop}


def _names(message: tuple[str, str, bytes | None, RawHeaders]) -> set[str]:
    waiting = [msgspec.json.decode(message[2])] if message[2] else []
    names: set[str] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            names |= value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return names


def test_a_poison_record_is_found_and_the_rest_goes_on(world) -> None:
    customer = list(world.shop.customers.records)[5]
    world.sandbox.faults.set(Faults(poison={"customers": frozenset({customer})}))
    world.load()
    letters = [letter for letter in world.log.latest(DLQ).values() if letter["code"] == "window_failed"]
    assert len(letters) == 1
    start, end = (datetime.fromisoformat(letters[0]["window"][name]) for name in ("start", "end"))
    assert (end - start).total_seconds() == 1
    held = [c["ID"] for group in world.log.latest(RAW["contacts"]).values() for c in group["customers"]]
    usable = [c.id for c in world.shop.customers.records.values() if canonical(c.leaf("Email"))]
    assert {str(identity) for identity in usable} - set(held) <= {str(customer)}


def test_a_record_that_can_not_be_retrieved_is_reported_alone(world) -> None:
    product, order = list(world.shop.products.records)[3], list(world.shop.orders.records)[-1]
    world.sandbox.faults.set(
        Faults(
            operations=frozenset({"Products.RetrieveProducts", "Orders.Retrieve"}),
            vanished={"products": frozenset({product}), "orders": frozenset({order})},
        )
    )
    world.load()
    letters = world.log.latest(DLQ)
    assert letters[f"products:{product}"]["code"] == "not_returned"
    assert letters[f"orders:{order}"]["code"] == "not_returned"
    assert letters[f"orders:{order}"]["window"] is not None
    assert len(world.log.latest(RAW["orders"])) > 50


def test_a_shop_in_trouble_is_waited_for(world) -> None:
    world.sandbox.faults.set(Faults(seed=3, error=0.1, refuse=0.1, html=0.05))
    world.load()
    world.sandbox.faults.set(Faults())
    world.poll()
    world.assert_true_copy()
    assert {letter["code"] for letter in world.log.latest(DLQ).values()} <= {
        "missing",
        "not_an_email",
        "no_barcode",
    }


def test_an_outage_blames_no_record(world) -> None:
    world.load()
    before = len(world.log.messages)
    world.edit(kind="order")
    world.edit(kind="email")
    world.clock.advance(25 * 3600)
    world.sandbox.faults.set(Faults(error=1.0))
    for _ in range(200):
        world.clock.advance(max(1.0, world.loop.turn()))
    assert len(world.log.messages) == before
    world.sandbox.faults.set(Faults())
    world.poll()
    world.assert_true_copy()


def test_a_long_first_load_holds_no_live_change_up(world) -> None:
    world.run(lambda: len(world.raw("orders")) > 20)
    assert not world.done(world.checkpoints["orders"])
    world.edit(kind="email", email="moved@example.com")
    world.clock.advance(3600)
    world.run(lambda: any(key == "moved@example.com" for _, key, _, _ in world.raw("contacts")))
    assert not world.done(world.checkpoints["orders"])
    (headers,) = [headers for _, key, _, headers in world.raw("contacts") if key == "moved@example.com"]
    assert version_of(headers)[1] is Lane.LIVE
    world.load()
    world.assert_true_copy()


def test_a_change_during_the_first_load_is_not_missed(world) -> None:
    world.run(lambda: len(world.raw("orders")) > 20)
    first = msgspec.json.decode(world.raw("orders")[0][2] or b"")["orders"][0]["ID"]
    order = world.shop.orders.records[int(first)]
    order.body["Email"] = "changed@example.com"
    world.shop.orders.touch(order, world.clock.now().astimezone(ZONE).replace(tzinfo=None))
    world.load()
    assert world.log.latest(RAW["orders"])[first]["orders"][0]["Email"] != "changed@example.com"
    world.poll()
    assert world.log.latest(RAW["orders"])[first]["orders"][0]["Email"] == "changed@example.com"
    world.assert_true_copy()


def test_first_loads_go_on_past_a_feed_that_the_shop_refuses(world) -> None:
    world.sandbox.faults.set(Faults(operations=frozenset({"Products.ListProducts"}), error=1.0))
    world.run(lambda: "orders" in world.checkpoints and world.done(world.checkpoints["orders"]))
    assert world.log.latest(RAW["products"]) == {}
    world.sandbox.faults.set(Faults())
    world.load()
    world.assert_true_copy()


def test_a_deep_sweep_finds_what_the_shop_dated_late(world) -> None:
    world.load()
    world.clock.advance(3 * 24 * 3600)
    edited = world.edit(kind="order")  # it is dated now, and hidden from the lists for a day
    hidden = world.shop.orders.records.pop(edited.id)
    world.poll()
    world.shop.orders.records[edited.id] = hidden
    world.poll()
    before = len(world.raw("orders"))
    assert str(edited.id) not in world.log.latest(RAW["orders"])
    sweep = world.checkpoints["orders"].feeds["orders_deep"].cursor
    world.clock.advance(9 * 24 * 3600)
    world.run(lambda: world.checkpoints["orders"].feeds["orders_deep"].cursor > sweep and world.swept)
    (_, key, _, headers), *more = world.raw("orders")[before:]
    assert key == str(edited.id)
    assert version_of(headers)[1] is Lane.BULK
    assert more == []
    world.assert_true_copy()


def test_a_sweep_goes_on_where_a_restart_found_it(world) -> None:
    world.load()
    for _ in range(12):
        world.edit(kind="order")
    world.clock.advance(14 * 24 * 3600 + 60)
    world.run(lambda: not world.swept)
    cursor = world.checkpoints["orders"].feeds["orders_deep"].cursor
    world.loop = world.start()
    world.run(lambda: world.swept)
    assert world.checkpoints["orders"].feeds["orders_deep"].cursor > cursor
