"""The poller's notifications against the sandbox shop, with lists in the place of Kafka."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import RetryLater
from estarsync_core.estar.checkpoint import Checkpoint, decode_checkpoint
from estarsync_core.estar.notifications import Notification, read_notification
from estarsync_core.headers import version_of
from estarsync_core.profile import load_profile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock, FakeProducer, Written
from extractor.feeds import Surroundings
from extractor.inbox import Received
from extractor.notifications import NotificationFeed
from extractor.orders import orders
from extractor.publisher import Publisher, PublishFailed
from extractor.settings import Settings
from extractor.state import SourceState
from sandbox.estar import profile_path
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Editor
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.state import Event
from sandbox.estar.webhooks import envelope

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ZONE = ZoneInfo("Europe/London")


class Lists:
    """An inbox in memory."""

    def __init__(self) -> None:
        self.new: list[Received] = []
        self.taken = 0
        self.settled = 0

    def take(self) -> list[Received]:
        new, self.new = self.new, []
        self.taken += len(new)
        return new

    def settle(self) -> None:
        self.settled = self.taken


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(NOW)
        self.sandbox = ShopSandbox(generate(40, 1, ZONE), self.clock)
        self.shop = self.sandbox.shop
        self.profile = load_profile(profile_path().read_text(encoding="utf-8"), "test")
        self.kafka = FakeProducer()
        self.metrics = Metrics(CollectorRegistry())
        self.state = SourceState(folder / "state.sqlite")
        self.inbox = Lists()
        self.away = False
        self.feed = self.start()

    def start(self) -> NotificationFeed:
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(self.answer)),
            self.profile,
            "https://shop",
            Credentials("sandbox", "sandbox"),
            clock=self.clock,
            rng=random.Random(1),  # noqa: S311 - the same run every time
            metrics=self.metrics,
        )
        source = EstarSource(client, self.profile)
        settings = Settings.model_construct(estar_base_url="https://shop", topic_prefix="")
        checkpoints = {Entity.ORDERS: self.checkpoint}
        publisher = Publisher(settings, self.kafka, self.state, checkpoints, self.clock, self.metrics)
        around = Surroundings(publisher, self.profile, self.clock, self.metrics)
        reader = orders(source, self.state, self.profile, around.blocked)
        return NotificationFeed(reader, around, self.inbox, source.retrieve_events)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.away and b"Authenticate" not in request.content and request.url.path.endswith("Events.asmx"):
            return httpx.Response(503)
        return self.sandbox.handle(request)

    def edits(self, number: int, *kinds: str) -> list[Event]:
        editor = Editor(self.shop, Contract(), random.Random(1))  # noqa: S311 - the same run every time
        now = self.clock.now().astimezone(ZONE).replace(tzinfo=None)
        wanted = (kinds or ("order",)) * number
        return [
            event
            for kind in wanted
            for event in editor.apply(msgspec.convert({"kind": kind}, Edit), now).events
        ]

    def post(self, *events: Event) -> None:
        self.inbox.new += [Received("p/0/0", read_notification(envelope(event))) for event in events]

    def run(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            if self.feed.step():
                self.clock.advance(0.25)

    @property
    def published(self) -> list[Written]:
        return [record for record in self.kafka.records if record.topic == "estar.orders.v1"]

    @property
    def checkpoint(self) -> Checkpoint:
        values = [r.value for r in self.kafka.records if r.topic == "estarsync.checkpoints.v1"]
        return decode_checkpoint(values[-1] or b"") if values else Checkpoint()

    @property
    def dead(self) -> dict[str, str]:
        letters = [
            msgspec.json.decode(r.value or b"") for r in self.kafka.records if r.topic.endswith("dlq.v1")
        ]
        return {letter["id"]: letter["code"] for letter in letters}

    def count(self, outcome: str) -> float:
        name = "estarsync_extractor_notifications_total"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.state.close()


def test_an_order_is_read_again_and_published_live(world: World) -> None:
    (event,) = world.edits(1)
    world.post(event)
    world.run(2)
    (record,) = world.published
    assert (record.key or b"").decode() == event.message["orderID"]
    assert version_of(record.headers)[1] is Lane.LIVE
    assert world.inbox.settled == 1
    assert world.checkpoint.notifications == {str(event.subscriber): ((event.sequence, event.sequence),)}


def test_many_notifications_of_one_order_read_it_once(world: World) -> None:
    (event,) = world.edits(1)
    repeats = [Event(event.subscriber, event.sequence + n, event.type, event.message) for n in range(1, 5)]
    world.post(event, *repeats, event, event)
    world.run(2)
    assert len(world.published) == 1
    assert world.count("received") == 5
    assert world.count("duplicate") == 2
    assert world.sandbox.calls["Orders.Retrieve"] == 1


def test_what_is_missing_is_asked_for(world: World) -> None:
    events = world.edits(6)
    world.post(events[5], events[0], events[3])
    world.run(1.5)
    assert len(world.published) == 3
    world.run(10)
    assert {(record.key or b"").decode() for record in world.published} == {
        e.message["orderID"] for e in events
    }
    assert world.count("recovered") == 3
    assert world.checkpoint.notifications["1"] == ((events[0].sequence, events[5].sequence),)
    assert world.sandbox.calls["Events.Retrieve"] == 1


def test_what_the_shop_has_no_more_is_given_up_and_told(world: World) -> None:
    events = world.edits(3)
    world.shop.events.remove(events[1])
    world.post(events[0], events[2])
    world.run(900)
    assert world.sandbox.calls["Events.Retrieve"] == 8
    place = f"notification/{events[1].subscriber}/{events[1].sequence}"
    assert world.dead == {place: "notification_lost"}
    assert len(world.published) == 2
    assert world.count("lost") == 1


def test_a_shop_that_does_not_tell_what_is_missing_holds_nothing_up(world: World) -> None:
    events = world.edits(3)
    world.away = True
    world.post(events[0], events[2])
    world.run(60)
    assert len(world.published) == 2
    assert world.inbox.settled == 2
    world.away = False
    world.run(60)
    assert len(world.published) == 3


def test_what_is_missing_is_still_known_after_a_restart(world: World) -> None:
    events = world.edits(3)
    world.post(events[0], events[2])
    world.run(1)
    world.feed = world.start()
    world.run(2)
    assert len(world.published) == 3


def test_nothing_is_settled_before_it_is_published(world: World) -> None:
    world.kafka.failures = [RetryLater("rolled back")]
    world.post(*world.edits(1))
    with pytest.raises(PublishFailed):
        world.run(2)
    assert world.published == []
    assert world.checkpoint.notifications == {}


def test_an_unreadable_message_is_a_dead_letter(world: World) -> None:
    world.inbox.new.append(Received("notification/3/17", None, "not_json"))
    world.post(Event(1, 1, "dispatch.shipped", {"dispatchID": "9"}))
    world.run(2)
    assert world.dead == {"notification/3/17": "not_json"}
    assert world.inbox.settled == 2
    assert world.published == []


def test_a_split_brings_its_tree(world: World) -> None:
    (event,) = world.edits(1, "split")
    world.post(event)
    world.run(2)
    (record,) = world.published
    members = {order["ID"] for order in msgspec.json.decode(record.value or b"")["orders"]}
    assert set(event.message.values()) <= members


def test_events_that_can_not_be_read_are_absent(world: World) -> None:
    (event,) = world.edits(1)
    world.shop.events[-1] = Event(event.subscriber, event.sequence, "", event.message)
    found: dict[tuple[int, int], Notification] = world.feed._retrieve([(event.subscriber, event.sequence)])
    assert found == {}
