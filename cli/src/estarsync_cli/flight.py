"""Following a canary through the topics to Dotdigital, and measuring each hop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from estarsync_core.canary import Canary, title_of
from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.headers import version_of
from estarsync_core.keys import record_key
from estarsync_core.partitions import partition_of
from estarsync_core.topics import DELIVERED, raw_topic, typed_topic
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.provisioning import Account
from estarsync_runtime.dotdigital.readback import read_contact, read_record
from estarsync_runtime.kafka.config import consumer_config
from estarsync_runtime.kafka.errors import translate, translated
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings

HOPS = ("extract", "transform", "deliver", "read_back")
_WAITS_FOR = {
    "extract": "the extractor has not published it",
    "transform": "the transformer has not mapped it",
    "deliver": "the loader has not delivered it",
    "read_back": "Dotdigital does not show it",
}
_AT_ONCE = 500
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of a topic: its event's number, when it was written, and what the loader says (in its topic only)."""

    sequence: int
    at: datetime
    tombstone: bool
    outcome: str = ""


@dataclass(slots=True)
class Path:
    """How far one of the canary's records has come. The topics may be read in any order.

    Attributes:
        entity: which.
        asked: when it was asked for.
        times: when it had passed each hop.
        outcome: what the loader says of it.
        removed: whether the loader has taken it away again.
        gone: when Dotdigital no longer held it, after that.
    """

    entity: Entity
    asked: datetime
    times: dict[str, datetime] = field(default_factory=dict)
    outcome: str | None = None
    removed: bool = False
    gone: datetime | None = None
    seen: dict[str, list[Seen]] = field(default_factory=lambda: {hop: [] for hop in HOPS})

    def take(self, hop: str, seen: Seen) -> None:
        """Take in a record of the topic to which a hop leads."""
        self.seen[hop].append(seen)
        published = [each for each in self.seen["extract"] if not each.tombstone]
        if not published:
            return
        first = published[0].sequence
        self.times["extract"] = published[0].at
        taken_back = [
            each.sequence for each in self.seen["extract"] if each.tombstone and each.sequence > first
        ]
        ours = [each for each in self.seen["transform"] if each.sequence >= first and not each.tombstone]
        if ours:
            self.times["transform"] = ours[0].at
        last = min(taken_back, default=None)
        for each in self.seen["deliver"]:
            if last is not None and each.sequence >= last:
                self.removed = True
            elif each.sequence >= first:
                self.outcome = each.outcome
                if each.outcome == "delivered":
                    self.times.setdefault("deliver", each.at)

    @property
    def result(self) -> str:
        """`arrived`, `filtered` by CONTACT_SCOPE, `refused` at Dotdigital, or `under_way`."""
        if "read_back" in self.times:
            return "arrived"
        known = {"filtered": "filtered", "dead_letter": "refused"}
        return known.get(self.outcome or "", "under_way")

    @property
    def over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.result != "under_way"

    @property
    def seconds(self) -> dict[str, float]:
        """How long each hop took that it has passed, and all of them together; clocks that differ give no less than 0."""
        found, before = {}, self.asked
        for hop in HOPS:
            if hop in self.times:
                found[hop] = max(0.0, (self.times[hop] - before).total_seconds())
                before = self.times[hop]
        if self.result == "arrived":
            found["end_to_end"] = (self.times["read_back"] - self.asked).total_seconds()
        return found

    @property
    def stuck(self) -> str:
        """What it waits for, for people."""
        return _WAITS_FOR[next(hop for hop in HOPS if hop not in self.times)]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {"result": self.result, "outcome": self.outcome, "seconds": self.seconds}


