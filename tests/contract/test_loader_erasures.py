"""A shopper who is to be forgotten: deleted at Dotdigital, orders first, and never sent again."""

from datetime import timedelta

import pytest

from estarsync_core.control import Erasure, Resync, erased_key
from estarsync_core.entities import Entity, Reason
from estarsync_core.topics import DELIVERED

ERASED = Reason.ERASED
WHO = "aroha@shop.example"
CONTACT = f"/contacts/v3/email/{WHO}"


def block(rig, email: str = WHO) -> None:
    """Put an e-mail on the block-list, as `estarsync erase` does."""
    rig.people.say(erased_key(email), Erasure("1", rig.clock.now()))
    rig.turn_for(1.5)


def deletions(rig) -> list[str]:
    return [each.url.path for each in rig.requests if each.method == "DELETE"]


def test_an_erased_contact_is_deleted_after_its_orders(rig):
    rig.contact(WHO, FIRSTNAME="Aroha")
    for number in range(3):
        rig.order(f"O-{number}", WHO)
    rig.order("O-9", "other@shop.example")
    rig.run()
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    for number in range(3):
        rig.tombstone(Entity.ORDERS, f"O-{number}", ERASED)
    rig.run()
    assert rig.held(WHO) is None
    assert [each.key for each in rig.box.account.collection("orders").rows] == ["O-9"]
    assert deletions(rig)[-1] == CONTACT
    assert len(deletions(rig)) == 4
    assert last_rows(rig)[f"contacts:{WHO}"] is None
    assert rig.attempts(Entity.CONTACTS, WHO) == [("delivered", ""), ("removed", "")]
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "bare_contact": 1, "removed": 1}
    assert rig.violations == {}


def test_an_erasure_does_not_wait_for_its_orders_tombstones(rig):
    rig.contact(WHO)
    rig.order("O-1", WHO)
    rig.run()
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    assert rig.held(WHO) is None
    assert rig.states()["orders:O-1"]["outcome"] == "removed"
    rig.tombstone(Entity.ORDERS, "O-1", ERASED)
    before = len(rig.requests)
    rig.run()
    assert len(rig.requests) == before


def test_an_erasure_is_asked_for_although_we_know_of_no_such_contact(rig):
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    assert deletions(rig) == [CONTACT]
    assert rig.states()[f"contacts:{WHO}"]["there"] is False
    rig.kill()
    rig.producer.offsets.clear()
    rig.kill()
    rig.turn_for(5)
    assert len(deletions(rig)) == 1


def test_a_refusal_is_reported_with_its_code(rig):
    rig.contact(WHO)
    rig.run()
    rig.held(WHO).email_status = "suppressed"
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    code = "contacts:invalidContactStatus"
    assert rig.held(WHO) is not None
    assert rig.attempts(Entity.CONTACTS, WHO)[-1] == ("dead_letter", code)
    assert rig.dead_letters(Entity.CONTACTS) == {WHO: code}
    assert rig.states()[f"contacts:{WHO}"]["there"] is True
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "dead_letter": 1}
    rig.turn_for(2)
    assert rig.producer.offsets["t.dotdigital.contacts.v1", 0] == 2


def test_nothing_of_a_blocked_shopper_is_sent_and_no_bare_contact_comes_back(rig):
    rig.contact(WHO)
    rig.run()
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    rig.contact(WHO, FIRSTNAME="Again")
    rig.order("O-1", WHO)
    rig.order("O-2", "Other@shop.example".lower())
    rig.run()
    assert rig.held(WHO) is None
    assert rig.record("orders", "O-1") is None
    assert rig.record("orders", "O-2") is not None
    assert rig.counted(Entity.CONTACTS)["blocked"] == 1
    assert rig.counted(Entity.ORDERS) == {"blocked": 1, "delivered": 1}
    rig.turn_for(2)
    assert rig.producer.offsets["t.dotdigital.orders.v1", 0] == 2
    rig.kill()
    rig.contact(WHO, FIRSTNAME="And again")
    rig.run()
    assert rig.held(WHO) is None


def test_what_waits_already_is_forgotten_when_the_block_comes(rigs):
    rig = rigs(loader_linger_seconds=600.0)
    rig.contact(WHO, FIRSTNAME="Aroha")
    rig.order("O-1", WHO)
    rig.order("O-2", "guest@shop.example")
    rig.turn_for(1)
    block(rig)
    block(rig, "guest@shop.example")
    rig.turn_for(2)
    assert rig.waiting == 0
    assert rig.counted(Entity.CONTACTS) == {"blocked": 1}
    assert rig.counted(Entity.ORDERS) == {"blocked": 2}
    assert rig.box.account.contacts.find("email", WHO) is None


