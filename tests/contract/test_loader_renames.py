"""A shopper's new e-mail: the contact is renamed where it is certainly the same customer, with its history."""

import msgspec
import pytest

from estarsync_core.entities import Entity, Reason

IMPORT = "/contacts/v3/import"
OLD, NEW = "old@shop.example", "new@shop.example"


def known(rig, customer: str | None = "7") -> int:
    """A shopper whom Dotdigital knows under the old e-mail, with an order; gives the contact's id there."""
    rig.contact(OLD, CUSTOMER_ID=customer, FIRSTNAME="Tama", NEWSLETTER_SUBSCRIBE=True)
    rig.order("O-1", OLD, total=1.0)
    rig.run()
    return int(rig.held(OLD).contact_id)


def renamed(rig, customer: str | None = "7", **more: object) -> None:
    """What the poller publishes when the shop changes the e-mail."""
    rig.contact(
        NEW, CUSTOMER_ID=customer, FIRSTNAME="Tama", NEWSLETTER_SUBSCRIBE=False, renamed_from=OLD, **more
    )
    rig.tombstone(Entity.CONTACTS, OLD, Reason.RENAMED)


def asked(rig, method: str) -> list[str]:
    return [each.url.path for each in rig.requests if each.method == method and "/email/" in each.url.path]


def test_the_contact_keeps_its_id_and_its_orders(rig):
    contact = known(rig)
    renamed(rig)
    rig.run()
    assert rig.held(OLD) is None
    assert rig.held(NEW).contact_id == contact
    assert rig.held(NEW).fields["NEWSLETTER_SUBSCRIBE"] is False
    assert rig.attempts(Entity.CONTACTS, NEW) == [("renamed", ""), ("delivered", "")]
    state = rig.states()[f"contacts:{OLD}"]
    assert (state["outcome"], state["email"], state["there"]) == ("renamed", NEW, False)
    assert rig.states()["orders:O-1"]["email"] == NEW
    assert rig.violations == {}
    (patch,) = [each for each in rig.requests if each.method == "PATCH"]
    assert msgspec.json.decode(patch.content) == {"identifiers": {"email": NEW}}


def test_a_past_orders_update_goes_to_the_renamed_contact_and_no_bare_one_comes_up(rig):
    contact = known(rig)
    renamed(rig)
    rig.run()
    rig.order("O-1", OLD, total=2.0)
    rig.order("O-2", OLD)
    rig.run()
    for again in (False, True):
        assert rig.held(OLD) is None
        for key in ("O-1", "O-2"):
            assert rig.box.account.collection("orders").find(key).owner == contact
        assert rig.record("orders", "O-1")["email"] == OLD  # as the shop has it
        if not again:
            rig.kill()
            rig.order("O-2", OLD, total=5.0)
            rig.run()
    assert rig.record("orders", "O-2")["order_total"] == 5.0
    rig.tombstone(Entity.ORDERS, "O-1")
    rig.run()
    assert rig.record("orders", "O-1") is None
    assert rig.dead_letters(Entity.ORDERS) == {}


def test_somebody_else_who_takes_the_old_address_is_a_contact_of_its_own(rig):
    contact = known(rig)
    renamed(rig)
    rig.run()
    rig.contact(OLD, CUSTOMER_ID="8", FIRSTNAME="Rua")
    rig.order("O-9", OLD)
    rig.run()
    assert rig.held(OLD).contact_id != contact
    assert rig.box.account.collection("orders").find("O-9").owner == rig.held(OLD).contact_id
    assert rig.held(NEW).fields["FIRSTNAME"] == "Tama"


@pytest.mark.parametrize(
    ("theirs", "ours", "code"),
    [("7", "8", "other_customer"), ("7", None, "no_customer_id"), (None, "7", "no_customer_id")],
)
def test_another_customers_contact_is_left_alone(rig, theirs, ours, code):
    known(rig, theirs)
    renamed(rig, ours)
    rig.run()
    assert rig.held(OLD) is not None
    assert rig.held(NEW) is not None
    assert asked(rig, "PATCH") == []
    assert rig.attempts(Entity.CONTACTS, NEW) == [("not_renamed", code), ("delivered", "")]


