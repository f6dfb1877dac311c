"""A loader that starts far behind reads what is new beside its backlog: live records overtake it, and nothing else changes."""

import random

import pytest

from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.topics import typed_topic

MANY = 6000


def behind(rig, records: int = MANY) -> None:
    """A loader that starts with so many records unread."""
    rig.run()
    rig.close()
    for number in range(records):
        rig.product(f"P{number}")
    rig.apart = True
    rig.start()


def accepted(rig) -> bool:
    """Whether Dotdigital has accepted an import."""
    return any(each["state"] == "accepted" for each in rig.imports())


def test_a_live_record_overtakes_the_backlog(rig):
    behind(rig)
    rig.loop.turn()
    rig.product("NOW", lane=Lane.LIVE)
    rig.run(until=lambda: accepted(rig))
    assert not rig.topics.backlog.closed
    rig.run(600)
    assert rig.record("catalog_estar", "NOW")
    assert all(each.in_agreement for each in rig.reconciled().values())


def test_offsets_wait_for_the_backlog(rig):
    behind(rig)
    topic = rig.settings.topic(typed_topic(Entity.PRODUCTS))
    rig.product("NOW", lane=Lane.LIVE)
    rig.run(until=lambda: accepted(rig))
    rig.loop.commit()
    assert not rig.topics.backlog.closed
    assert rig.producer.offsets.get((topic, 0), 0) < MANY
    rig.apart = False
    rig.kill()
    rig.run(600)
    rig.loop.commit()
    assert rig.producer.offsets[topic, 0] == MANY + 1
    assert all(each.in_agreement for each in rig.reconciled().values())


def test_an_older_version_in_the_backlog_never_lands(rig):
    rig.close()
    rig.product("A", price=1.0)
    for number in range(MANY):
        rig.product(f"P{number}")
    rig.product("A", price=2.0)
    rig.apart = True
    rig.start()
    rig.product("A", price=3.0, lane=Lane.LIVE)
    rig.run(600)
    assert rig.attempts(Entity.PRODUCTS, "A") == [("delivered", "")]
    assert rig.record("catalog_estar", "A")["price"] == 3.0


def test_a_rename_in_the_backlog_comes_before_what_is_new(rig):
    rig.contact("old@shop.example", CUSTOMER_ID="7", FIRSTNAME="Tama")
    rig.run()
    contact = rig.held("old@shop.example").contact_id
    rig.close()
    rig.contact("new@shop.example", CUSTOMER_ID="7", FIRSTNAME="Tama", renamed_from="old@shop.example")
    rig.tombstone(Entity.CONTACTS, "old@shop.example", Reason.RENAMED)
    rig.apart = True
    rig.start()
    rig.contact("new@shop.example", CUSTOMER_ID="7", FIRSTNAME="Tamati", lane=Lane.LIVE)
    rig.run()
    assert rig.held("old@shop.example") is None
    assert rig.held("new@shop.example").contact_id == contact
    assert rig.held("new@shop.example").fields["FIRSTNAME"] == "Tamati"


@pytest.mark.parametrize("seed", range(10))
def test_it_ends_as_if_it_had_been_read_in_order(rigs, seed):
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    rig = rigs(chunk=7, seed=seed, account={"import_seconds": 3.0})
    for number in range(8):  # else an order that is removed leaves its bare contact
        rig.contact(f"p{number}@shop.example")
    for _ in range(dice.randint(1, 4)):
        for _ in range(dice.randrange(60)):
            something(rig, dice)
        rig.turn_for(dice.choice([0.0, 0.5, 5.0]))
        rig.close()
        for _ in range(dice.randrange(120)):
            something(rig, dice)
        rig.apart = True
        rig.start()
        for _ in range(dice.randrange(30)):
            something(rig, dice)
            if dice.random() < 0.3:
                rig.loop.turn()
    rig.run(600)
    found = rig.reconciled()
    assert all(each.in_agreement for each in found.values()), found
    assert rig.violations == {}
    assert not any(rig.dead_letters(entity) for entity in Entity)


def something(rig, dice: random.Random) -> None:
    """Publish a change of some record."""
    lane = dice.choice([Lane.LIVE, Lane.BULK])
    person = f"p{dice.randrange(8)}@shop.example"
    match dice.randrange(7):
        case 0 | 1:
            rig.contact(
                person, FIRSTNAME=str(dice.randrange(2)), NEWSLETTER_SUBSCRIBE=dice.random() < 0.5, lane=lane
            )
        case 2:
            rig.product(f"S{dice.randrange(8)}", price=dice.randrange(3), lane=lane)
        case 3:
            rig.tombstone(Entity.PRODUCTS, f"S{dice.randrange(8)}")
        case 4:
            rig.tombstone(Entity.ORDERS, f"O{dice.randrange(12)}")
        case _:
            number = dice.randrange(12)
            rig.order(f"O{number}", f"p{number % 8}@shop.example", total=dice.randrange(3), lane=lane)
