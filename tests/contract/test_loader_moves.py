"""An order whose e-mail changes goes over to the other contact: Dotdigital holds a key under one contact only."""

import pytest

from estarsync_core.entities import Entity, Lane

INSIGHT_IMPORT = "/insightData/v3/import"
A, B, C = "a@shop.example", "b@shop.example", "c@shop.example"


def owner(rig, key: str = "O-1") -> str | None:
    """The e-mail of the contact under which the account holds an order."""
    record = rig.box.account.collection("orders").find(key)
    return None if record is None else rig.box.account.contacts.find("contactId", record.owner).email


def test_an_order_moves_to_its_new_contact(rig):
    rig.order("O-1", A, total=1.0)
    rig.order("O-2", A)
    rig.run()
    rig.order("O-1", B, total=2.0)
    rig.run()
    assert owner(rig) == B
    assert owner(rig, "O-2") == A
    assert rig.record("orders", "O-1")["order_total"] == 2.0
    assert rig.attempts(Entity.ORDERS, "O-1") == [("delivered", ""), ("moved", ""), ("delivered", "")]
    assert rig.dead_letters(Entity.ORDERS) == {}
    assert rig.counted(Entity.ORDERS) == {"delivered": 3}
    assert rig.states()["orders:O-1"]["email"] == B
    assert rig.violations == {}
    rig.order("O-1", A, total=3.0)
    rig.run()
    assert owner(rig) == A


def test_two_moves_in_a_row_are_one(rig):
    rig.order("O-1", A)
    rig.run()
    rig.order("O-1", B)
    rig.order("O-1", C)
    rig.run()
    assert owner(rig) == C
    assert rig.counted(Entity.ORDERS) == {"delivered": 2, "superseded": 1}


def test_an_order_that_moves_back_before_anything_was_sent_stays(rig):
    rig.order("O-1", A)
    rig.run()
    rig.order("O-1", B)
    rig.order("O-1", A, total=5.0)
    rig.run()
    assert owner(rig) == A
    assert not [each for each in rig.requests if each.method == "DELETE"]


def test_an_order_that_moves_while_its_import_is_open(rigs):
    rig = rigs({"import_seconds": 4.0})
    rig.order("O-1", A)
    rig.run(until=lambda: rig.bodies(INSIGHT_IMPORT))
    rig.order("O-1", B, total=2.0, lane=Lane.LIVE)
    rig.run()
    assert owner(rig) == B
    assert rig.violations == {}
    assert rig.counted(Entity.ORDERS) == {"delivered": 2}


def test_an_order_that_is_removed_while_it_moves_is_gone(rig):
    rig.order("O-1", A)
    rig.run()
    rig.calls.held = True
    rig.order("O-1", B)
    rig.run(until=lambda: any(each.method == "DELETE" for each in rig.requests))
    rig.tombstone(Entity.ORDERS, "O-1")
    rig.turn_for(1)
    rig.calls.held = False
    rig.run()
    assert rig.record("orders", "O-1") is None
    assert rig.counted(Entity.ORDERS) == {"delivered": 1, "superseded": 1, "removed": 1}


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["DELETE", "PUT"])
def test_a_loader_killed_in_the_middle_of_a_move_loses_nothing(rig, what, after):
    rig.order("O-1", A, total=1.0)
    rig.contact(B)
    rig.run()
    rig.turn_for(2)

    def killed(request):
        if request.method == what and "insightData" in request.url.path:
            if after:
                rig.box.handle(request)
            raise Killed

    rig.answer(killed)
    rig.order("O-1", B, total=2.0)
    with pytest.raises(Killed):
        rig.run()
    rig.answer(lambda _: None)
    rig.kill()
    rig.run(600)
    assert owner(rig) == B
    assert rig.record("orders", "O-1")["order_total"] == 2.0
    assert rig.dead_letters(Entity.ORDERS) == {}


def test_a_lost_deletion_is_made_again(rig):
    rig.order("O-1", A)
    rig.run()
    rig.fault("drop_after", method="DELETE", times=2)
    rig.order("O-1", B)
    rig.run(300)
    assert owner(rig) == B


@pytest.mark.parametrize("leaked", [True, False])
def test_a_key_that_a_contact_of_whom_we_know_nothing_holds_is_a_dead_letter(rigs, leaked):
    rig = rigs({"leaked_reasons": leaked})
    rig.order("O-1", A)
    rig.run()
    rig.producer.records.clear()
    rig.producer.offsets.clear()
    rig.topics.log["t.dotdigital.orders.v1"].clear()
    rig.order("O-1", B)
    rig.kill()
    rig.run()
    code = "KeyExistingForDifferentContact" if leaked else "DuplicateKey"
    assert rig.dead_letters(Entity.ORDERS) == {"O-1": code}
