"""A resync from raw on a real Kafka: in order, exactly once, resumed after a kill, by range and by key."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from prometheus_client import CollectorRegistry

from estarsync_core.control import Progress, Resync, encode, request_key
from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.headers import FORCED, EventHeaders, version_of
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_core.progress import overall
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from sandbox.kafka import Broker
from transformer.app import build, raw_topics
from transformer.rewind import revision_of
from transformer.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]

CLOCK = SystemClock()
PARTITIONS = 6
PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""


@pytest.fixture
def settings(kafka: Broker, prefix: str, tmp_path: Path) -> Settings:
    profile = tmp_path / "profile.yaml"
    profile.write_text(PROFILE)
    return Settings(
        kafka_bootstrap_servers=kafka.bootstrap,
        topic_prefix=prefix,
        tenant_profile=profile,
        instance_id="here",
    )


def publish(settings: Settings, first: int, *keys: int, at: datetime | None = None) -> None:
    """Raw orders with these keys, their sequences from `first` on."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "partitioner": "murmur2_random"}
    )
    for sequence, key in enumerate(keys, first):
        line = {"Barcode": "SKU-1", "Title": f"Tee {sequence}", "Quantity": "2", "UnitPrice": "9.95"}
        record = {"ID": str(key), "Email": "a@shop.example", "OrderDate": "2024-01-02", "Status": "Completed"}
        value = json.dumps({"orders": [record | {"Items": [line]}]}).encode()
        headers = EventHeaders(
            Entity.ORDERS, Version(sequence, 0), Lane.LIVE, "test", CLOCK.now(), typed=False
        ).encode()
        stamp = 0 if at is None else int(at.timestamp() * 1000)
        producer.produce(
            settings.topic(raw_topic(Entity.ORDERS)), value, str(key), timestamp=stamp, headers=[*headers]
        )
        producer.poll(0)
    assert producer.flush(30) == 0


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    stop = StopSignal()
    with build(settings, CLOCK, Metrics(CollectorRegistry())) as loop, ThreadPoolExecutor(1) as thread:
        done = thread.submit(loop.run, raw_topics(settings), stop, Health(CLOCK))
        try:
            yield
        finally:
            stop.set()
            done.result(60)


@contextmanager
def process(settings: Settings, instance: str) -> Iterator[subprocess.Popen[bytes]]:
    """A transformer that is slow enough to be met in mid-stream."""
    env = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "TENANT_PROFILE": str(settings.tenant_profile),
        "INSTANCE_ID": instance,
        "TRANSFORMER_BATCH_RECORDS": "5",
    }
    with subprocess.Popen([sys.executable, "-m", "transformer"], env=env) as it:
        try:
            yield it
        finally:
            it.kill()


def written(settings: Settings) -> list[Message]:
    return list(read_topics(settings, [settings.topic(typed_topic(Entity.ORDERS))]))


def sequences(messages: list[Message]) -> list[int]:
    return [version_of(headers_of(message))[0].sequence for message in messages]


def again(messages: list[Message]) -> list[Message]:
    """Those that a resync wrote."""
    return [message for message in messages if version_of(headers_of(message))[1] is Lane.BULK]


