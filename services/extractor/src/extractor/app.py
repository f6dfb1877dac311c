"""The extractor's composition root: every part is made and joined here."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import structlog
from confluent_kafka import Consumer

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.profile import TenantProfile
from estarsync_core.topics import declared_topics
from estarsync_runtime.estar.connect import connect, located
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.kafka.config import consumer_config, producer_config
from estarsync_runtime.kafka.control import ControlReader
from estarsync_runtime.kafka.leader import Leadership
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.lifecycle import Context
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import read_profile
from estarsync_runtime.tracing import OFF, Tracing
from extractor.backfill import BackfillFeed
from extractor.canary import CanaryFeed
from extractor.desk import Desk
from extractor.erasure import ErasureFeed
from extractor.feed_products import FeedProducts, product_feed
from extractor.feeds import Feed, Surroundings, WindowFeed
from extractor.inbox import Inbox, kafka_inbox
from extractor.letters import KafkaLetters, Letters
from extractor.loop import Loop
from extractor.notifications import NotificationFeed
from extractor.publisher import Publisher, PublishFailed
from extractor.redrive import RedriveFeed
from extractor.removals import ReadWord, Removals, nobody_spoke, read_word
from extractor.restore import Memory, remembering
from extractor.settings import Settings
from extractor.shop import Shop, shop_of
from extractor.snapshot import SnapshotFeed
from extractor.state import SourceState
from extractor.sweep import SweepFeed

LOOKS = dict.fromkeys(("erasures", "notifications", "redrive", "backfill", "canary"), 0.25)
"""Seconds between two looks of the feeds that listen."""
_SERVICE = "extractor"
_PAUSE = 1.0
_log = structlog.get_logger()


@contextmanager
def build(
    settings: Settings,
    profile: TenantProfile,
    source: EstarSource,
    memory: Memory,
    clock: Clock,
    metrics: Metrics,
    shelf: FeedProducts | None = None,
    tracing: Tracing = OFF,
) -> Iterator[Loop]:
    """An extractor that is ready to run: older ones are fenced and what the last one knew is restored; blocks.

    Args:
        settings: all of them.
        profile: the tenant's.
        source: the shop.
        memory: what is known already.
        clock: the time.
        metrics: what is shown.
        shelf: where products are, if not behind the site's operations.
        tracing: where pages are shown.

    Raises:
        RetryLater: Kafka does not answer.
    """
    # Before the rest is read: an older extractor must not write after that.
    producer = TransactionalProducer(producer_config(settings, "estarsync-extractor"), clock, metrics)
    memory.catch_up()
    state = memory.state
    publisher = Publisher(settings, producer, state, memory.checkpoints, clock, metrics, tracing)
    cadences = {name: minutes * 60 for name, minutes in profile.cadences.model_dump().items()} | LOOKS
    with (
        closing(ControlReader(settings)) as control,
        closing(KafkaLetters(settings)) as letters,
        kafka_inbox(settings, producer) as inbox,
    ):
        around = Surroundings(publisher, profile, clock, metrics, control.words.blocked, tracing)
        shop = shop_of(source, state, around, shelf)
        feeds = [
            *feeds_that_listen(shop, state, around, Desk(control), letters, inbox),
            *feeds_of(shop, state, around, cadences, partial(read_word, settings, Entity.PRODUCTS)),
        ]
        yield Loop(feeds, cadences, state, clock=clock, rng=_rng(), metrics=metrics)


def feeds_that_listen(
    shop: Shop, state: SourceState, around: Surroundings, desk: Desk, letters: Letters, inbox: Inbox
) -> list[Feed]:
    """Every feed that begins because somebody says so: a person, or the shop."""
    return [
        ErasureFeed(shop.readers[Entity.CONTACTS], around, desk, state),
        NotificationFeed(shop.readers[Entity.ORDERS], around, inbox, shop.retrieve_events),
        RedriveFeed(shop, around, desk, letters, state),
        BackfillFeed(shop, around, desk),
        CanaryFeed(shop.readers[Entity.ORDERS], around, desk, state),
    ]


def feeds_of(
    shop: Shop,
    state: SourceState,
    around: Surroundings,
    cadences: Mapping[str, float],
    read_word: ReadWord = nobody_spoke,
) -> list[Feed]:
    """Every feed that asks the shop by itself, contacts first, since orders wait for their contacts."""
    removals = Removals(Entity.PRODUCTS, state, around.publisher, read_word, around.metrics)
    readers = shop.readers
    (customers_modified,) = shop.lists[Entity.CONTACTS]
    orders_created, orders_modified = shop.lists[Entity.ORDERS]
    created = WindowFeed(
        "orders_created",
        orders_created,
        readers[Entity.ORDERS],
        around,
        starts=["orders_modified", "orders_deep"],
    )
    return [
        WindowFeed("contacts_modified", customers_modified, readers[Entity.CONTACTS], around),
        SnapshotFeed(
            "products_snapshot",
            shop.list_products,
            readers[Entity.PRODUCTS],
            around,
            cadences["products_snapshot"],
            removals,
        ),
        created,
        WindowFeed("orders_modified", orders_modified, readers[Entity.ORDERS], around, follows=created),
        SweepFeed(
            "orders_deep",
            orders_modified,
            readers[Entity.ORDERS],
            around,
            follows=created,
            cadence=cadences["orders_deep"],
        ),
    ]


@contextmanager
def open_shop(
    settings: Settings,
    context: Context,
    transport: httpx.BaseTransport | None = None,
    beat: Callable[[], None] | None = None,
) -> Iterator[tuple[TenantProfile, EstarSource]]:
    """The tenant's profile and its shop, checked; blocks.

    Args:
        settings: all of them.
        context: what the surroundings lend.
        transport: how the shop is reached; None for the network.
        beat: called before each call to the shop; None for a heartbeat.

    Raises:
        ConfigurationError: with every problem of the topics, the profile and the shop.
    """
    problems = _topic_problems(settings)
    with ExitStack() as stack:
        try:
            profile = read_profile(settings.tenant_profile)
            source = stack.enter_context(
                connect(
                    settings,
                    profile,
                    context.clock,
                    context.metrics,
                    transport=transport,
                    before_call=beat or context.health.beat,
                )
            )
            source.check()
        except ConfigurationError as error:
            raise ConfigurationError([*problems, *error.problems]) from error
        except RetryLater as error:
            problem = f"{error}: check ESTAR_BASE_URL and that the shop is up"
            raise ConfigurationError([*problems, problem]) from error
        if problems:
            raise ConfigurationError(problems)
        yield profile, source


def serve(settings: Settings, context: Context) -> None:
    """Read the shop until told to stop, whenever no other extractor does."""
    leadership = Leadership(settings, _SERVICE, context.metrics)

    def beat() -> None:
        context.health.beat()
        if leadership.held:
            leadership.check()

    with (
        closing(leadership),  # the last to go: the next one begins when this one has written everything
        open_shop(settings, context, beat=beat) as (profile, source),
        _table(settings) as state,
        remembering(settings, state, context.clock, beat) as memory,
        product_feed(profile, context.clock, beat, settings.data_dir) as shelf,
    ):
        settings = located(settings, profile)
        while not context.stop.is_set():
            try:
                if leadership.wait(context.stop, context.health, memory.follow):
                    with build(
                        settings,
                        profile,
                        source,
                        memory,
                        context.clock,
                        context.metrics,
                        shelf,
                        context.tracing,
                    ) as loop:
                        context.health.ready = True
                        _log.info("ready")
                        loop.run(context.stop, beat)
            except (PublishFailed, RetryLater) as error:
                # Whether the last page was written is not known: what Kafka holds decides.
                _log.warning("kafka_in_trouble", reason=str(error), again_in=_PAUSE)
                context.health.beat()
                context.stop.wait(_PAUSE)


@contextmanager
def _table(settings: Settings) -> Iterator[SourceState]:
    with ExitStack() as stack:
        folder = settings.data_dir or Path(stack.enter_context(TemporaryDirectory(prefix="extractor-")))
        folder.mkdir(parents=True, exist_ok=True)
        yield stack.enter_context(closing(SourceState(folder / "extractor.sqlite")))


def _topic_problems(settings: Settings) -> list[str]:
    names = [
        settings.topic(spec.name) for spec in declared_topics() if _SERVICE in (*spec.writers, *spec.readers)
    ]
    consumer = Consumer(consumer_config(settings, "estarsync-extractor"))
    try:
        partitions_of(consumer, names)
    except ConfigurationError as error:
        return list(error.problems)
    except RetryLater as error:
        return [f"{error}: check KAFKA_BOOTSTRAP_SERVERS and that Kafka is up"]
    finally:
        consumer.close()
    return []


def _rng() -> random.Random:
    return random.Random()  # noqa: S311 - spreads pauses
