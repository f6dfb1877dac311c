"""The canary: synthetic records are published when a person or a job asks, and taken away again.

No row of the source state is written for them: a snapshot does not miss them, no feed asks the shop for them, and
none counts them among its keys.
"""

import structlog
from typing_extensions import override

from estarsync_core.canary import CANARY_STATE, Canary, CanaryState, raw_values, refusal
from estarsync_core.control import encode
from estarsync_core.entities import Entity, Reason
from estarsync_core.estar.changes import Changes, Event
from extractor.desk import Desk
from extractor.feeds import LiveFeed, Surroundings
from extractor.pages import Page, PageReader
from extractor.state import SourceState

NAME = "canary"
# The one whose commit says that it is all done comes last; an order waits for its contact.
_ORDER = (Entity.CONTACTS, Entity.PRODUCTS, Entity.ORDERS)
_log = structlog.get_logger()


class CanaryFeed(LiveFeed):
    """Obeys `Canary`. A poller that comes after a crash does again what is not written down as done.

    Args:
        reader: of orders.
        around: what every feed needs.
        desk: where the word comes from.
        state: which keys the shop's own records have.
    """

    def __init__(self, reader: PageReader, around: Surroundings, desk: Desk, state: SourceState) -> None:
        super().__init__(NAME, reader, around)
        self._around = around
        self._desk = desk
        self._state = state
        self._done: CanaryState | None = None  # what is written comes back only later

    @override
    def step(self) -> bool:
        self._desk.look()
        asked, written = self._desk.canary()
        last = self._done or written
        now = self._clock.now()
        if last is not None and last.state == "sent":
            if asked is None or asked.id != last.id or now >= asked.until:
                self._remove(last)
            return True
        if asked is not None and now < asked.until and (last is None or last.id != asked.id):
            self._send(asked)
        return True

    def _send(self, asked: Canary) -> None:
        keys = asked.keys
        taken = [entity for entity in _ORDER if self._state.members(entity, [keys.of(entity)])]
        reason = refusal(asked, self._around.profile, self._around.blocked, taken)
        state = CanaryState(
            asked.id, "sent" if reason is None else "refused", self._clock.now(), keys, reason
        )
        values = {} if reason is not None else raw_values(asked, self._around.profile)
        self._publish({entity: Event(keys.of(entity), value) for entity, value in values.items()}, state)

    def _remove(self, last: CanaryState) -> None:
        """Take product and order away. The contact stays: only an erasure deletes one."""
        events = {
            entity: Event(last.keys.of(entity), None, Reason.REMOVED)
            for entity in (Entity.PRODUCTS, Entity.ORDERS)
        }
        self._publish(events, CanaryState(last.id, "removed", self._clock.now(), last.keys))

    def _publish(self, events: dict[Entity, Event], state: CanaryState) -> None:
        word = {CANARY_STATE: encode(state)}
        for entity in _ORDER:
            page = Page(Changes([events[entity]] if entity in events else []), {}, 0)
            control = word if entity is _ORDER[-1] else None
            self._publisher.commit(entity, self.lane, page, {}, control=control)
        self._done = state
        _log.info(NAME, id=state.id, state=state.state, reason=state.reason)
