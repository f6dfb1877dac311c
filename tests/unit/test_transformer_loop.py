"""The loop's promises when Kafka misbehaves, with a scripted consumer and producer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry

from estarsync_core.control import Words
from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.errors import Fenced, RetryLater, Stop
from estarsync_core.headers import EventHeaders, RawHeaders
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_core.topics import CONTROL
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.errors import TransactionAborted
from estarsync_runtime.kafka.positions import Positions
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock
from transformer.flood import Flood, FloodLimits
from transformer.handler import Handler
from transformer.loop import Loop
from transformer.rewinds import Rewinds

TOPIC = "estar.orders.v1"
PROFILE = """
websites:
  "1": {currency: NZD, product_url: "https://shop.example/p/{id}", image_base: "https://shop.example"}
"""
HANDLER = Handler(Mapper(load_profile(PROFILE, "test")), AvroCodec(), "", "here")
HEADERS = EventHeaders(
    Entity.ORDERS, Version(1, 0), Lane.LIVE, "test", datetime(2024, 1, 1, tzinfo=UTC), typed=False
).encode()
VALUE = b'{"orders":[{"ID":"1","Status":"Initiated"}]}'  # not sent: a tombstone
BAD = b"<html>"
Offsets = list[tuple[int, int]]


def record(partition: int, offset: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, key=b"1", value=VALUE, headers=[*HEADERS])


def bad(partition: int, offset: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, key=b"1", value=BAD, headers=[*HEADERS])


def failure(code: int, partition: int = 0, offset: int = 0, *, fatal: bool = False) -> Message:
    error = KafkaError(code, "text", fatal)
    return Message(topic=TOPIC, partition=partition, offset=offset, error=error)


def end(partition: int, offset: int) -> Message:
    return failure(KafkaError._PARTITION_EOF, partition, offset)


class ScriptedConsumer:
    """Gives out batches; a step may also call the rebalance callbacks, as consume does."""

    def __init__(self, *partitions: int) -> None:
        self.owned = list(partitions)
        self.batches: list[Callable[[], list[Message]]] = []
        self.seeks: Offsets = []
        self.committed_offset = -1001
        self.broken = False
        self.on_revoke: Callable[[object, list[TopicPartition]], None] | None = None

    def subscribe(
        self, topics: list[str], **callbacks: Callable[[object, list[TopicPartition]], None]
    ) -> None:
        assert topics == [TOPIC]
        self.on_revoke = callbacks["on_revoke"]
        callbacks["on_assign"](self, self.assignment())

    def consume(self, most: int, seconds: float) -> list[Message]:
        assert (most, seconds) == (100, 0.25)
        return self.batches.pop(0)()

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, number) for number in self.owned]

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout
        if self.broken:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition(it.topic, it.partition, self.committed_offset) for it in partitions]

    def seek(self, place: TopicPartition) -> None:
        if self.broken:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.seeks.append((place.partition, place.offset))

    def lose(self, *partitions: int) -> None:
        assert self.on_revoke is not None
        self.on_revoke(self, [TopicPartition(TOPIC, number) for number in partitions])


class ScriptedProducer:
    """Keeps what was committed; fails as it is told."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.failures: list[Exception | None] = []
        self.seconds_per_record = 0.0
        self.records = 0
        self.offsets: list[Offsets] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._open = 0
        yield
        problem = self.failures.pop(0) if self.failures else None
        if problem is not None:
            raise problem
        self.records += self._open
        self.offsets.append(self._offsets)

    def produce(self, topic: str, key: bytes, value: bytes | None, headers: RawHeaders) -> None:
        assert (topic, key, value) in {
            ("dotdigital.orders.v1", b"1", None),
            ("estar.orders.v1.dlq", b"1", BAD),
        }
        assert headers
        self._clock.advance(self.seconds_per_record)
        self._open += 1

    def send_offsets(self, offsets: Sequence[TopicPartition], consumer: object) -> None:
        assert consumer
        self._offsets = [(it.partition, it.offset) for it in offsets]


