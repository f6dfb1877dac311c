"""A resync from raw: the transformer reads a part of its own partitions again, and live events wait their turn.

Every process serves the partitions that it owns. Where a rewind has come to is its progress word on the control
topic, written in the transaction of the records that it speaks of; the group's offset stays where live reading
goes on. So a killed process's successor goes on at the same record, and nothing is written twice.

No older version may come after a newer one: a rewind always goes on to where live reading stopped, and where the
request ends earlier (`until`), the keys of everything after that are gathered first and left out. One that is
stopped half-way still brings the newest versions of the keys that it has met.
"""

from enum import Enum, auto
from typing import Literal

import msgspec

from estarsync_core.clock import Clock
from estarsync_core.control import (
    Progress,
    Resync,
)
from estarsync_core.mapping import MAPPING_REVISION
from transformer.heading import Again

Place = tuple[str, int]
State = Literal["running", "done", "cancelled", "refused"]

_LEAST, _MOST = 2**16, 2**23  # bits, of which a record gets sixteen where there is room
_EACH = 16


def revision_of(request: Resync) -> int:
    """The revision of what is mapped again because of a request: higher than the mapping's and any earlier request's.

    So what a changed mapping or profile makes of a record is newer than what it made before, and nobody has to count.
    """
    return max(MAPPING_REVISION, int(request.at.timestamp() * 1000))


class Fate(Enum):
    """What to do with a message of a partition that is being rewound."""

    AGAIN = auto()  # transform it again, in the bulk lane
    PASS = auto()  # it is not asked for, or not yet its turn
    LIVE = auto()  # live reading has reached it


class Spot(msgspec.Struct, frozen=True):
    """How far a rewind has come: the first offset asked for, and the next one."""

    start: int
    next: int


class _Keys:
    """The keys that were met, in a megabyte at most; it may take another for one of them, never vice versa.

    Args:
        records: about how many there will be.
    """

    def __init__(self, records: int) -> None:
        self._size = min(_MOST, max(_LEAST, records * _EACH))
        self._bits = bytearray(self._size // 8 + 1)

    def add(self, key: bytes | None) -> None:
        for bit in self._places(key):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, key: bytes | None) -> bool:
        return all(self._bits[bit >> 3] & 1 << (bit & 7) for bit in self._places(key))

    def _places(self, key: bytes | None) -> tuple[int, int]:
        number = hash(key)
        return number % self._size, (number >> 32) % self._size


class Rewind:
    """One partition's part of a resync.

    Args:
        request: what was asked.
        place: topic and partition.
        start: the first offset asked for.
        position: the next one to read.
        end: one after the last that is asked for.
        live: where live reading goes on.

    Attributes:
        reached_live: reading has come there.
        again: what is different in the headers of what it writes.
    """

    def __init__(self, request: Resync, place: Place, start: int, position: int, end: int, live: int) -> None:
        self.request = request
        self.place = place
        self.live = live
        self.reached_live = False
        self.again = Again(revision_of(request), request.id if request.force else None)
        self._start = start
        self._end = end
        self._position = self._seen = position
        self._keys = None if request.keys is None else {key.encode() for key in request.keys}
        self._later: set[bytes | None] = set()
        self._gathering = end < live and position < end
        self._met = (
            _Keys(end - start) if position == start else None
        )  # what an earlier process has met is not known
        self._stopped: int | None = None

    @property
    def first(self) -> int:
        """Where reading has to begin."""
        return self._end if self._gathering else self._position

    @property
    def over(self) -> bool:
        """Whether all that is asked for was seen."""
        return self._seen >= self._end

    @property
    def moved(self) -> bool:
        """Whether something is to be told."""
        return self._seen != self._position

    def fate(self, offset: int, key: bytes | None, *, record: bool) -> Fate:
        """What to do with a message at this offset: a record, or the partition's end."""
        if self._gathering:
            if record and offset < self.live:
                self._later.add(key)
            return Fate.PASS
        if offset < self._end:
            self._seen = offset + 1
            asked = record and (self._keys is None or key in self._keys) and key not in self._later
            if not asked or (self._stopped is not None and self._met is not None and key not in self._met):
                return Fate.PASS
            if self._met is not None:
                self._met.add(key)
            return Fate.AGAIN
        self._seen = max(self._seen, self._end)
        if offset < self.live:
            return Fate.PASS
        self.reached_live = True
        return Fate.LIVE

    def stop(self) -> bool:
        """A person has stopped it. True where it may end at once.

        Else it goes on to its end for the keys that were met, whose newest versions must come last again.
        """
        if self._gathering or (self._position == self._start and self._met is not None):
            return True
        if self._stopped is None:
            self._stopped = self._position
        return False

    @property
    def state(self) -> State:
        """What to tell of it."""
        if not self.over:
            return "running"
        return "done" if self._stopped is None else "cancelled"

    def gathered(self, read_to: int) -> bool:
        """Whether the keys of everything after the request's end are known now; then reading begins at `first`."""
        if not self._gathering or read_to < self.live:
            return False
        self._gathering = False
        return True

    def commit(self) -> None:
        """What was seen is written."""
        self._position = self._seen

    def roll_back(self) -> None:
        """What was seen is not written, and will be read again."""
        self._seen = self._position

    def progress(self, clock: Clock, state: State, reason: str | None = None) -> Progress:
        """How far it has come, as of what was seen."""
        come = self._seen if self._stopped is None else self._stopped
        spot = msgspec.to_builtins(Spot(self._start, come))
        return Progress(
            self.request.id,
            state,
            done=max(0, come - self._start),
            total=max(0, self._end - self._start),
            at=clock.now(),
            reason=reason,
            place=spot,
        )
