"""Which entities may be sent. A stop is durable, and only a person's word releases it.

What stops an entity's lane: an answer that nothing here understands, imports that come to nothing again and again, and
a flood of dead letters. Reading goes on, open imports are followed to their end, and the other entities are sent as
before; nothing is lost, and nothing spins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from estarsync_core.clock import Clock
from estarsync_core.control import LaneStop, Words, stop_key
from estarsync_core.entities import Entity
from estarsync_runtime.metrics import Metrics
from loader.ledger import Ledger

_FEW = 1000  # records that say nothing about a share yet
_WINDOW = 10_000
_log = structlog.get_logger()


class Lanes:
    """Stops and releases.

    Args:
        words: what stands on the control topic, kept up to date by somebody else.
        ledger: where stops are written.
        clock: when.
        metrics: what is shown.
        new_id: names stops.
    """

    def __init__(
        self, words: Words, ledger: Ledger, clock: Clock, metrics: Metrics, new_id: Callable[[], UUID]
    ) -> None:
        self._words = words
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._stops: dict[Entity, LaneStop] = {}
        for entity in Entity:
            stop = words.stopped(entity)
            if stop is not None:
                self._stops[entity] = stop
                _log.error("lane_still_stopped", entity=entity, code=stop.code, reason=stop.reason)
            self._show(entity)

    def stopped(self, entity: Entity) -> bool:
        """Whether nothing of this entity may be sent."""
        return entity in self._stops

    def stop(self, entity: Entity, code: str, reason: str) -> None:
        """Send nothing of this entity until a person has looked. Blocks for a Kafka transaction.

        Args:
            entity: whose lane; one that is stopped already stays so, for its first reason.
            code: why, from a closed set.
            reason: for people, without personal data.
        """
        if entity in self._stops:
            return
        stop = LaneStop(str(self._new_id()), code, reason, self._clock.now())
        self._ledger.write([self._ledger.word(stop_key(entity), stop)])
        self._stops[entity] = stop
        self._show(entity)
        _log.error(
            "lane_stopped", entity=entity, code=code, reason=reason, do=f"estarsync lanes resume {entity}"
        )

    def refresh(self) -> list[Entity]:
        """Obey what a person has said since; gives the lanes that are released by it."""
        released = [entity for entity in self._stops if self._words.released(entity, self._stops[entity])]
        for entity in released:
            del self._stops[entity]
            self._show(entity)
            _log.info("lane_released", entity=entity)
        return released

    def _show(self, entity: Entity) -> None:
        self._metrics.lane_stopped.labels(entity).set(self.stopped(entity))


@dataclass(slots=True)
class _Counts:
    run: int = 0
    seen: int = 0
    dead: int = 0
    waved_through: bool = False


class Brake:
    """Says when dead letters are a flood: then the fault is not the records', and each would have to be redriven.

    Args:
        run: so many one after the other; 0 is no limit.
        share: a larger part of the latest records (at least 1,000); 1 is no limit.
    """

    def __init__(self, run: int, share: float) -> None:
        self._run = run
        self._share = share
        self._counts = {entity: _Counts() for entity in Entity}

    def holds(self, entity: Entity, dead: int, records: int) -> bool:
        """Whether so many dead letters among so many records, after what came before, would be a flood."""
        counts = self._counts[entity]
        if dead == 0 or counts.waved_through:
            return False
        run = counts.run + dead if dead == records else dead
        seen, all_dead = counts.seen + records, counts.dead + dead
        return 0 < self._run <= run or (seen >= _FEW and all_dead > self._share * seen)

    def count(self, entity: Entity, dead: int, records: int) -> None:
        """Remember what became of so many records; older ones weigh less and less."""
        counts = self._counts[entity]
        if records == 0:
            return
        if counts.waved_through and dead < records:
            self._counts[entity] = counts = _Counts()
        counts.run = counts.run + dead if dead == records else 0
        counts.seen += records
        counts.dead += dead
        if counts.seen > _WINDOW:
            counts.seen //= 2
            counts.dead //= 2

    def wave_through(self, entity: Entity) -> None:
        """A person has looked: no flood, until records are delivered again."""
        self._counts[entity] = _Counts(waved_through=True)
