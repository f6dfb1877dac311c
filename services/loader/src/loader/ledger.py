"""What the loader writes down in Kafka: intents, fates, attempts, dead letters, and how far it has come."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec
import structlog
from confluent_kafka import TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.control import encode
from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders
from estarsync_core.topics import CONTROL, DELIVERED, DELIVERIES, IMPORTS, dlq_topic
from estarsync_runtime.kafka.errors import TransactionAborted
from estarsync_runtime.settings import ServiceSettings
from loader.batches import Batch
from loader.records import Fence, Pending, Settled

SERVICE = "loader"
# Not more: after an outage librdkafka's producer may be in a state in which a call never returns, and a new process
# begins where this one ended.
_TRIES = 2
_WAIT = 0.5
_log = structlog.get_logger()

Place = tuple[str, int]


class Producer(Protocol):
    """A producer whose every write belongs to a transaction: `TransactionalProducer`, or a fake."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside becomes visible together, or not at all."""
        ...

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders | None = None
    ) -> None:
        """Add a record to the open transaction."""
        ...


class Attempt(Protocol):
    """A batch, or an errand."""

    @property
    def id(self) -> str:
        """Ours."""
        ...

    @property
    def entity(self) -> Entity:
        """Whose records."""
        ...

    @property
    def import_id(self) -> str | None:
        """Dotdigital's, where there is one."""
        ...


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record to write, under a topic's declared name."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders


class Ledger:
    """Writes in transactions; entries of one `write` become visible together, with the offsets.

    Args:
        settings: for topic names.
        producer: the loader's only producer; it fences an older loader.
        send_offsets: makes offsets part of the producer's open transaction.
        clock: for time stamps.
        beat: called while Kafka keeps us waiting: the loop is alive.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        producer: Producer,
        send_offsets: Callable[[Sequence[TopicPartition]], None],
        clock: Clock,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._producer = producer
        self._send_offsets = send_offsets
        self._clock = clock
        self._beat = beat
        self._written_at = clock.monotonic()
        self.outbox: list[Entry] = []
        """What comes before anything else that is written, and no later than the next offsets."""

    @property
    def age(self) -> float:
        """Seconds since Kafka last took a write: since then, a newer loader may have taken over."""
        return self._clock.monotonic() - self._written_at

    def write(self, entries: Sequence[Entry], offsets: Mapping[Place, int] | None = None) -> None:
        """Write all or nothing; a transaction that Kafka rolled back is tried once more. Blocks.

        Raises:
            Fenced: a newer loader has taken over.
            TransactionAborted: Kafka has rolled back again: end, and start anew.
        """
        positions = [
            TopicPartition(topic, number, offset) for (topic, number), offset in (offsets or {}).items()
        ]
        for left in reversed(range(_TRIES)):
            self._beat()
            try:
                with self._producer.transaction():
                    for entry in (*self.outbox, *entries):
                        topic = self._settings.topic(entry.topic)
                        self._producer.produce(topic, entry.key, entry.value, entry.headers)
                    if positions:
                        self._send_offsets(positions)
            except TransactionAborted as error:
                if not left:
                    raise
                _log.warning("transaction_aborted", reason=str(error))
                self._clock.sleep(_WAIT)
            else:
                self._written_at = self._clock.monotonic()
                self.outbox.clear()
                return

    def intent(self, batch: Batch) -> list[Entry]:
        """That a batch is about to be sent: from now on its keys are fenced, also after a crash.

        Many keys take many records, since a record's size is limited.
        """
        return [
            self._import(batch, "more_keys" if number else "intent", keys=msgspec.Raw(rows))
            for number, rows in enumerate(batch.fences.rows())
        ]

    def renewed(self, batch: Batch) -> Entry:
        """That a batch is about to be sent again: what Dotdigital said of it before is void."""
        return self._import(batch, "renewed")

    def accepted(self, batch: Batch) -> Entry:
        """That Dotdigital has accepted a batch, and under which id."""
        return self._import(batch, "accepted", lost=batch.lost)

    def closed(self, batch: Batch, why: str) -> Entry:
        """That a batch is over, and how long its import took."""
        return self._import(batch, "closed", why=why, seconds=batch.took)

    def settled(self, entity: Entity, key: str, state: Settled, import_id: str | None) -> Entry:
        """A key's settled state."""
        value = {
            "sequence": state.version.sequence,
            "revision": state.version.revision,
            "hash": state.hash,
            "outcome": state.outcome,
            "email": state.email,
            "there": state.there,
            **({} if state.place is None else {"place": state.place}),
            "import_id": import_id,
            "at": self._now(),
        }
        return Entry(DELIVERED, f"{entity}:{key}".encode(), msgspec.json.encode(value), [])

    def forgotten(self, entity: Entity, key: str) -> Entry:
        """That nothing is to be known of a key any more: it may be an e-mail."""
        return Entry(DELIVERED, f"{entity}:{key}".encode(), None, [])

    def word(self, key: str, word: msgspec.Struct) -> Entry:
        """What the loader says on the control topic."""
        return Entry(CONTROL, key.encode(), encode(word), [])

    def errand(self, errand: Attempt, kind: str) -> Entry:
        """That an errand's call is about to be made. Nothing is restored from it: an errand may be made again."""
        value = {"state": "errand", "entity": errand.entity, "kind": kind, "at": self._now()}
        return Entry(IMPORTS, errand.id.encode(), msgspec.json.encode(value), [])

    def attempt(self, batch: Attempt, fence: Fence, outcome: str, code: str) -> Entry:
        """One attempt to deliver one record."""
        value = {
            "sequence": fence.version.sequence,
            "revision": fence.version.revision,
            "batch": batch.id,
            "import_id": batch.import_id,
            "outcome": outcome,
            "code": code,
            "at": self._now(),
        }
        return Entry(DELIVERIES, f"{batch.entity}:{fence.key}".encode(), msgspec.json.encode(value), [])

    def dead_letter(self, record: Pending, error: InvalidRecord, key: bytes | None = None) -> Entry:
        """A record that came from a topic and that can't be read, or that Dotdigital refused.

        Args:
            record: the record.
            error: why.
            key: its key as it was, where that is not the text in `record`.
        """
        if record.topic is None:
            raise ValueError("only a record that came from a topic can be a dead letter")
        original: list[tuple[str, bytes]] = msgspec.msgpack.decode(record.headers)
        instance = self._settings.instance_id
        origin = Origin(record.topic, record.partition, record.offset, SERVICE, instance, "deliver", __name__)
        topic = dlq_topic(record.topic.removeprefix(self._settings.topic_prefix))
        return Entry(
            topic,
            record.key.encode() if key is None else key,
            record.payload,
            dead_letter_headers(original, origin, error),
        )

    def _import(self, batch: Batch, state: str, **more: Any) -> Entry:  # noqa: ANN401 - JSON
        value = {
            "state": state,
            "entity": batch.entity,
            "kind": batch.kind,
            "import_id": batch.import_id,
            "payload_hash": batch.digest,
            "at": self._now(),
            **more,
        }
        return Entry(IMPORTS, batch.id.encode(), msgspec.json.encode(value), [])

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def packed_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """A record's headers, to be kept beside it in the pending table."""
    return msgspec.msgpack.encode([(name, value or b"") for name, value in headers])
