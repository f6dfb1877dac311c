"""Appending to Kafka from an event loop: done means that every in-sync replica has it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from estarsync_core.errors import RetryLater
from estarsync_core.headers import RawHeaders
from estarsync_runtime.kafka.config import client_config
from estarsync_runtime.settings import KafkaSettings

_POLL = 0.1
_FLUSH = 5.0


class Appender(Protocol):
    """Where notifications go."""

    async def append(self, key: bytes, value: bytes, headers: RawHeaders) -> None:
        """Return once the record is durable.

        Raises:
            RetryLater: it may or may not be written.
        """
        ...


class KafkaAppender:
    """Appends to one topic. Make it with `kafka_appender`."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def append(self, key: bytes, value: bytes, headers: RawHeaders) -> None:
        """Return once every in-sync replica has the record.

        Raises:
            RetryLater: it may or may not be written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if done.done():  # the request is gone
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(RetryLater(f"Kafka: {error.name()}"))

        def reported(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(settle, error)

        try:
            self._producer.produce(
                self._topic, value, key, headers=cast("Any", headers), on_delivery=reported
            )
        except BufferError as error:
            raise RetryLater("too many notifications wait for Kafka") from error
        except KafkaException as error:
            raise RetryLater(f"Kafka: {error.args[0].name()}") from error
        await done


@contextmanager
def kafka_appender(settings: KafkaSettings, topic: str, seconds: float) -> Iterator[KafkaAppender]:
    """An appender, with a thread that takes Kafka's reports; at the end it waits a moment for the last ones.

    Args:
        settings: how to reach Kafka.
        topic: with its prefix.
        seconds: after which a record that Kafka did not take is given up.
    """
    milliseconds = int(seconds * 1000)
    producer = Producer(
        {
            **client_config(settings),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 1,
            "message.timeout.ms": milliseconds,
            "request.timeout.ms": milliseconds,
            "queue.buffering.max.messages": 10_000,
        }
    )
    stop = threading.Event()

    def take_reports() -> None:
        while not stop.is_set():
            producer.poll(_POLL)

    thread = threading.Thread(target=take_reports, name="kafka-reports", daemon=True)
    thread.start()
    try:
        yield KafkaAppender(producer, topic)
    finally:
        stop.set()
        thread.join()
        producer.flush(_FLUSH)
