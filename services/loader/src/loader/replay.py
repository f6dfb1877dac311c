"""A resync from typed payloads: what stands in a typed topic is marked pending again, in the bulk lane.

Only what the loader has read before is offered again, and only a key's latest version, so that no older value ever
lands; live records overtake it. How far it has come is written to the control topic, up to the oldest record that
is not settled: after a restart it goes on there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import msgspec
import structlog
from confluent_kafka import Message

from estarsync_core.clock import Clock
from estarsync_core.control import Progress, Resync, Words, progress_key, request_key
from estarsync_core.entities import Entity
from estarsync_runtime.metrics import Metrics
from loader.intake import Intake
from loader.ledger import Ledger, Place
from loader.table import Table

_WRITE_SECONDS = 5.0
_log = structlog.get_logger()


class Reading(Protocol):
    """Reads parts of partitions, beside the loader's own consumer."""

    def read(self) -> list[Message]:
        """The next records and ends, without waiting long."""
        ...

    def close(self) -> None:
        """Let go of the partitions."""
        ...


class Archive(Protocol):
    """The typed topics, for reading again."""

    def spans(
        self, entity: Entity, since: datetime | None, until: datetime | None
    ) -> Mapping[Place, tuple[int, int]]:
        """Where each partition's records begin and end that were published between two times; blocks for a moment.

        Raises:
            RetryLater: Kafka does not say.
        """
        ...

    def reading(self, offsets: Mapping[Place, int]) -> Reading:
        """Read these partitions from these offsets on."""
        ...


class _Place(msgspec.Struct, frozen=True):
    """How far a resync has come, by partition: the next offset, and the end."""

    spans: dict[int, tuple[int, int]]


@dataclass(slots=True)
class _Run:
    """The resync in hand."""

    request: Resync
    topic: str
    starts: dict[Place, int]
    ends: dict[Place, int]
    positions: dict[Place, int]
    keys: frozenset[str] | None
    bare: frozenset[str]  # contacts of which the topic may have none, since only orders know them
    reading: Reading | None = None
    untaken: list[Message] = field(default_factory=list)
    marked: int = 0
    write_due: float = 0.0

    @property
    def read(self) -> bool:
        """Whether all of it was read."""
        return not self.untaken and all(self.positions[place] >= end for place, end in self.ends.items())


