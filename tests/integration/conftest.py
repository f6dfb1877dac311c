"""What the extractor's tests share: a shop on a port, topics on a real Kafka, and extractors between them."""

import os
import random
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

from estarsync_core.entities import Entity
from estarsync_core.estar.checkpoint import Checkpoint, FeedMark, decode_checkpoint
from estarsync_core.headers import version_of
from estarsync_core.topics import CHECKPOINTS, declared_topics, raw_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path
from sandbox.estar.cli import shop_zone
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Edited, Editor
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.truth import canonical, truth
from sandbox.kafka import Broker

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

    def wait_for_word(self, word: str, times: int = 1) -> None:
        """Until extractors have logged an event so many times."""
        self.wait_until(lambda: self.output.count(f'"event": "{word}"') >= times)

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
        self.wait_until(lambda: self.loaded)

    @property
    def loaded(self) -> bool:
        """Whether all that the shop had has been published."""
        return [mark.first_load_done for mark in self.marks] == [True] * 5

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

    def assert_true_copy(self) -> None:
        """The topics hold the whole shop, every version once, with sequences that have no gap."""
        topics = self.read()
        customers = self.shop.customers.records.values()
        emails = {canonical(customer.leaf("Email")) for customer in customers} - {None}
        roots = {str(order.id) for order in self.shop.orders.records.values() if order.parent is None}
        contacts, orders = topics.latest(Entity.CONTACTS), topics.latest(Entity.ORDERS)
        assert set(contacts) == emails
        assert set(topics.latest(Entity.PRODUCTS)) == set(truth(self.shop, Contract()).products)
        assert set(orders) == roots
        held = [customer["ID"] for group in contacts.values() for customer in group["customers"]]
        assert sorted(held) == sorted(str(c.id) for c in customers if canonical(c.leaf("Email")))
        ids = [int(order["ID"]) for tree in orders.values() for order in tree["orders"]]
        assert sorted(ids) == sorted(self.shop.orders.records)
        checkpoints = self.checkpoints
        for entity in Entity:
            events = topics.raw(entity)
            assert [sequence(event) for event in events] == list(range(1, len(events) + 1))
            assert checkpoints[entity].sequence == len(events)
            versions = Counter((key(event), event.value()) for event in events)
            assert [version for version, times in versions.items() if times > 1] == []


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
