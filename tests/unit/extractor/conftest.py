"""The extractor without Kafka: its feeds and its loop against the sandbox shop, with a log in memory."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.control import Letter, Words, encode
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_core.estar.changes import Row
from estarsync_core.estar.checkpoint import Checkpoint, decode_checkpoint
from estarsync_core.headers import RawHeaders, version_of
from estarsync_core.profile import load_profile
from estarsync_core.topics import CONTROL
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from extractor.app import LOOKS, feeds_of, feeds_that_listen
from extractor.desk import Desk
from extractor.feeds import Surroundings
from extractor.inbox import Received
from extractor.letters import Opened
from extractor.loop import Loop
from extractor.publisher import Publisher, PublishFailed
from extractor.settings import Settings
from extractor.shop import shop_of
from extractor.state import SourceState
from sandbox.estar import profile_path
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Edited, Editor
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.truth import canonical, truth

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ZONE = ZoneInfo("Europe/London")
SMALL_PAGES = """
soap: {operations: {retrieve_customers: {batch: 7}, retrieve_orders: {batch: 5}, retrieve_products: {batch: 6}}}
windows: {initial_hours: 2000, max_ids: 20}
"""
RAW = {"contacts": "estar.contacts.v1", "products": "estar.products.v1", "orders": "estar.orders.v1"}
DLQ = "estarsync.extract.dlq.v1"
Message = tuple[str, str, bytes | None, RawHeaders]


def dice() -> random.Random:
    return random.Random(1)  # noqa: S311 - the same run every time


class Log:
    """A transactional log: what is written in a transaction that fails is never there."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.transactions = 0
        self.roll_back: set[int] = set()
        self.lose_reply: set[int] = set()
        self._open: list[Message] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._open = []
        self.transactions += 1
        yield
        if self.transactions in self.roll_back:
            raise RetryLater("rolled back")
        self.messages += self._open
        if self.transactions in self.lose_reply:
            raise RetryLater("committed, but the reply was lost")

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders | None = None
    ) -> None:
        self._open.append((topic, (key or b"").decode(), value, headers or []))

    def of(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message[0] == topic]

    def latest(self, topic: str) -> dict[str, Any]:
        values = {key: value for _, key, value, _ in self.of(topic)}
        return {key: msgspec.json.decode(value) for key, value in values.items() if value is not None}


class FakeInbox:
    """No notification ever comes."""

    def take(self) -> list[Received]:
        return []

    def settle(self) -> None:
        """Nothing was taken."""


class FakeControl:
    """The control topic: what people write, and what the extractor has committed there."""

    def __init__(self, log: Log) -> None:
        self.words = Words()
        self._log = log
        self._read = 0
        self._said: list[tuple[str, bytes | None]] = []

    def say(self, key: str, word: msgspec.Struct | None) -> None:
        self._said.append((key, None if word is None else encode(word)))

    def poll(self, seconds: float = 0.0) -> set[str]:
        assert seconds == 0
        written = self._log.of(CONTROL)
        found = [*self._said, *((key, value) for _, key, value, _ in written[self._read :])]
        self._said, self._read = [], len(written)
        return {self.words.take(key.encode(), value) for key, value in found}


class FakeLetters:
    """Dead letters by offset."""

    def __init__(self) -> None:
        self.opened: dict[int, Opened] = {}

    def read(self, letter: Letter) -> Opened | None:
        return self.opened.get(letter.offset)

    def close(self) -> None:
        """There is nothing to let go of."""


