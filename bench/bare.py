"""The bare loop: consume, decode, map, encode with fastavro, produce. What any worker must at least do.

No validation, no cleaning of text, no headers, no dead letters, no metrics, no transaction: at least once, flushed
and committed every five seconds. It writes the same Avro body as the transformer does for a clean order.
"""

import os
import signal

from confluent_kafka import Consumer, Producer

from bench.work import transform
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.config import client_config, consumer_config
from estarsync_runtime.settings import KafkaSettings, load

_COMMIT_SECONDS = 5.0
_BATCH = 500


def main() -> None:
    """Run until SIGTERM. Environment: as the transformer's."""
    settings, clock = load(KafkaSettings), SystemClock()
    consumer = Consumer(consumer_config(settings, "bench-bare"))
    producer = Producer(
        {
            **client_config(settings),
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 50,
        }
    )
    consumer.subscribe([settings.topic("estar.orders.v1")])
    target = settings.topic(os.environ["BENCH_TARGET"])
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    last = clock.monotonic()
    while not stopped:
        for message in consumer.consume(_BATCH, 0.1):
            if message.error() is not None:
                continue
            while True:
                try:
                    producer.produce(target, transform(message.value() or b""), message.key())
                    break
                except BufferError:
                    producer.poll(0.01)
        if clock.monotonic() - last > _COMMIT_SECONDS:
            last = clock.monotonic()
            producer.flush()
            try_commit(consumer)
    producer.flush()
    consumer.close()


def try_commit(consumer: Consumer) -> None:
    """Commit what was read."""
    positions = [it for it in consumer.position(consumer.assignment()) if it.offset >= 0]
    if positions:
        consumer.commit(offsets=positions, asynchronous=False)


if __name__ == "__main__":
    main()
