"""Snapshots: everything is read every time, for what the shop can't list by change."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from typing_extensions import override

from estarsync_core.estar.checkpoint import FeedMark
from extractor.feeds import Feed, Surroundings
from extractor.pages import PageReader
from extractor.removals import Removals


@dataclass(slots=True)
class _Snapshot:
    started: datetime
    waiting: list[str]  # ids, the next one last
    total: int
    empty: bool


class SnapshotFeed(Feed):
    """Reads everything, every time: for what the shop can't list by change.

    Args:
        name: as for every feed.
        list_ids: lists all ids.
        reader: as for every feed.
        around: as for every feed.
        cadence: seconds between two runs.
        removals: what becomes of records that a snapshot lacks.
    """

    def __init__(
        self,
        name: str,
        list_ids: Callable[[], list[str]],
        reader: PageReader,
        around: Surroundings,
        cadence: float,
        removals: Removals,
    ) -> None:
        self._list_ids = list_ids
        self._removals = removals
        self._cadence = cadence
        self._snapshot: _Snapshot | None = None
        super().__init__(name, reader, around)

    @property
    @override
    def rest(self) -> float:
        if self.mark is None or not self.loaded:
            return 0.0
        return max(0.0, self._cadence - (self._clock.now() - self.mark.cursor).total_seconds())

    @override
    def step(self) -> bool:
        if self._snapshot is None:
            self._snapshot = self._begin()
            return False
        snapshot = self._snapshot
        if snapshot.waiting:
            size = self._reader.kind.size
            batch = snapshot.waiting[-size:][::-1]
            page = self._reader.read(batch)
            self._publisher.commit(self.entity, self.lane, page, self._marks(snapshot, len(batch)))
            self._removals.saw(page, batch)
            del snapshot.waiting[-size:]
            return False
        mark = FeedMark(cursor=snapshot.started, first_load_done=True, window_hours=0.0)
        self._removals.finish(self.lane, {self.name: mark}, self.name, empty=snapshot.empty)
        self._snapshot = None
        self._ended(mark)
        return True

    def _begin(self) -> _Snapshot:
        started = self._clock.now()
        ids = self._list_ids()
        self._removals.begin()
        self._listed(ids)
        empty, total = not ids, len(ids)
        if self.first_load is not None:
            self.first_load.begin()
            self.first_load.knows(total)
            if self.mark is not None:  # what an earlier process has read of it need not be read again
                ids = [identity for identity in ids if not self._removals.saw_before(identity)]
        ids.reverse()  # taken from the end: from the front it would be moved for every page
        return _Snapshot(started, ids, total, empty)

    def _marks(self, snapshot: _Snapshot, read: int) -> dict[str, FeedMark]:
        """The mark of a first load; later ones are marked at their end."""
        if self.first_load is None:
            return {}
        done = snapshot.total - len(snapshot.waiting) + read
        records = done - self.first_load.progress.records
        come = self.first_load.came(records, done / snapshot.total)
        mark = FeedMark(
            cursor=snapshot.started,
            first_load_done=False,
            window_hours=0.0,
            records=come.records,
            ratio=come.ratio,
        )
        return {self.name: mark}
