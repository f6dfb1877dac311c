"""Whether the services have done everything: their own positions beside where the topics end."""

from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from estarsync_core.entities import Entity
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.settings import KafkaSettings
from sandbox.demo.progress import Samples, total


class Ends:
    """Where the topics end now; close it in the end.

    Args:
        settings: of Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer = Consumer(consumer_config(settings, "estarsync-demo"))

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def reached(self, topics: list[str], positions: Samples) -> bool:
        """Whether a service's positions stand at the end of every partition of the topics."""
        for topic in topics:
            with translated():
                partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
            for number in partitions:
                with translated():
                    watermarks = self._consumer.get_watermark_offsets(
                        TopicPartition(topic, number), timeout=10
                    )
                end = watermarks[1]
                labels = (("partition", str(number)), ("topic", topic))
                if positions.get(("estarsync_position_offset", labels), 0 if end == 0 else -1) < end:
                    return False
        return True

    def raw(self, positions: Samples) -> bool:
        """Whether the transformer has read everything."""
        return self.reached([self._settings.topic(raw_topic(entity)) for entity in Entity], positions)

    def typed(self, positions: Samples) -> bool:
        """Whether the loader has settled everything."""
        return self.reached([self._settings.topic(typed_topic(entity)) for entity in Entity], positions)


def finished(metrics: Mapping[str, Samples], ends: Ends) -> bool:
    """Whether the first load is over and all that was published so far is settled at Dotdigital.

    Args:
        metrics: what the services say now, by name.
        ends: of the same topics.
    """
    extracted = all(
        total(metrics["extractor"], "estarsync_extractor_first_load_done", entity=entity) == 1
        for entity in Entity
    )
    # In this order: what one has finished is the end of what the next must reach.
    return extracted and ends.raw(metrics["transformer"]) and ends.typed(metrics["loader"])
