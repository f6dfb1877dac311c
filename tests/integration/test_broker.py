"""The broker that the other tests stand on: real, transactional, and gone with its owner."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # documented

from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import CONTROL, declared_topics
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.admin import apply_topics, missing_topics
from sandbox.kafka import Broker
from sandbox.kafka.ping import answers

pytestmark = pytest.mark.kafka

OWNER = """
import sys
from sandbox.kafka import broker

with broker(lambda line: None, real=True) as it:
    print(it.bootstrap, flush=True)
    sys.stdin.read()
"""


def producer(kafka: Broker, transactional_id: str) -> Producer:
    return Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": transactional_id})


@pytest.fixture
def consumer(kafka: Broker, prefix: str) -> Iterator[Consumer]:
    it = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"{prefix}test",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    yield it
    it.close()


def values(consumer: Consumer, count: int) -> list[bytes]:
    """The next records, or fewer where no more come within a second."""
    found: list[bytes] = []
    clock = SystemClock()
    end = clock.monotonic() + 15
    while len(found) < count and clock.monotonic() < end:
        message = consumer.poll(1.0)
        if message is not None:
            assert message.error() is None
            found.append(message.value() or b"")
    return found


def test_it_is_a_real_kafka(kafka: Broker) -> None:
    assert kafka.real
    assert answers(kafka.bootstrap, 5)


@pytest.mark.usefixtures("topics")
def test_only_committed_transactions_are_read(kafka: Broker, prefix: str, consumer: Consumer) -> None:
    topic = f"{prefix}{CONTROL}"
    writer = producer(kafka, f"{prefix}writer")
    writer.init_transactions(30)
    for value, keep in ((b"kept", True), (b"dropped", False), (b"kept too", True)):
        writer.begin_transaction()
        writer.produce(topic, value, b"key")
        writer.flush(10)
        if keep:
            writer.commit_transaction(15)
        else:
            writer.abort_transaction(15)
    consumer.subscribe([topic])
    assert values(consumer, 2) == [b"kept", b"kept too"]
    assert consumer.poll(0.5) is None


@pytest.mark.usefixtures("topics")
def test_an_older_producer_is_fenced(kafka: Broker, prefix: str) -> None:
    first, second = (producer(kafka, f"{prefix}same") for _ in range(2))
    first.init_transactions(30)
    second.init_transactions(30)
    first.begin_transaction()
    first.produce(f"{prefix}{CONTROL}", b"too late", b"key")
    with pytest.raises(KafkaException) as caught:
        first.commit_transaction(15)
    assert caught.value.args[0].code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def test_the_topics_are_as_declared(kafka: Broker, prefix: str, topics: list[str]) -> None:
    specs = {f"{prefix}{spec.name}": spec for spec in declared_topics()}
    assert sorted(topics) == sorted(specs)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    metadata = admin.list_topics(timeout=10).topics
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in specs]
    for resource, future in admin.describe_configs(resources).items():
        spec, config = specs[resource.name], future.result()
        assert len(metadata[resource.name].partitions) == spec.partitions
        assert {key: config[key].value for key in spec.config} == {k: str(v) for k, v in spec.config.items()}


def test_applying_topics_again_changes_nothing(kafka: Broker, prefix: str, topics: list[str]) -> None:
    config = {"bootstrap.servers": kafka.bootstrap}
    assert apply_topics(config, declared_topics(), prefix, 1, 10) == []
    assert missing_topics(config, declared_topics(), prefix, 10) == []
    assert sorted(missing_topics(config, declared_topics(), f"other.{prefix}", 10)) == sorted(
        f"other.{name}" for name in topics
    )


@pytest.mark.usefixtures("topics")
def test_a_topic_that_differs_is_reported(kafka: Broker, prefix: str) -> None:
    control, *_ = (spec for spec in declared_topics() if spec.name == CONTROL)
    specs = [
        control.model_copy(update={"partitions": control.partitions + 1}),
        control.model_copy(update={"config": {"cleanup.policy": "delete"}}),
    ]
    for spec, complaint in zip(specs, ("partitions", "cleanup.policy=compact"), strict=True):
        with pytest.raises(ConfigurationError) as caught:
            apply_topics({"bootstrap.servers": kafka.bootstrap}, [spec], prefix, 1, 10)
        assert len(caught.value.problems) == 1
        assert complaint in caught.value.problems[0]
        assert f"{prefix}{CONTROL}" in caught.value.problems[0]


def test_a_topic_that_the_broker_refuses_is_a_configuration_problem(kafka: Broker, prefix: str) -> None:
    spec = declared_topics()[0].model_copy(update={"config": {"cleanup.policy": "nonsense"}})
    with pytest.raises(ConfigurationError, match=r"can't be created"):
        apply_topics({"bootstrap.servers": kafka.bootstrap}, [spec], prefix, 1, 10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its owner")
@pytest.mark.skipif(bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS")), reason="the broker is somebody else's")
@pytest.mark.usefixtures("kafka")  # so that it is known that one can be had
def test_the_broker_stops_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    ) as owner:
        assert owner.stdout is not None
        bootstrap = owner.stdout.readline().strip()
        assert answers(bootstrap, 5)
        owner.send_signal(signal.SIGKILL)
    clock = SystemClock()
    deadline = clock.monotonic() + 15  # a container takes a moment
    while answers(bootstrap, 0.3):
        assert clock.monotonic() < deadline
        clock.sleep(0.1)