class ScriptedControl:
    """What stands on the control topic."""

    def __init__(self) -> None:
        self.words = Words()
        self.new: set[str] = set()

    def poll(self) -> set[str]:
        new, self.new = self.new, set()
        return new


class Rig:
    def __init__(self, *partitions: int) -> None:
        self.clock = FakeClock()
        self.consumer = ScriptedConsumer(*partitions)
        self.producer = ScriptedProducer(self.clock)
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.stop = StopSignal()
        self.control = ScriptedControl()
        self.loop = Loop(
            cast("Consumer", self.consumer),
            cast("TransactionalProducer", self.producer),
            HANDLER,
            metrics,
            Positions(metrics, self.clock, lambda _: None),
            self.clock,
            Flood(FloodLimits(run=3, share=0.2)),
            Rewinds(
                {TOPIC: Entity.ORDERS},
                cast("Consumer", self.consumer),
                cast("TransactionalProducer", self.producer),
                CONTROL,
                self.control,
                lambda: self.control.words,
                self.clock,
            ),
            batch_records=100,
            batch_seconds=0.25,
        )

    def run(self, *batches: Callable[[], list[Message]]) -> None:
        self.consumer.batches = [*batches, self._last]
        self.loop.run([TOPIC], self.stop, Health(self.clock))

    def _last(self) -> list[Message]:
        self.stop.set()
        return []

    def counted(self) -> float:
        labels = {"entity": "orders", "outcome": "tombstone"}
        return self.registry.get_sample_value("estarsync_transformer_records_total", labels) or 0.0

    def position(self, partition: int) -> float | None:
        return self.registry.get_sample_value(
            "estarsync_position_offset", {"topic": TOPIC, "partition": str(partition)}
        )


def test_records_and_offsets_go_together() -> None:
    rig = Rig(0, 1)
    rig.run(lambda: [record(0, 7), record(1, 3), record(0, 8)])
    assert (rig.producer.records, rig.producer.offsets) == (3, [[(0, 9), (1, 4)]])
    assert (rig.counted(), rig.position(0), rig.position(1)) == (3, 9, 4)


def test_an_end_beyond_the_last_record_is_committed_once() -> None:
    rig = Rig(0)
    rig.run(lambda: [record(0, 7), end(0, 9)], lambda: [end(0, 9)], lambda: [end(0, 11)], list)
    assert rig.producer.offsets == [[(0, 9)], [(0, 11)]]


def test_a_transaction_that_was_rolled_back_is_read_again_and_counts_for_nothing() -> None:
    rig = Rig(0, 1)
    rig.producer.failures = [TransactionAborted("test")]
    batch = [record(0, 7), record(1, 3), record(0, 8), end(1, 4)]
    rig.run(lambda: batch, lambda: batch)
    assert rig.consumer.seeks == [(0, 7), (1, 3)]
    assert (rig.producer.records, rig.counted()) == (3, 3)


def test_a_partition_that_is_gone_by_then_is_left_to_its_new_owner() -> None:
    rig = Rig(1)
    rig.producer.failures = [TransactionAborted("test")]
    rig.run(lambda: [record(0, 7), record(1, 3)])
    assert rig.consumer.seeks == [(1, 3)]


def test_a_batch_that_takes_long_takes_several_transactions() -> None:
    rig = Rig(0)
    rig.producer.seconds_per_record = 2
    rig.producer.failures = [None, TransactionAborted("test")]
    rig.run(lambda: [record(0, offset) for offset in range(5)])
    assert rig.producer.offsets == [[(0, 2)]]
    assert rig.consumer.seeks == [(0, 2)]


def test_where_reading_again_is_impossible_it_stops_before_anything_is_skipped() -> None:
    rig = Rig(0)
    rig.consumer.broken = True
    rig.producer.failures = [TransactionAborted("test")]
    with pytest.raises(Stop, match="again"):
        rig.run(lambda: [record(0, 7)])


