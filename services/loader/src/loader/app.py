"""The loader's composition root: every part is made and joined here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import httpx
import structlog
from confluent_kafka import Consumer, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import Fenced, RetryLater
from estarsync_core.topics import CONTROL, DELIVERED, DELIVERIES, IMPORTS, dlq_topic, typed_topic
from estarsync_runtime.avro import codec_for
from estarsync_runtime.kafka.config import consumer_config, producer_config
from estarsync_runtime.kafka.control import ControlReader
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.leader import Leadership, LeadershipLost
from estarsync_runtime.kafka.positions import Positions, ends_of
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.kafka.restore import partitions_of, read_topics
from estarsync_runtime.lifecycle import Context
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from estarsync_runtime.tracing import OFF, Tracing
from loader.archive import KafkaArchive
from loader.batches import Spooler
from loader.calls import ThreadedCalls
from loader.control import Control
from loader.disk import Disk
from loader.engine import Engine
from loader.errands import Errands
from loader.gate import Gate
from loader.intake import Intake
from loader.lanes import Lanes
from loader.ledger import SERVICE, Ledger, Place
from loader.loop import Loop
from loader.reader import reading
from loader.recall import KafkaShelf, Recall
from loader.redrive import Redriver
from loader.replay import Replay
from loader.report import Settlement
from loader.restore import open_batches, rows_of
from loader.settings import Settings
from loader.standby import Standby, stand_by
from loader.traced import Traces

GROUP = f"estarsync-{SERVICE}"
_CALLS_AT_ONCE = 8
_TIMEOUT = 15.0
_COORDINATOR_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Topics:
    """The typed topics: their consumer, and all their partitions."""

    consumer: Consumer
    partitions: list[TopicPartition]


@contextmanager
def build(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    beat: Callable[[], None] = lambda: None,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[Loop]:
    """A loader that is ready to run, whoever else runs: an older one is fenced. Blocks while it restores its state.

    Whatever is wrong with the settings is found before that.

    Args:
        settings: all of them.
        clock: the time.
        metrics: what is shown.
        beat: called now and then: we are alive.
        transport: how Dotdigital is reached; None for the network.

    Raises:
        ConfigurationError: with every problem of the account, or of the topics.
    """
    with (
        topics(settings) as read,
        stand_by(settings, clock, metrics, beat, transport) as standby,
        lead(settings, standby, read, clock, metrics, beat) as loop,
    ):
        yield loop


@contextmanager
def topics(settings: Settings) -> Iterator[Topics]:
    """A consumer of the typed topics, which reads nothing yet.

    Raises:
        ConfigurationError: for topics that don't exist, or a broker that doesn't answer.
    """
    consumer = Consumer(consumer_config(settings, GROUP))
    try:
        inputs = _inputs(settings)
        found = partitions_of(consumer, inputs + _outputs(settings))
        yield Topics(consumer, [each for each in found if each.topic in inputs])
    finally:
        consumer.close()


@contextmanager
def lead(
    settings: Settings,
    standby: Standby,
    read: Topics,
    clock: Clock,
    metrics: Metrics,
    beat: Callable[[], None],
    tracing: Tracing = OFF,
) -> Iterator[Loop]:
    """The active loader. Blocks while it fences an older one and takes over what that one has left.

    Raises:
        RetryLater: Kafka does not answer.
    """
    with ExitStack() as stack:
        # First of all: from here on an older loader can't write, so what is read next is all there is.
        producer = TransactionalProducer(producer_config(settings, GROUP), clock, metrics)
        consumer, table, client = read.consumer, standby.table, standby.client
        begin = _committed(consumer, read.partitions, clock)
        another = partial(Consumer, consumer_config(settings, GROUP))
        reader = stack.enter_context(reading(consumer, begin, another))
        standby.delivered.catch_up(beat)
        send_offsets = partial(producer.send_offsets, consumer=consumer)
        ledger = Ledger(settings, producer, send_offsets, clock, beat)
        codec = codec_for(settings)
        people = ControlReader(settings)
        stack.callback(people.close)
        lanes = Lanes(people.words, ledger, clock, metrics, uuid4)
        settlement = Settlement(settings, table, ledger, lanes, clock, metrics)
        calls = ThreadedCalls(_CALLS_AT_ONCE)
        traces = Traces(tracing)
        stack.callback(calls.close)
        engine = Engine(
            settings,
            table,
            Spooler(
                standby.folder,
                standby.account,
                codec,
                settings.loader_batch_bytes,
                note=traces.took if traces.on else None,
            ),
            ledger,
            settlement,
            Gate(table, ledger, metrics, people.words.blocked, settings.contact_scope),
            Errands(
                table,
                ledger,
                codec,
                client,
                calls,
                lanes,
                standby.account.orders_collection,
                settings.contact_scope,
                clock,
                metrics,
                uuid4,
                people.words.blocked,
            ),
            client,
            calls,
            lanes,
            clock,
            metrics,
            uuid4,
            traces,
        )
        stack.callback(engine.close)
        imports = rows_of(read_topics(settings, [settings.topic(IMPORTS)]))
        engine.adopt(*open_batches(imports, standby.folder))
        blocked, scope = people.words.blocked, settings.contact_scope
        intake = Intake(settings, table, codec, ledger, metrics, blocked, scope, reader.unread)
        places: list[Place] = [(each.topic, each.partition) for each in read.partitions]
        archive = KafkaArchive(settings)
        names = {entity: settings.topic(typed_topic(entity)) for entity in Entity}
        replay = Replay(people.words, archive, intake, table, ledger, clock, metrics, names)
        stack.callback(replay.close)
        redriver = Redriver(people.words, archive, intake, table, ledger, clock)
        shelf = KafkaShelf(settings)
        stack.callback(shelf.close)
        recall = Recall(table, intake, shelf, settings.contact_scope)
        control = Control(people, lanes, settlement, replay, redriver, recall, clock)
        positions = Positions(metrics, clock, ends_of(consumer))
        own = names[Entity.CONTACTS]
        disk = Disk(
            settings.loader_disk_bytes,
            standby.folder,
            lambda: table.bytes_used + engine.bytes_used,
            reader,
            [place for place in places if place[0] == own],
            [place for place in places if place[0] != own],
            metrics,
        )
        yield Loop(reader, places, intake, engine, control, table, ledger, clock, positions, disk)


def serve(settings: Settings, context: Context) -> None:
    """Stand by until no other loader leads, then deliver until told to stop.

    Raises:
        Fenced: another loader has taken over.
    """
    clock, metrics, health = context.clock, context.metrics, context.health
    with ExitStack() as stack:
        read = stack.enter_context(topics(settings))
        standby = stack.enter_context(stand_by(settings, clock, metrics, health.beat))
        leadership = Leadership(settings, SERVICE, metrics)
        stack.callback(leadership.close)
        if not leadership.wait(context.stop, health, standby.delivered.follow):
            return
        loop = stack.enter_context(
            lead(settings, standby, read, clock, metrics, health.beat, context.tracing)
        )
        health.ready = True
        _log.info("ready")
        try:
            loop.run(context.stop, health, leadership.check)
        except LeadershipLost as error:
            raise Fenced(f"{error}; this one ends") from error


def _inputs(settings: KafkaSettings) -> list[str]:
    return [settings.topic(typed_topic(entity)) for entity in Entity]


def _outputs(settings: KafkaSettings) -> list[str]:
    dead_letters = [dlq_topic(typed_topic(entity)) for entity in Entity]
    return [settings.topic(name) for name in (*dead_letters, IMPORTS, DELIVERED, DELIVERIES, CONTROL)]


def _committed(consumer: Consumer, partitions: list[TopicPartition], clock: Clock) -> list[TopicPartition]:
    """Where to read every partition from: where the last loader had settled everything.

    There is one active loader, so it takes all partitions itself: no rebalance, no pause.
    """
    deadline = clock.monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            with translated():
                committed: list[TopicPartition] = consumer.committed(partitions, timeout=_TIMEOUT)
            return [at if at.offset >= 0 else first for first, at in zip(partitions, committed, strict=True)]
        except RetryLater as error:
            # A broker that has just started does not know the group's coordinator for a moment.
            if clock.monotonic() > deadline:
                raise
            _log.warning("kafka_error", reason=str(error))
            clock.sleep(_RETRY_SECONDS)
