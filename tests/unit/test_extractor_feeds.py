"""The extractor's feeds and loop against the sandbox shop, with a log in memory in the place of Kafka."""

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

from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import RetryLater
from estarsync_core.estar.changes import Row
from estarsync_core.estar.checkpoint import Checkpoint, decode_checkpoint
from estarsync_core.headers import RawHeaders, version_of
from estarsync_core.profile import load_profile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from extractor.app import feeds_of
from extractor.feeds import Surroundings
from extractor.loop import Loop
from extractor.publisher import Publisher, PublishFailed
from extractor.settings import Settings
from extractor.state import SourceState
from sandbox.estar import profile_path
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Edited, Editor
from sandbox.estar.faults import Faults
from sandbox.estar.generate import generate
from sandbox.estar.generate_dice import PLANTED_COST, PLANTED_TEXT
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.state import Body, Node
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
        around = Surroundings(publisher, self.profile, self.clock, self.metrics)
        cadences = {name: minutes * 60 for name, minutes in self.profile.cadences.model_dump().items()}
        feeds = feeds_of(EstarSource(client, self.profile), state, around, cadences)
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

    def raw(self, entity: str) -> list[Message]:
        return self.log.of(RAW[entity])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def assert_true_copy(world: World) -> None:
    """The latest values are what the shop holds; sequences are whole; no content was published twice."""
    emails = {canonical(customer.leaf("Email")) for customer in world.shop.customers.records.values()}
    roots = {str(order.id) for order in world.shop.orders.records.values() if order.parent is None}
    skus = set(truth(world.shop, Contract()).products)
    assert set(world.log.latest(RAW["contacts"])) == emails - {None}
    assert set(world.log.latest(RAW["products"])) == skus
    assert set(world.log.latest(RAW["orders"])) == roots
    contacts = world.log.latest(RAW["contacts"]).items()
    for email, group in contacts:
        assert all(canonical(customer["Email"]) == email for customer in group["customers"])
    held = [customer["ID"] for _, group in contacts for customer in group["customers"]]
    usable = [c for c in world.shop.customers.records.values() if canonical(c.leaf("Email"))]
    assert sorted(held) == sorted(str(customer.id) for customer in usable)
    trees = world.log.latest(RAW["orders"]).values()
    assert sorted(int(order["ID"]) for tree in trees for order in tree["orders"]) == sorted(
        world.shop.orders.records
    )
    for entity, topic in RAW.items():
        messages = world.log.of(topic)
        numbers = [version_of(headers)[0].sequence for *_, headers in messages]
        assert numbers == list(range(1, len(numbers) + 1))
        assert world.checkpoints[entity].sequence == len(numbers)
        assert max(Counter((key, value) for _, key, value, _ in messages).values()) == 1


def test_a_whole_shop_is_published_once(world: World) -> None:
    world.load()
    assert_true_copy(world)
    lanes = {version_of(headers)[1] for entity in RAW for *_, headers in world.raw(entity)}
    assert lanes == {Lane.BULK}
    dead = world.log.latest(DLQ)
    unusable = truth(world.shop, Contract())
    codes = Counter(letter["code"] for letter in dead.values())
    assert codes["missing"] + codes["not_an_email"] == unusable.unusable_contacts
    assert codes["no_barcode"] > 0
    assert all(set(letter) == {"entity", "id", "window", "code"} for letter in dead.values())


def test_headers_say_what_they_should(world: World) -> None:
    world.load()
    _, key, value, headers = world.raw("orders")[0]
    told = {name: text.decode() for name, text in headers}
    assert told["ce_id"] == "orders/1"
    assert told["ce_type"] == "com.estarsync.orders.raw.v1"
    assert told["ce_source"] == "https://shop"
    assert told["content-type"] == "application/json"
    assert "ce_revision" not in told
    assert msgspec.json.decode(value or b"")["orders"][0]["ID"] == key


def test_contacts_are_loaded_before_orders(world: World) -> None:
    world.load()
    order = [topic for topic, *_ in world.log.messages if topic in RAW.values()]
    assert list(dict.fromkeys(order)) == [RAW["contacts"], RAW["products"], RAW["orders"]]


def test_what_did_not_change_is_not_published_again(world: World) -> None:
    world.load()
    before = len(world.log.messages)
    world.poll()
    world.loop = world.start()
    world.poll()
    after = [topic for topic, *_ in world.log.messages[before:]]
    assert set(after) == {"estarsync.checkpoints.v1"}


def test_edits_arrive_in_the_live_lane(world: World) -> None:
    world.load()
    before = {entity: len(world.raw(entity)) for entity in RAW}
    product, order = world.edit(kind="price"), world.edit(kind="order")
    world.poll()
    (_, _, value, headers), *more = world.raw("products")[before["products"] :]
    assert msgspec.json.decode(value or b"")["product"]["ID"] == str(product.id)
    assert version_of(headers)[1] is Lane.LIVE
    assert more == []
    assert [key for _, key, _, _ in world.raw("orders")[before["orders"] :]] == [str(order.id)]
    assert_true_copy(world)


