"""FastStream on confluent-kafka, in batches: offsets are committed once a batch's records are acknowledged."""

import asyncio
import os
from typing import Any

from faststream import (  # type: ignore[import-not-found]  # it is in its own environment only
    AckPolicy,
    FastStream,
)
from faststream.confluent import (  # type: ignore[import-not-found]  # as above
    KafkaBroker,
    KafkaMessage,
    KafkaPublishMessage,
)

from bench.work import transform

_BATCH = 1000


def _as_it_is(message: KafkaMessage) -> Any:  # noqa: ANN401 - what FastStream hands on
    """No decoding but the work's own: FastStream would read the JSON a second time."""
    return message.body


def main() -> None:
    """Run until SIGTERM. Environment: as the bare loop's."""
    prefix = os.environ["TOPIC_PREFIX"]
    target = prefix + os.environ["BENCH_TARGET"]
    broker = KafkaBroker(
        os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=5,
        config={"partitioner": "murmur2_random"},
        logger=None,
    )

    @broker.subscriber(  # type: ignore[untyped-decorator]  # it is in its own environment only
        f"{prefix}estar.orders.v1",
        group_id=f"{prefix}bench-faststream",
        auto_offset_reset="earliest",
        batch=True,
        max_records=_BATCH,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=_as_it_is,
    )
    async def turn(_: list[bytes], message: KafkaMessage) -> None:
        written = [
            KafkaPublishMessage(transform(each.value()), key=each.key()) for each in message.raw_message
        ]
        await broker.publish_batch(*written, topic=target)

    asyncio.run(FastStream(broker, logger=None).run())


if __name__ == "__main__":
    main()
