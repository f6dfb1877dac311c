"""The receiver's composition root: a port, the application, Kafka behind it."""

import socket

import structlog
import uvicorn
from confluent_kafka import Consumer
from typing_extensions import override

from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import NOTIFICATIONS
from estarsync_runtime.health import EVERY_INTERFACE
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.lifecycle import Context
from extractor.webhooks.appender import kafka_appender
from extractor.webhooks.receiver import Limits, Receiver
from extractor.webhooks.settings import WebhookSettings

_BACKLOG = 512
_MOST_AT_ONCE = 1000
_log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn's server, which beats, says when it is ready, and ends when told to."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._context.health.ready = True

    @override
    async def on_tick(self, counter: int) -> bool:
        self._context.health.beat()
        return await super().on_tick(counter) or self._context.stop.is_set()


def serve(settings: WebhookSettings, context: Context) -> None:
    """Receive until told to stop; what is being answered then is finished.

    Raises:
        ConfigurationError: the topic is missing, or the port can't be used.
    """
    topic = settings.topic(NOTIFICATIONS)
    _require_topic(settings, topic)
    limits = Limits(settings.webhook_max_bytes, settings.webhook_read_seconds)
    with (
        _listen(settings.webhook_port) as listener,
        kafka_appender(settings, topic, settings.webhook_write_seconds) as appender,
    ):
        receiver = Receiver(
            settings.secrets, appender, limits, context.clock, context.metrics, context.tracing
        )
        config = uvicorn.Config(
            receiver,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_graceful_shutdown=int(settings.webhook_write_seconds) + 1,
        )
        _log.info("ready", port=listener.getsockname()[1])
        _Server(config, context).run(sockets=[listener])
        context.health.ready = False


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's delay off: without, every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((EVERY_INTERFACE, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        problem = f"WEBHOOK_PORT: cannot listen on port {port} ({error.strerror}); choose a free one"
        raise ConfigurationError([problem]) from error
    return listener


def _require_topic(settings: WebhookSettings, topic: str) -> None:
    consumer = Consumer(consumer_config(settings, "estarsync-webhooks"))
    try:
        partitions_of(consumer, [topic])
    finally:
        consumer.close()
