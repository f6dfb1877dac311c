"""The transformer's composition root: every part is made and joined here."""

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import structlog
from confluent_kafka import Consumer

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.topics import CONTROL, dlq_topic, raw_topic, typed_topic
from estarsync_runtime.avro import codec_for
from estarsync_runtime.kafka.config import consumer_config, producer_config
from estarsync_runtime.kafka.control import ControlReader, read_words
from estarsync_runtime.kafka.positions import Positions, ends_of
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.lifecycle import Context
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import read_profile
from estarsync_runtime.tracing import OFF, Tracing
from transformer.flood import Flood, FloodLimits
from transformer.handler import SERVICE, Handler
from transformer.loop import Loop
from transformer.rewinds import Rewinds
from transformer.settings import Settings
from transformer.traced import TracedHandler

GROUP = "estarsync-transformer"
_ALLOCATIONS = 100_000  # that survive, before the collector looks for cycles
_log = structlog.get_logger()


@contextmanager
def build(settings: Settings, clock: Clock, metrics: Metrics, tracing: Tracing = OFF) -> Iterator[Loop]:
    """A transformer that is ready to run. Blocks while it checks the topics and its predecessor is fenced.

    Args:
        settings: all of them.
        clock: the time.
        metrics: what is shown.
        tracing: where transactions are shown.

    Raises:
        ConfigurationError: the profile can't be read or mapped by, topics are missing, or the schema registry refuses.
        RetryLater: Kafka or the schema registry does not answer.
    """
    codec = codec_for(settings)
    handler = Handler(
        Mapper(read_profile(settings.tenant_profile)),
        codec,
        settings.topic_prefix,
        settings.instance_id,
    )
    # Off, the loop has the plain handler: not even a question is asked for each record.
    traced = TracedHandler(handler, tracing) if tracing.on else None
    with ExitStack() as stack:
        consumer = Consumer(
            {
                **consumer_config(settings, GROUP),
                "partition.assignment.strategy": "cooperative-sticky",
                # What one answer of a broker brings is held unpacked: several times as much as this.
                "fetch.message.max.bytes": 65_536,
                "fetch.max.bytes": 1_048_576,
                "queued.max.messages.kbytes": 1024,
            }
        )
        stack.callback(consumer.close)
        control = ControlReader(settings)
        stack.callback(control.close)
        inputs = raw_topics(settings)
        outputs = [settings.topic(typed_topic(entity)) for entity in Entity]
        partitions_of(consumer, inputs + outputs + [dlq_topic(topic) for topic in inputs])
        codec.register({entity: settings.topic(typed_topic(entity)) for entity in Entity})
        producer = TransactionalProducer(
            {
                **producer_config(settings, f"estarsync-{SERVICE}-{settings.instance_id}"),
                # Fewer and fuller requests while a batch is mapped; the commit sends what is left at once.
                "linger.ms": 50,
            },
            clock,
            metrics,
        )
        rewinds = Rewinds(
            {settings.topic(raw_topic(entity)): entity for entity in Entity},
            consumer,
            producer,
            settings.topic(CONTROL),
            control,
            lambda: read_words(settings),
            clock,
        )
        yield Loop(
            consumer,
            producer,
            traced or handler,
            metrics,
            Positions(metrics, clock, ends_of(consumer)),
            clock,
            Flood(FloodLimits(settings.transformer_dead_letter_run, settings.transformer_dead_letter_share)),
            rewinds,
            batch_records=settings.transformer_batch_records,
            batch_seconds=settings.transformer_batch_seconds,
            around=traced.transaction if traced else nullcontext,
        )


def raw_topics(settings: Settings) -> list[str]:
    """What it reads, as named on this cluster."""
    return [settings.topic(raw_topic(entity)) for entity in Entity]


def serve(settings: Settings, context: Context) -> None:
    """Transform until told to stop."""
    with build(settings, context.clock, context.metrics, context.tracing) as loop:
        # Records are freed by reference counts; looking for cycles among them took a tenth of all CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS)
        context.health.ready = True
        _log.info("ready")
        loop.run(raw_topics(settings), context.stop, context.health)
