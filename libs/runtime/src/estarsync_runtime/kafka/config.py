"""Our settings as librdkafka's, in one place."""

import logging
from typing import Any

from estarsync_runtime.settings import KafkaSettings

MAX_MESSAGE_BYTES = 20 * 1024 * 1024
"""The largest record on any topic; the same number stands in schemas/topics."""


def connection_config(settings: KafkaSettings) -> dict[str, Any]:
    """Where Kafka is, and how we say who we are."""
    tls, sasl = settings.kafka_tls, settings.kafka_sasl_mechanism is not None
    found: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap_servers}
    if tls or sasl:
        found["security.protocol"] = f"{'SASL_' if sasl else ''}{'SSL' if tls else 'PLAINTEXT'}"
    for name, path in (
        ("ssl.ca.location", settings.kafka_tls_ca),
        ("ssl.certificate.location", settings.kafka_tls_certificate),
        ("ssl.key.location", settings.kafka_tls_key),
    ):
        if path is not None:
            found[name] = str(path)
    if sasl and settings.kafka_password is not None:
        found["sasl.mechanism"] = settings.kafka_sasl_mechanism
        found["sasl.username"] = settings.kafka_username
        found["sasl.password"] = settings.kafka_password.get_secret_value()
    return found


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """What every client needs."""
    return {
        **connection_config(settings),
        "logger": logging.getLogger("librdkafka"),
        "socket.keepalive.enable": True,
        # The defaults (100 ms to 10 s) keep a client away for seconds after a short broker restart.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
    }


def producer_config(settings: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """A transactional producer; a transaction that stays open for 10 s is aborted by the broker."""
    return {
        **client_config(settings),
        "transactional.id": f"{settings.topic_prefix}{transactional_id}",
        "transaction.timeout.ms": 10_000,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": 65_536,
    }


def consumer_config(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """A consumer of committed records that commits nothing by itself.

    The small queues keep memory flat at equal speed, and the short fetch back-off keeps a worker busy while
    there is a backlog: librdkafka's own (1 s) leaves it idle for a fifth of the time.
    """
    return {
        **client_config(settings),
        "group.id": f"{settings.topic_prefix}{group}",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "session.timeout.ms": 8_000,
        "heartbeat.interval.ms": 2_000,
        "fetch.message.max.bytes": 1_048_576,
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 20,
        "queued.max.messages.kbytes": 4096,
        "queued.min.messages": 4000,
    }
