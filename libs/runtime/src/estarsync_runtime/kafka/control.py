"""The control topic, for those who read it and for the command that writes it."""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, Producer

from estarsync_core.control import Words
from estarsync_core.errors import RetryLater
from estarsync_core.topics import CONTROL
from estarsync_runtime.kafka.config import client_config, consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.restore import partitions_of, read_topics
from estarsync_runtime.settings import KafkaSettings

_TIMEOUT = 15.0
_TURN = 0.1
_AT_ONCE = 500


def read_words(settings: KafkaSettings) -> Words:
    """What stands on the control topic now; blocks.

    Raises:
        ConfigurationError: the topic is missing, or no broker answers.
        RetryLater: Kafka does not answer any more.
    """
    words = Words()
    for message in read_topics(settings, [settings.topic(CONTROL)]):
        words.take(message.key(), message.value())
    return words


def write_words(settings: KafkaSettings, records: Mapping[str, bytes | None]) -> None:
    """Write to the control topic what a person says; blocks until Kafka has it. For the command, not for services.

    Args:
        settings: which Kafka.
        records: by key; None takes back what stands there.

    Raises:
        RetryLater: Kafka did not take it all.
    """
    producer = Producer({**client_config(settings), "acks": "all", "partitioner": "murmur2_random"})
    failures: list[str] = []
    with translated():
        for key, value in records.items():
            producer.produce(
                settings.topic(CONTROL),
                value,
                key.encode(),
                on_delivery=lambda error, _: failures.append(error.name()) if error else None,
            )
        unsent = producer.flush(_TIMEOUT)
    if unsent or failures:
        raise RetryLater(f"Kafka did not take the request ({', '.join(failures) or 'no answer'}): try again")


class ControlReader:
    """Follows the control topic beside a service's other work. For one thread.

    Args:
        settings: which Kafka.

    Raises:
        ConfigurationError: the topic is missing, or no broker answers.
        RetryLater: Kafka does not answer any more.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.words = Words()
        self._consumer = Consumer(consumer_config(settings, "estarsync-control"))
        self._behind = True
        try:
            partitions = partitions_of(self._consumer, [settings.topic(CONTROL)])
            with translated():
                self._consumer.assign(partitions)
            self._catch_up()
        except BaseException:
            self._consumer.close()
            raise

    def _catch_up(self) -> None:
        quiet = 0
        while self._behind:
            quiet = 0 if self.poll(_TURN) else quiet + 1
            if quiet * _TURN > _TIMEOUT:
                raise RetryLater("Kafka does not give out the control topic")

    def poll(self, seconds: float = 0.0) -> set[str]:
        """Take in what is new, waiting for at most so many seconds; gives the keys that changed.

        Raises:
            Stop: this user may not read the topic.
        """
        changed = set()
        with translated():
            messages = self._consumer.consume(_AT_ONCE, timeout=seconds)
        for message in messages:
            error = message.error()
            if error is None:
                changed.add(self.words.take(message.key(), message.value()))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                self._behind = False  # the topic has one partition
            elif not isinstance(meaning := translate(error), RetryLater):
                raise meaning
        return changed

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()
