"""Faust-streaming: an agent on bytes; at least once, as it is by default, with a linger that lets its batches fill."""

import os
import tempfile

import faust  # type: ignore[import-not-found]  # it is in its own environment only

from bench.work import transform

_LINGER_SECONDS = 0.05


def main() -> None:
    """Run until SIGTERM. Environment: as the bare loop's."""
    prefix = os.environ["TOPIC_PREFIX"]
    app = faust.App(
        f"{prefix}bench-faust",
        broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        producer_linger=_LINGER_SECONDS,
        producer_compression_type="lz4",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
    )
    source = app.topic(f"{prefix}estar.orders.v1", key_type=bytes, value_type=bytes)
    target = app.topic(prefix + os.environ["BENCH_TARGET"], key_type=bytes, value_type=bytes)

    @app.agent(source)  # type: ignore[untyped-decorator]  # it is in its own environment only
    async def turn(stream: faust.Stream) -> None:
        async for key, value in stream.items():
            await target.send(key=key, value=transform(value))

    faust.Worker(app, loglevel="ERROR", quiet=True, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
