"""The transformer on a real Kafka: exactly once, whatever happens to its processes."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from estarsync_core.entities import Entity, Lane, Reason, Version
from estarsync_core.headers import EventHeaders, version_of
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_core.topics import dlq_topic, raw_topic, typed_topic
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.config import MAX_MESSAGE_BYTES
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import EXIT_FENCED, EXIT_STOPPED, StopSignal
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker
from transformer.app import GROUP, build, raw_topics
from transformer.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]

PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
TIME = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
CLOCK = SystemClock()
CODEC = AvroCodec()
Row = tuple[Entity, str, bytes | None]


class Shop:
    """What a poller would do: publishes raw events, a transaction for each call."""

    def __init__(self, kafka: Broker, prefix: str) -> None:
        self._prefix = prefix
        self._sequence = 0
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "transactional.id": f"{prefix}shop",
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_MESSAGE_BYTES,
            }
        )
        self._producer.init_transactions(30)

    def publish(self, rows: Iterable[Row], reason: Reason | None = None) -> None:
        self._producer.begin_transaction()
        for entity, key, value in rows:
            self._sequence += 1
            headers = EventHeaders(
                entity, Version(self._sequence, 0), Lane.BULK, "test", TIME, typed=False, reason=reason
            )
            topic = self._prefix + raw_topic(entity)
            self._producer.produce(topic, value, key, headers=[*headers.encode()])
        self._producer.commit_transaction(30)


@pytest.fixture
def shop(kafka: Broker, prefix: str) -> Shop:
    return Shop(kafka, prefix)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def settings(kafka: Broker, prefix: str, profile: Path) -> Settings:
    return Settings(
        kafka_bootstrap_servers=kafka.bootstrap,
        topic_prefix=prefix,
        tenant_profile=profile,
        instance_id="here",
    )


@contextmanager
def running(settings: Settings, metrics: Metrics | None = None) -> Iterator[None]:
    """A transformer in this process."""
    stop = StopSignal()
    with (
        build(settings, CLOCK, metrics or Metrics(CollectorRegistry())) as loop,
        ThreadPoolExecutor(1) as thread,
    ):
        done = thread.submit(loop.run, raw_topics(settings), stop, Health(CLOCK))
        try:
            yield
        finally:
            stop.set()
            done.result(60)


@contextmanager
def process(settings: Settings, instance: str = "one", batch: int = 100) -> Iterator[subprocess.Popen[bytes]]:
    """A transformer as its users run it; with a small batch it is slow enough to be met in mid-stream."""
    env = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "TENANT_PROFILE": str(settings.tenant_profile),
        "INSTANCE_ID": instance,
        "TRANSFORMER_BATCH_RECORDS": str(batch),
        "SCHEMA_REGISTRY_URL": settings.schema_registry_url or "",
    }
    with subprocess.Popen([sys.executable, "-m", "transformer"], env=env) as it:
        try:
            yield it
        finally:
            it.kill()


def order(number: int) -> Row:
    line = {"Barcode": "SKU-1", "Title": "Tee", "Quantity": "2", "UnitPrice": "9.95"}
    record = {
        "ID": str(number),
        "Email": f"c{number}@shop.example",
        "OrderDate": "2024-01-02",
        "Status": "Completed",
        "Items": [line],
    }
    return Entity.ORDERS, str(number), json.dumps({"orders": [record]}).encode()


def written(settings: KafkaSettings, topic: str) -> list[Message]:
    """Everything committed in a topic."""
    return list(read_topics(settings, [settings.topic(topic)]))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < deadline, "it did not happen in time"
        CLOCK.sleep(0.05)


def lag(settings: Settings) -> int:
    """How far the group is behind the ends of the raw topics, as its owner would see it."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": f"{settings.topic_prefix}{GROUP}",
            "isolation.level": "read_committed",
        }
    )
    try:
        places = [TopicPartition(topic, number) for topic in raw_topics(settings) for number in range(6)]
        ends = [_end(consumer, place) for place in places]
        committed = [max(0, place.offset) for place in _committed(consumer, places)]
        return sum(ends) - sum(committed)
    finally:
        consumer.close()


def _committed(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    while True:
        try:
            return list(consumer.committed(places, 10))
        except KafkaException as error:
            # A broker that has just started, or is busy, looks for its coordinator.
            passing = error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT
            if not passing:
                raise
            CLOCK.sleep(0.1)


def _end(consumer: Consumer, place: TopicPartition) -> int:
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, 10)[1])
        except KafkaException as error:
            # A moment after a topic was made, or while the broker is busy.
            if error.args[0].code() not in {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TIMED_OUT}:
                raise
            CLOCK.sleep(0.1)


def assert_exactly_once(settings: Settings, numbers: Sequence[int]) -> None:
    times = Counter(
        (message.key() or b"").decode() for message in written(settings, typed_topic(Entity.ORDERS))
    )
    assert {key: count for key, count in times.items() if count != 1} == {}
    assert set(times) == {str(number) for number in numbers}


