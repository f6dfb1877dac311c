"""Reading a Kafka message without surprises."""

from confluent_kafka import Message


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """The headers of a message that a consumer has read, in order; none where it has none."""
    # The type that confluent-kafka declares also covers what may be produced: dicts, and text.
    return message.headers() or []  # type: ignore[return-value]
