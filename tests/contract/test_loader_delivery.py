"""What the loader delivers, and in which order."""

from datetime import UTC, date, datetime

import pytest

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import FORCED, EventHeaders
from estarsync_core.keys import record_key
from loader.records import Outcome, Settled

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"


def test_all_three_entities_arrive_as_they_are(rig):
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha", DOB=date(1990, 1, 2), NEWSLETTER_SUBSCRIBE=False)
    rig.product("MUG RED", price=12.345)
    rig.order("O-1", "aroha@shop.example", total=12.5)
    rig.run()
    contact = rig.held("aroha@shop.example")
    assert contact.fields["FIRSTNAME"] == "Aroha"
    assert contact.fields["NEWSLETTER_SUBSCRIBE"] is False
    assert contact.fields["DOB"] == "1990-01-02T00:00:00Z"
    assert contact.email_status == "subscribed"  # Dotdigital's own default for somebody new
    assert [one.name for one in rig.box.account.lists if one.id in contact.lists] == ["eStar Contacts"]
    assert rig.record("catalog_estar", record_key("MUG RED"))["price"] == 12.345
    assert rig.record("orders", "O-1")["order_total"] == 12.5
    assert rig.violations == {}
    for entity in Entity:
        assert rig.counted(entity) == {"delivered": 1}
    assert {key: state["outcome"] for key, state in rig.states().items()} == {
        "contacts:aroha@shop.example": "delivered",
        "products:MUG RED": "delivered",
        "orders:O-1": "delivered",
    }


def test_offsets_are_committed_up_to_the_oldest_that_is_not_settled(rig):
    rig.options(import_seconds=30.0)
    rig.product("A")
    rig.run(until=lambda: rig.engine.idle is False)
    rig.product("B")
    rig.turn_for(5)
    place = ("t.dotdigital.products.v1", 0)
    assert rig.producer.offsets[place] == 0
    rig.run(120)
    rig.turn_for(2)
    assert rig.producer.offsets[place] == 2


def test_a_backlog_is_compacted_to_the_latest_version_of_a_key(rig):
    for price in range(1, 400):
        rig.product("A", price=float(price))
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    assert rig.record("catalog_estar", "A")["price"] == 399.0
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1, "superseded": 398}


def test_a_version_that_comes_while_an_older_one_is_in_flight_is_sent_afterwards(rig):
    rig.options(import_seconds=5.0)
    rig.product("A", price=1.0)
    rig.run(until=lambda: rig.bodies(INSIGHT_IMPORT))
    rig.product("A", price=2.0)
    rig.turn_for(1)
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    rig.run()
    assert [body["records"][0]["json"]["price"] for body in rig.bodies(INSIGHT_IMPORT)] == [1.0, 2.0]
    assert rig.record("catalog_estar", "A")["price"] == 2.0
    assert rig.violations == {}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 2}


def test_an_older_version_never_goes_after_a_newer_one(rig):
    rig.product("A", price=2.0, sequence=20)
    rig.run()
    rig.product("A", price=1.0, sequence=10)
    rig.product("B", price=2.0, sequence=22)
    rig.product("B", price=1.0, sequence=21)
    rig.run()
    assert rig.record("catalog_estar", "A")["price"] == 2.0
    assert rig.record("catalog_estar", "B")["price"] == 2.0
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 2, "superseded": 2}


def test_what_has_not_changed_is_not_sent_again(rig):
    rig.product("A")
    rig.run()
    rig.product("A", price=9.0)
    rig.product("A")
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1, "superseded": 1, "unchanged": 1}


