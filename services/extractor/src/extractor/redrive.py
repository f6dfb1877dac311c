"""Redriving: what dead letters were about is fetched from the shop again, now, and published whether it changed or not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog
from typing_extensions import override

from estarsync_core.control import Letter, Progress, Redrive, encode, progress_key
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_core.estar.changes import Changes
from estarsync_core.estar.notifications import order_ids
from extractor.desk import Desk
from extractor.feeds import WINDOW_FAILED, LiveFeed, Surroundings, lists_quietly
from extractor.letters import Letters, Opened
from extractor.notifications import NOT_RETURNED
from extractor.pages import Page
from extractor.shop import Shop
from extractor.state import SourceState

NAME = "redrive"
_AT_ONCE = 20  # opening a letter takes a tenth of a second, and other feeds wait
_NOTIFICATION = re.compile(r"notification/(\d+)/(\d+)")
_log = structlog.get_logger()


@dataclass(slots=True)
class _Batch:
    """Some letters about one entity that have failed equally often, and what is still to be fetched for them."""

    entity: Entity
    attempt: int
    letters: int = 0
    lost: int = 0
    ids: dict[str, None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def suits(self, opened: Opened) -> bool:
        """Whether a letter can be handled with these."""
        return (opened.entity, opened.attempt) == (self.entity, self.attempt)


class RedriveFeed(LiveFeed):
    """Obeys `Redrive` requests, one after the other. How far it has come is committed with each page.

    Args:
        shop: where records are fetched.
        around: what every feed needs.
        desk: where requests come from.
        letters: where dead letters are read.
        state: which source records a key had.
    """

    def __init__(
        self, shop: Shop, around: Surroundings, desk: Desk, letters: Letters, state: SourceState
    ) -> None:
        super().__init__(NAME, shop.readers[Entity.ORDERS], around)
        self._shop = shop
        self._desk = desk
        self._letters = letters
        self._state = state
        self._batch: tuple[str, _Batch] | None = None

    @override
    def step(self) -> bool:
        self._desk.look()
        found = self._desk.redrive()
        if found is None:
            self._letters.close()
            return True
        request, progress = found
        done, lost = (0, 0) if progress is None else (progress.done, _lost(progress))
        if self._batch is None or self._batch[0] != request.id:
            self._batch = request.id, self._open(request.letters[done:])
        batch = self._batch[1]
        reader = self._shop.readers[batch.entity]
        ids = list(batch.ids)[: reader.kind.size]
        page = reader.read(ids, force=True, redriven=True) if ids else Page(Changes(), {}, 0)
        last = len(ids) == len(batch.ids)
        if last:
            done, lost = done + batch.letters, lost + batch.lost
            page = replace(page, failed={**page.failed, **batch.failed})
        come = self._progress(request, done, lost)
        self._publisher.commit(
            batch.entity,
            self.lane,
            replace(page, attempt=batch.attempt),
            {},
            control={progress_key(request.id): encode(come)},
        )
        self._desk.told(come)
        for identity in ids:
            del batch.ids[identity]
        if last:
            self._batch = None
        if come.over:
            _log.info("redriven", id=request.id, letters=done, not_found=lost)
        return False

    def _progress(self, request: Redrive, done: int, lost: int) -> Progress:
        total = len(request.letters)
        reason = (
            f"{lost} of {total} letters are no longer there, or name nothing that the shop could be asked for"
        )
        return Progress(
            request.id,
            "done" if done >= total else "running",
            done,
            total,
            self._clock.now(),
            reason if lost else None,
            place={"lost": lost},
        )

    def _open(self, letters: Sequence[Letter]) -> _Batch:
        """The next letters that can be handled together; one that says nothing stands alone."""
        batch = _Batch(Entity.ORDERS, 0)
        for letter in letters[:_AT_ONCE]:
            opened = self._letters.read(letter)
            if not batch.letters and opened is not None:
                batch = _Batch(opened.entity, opened.attempt)
            elif batch.letters and (opened is None or not batch.suits(opened)):
                break
            batch.letters += 1
            if opened is None:
                batch.lost += 1
                break
            self._address(opened, batch)
        return batch

    def _address(self, opened: Opened, batch: _Batch) -> None:
        """Add the source records that a letter was about."""
        if opened.raw:
            ids = self._source_ids(opened.entity, opened.name)
        elif opened.window is not None:
            ids = self._in_window(opened, batch)
        elif opened.name.startswith("notification/"):
            ids = self._in_notification(opened, batch)
        else:
            ids = [self._shop.readers[opened.entity].kind.source_id(opened.name)]
        batch.ids.update(dict.fromkeys(ids))
        if not ids and opened.name not in batch.failed:
            batch.lost += 1

    def _source_ids(self, entity: Entity, key: str) -> list[str]:
        source_id = self._shop.readers[entity].kind.source_id
        found = sorted({source_id(member) for member in self._state.members(entity, [key])})
        # A tree is named after its root.
        return found or ([key] if entity is Entity.ORDERS else [])

    def _in_window(self, opened: Opened, batch: _Batch) -> list[str]:
        ids: list[str] = []
        for list_ids in self._shop.lists.get(opened.entity, ()):
            try:
                ids += list_ids(opened.window) if opened.window is not None else []
            except RetryLater:
                if not lists_quietly(list_ids, self._profile):
                    raise
                batch.failed[opened.name] = WINDOW_FAILED
        return ids

    def _in_notification(self, opened: Opened, batch: _Batch) -> list[str]:
        numbers = _NOTIFICATION.fullmatch(opened.name)
        if numbers is None or opened.code != NOT_RETURNED:
            return []
        place = (int(numbers[1]), int(numbers[2]))
        found = self._shop.retrieve_events([place])
        if place not in found:
            batch.failed[opened.name] = NOT_RETURNED
            return []
        return order_ids(found[place], self._profile.notifications.order_ids)


def _lost(progress: Progress) -> int:
    return 0 if progress.place is None else int(progress.place.get("lost", 0))
