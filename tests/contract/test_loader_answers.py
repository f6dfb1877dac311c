"""What the loader makes of Dotdigital's answers, each driven by the sandbox."""

from collections.abc import Iterator

import pytest

from estarsync_core.entities import Entity
from estarsync_core.topics import IMPORTS
from sandbox.dotdigital.faults import FaultRequest
from sandbox.dotdigital.options import Limits

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"


def test_one_bad_record_is_found_in_a_refused_batch_and_the_rest_is_delivered(rig):
    def spoiled(request):
        if request.url.path == INSIGHT_IMPORT and b'"p37"' in request.content:
            return 400, {"errorCode": "insightData:badJson", "description": "one of them"}
        return None

    rig.answer(spoiled)
    for number in range(64):
        rig.product(f"p{number}")
    rig.run()
    assert rig.dead_letters(Entity.PRODUCTS) == {"p37": "insightData:badJson"}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 63, "dead_letter": 1}
    assert len(rig.bodies(INSIGHT_IMPORT)) == 13
    assert rig.box.account.jobs.most_open["insight_import"] <= 4
    assert rig.violations == {}
    assert rig.states()["products:p37"]["outcome"] == "dead_letter"


def test_a_body_that_is_too_large_is_divided(rig):
    rig.options(max_body_bytes=1500)
    for number in range(20):
        rig.product(f"p{number}")
    rig.run()
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 20}
    rig.product("x" * 2000)
    rig.run()
    assert list(rig.dead_letters(Entity.PRODUCTS).values()) == ["too_large"]


def test_newer_versions_in_a_refused_batch_are_not_lost(rig):
    refused: list[object] = []

    def once(request):
        if request.url.path == INSIGHT_IMPORT and not refused:
            refused.append(request)
            return 400, {}
        return None

    rig.answer(once)
    rig.calls.held = True
    for sku in "ABCD":
        rig.product(sku, price=1.0)
    rig.order("O-1", "guest@shop.example")
    rig.run(until=lambda: refused)
    rig.product("A", price=2.0)
    rig.tombstone(Entity.PRODUCTS, "B")
    rig.turn_for(1)
    rig.calls.held = False
    rig.run()
    assert rig.record("catalog_estar", "A")["price"] == 2.0
    assert rig.record("catalog_estar", "B") is None
    assert rig.record("catalog_estar", "D")["price"] == 1.0


def test_records_that_the_report_refuses_are_dead_letters(rigs):
    rig = rigs({"globally_suppressed": frozenset({"bad@shop.example"})})
    rig.contact("bad@shop.example")
    rig.contact("good@shop.example")
    rig.run()
    assert rig.dead_letters(Entity.CONTACTS) == {"bad@shop.example": "GloballySuppressed"}
    letter = rig.written("dotdigital.contacts.v1.dlq")[0]
    assert letter.value == rig.topics.log["t.dotdigital.contacts.v1"][0].value()
    assert rig.attempts(Entity.CONTACTS, "bad@shop.example") == [("dead_letter", "GloballySuppressed")]
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "dead_letter": 1}


def test_a_dead_letters_newer_version_is_tried_again(rigs):
    rig = rigs({"globally_suppressed": frozenset({"bad@shop.example"})})
    rig.contact("bad@shop.example")
    rig.run()
    rig.options(globally_suppressed=frozenset())
    rig.contact("bad@shop.example", FIRSTNAME="Now")
    rig.run()
    assert rig.held("bad@shop.example").fields["FIRSTNAME"] == "Now"


@pytest.mark.parametrize("guest", [True, False])
def test_orders_of_a_refused_contact_are_dead_letters_too(rigs, guest):
    rig = rigs({"globally_suppressed": frozenset({"bad@shop.example"})})
    if not guest:
        rig.contact("bad@shop.example")
    rig.order("O-1", "bad@shop.example")
    rig.order("O-2", "bad@shop.example")
    rig.run()
    rig.order("O-3", "bad@shop.example")
    rig.run()
    assert rig.dead_letters(Entity.ORDERS) == dict.fromkeys(["O-1", "O-2", "O-3"], "contact_refused")
    assert rig.counted(Entity.ORDERS) == {"dead_letter": 3}
    rig.options(globally_suppressed=frozenset())
    rig.contact("bad@shop.example", FIRSTNAME="x")
    rig.order("O-1", "bad@shop.example", total=11.0)
    rig.run()
    assert rig.record("orders", "O-1")["order_total"] == 11.0


