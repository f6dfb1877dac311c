"""The brake on removals, and products that leave the shop in front of it and behind it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Reason
from estarsync_core.estar.removal import (
    Approval,
    Hold,
    approval_key,
    hold_key,
    is_approved,
    may_remove,
)
from estarsync_core.headers import version_of
from estarsync_core.profile import load_profile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock, FakeProducer
from extractor.feeds import Surroundings
from extractor.products import products
from extractor.publisher import Publisher
from extractor.removals import Removals, Word
from extractor.settings import Settings
from extractor.snapshot import SnapshotFeed
from extractor.state import SourceState
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox


@pytest.mark.parametrize(
    ("vanishing", "published", "free"),
    [(0, 0, True), (10, 10, True), (11, 100, False), (11, 220, True), (50, 1000, True), (51, 1000, False)],
)
def test_a_few_or_a_small_share_may_go(vanishing: int, published: int, *, free: bool) -> None:
    assert may_remove(vanishing, published, empty=False) == free


def test_an_empty_snapshot_removes_nothing() -> None:
    assert not may_remove(1, 1, empty=True)
    assert may_remove(0, 0, empty=True)


def test_an_approval_is_for_one_hold_and_no_more_than_it_says() -> None:
    hold = Hold("a", 20, 100)
    assert (hold.share, Hold("a", 0, 0).share) == (0.2, 0.0)
    assert is_approved(20, hold, Approval("a", 20))
    assert not is_approved(21, hold, Approval("a", 20))
    assert not is_approved(20, hold, Approval("b", 20))
    assert not is_approved(20, hold, None)
    assert not is_approved(20, None, Approval("a", 20))
    assert hold_key(Entity.PRODUCTS) != approval_key(Entity.PRODUCTS)


class World:
    def __init__(self, folder: Path) -> None:
        zone = ZoneInfo("Europe/London")
        self.clock = FakeClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.sandbox = ShopSandbox(generate(100, 1, zone), self.clock)
        self.kafka = FakeProducer()
        self.metrics = Metrics(CollectorRegistry())
        self.state = SourceState(folder / "state.sqlite")
        self.approval: Approval | None = None
        profile = load_profile(profile_path().read_text(encoding="utf-8"), "test")
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(self.sandbox.handle)),
            profile,
            "https://shop",
            Credentials("sandbox", "sandbox"),
            clock=self.clock,
            rng=random.Random(1),  # noqa: S311 - the same run every time
            metrics=self.metrics,
        )
        source = EstarSource(client, profile)
        settings = Settings.model_construct(estar_base_url="https://shop", topic_prefix="")
        publisher = Publisher(settings, self.kafka, self.state, {}, self.clock, self.metrics)
        around = Surroundings(publisher, profile, self.clock, self.metrics)
        removals = Removals(Entity.PRODUCTS, self.state, publisher, self.word, self.metrics)
        self.ids = source.list_products()
        reader = products(source, self.state, profile, around.blocked)
        self.feed = SnapshotFeed("products_snapshot", lambda: list(self.ids), reader, around, 60.0, removals)

    def word(self) -> Word:
        return self.hold(), self.approval

    def snapshot(self) -> set[str]:
        """Take one; the keys that are in the topic after it."""
        self.clock.advance(60)
        while not self.feed.step():
            pass
        return self.keys

    @property
    def keys(self) -> set[str]:
        latest = {r.key: r.value for r in self.kafka.records if r.topic == "estar.products.v1"}
        return {(key or b"").decode() for key, value in latest.items() if value is not None}

    def hold(self) -> Hold | None:
        values = [r.value for r in self.kafka.records if r.topic == "estarsync.control.v1"]
        return msgspec.json.decode(values[-1], type=Hold) if values and values[-1] else None

    @property
    def held(self) -> float | None:
        name = "estarsync_extractor_removals_held_keys"
        return self.metrics.registry.get_sample_value(name, {"entity": "products"})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.state.close()


def test_a_product_that_vanished_becomes_a_tombstone_once(world: World) -> None:
    before = world.snapshot()
    world.ids.pop()
    after = world.snapshot()
    gone = before - after
    assert 0 < len(gone) <= 10
    stones = [r for r in world.kafka.records if r.topic == "estar.products.v1" and r.value is None]
    assert {(r.key or b"").decode() for r in stones} == gone
    assert {version_of(r.headers)[2] for r in stones} == {Reason.REMOVED}
    written = len(world.kafka.records)
    assert world.snapshot() == after
    assert {r.topic for r in world.kafka.records[written:]} == {"estarsync.checkpoints.v1"}
    assert world.hold() is None


def test_a_product_that_comes_back_is_published_again(world: World) -> None:
    before = world.snapshot()
    last = world.ids.pop()
    world.snapshot()
    world.ids.append(last)
    assert world.snapshot() == before


@pytest.mark.parametrize("left", [0, 3])
def test_too_much_is_held_back_until_it_is_approved(world: World, left: int) -> None:
    before = world.snapshot()
    del world.ids[left:]
    assert world.snapshot() == before
    hold = world.hold()
    assert hold is not None
    assert world.held == hold.vanishing > 10
    assert world.snapshot() == before
    assert world.hold() == hold
    world.approval = Approval(hold.id, hold.vanishing)
    after = world.snapshot()
    assert len(before - after) == hold.vanishing
    assert world.hold() is None
    assert world.held == 0


def test_a_shop_that_is_whole_again_releases_the_hold_and_voids_its_approval(world: World) -> None:
    before = world.snapshot()
    ids = list(world.ids)
    world.ids.clear()
    world.snapshot()
    hold = world.hold()
    assert hold is not None
    world.ids.extend(ids)
    assert world.snapshot() == before
    assert world.hold() is None
    world.ids.clear()
    world.approval = Approval(hold.id, hold.vanishing)
    assert world.snapshot() == before
    assert (held := world.hold()) is not None
    assert held.id != hold.id


def test_what_is_listed_and_can_not_be_read_is_not_gone(world: World) -> None:
    before = world.snapshot()
    for identity in world.ids[-2:]:
        world.sandbox.shop.products.lose(int(identity))
    assert world.snapshot() == before