def test_records_of_a_partition_that_left_while_they_were_read_are_not_written() -> None:
    rig = Rig(0, 1)

    def rebalanced() -> list[Message]:
        rig.consumer.owned = [0]
        rig.consumer.lose(1)
        return [record(0, 7), record(1, 3)]

    rig.run(lambda: [record(1, 2)], rebalanced)
    assert rig.producer.offsets == [[(1, 3)], [(0, 8)]]
    assert rig.consumer.seeks == []
    assert rig.position(1) is None


@pytest.mark.parametrize(("committed", "begin"), [(3, 3), (-1001, 0)])
def test_a_partition_that_left_and_came_back_begins_at_its_committed_offset(
    committed: int, begin: int
) -> None:
    rig = Rig(0, 1)
    rig.consumer.committed_offset = committed

    def rebalanced() -> list[Message]:
        rig.consumer.lose(0, 1)
        return [record(1, 5)]

    rig.run(rebalanced)
    assert rig.consumer.seeks == [(1, begin)]
    assert rig.producer.offsets == []


def test_a_partition_whose_committed_offset_is_unknown_stops_the_process() -> None:
    rig = Rig(1)
    rig.consumer.broken = True

    def rebalanced() -> list[Message]:
        rig.consumer.lose(1)
        return [record(1, 5)]

    with pytest.raises(Stop, match="again"):
        rig.run(rebalanced)


def test_an_error_that_passes_is_waited_out() -> None:
    rig = Rig(0)
    rig.run(lambda: [failure(KafkaError._TRANSPORT), record(0, 7)])
    assert rig.producer.records == 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (failure(KafkaError.TOPIC_AUTHORIZATION_FAILED), Stop),
        (failure(KafkaError._FATAL, fatal=True), Stop),
        (failure(KafkaError.FENCED_INSTANCE_ID), Fenced),
    ],
)
def test_an_error_that_does_not_pass_stops_the_process(message: Message, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Rig(0).run(lambda: [message])


def test_a_consumer_that_fails_for_a_moment_is_asked_again() -> None:
    rig = Rig(0)

    def away() -> list[Message]:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    rig.run(away, lambda: [record(0, 7)])
    assert rig.producer.records == 1


def test_a_fenced_process_ends() -> None:
    rig = Rig(0)
    rig.producer.failures = [Fenced("test")]
    with pytest.raises(Fenced):
        rig.run(lambda: [record(0, 7)])
    assert not issubclass(Fenced, RetryLater)


def test_a_run_of_dead_letters_stops_it_and_the_batch_is_not_written() -> None:
    rig = Rig(0)
    with pytest.raises(Stop, match=r"3 dead letters in a row, most of them not_json in estar.orders.v1"):
        rig.run(lambda: [bad(0, 7), bad(0, 8)], lambda: [end(0, 9), bad(0, 10)])
    assert rig.producer.offsets == [[(0, 9)]]


def test_a_batch_that_is_read_again_counts_once_and_a_good_record_ends_a_run() -> None:
    rig = Rig(0)
    rig.producer.failures = [TransactionAborted("test")]
    batch = [bad(0, 7), bad(0, 8)]
    rig.run(lambda: batch, lambda: batch, lambda: [record(0, 9), bad(0, 10), bad(0, 11)], list)
    assert rig.producer.records == 5


def test_a_kafka_that_rolls_back_again_and_again_ends_the_process_and_one_that_recovers_does_not() -> None:
    rig = Rig(0)
    rig.producer.failures = [TransactionAborted("test"), TransactionAborted("test"), None] * 3
    again = [lambda: [record(0, 7)]] * 9
    rig.run(*again)
    assert rig.producer.records == 3
    rig = Rig(0)
    rig.producer.failures = [TransactionAborted("test")] * 3
    again = [lambda: [record(0, 7)], list] * 3  # what is read again may not come at once
    with pytest.raises(Stop, match="3 transactions in a row"):
        rig.run(*again)