def test_a_contact_that_is_there_keeps_its_orders_when_a_later_version_is_refused(rig):
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha")
    rig.run()
    rig.contact("aroha@shop.example", FIRSTNAME="x" * 2000)
    rig.run()
    assert rig.counted(Entity.CONTACTS)["dead_letter"] == 1
    rig.order("O-1", "aroha@shop.example")
    rig.run()
    assert rig.record("orders", "O-1") is not None


def test_a_product_that_is_there_is_removed_although_a_later_version_was_refused(rig):
    rig.product("A")
    rig.run()
    rig.publish(Entity.PRODUCTS, "A", b"\xff")
    rig.run()
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.run()
    assert rig.record("catalog_estar", "A") is None


def test_an_order_whose_contact_has_vanished_at_dotdigital_parks_and_is_delivered(rig):
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha")
    rig.run()
    rig.delete("aroha@shop.example")
    rig.order("O-1", "aroha@shop.example")
    rig.run()
    assert rig.attempts(Entity.ORDERS, "O-1") == [("park", "ContactEmailDoesNotExist"), ("delivered", "")]
    assert rig.record("orders", "O-1") is not None
    state = rig.states()["contacts:aroha@shop.example"]
    assert state["sequence"] == 1  # the bare contact does not make an older version look newer
    rig.contact("aroha@shop.example", FIRSTNAME="Aroha")
    rig.run()
    assert rig.held("aroha@shop.example").fields["FIRSTNAME"] == "Aroha"


def test_an_order_that_stays_parked_is_a_dead_letter_in_the_end(rigs):
    rig = rigs(loader_park_seconds=900.0)
    rig.contact("aroha@shop.example")
    rig.run()

    def deleted_every_time(request):
        if request.url.path == INSIGHT_IMPORT:
            rig.delete("aroha@shop.example")

    rig.answer(deleted_every_time)
    rig.order("O-1", "aroha@shop.example")
    rig.run(2000, pace=1.0)
    assert rig.dead_letters(Entity.ORDERS) == {"O-1": "ContactEmailDoesNotExist"}
    assert rig.clock.monotonic() > 900


def test_records_that_a_report_leaves_out_are_sent_again_and_then_dead_letters(rig):
    rig.fault("import_report_omits", share=1.0, times=2)
    rig.product("A")
    rig.run()
    assert rig.attempts(Entity.PRODUCTS, "A") == [
        ("retry", "unaccounted"),
        ("retry", "unaccounted"),
        ("delivered", ""),
    ]
    rig.fault("import_report_omits", share=1.0, times=5)
    rig.product("A", price=2.0)
    rig.run(120)
    assert rig.dead_letters(Entity.PRODUCTS) == {"A": "unaccounted"}
    rig.tombstone(Entity.PRODUCTS, "A")  # nobody knows whether it is there, so its removal is sent
    rig.run()
    assert rig.record("catalog_estar", "A") is None


def test_contacts_that_a_report_leaves_out_are_sent_again(rig):
    rig.fault("import_report_omits", share=1.0)
    rig.contact("aroha@shop.example")
    rig.run()
    assert rig.attempts(Entity.CONTACTS, "aroha@shop.example") == [
        ("retry", "unaccounted"),
        ("delivered", ""),
    ]


def test_a_tombstone_after_an_unclear_report_is_sent(rig):
    rig.fault("import_report_omits", share=1.0)
    rig.product("A")
    rig.run(until=lambda: rig.attempts(Entity.PRODUCTS, "A"))
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.run()
    assert rig.record("catalog_estar", "A") is None


# The quota and the slots


