"""Dead letters: the original key and bytes, with the reason in headers.

Kafka Connect's own names come first, so that any tool which reads Connect's dead letters reads ours. No header holds
a value of the record.

| header | what |
|---|---|
| `__connect.errors.topic`, `.partition`, `.offset` | where the record was read |
| `__connect.errors.connector.name`, `.task.id` | the service and its instance |
| `__connect.errors.stage`, `.class.name` | the step that failed, and the module that does it |
| `__connect.errors.exception.class.name`, `.exception.message` | the error: its field and code, for people |
| `estarsync.field`, `estarsync.code` | the same for machines |
| `estarsync.attempt` | how often the record has become a dead letter, this time included |
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders

CONNECT_PREFIX = "__connect.errors."
FIELD = "estarsync.field"
CODE = "estarsync.code"
ATTEMPT = "estarsync.attempt"

_MAX_DIGITS = 9  # longer ones are nobody's count


class ExtractLetter(msgspec.Struct, frozen=True):
    """A dead letter of the poller's, as JSON: what could not be read from the shop, and no byte of it.

    Attributes:
        entity: whose record.
        id: the source record's; or `window/<start>`, `notification/<subscriber>/<number>`, `notification/<place>`.
        window: where it was listed.
        code: why, from a closed set.
    """

    entity: Entity
    id: str
    window: dict[str, datetime] | None
    code: str

    @property
    def key(self) -> bytes:
        """The record's key on the topic."""
        return f"{self.entity}:{self.id}".encode()

    def headers(self, attempt: int) -> RawHeaders:
        """The record's headers; `attempt` is how often it has become a dead letter, this time included."""
        return [(CODE, self.code.encode()), *attempt_header(attempt)]


def attempt_header(attempt: int) -> RawHeaders:
    """The header that says how often a record has become a dead letter."""
    return [(ATTEMPT, str(attempt).encode())]


def attempt_of(headers: Iterable[tuple[str, bytes | None]] | None) -> int:
    """How often a record has become a dead letter before; 0 where it says nothing."""
    attempts = [value or b"" for name, value in headers or () if name == ATTEMPT]
    return _number(attempts[-1]) if attempts else 0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was read, and who could not use it.

    Attributes:
        topic: the input topic, prefix included.
        partition: its partition.
        offset: the record's offset.
        service: the service's name, such as `transformer`.
        instance: which of its processes.
        stage: the step that failed, such as `decode`, `map`, `deliver`.
        module: the Python module that does the step.
    """

    topic: str
    partition: int
    offset: int
    service: str
    instance: str
    stage: str
    module: str


def dead_letter_headers(
    headers: Iterable[tuple[str, bytes | None]] | None, origin: Origin, error: InvalidRecord
) -> RawHeaders:
    """The headers of a dead letter: the record's own, then the reason.

    A record that was redriven and failed again carries only the latest reason, and a higher attempt.
    """
    own = [(name, value or b"") for name, value in headers or ()]
    kept = [(name, value) for name, value in own if not _is_reason(name)]
    reason = {
        CONNECT_PREFIX + "topic": origin.topic,
        CONNECT_PREFIX + "partition": str(origin.partition),
        CONNECT_PREFIX + "offset": str(origin.offset),
        CONNECT_PREFIX + "connector.name": origin.service,
        CONNECT_PREFIX + "task.id": origin.instance,
        CONNECT_PREFIX + "stage": origin.stage,
        CONNECT_PREFIX + "class.name": origin.module,
        CONNECT_PREFIX + "exception.class.name": f"{type(error).__module__}.{type(error).__qualname__}",
        CONNECT_PREFIX + "exception.message": str(error),
        FIELD: error.field,
        CODE: error.code,
        ATTEMPT: str(attempt_of(own) + 1),
    }
    return kept + [(name, value.encode()) for name, value in reason.items()]


def _is_reason(name: str) -> bool:
    return name.startswith(CONNECT_PREFIX) or name in {FIELD, CODE, ATTEMPT}


def _number(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else 0
