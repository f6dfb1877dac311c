"""How long a record takes from raw to typed while the transformer keeps up: orders at a steady pace, timed by their reader."""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.measure import percentile
from bench.orders import orders
from estarsync_core.clock import Clock

_PACE = 500  # orders a second
_SEED = 2
_SETTLE = 500  # records at the beginning that are not counted: the worker joins its group
_PATIENCE = 60.0
_LOOK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Freshness:
    """Milliseconds from `produce` to a reader of committed records, of so many records."""

    records: int
    pace: int
    median: float
    p99: float
    worst: float


def watch(config: dict[str, Any], raw: str, typed: str, seconds: float, clock: Clock) -> Freshness:
    """Publish orders for so many seconds and wait for what they become; blocks.

    Args:
        config: where the broker is.
        raw: the topic to write to.
        typed: the topic to read, which ends where nothing more is being written.
        seconds: for how long, beyond the settling.
        clock: the time.

    Raises:
        TimeoutError: not all of them came out.
    """
    reader = Consumer(
        {**config, "group.id": "bench-fresh", "isolation.level": "read_committed", "fetch.wait.max.ms": 5}
    )
    writer = Producer({**config, "partitioner": "murmur2_random", "linger.ms": 0})
    partitions = reader.list_topics(typed, _PATIENCE).topics[typed].partitions
    ends = [
        (number, reader.get_watermark_offsets(TopicPartition(typed, number), _PATIENCE)[1])
        for number in partitions
    ]
    reader.assign([TopicPartition(typed, number, end) for number, end in ends])
    count = _SETTLE + int(seconds * _PACE)
    made = orders(count, _SEED)
    waiting: dict[bytes, tuple[int, float]] = {}
    took: list[float] = []
    sent = back = 0
    begun = deadline = clock.monotonic()
    try:
        while back < count:
            now = clock.monotonic()
            while sent < count and (sent < 1 or (back > 0 and now >= begun + sent / _PACE)):
                key, value, headers = next(made)
                waiting[key.encode()] = sent, clock.monotonic()
                writer.produce(raw, value, key, headers=[*headers])
                sent += 1
                deadline = now + _PATIENCE
            writer.poll(0)
            for message in reader.consume(_PACE, _LOOK_SECONDS):
                number, at = waiting.pop(message.key() or b"", (0, 0.0))
                if message.error() is None and at:
                    if back == 0:
                        begun = clock.monotonic()
                    back += 1
                    if number >= _SETTLE:
                        took.append(clock.monotonic() - at)
            if now > deadline:
                raise TimeoutError(f"{back} of {count} records came out")
    finally:
        writer.flush(_PATIENCE)
        reader.close()
    return Freshness(
        len(took), _PACE, 1000 * percentile(took, 0.5), 1000 * percentile(took, 0.99), 1000 * max(took)
    )
