"""The extractor as its users run it: a process between the sandbox shop and a real Kafka."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from estarsync_core.entities import Entity, Lane, Reason
from estarsync_core.estar.checkpoint import Checkpoint, FeedMark, decode_checkpoint
from estarsync_core.headers import version_of
from estarsync_core.topics import CHECKPOINTS, EXTRACT_DLQ, declared_topics, raw_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import EXIT_CONFIGURATION, EXIT_FENCED, EXIT_STOPPED
from estarsync_runtime.settings import KafkaSettings
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path
from sandbox.estar.cli import shop_zone
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Edited, Editor
from sandbox.estar.faults import Faults
from sandbox.estar.generate import generate
from sandbox.estar.generate_dice import PLANTED_COST, PLANTED_TEXT
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.truth import canonical, truth
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]

CLOCK = SystemClock()
FEEDS_THAT_POLL = 4  # all but the deep sweep
POLL_EVERY_SECOND = """
cadences: {contacts_modified: 0.01, orders_created: 0.01, orders_modified: 0.01, products_snapshot: 0.01}
windows: {lag_seconds: 0}
soap: {operations: {retrieve_customers: {batch: 20}, retrieve_orders: {batch: 10}, retrieve_products: {batch: 10}}}
"""


class World:
    """A shop on a port, topics under a prefix, and extractors between them."""

    def __init__(self, sandbox: ShopSandbox, url: str, kafka: Broker, prefix: str, folder: Path) -> None:
        self.sandbox = sandbox
        self.shop = sandbox.shop
        self.settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
        self._folder = folder
        profile = folder / "profile.yaml"
        profile.write_text(profile_path().read_text(encoding="utf-8") + POLL_EVERY_SECOND)
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(profile),
            "ESTAR_BASE_URL": url,
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
        }

    @contextmanager
    def extractor(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "extractor"]
        env = {**self.environment, **environment}
        with (
            (self._folder / "extractor.log").open("ab") as log,
            subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    @property
    def output(self) -> str:
        return (self._folder / "extractor.log").read_text(encoding="utf-8")

    def read(self) -> "Topics":
        """Everything committed, in one pass."""
        names = [spec.name for spec in declared_topics()]
        messages = list(read_topics(self.settings, [self.settings.topic(name) for name in names]))
        return Topics(
            {name: [m for m in messages if m.topic() == self.settings.topic(name)] for name in names}
        )

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """How far the extractor has come."""
        messages = read_topics(self.settings, [self.settings.topic(CHECKPOINTS)])
        return {key(message): decode_checkpoint(message.value() or b"") for message in messages}

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = CLOCK.monotonic() + seconds
        while not condition():
            assert CLOCK.monotonic() < deadline, f"it did not happen in time; the log:\n{self.output}"
            CLOCK.sleep(0.2)

    def wait_for_load(self) -> None:
        """Until all that the shop had has been published."""
        self.wait_until(lambda: [mark.first_load_done for mark in self.marks] == [True] * 5)

    @property
    def marks(self) -> list[FeedMark]:
        """How far each feed has come."""
        return [mark for checkpoint in self.checkpoints.values() for mark in checkpoint.feeds.values()]

    def wait_for_poll(self) -> None:
        """Until every feed has had a whole run that began after now."""
        now = CLOCK.now()
        self.wait_until(lambda: sum(mark.cursor > now for mark in self.marks) >= FEEDS_THAT_POLL)

    def edit(self, **edit: Any) -> Edited:
        with self.shop.lock:
            editor = Editor(self.shop, Contract(), random.Random(1))  # noqa: S311 - the same every time
            return editor.apply(Edit(**edit), self.shop.local(CLOCK.now()))


class Topics:
    """What was committed at one moment, by topic."""

    def __init__(self, messages: dict[str, list[Message]]) -> None:
        self.messages = messages

    def raw(self, entity: Entity) -> list[Message]:
        """The entity's events in order."""
        return sorted(self.messages[raw_topic(entity)], key=sequence)

    def latest(self, entity: Entity) -> dict[str, Any]:
        """The entity's records as a reader of the compacted topic has them."""
        values = {key(message): message.value() for message in self.raw(entity)}
        return {name: msgspec.json.decode(value) for name, value in values.items() if value is not None}


def key(message: Message) -> str:
    return (message.key() or b"").decode()


def sequence(message: Message) -> int:
    return version_of(headers_of(message))[0].sequence


@pytest.fixture
def world(kafka: Broker, prefix: str, tmp_path: Path) -> Iterator[World]:
    sandbox = ShopSandbox(generate(100, 1, shop_zone()), CLOCK)
    with serving(asgi(sandbox.handle, parallel=True)) as url:
        yield World(sandbox, url, kafka, prefix, tmp_path)


def assert_true_copy(world: World) -> None:
    """The topics hold the whole shop, every version once, with sequences that have no gap."""
    topics = world.read()
    customers = world.shop.customers.records.values()
    emails = {canonical(customer.leaf("Email")) for customer in customers} - {None}
    roots = {str(order.id) for order in world.shop.orders.records.values() if order.parent is None}
    contacts, orders = topics.latest(Entity.CONTACTS), topics.latest(Entity.ORDERS)
    assert set(contacts) == emails
    assert set(topics.latest(Entity.PRODUCTS)) == set(truth(world.shop, Contract()).products)
    assert set(orders) == roots
    held = [customer["ID"] for group in contacts.values() for customer in group["customers"]]
    assert sorted(held) == sorted(str(c.id) for c in customers if canonical(c.leaf("Email")))
    ids = [int(order["ID"]) for tree in orders.values() for order in tree["orders"]]
    assert sorted(ids) == sorted(world.shop.orders.records)
    checkpoints = world.checkpoints
    for entity in Entity:
        events = topics.raw(entity)
        assert [sequence(event) for event in events] == list(range(1, len(events) + 1))
        assert checkpoints[entity].sequence == len(events)
        versions = Counter((key(event), event.value()) for event in events)
        assert [version for version, times in versions.items() if times > 1] == []


def test_a_shop_is_loaded_once_and_a_restart_publishes_nothing_new(world: World) -> None:
    with world.extractor() as process:
        world.wait_for_load()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == EXIT_STOPPED, world.output
    assert_true_copy(world)
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


def test_killed_in_mid_load_it_goes_on_where_it_was(world: World) -> None:
    world.sandbox.faults.set(Faults(slow=1.0, slow_seconds=0.05))
    for share in (10, 120, 200):
        with world.extractor() as process:
            world.wait_until(lambda: sum(c.sequence for c in world.checkpoints.values()) >= share)  # noqa: B023 - called in this turn
            process.kill()
            process.wait(30)
    world.sandbox.faults.set(Faults())
    with world.extractor():
        world.wait_for_load()
    assert_true_copy(world)


def test_a_changed_email_and_a_split_order_arrive_in_the_live_lane(world: World) -> None:
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
    assert_true_copy(world)


def test_nothing_secret_and_nobody_unusable_gets_through(world: World) -> None:
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


def test_a_newer_extractor_takes_over(world: World) -> None:
    with world.extractor() as older:
        world.wait_until(lambda: bool(world.checkpoints))
        with world.extractor():
            world.edit(kind="order")
            assert older.wait(60) == EXIT_FENCED, world.output
            world.wait_for_load()
            world.wait_for_poll()
    assert_true_copy(world)


def test_every_problem_of_the_configuration_is_told_at_once(world: World) -> None:
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
