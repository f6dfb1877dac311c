"""Reading a whole topic once: how state that lives in Kafka comes back at start."""

from collections.abc import Iterator, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.settings import KafkaSettings

_TIMEOUT = 15.0


def partitions_of(consumer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of the topics, at its beginning.

    Raises:
        ConfigurationError: for topics that don't exist, or a broker that doesn't answer.
    """
    partitions: list[TopicPartition] = []
    missing = []
    for topic in topics:
        try:
            metadata = consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic]
        except KafkaException as error:
            raise ConfigurationError(
                [
                    f"no Kafka broker answers ({error.args[0].name()}): check KAFKA_BOOTSTRAP_SERVERS, and that it runs"
                ]
            ) from error
        if metadata.error is not None or not metadata.partitions:
            missing.append(topic)
        partitions += [
            TopicPartition(topic, number, OFFSET_BEGINNING) for number in sorted(metadata.partitions)
        ]
    if missing:
        raise ConfigurationError(
            [f"Kafka has no topic {topic}: run `estarsync topics apply`" for topic in missing]
        )
    return partitions


def read_topics(settings: KafkaSettings, topics: Sequence[str]) -> Iterator[Message]:
    """Every committed record of the topics, from the beginning to the end as it is now; blocks."""
    consumer = Consumer(consumer_config(settings, "estarsync-restore"))
    try:
        partitions = partitions_of(consumer, topics)
        with translated():
            consumer.assign(partitions)
        open_partitions = {(partition.topic, partition.partition) for partition in partitions}
        while open_partitions:
            # `consume` waits for the whole time-out where there are fewer: a long one delays every start.
            for message in consumer.consume(1000, timeout=0.1):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                    open_partitions.discard((message.topic(), message.partition()))
                elif not error.retriable():
                    raise translate(error)
    finally:
        consumer.close()
