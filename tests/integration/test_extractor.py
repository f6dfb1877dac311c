"""The extractor as its users run it: a process between the sandbox shop and a real Kafka."""

import signal
from collections import Counter

import msgspec
import pytest
from confluent_kafka import Message

from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.headers import version_of
from estarsync_core.topics import EXTRACT_DLQ
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.lifecycle import EXIT_CONFIGURATION, EXIT_STOPPED
from sandbox.estar.contract import Contract
from sandbox.estar.faults import Faults
from sandbox.estar.generate_dice import PLANTED_COST, PLANTED_TEXT
from sandbox.estar.truth import truth

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]


def key(message: Message) -> str:
    return (message.key() or b"").decode()


def sequence(message: Message) -> int:
    return version_of(headers_of(message))[0].sequence


def test_a_shop_is_loaded_once_and_a_restart_publishes_nothing_new(world) -> None:
    with world.extractor() as process:
        world.wait_for_load()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == EXIT_STOPPED, world.output
    world.assert_true_copy()
    before = world.read()
    for entity in Entity:
        events = before.raw(entity)
        assert {version_of(headers_of(event))[1] for event in events} == {Lane.BULK}
        headers = dict(headers_of(events[0]))
        assert headers["ce_source"] == world.environment["ESTAR_BASE_URL"].encode()
        assert headers["ce_id"] == f"{entity}/1".encode()
    assert max(Counter(key(event) for event in before.raw(Entity.ORDERS)).values()) == 1
    with world.extractor():
        world.wait_for_poll()
    after = world.read()
    assert {e: len(after.raw(e)) for e in Entity} == {e: len(before.raw(e)) for e in Entity}


def test_killed_in_mid_load_it_goes_on_where_it_was(world) -> None:
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.05))
    for share in (10, 120, 200):
        with world.extractor() as process:
            world.wait_until(lambda: sum(c.sequence for c in world.checkpoints.values()) >= share)  # noqa: B023 - called in this turn
            process.kill()
            process.wait(30)
    world.sandbox.faults.set(Faults())
    with world.extractor():
        world.wait_for_load()
    world.assert_true_copy()


def test_a_changed_email_and_a_split_order_arrive_in_the_live_lane(world) -> None:
    with world.extractor():
        world.wait_for_load()
        before = world.read()
        moved, split = world.edit(kind="email", email="Moved@Example.com"), world.edit(kind="split")
        world.wait_for_poll()
    after = world.read()
    first, second = after.raw(Entity.CONTACTS)[len(before.raw(Entity.CONTACTS)) :]
    assert key(first) == "moved@example.com"
    group = msgspec.json.decode(first.value() or b"")
    assert [customer["ID"] for customer in group["customers"]] == [str(moved.id)]
    assert (key(second), second.value()) == (group["renamed_from"], None)
    _, lane, reason = version_of(headers_of(second))
    assert (lane, reason) == (Lane.LIVE, Reason.RENAMED)
    (tree,) = after.raw(Entity.ORDERS)[len(before.raw(Entity.ORDERS)) :]
    members = [order["ID"] for order in msgspec.json.decode(tree.value() or b"")["orders"]]
    assert members[0] == key(tree)
    assert str(split.id) in members
    assert len(members) > 1
    world.assert_true_copy()


def test_nothing_secret_and_nobody_unusable_gets_through(world) -> None:
    with world.extractor():
        world.wait_for_load()
    topics = world.read()
    written = [message for messages in topics.messages.values() for message in messages]
    everything = b"\n".join((message.key() or b"") + (message.value() or b"") for message in written)
    assert PLANTED_TEXT.encode() not in everything
    assert PLANTED_COST.encode() not in everything
    assert PLANTED_TEXT not in world.output
    letters = [msgspec.json.decode(message.value() or b"") for message in topics.messages[EXTRACT_DLQ]]
    codes = Counter(letter["code"] for letter in letters if letter["entity"] == "contacts")
    assert sum(codes.values()) == truth(world.shop, Contract()).unusable_contacts
    assert "@" not in world.output.replace("sandbox@", "")


def test_every_problem_of_the_configuration_is_told_at_once(world) -> None:
    with world.extractor(TOPIC_PREFIX="nowhere.", TENANT_PROFILE="/no/such/file") as process:
        assert process.wait(30) == EXIT_CONFIGURATION
    assert "nowhere.estar.contacts.v1" in world.output
    assert "/no/such/file" in world.output
    with world.extractor(ESTAR_PASSWORD="wrong") as process:
        assert process.wait(30) == EXIT_CONFIGURATION
    assert "ESTAR_PASSWORD" in world.output
    with world.extractor(ESTAR_BASE_URL="ftp://shop", ESTAR_USERNAME="") as process:
        assert process.wait(30) == EXIT_CONFIGURATION
    assert "ESTAR_BASE_URL: give the URL" in world.output
    assert "ESTAR_USERNAME" in world.output