class Replay:
    """Obeys resyncs from typed payloads, one after the other.

    Args:
        words: what people ask.
        archive: the typed topics.
        intake: puts records into the table.
        table: where they wait.
        ledger: where progress is written.
        clock: the time.
        metrics: what is shown.
        topics: the typed topics' names on this cluster.
    """

    def __init__(
        self,
        words: Words,
        archive: Archive,
        intake: Intake,
        table: Table,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        topics: Mapping[Entity, str],
    ) -> None:
        self._words = words
        self._archive = archive
        self._intake = intake
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._topics = topics
        self._run: _Run | None = None
        self._changed = True
        self._ended: dict[
            str, str
        ] = {}  # requests and how they ended here: what we wrote is read back only later

    def look(self) -> None:
        """Something new stands on the control topic."""
        self._changed = True

    def step(self) -> None:
        """Mark some more records pending; doesn't block for long.

        Raises:
            RetryLater: Kafka is in trouble.
        """
        if self._run is None and self._changed:
            self._begin()
            self._changed = False
        run = self._run
        if run is None:
            return
        standing = self._words.get(request_key(run.request), Resync)
        if standing is None or standing.cancelled:
            self._end(run, "cancelled")
            return
        if any(self._intake.positions.get(place, 0) < end for place, end in run.ends.items()):
            return  # the loader's own reading has not come so far: nothing is offered before it
        if not run.read:
            self._mark(run)
        elif run.bare:
            run.marked += self._intake.bare_again(run.bare)
            run.bare = frozenset()
        elif self._table.count_again(run.request.entity) == 0:
            self._end(run, "done")
            return
        if self._clock.monotonic() >= run.write_due:
            self._write(run, "running")

    def close(self) -> None:
        """Let go of the topics."""
        if self._run is not None:
            self._stop_reading(self._run)

    def _begin(self) -> None:
        waiting = [
            each
            for each in self._words.requests(Resync)
            if each.source == "typed" and not self._has_ended(each)
        ]
        if not waiting:
            return
        request = waiting[0]
        topic = self._topics[request.entity]
        starts, ends, done = self._span(request, topic)
        self._run = _Run(
            request,
            topic,
            starts=starts,
            ends=ends,
            positions=dict(starts),
            keys=None if request.keys is None else frozenset(request.keys),
            bare=frozenset(request.keys or () if request.entity is Entity.CONTACTS else ()),
            marked=done,
        )
        _log.info("resync", id=request.id, entity=request.entity, offsets=_length(starts, ends))

    def _has_ended(self, request: Resync) -> bool:
        """Whether it ended here; what was cancelled and is so no more goes on."""
        state = self._ended.get(request.id)
        return state == "done" or (state == "cancelled" and request.cancelled)

    def _span(self, request: Resync, topic: str) -> tuple[dict[Place, int], dict[Place, int], int]:
        """Where to begin and to end, and how many records were handled by an earlier process."""
        before = self._words.get(progress_key(request.id), Progress)
        if before is not None and before.place is not None:
            try:
                spans = msgspec.convert(before.place, _Place, strict=False).spans
            except msgspec.ValidationError:
                _log.warning("resync_begins_anew", id=request.id)
            else:
                starts = {(topic, number): start for number, (start, _) in spans.items()}
                return starts, {(topic, number): end for number, (_, end) in spans.items()}, before.done
        until = request.at if request.until is None else min(request.until, request.at)
        found = self._archive.spans(request.entity, request.since, until)
        return (
            {place: start for place, (start, _) in found.items()},
            {place: end for place, (_, end) in found.items()},
            0,
        )

    def _mark(self, run: _Run) -> None:
        if run.reading is None:
            run.reading = self._archive.reading(run.positions)
        for message in [] if run.untaken else run.reading.read():
            place = (message.topic() or "", message.partition() or 0)
            offset = message.offset() or 0
            if message.error() is not None:
                run.positions[place] = max(run.positions[place], offset)  # the end of the partition
                continue
            if offset < run.ends[place] and (run.keys is None or _text(message.key()) in run.keys):
                run.untaken.append(message)
            run.positions[place] = offset + 1
        run.marked += self._intake.again(run.untaken)
        run.untaken.clear()

    def _done_up_to(self, run: _Run) -> dict[Place, int]:
        """The offsets up to which everything was offered again and settled."""
        found = {}
        for place, end in run.ends.items():
            oldest = self._table.oldest_again(run.request.entity, *place)
            position = min(run.positions[place], end)
            found[place] = position if oldest is None else min(position, oldest)
        return found

    def _write(self, run: _Run, state: Literal["running", "done", "cancelled"]) -> None:
        run.write_due = self._clock.monotonic() + _WRITE_SECONDS
        done = self._done_up_to(run)
        left = self._table.count_again(run.request.entity)
        self._metrics.resync_left.labels(run.request.entity).set(left)
        place = _Place({number: (done[topic, number], end) for (topic, number), end in run.ends.items()})
        unread = _length(run.positions, run.ends)
        progress = Progress(
            run.request.id,
            state,
            done=run.marked - left,
            total=run.marked + unread if run.keys is None else run.marked,
            at=self._clock.now(),
            place=msgspec.to_builtins(place, str_keys=True),
        )
        self._ledger.write([self._ledger.word(progress_key(run.request.id), progress)])

    def _end(self, run: _Run, state: Literal["done", "cancelled"]) -> None:
        self._write(run, state)
        self._ended[run.request.id] = state
        self._stop_reading(run)
        self._run = None
        self._changed = True
        _log.info("resync_over", id=run.request.id, state=state, records=run.marked)

    @staticmethod
    def _stop_reading(run: _Run) -> None:
        if run.reading is not None:
            run.reading.close()
            run.reading = None


def _length(starts: Mapping[Place, int], ends: Mapping[Place, int]) -> int:
    return sum(max(0, end - starts[place]) for place, end in ends.items())


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
