"""A stopped lane: what stops it, what goes on meanwhile, and that only a person's word releases it."""

import msgspec
import pytest

from estarsync_core.control import LaneStop
from estarsync_core.entities import Entity
from estarsync_core.errors import Stop
from estarsync_core.topics import CONTROL

CONTACT_IMPORT = "/contacts/v3/import"
INSIGHT_IMPORT = "/insightData/v3/import"


def stops(rig) -> list[tuple[str, str]]:
    """The stops that the loader has written, oldest first: key and code."""
    return [
        ((each.key or b"").decode(), msgspec.json.decode(each.value, type=LaneStop).code)
        for each in rig.written(CONTROL)
    ]


@pytest.mark.parametrize(
    ("status", "body"), [(403, None), (404, None), (409, {}), (412, None), (302, None), (202, {}), (200, [])]
)
def test_what_nobody_understands_stops_one_lane_and_costs_one_call(rig, status, body):
    def refuse(request):
        return (status, body) if request.url.path == INSIGHT_IMPORT else None

    rig.answer(refuse)
    rig.product("A")
    rig.contact("aroha@shop.example")
    rig.turn_for(120)
    assert stops(rig) == [("stop/products", "unknown_answer")]
    assert len(rig.times(INSIGHT_IMPORT)) == 1
    assert rig.held("aroha@shop.example") is not None
    assert rig.waiting == 1

    rig.answer(lambda _: None)
    rig.turn_for(120)
    assert rig.record("catalog_estar", "A") is None
    rig.release(Entity.PRODUCTS)
    rig.run(300)
    assert rig.record("catalog_estar", "A") is not None
    assert rig.violations == {}


def test_a_stop_outlives_the_process(rig):
    rig.answer(lambda request: (403, None) if request.url.path == CONTACT_IMPORT else None)
    rig.contact("aroha@shop.example")
    rig.turn_for(10)
    rig.answer(lambda _: None)
    rig.kill()
    rig.turn_for(300)
    assert rig.held("aroha@shop.example") is None
    assert len(rig.times(CONTACT_IMPORT)) == 1
    rig.release(Entity.CONTACTS)
    rig.run(300)
    assert rig.held("aroha@shop.example") is not None
    rig.kill()
    assert not rig.lanes.stopped(Entity.CONTACTS)


def test_an_old_release_does_not_release_a_new_stop(rig):
    rig.answer(lambda request: (403, None) if request.url.path == CONTACT_IMPORT else None)
    rig.contact("aroha@shop.example")
    rig.turn_for(10)
    rig.release(Entity.CONTACTS)
    rig.turn_for(10)
    assert rig.lanes.stopped(Entity.CONTACTS)
    assert len(stops(rig)) == 2
    rig.kill()
    assert rig.lanes.stopped(Entity.CONTACTS)


def test_orders_go_on_while_products_are_stopped(rigs):
    rig = rigs(loader_insight_slots=1)
    rig.contact("aroha@shop.example")
    rig.run()
    rig.answer(
        lambda request: (
            (403, None)
            if request.url.path == INSIGHT_IMPORT and b"catalog_estar" in request.content
            else None
        )
    )
    rig.product("A")
    rig.turn_for(5)
    rig.order("1", "aroha@shop.example")
    rig.turn_for(60)
    assert rig.record("orders", "1") is not None
    assert rig.lanes.stopped(Entity.PRODUCTS)


def test_an_open_import_is_followed_to_its_end_while_its_lane_is_stopped(rigs):
    rig = rigs({"import_seconds": 20.0}, loader_batch_records=1)
    rig.product("A")
    rig.run(until=lambda: len(rig.times(INSIGHT_IMPORT)) == 1)
    rig.answer(lambda request: (403, None) if request.url.path == INSIGHT_IMPORT else None)
    rig.product("B")
    rig.turn_for(60)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.lanes.stopped(Entity.PRODUCTS)


def test_an_import_that_fails_over_and_over_stops_the_lane(rig):
    rig.fault("import_failed", times=5)
    rig.product("A")
    rig.turn_for(600)
    assert stops(rig) == [("stop/products", "imports_fail")]
    assert len(rig.times(INSIGHT_IMPORT)) == 5
    rig.release(Entity.PRODUCTS)
    rig.run(600)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


@pytest.mark.parametrize("kind", ["import_rejected", "import_exceeds_limit"])
def test_a_refused_import_stops_the_lane_and_is_sent_again_once_it_is_released(rig, kind):
    rig.fault(kind)
    rig.contact("aroha@shop.example")
    rig.turn_for(60)
    assert stops(rig) == [("stop/contacts", "import_refused")]
    rig.kill()
    rig.turn_for(60)
    assert len(rig.times(CONTACT_IMPORT)) == 1
    rig.release(Entity.CONTACTS)
    rig.run(300)
    assert rig.held("aroha@shop.example") is not None


def test_a_status_that_nobody_understands_stops_the_lane(rig):
    rig.answer(lambda request: (400, {}) if request.url.path.startswith(INSIGHT_IMPORT + "/") else None)
    rig.product("A")
    rig.turn_for(60)
    assert stops(rig) == [("stop/products", "unknown_answer")]
    asked = [request for request in rig.requests if request.url.path.startswith(INSIGHT_IMPORT + "/")]
    assert len(asked) == 1
    rig.answer(lambda _: None)
    rig.release(Entity.PRODUCTS)
    rig.run()
    assert len(rig.times(INSIGHT_IMPORT)) == 1


def test_a_refused_password_ends_the_process(rig):
    rig.answer(lambda request: (401, None) if request.url.path == CONTACT_IMPORT else None)
    rig.contact("aroha@shop.example")
    with pytest.raises(Stop, match="set the new ones"):
        rig.run()
    assert stops(rig) == []


def test_a_flood_of_dead_letters_stops_the_lane_before_it_is_written(rigs):
    bad = [f"bad{number}@shop.example" for number in range(30)]
    rig = rigs({"globally_suppressed": frozenset(bad)}, loader_dead_letter_run=20)
    for email in bad[:10]:
        rig.contact(email)
    rig.contact("good@shop.example")
    rig.run()
    assert len(rig.dead_letters(Entity.CONTACTS)) == 10
    assert not rig.lanes.stopped(Entity.CONTACTS)
    for email in bad[10:]:
        rig.contact(email)
    rig.turn_for(60)
    assert stops(rig) == [("stop/contacts", "dead_letters")]
    assert len(rig.dead_letters(Entity.CONTACTS)) == 10
    assert rig.waiting == 20
    rig.release(Entity.CONTACTS)
    rig.run(300)
    assert len(rig.dead_letters(Entity.CONTACTS)) == 30
    assert len(stops(rig)) == 1


def test_a_flood_that_comes_one_by_one_stops_the_lane(rigs):
    rig = rigs(loader_dead_letter_run=3, loader_batch_records=8)
    rig.answer(
        lambda request: (
            (400, {"errorCode": "insightData:badRecord"}) if request.url.path == INSIGHT_IMPORT else None
        )
    )
    for number in range(8):
        rig.product(f"P{number}")
    rig.turn_for(600)
    assert stops(rig) == [("stop/products", "dead_letters")]
    assert len(rig.dead_letters(Entity.PRODUCTS)) == 2
    assert rig.waiting == 6
