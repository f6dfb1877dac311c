"""A shop that is edited all the time, by an extractor that has nothing but trouble: in the end both agree."""

import random
from datetime import timedelta

import pytest

from extractor.publisher import PublishFailed
from sandbox.estar.faults import Faults

RAW = {"contacts": "estar.contacts.v1", "products": "estar.products.v1", "orders": "estar.orders.v1"}
KINDS = ("price", "email", "unsubscribe", "order", "split", "return", "void")


def turn(world) -> None:
    try:
        world.clock.advance(max(0.1, world.loop.turn()))
    except PublishFailed:
        world.loop = world.start()


@pytest.mark.parametrize("seed", range(2))
def test_edits_faults_and_crashes_end_in_full_agreement(world, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same story every time
    # Four calls in ten fail, in every way that a shop has.
    world.sandbox.faults.set(Faults(seed=seed, error=0.1, refuse=0.1, html=0.1, drop=0.1))
    world.log.roll_back = {n for n in range(400) if dice.random() < 0.05}
    world.log.lose_reply = {n for n in range(400) if dice.random() < 0.05}
    for _ in range(14):  # from the middle of the first load on
        for _ in range(dice.randrange(5, 30)):
            turn(world)
        world.edit(kind=dice.choice(KINDS))
        if dice.random() < 0.1:
            world.loop = world.start()
    world.sandbox.faults.set(Faults())
    world.load()
    world.poll()
    world.poll()
    truth = world.read_afresh()
    for topic in RAW.values():
        copied = world.log.latest(topic)
        for value in copied.values():
            value.pop("renamed_from", None)
        assert copied == truth[topic]


@pytest.mark.parametrize("hours", [-20, 20])
def test_a_clock_that_is_off_by_most_of_a_day_loses_no_order(world, hours: int) -> None:
    """What the windows pass by, since the shop's clock is behind ours, the deep sweep brings."""
    world.load()
    world.clock.advance(24 * 3600)
    world.poll()
    order = next(order for order in world.shop.orders.records.values() if order.parent is None)
    order.body["Total"] = "123.45"
    there = world.clock.now() + timedelta(hours=hours)
    world.shop.orders.touch(order, there.astimezone(world.profile.zone).replace(tzinfo=None))
    world.clock.advance(12.5 * 24 * 3600)
    world.run(lambda: not world.swept)
    world.run(lambda: world.swept)
    trees = world.log.latest(RAW["orders"])
    assert trees[str(order.id)]["orders"][0]["Total"] == "123.45"
