"""The broker of last resort: librdkafka's mock cluster, hosted by a client in this process."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException, Producer

from sandbox.kafka.kinds import Broker, Unavailable

_START_SECONDS = 10.0


@contextmanager
def mock_cluster() -> Iterator[Broker]:
    """Host a mock cluster; topics appear in it on their first use, with 4 partitions."""
    host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    try:
        brokers = host.list_topics(timeout=_START_SECONDS).brokers.values()
    except KafkaException as error:
        raise Unavailable(f"librdkafka's mock did not start: {error.args[0].str()}") from error
    yield Broker(
        ",".join(f"{broker.host}:{broker.port}" for broker in brokers),
        "mock",
        "a development broker in memory (librdkafka's mock, not Kafka): its transactions isolate and fence "
        "nothing, and a partition keeps its last 5 MiB or 100,000 records",
    )
    del host  # the cluster lives as long as its host


def create_topics(bootstrap: str, names: Iterable[str]) -> None:
    """Make topics appear in a mock cluster, which refuses to create them but does so when a producer asks.

    Its consumers create none: a service that only reads a topic would not find it.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for name in names:
        producer.list_topics(name, timeout=_START_SECONDS)
