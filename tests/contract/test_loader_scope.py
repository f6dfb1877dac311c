"""CONTACT_SCOPE=subscribed: who did not subscribe is not created, and nobody who was created is forgotten."""

import pytest

from estarsync_core.dotdigital.scope import ContactScope
from estarsync_core.entities import Entity, Reason

WHO, OTHER = "aroha@shop.example", "tama@shop.example"
IMPORT = "/contacts/v3/import"


@pytest.fixture
def rig(rigs):
    return rigs(contact_scope="subscribed")


def subscribed(rig, email: str = WHO, *, wants: bool | None = True, **more: object) -> None:
    rig.contact(email, NEWSLETTER_SUBSCRIBE=wants, **more)


def settled(rig) -> None:
    """Run until all is settled and written down."""
    rig.run()
    rig.turn_for(2)


def rescoped(rig, scope: str) -> None:
    """Start the loader with another scope."""
    rig.settings = rig.settings.model_copy(update={"contact_scope": ContactScope(scope)})
    rig.kill()


def test_only_subscribers_are_created(rig):
    subscribed(rig)
    subscribed(rig, OTHER, wants=False)
    subscribed(rig, "nobody@shop.example", wants=None)
    settled(rig)
    assert [each.email for each in rig.box.account.contacts] == [WHO]
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "filtered": 2}
    assert rig.states()[f"contacts:{OTHER}"]["outcome"] == "filtered"
    assert rig.producer.offsets["t.dotdigital.contacts.v1", 0] == 3


def test_an_unsubscribe_of_somebody_who_was_created_arrives(rig):
    subscribed(rig)
    settled(rig)
    rig.kill()
    subscribed(rig, wants=False)
    settled(rig)
    assert rig.held(WHO).fields["NEWSLETTER_SUBSCRIBE"] is False
    subscribed(rig, wants=False, FIRSTNAME="Aroha")
    settled(rig)
    assert rig.held(WHO).fields["FIRSTNAME"] == "Aroha"


def test_an_unsubscribe_before_anything_was_sent_creates_nobody(rig):
    subscribed(rig)
    subscribed(rig, wants=False)
    settled(rig)
    assert len(rig.box.account.contacts) == 0
    assert rig.counted(Entity.CONTACTS) == {"superseded": 1, "filtered": 1}


@pytest.mark.parametrize("killed", [False, True])
def test_an_unsubscribe_during_the_import_that_creates_arrives(rigs, killed):
    rig = rigs({"import_seconds": 10.0}, contact_scope="subscribed")
    subscribed(rig)
    rig.run(until=lambda: rig.bodies(IMPORT))
    if killed:
        rig.calls.held = True
        rig.kill()
    subscribed(rig, wants=False)
    rig.run(600)
    assert rig.held(WHO).fields["NEWSLETTER_SUBSCRIBE"] is False


def test_an_unsubscribe_arrives_although_nobody_knows_whether_the_import_before_did(rig):
    rig.fault("import_report_omits", share=1.0)
    subscribed(rig)
    rig.run(until=lambda: rig.attempts(Entity.CONTACTS, WHO))
    rig.kill()
    subscribed(rig, wants=False)
    settled(rig)
    assert rig.held(WHO).fields["NEWSLETTER_SUBSCRIBE"] is False


def test_orders_of_those_out_of_scope_are_filtered_and_hold_nothing_back(rig):
    subscribed(rig)
    subscribed(rig, OTHER, wants=False)
    rig.order("O-1", WHO)
    rig.order("O-2", OTHER)
    rig.order("O-3", "guest@shop.example")
    settled(rig)
    assert [each.email for each in rig.box.account.contacts] == [WHO]
    assert rig.counted(Entity.ORDERS) == {"delivered": 1, "filtered": 2}
    assert rig.producer.offsets["t.dotdigital.orders.v1", 0] == 3
    rig.kill()
    rig.producer.offsets.clear()
    rig.kill()
    settled(rig)
    assert rig.counted(Entity.ORDERS) == {"superseded": 3}