def test_a_contact_that_is_not_there_is_simply_imported(rig):
    renamed(rig)
    rig.run()
    assert rig.held(NEW) is not None
    assert rig.attempts(Entity.CONTACTS, NEW)[0] == ("not_renamed", "contacts:contactNotFound")


def test_a_conflict_is_reported_and_both_stay(rig):
    known(rig)
    rig.contact(NEW, CUSTOMER_ID="7")
    rig.run()
    renamed(rig)
    rig.run()
    assert rig.attempts(Entity.CONTACTS, NEW)[1:] == [
        ("not_renamed", "contacts:idAlreadyExists"),
        ("delivered", ""),
    ]
    assert rig.held(OLD) is not None
    assert rig.states()[f"contacts:{OLD}"]["outcome"] == "kept"
    assert rig.dead_letters(Entity.CONTACTS) == {}


def test_a_newer_version_does_not_make_the_rename_forgotten_not_even_by_a_restart(rig):
    contact = known(rig)
    rig.lanes.stop(Entity.CONTACTS, "test", "a person looks")
    renamed(rig)
    rig.contact(NEW, CUSTOMER_ID="7", FIRSTNAME="Later")
    rig.turn_for(3)
    rig.kill()
    rig.turn_for(3)
    rig.release(Entity.CONTACTS)
    rig.run()
    assert rig.held(NEW).contact_id == contact
    assert rig.held(NEW).fields["FIRSTNAME"] == "Later"


def test_a_rename_waits_for_what_is_in_flight_under_the_old_address(rigs):
    rig = rigs({"import_seconds": 5.0})
    contact = known(rig)
    rig.contact(OLD, CUSTOMER_ID="7", FIRSTNAME="Newer")
    rig.order("O-2", OLD)
    rig.run(until=lambda: len(rig.bodies(IMPORT)) == 2)
    renamed(rig)
    rig.run()
    assert rig.held(NEW).contact_id == contact
    assert rig.held(OLD) is None
    assert rig.box.account.collection("orders").find("O-2").owner == contact
    assert rig.violations == {}


def test_two_who_pass_an_address_on_are_renamed_one_after_the_other(rig):
    contacts = {}
    for customer, email in (("1", OLD), ("2", NEW)):
        rig.contact(email, CUSTOMER_ID=customer)
    rig.run()
    for email in (OLD, NEW):
        contacts[email] = rig.held(email).contact_id
    rig.contact("third@shop.example", CUSTOMER_ID="2", renamed_from=NEW)
    rig.contact(NEW, CUSTOMER_ID="1", renamed_from=OLD)
    rig.tombstone(Entity.CONTACTS, OLD, Reason.RENAMED)
    rig.run()
    assert rig.held("third@shop.example").contact_id == contacts[NEW]
    assert rig.held(NEW).contact_id == contacts[OLD]
    assert rig.held(OLD) is None
    assert rig.violations == {}


def test_there_and_back_again(rig):
    contact = known(rig)
    renamed(rig)
    rig.run()
    rig.contact(OLD, CUSTOMER_ID="7", FIRSTNAME="Tama", renamed_from=NEW)
    rig.tombstone(Entity.CONTACTS, NEW, Reason.RENAMED)
    rig.order("O-1", OLD, total=9.0)
    rig.run()
    assert rig.held(OLD).contact_id == contact
    assert rig.held(NEW) is None
    assert rig.record("orders", "O-1")["order_total"] == 9.0


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["GET", "PATCH", "PUT"])
def test_a_loader_killed_in_the_middle_of_a_rename_finishes_it(rig, what, after):
    contact = known(rig)
    rig.turn_for(2)

    def killed(request):
        if request.method == what and "/import/" not in request.url.path:
            if after:
                rig.box.handle(request)
            raise Killed

    rig.answer(killed)
    renamed(rig)
    with pytest.raises(Killed):
        rig.run()
    rig.answer(lambda _: None)
    rig.kill()
    rig.run(600)
    assert rig.held(OLD) is None
    assert rig.held(NEW).contact_id == contact
    rig.order("O-1", OLD, total=3.0)
    rig.run()
    assert rig.box.account.collection("orders").find("O-1").owner == contact
    assert rig.record("orders", "O-1")["order_total"] == 3.0


