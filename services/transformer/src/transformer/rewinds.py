"""Begins, keeps and ends the rewinds of this process's partitions: what stands on the control topic, obeyed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

import msgspec
import structlog
from confluent_kafka import Consumer, TopicPartition

from estarsync_core.clock import Clock
from estarsync_core.control import Progress, Resync, Words, encode, is_over, progress_key, request_key
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord, RetryLater, Stop
from estarsync_core.partitions import partition_of
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.producer import TransactionalProducer
from transformer.rewind import Place, Rewind, Spot, State

_TIMEOUT = 15.0
_LOOK_SECONDS = 1.0
_LOST = (
    "a part of what was asked for is not in the topic any more: ask for it with `estarsync backfill`, or give a later"
    " --since"
)
_log = structlog.get_logger()


class Reader(Protocol):
    """Who follows the control topic: `ControlReader`, or a fake."""

    words: Words

    def poll(self) -> set[str]:
        """Read on without waiting; gives the keys that changed."""
        ...


class Rewinds:
    """Begins, keeps and ends the rewinds of this process's partitions.

    Args:
        topics: the raw topics on this cluster.
        consumer: of the same process.
        producer: writes progress.
        control: the control topic's name on this cluster.
        reader: sees what is new there.
        read: reads all that stands there now; blocks for a moment.
        clock: the time.
    """

    def __init__(
        self,
        topics: Mapping[str, Entity],
        consumer: Consumer,
        producer: TransactionalProducer,
        control: str,
        reader: Reader,
        read: Callable[[], Words],
        clock: Clock,
    ) -> None:
        self._topics = topics
        self._consumer = consumer
        self._producer = producer
        self._control = control
        self._reader = reader
        self._read = read
        self._clock = clock
        self._due = 0.0
        self._changed = True
        self.active: dict[Place, Rewind] = {}
        """By partition; looked up for every record, so it is empty most of the time."""

    def lost(self, place: Place) -> None:
        """Another process goes on with this partition."""
        self.active.pop(place, None)
        self._changed = True

    def gained(self) -> None:
        """There may be a rewind to go on with."""
        self._changed = True

    def step(self, moved: set[Place]) -> None:
        """Take up what was asked since; between two transactions only, since it moves where partitions are read.

        Args:
            moved: gets the partitions that are read elsewhere from now on.

        Raises:
            RetryLater: Kafka is in trouble; what was not taken up will be.
        """
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _LOOK_SECONDS
            if any(name.startswith("resync/") for name in self._reader.poll()):
                self._changed = True
        if not self._changed:
            return
        if self.active or _raw(self._reader.words):
            self._take_up(moved)
        self._changed = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around a transaction: what was seen counts only where it ends well."""
        try:
            yield
        except BaseException:
            for rewind in self.active.values():
                rewind.roll_back()
            raise
        for rewind in self.active.values():
            rewind.commit()

    def tell(self, places: Iterable[Place]) -> None:
        """Write the progress of these, as far as they are rewound, into the open transaction."""
        for place in places:
            rewind = self.active.get(place)
            if rewind is not None and (rewind.moved or rewind.over):
                self._write(rewind, rewind.state)

    def settle(self, read_to: Mapping[Place, int]) -> dict[Place, int]:
        """After a batch, where to go on reading: a partition whose rewind is over, or whose keys are gathered.

        Args:
            read_to: one after the last offset of each partition in the batch.
        """
        go_on: dict[Place, int] = {}
        for place, rewind in list(self.active.items()):
            reached = read_to.get(place, 0)
            if rewind.gathered(reached):
                go_on[place] = rewind.first
            elif rewind.over:
                _log.info("resync_part_over", id=rewind.request.id, partition=place[1], state=rewind.state)
                del self.active[place]
                self._changed = True
                if not rewind.reached_live and reached < rewind.live:
                    go_on[place] = rewind.live
        return go_on

    def _take_up(self, moved: set[Place]) -> None:
        with translated():
            owned = [(it.topic, it.partition) for it in self._consumer.assignment()]
            # Blocks while a transaction of a partition's former owner is open: then its words stand, too.
            committed = self._consumer.committed([TopicPartition(*place) for place in owned], _TIMEOUT)
        words = self._read()
        for rewind in list(self.active.values()):
            standing = words.get(request_key(rewind.request), Resync)
            if (standing is None or standing.cancelled) and rewind.stop():
                self._close(rewind, "cancelled")
                moved.add(rewind.place)
        for at in committed:
            place = (at.topic, at.partition)
            request = self._next(words, place)
            if place not in self.active and request is not None:
                self._begin(request, place, max(at.offset, 0), words)
                if place in self.active:
                    moved.add(place)

    def _next(self, words: Words, place: Place) -> Resync | None:
        for request in _raw(words):
            if request.entity is self._topics[place[0]] and not request.cancelled:
                before = _part(words, request, place)
                if before is None or not is_over(request, before):
                    return request
        return None

    def _begin(self, request: Resync, place: Place, live: int, words: Words) -> None:
        with translated():
            low, _ = self._consumer.get_watermark_offsets(TopicPartition(*place), _TIMEOUT)
        since = self._offset(place, request.since)
        start = low if since is None else max(low, since)
        until = self._offset(place, request.until)
        end = live if until is None else min(live, until)
        before = _part(words, request, place)
        position = start
        if before is not None and before.place is not None:
            try:
                spot = msgspec.convert(before.place, Spot)
            except msgspec.ValidationError:
                _log.warning("resync_part_begins_anew", id=request.id, partition=place[1])
            else:
                start, position = spot.start, max(low, spot.next)
        elif low > 0 and request.keys is None and since in {None, low} and live > 0:
            rewind = Rewind(request, place, start, start, start, live)
            self._close(rewind, "refused", _LOST)
            return
        if request.keys is not None and not self._holds_one(place, request.keys):
            position = end
        rewind = Rewind(request, place, start, min(position, max(start, end)), max(start, end), live)
        if rewind.over:
            self._close(rewind, "done")
            return
        _log.info("resync_part", id=request.id, partition=place[1], offsets=end - position)
        self._seek(place, rewind.first)
        self.active[place] = rewind

    def _holds_one(self, place: Place, keys: Sequence[str]) -> bool:
        topic, number = place
        with translated():
            count = len(self._consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions)
        return any(partition_of(key.encode(), count) == number for key in keys)

    def _offset(self, place: Place, time: datetime | None) -> int | None:
        """The first offset published at this time or later; None for no time, or where nothing was."""
        if time is None:
            return None
        milliseconds = int(time.timestamp() * 1000)
        with translated():
            (found,) = self._consumer.offsets_for_times([TopicPartition(*place, milliseconds)], _TIMEOUT)
            if found.offset >= 0:
                return int(found.offset)
            return int(self._consumer.get_watermark_offsets(TopicPartition(*place), _TIMEOUT)[1])

    def _close(self, rewind: Rewind, state: State, reason: str | None = None) -> None:
        """End a rewind outside of a batch."""
        with self._producer.transaction():
            self._write(rewind, state, reason)
            self._producer.send_offsets([TopicPartition(*rewind.place, rewind.live)], self._consumer)
        if self.active.pop(rewind.place, None) is not None:
            try:
                self._seek(rewind.place, rewind.live)
            except RetryLater as error:
                raise Stop(f"can't go on with live events ({error}): start the transformer again") from error
        _log.info("resync_part_over", id=rewind.request.id, partition=rewind.place[1], state=state)

    def _write(self, rewind: Rewind, state: State, reason: str | None = None) -> None:
        key = progress_key(rewind.request.id, rewind.place[1]).encode()
        self._producer.produce(self._control, key, encode(rewind.progress(self._clock, state, reason)))

    def _seek(self, place: Place, offset: int) -> None:
        with translated():
            self._consumer.seek(TopicPartition(*place, offset))


def _raw(words: Words) -> list[Resync]:
    return [request for request in words.requests(Resync) if request.source == "raw"]


def _part(words: Words, request: Resync, place: Place) -> Progress | None:
    try:
        return words.get(progress_key(request.id, place[1]), Progress)
    except InvalidRecord:
        return None
