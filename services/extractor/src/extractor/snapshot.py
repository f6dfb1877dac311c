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
    ids: list[str]
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
        if self.mark is None:
            return 0.0
        return max(0.0, self._cadence - (self._clock.now() - self.mark.cursor).total_seconds())

    @override
    def step(self) -> bool:
        if self._snapshot is None:
            started = self._clock.now()
            ids = self._list_ids()
            self._snapshot = _Snapshot(started, ids, empty=not ids)
            self._removals.begin()
            self._listed(ids)
            return False
        snapshot = self._snapshot
        if snapshot.ids:
            batch = snapshot.ids[: self._reader.kind.size]
            page = self._reader.read(batch)
            self._publisher.commit(self.entity, self.lane, page, {})
            self._removals.saw(page, batch)
            del snapshot.ids[: len(batch)]
            return False
        mark = FeedMark(cursor=snapshot.started, first_load_done=True, window_hours=0.0)
        self._removals.finish(self.lane, {self.name: mark}, self.name, empty=snapshot.empty)
        self._snapshot = None
        self._ended(mark)
        return True