def test_a_used_up_quota_is_waited_out_and_never_exceeded(rigs):
    rig = rigs(
        {"limits": Limits(low=5, medium=50, high=100)}, loader_batch_records=1, dotdigital_quota_share=1.0
    )
    for number in range(20):
        rig.product(f"p{number}")
        rig.contact(f"c{number}@shop.example")
    rig.run(3600, pace=0.5)
    assert rig.violations == {}
    windows = rig.box.account.limits.summary(rig.box.account.options.limits)
    assert windows["low"]["max_accepted"] == 5


def test_another_clients_calls_cost_at_most_one_rejection_a_minute(rigs):
    rig = rigs({"limits": Limits(low=10, medium=50, high=100)}, loader_batch_records=1)
    rig.box.account.faults.ask(FaultRequest())
    rig.box.account.limits.other_client = {"low": 9.0}
    for number in range(20):
        rig.product(f"p{number}")
    rig.run(3600, pace=0.5)
    rejected: dict[int, int] = {}
    for line in rig.box.account.ledger.calls:
        if line.status == 429:
            rejected[int(line.time // 60)] = rejected.get(int(line.time // 60), 0) + 1
    assert all(count == 1 for count in rejected.values())
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 20}


@pytest.mark.parametrize("body", ["empty", "json", "text"])
def test_a_429_is_told_from_full_slots_whatever_its_body(rigs, body):
    rig = rigs({"limits": Limits(body=body)})
    rig.fault("quota_storm", seconds=40.0, method="PUT")
    rig.product("A")
    began = rig.clock.monotonic()
    rig.run(300)
    assert 40 <= rig.clock.monotonic() - began < 130
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


@pytest.mark.parametrize("status", [400, 429])
def test_full_slots_are_waited_out_without_burning_the_quota(rigs, status):
    rig = rigs(
        {
            "insight_import_slots": 2,
            "insight_slots_status": status,
            "import_seconds": 20.0,
            "import_shuffle": 0.0,
        },
        loader_batch_records=1,
    )
    for number in range(8):
        rig.product(f"p{number}")
    rig.run(600)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 8}
    assert rig.dead_letters(Entity.PRODUCTS) == {}
    puts = [line for line in rig.box.account.ledger.calls if line.method == "PUT"]
    assert len(puts) - 8 < 25
    assert rig.violations.keys() <= {f"call_answered_{status}"}


def test_slots_of_contacts_and_insight_data_are_apart(rigs):
    rig = rigs({"insight_import_slots": 0}, loader_batch_records=1)
    rig.product("A")
    rig.contact("aroha@shop.example")
    rig.run(until=lambda: rig.held("aroha@shop.example"))
    rig.options(insight_import_slots=5)
    rig.run(200)


def test_the_flat_schemes_hour_is_waited_out(rigs):
    rig = rigs({"limits": Limits(scheme="flat", flat_per_hour=60)}, loader_batch_records=1)
    for number in range(40):
        rig.product(f"p{number}")
    rig.run(4 * 3600, pace=5.0)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 40}
    assert rig.dead_letters(Entity.PRODUCTS) == {}
    assert rig.box.account.limits.rejected["flat"] <= 4


def test_unlimited_polling_is_not_held_up(rigs):
    tiers = {
        "GET /contacts/v3/import/{importId}": "unlimited",
        "GET /insightData/v3/import/{importId}": "unlimited",
    }
    rig = rigs({"tiers": tiers, "import_seconds": 5.0}, loader_batch_records=1)
    for number in range(40):
        rig.product(f"p{number}")
    rig.run(90)


# Lost replies and failing imports


@pytest.mark.parametrize("entity", [Entity.CONTACTS, Entity.PRODUCTS])
def test_after_a_lost_reply_only_the_identical_body_is_sent_and_newer_versions_wait(rigs, entity):
    rig = rigs({"import_seconds": 20.0, "import_shuffle": 0.0})
    path = CONTACT_IMPORT if entity is Entity.CONTACTS else INSIGHT_IMPORT
    publish = (
        (lambda text: rig.contact("a@shop.example", FIRSTNAME=text))
        if entity is Entity.CONTACTS
        else (lambda text: rig.product("a", price=float(text)))
    )
    rig.fault("drop_after", path=path, times=2)
    publish("1")
    rig.run(until=lambda: rig.bodies(path))
    publish("2")
    rig.run(600)
    bodies = [each.content for each in rig.requests if each.url.path == path]
    assert bodies[0] == bodies[1] == bodies[2] != bodies[3]
    assert len(bodies) == 4
    assert rig.violations == {}
    assert rig.box.account.jobs.identical_resends == 2
    times = [line.time for line in rig.box.account.ledger.calls if line.path == path]
    assert times[3] - times[2] >= 60 + 20
    assert rig.counted(entity) == {"delivered": 2}