class Flight:
    """Follows one canary. Make it before the canary is asked for: only what is written after that is read.

    Args:
        settings: which Kafka.
        client: Dotdigital.
        account: what is provisioned there.
        canary: the one that will be asked for.
        clock: the time.

    Raises:
        ConfigurationError: a topic is missing, or no broker answers.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client: DotdigitalClient,
        account: Account,
        canary: Canary,
        clock: Clock,
    ) -> None:
        self._client = client
        self._account = account
        self._canary = canary
        self._clock = clock
        self.paths = {entity: Path(entity, canary.at) for entity in Entity}
        self._wanted: dict[tuple[str, bytes], tuple[Entity, str]] = {}
        for entity in Entity:
            key = canary.keys.of(entity)
            self._wanted |= {
                (settings.topic(raw_topic(entity)), key.encode()): (entity, "extract"),
                (settings.topic(typed_topic(entity)), key.encode()): (entity, "transform"),
                (settings.topic(DELIVERED), f"{entity}:{key}".encode()): (entity, "deliver"),
            }
        self._consumer = Consumer(consumer_config(settings, "estarsync-canary"))
        try:
            self._begin(list(self._wanted))
        except BaseException:
            self._consumer.close()
            raise

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def _begin(self, wanted: Sequence[tuple[str, bytes]]) -> None:
        counts: dict[str, int] = {}
        for each in partitions_of(self._consumer, sorted({topic for topic, _ in wanted})):
            counts[each.topic] = counts.get(each.topic, 0) + 1
        places = sorted({(topic, partition_of(key, counts[topic])) for topic, key in wanted})
        with translated():
            ends = [
                TopicPartition(topic, number, self._end(TopicPartition(topic, number)))
                for topic, number in places
            ]
            self._consumer.assign(ends)

    def _end(self, place: TopicPartition) -> int:
        _, high = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT)
        return int(high)

    def look(self, seconds: float) -> None:
        """Take in what the topics say, waiting for at most so long, and read back what the loader has delivered.

        Raises:
            RetryLater: Dotdigital keeps failing.
            Stop: it refuses.
        """
        with translated():
            messages = self._consumer.consume(_AT_ONCE, timeout=seconds)
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - librdkafka's own code
                    raise translate(error)
                continue
            entity, hop = self._wanted.get((message.topic() or "", message.key() or b""), (None, ""))
            if entity is not None:
                self._take(self.paths[entity], hop, message)
        for path in self.paths.values():
            if path.outcome == "delivered" and "read_back" not in path.times and self._shows(path.entity):
                path.times["read_back"] = self._clock.now()
            if path.removed and path.gone is None and self._held(path.entity) is None:
                path.gone = self._clock.now()

    def _take(self, path: Path, hop: str, message: Message) -> None:
        value = message.value()
        if hop == "deliver":
            row: dict[str, Any] = msgspec.json.decode(value or b"{}")
            if row:
                at = datetime.fromisoformat(row["at"]).astimezone(UTC)
                path.take(hop, Seen(row["sequence"], at, tombstone=False, outcome=row["outcome"]))
            return
        if hop == "extract" and value is not None and self._canary.id.encode() not in value:
            return  # of another flight
        at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        sequence = version_of(headers_of(message))[0].sequence
        path.take(hop, Seen(sequence, at, tombstone=value is None))

    def _held(self, entity: Entity) -> dict[str, Any] | None:
        keys, account = self._canary.keys, self._account
        match entity:
            case Entity.CONTACTS:
                return read_contact(self._client, keys.email)
            case Entity.PRODUCTS:
                return read_record(self._client, account.catalog_collection, record_key(keys.sku))
            case Entity.ORDERS:
                return read_record(
                    self._client, account.orders_collection, record_key(keys.order), keys.email
                )

    def _shows(self, entity: Entity) -> bool:
        """Whether Dotdigital holds the record of this very flight."""
        held = self._held(entity) or {}
        match entity:
            case Entity.CONTACTS:
                return _last_name(held) == self._canary.id
            case Entity.PRODUCTS:
                return held.get("name") == title_of(self._canary)
            case Entity.ORDERS:
                return held.get("delivery_method") == self._canary.id


def _last_name(fields: Mapping[str, Any]) -> object:
    """A contact's LASTNAME; Dotdigital may write a data field's name in any case."""
    return next((value for name, value in fields.items() if name.upper() == "LASTNAME"), None)
