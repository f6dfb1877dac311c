"""Feeds: what the shop is asked for again and again, one small step at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

import structlog
from typing_extensions import override

from estarsync_core.clock import Clock
from estarsync_core.control import Blocked
from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import RetryLater
from estarsync_core.estar.changes import Changes
from estarsync_core.estar.checkpoint import FeedMark
from estarsync_core.estar.windows import (
    SMALLEST,
    Place,
    Window,
    begin_run,
    completed,
    failed,
    horizon,
    next_window,
    place_at,
)
from estarsync_core.profile import TenantProfile
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.tracing import OFF, Tracing
from extractor.firstload import FirstLoad, Progress
from extractor.pages import Page, PageReader
from extractor.publisher import Publisher

WINDOW_FAILED = "window_failed"
_NEVER = datetime.min.replace(tzinfo=UTC)
_GIVE_UP_AFTER = 3  # failures of the smallest window, while the shop lists another one
_NOTHING = Page(Changes(), {}, 0)
_log = structlog.get_logger()

ListIds = Callable[[Window], list[str]]


def history_start(profile: TenantProfile) -> datetime:
    """When the shop's history begins."""
    return datetime.combine(profile.history_start, time(), profile.zone).astimezone(UTC)


def lists_quietly(list_ids: ListIds, profile: TenantProfile) -> bool:
    """Whether the shop lists a second long before its history, where nothing can be in the way; blocks."""
    quiet = history_start(profile) - timedelta(days=1)
    try:
        list_ids(Window(quiet, quiet + SMALLEST))
    except RetryLater:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every feed needs."""

    publisher: Publisher
    profile: TenantProfile
    clock: Clock
    metrics: Metrics
    blocked: Blocked = field(default_factory=Blocked)
    tracing: Tracing = OFF


class Feed(ABC):
    """One feed of one entity. Its runs never overlap; the first one is the first load.

    Args:
        name: as checkpoints and the profile's cadences call it.
        reader: of its entity.
        around: what every feed needs.
    """

    def __init__(self, name: str, reader: PageReader, around: Surroundings) -> None:
        self.name = name
        self.entity: Entity = reader.kind.entity
        self._reader = reader
        self._publisher = around.publisher
        self._profile = around.profile
        self._clock = around.clock
        self._metrics = around.metrics
        self.first_load: FirstLoad | None = None
        if self.is_first:
            around.metrics.first_load_done.labels(self.entity).set(float(self.loaded))
            mark = self.mark or FeedMark(cursor=_NEVER, first_load_done=False, window_hours=0.0)
            if not mark.first_load_done:
                self.first_load = FirstLoad(self.entity, mark.records, mark.ratio, self._clock, self._metrics)
        if self.mark is not None:
            around.metrics.cursor.labels(name).set(self.mark.cursor.timestamp())

    @abstractmethod
    def step(self) -> bool:
        """Do one list or one page; true where this ended the run. Blocks.

        Raises:
            RetryLater: the shop is in trouble; the next step tries the same again.
        """

    @property
    def is_first(self) -> bool:
        """Whether the entity's first load is this feed's."""
        return True

    @property
    def mark(self) -> FeedMark | None:
        """How far it has come, as committed."""
        return self._publisher.mark(self.entity, self.name)

    @property
    def loaded(self) -> bool:
        """Whether its first load is done."""
        return self.mark is not None and self.mark.first_load_done

    @property
    def ready(self) -> bool:
        """Whether it may run."""
        return True

    @property
    def counted(self) -> bool:
        """Whether its runs are few enough to count all keys after each."""
        return True

    @property
    def rest(self) -> float:
        """Seconds to wait after a start of the process before the first run."""
        return 0.0

    @property
    def lane(self) -> Lane:
        """How urgent its events are."""
        return Lane.LIVE if self.loaded else Lane.BULK

    def _listed(self, ids: list[str]) -> None:
        if not self.loaded:
            self._metrics.listed.labels(self.entity).inc(len(ids))

    def _ended(self, mark: FeedMark) -> None:
        if self.is_first:
            self._metrics.first_load_done.labels(self.entity).set(1)
        if self.first_load is not None:
            self.first_load.done()
            self.first_load = None
        self._metrics.cursor.labels(self.name).set(mark.cursor.timestamp())
        _log.info("run_done", feed=self.name, cursor=mark.cursor.isoformat())


class LiveFeed(Feed):
    """A feed that answers to what somebody says: it has no first load, and goes before those that have one."""

    @property
    @override
    def is_first(self) -> bool:
        return False

    @property
    @override
    def loaded(self) -> bool:
        return True

    @property
    @override
    def lane(self) -> Lane:
        return Lane.LIVE

    @property
    @override
    def counted(self) -> bool:
        return False


@dataclass(slots=True)
class _Listing:
    window: Window
    count: int
    ids: list[str]  # those still to read


@dataclass(slots=True)
class Run:
    """One run of a feed, from its begin to `until`."""

    until: datetime
    place: Place
    listing: _Listing | None = None
    failures: int = 0  # of the smallest window, in a row


class WindowFeed(Feed):
    """Walks over time in windows.

    Args:
        name: as for every feed.
        list_ids: lists the ids of a window.
        reader: as for every feed.
        around: as for every feed.
        starts: the feeds that go on from where this one's first load began.
        follows: the feed that started this one; it has no first load of its own.
    """

    def __init__(
        self,
        name: str,
        list_ids: ListIds,
        reader: PageReader,
        around: Surroundings,
        *,
        starts: Sequence[str] = (),
        follows: Feed | None = None,
    ) -> None:
        self._list_ids = list_ids
        self._starts = starts
        self._follows = follows
        self._run: Run | None = None
        super().__init__(name, reader, around)

    @property
    @override
    def is_first(self) -> bool:
        return self._follows is None

    @property
    @override
    def ready(self) -> bool:
        return self._follows is None or self._follows.loaded

    @override
    def step(self) -> bool:
        run = self._run = self._run or self._begin()
        if run.listing is not None:
            self._page(run, run.listing)
            return False
        window = next_window(run.place, run.until)
        if window is None:
            return self._end(run)
        self._list(run, window)
        return False

    def _begin(self) -> Run:
        if self.first_load is not None:
            self.first_load.begin()
        windows = self._profile.windows
        mark = self.mark
        place = (
            place_at(history_start(self._profile), windows)
            if mark is None
            else place_at(mark.cursor, windows, mark.window_hours)
        )
        return Run(horizon(self._clock.now(), windows), begin_run(place, windows))

    def _list(self, run: Run, window: Window) -> None:
        try:
            ids = self._list_ids(window)
        except RetryLater as error:
            if not window.smallest:
                run.place = failed(run.place, window)
                raise
            run.failures += 1
            if run.failures < _GIVE_UP_AFTER or not lists_quietly(self._list_ids, self._profile):
                raise
            _log.warning("window_given_up", feed=self.name, start=window.start.isoformat(), reason=str(error))
            page = Page(Changes(), {f"window/{window.start.isoformat()}": WINDOW_FAILED}, 0)
            self._commit(run, page, self._after(run, window, 0), window)
            run.failures = 0
            return
        run.failures = 0
        self._listed(ids)
        if ids:
            run.listing = _Listing(window, len(ids), ids)
        else:  # nothing to write: the next commit tells of it
            run.place = self._after(run, window, 0)
            self._came(run, run.place, 0)

    def _page(self, run: Run, listing: _Listing) -> None:
        batch = listing.ids[: self._reader.kind.size]
        last = len(batch) == len(listing.ids)
        page = self._read(batch)
        place = self._after(run, listing.window, listing.count) if last else run.place
        self._commit(run, page, place, listing.window)
        del listing.ids[: len(batch)]
        if last:
            run.listing = None

    def _came(self, run: Run, place: Place, read: int) -> Progress | None:
        """How far the first load has come with so many records more; None where it is over."""
        if self.first_load is None:
            return None
        begin = history_start(self._profile)
        goal = (run.until - begin).total_seconds()
        done = (place.position - begin).total_seconds()
        if run.listing is not None and place is run.place:  # within a window
            listing = run.listing
            share = 1 - (len(listing.ids) - read) / listing.count if listing.count else 0.0
            done += (listing.window.end - listing.window.start).total_seconds() * min(1.0, share)
        return self.first_load.came(read, min(1.0, max(0.0, done / goal)) if goal > 0 else 1.0)

    def _read(self, batch: list[str]) -> Page:
        return self._reader.read(batch)

    def _end(self, run: Run) -> bool:
        mark = self._commit(run, _NOTHING, run.place, loaded=True)
        self._run = None
        self._ended(mark)
        return True

    def _after(self, run: Run, window: Window, listed: int) -> Place:
        return completed(run.place, window, listed, self._profile.windows)

    def _commit(
        self, run: Run, page: Page, place: Place, window: Window | None = None, *, loaded: bool = False
    ) -> FeedMark:
        loaded = loaded or self.loaded
        come = self._came(run, place, page.read)
        mark = FeedMark(
            cursor=place.cursor,
            first_load_done=loaded,
            window_hours=place.window_hours,
            records=come.records if come else 0,
            ratio=come.ratio if come else 0.0,
        )
        marks = {self.name: mark}
        hours = self._profile.windows.initial_hours
        for other in self._starts:
            if self._publisher.mark(self.entity, other) is None:
                marks[other] = FeedMark(cursor=run.until, first_load_done=True, window_hours=hours)
        self._publisher.commit(self.entity, self.lane, page, marks, window)
        run.place = place
        return mark
