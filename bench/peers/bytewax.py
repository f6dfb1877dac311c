"""Bytewax's Kafka operators, one worker, with a recovery store: at least once by its design."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op  # type: ignore[import-not-found]  # it is in its own environment only
from bytewax._bytewax import cli_main  # type: ignore[import-not-found]  # what `python -m bytewax.run` calls
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage  # type: ignore[import-not-found]
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]

from bench.work import transform

_BATCH = 1000
_SNAPSHOT = timedelta(seconds=5)


def _written(message: KafkaSourceMessage) -> KafkaSinkMessage:
    return KafkaSinkMessage(message.key, transform(message.value))


def main() -> None:
    """Run until SIGTERM. Environment: as the bare loop's."""
    prefix = os.environ["TOPIC_PREFIX"]
    brokers = [os.environ["KAFKA_BOOTSTRAP_SERVERS"]]
    flow = Dataflow("bench")
    read = kafka.input("read", flow, brokers=brokers, topics=[f"{prefix}estar.orders.v1"], batch_size=_BATCH)
    kafka.output(
        "write",
        op.map("transform", read.oks, _written),
        brokers=brokers,
        topic=prefix + os.environ["BENCH_TARGET"],
        add_config={
            "partitioner": "murmur2_random",
            "enable.idempotence": "true",
            "compression.type": "lz4",
            "linger.ms": "5",
        },
    )
    store = Path(tempfile.mkdtemp())
    init_db_dir(store, 1)
    cli_main(flow, epoch_interval=_SNAPSHOT, recovery_config=RecoveryConfig(str(store), timedelta(0)))


if __name__ == "__main__":
    main()
