"""Reading a Kafka message without surprises."""

from confluent_kafka import Message


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """The message's headers, in order; none where it has none."""
    raw = message.headers() or []
    pairs = list(raw.items()) if isinstance(raw, dict) else raw
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
