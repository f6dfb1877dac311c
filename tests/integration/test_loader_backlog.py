"""Reading what is new beside a backlog, on a real Kafka: every record once, and the ends are told."""

from functools import partial

import pytest
from confluent_kafka import Consumer, Producer

from estarsync_core.entities import Entity
from estarsync_core.topics import typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings
from loader.reader import reading

pytestmark = pytest.mark.kafka

CLOCK = SystemClock()


class Topic:
    """Writes numbers, a transaction for each call."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.name = prefix + typed_topic(Entity.PRODUCTS)
        self._producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}numbers"})
        self._producer.init_transactions(30)

    def write(self, numbers: range) -> None:
        self._producer.begin_transaction()
        for number in numbers:
            self._producer.produce(self.name, str(number), str(number))
        self._producer.commit_transaction(60)


@pytest.mark.parametrize("far", [10, 10_000])
def test_every_record_is_read_once_and_the_ends_are_told(kafka, topics, prefix, far):
    del topics  # they are there
    settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
    topic = Topic(kafka.bootstrap, prefix)
    topic.write(range(500))
    another = partial(Consumer, consumer_config(settings, "numbers"))
    consumer = another()
    places = partitions_of(consumer, [topic.name])
    read: list[int] = []
    ends: set[int] = set()
    deadline = CLOCK.monotonic() + 60
    with reading(consumer, places, another, far) as reader:
        behind = {
            each.partition for each in places if reader.unread((topic.name, each.partition)) is not None
        }
        assert bool(behind) is (far == 10)
        topic.write(range(500, 700))
        while len(read) < 700 or len(ends) < len(places):
            assert CLOCK.monotonic() < deadline, (len(read), ends)
            for message in reader.consume(50, 0.1):
                if message.error() is None:
                    read.append(int(message.value() or b""))
                    ends.discard(message.partition() or 0)
                else:
                    ends.add(message.partition() or 0)
        assert all(reader.unread((topic.name, each.partition)) is None for each in places)
    consumer.close()
    assert sorted(read) == list(range(700))
