"""What the loader writes down in Kafka: intents, fates, attempts, dead letters, and how far it has come."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from confluent_kafka import Consumer, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.deadletters import Origin, dead_letter_headers
from estarsync_core.entities import Entity, Version
from estarsync_core.errors import InvalidRecord
from estarsync_core.headers import RawHeaders
from estarsync_core.topics import DELIVERED, DELIVERIES, IMPORTS, dlq_topic
from estarsync_runtime.kafka.errors import TransactionAborted
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings, ServiceSettings
from loader.batches import Batch, Kind
from loader.table import Delivered, Fence, Pending

_TRIES = 20
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to write, under a topic's declared name."""

    topic: str
    key: bytes
    value: bytes | None
    headers: RawHeaders


class Ledger:
    """Writes in transactions; entries of one `write` become visible together, with the offsets.

    Args:
        settings: for topic names.
        producer: the loader's only producer; it fences an older loader.
        consumer: whose progress is committed.
        clock: for time stamps.
    """

    def __init__(
        self, settings: ServiceSettings, producer: TransactionalProducer, consumer: Consumer, clock: Clock
    ) -> None:
        self._settings = settings
        self._instance = settings.instance_id
        self._producer = producer
        self._consumer = consumer
        self._clock = clock

    def write(self, entries: Sequence[Entry], offsets: Mapping[tuple[str, int], int] | None = None) -> None:
        """Write all or nothing; a transaction that Kafka rolled back is tried again. Blocks.

        Raises:
            Fenced: a newer loader has taken over.
            TransactionAborted: Kafka keeps rolling back.
        """
        positions = [
            TopicPartition(topic, number, offset) for (topic, number), offset in (offsets or {}).items()
        ]
        for left in reversed(range(_TRIES)):
            try:
                with self._producer.transaction():
                    for entry in entries:
                        topic = self._settings.topic(entry.topic)
                        self._producer.produce(topic, entry.key, entry.value, entry.headers)
                    if positions:
                        self._producer.send_offsets(positions, self._consumer)
            except TransactionAborted as error:
                if not left:
                    raise
                _log.warning("transaction_aborted", reason=str(error))
                self._clock.sleep(0.5)
            else:
                return

    def intent(self, batch: Batch) -> Entry:
        """That a batch is about to be sent: from now on its keys are fenced, also after a crash."""
        return self._import(batch, "intent", keys=[_row(fence) for fence in batch.fences])

    def accepted(self, batch: Batch) -> Entry:
        """That Dotdigital has accepted a batch, and under which id."""
        return self._import(batch, "accepted", keys=[_row(fence) for fence in batch.fences])

    def closed(self, batch: Batch, why: str) -> Entry:
        """That a batch is over."""
        return self._import(batch, "closed", why=why)

    def delivered(self, entity: Entity, key: str, state: Delivered, import_id: str | None) -> Entry:
        """A key's settled state."""
        value = {
            "sequence": state.version.sequence,
            "revision": state.version.revision,
            "hash": state.hash,
            "outcome": state.outcome,
            "email": state.email,
            "import_id": import_id,
            "at": self._now(),
        }
        return Entry(DELIVERED, f"{entity}:{key}".encode(), msgspec.json.encode(value), [])

    def attempt(self, batch: Batch, fence: Fence, outcome: str, code: str) -> Entry:
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

    def dead_letter(self, record: Pending, error: InvalidRecord) -> Entry:
        """A record that Dotdigital refused or that can't be read; only records that came from a topic have one."""
        if record.topic is None:
            raise ValueError("only a record that came from a topic can be a dead letter")
        original = [(name, base64.b64decode(value)) for name, value in msgspec.json.decode(record.headers)]
        origin = Origin(
            record.topic, record.partition, record.offset, "loader", self._instance, "deliver", __name__
        )
        headers = dead_letter_headers(original, origin, error)
        topic = record.topic.removeprefix(self._settings.topic_prefix)
        return Entry(dlq_topic(topic), record.key.encode(), record.payload, headers)

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


def restore_delivered(settings: KafkaSettings) -> Iterator[tuple[Entity, str, Delivered | None]]:
    """The settled state of every key, oldest first; None where it was taken back. Blocks while reading."""
    for message in read_topics(settings, [settings.topic(DELIVERED)]):
        entity, _, key = (message.key() or b"").decode().partition(":")
        value = message.value()
        if value is None:
            yield Entity(entity), key, None
            continue
        row = msgspec.json.decode(value)
        version = Version(row["sequence"], row["revision"])
        yield Entity(entity), key, Delivered(version, row["hash"], row["outcome"], row["email"])


def restore_imports(settings: KafkaSettings) -> list[Batch]:
    """The batches that were open when the last loader ended. Blocks while reading."""
    open_batches: dict[str, Batch] = {}
    for message in read_topics(settings, [settings.topic(IMPORTS)]):
        value, batch_id = message.value(), (message.key() or b"").decode()
        row: dict[str, Any] = msgspec.json.decode(value) if value is not None else {"state": "closed"}
        if row["state"] == "closed":
            open_batches.pop(batch_id, None)
            continue
        fences = [
            Fence(key, Version(sequence, revision), *rest) for key, sequence, revision, *rest in row["keys"]
        ]
        open_batches[batch_id] = Batch(
            batch_id,
            Entity(row["entity"]),
            Kind(row["kind"]),
            fences,
            digest=row["payload_hash"],
            import_id=row["import_id"],
            restored=True,
        )
    return list(open_batches.values())


def packed_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """A record's headers, to be kept beside it in the pending table."""
    return msgspec.json.encode([[name, base64.b64encode(value or b"").decode()] for name, value in headers])


def _row(fence: Fence) -> list[Any]:
    return [fence.key, fence.version.sequence, fence.version.revision, fence.hash, fence.email]
