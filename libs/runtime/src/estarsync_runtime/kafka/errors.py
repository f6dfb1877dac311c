"""Kafka's errors in our words: no KafkaException goes past this package."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from estarsync_core.errors import EstarsyncError, Fenced, RetryLater, Stop

_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own codes are public in spite of the name
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}


class TransactionAborted(RetryLater):
    """The transaction was rolled back: nothing of it is visible, and the same work may be done again."""


def translate(error: KafkaError) -> EstarsyncError:
    """What a Kafka error means for the caller."""
    text = f"Kafka: {error.str()} ({error.name()})"
    if error.code() in _FENCED:
        return Fenced("a newer process with the same role has taken over; this one ends")
    if error.fatal():
        return Stop(text)
    return RetryLater(text)


@contextmanager
def translated() -> Iterator[None]:
    """Translate whatever Kafka raises inside."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0]) from error
