"""Answers that the sandbox gives of itself only seldom: each is driven through the loader, to its end."""

from typing import Any

import httpx
import msgspec
import pytest

from estarsync_core.entities import Entity, Reason
from estarsync_core.errors import Stop

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"
REMOVALS = "/insightData/v3/accounts/catalog_estar/deleteRecords"


class Once:
    """Answers so many calls in the account's place; `after` lets the account have them first."""

    def __init__(self, rig, method: str, path: str, *answers: tuple[int, Any], after: bool = False) -> None:
        self.rig, self.method, self.path, self.after = rig, method, path, after
        self.answers = list(answers)
        rig.answer(self)

    def __call__(self, request: httpx.Request) -> tuple[int, Any] | None:
        meant = request.method == self.method and request.url.path.startswith(self.path)
        if not meant or not self.answers:
            return None
        if self.after:
            self.rig.box.handle(request)
        return self.answers.pop(0)


class Report:
    """Changes what finished imports say, so many times."""

    def __init__(self, rig, changes: dict[str, Any], times: int = 1) -> None:
        self.rig, self.changes, self.left = rig, changes, times
        rig.answer(self)

    def __call__(self, request: httpx.Request) -> tuple[int, Any] | None:
        if request.method != "GET" or "/import/" not in request.url.path or not self.left:
            return None
        answer = self.rig.box.handle(request)
        body = msgspec.json.decode(answer.content)
        if body.get("status", "").lower() not in {"finished", "complete"}:
            return answer.status_code, body
        self.left -= 1
        return 200, body | self.changes


def stops(rig) -> list[tuple[str, str]]:
    return [
        (str(entity), stop.code)
        for entity in Entity
        if (stop := rig.people.words.stopped(entity)) is not None
    ]


@pytest.mark.parametrize("status", [408, 500, 520])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("entity", [Entity.CONTACTS, Entity.PRODUCTS])
def test_a_gateways_word_leaves_open_whether_an_import_was_accepted(rig, status, after, entity):
    path = CONTACT_IMPORT if entity is Entity.CONTACTS else INSIGHT_IMPORT
    Once(rig, "PUT", path, (status, None), after=after)
    publish = rig.contact if entity is Entity.CONTACTS else rig.product
    publish("a@shop.example")
    rig.run(until=lambda: len(rig.bodies(path)) == 1)
    publish("a@shop.example", **({"FIRSTNAME": "B"} if entity is Entity.CONTACTS else {"price": 2.0}))
    rig.run(300)
    first, again, newer = rig.bodies(path)
    assert first == again != newer
    assert rig.times(path)[2] - rig.times(path)[1] >= 60, "its keys are fenced for the settling time"
    assert rig.counted(entity) == {"delivered": 2}
    assert rig.violations == {}


@pytest.mark.parametrize(
    ("status", "body"), [(400, {}), (403, None), (409, {}), (412, None), (413, None), (302, None)]
)
@pytest.mark.parametrize("entity", [Entity.PRODUCTS, Entity.ORDERS])
def test_a_refused_deletion_stops_the_lane_and_is_made_once_it_is_released(rig, entity, status, body):
    if entity is Entity.PRODUCTS:
        rig.product("A")
    else:
        rig.order("A", "a@shop.example")
    rig.run()
    Once(rig, "DELETE", "/insightData/v3/", (status, body))
    rig.tombstone(entity, "A")
    rig.turn_for(60)
    assert stops(rig) == [(entity, "unknown_answer")]
    assert len([each for each in rig.requests if each.method == "DELETE"]) == 1
    rig.release(entity)
    rig.run()
    assert rig.record("catalog_estar" if entity is Entity.PRODUCTS else "orders", "A") is None
    assert rig.counted(entity) == {"delivered": 1, "removed": 1}


@pytest.mark.parametrize("answer", [(404, None), (429, {"errorCode": "server:tooManyRequests"}), (503, None)])
def test_a_deletion_of_what_is_gone_is_done_and_others_are_made_again(rig, answer):
    rig.product("A")
    rig.run()
    once = Once(rig, "DELETE", REMOVALS, answer, after=answer[0] == 404)
    rig.tombstone(Entity.PRODUCTS, "A")
    rig.run(300)
    assert once.answers == []
    assert rig.record("catalog_estar", "A") is None
    assert len([each for each in rig.requests if each.method == "DELETE"]) == (1 if answer[0] == 404 else 2)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1, "removed": 1}
    assert stops(rig) == []


@pytest.mark.parametrize("status", [400, 403, 409, 412])
@pytest.mark.parametrize("entity", [Entity.CONTACTS, Entity.PRODUCTS])
def test_a_refused_question_stops_the_lane_and_the_import_is_followed_once_it_is_released(
    rig, entity, status
):
    path = CONTACT_IMPORT if entity is Entity.CONTACTS else INSIGHT_IMPORT
    Once(rig, "GET", path + "/", (status, None))
    (rig.contact if entity is Entity.CONTACTS else rig.product)("a@shop.example")
    rig.turn_for(60)
    assert stops(rig) == [(entity, "unknown_answer")]
    rig.release(entity)
    rig.run()
    assert len(rig.bodies(path)) == 1
    assert rig.counted(entity) == {"delivered": 1}