def test_an_import_in_flight_is_undone_by_the_erasure(rigs):
    rig = rigs({"import_seconds": 5.0})
    rig.contact(WHO)
    rig.order("O-1", "guest@shop.example")
    rig.run(until=lambda: rig.bodies("/contacts/v3/import"))
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    assert rig.held(WHO) is None
    assert rig.violations == {}


@pytest.mark.parametrize("answer", [(503, None), (0, None), (429, {"errorCode": "server:tooManyRequests"})])
def test_a_failing_deletion_is_made_again(rig, answer):
    rig.contact(WHO)
    rig.run()
    answers = iter([answer] * 3)
    rig.answer(lambda request: next(answers, None) if request.method == "DELETE" else None)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run(300)
    assert rig.held(WHO) is None
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "removed": 1}


def test_an_answer_that_nobody_understands_stops_the_lane_and_a_person_releases_it(rig):
    rig.contact(WHO)
    rig.run()
    rig.answer(lambda request: (418, None) if request.method == "DELETE" else None)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run(until=lambda: rig.lanes.stopped(Entity.CONTACTS))
    sent = len(deletions(rig))
    rig.turn_for(60)
    assert len(deletions(rig)) == sent
    rig.answer(lambda _: None)
    rig.release(Entity.CONTACTS)
    rig.run()
    assert rig.held(WHO) is None


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("after", [False, True])
def test_a_loader_killed_beside_the_deletion_finishes_it(rig, after):
    rig.contact(WHO)
    rig.order("O-1", WHO)
    rig.run()

    def killed(request):
        if request.method == "DELETE" and request.url.path == CONTACT:
            if after:
                rig.box.handle(request)
            raise Killed

    rig.answer(killed)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    with pytest.raises(Killed):
        rig.run()
    rig.answer(lambda _: None)
    rig.kill()
    rig.run()
    assert rig.held(WHO) is None
    assert rig.record("orders", "O-1") is None
    assert rig.states()[f"contacts:{WHO}"]["outcome"] == "removed"


def test_one_who_comes_back_once_the_block_is_lifted_is_synced_again(rig):
    rig.contact(WHO)
    rig.run()
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    rig.people.say(erased_key(WHO), None)
    rig.turn_for(1.5)
    rig.contact(WHO, FIRSTNAME="Back")
    rig.order("O-1", WHO)
    rig.run()
    assert rig.held(WHO).fields["FIRSTNAME"] == "Back"
    assert rig.record("orders", "O-1") is not None


GUEST = "guest@shop.example"


def last_rows(rig) -> dict[str, bytes | None]:
    """What a compacted `estarsync.delivered.v1` would hold, tombstones too."""
    return {(each.key or b"").decode(): each.value for each in rig.written(DELIVERED)}


def test_a_guest_who_is_erased_leaves_no_bare_contact(rig):
    rig.order("O-1", GUEST)
    rig.order("O-2", WHO)
    rig.run()
    assert rig.held(GUEST) is not None
    block(rig, GUEST)
    rig.run()
    assert rig.held(GUEST) is None
    assert rig.held(WHO) is not None
    assert rig.record("orders", "O-1") is None
    rig.tombstone(Entity.ORDERS, "O-1", ERASED)
    rig.run()
    assert deletions(rig)[-1] == f"/contacts/v3/email/{GUEST}"
    assert len(deletions(rig)) == 2
    assert rig.violations == {}


@pytest.mark.parametrize("restart", [False, True])
def test_a_guest_whose_bare_contact_is_on_its_way_is_erased_after_that(rigs, restart):
    rig = rigs({"import_seconds": 5.0})
    rig.order("O-1", GUEST)
    rig.run(until=lambda: rig.bodies("/contacts/v3/import"))
    rig.people.say(erased_key(GUEST), Erasure("1", rig.clock.now()))
    if restart:
        rig.kill()
    rig.turn_for(1.5)
    rig.tombstone(Entity.ORDERS, "O-1", ERASED)
    rig.run()
    rig.turn_for(5)
    assert rig.held(GUEST) is None
    assert rig.record("orders", "O-1") is None
    rig.people.say(erased_key(GUEST), None)
    rig.turn_for(1.5)
    rig.order("O-3", GUEST)
    rig.run()
    assert rig.held(GUEST) is not None


