"""Quix Streams, exactly once: transactions of up to 2,000 records, as many as the transformer's."""

import os

from quixstreams import Application  # type: ignore[import-not-found]  # it is in its own environment only

from bench.work import transform

_BATCH = 2000


def main() -> None:
    """Run until SIGTERM. Environment: as the bare loop's."""
    prefix = os.environ["TOPIC_PREFIX"]
    app = Application(
        broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=f"{prefix}bench-quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=_BATCH,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    source = app.topic(f"{prefix}estar.orders.v1", value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(
        f"{prefix}{os.environ['BENCH_TARGET']}", value_serializer="bytes", key_serializer="bytes"
    )
    app.dataframe(source).apply(transform).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
