"""What goes into a batch, and when it is full enough.

Calls are what an account has few of, so a backlog goes in the largest bodies that Dotdigital takes, filled as
fast as the topics are read. Where calls are plenty, batches are small and quick. A live record goes at once, in a
batch of its own lane. Every step does a moment's work: a body of 45 MB is filled over many.
"""

from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from estarsync_core.entities import Entity, Lane
from estarsync_runtime.dotdigital.client import DotdigitalClient, Operation
from loader.batches import Batch, Filling, Kind, Spooler
from loader.lanes import Lanes
from loader.settings import Settings
from loader.slots import Slots
from loader.table import Table

_MANY = 1000  # records that need not wait for others
_SMALL = 5000  # records of a batch where calls are plenty
_PLENTY = 0.1  # seconds a call: ten calls a second and more
_SOON = 5.0  # a bulk batch is begun so long before the quota allows it
_QUICK = 0.1  # for a live record there is no longer wait for others, where calls are plenty
_CALLS_OF_PATIENCE = 15  # an unfinished batch waits for more as long as so many calls would take
_PATIENCE = 30.0  # but not longer
_MORE_PATIENCE = 120.0  # where more is on its way, as long as it keeps coming
_LONGEST = 900.0  # and never longer
_PAUSE = 5.0  # after the disk was full


@dataclass(slots=True)
class _Open:
    """A batch that is being filled."""

    filling: Filling
    since: float
    last_added: float
    more: bool = True  # whether the last helping was a full one


class Filler:
    """Fills batches, at most one for each entity and lane at a time.

    Args:
        settings: limits and times.
        table: where the records are.
        spooler: makes the batches.
        slots: says whether one may be made.
        client: knows the quota.
        lanes: of one that is stopped, no batch is begun.
        batches: all open batches; the new ones are added.
        new_id: makes batch ids.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        spooler: Spooler,
        slots: Slots,
        client: DotdigitalClient,
        lanes: Lanes,
        batches: dict[str, Batch],
        new_id: Callable[[], UUID],
    ) -> None:
        self._settings = settings
        self._table = table
        self._spooler = spooler
        self._slots = slots
        self._client = client
        self._lanes = lanes
        self._batches = batches
        self._new_id = new_id
        self._open: dict[tuple[Entity, Lane], _Open] = {}
        self._ready_since: dict[tuple[Entity, Lane], float] = {}
        self._last_turn: dict[Entity, int] = dict.fromkeys(Entity, 0)
        self._pause_until = 0.0
        self.busy = False
        """Whether the last step has found something to do."""

    def step(self, now: float, coming: Collection[Entity]) -> Batch | None:
        """Do a moment's work; gives the batch that has become full enough, if one has.

        Args:
            now: the time.
            coming: entities of which more stands in Kafka, or is about to.
        """
        self.busy = False
        for lane in (Lane.LIVE, Lane.BULK):
            for entity in sorted(Entity, key=lambda each: self._last_turn[each]):
                at = self._open.get((entity, lane)) or self._begin(entity, lane, now)
                if at is None:
                    continue
                if not self.busy:
                    self._help(at, entity, lane, now)
                if self._is_over(at, lane, now, waits=entity in coming):
                    del self._open[entity, lane]
                    return self._finished(at, now)
        return None

    def _begin(self, entity: Entity, lane: Lane, now: float) -> _Open | None:
        operation = _operation(entity)
        stopped = now < self._pause_until or self._lanes.stopped(entity)
        if stopped or not self._table.any_ready(entity, now, lane):
            self._ready_since.pop((entity, lane), None)
            return None
        waited = now - self._ready_since.setdefault((entity, lane), now)
        linger = self._settings.loader_linger_seconds
        if lane is Lane.LIVE:
            linger = min(linger, max(_QUICK, self._client.interval(operation)))
        many = min(_MANY, self._settings.loader_batch_records)
        if waited < linger and self._table.count_ready(entity, now, many, lane) < many:
            return None
        wait = self._client.delay(operation, spare=lane is Lane.BULK)
        if wait > (_SOON if lane is Lane.BULK else 0) or not self._slots.may_open(entity, lane):
            return None  # the longer it waits for a slot or for the quota, the more goes into one call
        with closing(self._table.ready(entity, now, 1, lane)) as records:
            first = next(records)
        filling = self._spooler.begin(f"{entity}-{self._new_id()}", first)
        if filling is None:
            self._pause_until = now + _PAUSE  # the disk is full
            return None
        self._batches[filling.batch.id] = filling.batch
        filling.batch.opened_at = filling.batch.due = now
        self._ready_since.pop((entity, lane), None)
        at = self._open[entity, lane] = _Open(filling, now, now)
        return at

    def _help(self, at: _Open, entity: Entity, lane: Lane, now: float) -> None:
        """Put some more into a batch, and fence it."""
        batch = at.filling.batch
        room = min(self._spooler.chunk, self._most(batch) - len(batch.fences))
        removals = batch.kind is Kind.DELETE
        with closing(self._table.ready(entity, now, room, lane, removals=removals)) as records:
            added = at.filling.add(records)
        at.more = len(added) == room > 0
        if added:
            self.busy = True
            at.last_added = now
            self._last_turn[entity] = 1 + max(self._last_turn.values())
            with self._table.transaction():
                self._table.fence(entity, batch.id, added)

    def _is_over(self, at: _Open, lane: Lane, now: float, *, waits: bool) -> bool:
        batch = at.filling.batch
        if at.filling.full or len(batch.fences) >= self._most(batch):
            return True
        if at.more:
            return False
        if lane is Lane.LIVE:
            return True
        interval = self._client.interval(batch.operation)
        patience = min(_PATIENCE, max(self._settings.loader_linger_seconds, _CALLS_OF_PATIENCE * interval))
        if waits:
            if interval <= _PLENTY:
                return now - at.since >= patience
            return now - at.since >= _LONGEST or now - at.last_added >= _MORE_PATIENCE
        quiet = now - at.last_added >= self._settings.loader_linger_seconds
        return quiet or now - at.since >= patience

    def _most(self, batch: Batch) -> int:
        if batch.kind is Kind.DELETE and batch.entity is Entity.ORDERS:
            return 1
        most = self._settings.loader_batch_records
        plenty = self._client.interval(batch.operation) <= _PLENTY
        return min(_SMALL, most) if plenty and batch.lane is Lane.BULK else most

    def _finished(self, at: _Open, now: float) -> Batch | None:
        batch = at.filling.finish()
        if batch.fences:
            return batch
        # The disk took nothing; what is in flight will give space back.
        self._pause_until = now + _PAUSE
        del self._batches[batch.id]
        batch.close()
        return None


def _operation(entity: Entity) -> Operation:
    return "contact_import" if entity is Entity.CONTACTS else "insight_import"