def test_what_a_resync_forces_is_sent_again_in_the_version_that_was_delivered_and_in_no_older_one(rig):
    facts = EventHeaders(
        Entity.PRODUCTS, Version(7, 1), Lane.BULK, "test", datetime(2024, 1, 2, tzinfo=UTC), typed=True
    ).encode()
    forced = [*facts, (FORCED, b"resync-1")]
    rig.product("A", headers=facts)
    rig.run()
    rig.product("A", headers=facts)
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    rig.product("A", headers=forced)
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) == 2
    rig.product("A", sequence=8, price=9.0)
    rig.run()
    rig.product("A", headers=forced)
    rig.run()
    assert rig.record("catalog_estar", "A")["price"] == 9.0
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 3, "superseded": 2}


def test_live_records_overtake_a_backlog(rigs):
    rig = rigs({"import_seconds": 5.0}, loader_batch_records=10, loader_insight_slots=1)
    for number in range(100):
        rig.product(f"bulk-{number}")
    rig.run(until=lambda: len(rig.bodies(INSIGHT_IMPORT)) == 1)
    rig.product("now", lane=Lane.LIVE)
    rig.run(600)
    second = [record["key"] for record in rig.bodies(INSIGHT_IMPORT)[1]["records"]]
    assert second[0] == "now"


def test_a_live_order_overtakes_a_backlog_of_contacts(rigs):
    rig = rigs({"import_seconds": 0.5}, loader_batch_records=10, loader_contact_slots=1)
    rig.contact("known@shop.example")
    rig.run()
    for number in range(100):
        rig.contact(f"c{number}@shop.example")
    rig.run(until=lambda: len(rig.bodies(CONTACT_IMPORT)) == 2)
    rig.order("O-1", "known@shop.example", lane=Lane.LIVE)
    rig.run(until=lambda: rig.record("orders", "O-1"))
    assert len(rig.bodies(CONTACT_IMPORT)) <= 4
    rig.run(600)


def test_entities_take_turns(rigs):
    rig = rigs(loader_batch_records=10)
    for number in range(50):
        rig.contact(f"c{number}@shop.example")
        rig.product(f"p{number}")
    rig.run()
    imports = [each.url.path for each in rig.requests if each.method == "PUT"]
    assert imports[:4] in ([CONTACT_IMPORT, INSIGHT_IMPORT] * 2, [INSIGHT_IMPORT, CONTACT_IMPORT] * 2)


def test_batches_are_limited_by_bytes(rigs):
    rig = rigs(loader_batch_bytes=1024)
    for number in range(20):
        rig.product(f"p{number}")
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) > 3
    assert all(len(each.content) <= 1024 for each in rig.requests if each.url.path == INSIGHT_IMPORT)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 20}


def test_the_first_record_waits_for_others_but_a_full_batch_does_not_wait(rigs):
    rig = rigs(loader_linger_seconds=3.0, loader_batch_records=5)
    rig.product("a")
    rig.turn_for(2)
    rig.product("b")
    rig.turn_for(0.5)
    assert rig.bodies(INSIGHT_IMPORT) == []
    rig.run()
    assert [len(body["records"]) for body in rig.bodies(INSIGHT_IMPORT)] == [2]
    for number in range(5):
        rig.product(f"p{number}")
    rig.run(1)


def test_an_order_waits_for_its_contact(rig):
    rig.options(import_seconds=3.0)
    rig.order("O-1", "aroha@shop.example")
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha")
    rig.run()
    paths = [each.url.path for each in rig.requests if each.method == "PUT"]
    assert paths == [CONTACT_IMPORT, INSIGHT_IMPORT]
    assert rig.bodies(CONTACT_IMPORT)[0]["contacts"][0]["dataFields"]["FIRSTNAME"] == "Aroha"
    assert rig.attempts(Entity.ORDERS, "O-1") == [("delivered", "")]


def test_a_guest_becomes_a_bare_contact_without_any_data_field(rig):
    rig.order("O-1", "guest@shop.example")
    rig.order("O-2", "guest@shop.example")
    rig.run()
    (body,) = rig.bodies(CONTACT_IMPORT)
    assert body["contacts"] == [
        {
            "matchIdentifier": "email",
            "identifiers": {"email": "guest@shop.example"},
            "lists": [rig.held("guest@shop.example").lists[0]],
        }
    ]
    assert rig.record("orders", "O-2") is not None
    assert rig.counted(Entity.CONTACTS) == {"bare_contact": 1}
    assert rig.states()["contacts:guest@shop.example"]["there"] is True