@pytest.mark.parametrize("kind", ["http_500", "http_502", "http_503", "http_504"])
@pytest.mark.parametrize("after", [True, False])
def test_a_gateways_error_is_a_lost_reply(rig, kind, after):
    rig.fault(kind, path=INSIGHT_IMPORT, after=after)
    rig.product("A")
    rig.run(300)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.violations == {}


def test_a_connection_that_was_refused_is_tried_again_at_once(rig):
    rig.fault("drop_before", path=INSIGHT_IMPORT)
    rig.product("A")
    rig.run(300)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_a_lost_deletion_is_repeated(rig):
    rig.product("A")
    rig.order("O-1", "guest@shop.example")
    rig.run()
    rig.fault("drop_after", method="DELETE", times=2)
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.tombstone(Entity.ORDERS, "O-1")
    rig.run(300)
    assert rig.record("catalog_estar", "A") is None
    assert rig.record("orders", "O-1") is None


def test_a_refusal_after_a_lost_reply_divides_only_after_the_settling_time(rig):
    answers: Iterator[tuple[int, object]] = iter([(0, None), (400, {})])

    def handler(request):
        return next(answers, None) if request.url.path == INSIGHT_IMPORT else None

    rig.answer(handler)
    for sku in "AB":
        rig.product(sku)
    rig.run(300)
    times = rig.times(INSIGHT_IMPORT)
    assert times[2] - times[1] >= 60
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 2}


@pytest.mark.parametrize("kind", ["import_failed", "import_vanishes"])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("entity", [Entity.CONTACTS, Entity.PRODUCTS])
def test_an_import_that_comes_to_nothing_is_sent_again(rig, kind, share, entity):
    rig.fault(kind, share=share)
    for number in range(4):
        if entity is Entity.CONTACTS:
            rig.contact(f"c{number}@shop.example")
        else:
            rig.product(f"p{number}")
    rig.run(300)
    assert rig.counted(entity) == {"delivered": 4}
    assert rig.violations == {}


def test_an_import_that_never_ends_is_sent_again_after_the_deadline(rigs):
    rig = rigs(loader_import_deadline_seconds=600.0)
    rig.fault("import_never_ends")
    rig.product("A")
    rig.run(1200, pace=1.0)
    assert rig.clock.monotonic() > 600
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.violations == {}


@pytest.mark.parametrize("words", ["finished", "complete"])
def test_both_vocabularies_of_states_are_understood(rigs, words):
    rig = rigs({"insight_status_words": words, "import_seconds": 3.0})
    rig.product("A")
    rig.run()


@pytest.mark.parametrize("codes", ["documented", "openapi"])
def test_both_vocabularies_of_failures_are_understood(rigs, codes):
    rig = rigs({"failure_codes": codes, "globally_suppressed": frozenset({"bad@shop.example"})})
    rig.contact("bad@shop.example")
    rig.contact("good@shop.example")
    rig.run()
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "dead_letter": 1}


def test_failing_status_calls_change_nothing(rig):
    rig.fault("http_503", method="GET", path=INSIGHT_IMPORT, times=3)
    rig.fault("drop_after", method="GET", path=INSIGHT_IMPORT, times=2)
    rig.product("A")
    rig.run()
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1


def test_what_was_done_is_written_down(rig):
    rig.product("A")
    rig.run()
    states = [row["state"] for row in rig.imports()]
    assert states == ["intent", "accepted", "closed"]
    intent, accepted, closed = rig.imports()
    assert intent["keys"] == [["A", 1, 1, rig.states()["products:A"]["hash"], None]]
    assert accepted["import_id"] == rig.states()["products:A"]["import_id"]
    assert closed["seconds"] > 0
    assert len({each.key for each in rig.written(IMPORTS)}) == 1