def test_a_contact_that_the_shop_gave_up_earlier_is_erased_too(rig):
    rig.contact(WHO)
    rig.run()
    rig.tombstone(Entity.CONTACTS, WHO)
    rig.run()
    rig.turn_for(2)
    assert rig.states()[f"contacts:{WHO}"]["outcome"] == "kept"
    block(rig)
    rig.run()
    assert rig.held(WHO) is None


def test_a_refused_guest_is_asked_for_once_by_each_process(rig):
    rig.order("O-1", GUEST)
    rig.run()
    rig.held(GUEST).email_status = "suppressed"
    block(rig, GUEST)
    rig.run()
    block(rig, "somebody@else.example")
    rig.run()
    assert len([path for path in deletions(rig) if path.startswith("/contacts")]) == 1
    assert rig.states()[f"contacts:{GUEST}"]["outcome"] == "dead_letter"


def test_no_e_mail_is_left_in_what_was_delivered(rig):
    rig.contact(WHO)
    rig.order("O-1", WHO)
    rig.order("O-2", GUEST)
    rig.run()
    for email in (WHO, GUEST):
        block(rig, email)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    for number in ("O-1", "O-2"):
        rig.tombstone(Entity.ORDERS, number, ERASED)
    rig.run()
    rows = last_rows(rig)
    assert rows[f"contacts:{WHO}"] is None
    assert rows[f"contacts:{GUEST}"] is None
    assert {rig.states()[f"orders:{number}"]["email"] for number in ("O-1", "O-2")} == {None}
    # Everything once more, from the beginning: the block-list keeps it away.
    rig.kill()
    rig.producer.offsets.clear()
    rig.kill()
    rig.run()
    assert rig.held(WHO) is None
    assert rig.record("orders", "O-1") is None
    assert last_rows(rig)[f"contacts:{WHO}"] is None


def test_what_a_late_block_finds_of_one_who_is_gone_is_forgotten(rig):
    rig.contact(WHO)
    rig.run()
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    assert last_rows(rig)[f"contacts:{WHO}"] is not None
    block(rig)
    assert last_rows(rig)[f"contacts:{WHO}"] is None


FORMER = "former@shop.example"


def moved(rig, *, customer: str | None = "7", taken: bool = False) -> None:
    """A shopper with an order whose e-mail was another one before; where the new one is taken, both contacts are there."""
    rig.contact(FORMER, CUSTOMER_ID=customer, FIRSTNAME="Aroha")
    rig.order("O-1", FORMER)
    if taken:
        rig.contact(WHO, CUSTOMER_ID="7")
    rig.run()
    rig.contact(WHO, CUSTOMER_ID="7", renamed_from=FORMER)
    rig.tombstone(Entity.CONTACTS, FORMER, Reason.RENAMED)
    rig.run()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("customer", "taken"), [("7", False), ("7", True), (None, False)])
def test_nothing_of_an_erased_shopper_stays_or_comes_back_under_a_former_e_mail(rig, customer, taken, known):
    moved(rig, customer=customer, taken=taken)
    block(rig)
    if known:  # to the command, which then blocks it as well
        block(rig, FORMER)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    rig.turn_for(2)
    rig.run()
    for _ in range(2):
        assert [rig.held(email) for email in (WHO, FORMER)] == [None, None]
        assert rig.record("orders", "O-1") is None
        rig.order("O-1", FORMER, total=2.0)  # mapped anew, before the shop's tombstone
        rig.people.say(
            "resync/1", Resync("1", Entity.ORDERS, "typed", rig.clock.now() + timedelta(seconds=1))
        )
        rig.kill()
        rig.turn_for(30)
        rig.run()
    assert rig.violations == {}


def test_another_customers_contact_under_a_former_e_mail_is_not_erased(rig):
    moved(rig)
    rig.contact(FORMER, CUSTOMER_ID="8", FIRSTNAME="Rua")
    rig.run()
    block(rig)
    rig.tombstone(Entity.CONTACTS, WHO, ERASED)
    rig.run()
    rig.turn_for(2)
    rig.run()
    assert rig.held(WHO) is None
    assert rig.held(FORMER).fields["FIRSTNAME"] == "Rua"