def until(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < deadline, "it did not happen in time"
        CLOCK.sleep(0.1)


def ask(settings: Settings, request: Resync) -> None:
    write_words(settings, {request_key(request): encode(request)})


def come(settings: Settings, request: Resync) -> Progress | None:
    return overall(read_words(settings), request.id, PARTITIONS)


def over(settings: Settings, request: Resync) -> bool:
    found = come(settings, request)
    return found is not None and found.over


def wanted(**changes: object) -> Resync:
    return msgspec.structs.replace(Resync("r1", Entity.ORDERS, "raw", CLOCK.now()), **changes)


def test_everything_is_mapped_again_in_order_and_live_events_come_after_it(settings: Settings) -> None:
    publish(settings, 1, *range(40), 7, 7)
    request = wanted()
    with running(settings):
        until(lambda: len(written(settings)) == 42)
        ask(settings, request)
        until(lambda: over(settings, request))
        publish(settings, 100, 7)
        until(lambda: len(written(settings)) == 85)
    messages = written(settings)
    assert sorted(sequences(again(messages))) == list(range(1, 43))
    seven = [message for message in messages if message.key() == b"7"]
    assert sequences(seven) == [8, 41, 42, 8, 41, 42, 100]
    first, second = seven[2], seven[5]
    assert first.value() == second.value()  # the same record, mapping and schema: the same bytes
    versions = [version_of(headers_of(message))[0] for message in (first, second)]
    assert versions[0].revision == MAPPING_REVISION
    assert versions[1] == Version(42, revision_of(request))
    assert versions[1] > versions[0]  # whatever the profile says now is newer than what it said then
    assert all(FORCED not in dict(headers_of(message)) for message in messages)
    progress = come(settings, request)
    assert progress is not None
    assert (progress.state, progress.done, progress.total) == ("done", 42, 42)


def test_a_resync_goes_on_after_a_kill_and_is_shared_and_each_record_is_written_once_more(
    settings: Settings,
) -> None:
    keys = range(1500)
    publish(settings, 1, *keys)
    request = wanted()
    with running(settings):
        until(lambda: len(written(settings)) == len(keys))
    ask(settings, request)
    with process(settings, "one") as one:
        until(lambda: 0 < len(again(written(settings))) < len(keys))
        one.send_signal(signal.SIGKILL)
        one.wait(10)
    before = len(again(written(settings)))
    assert before < len(keys)  # it was killed in mid-resync
    publish(settings, 5001, *keys[:50])
    with process(settings, "one"), process(settings, "two"):
        until(lambda: over(settings, request))
        until(lambda: len(written(settings)) >= 2 * len(keys) + 50)
    messages = written(settings)
    assert Counter(sequences(again(messages))) == Counter(range(1, len(keys) + 1))
    assert Counter(sequences(messages)) == Counter(
        [*range(1, len(keys) + 1), *range(1, len(keys) + 1), *range(5001, 5051)]
    )
    latest = latest_of(messages)
    assert all(latest[str(key).encode()] == 5001 + key for key in keys[:50])


def test_a_range_that_ends_in_the_past_never_puts_an_older_version_after_a_newer(settings: Settings) -> None:
    noon = datetime(2024, 1, 2, 12, tzinfo=UTC)
    publish(settings, 1, 1, 2, 3, at=noon)
    publish(settings, 4, 4, 5, 6, at=noon + timedelta(hours=1))
    publish(settings, 7, 1, 5, at=noon + timedelta(hours=2))
    request = wanted(
        since=noon + timedelta(minutes=30), until=noon + timedelta(minutes=90), force=True, id="range"
    )
    with running(settings):
        until(lambda: len(written(settings)) == 8)
        ask(settings, request)
        until(lambda: over(settings, request))
        publish(settings, 9, 9)
        until(lambda: len(written(settings)) == 11)
    found = again(written(settings))
    assert sorted(sequences(found)) == [4, 6]  # 5 was published once more since
    assert {dict(headers_of(message))[FORCED] for message in found} == {b"range"}


def test_a_few_keys_alone(settings: Settings) -> None:
    publish(settings, 1, *range(20), 3)
    request = wanted(keys=("3", "15"))
    with running(settings):
        until(lambda: len(written(settings)) == 21)
        ask(settings, request)
        until(lambda: over(settings, request))
    assert Counter(message.key() for message in again(written(settings))) == {b"3": 2, b"15": 1}


def test_what_the_topic_has_lost_is_refused_in_words(settings: Settings) -> None:
    publish(settings, 1, *range(20))
    topic = settings.topic(raw_topic(Entity.ORDERS))
    request = wanted()
    with running(settings):
        until(lambda: len(written(settings)) == 20)
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        deleting = ConfigEntry(
            "cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(
            ConfigResource.Type.TOPIC,
            topic,
            incremental_configs=[deleting],
        )
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()
        places = [TopicPartition(topic, number, 1) for number in range(PARTITIONS)]
        for future in admin.delete_records(places).values():
            future.result()
        ask(settings, request)
        until(lambda: over(settings, request))
    progress = come(settings, request)
    assert progress is not None
    assert progress.state == "refused"
    assert "backfill" in (progress.reason or "")
    assert again(written(settings)) == []


def test_one_that_is_stopped_leaves_the_newest_versions_last_and_can_be_taken_up_again(
    settings: Settings,
) -> None:
    publish(settings, 1, *range(600))
    publish(settings, 601, *range(600))
    request = wanted()
    slow = settings.model_copy(update={"transformer_batch_records": 5})
    with running(settings):
        until(lambda: len(written(settings)) == 1200)
    ask(settings, request)
    with running(slow):
        until(lambda: again(written(settings)))
        ask(settings, msgspec.structs.replace(request, cancelled=True))
        until(lambda: over(settings, request))
        stopped = written(settings)
        assert 0 < len(again(stopped)) < 1200
        assert latest_of(stopped) == {str(key).encode(): 601 + key for key in range(600)}
        publish(settings, 2000, 5000)
        until(lambda: 2000 in sequences(written(settings)))
        assert len(written(settings)) == len(stopped) + 1
    ask(settings, request)
    with running(settings):
        until(lambda: over(settings, request) and come_state(settings, request) == "done")
    messages = written(settings)
    assert set(sequences(again(messages))) == {*range(1, 1201), 2000}
    assert latest_of(messages) == {str(key).encode(): 601 + key for key in range(600)} | {b"5000": 2000}


def come_state(settings: Settings, request: Resync) -> str | None:
    found = come(settings, request)
    return None if found is None else found.state


def latest_of(messages: list[Message]) -> dict[bytes | None, int]:
    """The sequence of each key's last record."""
    return {message.key(): sequence for message, sequence in zip(messages, sequences(messages), strict=True)}