def test_a_guest_who_registers_gets_his_data(rig):
    rig.order("O-1", "guest@shop.example")
    rig.run()
    rig.contact("guest@shop.example", FIRSTNAME="Gast")
    rig.run()
    assert rig.held("guest@shop.example").fields["FIRSTNAME"] == "Gast"
    assert rig.counted(Entity.CONTACTS) == {"bare_contact": 1, "delivered": 1}


def test_a_guest_who_registers_while_his_bare_contact_is_in_flight(rig):
    rig.options(import_seconds=3.0)
    rig.order("O-1", "guest@shop.example")
    rig.run(until=lambda: rig.bodies(CONTACT_IMPORT))
    rig.contact("guest@shop.example", FIRSTNAME="Gast")
    rig.run()
    assert rig.held("guest@shop.example").fields["FIRSTNAME"] == "Gast"
    assert rig.record("orders", "O-1") is not None
    assert rig.violations == {}


def test_suppressed_contacts_keep_their_status_and_get_their_orders(rig):
    rig.contact("sad@shop.example", FIRSTNAME="Sad")
    rig.run()
    rig.held("sad@shop.example").email_status = "suppressed"
    rig.contact("sad@shop.example", FIRSTNAME="Sadder")
    rig.order("O-1", "sad@shop.example")
    rig.run()
    contact = rig.held("sad@shop.example")
    assert contact.email_status == "suppressed"
    assert contact.fields["FIRSTNAME"] == "Sadder"
    assert rig.record("orders", "O-1") is not None


def test_a_product_that_left_is_deleted_and_may_come_back(rig):
    for sku in "ABC":
        rig.product(sku)
    rig.run()
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.tombstone(Entity.PRODUCTS, "B")
    rig.run()
    assert rig.record("catalog_estar", "A") is None
    assert rig.record("catalog_estar", "C") is not None
    assert [each.method for each in rig.requests].count("DELETE") == 1
    assert rig.states()["products:A"]["there"] is False
    rig.product("A")
    rig.run()
    assert rig.record("catalog_estar", "A") is not None
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 4, "removed": 2}


def test_orders_are_deleted_one_by_one_under_their_contact(rig):
    for number in (1, 2):
        rig.order(f"O/{number}", "a+b@shop.example")
    rig.run()
    for number in (1, 2):
        rig.tombstone(Entity.ORDERS, f"O/{number}")
    rig.run()
    assert len(rig.box.account.collection("orders").rows) == 0
    assert rig.counted(Entity.ORDERS) == {"delivered": 2, "removed": 2}


def test_what_was_never_there_needs_no_removal(rig):
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.tombstone(Entity.ORDERS, "O-1")
    rig.product("B")
    rig.tombstone(Entity.PRODUCTS, "B")
    before = len(rig.requests)
    rig.run()
    assert len(rig.requests) == before
    assert rig.counted(Entity.PRODUCTS) == {"removed": 2, "superseded": 1}


def test_a_tombstone_waits_for_the_import_that_is_about_to_put_its_record_there(rig):
    rig.options(import_seconds=3.0)
    rig.product("A")
    rig.run(until=lambda: rig.bodies(INSIGHT_IMPORT))
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.run()
    assert rig.record("catalog_estar", "A") is None
    assert rig.violations == {}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1, "removed": 1}


@pytest.mark.parametrize("reason", [Reason.RENAMED, Reason.REMOVED])
def test_a_contacts_tombstone_deletes_nothing(rig, reason):
    rig.contact("aroha@shop.example")
    rig.run()
    rig.tombstone(Entity.CONTACTS, "aroha@shop.example", reason)
    rig.run()
    assert rig.held("aroha@shop.example") is not None
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "removed": 1}