@pytest.mark.parametrize("call", ["question", "erasure", "order's deletion"])
def test_credentials_that_are_refused_end_the_process_whatever_was_asked(rig, call):
    rig.order("A", "a@shop.example")
    if call != "question":
        rig.run()
    if call == "erasure":
        rig.tombstone(Entity.CONTACTS, "a@shop.example", Reason.ERASED)
    elif call == "order's deletion":
        rig.tombstone(Entity.ORDERS, "A")
    Once(rig, "GET" if call == "question" else "DELETE", "/", (401, None))
    with pytest.raises(Stop, match="set the new ones"):
        rig.run()
    rig.kill()
    rig.run(300)
    assert stops(rig) == []


@pytest.mark.parametrize("word", ["Failed", "Unknown", "NotAvailableInThisVersion", "InvalidFileFormat"])
@pytest.mark.parametrize("entity", [Entity.CONTACTS, Entity.PRODUCTS])
def test_every_word_for_a_failure_sends_the_import_again(rig, entity, word):
    path = CONTACT_IMPORT if entity is Entity.CONTACTS else INSIGHT_IMPORT
    Report(rig, {"status": word})
    (rig.contact if entity is Entity.CONTACTS else rig.product)("a@shop.example")
    rig.run(300)
    first, again = rig.bodies(path)
    assert first == again
    assert rig.counted(entity) == {"delivered": 1}
    assert rig.violations == {}


@pytest.mark.parametrize("word", ["NotStarted", "Processing", "NotFinished", "SomethingNew", ""])
def test_every_word_for_work_in_progress_is_waited_for(rig, word):
    Report(rig, {"status": word}, times=5)
    rig.product("A")
    rig.run(300)
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_a_word_that_nobody_knows_is_waited_for_until_the_deadline_only(rigs):
    rig = rigs(loader_import_deadline_seconds=300.0)
    report = Report(rig, {"status": "SomethingNew"}, times=10_000)
    rig.product("A")
    rig.run(400, until=lambda: len(rig.bodies(INSIGHT_IMPORT)) == 2, pace=1.0)
    assert rig.clock.monotonic() > 300
    report.left = 0
    rig.run(600, pace=1.0)
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
    assert rig.violations == {}


@pytest.mark.parametrize(
    ("code", "outcome"), [("Unknown", "retry"), ("", "retry"), ("ContactIdDoesNotExist", "park")]
)
def test_a_failure_that_may_pass_is_tried_again(rig, code, outcome):
    rig.contact("a@shop.example")
    rig.run()
    failures = [{"key": "A", "reason": code, "failureReason": code, "message": code}]
    Report(rig, {"failures": failures, "summary": {"totalImported": 0, "totalRejected": 1}})
    rig.order("A", "a@shop.example")
    rig.run(300)
    assert [each[0] for each in rig.attempts(Entity.ORDERS, "A")] == [outcome, "delivered"]
    assert rig.counted(Entity.ORDERS) == {"delivered": 1}


@pytest.mark.parametrize("body", [{}, {"errorCode": "contacts:badJson"}])
def test_one_bad_contact_is_found_in_a_refused_batch(rig, body):
    def spoiled(request):
        bad = request.url.path == CONTACT_IMPORT and b'"c7@' in request.content
        return (400, body) if bad else None

    rig.answer(spoiled)
    for number in range(16):
        rig.contact(f"c{number}@shop.example")
    rig.run()
    assert list(rig.dead_letters(Entity.CONTACTS)) == ["c7@shop.example"]
    assert rig.counted(Entity.CONTACTS) == {"delivered": 15, "dead_letter": 1}


def test_the_flat_schemes_refusal_is_known_by_its_text_too(rig):
    text = "Your account has generated excess API activity and is being temporarily capped"
    Once(rig, "PUT", INSIGHT_IMPORT, (400, {"message": text}))
    rig.product("A")
    rig.run(2 * 3600, pace=5.0)
    first, again = rig.times(INSIGHT_IMPORT)
    assert again - first >= 60
    assert rig.dead_letters(Entity.PRODUCTS) == {}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}


def test_the_deadline_counts_from_when_an_import_was_sent_however_long_its_batch_had_waited(rigs):
    rig = rigs({"import_seconds": 20.0}, loader_import_deadline_seconds=300.0)
    Once(rig, "PUT", INSIGHT_IMPORT, (403, None))
    rig.product("A")
    rig.turn_for(400)
    assert stops(rig) == [("products", "unknown_answer")]
    rig.release(Entity.PRODUCTS)
    rig.run(120)
    assert len(rig.bodies(INSIGHT_IMPORT)) == 2
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1}
