"""The shop's notifications: each names orders, which are read again and published in the live lane.

A round takes what has come, waits a moment, so that an order with many notifications is read once, and reads those
orders. With the last of them the round's offsets are committed: a crash before that repeats reads, and skips none.
What a subscriber's numbers show to be missing is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from typing_extensions import override

from estarsync_core.errors import RetryLater
from estarsync_core.estar.changes import Changes
from estarsync_core.estar.notifications import Notification, order_ids
from estarsync_core.estar.sequences import Place, Sequences
from estarsync_runtime.estar.soap import Refused, TooSlow
from extractor.feeds import LiveFeed, Surroundings
from extractor.inbox import Inbox
from extractor.pages import Page, PageReader

NAME = "notifications"
NOT_RETURNED = "notification_lost"
_MOMENT = 0.5
_ASK_AT_ONCE = 50
_PAUSE = 10.0  # seconds before a shop that did not answer is asked for what is missing again
_log = structlog.get_logger()

Retrieve = Callable[[Sequence[Place]], dict[Place, Notification]]


class NotificationFeed(LiveFeed):
    """Reads orders again when the shop says that something happened to them. It has no first load.

    Args:
        reader: of orders.
        around: what every feed needs.
        inbox: where notifications come from.
        retrieve: asks the shop for notifications again.
    """

    def __init__(self, reader: PageReader, around: Surroundings, inbox: Inbox, retrieve: Retrieve) -> None:
        super().__init__(NAME, reader, around)
        self._inbox = inbox
        self._retrieve = retrieve
        self._sequences = Sequences(self._publisher.notifications, self._clock.monotonic())
        # Orders to read, in the order of their first notification, each with the trace of its last one.
        self._waiting: dict[str, bytes | None] = {}
        self._dead: dict[str, str] = {}
        self._since: float | None = None  # when the first notification of this round came
        self._ask_from = 0.0

    @override
    def step(self) -> bool:
        now = self._clock.monotonic()
        self._take(now)
        self._ask(now)
        self._metrics.notifications_missing.set(self._sequences.open)
        if self._since is None or now < self._since + _MOMENT:
            return True
        self._read()
        return self._since is None

    def _take(self, now: float) -> None:
        # A round that is being read is finished first: what comes meanwhile belongs to the next.
        if self._since is not None and now >= self._since + _MOMENT:
            return
        for received in self._inbox.take():
            self._since = now if self._since is None else self._since
            if received.notification is None:
                self._dead[received.place] = received.code
                self._metrics.notifications.labels("unreadable").inc()
            else:
                self._arrived(received.notification, now, "received", received.trace)

    def _arrived(
        self, notification: Notification, now: float, outcome: str, trace: bytes | None = None
    ) -> None:
        place = (notification.subscriber, notification.sequence)
        if not self._sequences.arrived(place, now):
            self._metrics.notifications.labels("duplicate").inc()
            return
        self._metrics.notifications.labels(outcome).inc()
        names = self._profile.notifications.order_ids
        self._waiting.update(dict.fromkeys(order_ids(notification, names), trace))

    def _ask(self, now: float) -> None:
        """Ask the shop for what is missing; it is no reason to hold up what is here."""
        places = self._sequences.due(now, _ASK_AT_ONCE) if now >= self._ask_from else []
        if not places:
            return
        try:
            found = self._retrieve(places)
        except RetryLater as error:
            _log.warning("missing_notifications_not_read", number=len(places), reason=str(error))
            if not isinstance(error, Refused | TooSlow):  # the shop is away: that says nothing about them
                self._ask_from = now + _PAUSE
                return
            found = {}
        self._since = now if self._since is None else self._since
        for place in places:
            if place in found:
                self._arrived(found[place], now, "recovered")
            elif self._sequences.not_returned(place, now):
                self._dead["notification/{}/{}".format(*place)] = NOT_RETURNED
                self._metrics.notifications.labels("lost").inc()

    def _read(self) -> None:
        batch = list(self._waiting)[: self._reader.kind.size]
        causes = [trace for identity in batch if (trace := self._waiting[identity]) is not None]
        page = self._reader.read(batch, causes=causes) if batch else Page(Changes(), {}, 0)
        if len(batch) < len(self._waiting):
            self._publisher.commit(self.entity, self.lane, page, {})
        else:
            last = replace(page, failed={**page.failed, **self._dead})
            settled = self._sequences.settled
            self._publisher.commit(
                self.entity, self.lane, last, {}, notifications=settled, within=self._inbox.settle
            )
            self._since = None
            self._dead = {}
        for identity in batch:
            del self._waiting[identity]
