"""What people ask to have delivered once more: a resync from typed payloads, and dead letters that are redriven."""

from datetime import UTC, datetime

import msgspec
import pytest

from estarsync_core.control import Letter, Progress, Redrive, Resync, progress_key, request_key
from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.topics import CONTROL

AT = datetime(2026, 6, 1, tzinfo=UTC)
INSIGHT_IMPORT = "/insightData/v3/import"


def ask(rig, request) -> None:
    rig.people.say(request_key(request), request)


def progress(rig, name) -> Progress:
    """What the loader has said last of a request."""
    key = progress_key(name).encode()
    said = [each.value for each in rig.written(CONTROL) if each.key == key]
    return msgspec.json.decode(said[-1], type=Progress)


def over(rig, name):
    return lambda: any(
        each.key == progress_key(name).encode() and msgspec.json.decode(each.value, type=Progress).over
        for each in rig.written(CONTROL)
    )


def loaded(rig, number=25):
    for each in range(number):
        rig.product(f"P{each}", price=float(each))
    rig.run()
    return rig


def test_a_resync_sends_again_what_somebody_has_spoilt(rig):
    loaded(rig)
    rig.box.account.collection("catalog_estar").empty()
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.run(until=over(rig, "r1"))
    assert [rig.record("catalog_estar", f"P{each}")["price"] for each in range(25)] == list(range(25))
    said = progress(rig, "r1")
    assert (said.state, said.done, said.total) == ("done", 25, 25)


def test_a_resync_of_some_keys_sends_only_those(rig):
    loaded(rig)
    sent = len(rig.bodies(INSIGHT_IMPORT))
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT, keys=("P3", "P7", "gone")))
    rig.run(until=over(rig, "r1"))
    (body,) = rig.bodies(INSIGHT_IMPORT)[sent:]
    assert sorted(record["key"] for record in body["records"]) == ["P3", "P7"]
    assert progress(rig, "r1").done == 2


@pytest.mark.parametrize("customers", [0, 2])
def test_a_contact_that_only_orders_know_is_sent_again_by_its_key(rig, customers):
    for number in range(customers):
        rig.contact(f"customer{number}@shop.example", FIRSTNAME="A")
    rig.order("O-1", "guest@shop.example")
    rig.run()
    rig.delete("guest@shop.example")
    assert rig.held("guest@shop.example") is None
    keys = ("guest@shop.example", "customer0@shop.example", "nobody@shop.example")
    ask(rig, Resync("r1", Entity.CONTACTS, "typed", AT, keys=keys, force=True))
    rig.run(until=over(rig, "r1"))
    assert rig.held("guest@shop.example") is not None
    assert rig.held("nobody@shop.example") is None
    assert progress(rig, "r1").done == 1 + min(customers, 1)


def test_a_resync_never_sends_an_older_version(rig):
    rig.product("A", price=1.0)
    rig.product("A", price=2.0)
    rig.run()
    rig.product("A", price=3.0)
    rig.product("B", price=1.0)
    rig.run()
    sent = len(rig.bodies(INSIGHT_IMPORT))
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.run(until=over(rig, "r1"))
    prices = {
        record["key"]: record["json"]["price"]
        for body in rig.bodies(INSIGHT_IMPORT)[sent:]
        for record in body["records"]
    }
    assert prices == {"A": 3.0, "B": 1.0}
    assert rig.violations == {}


def test_live_records_overtake_a_resync(rigs):
    rig = rigs(loader_batch_records=5)
    loaded(rig, 50)
    sent = len(rig.bodies(INSIGHT_IMPORT))
    rig.options(import_seconds=5.0)
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.run(until=lambda: rig.waiting > 20)
    rig.product("NEW", lane=Lane.LIVE)
    rig.run(600, until=over(rig, "r1"))
    batches = [{record["key"] for record in body["records"]} for body in rig.bodies(INSIGHT_IMPORT)[sent:]]
    place = next(number for number, keys in enumerate(batches) if "NEW" in keys)
    assert place < len(batches) - 3


def test_a_resync_goes_on_after_a_crash(rigs):
    rig = rigs(loader_batch_records=5)
    loaded(rig, 50)
    rig.options(import_seconds=5.0)
    rig.box.account.collection("catalog_estar").empty()
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.run(600, until=lambda: rig.record("catalog_estar", "P4") is not None)
    rig.kill()
    rig.run(1200, until=over(rig, "r1"))
    rig.run(600)
    assert all(rig.record("catalog_estar", f"P{each}") is not None for each in range(50))
    assert rig.violations == {}


def test_a_resync_that_is_called_off_ends(rigs):
    rig = rigs(loader_batch_records=5)
    loaded(rig, 50)
    rig.options(import_seconds=30.0)
    asked = Resync("r1", Entity.PRODUCTS, "typed", AT)
    ask(rig, asked)
    rig.turn_for(5)
    ask(rig, msgspec.structs.replace(asked, cancelled=True))
    rig.run(600, until=over(rig, "r1"))
    assert progress(rig, "r1").state == "cancelled"
    rig.run(600)