class World:
    """A shop, a log, and an extractor that can be started again."""

    def __init__(self, folder: Path, size: int = 60, profile: str = SMALL_PAGES) -> None:
        self.clock = FakeClock(NOW)
        self.sandbox = ShopSandbox(generate(size, 1, ZONE), self.clock)
        self.shop = self.sandbox.shop
        self.profile = load_profile(profile_path().read_text(encoding="utf-8") + profile, "test")
        self.log = Log()
        self.folder = folder
        self.metrics = Metrics(CollectorRegistry())
        self.starts = 0
        self.control = FakeControl(self.log)
        self.letters = FakeLetters()
        self.loop = self.start()

    def start(self) -> Loop:
        """A new process: all that it knows is in the log."""
        self.starts += 1
        settings = Settings.model_construct(estar_base_url="https://shop", topic_prefix="")
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(self.sandbox.handle)),
            self.profile,
            "https://shop",
            Credentials("sandbox", "sandbox"),
            clock=self.clock,
            rng=dice(),
            metrics=self.metrics,
        )
        state = SourceState(self.folder / f"{self.starts}.sqlite")
        for _, key, value, _ in self.log.of("estarsync.source-state.v1"):
            entity, _, identity = key.partition(":")
            row = None if value is None else msgspec.json.decode(value, type=Row)
            state.restore([(Entity(entity), identity, row)])
        checkpoints = {
            Entity(key): decode_checkpoint(value or b"{}")
            for _, key, value, _ in self.log.of("estarsync.checkpoints.v1")
        }
        publisher = Publisher(settings, self.log, state, checkpoints, self.clock, self.metrics)
        around = Surroundings(publisher, self.profile, self.clock, self.metrics, self.control.words.blocked)
        cadences = dict.fromkeys(LOOKS, 1800.0) | {
            name: minutes * 60 for name, minutes in self.profile.cadences.model_dump().items()
        }
        source = EstarSource(client, self.profile)
        shop = shop_of(source, state, around)
        self.inbox = FakeInbox()
        feeds = [
            *feeds_that_listen(shop, state, around, Desk(self.control), self.letters, self.inbox),
            *feeds_of(shop, state, around, cadences),
        ]
        return Loop(feeds, cadences, state, clock=self.clock, rng=dice(), metrics=self.metrics)

    def run(self, until: Callable[[], bool]) -> None:
        """Turn until so; waiting takes no time."""
        for _ in range(20_000):
            if until():
                return
            try:
                self.clock.advance(max(0.0, self.loop.turn()))
            except PublishFailed:
                self.loop = self.start()
        raise AssertionError("it does not get there")

    def load(self) -> None:
        """Run until all first loads are done and every feed has run once."""
        self.run(lambda: len(self.checkpoints) == 3 and all(self.done(c) for c in self.checkpoints.values()))

    def poll(self) -> None:
        """Let every feed run again."""
        self.clock.advance(25 * 3600)
        before = {name: mark.cursor for c in self.checkpoints.values() for name, mark in c.feeds.items()}
        self.run(
            lambda: all(
                mark.cursor > before[name]
                for c in self.checkpoints.values()
                for name, mark in c.feeds.items()
                if name != "orders_deep"
            )
        )

    def edit(self, **edit: Any) -> Edited:
        editor = Editor(self.shop, Contract(), dice())
        return editor.apply(Edit(**edit), self.clock.now().astimezone(ZONE).replace(tzinfo=None))

    @staticmethod
    def done(checkpoint: Checkpoint) -> bool:
        return bool(checkpoint.feeds) and all(mark.first_load_done for mark in checkpoint.feeds.values())

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        pairs = ((key, value) for _, key, value, _ in self.log.of("estarsync.checkpoints.v1"))
        return {key: decode_checkpoint(value or b"") for key, value in pairs}

    @property
    def swept(self) -> bool:
        """Whether no deep sweep is under way."""
        return self.checkpoints["orders"].feeds["orders_deep"].first_load_done

    def read_afresh(self) -> dict[str, dict[str, Any]]:
        """What an extractor that knows nothing finds in the shop now, by topic."""
        fresh = copy.copy(self)
        fresh.log, fresh.metrics = Log(), Metrics(CollectorRegistry())
        fresh.control = FakeControl(fresh.log)
        fresh.folder = self.folder / "afresh"
        fresh.folder.mkdir(exist_ok=True)
        fresh.loop = fresh.start()
        fresh.load()
        return {topic: fresh.log.latest(topic) for topic in RAW.values()}

    def raw(self, entity: str) -> list[Message]:
        return self.log.of(RAW[entity])

    def assert_true_copy(self) -> None:
        """The latest values are what the shop holds; sequences are whole; no content was published twice."""
        emails = {canonical(customer.leaf("Email")) for customer in self.shop.customers.records.values()}
        roots = {str(order.id) for order in self.shop.orders.records.values() if order.parent is None}
        skus = set(truth(self.shop, Contract()).products)
        assert set(self.log.latest(RAW["contacts"])) == emails - {None}
        assert set(self.log.latest(RAW["products"])) == skus
        assert set(self.log.latest(RAW["orders"])) == roots
        contacts = self.log.latest(RAW["contacts"]).items()
        for email, group in contacts:
            assert all(canonical(customer["Email"]) == email for customer in group["customers"])
        held = [customer["ID"] for _, group in contacts for customer in group["customers"]]
        usable = [c for c in self.shop.customers.records.values() if canonical(c.leaf("Email"))]
        assert sorted(held) == sorted(str(customer.id) for customer in usable)
        trees = self.log.latest(RAW["orders"]).values()
        assert sorted(int(order["ID"]) for tree in trees for order in tree["orders"]) == sorted(
            self.shop.orders.records
        )
        for entity, topic in RAW.items():
            messages = self.log.of(topic)
            numbers = [version_of(headers)[0].sequence for *_, headers in messages]
            assert numbers == list(range(1, len(numbers) + 1))
            assert self.checkpoints[entity].sequence == len(numbers)
            assert max(Counter((key, value) for _, key, value, _ in messages).values()) == 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