@pytest.mark.parametrize("killed", [False, True])
def test_one_who_subscribes_later_gets_the_earlier_orders(rig, killed):
    subscribed(rig, wants=False)
    for number in range(30):
        rig.order(f"O-{number}", WHO, total=1.0)
    rig.order("O-7", WHO, total=7.0)
    rig.order("X", OTHER)
    settled(rig)
    assert rig.box.account.collection("orders") is None or not rig.box.account.collection("orders").rows
    if killed:
        rig.kill()
    subscribed(rig)
    settled(rig)
    assert len(rig.box.account.collection("orders").rows) == 30
    assert rig.record("orders", "O-7")["order_total"] == 7.0
    assert rig.record("orders", "X") is None
    assert rig.states()["orders:O-7"]["outcome"] == "delivered"
    assert rig.violations == {}


def test_a_loader_killed_between_the_contact_and_its_orders_loses_none(rig):
    subscribed(rig, wants=False)
    rig.order("O-1", WHO)
    settled(rig)
    rig.loop._control._again_at = 1e9
    subscribed(rig)
    rig.run(until=lambda: rig.states()[f"contacts:{WHO}"]["there"])
    rig.turn_for(3)
    assert rig.record("orders", "O-1") is None
    rig.kill()
    settled(rig)
    assert rig.record("orders", "O-1") is not None


def test_an_order_that_comes_again_while_it_is_out_of_scope_is_read_in_its_latest_version(rig):
    rig.order("O-1", WHO, total=1.0)
    settled(rig)
    rig.order("O-1", WHO, total=2.0)
    settled(rig)
    subscribed(rig)
    settled(rig)
    assert rig.record("orders", "O-1")["order_total"] == 2.0


def test_an_order_that_was_removed_meanwhile_does_not_come_back(rig):
    rig.order("O-1", WHO)
    settled(rig)
    rig.tombstone(Entity.ORDERS, "O-1")
    settled(rig)
    subscribed(rig)
    settled(rig)
    assert rig.record("orders", "O-1") is None


def test_with_a_wider_scope_everything_comes(rig):
    subscribed(rig, wants=False, FIRSTNAME="Aroha")
    rig.order("O-1", WHO)
    rig.order("O-2", "guest@shop.example")
    settled(rig)
    rescoped(rig, "all")
    settled(rig)
    assert rig.held(WHO).fields["FIRSTNAME"] == "Aroha"
    assert {key for key in ("O-1", "O-2") if rig.record("orders", key)} == {"O-1", "O-2"}
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "bare_contact": 1}


def test_with_a_narrower_scope_those_who_are_there_stay_up_to_date(rigs):
    rig = rigs()
    subscribed(rig, wants=False)
    settled(rig)
    rescoped(rig, "subscribed")
    subscribed(rig, wants=False, FIRSTNAME="Aroha")
    rig.order("O-1", WHO)
    settled(rig)
    assert rig.held(WHO).fields["FIRSTNAME"] == "Aroha"
    assert rig.record("orders", "O-1") is not None


def test_a_new_address_of_somebody_who_was_created_is_no_new_contact(rig):
    subscribed(rig, CUSTOMER_ID="7")
    settled(rig)
    rig.contact(OTHER, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=False, renamed_from=WHO)
    rig.tombstone(Entity.CONTACTS, WHO, Reason.RENAMED)
    settled(rig)
    assert [each.email for each in rig.box.account.contacts] == [OTHER]
    assert rig.held(OTHER).fields["NEWSLETTER_SUBSCRIBE"] is False


def test_a_new_address_that_is_somebody_elses_is_filtered(rig):
    subscribed(rig, CUSTOMER_ID="8")
    settled(rig)
    rig.contact(OTHER, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=False, renamed_from=WHO)
    settled(rig)
    assert [each.email for each in rig.box.account.contacts] == [WHO]
    assert rig.states()[f"contacts:{OTHER}"]["outcome"] == "filtered"
