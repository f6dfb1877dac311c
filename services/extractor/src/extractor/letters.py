"""Dead letters that are to be tried again: what each of them was about."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from estarsync_core.control import Letter
from estarsync_core.deadletters import ExtractLetter, attempt_of
from estarsync_core.entities import Entity
from estarsync_core.estar.windows import Window
from estarsync_core.topics import EXTRACT_DLQ, dlq_topic, raw_topic
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.settings import KafkaSettings

RAW_DLQ = {dlq_topic(raw_topic(entity)): entity for entity in Entity}


@dataclass(frozen=True, slots=True)
class Opened:
    """What a dead letter was about.

    Attributes:
        entity: whose record.
        name: the key of a raw event, or what an `ExtractLetter` calls its id.
        raw: whether `name` is a raw event's key.
        attempt: how often it has become a dead letter.
        window: what could not be listed, where it was that.
        code: why.
    """

    entity: Entity
    name: str
    raw: bool
    attempt: int
    window: Window | None = None
    code: str = ""


class Letters(Protocol):
    """Where dead letters are read."""

    def read(self, letter: Letter) -> Opened | None:
        """A dead letter; None where there is none any more, or nobody can read it."""
        ...

    def close(self) -> None:
        """Nothing more is read for a while."""
        ...


class KafkaLetters:
    """Reads dead letters from Kafka, with a client of its own from the first one on until it is closed.

    Args:
        settings: which Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lookup: Lookup | None = None

    def read(self, letter: Letter) -> Opened | None:
        """A dead letter; None where there is none any more, or nobody can read it. Blocks.

        Raises:
            RetryLater: Kafka does not answer.
        """
        if letter.topic not in (*RAW_DLQ, EXTRACT_DLQ):
            return None
        if self._lookup is None:
            self._lookup = Lookup(self._settings, [*RAW_DLQ, EXTRACT_DLQ])
        message = self._lookup.at(letter.topic, letter.partition, letter.offset)
        if message is None or message.offset() != letter.offset:
            return None
        return opened(letter.topic, message.key(), message.value(), attempt_of(headers_of(message)))

    def close(self) -> None:
        """Let go of Kafka until the next letter."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None


def opened(topic: str, key: bytes | None, value: bytes | None, attempt: int) -> Opened | None:
    """What a dead letter was about; None where it doesn't say so.

    Args:
        topic: its declared name.
        key: its key.
        value: its value.
        attempt: how often it has become one.
    """
    if topic in RAW_DLQ:
        name = (key or b"").decode("utf-8", "replace")
        return Opened(RAW_DLQ[topic], name, raw=True, attempt=max(attempt, 1)) if name else None
    try:
        letter = msgspec.json.decode(value or b"", type=ExtractLetter)
    except msgspec.DecodeError:
        return None
    window = None
    if letter.window is not None and letter.id.startswith("window/"):
        window = Window(letter.window["start"], letter.window["end"])
    return Opened(
        letter.entity, letter.id, raw=False, attempt=max(attempt, 1), window=window, code=letter.code
    )
