"""Erasure: what was published of a shopper is taken back; `pages` sees to it that nothing more is published."""

from itertools import islice

import structlog
from typing_extensions import override

from estarsync_core.control import email_hash
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.changes import erasure
from extractor.desk import Desk
from extractor.feeds import LiveFeed, Surroundings
from extractor.pages import Page, PageReader
from extractor.state import SourceState

NAME = "erasures"
_AT_ONCE = 500
_log = structlog.get_logger()


class ErasureFeed(LiveFeed):
    """Writes tombstones for the contact and the orders of every e-mail on the block-list.

    Args:
        reader: of contacts.
        around: what every feed needs.
        desk: where erasures come from.
        state: what was published.
    """

    def __init__(self, reader: PageReader, around: Surroundings, desk: Desk, state: SourceState) -> None:
        super().__init__(NAME, reader, around)
        self._desk = desk
        self._state = state

    @override
    def step(self) -> bool:
        self._desk.look()
        hashes = self._desk.erased
        if hashes:
            contacts = {key for key in self._state.keys(Entity.CONTACTS) if _hash(key) in hashes}
            _, canary = self._desk.canary()
            if canary is not None and _hash(canary.keys.email) in hashes:
                contacts.add(canary.keys.email)  # no shop's, so the state does not know it
            orders = {key for each in hashes for key in self._state.keys_of_shopper(Entity.ORDERS, each)}
            for entity, keys in ((Entity.CONTACTS, contacts), (Entity.ORDERS, orders)):
                self._erase(entity, keys)
            self._desk.erasures_done(hashes)
        return True

    def _erase(self, entity: Entity, keys: set[str]) -> None:
        waiting = iter(sorted(keys))
        while part := list(islice(waiting, _AT_ONCE)):
            page = Page(erasure(part, self._state.members(entity, part)), {}, 0)
            self._publisher.commit(entity, self.lane, page, {})
        if keys:
            _log.info("erased", entity=entity, keys=len(keys))


def _hash(key: str) -> str | None:
    try:
        return email_hash(key)
    except InvalidRecord:  # a key that an older version made
        return None
