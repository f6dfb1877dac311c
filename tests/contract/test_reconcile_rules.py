"""What reconcile makes of renamed, kept, erased and filtered records: the truth, and no false alarm."""

from estarsync_core.entities import Entity, Reason

OLD, NEW, GUEST = "old@shop.example", "new@shop.example", "guest@shop.example"
CONTACTS, ORDERS = Entity.CONTACTS, Entity.ORDERS


def numbers(comparison) -> dict[str, int]:
    names = ("agree", "different", "missing", "extra", "dead_letters", "kept", "filtered")
    return {name: getattr(comparison, name) for name in names if getattr(comparison, name)}


def test_a_renamed_contact_and_its_orders_agree(rig):
    rig.contact(OLD, CUSTOMER_ID="7")
    rig.order("O-1", OLD)
    rig.run()
    rig.contact(NEW, CUSTOMER_ID="7", renamed_from=OLD)
    rig.tombstone(CONTACTS, OLD, Reason.RENAMED)
    rig.order("O-2", OLD)
    rig.run()
    rig.turn_for(2)
    found = rig.reconciled()
    assert numbers(found[CONTACTS]) == {"agree": 1}
    assert numbers(found[ORDERS]) == {"agree": 2}


def test_a_contact_that_could_not_be_renamed_is_kept_and_not_extra(rig):
    rig.contact(OLD, CUSTOMER_ID="8")
    rig.order("O-1", OLD)
    rig.run()
    rig.contact(NEW, CUSTOMER_ID="7", renamed_from=OLD)
    rig.tombstone(CONTACTS, OLD, Reason.RENAMED)
    rig.run()
    rig.turn_for(2)
    assert numbers(rig.reconciled()[CONTACTS]) == {"agree": 2}  # its order still wants it
    rig.tombstone(ORDERS, "O-1")
    rig.run()
    rig.turn_for(2)
    found = rig.reconciled()[CONTACTS]
    assert numbers(found) == {"agree": 1, "kept": 1}
    assert found.in_agreement


def test_what_nobody_knows_of_is_extra(rig):
    rig.contact(OLD)
    rig.run()
    rig.topics.log["t.dotdigital.contacts.v1"].clear()
    assert numbers(rig.reconciled()[CONTACTS]) == {"extra": 1}


def test_a_refused_erasure_is_a_dead_letter_and_a_granted_one_nothing(rig):
    rig.contact(OLD)
    rig.contact(NEW)
    rig.run()
    rig.held(OLD).email_status = "suppressed"
    for email in (OLD, NEW):
        rig.tombstone(CONTACTS, email, Reason.ERASED)
    rig.run()
    rig.turn_for(2)
    assert numbers(rig.reconciled()[CONTACTS]) == {"dead_letters": 1}


def test_what_is_out_of_scope_is_not_missing_and_what_should_be_there_is(rigs):
    rig = rigs(contact_scope="subscribed")
    rig.contact(OLD, NEWSLETTER_SUBSCRIBE=True)
    rig.contact(NEW, NEWSLETTER_SUBSCRIBE=False)
    for number, email in enumerate([OLD, NEW, GUEST]):
        rig.order(f"O-{number}", email)
    rig.run()
    rig.turn_for(2)
    found = rig.reconciled()
    assert numbers(found[CONTACTS]) == {"agree": 1, "filtered": 1}
    assert numbers(found[ORDERS]) == {"agree": 1, "filtered": 2}
    rig.contact(OLD, NEWSLETTER_SUBSCRIBE=False)
    rig.run()
    rig.turn_for(2)
    assert numbers(rig.reconciled()[CONTACTS]) == {"agree": 1, "filtered": 1}
    rig.delete(OLD)
    found = rig.reconciled()
    assert numbers(found[CONTACTS]) == {"missing": 1, "filtered": 1}
    assert numbers(found[ORDERS]) == {"missing": 1, "filtered": 2}


def test_a_missing_contact_that_only_orders_know_is_among_what_is_to_be_healed(rig):
    rig.order("O-1", GUEST)
    rig.run()
    rig.delete(GUEST)
    found, cure = rig.reconciled_and_cure()
    assert numbers(found[CONTACTS]) == {"missing": 1}
    assert cure[CONTACTS] == [(GUEST, "missing")]


def test_the_canary_is_left_out_on_both_sides(rig):
    rig.contact(OLD)
    rig.contact(NEW)
    rig.order("O-1", NEW)
    rig.order("O-2", OLD)
    rig.run()
    without = [(CONTACTS, NEW), (ORDERS, "O-1")]
    found, _ = rig.reconciled_and_cure(without)
    assert numbers(found[CONTACTS]) == numbers(found[ORDERS]) == {"agree": 1}
    assert found[ORDERS].revenue_actual == found[ORDERS].revenue_expected
    rig.delete(NEW)
    found, _ = rig.reconciled_and_cure(without)
    assert found[CONTACTS].in_agreement
    assert found[ORDERS].in_agreement
