"""Backfill: the shop is read again because a person asked, in the bulk lane, beside live work.

Where it is stands in its `Progress` on the control topic, and is committed with each page: it goes on there after
any end of the process. Its windows are those of the ordinary feeds, from `since` to the moment of the request.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog
from typing_extensions import override

from estarsync_core.control import Backfill, Progress, encode, progress_key
from estarsync_core.entities import Entity, Lane
from estarsync_core.estar.changes import Changes
from estarsync_core.estar.checkpoint import FeedMark
from estarsync_core.estar.grouping import id_order
from estarsync_core.estar.windows import Place, Window, horizon, place_at
from extractor.desk import Desk
from extractor.feeds import Feed, ListIds, Run, Surroundings, WindowFeed, history_start
from extractor.pages import Page, PageReader
from extractor.shop import Shop

NAME = "backfill"
_log = structlog.get_logger()


class _Spot(msgspec.Struct, omit_defaults=True):
    """Where a backfill is: in which of its lists, and how far there; for products, after which id."""

    part: int = 0
    cursor: datetime | None = None
    hours: float | None = None
    after: str | None = None


class _Request:
    """A request that is being obeyed, and what has been written of it."""

    def __init__(self, asked: Backfill, come: Progress | None, around: Surroundings, desk: Desk) -> None:
        self.asked = asked
        self.done = 0 if come is None else come.done
        self.total: int | None = None
        place = None if come is None else come.place
        self.spot = _Spot() if place is None else msgspec.convert(place, _Spot)
        self._around = around
        self._desk = desk

    def commit(self, page: Page, spot: _Spot, *, over: bool = False, window: Window | None = None) -> None:
        """Write a page, and where the request is after it."""
        done = self.done + page.read + len(page.failed)
        now = self._around.clock.now()
        place = msgspec.to_builtins(spot)
        total = done if over else self.total
        come = Progress(self.asked.id, "done" if over else "running", done, total, now, None, place)
        self._write(page, come, window)
        self.done, self.spot = done, spot
        if over:
            _log.info("backfilled", id=self.asked.id, entity=self.asked.entity, records=done)

    def cancel(self) -> None:
        """Write that it ends here."""
        now, place = self._around.clock.now(), msgspec.to_builtins(self.spot)
        come = Progress(self.asked.id, "cancelled", self.done, self.total, now, None, place)
        self._write(_nothing(), come, None)

    def _write(self, page: Page, come: Progress, window: Window | None) -> None:
        control = {progress_key(self.asked.id): encode(come)}
        self._around.publisher.commit(self.asked.entity, Lane.BULK, page, {}, window, control=control)
        self._desk.told(come)


class _Walk(WindowFeed):
    """One list of a request, walked over in windows."""

    def __init__(
        self,
        request: _Request,
        lists: Sequence[ListIds],
        reader: PageReader,
        around: Surroundings,
    ) -> None:
        self._request = request
        self._parts = len(lists)
        super().__init__(NAME, lists[request.spot.part], reader, around)

    @property
    @override
    def is_first(self) -> bool:
        return False

    @property
    @override
    def mark(self) -> FeedMark | None:
        return None

    @property
    @override
    def lane(self) -> Lane:
        return Lane.BULK

    @override
    def _begin(self) -> Run:
        windows = self._profile.windows
        asked, spot = self._request.asked, self._request.spot
        start = spot.cursor or asked.since or history_start(self._profile)
        # What is younger than the request is live work.
        until = min(horizon(self._clock.now(), windows), asked.at.replace(microsecond=0))
        return Run(until, place_at(start, windows, spot.hours))

    @override
    def _read(self, batch: list[str]) -> Page:
        return self._reader.read(batch, force=self._request.asked.force)

    @override
    def _listed(self, ids: list[str]) -> None:
        """What it lists is no part of a first load."""

    @override
    def _commit(
        self, run: Run, page: Page, place: Place, window: Window | None = None, *, loaded: bool = False
    ) -> FeedMark:
        part = self._request.spot.part
        if not loaded:
            spot = _Spot(part, place.cursor, place.window_hours)
            self._request.commit(page, spot, window=window)
        else:
            self._request.commit(page, _Spot(part + 1), over=part + 1 == self._parts)
        run.place = place
        return FeedMark(cursor=place.cursor, first_load_done=loaded, window_hours=place.window_hours)

    @override
    def _ended(self, mark: FeedMark) -> None:
        """`_Request` tells of it."""


class BackfillFeed(Feed):
    """Obeys `Backfill` requests, one after the other, behind all live work.

    Args:
        shop: where records are fetched.
        around: what every feed needs.
        desk: where requests come from.
    """

    def __init__(self, shop: Shop, around: Surroundings, desk: Desk) -> None:
        super().__init__(NAME, shop.readers[Entity.ORDERS], around)
        self._shop = shop
        self._around = around
        self._desk = desk
        self._request: _Request | None = None
        self._walk: _Walk | None = None
        self._products: list[str] | None = None

    @property
    @override
    def is_first(self) -> bool:
        return False

    @property
    @override
    def loaded(self) -> bool:
        return False  # never before what is live

    @property
    @override
    def counted(self) -> bool:
        return False

    @override
    def step(self) -> bool:
        self._desk.look()
        found = self._desk.backfill()
        if found is None:
            self._request = None
            return True
        asked, come = found
        if self._request is None or self._request.asked != asked:
            self._request = _Request(asked, come, self._around, self._desk)
            self._walk, self._products = None, None
            _log.info("backfill", id=asked.id, entity=asked.entity, done=self._request.done)
        if asked.cancelled:
            self._request.cancel()
        elif asked.entity is Entity.PRODUCTS:
            self._snapshot(self._request)
        else:
            self._step(self._request)
        return False

    def _step(self, request: _Request) -> None:
        if self._walk is None:
            entity = request.asked.entity
            lists = self._shop.lists[entity]
            lists = lists[:1] if request.asked.since is None else lists
            self._walk = _Walk(request, lists, self._shop.readers[entity], self._around)
        if self._walk.step():
            self._walk = None

    def _snapshot(self, request: _Request) -> None:
        reader = self._shop.readers[Entity.PRODUCTS]
        if self._products is None:
            every = sorted(self._shop.list_products(), key=id_order)
            after = request.spot.after
            self._products = [i for i in every if after is None or id_order(i) > id_order(after)]
            request.total = request.done + len(self._products)
            return
        batch = self._products[: reader.kind.size]
        page = reader.read(batch, force=request.asked.force) if batch else _nothing()
        over = len(batch) == len(self._products)
        request.commit(page, _Spot(after=batch[-1] if batch else request.spot.after), over=over)
        del self._products[: len(batch)]


def _nothing() -> Page:
    return Page(Changes(), {}, 0)