def test_every_entity_becomes_a_payload_and_lag_ends_at_zero(settings: Settings, shop: Shop) -> None:
    customer = {"ID": "7", "Email": "c7@shop.example", "FirstName": "Aroha"}
    item = {"product": {"ID": "5", "Title": "Tee", "Price": "9.95"}, "item": {"Barcode": "SKU-1"}}
    registry = CollectorRegistry()
    with running(settings, Metrics(registry)):
        shop.publish(
            [
                (Entity.CONTACTS, "c7@shop.example", json.dumps({"customers": [customer]}).encode()),
                (Entity.PRODUCTS, "SKU-1", json.dumps(item).encode()),
                order(100),
            ]
        )
        until(lambda: lag(settings) == 0)
    names = {Entity.CONTACTS: "email", Entity.PRODUCTS: "sku", Entity.ORDERS: "id"}
    for entity, name in names.items():
        (message,) = written(settings, typed_topic(entity))
        document = CODEC.decode(entity, message.value() or b"")
        assert document[name].encode() == message.key()
        version, lane, reason = version_of(headers_of(message))
        assert (version.revision, lane, reason) == (MAPPING_REVISION, Lane.BULK, None)
        assert dict(headers_of(message))["ce_time"] == b"2024-01-02T03:04:05.000Z"
        counted = registry.get_sample_value(
            "estarsync_transformer_records_total", {"entity": entity, "outcome": "payload"}
        )
        assert counted == 1


def test_a_tombstone_stays_one_and_an_order_not_sent_becomes_one(settings: Settings, shop: Shop) -> None:
    with running(settings):
        shop.publish([(Entity.CONTACTS, "old@shop.example", None)], Reason.RENAMED)
        unpaid = {"orders": [{"ID": "9", "Status": "Initiated"}]}
        shop.publish([(Entity.ORDERS, "9", json.dumps(unpaid).encode())])
        until(lambda: lag(settings) == 0)
    for entity, key, reason in (
        (Entity.CONTACTS, b"old@shop.example", "renamed"),
        (Entity.ORDERS, b"9", "removed"),
    ):
        (message,) = written(settings, typed_topic(entity))
        assert (message.key(), message.value()) == (key, None)
        assert version_of(headers_of(message))[2] == reason


def test_a_bad_record_becomes_a_dead_letter_and_the_rest_goes_on(settings: Settings, shop: Shop) -> None:
    with running(settings):
        shop.publish([order(1), (Entity.ORDERS, "2", b"<html>"), order(3)])
        until(lambda: lag(settings) == 0)
    assert_exactly_once(settings, [1, 3])
    (letter,) = written(settings, dlq_topic(raw_topic(Entity.ORDERS)))
    assert (letter.key(), letter.value()) == (b"2", b"<html>")
    headers = dict(headers_of(letter))
    assert headers["ce_sequence"] == b"2"
    assert headers["__connect.errors.topic"] == settings.topic(raw_topic(Entity.ORDERS)).encode()
    assert (headers["estarsync.field"], headers["estarsync.code"]) == (b"value", b"not_json")


BAD = (
    b"",
    b"<html>",
    b"\0\0\0\0\x07{}",
    b"[" * 300_000,
    b'{"orders":' * 300_000,
    b"\xed\xa0\x80",
    b"x" * (3 << 20),
    b"NaN",
)


def test_bad_input_of_every_kind_becomes_dead_letters_and_its_neighbours_go_on(
    settings: Settings, shop: Shop
) -> None:
    rows: list[Row] = [(Entity.ORDERS, f"bad{number}", value) for number, value in enumerate(BAD)]
    good = range(100)
    with process(settings) as it:
        shop.publish([*map(order, good[:50]), *rows, *map(order, good[50:])])
        until(lambda: lag(settings) == 0)
        assert it.poll() is None
        it.send_signal(signal.SIGTERM)
        assert it.wait(30) == EXIT_STOPPED
    assert_exactly_once(settings, good)
    letters = written(settings, dlq_topic(raw_topic(Entity.ORDERS)))
    assert {letter.key(): letter.value() for letter in letters} == {
        key.encode(): value for _, key, value in rows
    }
    assert len(letters) == len(BAD)


def test_exactly_once_across_kills(settings: Settings, shop: Shop) -> None:
    numbers = range(4000)
    shop.publish(map(order, numbers[:2000]))
    for part in (numbers[2000:3000], numbers[3000:]):
        before = lag(settings)
        with process(settings, batch=2) as it:
            until(lambda before=before: lag(settings) < before)  # type: ignore[misc]  # mypy infers no default
            it.send_signal(signal.SIGKILL)
            it.wait(10)
        assert lag(settings) > 0  # it was killed in mid-stream
        shop.publish(map(order, part))
    with process(settings) as it:
        until(lambda: lag(settings) == 0)
        it.send_signal(signal.SIGTERM)
        assert it.wait(30) == EXIT_STOPPED
    assert_exactly_once(settings, numbers)


def test_exactly_once_while_processes_come_and_go(settings: Settings, shop: Shop) -> None:
    numbers = range(6000)
    shop.publish(map(order, numbers[:2000]))
    with ExitStack() as stack:
        first = stack.enter_context(process(settings, "first"))
        until(lambda: lag(settings) < 2000)
        stack.enter_context(process(settings, "second"))
        shop.publish(map(order, numbers[2000:4000]))
        until(lambda: lag(settings) == 0)
        shop.publish(map(order, numbers[4000:]))
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == EXIT_STOPPED
        until(lambda: lag(settings) == 0)
    assert_exactly_once(settings, numbers)


def test_a_newer_process_of_the_same_name_fences_the_older(settings: Settings, shop: Shop) -> None:
    with process(settings, "same") as older:
        shop.publish(map(order, range(10)))
        until(lambda: lag(settings) == 0)
        with process(settings, "same"):
            deadline = CLOCK.monotonic() + 60
            number = 10
            while older.poll() is None:
                assert CLOCK.monotonic() < deadline
                shop.publish([order(number)])
                number += 1
                CLOCK.sleep(0.2)
            assert older.returncode == EXIT_FENCED
            until(lambda: lag(settings) == 0)
    assert_exactly_once(settings, range(number))