def test_an_order_whose_contact_left_before_it_came_gets_a_bare_one(rig):
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha")
    rig.tombstone(Entity.CONTACTS, "aroha@shop.example", Reason.RENAMED)
    rig.order("O-1", "aroha@shop.example")
    rig.run()
    assert rig.record("orders", "O-1") is not None
    assert "FIRSTNAME" not in rig.held("aroha@shop.example").fields


def test_more_tombstones_than_one_call_takes(rigs):
    rig = rigs(loader_batch_records=50_000, loader_linger_seconds=1.0)
    there = Settled(Version(0, 1), "", Outcome.DELIVERED, None, there=True)
    for number in range(5001):
        rig.table.settle(Entity.PRODUCTS, f"p{number}", there)
        rig.tombstone(Entity.PRODUCTS, f"p{number}")
    rig.run()
    bodies = rig.bodies("/insightData/v3/accounts/catalog_estar/deleteRecords")
    assert sorted(len(body["keys"]) for body in bodies) == [1, 5000]


def test_a_flood_of_unreadable_records_does_not_pile_up_in_memory(rig):
    for number in range(3000):
        rig.publish(Entity.PRODUCTS, f"p{number}", b"\xff")
    most = 0
    while not rig.idle:
        rig.loop.turn()
        most = max(most, len(rig.loop._ledger.outbox))
    rig.turn_for(2)
    assert most <= 1500
    assert len(rig.dead_letters(Entity.PRODUCTS)) == 3000


def test_unreadable_records_are_dead_letters_before_they_cost_a_call(rig):
    before = len(rig.requests)
    rig.publish(Entity.PRODUCTS, "bytes", b"\xff\xfe")
    rig.publish(Entity.PRODUCTS, "", None)
    rig.publish(Entity.PRODUCTS, "headless", None, headers=[("x", b"y")])
    rig.product("another", sequence=99)
    log = rig.topics.log["t.dotdigital.products.v1"]
    rig.publish(Entity.PRODUCTS, "swapped", log[-1].value())
    log.pop(-2)
    rig.run()
    rig.turn_for(2)
    assert len(rig.requests) == before
    assert rig.dead_letters(Entity.PRODUCTS) == {
        "bytes": "not_avro",
        "": "missing",
        "headless": "unreadable",
        "swapped": "mismatch",
    }
    letter = rig.written("dotdigital.products.v1.dlq")[0]
    headers = dict(letter.headers)
    assert letter.value == b"\xff\xfe"
    assert headers["__connect.errors.topic"] == b"t.dotdigital.products.v1"
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["ce_lane"] == b"bulk"
    assert rig.counted(Entity.PRODUCTS) == {"dead_letter": 4}


def test_an_unreadable_record_stays_settled_after_a_restart(rig):
    rig.options(import_seconds=1000.0)
    rig.product("first")
    rig.publish(Entity.PRODUCTS, "bytes", b"\xff\xfe")
    rig.turn_for(3)
    rig.kill()
    rig.turn_for(3)
    assert len(rig.written("dotdigital.products.v1.dlq")) == 1


def test_waiting_and_in_flight_are_shown(rig):
    rig.options(import_seconds=5.0)
    rig.product("A")
    rig.contact("a@shop.example", lane=Lane.LIVE)
    rig.turn_for(2)

    def shown(name):
        return {
            tuple(sample.labels.values()): sample.value
            for family in rig.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and sample.value
        }

    assert shown("estarsync_loader_pending_records") == {("products", "bulk"): 1, ("contacts", "live"): 1}
    assert shown("estarsync_loader_open_imports") == {("products",): 1, ("contacts",): 1}
    rig.run()
    rig.turn_for(1)
    assert shown("estarsync_loader_pending_records") == {}
    assert shown("estarsync_loader_open_imports") == {}
