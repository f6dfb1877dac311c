"""The canary's records are published once, taken away in time, and never taken for the shop's."""

from datetime import timedelta
from typing import Any

import msgspec

from estarsync_core.canary import CANARY, CANARY_STATE, Canary, CanaryKeys, CanaryState
from estarsync_core.control import Erasure, erased_key
from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.headers import version_of
from estarsync_core.topics import CONTROL

KEYS = CanaryKeys("canary@example.com", "estarsync-canary", "estarsync-canary-order")
RAW = {"contacts": "estar.contacts.v1", "products": "estar.products.v1", "orders": "estar.orders.v1"}


def ask(world, name: str = "canary-1", keys: CanaryKeys = KEYS, minutes: float = 120) -> None:
    now = world.clock.now()
    world.control.say(CANARY, Canary(name, now, now + timedelta(minutes=minutes), keys))


def states(world) -> list[CanaryState]:
    values = [value for _, key, value, _ in world.log.of(CONTROL) if key == CANARY_STATE]
    return [msgspec.json.decode(value, type=CanaryState) for value in values]


def flown(world, keys: CanaryKeys = KEYS) -> dict[str, list[Any]]:
    """What was published under the canary's keys: a value, or the reason of a tombstone."""
    return {
        entity: [
            msgspec.json.decode(value) if value else version_of(headers)[2]
            for _, key, value, headers in world.raw(entity)
            if key == keys.of(Entity(entity))
        ]
        for entity in RAW
    }


def wait_for(world, state: str, name: str = "canary-1") -> CanaryState:
    def come() -> bool:
        return any((each.id, each.state) == (name, state) for each in states(world))

    world.run(come)
    return states(world)[-1]


def test_it_is_published_live_and_taken_away_when_the_word_is_taken_back(world) -> None:
    ask(world)  # the first load has not begun: it does not wait for that
    wait_for(world, "sent")
    world.load()
    found = flown(world)
    assert {entity: len(rows) for entity, rows in found.items()} == dict.fromkeys(RAW, 1)
    assert found["contacts"][0]["customers"][0]["LastName"] == "canary-1"
    (headers,) = (each[3] for each in world.raw("orders") if each[1] == KEYS.order)
    assert version_of(headers)[1] is Lane.LIVE
    world.control.say(CANARY, None)
    wait_for(world, "removed")
    found = flown(world)
    assert (len(found["contacts"]), found["products"][1], found["orders"][1]) == (
        1,
        Reason.REMOVED,
        Reason.REMOVED,
    )
    assert [each.state for each in states(world)] == ["sent", "removed"]


def test_no_snapshot_misses_it_and_a_new_process_knows_of_it(world) -> None:
    ask(world, minutes=60 * 24 * 9)
    wait_for(world, "sent")
    world.load()
    world.loop = world.start()
    world.poll()
    world.poll()
    assert {entity: len(rows) for entity, rows in flown(world).items()} == dict.fromkeys(RAW, 1)
    assert len(states(world)) == 1


def test_one_that_nobody_watches_any_more_is_taken_away_when_its_time_is_up(world) -> None:
    world.load()
    ask(world, minutes=120)
    wait_for(world, "sent")
    world.loop = world.start()
    wait_for(world, "removed")
    ask(world, "canary-2", minutes=120)
    wait_for(world, "sent", "canary-2")
    assert len(flown(world)["products"]) == 3


def test_the_next_one_takes_away_what_the_last_one_left(world) -> None:
    ask(world)
    wait_for(world, "sent")
    other = CanaryKeys("other@example.com", "other-sku", "other-order")
    ask(world, "canary-2", other)
    wait_for(world, "sent", "canary-2")
    assert [each.state for each in states(world)] == ["sent", "removed", "sent"]
    assert flown(world)["orders"][-1] is Reason.REMOVED
    assert len(flown(world, other)["orders"]) == 1


def test_one_that_is_read_too_late_does_not_fly(world) -> None:
    ask(world, minutes=-1)
    world.load()
    assert not states(world)


def test_a_key_of_the_shop_is_refused(world) -> None:
    world.load()
    sku = next(key for _, key, value, _ in world.raw("products") if value)
    published = len(world.raw("products"))
    ask(world, keys=CanaryKeys(KEYS.email, sku, KEYS.order))
    assert "products" in (wait_for(world, "refused").reason or "")
    assert len(world.raw("products")) == published
    ask(world, "canary-2")
    wait_for(world, "sent", "canary-2")


def test_a_lost_reply_does_no_harm(world) -> None:
    world.load()
    ask(world)
    world.log.lose_reply.add(world.log.transactions + 2)
    wait_for(world, "sent")
    assert len(flown(world)["contacts"]) == 2
    assert [each.state for each in states(world)] == ["sent"]


def test_its_contact_can_be_erased_as_any_other(world) -> None:
    world.load()
    ask(world)
    wait_for(world, "sent")
    world.control.say(erased_key(KEYS.email), Erasure("erase-1", world.clock.now()))
    world.run(lambda: len(flown(world)["contacts"]) == 2)
    assert flown(world)["contacts"][1] is Reason.ERASED
    world.control.say(CANARY, None)
    wait_for(world, "removed")
    ask(world, "canary-2")
    assert "erased" in (wait_for(world, "refused", "canary-2").reason or "")