def test_the_offsets_do_not_wait_for_a_resync(rig):
    loaded(rig)
    name = rig.settings.topic("dotdigital.products.v1")
    rig.turn_for(2)
    committed = rig.producer.offsets[name, 0]
    assert committed == 25
    rig.options(import_seconds=60.0)
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.turn_for(20)
    assert rig.producer.offsets[name, 0] == committed


def test_a_removed_record_stays_removed(rig):
    loaded(rig, 3)
    rig.tombstone(Entity.PRODUCTS, "P1", Reason.REMOVED)
    rig.run()
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT))
    rig.run(until=over(rig, "r1"))
    assert rig.record("catalog_estar", "P1") is None
    assert rig.record("catalog_estar", "P2") is not None


def test_a_request_from_raw_is_not_the_loaders(rig):
    loaded(rig, 3)
    sent = len(rig.bodies(INSIGHT_IMPORT))
    ask(rig, Resync("r1", Entity.PRODUCTS, "raw", AT))
    ask(rig, Redrive("d1", "extractor", AT, (Letter("estar.products.v1.dlq", 0, 0),)))
    rig.turn_for(30)
    assert len(rig.bodies(INSIGHT_IMPORT)) == sent
    assert rig.written(CONTROL) == []


@pytest.fixture
def refused(rigs):
    """A contact that Dotdigital has refused, and would take by now."""
    rig = rigs({"globally_suppressed": frozenset({"aroha@shop.example"})})
    rig.contact("aroha@shop.example")
    rig.run()
    assert list(rig.dead_letters(Entity.CONTACTS)) == ["aroha@shop.example"]
    return rig


LETTER = Letter("dotdigital.contacts.v1.dlq", 0, 0)


def test_a_dead_letter_is_redriven(refused):
    rig = refused
    rig.options(globally_suppressed=frozenset())
    ask(rig, Redrive("d1", "loader", AT, (LETTER,)))
    rig.run(until=over(rig, "d1"))
    assert rig.held("aroha@shop.example") is not None
    assert (progress(rig, "d1").done, progress(rig, "d1").total) == (1, 1)


def test_a_dead_letter_that_fails_again_comes_back_with_its_count(refused):
    rig = refused
    ask(rig, Redrive("d1", "loader", AT, (LETTER,)))
    rig.run(until=over(rig, "d1"))
    first, second = rig.written("dotdigital.contacts.v1.dlq")
    assert dict(first.headers)["estarsync.attempt"] == b"1"
    assert dict(second.headers)["estarsync.attempt"] == b"2"
    assert first.value == second.value


def test_a_dead_letter_that_was_overtaken_stays_where_it_is(refused):
    rig = refused
    rig.options(globally_suppressed=frozenset())
    rig.contact("aroha@shop.example", FIRSTNAME="new")
    rig.run()
    calls = len(rig.requests)
    ask(rig, Redrive("d1", "loader", AT, (LETTER,)))
    rig.run(until=over(rig, "d1"))
    assert len(rig.requests) == calls


def test_a_redrive_is_not_lost_in_a_crash(refused):
    rig = refused
    rig.options(globally_suppressed=frozenset(), import_seconds=60.0)
    ask(rig, Redrive("d1", "loader", AT, (LETTER,)))
    rig.run(until=lambda: rig.waiting == 1)
    rig.kill()
    rig.run(600, until=over(rig, "d1"))
    rig.run(600)
    assert rig.held("aroha@shop.example") is not None


def test_a_resync_that_was_called_off_is_taken_up_again(rigs):
    rig = rigs(loader_batch_records=5)
    loaded(rig, 50)
    rig.options(import_seconds=5.0)
    asked = Resync("r1", Entity.PRODUCTS, "typed", AT)
    ask(rig, asked)
    rig.turn_for(2)
    ask(rig, msgspec.structs.replace(asked, cancelled=True))
    rig.run(600, until=over(rig, "r1"))
    ask(rig, asked)
    rig.run(1200, until=lambda: progress(rig, "r1").state == "done")


def dones(rig, name) -> int:
    """How often the loader has said that a request is done."""
    key = progress_key(name).encode()
    said = [
        msgspec.json.decode(each.value, type=Progress) for each in rig.written(CONTROL) if each.key == key
    ]
    return sum(each.state == "done" for each in said)


def test_a_request_is_obeyed_once_although_its_end_is_read_back_late(rig):
    loaded(rig, 3)
    sent = len(rig.bodies(INSIGHT_IMPORT))
    ask(rig, Resync("r1", Entity.PRODUCTS, "typed", AT, force=True))
    ask(rig, Redrive("r2", "loader", AT, ()))
    rig.run(until=lambda: dones(rig, "r1") and dones(rig, "r2"))
    for _ in range(100):
        rig.loop.turn()
    assert (dones(rig, "r1"), dones(rig, "r2")) == (1, 1)
    assert len(rig.bodies(INSIGHT_IMPORT)) == sent + 1