@pytest.mark.parametrize("kind", ["http_503", "drop_after", "drop_before"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_failing_calls_are_made_again(rig, kind, method):
    contact = known(rig)
    rig.fault(kind, path="/contacts/v3/{identifier}", method=method, times=2)
    renamed(rig)
    rig.run(300)
    assert rig.held(NEW).contact_id == contact
    assert rig.states()["orders:O-1"]["email"] == NEW


def test_a_refused_patch_ends_in_a_plain_import(rig):
    known(rig)
    rig.answer(
        lambda request: (
            (400, {"errorCode": "contacts:invalidValue", "description": "x"})
            if request.method == "PATCH"
            else None
        )
    )
    renamed(rig)
    rig.run()
    assert rig.attempts(Entity.CONTACTS, NEW)[0] == ("not_renamed", "contacts:invalidValue")
    assert rig.held(NEW) is not None


def test_a_contact_that_the_shop_no_longer_has_is_remembered_as_kept(rig):
    rig.contact(OLD)
    rig.run()
    rig.tombstone(Entity.CONTACTS, OLD, Reason.REMOVED)
    rig.turn_for(2)
    state = rig.states()[f"contacts:{OLD}"]
    assert (state["outcome"], state["there"]) == ("kept", True)
    assert rig.counted(Entity.CONTACTS) == {"delivered": 1, "removed": 1}
    rig.contact(OLD, FIRSTNAME="Back")
    rig.run()
    assert rig.states()[f"contacts:{OLD}"]["outcome"] == "delivered"


NEWER = "newer@shop.example"


def renamed_twice(rig) -> None:
    """Two new e-mails before Dotdigital has heard of the first."""
    renamed(rig)
    rig.contact(NEWER, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=False, renamed_from=NEW)
    rig.tombstone(Entity.CONTACTS, NEW, Reason.RENAMED)


def test_two_changes_of_the_e_mail_in_a_row_take_the_history_along(rig):
    contact = known(rig)
    renamed_twice(rig)
    rig.order("O-2", NEW)
    rig.run()
    assert [rig.held(email) for email in (OLD, NEW)] == [None, None]
    assert rig.held(NEWER).contact_id == contact
    assert {each.owner for each in rig.box.account.collection("orders").rows} == {contact}
    assert rig.attempts(Entity.CONTACTS, NEWER) == [("renamed", ""), ("delivered", "")]
    assert rig.counted(Entity.CONTACTS).get("bare_contact") is None
    assert rig.reconciled()[Entity.CONTACTS].in_agreement


def test_a_renamed_contact_that_unsubscribed_next_is_told_although_scope_leaves_it_out(rigs):
    rig = rigs(contact_scope="subscribed", loader_linger_seconds=60.0)
    rig.contact(OLD, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=True)
    rig.run(300)
    rig.contact(NEW, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=True, renamed_from=OLD)
    rig.contact(NEW, CUSTOMER_ID="7", NEWSLETTER_SUBSCRIBE=False)
    rig.tombstone(Entity.CONTACTS, OLD, Reason.RENAMED)
    rig.run(300)
    assert rig.held(OLD) is None
    assert rig.held(NEW).fields["NEWSLETTER_SUBSCRIBE"] is False