def test_a_changed_email_moves_the_customer(world: World) -> None:
    world.load()
    edited = world.edit(kind="email", email="Brand.New@example.com")
    old = next(key for key, group in world.log.latest(RAW["contacts"]).items() if _holds(group, edited.id))
    alone = len(world.log.latest(RAW["contacts"])[old]["customers"]) == 1
    before = len(world.raw("contacts"))
    world.poll()
    (_, key, value, _), (_, left, rest, headers) = world.raw("contacts")[before:]
    assert (key, left) == ("brand.new@example.com", old)
    assert msgspec.json.decode(value or b"")["renamed_from"] == old
    assert alone == (rest is None)
    assert dict(headers).get("ce_reason") == (b"renamed" if alone else None)
    assert_true_copy(world)
    world.poll()
    assert len(world.raw("contacts")) == before + 2


def _holds(group: Any, customer_id: int) -> bool:
    return any(customer["ID"] == str(customer_id) for customer in group["customers"])


def test_a_shared_email_travels_whole_wherever_its_customers_are_read(world: World) -> None:
    world.load()
    one, two = [c for c in world.shop.customers.records.values() if canonical(c.leaf("Email"))][:2]
    for customer in (one, two):
        world.edit(kind="email", id=customer.id, email="both@example.com")
        world.poll()
    ids = [customer["ID"] for customer in world.log.latest(RAW["contacts"])["both@example.com"]["customers"]]
    assert ids == sorted([str(one.id), str(two.id)], key=int)
    world.edit(kind="email", id=one.id, email="apart@example.com")
    world.poll()
    assert len(world.log.latest(RAW["contacts"])["both@example.com"]["customers"]) == 1
    assert_true_copy(world)


def test_a_split_order_travels_as_one_tree(world: World) -> None:
    world.load()
    edited = world.edit(kind="split")
    world.poll()
    tree = next(
        t
        for t in world.log.latest(RAW["orders"]).values()
        if str(edited.id) in {o["ID"] for o in t["orders"]}
    )
    child = tree["orders"][-1]["ID"]
    assert len(tree["orders"]) > 1
    before = len(world.raw("orders"))
    world.edit(kind="void", id=int(tree["orders"][0]["ID"]))
    world.edit(kind="return", id=int(child), quantity=1)
    world.poll()
    assert [key for _, key, _, _ in world.raw("orders")[before:]] == [tree["orders"][0]["ID"]]
    assert_true_copy(world)


@pytest.mark.parametrize("lost", [False, True])
def test_a_crash_at_any_commit_neither_skips_nor_repeats(tmp_path: Path, *, lost: bool) -> None:
    world = World(tmp_path)
    crashes = set(range(1, 200, 2))
    if lost:
        world.log.lose_reply = crashes
    else:
        world.log.roll_back = crashes
    world.load()
    assert world.starts > 20
    assert_true_copy(world)


def test_nothing_secret_leaves_the_extractor(world: World) -> None:
    tables = (world.shop.customers, world.shop.products, world.shop.orders)
    for record in (record for table in tables for record in table.records.values()):
        secrets: Body = {name: f"secret {name}" for name in world.profile.records.drop}
        deep: Body = {"Inner": dict(secrets), **{name.upper(): f"secret {name}" for name in secrets}}
        pairs: list[tuple[str, Node]] = [
            ("Pair", {"Name": name, "Value": f"secret {name}"}) for name in secrets
        ]
        record.body.update({**secrets, "Outer": deep, "Attributes": pairs})
    world.load()
    everything = b"\n".join(key.encode() + (value or b"") for _, key, value, _ in world.log.messages)
    assert len(world.raw("contacts")) > 30
    assert b"secret" not in everything
    assert PLANTED_TEXT.encode() not in everything
    assert PLANTED_COST.encode() not in everything
    names = {name.casefold() for message in world.log.messages for name in _names(message)}
    assert not names & {name.casefold() for name in world.profile.records.drop}


def _names(message: Message) -> set[str]:
    waiting = [msgspec.json.decode(message[2])] if message[2] else []
    names: set[str] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            names |= value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return names


def test_a_poison_record_is_found_and_the_rest_goes_on(world: World) -> None:
    customer = list(world.shop.customers.records)[5]
    world.sandbox.faults.set(Faults(poison={"customers": frozenset({customer})}))
    world.load()
    letters = [letter for letter in world.log.latest(DLQ).values() if letter["code"] == "window_failed"]
    assert len(letters) == 1
    start, end = (datetime.fromisoformat(letters[0]["window"][name]) for name in ("start", "end"))
    assert (end - start).total_seconds() == 1
    held = [c["ID"] for group in world.log.latest(RAW["contacts"]).values() for c in group["customers"]]
    usable = [c.id for c in world.shop.customers.records.values() if canonical(c.leaf("Email"))]
    assert {str(identity) for identity in usable} - set(held) <= {str(customer)}


