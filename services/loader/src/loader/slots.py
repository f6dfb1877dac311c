"""The account's import slots: how many imports may be open at once, for contacts and for Insight data."""

from collections.abc import Collection

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity, Lane
from loader.batches import Batch, Kind, State
from loader.lanes import Lanes
from loader.settings import Settings

_LONGEST_WAIT = 30.0
_MOST_REPORTED = 4  # batches whose import is over and whose records are being settled


class Slots:
    """Says which batches may be made and sent. The slots are the account's, and others use them too.

    Args:
        settings: our share of them.
        batches: all open batches, as they are at any time.
        lanes: a batch whose lane is stopped takes nothing from others.
        clock: for waiting while they are full.
    """

    def __init__(self, settings: Settings, batches: Collection[Batch], lanes: Lanes, clock: Clock) -> None:
        self._ours = {True: settings.loader_contact_slots, False: settings.loader_insight_slots}
        self._batches = batches
        self._lanes = lanes
        self._clock = clock
        self._full_until = {True: 0.0, False: 0.0}
        self._refused = {True: 0, False: 0}

    def may_open(self, entity: Entity, lane: Lane) -> bool:
        """Whether a batch may be made: one that can be sent soon, after those that wait already.

        A slot is left free for live records: one in the middle of a first load's imports would wait for minutes.
        """
        kind = _is_contacts(entity)
        now = self._clock.monotonic()
        mine = [
            batch
            for batch in self._batches
            if _is_contacts(batch.entity) is kind
            and (batch.holds_slot or not self._lanes.stopped(batch.entity))
        ]
        reported = sum(batch.state is State.REPORTED for batch in mine)
        open_now = [batch for batch in mine if batch.state is not State.REPORTED and batch.lane is lane]
        waiting = any(batch.state is State.TO_SEND and batch.due <= now for batch in open_now)
        return (
            len(open_now) < self.most(entity, lane)
            and len(mine) - reported < self._ours[kind]
            and reported < _MOST_REPORTED
            and not waiting
            and now >= self._full_until[kind]
        )

    def most(self, entity: Entity, lane: Lane) -> int:
        """How many imports of a lane may be open at once."""
        ours = self._ours[_is_contacts(entity)]
        return ours if lane is Lane.LIVE else max(1, ours - 1)

    def may_send(self, batch: Batch) -> bool:
        """Whether a batch may be sent now; a deletion needs no slot."""
        if batch.kind is Kind.DELETE:
            return True
        kind = _is_contacts(batch.entity)
        taken = [
            other.lane
            for other in self._batches
            if other is not batch and other.holds_slot and _is_contacts(other.entity) is kind
        ]
        return (
            len(taken) < self._ours[kind]
            and taken.count(batch.lane) < self.most(batch.entity, batch.lane)
            and self._clock.monotonic() >= self._full_until[kind]
        )

    def full(self, entity: Entity) -> None:
        """Dotdigital says that all slots are taken: send none for a while, or until one of ours is free."""
        kind = _is_contacts(entity)
        self._refused[kind] += 1
        wait = min(_LONGEST_WAIT, 2.0 ** self._refused[kind])
        self._full_until[kind] = self._clock.monotonic() + wait

    def freed(self, entity: Entity) -> None:
        """One of ours is over."""
        self._full_until[_is_contacts(entity)] = 0.0
        self._refused[_is_contacts(entity)] = 0


def _is_contacts(entity: Entity) -> bool:
    return entity is Entity.CONTACTS
