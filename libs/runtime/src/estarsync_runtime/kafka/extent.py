"""How much a topic holds, how far back, and how far a consumer group has come: offsets only, no records but a few."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # documented

from estarsync_runtime.kafka.config import client_config, consumer_config
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.kafka.patience import patiently
from estarsync_runtime.kafka.restore import partitions_of
from estarsync_runtime.settings import KafkaSettings

_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in a topic.

    Attributes:
        records: offsets between its place and the end; a transaction's marker takes an offset too.
        since: when the oldest record that it has not finished was written; None where it is at the end.
    """

    records: int
    since: datetime | None


class Extents:
    """Questions about topics, by their declared names. For one thread; close it in the end.

    Args:
        settings: which Kafka.
        topics: that will be asked about.

    Raises:
        ConfigurationError: a topic is missing, or no broker answers.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str]) -> None:
        self._settings = settings
        self._consumer = Consumer(consumer_config(settings, "estarsync-extent"))
        try:
            places = partitions_of(self._consumer, [settings.topic(topic) for topic in topics])
            self._lookup = Lookup(settings, topics, fast=False)
        except BaseException:
            self._consumer.close()
            raise
        self._places: dict[str, list[int]] = {topic: [] for topic in topics}
        names = {settings.topic(topic): topic for topic in topics}
        for each in places:
            self._places[names[each.topic]].append(each.partition)

    def close(self) -> None:
        """Let go of Kafka."""
        self._lookup.close()
        self._consumer.close()

    def records(self, topic: str, since: datetime | None = None, until: datetime | None = None) -> int:
        """How many records were written in between, at most: compaction leaves gaps that are counted too."""
        begins, ends = self._offsets(topic, since), self._offsets(topic, until, end=True)
        return sum(max(0, ends[number] - begins[number]) for number in self._places[topic])

    def lost_until(self, topic: str, now: datetime) -> datetime | None:
        """Up to when records were deleted by age or by hand; compaction deletes none that is the latest of its key.

        None where the topic still begins at its beginning.
        """
        found = []
        for number in self._places[topic]:
            low, high = self._watermarks(topic, number)
            if low > 0:
                first = self._lookup.at(topic, number, low) if high > low else None
                found.append(now if first is None else _written(first.timestamp()[1]))
        return max(found, default=None)

    def lag(self, topic: str, group: str) -> Lag:
        """How far a group (without the prefix) is behind the end."""
        behind, oldest = 0, None
        for number, committed in self._committed(topic, group).items():
            low, high = self._watermarks(topic, number)
            begin = max(low, committed)
            if begin >= high:
                continue
            record = self._lookup.at(topic, number, begin)
            if record is None:  # nothing but markers of transactions
                continue
            behind += high - begin
            at = _written(record.timestamp()[1])
            oldest = at if oldest is None else min(oldest, at)
        return Lag(behind, oldest)

    def _committed(self, topic: str, group: str) -> dict[int, int]:
        places = [TopicPartition(self._settings.topic(topic), number) for number in self._places[topic]]
        with closing(Consumer(consumer_config(self._settings, group))) as consumer:
            found = patiently(lambda: consumer.committed(places, timeout=_TIMEOUT))
        return {each.partition: max(0, each.offset) for each in found}

    def _offsets(self, topic: str, at: datetime | None, *, end: bool = False) -> Mapping[int, int]:
        marks = {number: self._watermarks(topic, number) for number in self._places[topic]}
        if at is None:
            return {number: high if end else low for number, (low, high) in marks.items()}
        name, when = self._settings.topic(topic), int(at.timestamp() * 1000)
        asked = [TopicPartition(name, number, when) for number in marks]
        found = patiently(lambda: self._consumer.offsets_for_times(asked, timeout=_TIMEOUT))
        return {
            each.partition: marks[each.partition][1] if each.offset == OFFSET_END else each.offset
            for each in found
        }

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        place = TopicPartition(self._settings.topic(topic), partition)
        low, high = patiently(lambda: self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT))
        return low, high


def settings_of(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The topics' own settings on this cluster, by declared name; blocks.

    Raises:
        RetryLater: Kafka does not answer.
    """
    admin = AdminClient(client_config(settings))
    names = {settings.topic(topic): topic for topic in topics}
    found = {}
    with translated():
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        for resource, future in admin.describe_configs(asked, request_timeout=_TIMEOUT).items():
            found[names[resource.name]] = {
                name: entry.value for name, entry in future.result().items() if entry.value is not None
            }
    return found


def _written(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