def test_a_record_that_can_not_be_retrieved_is_reported_alone(world: World) -> None:
    product, order = list(world.shop.products.records)[3], list(world.shop.orders.records)[-1]
    world.sandbox.faults.set(
        Faults(
            operations=frozenset({"Products.RetrieveProducts", "Orders.Retrieve"}),
            vanished={"products": frozenset({product}), "orders": frozenset({order})},
        )
    )
    world.load()
    letters = world.log.latest(DLQ)
    assert letters[f"products:{product}"]["code"] == "not_returned"
    assert letters[f"orders:{order}"]["code"] == "not_returned"
    assert letters[f"orders:{order}"]["window"] is not None
    assert len(world.log.latest(RAW["orders"])) > 50


def test_a_shop_in_trouble_is_waited_for(world: World) -> None:
    world.sandbox.faults.set(Faults(seed=3, error=0.1, refuse=0.1, html=0.05))
    world.load()
    world.sandbox.faults.set(Faults())
    world.poll()
    assert_true_copy(world)
    assert {letter["code"] for letter in world.log.latest(DLQ).values()} <= {
        "missing",
        "not_an_email",
        "no_barcode",
    }


def test_an_outage_blames_no_record(world: World) -> None:
    world.load()
    before = len(world.log.messages)
    world.edit(kind="order")
    world.edit(kind="email")
    world.clock.advance(25 * 3600)
    world.sandbox.faults.set(Faults(error=1.0))
    for _ in range(200):
        world.clock.advance(max(1.0, world.loop.turn()))
    assert len(world.log.messages) == before
    world.sandbox.faults.set(Faults())
    world.poll()
    assert_true_copy(world)


def test_a_long_first_load_holds_no_live_change_up(world: World) -> None:
    world.run(lambda: len(world.raw("orders")) > 20)
    assert not world.done(world.checkpoints["orders"])
    world.edit(kind="email", email="moved@example.com")
    world.clock.advance(3600)
    world.run(lambda: any(key == "moved@example.com" for _, key, _, _ in world.raw("contacts")))
    assert not world.done(world.checkpoints["orders"])
    (headers,) = [headers for _, key, _, headers in world.raw("contacts") if key == "moved@example.com"]
    assert version_of(headers)[1] is Lane.LIVE
    world.load()
    assert_true_copy(world)


def test_a_change_during_the_first_load_is_not_missed(world: World) -> None:
    world.run(lambda: len(world.raw("orders")) > 20)
    first = msgspec.json.decode(world.raw("orders")[0][2] or b"")["orders"][0]["ID"]
    order = world.shop.orders.records[int(first)]
    order.body["Email"] = "changed@example.com"
    world.shop.orders.touch(order, world.clock.now().astimezone(ZONE).replace(tzinfo=None))
    world.load()
    assert world.log.latest(RAW["orders"])[first]["orders"][0]["Email"] != "changed@example.com"
    world.poll()
    assert world.log.latest(RAW["orders"])[first]["orders"][0]["Email"] == "changed@example.com"
    assert_true_copy(world)


def test_first_loads_go_on_past_a_feed_that_the_shop_refuses(world: World) -> None:
    world.sandbox.faults.set(Faults(operations=frozenset({"Products.ListProducts"}), error=1.0))
    world.run(lambda: "orders" in world.checkpoints and world.done(world.checkpoints["orders"]))
    assert world.log.latest(RAW["products"]) == {}
    world.sandbox.faults.set(Faults())
    world.load()
    assert_true_copy(world)


def test_a_deep_sweep_finds_what_the_shop_dated_late(world: World) -> None:
    world.load()
    world.clock.advance(3 * 24 * 3600)
    edited = world.edit(kind="order")  # it is dated now, and hidden from the lists for a day
    hidden = world.shop.orders.records.pop(edited.id)
    world.poll()
    world.shop.orders.records[edited.id] = hidden
    world.poll()
    before = len(world.raw("orders"))
    assert str(edited.id) not in world.log.latest(RAW["orders"])
    sweep = world.checkpoints["orders"].feeds["orders_deep"].cursor
    world.clock.advance(9 * 24 * 3600)
    world.run(lambda: world.checkpoints["orders"].feeds["orders_deep"].cursor > sweep and world.swept)
    (_, key, _, headers), *more = world.raw("orders")[before:]
    assert key == str(edited.id)
    assert version_of(headers)[1] is Lane.BULK
    assert more == []
    assert_true_copy(world)


def test_a_sweep_goes_on_where_a_restart_found_it(world: World) -> None:
    world.load()
    for _ in range(12):
        world.edit(kind="order")
    world.clock.advance(14 * 24 * 3600 + 60)
    world.run(lambda: not world.swept)
    cursor = world.checkpoints["orders"].feeds["orders_deep"].cursor
    world.loop = world.start()
    world.run(lambda: world.swept)
    assert world.checkpoints["orders"].feeds["orders_deep"].cursor > cursor
