"""Orders go after their contact.

An order whose contact is not at Dotdigital waits in the table. Where the contact comes from its own topic, it
goes first. Where only orders know it, it is imported as a bare contact: the identifier and the list, and no data
field at all, since a guest's consent is nobody's to set. Where Dotdigital has refused it, its orders are refused too.
"""

from collections import Counter

import structlog

from estarsync_core.control import Blocked
from estarsync_core.dotdigital.scope import ContactScope
from estarsync_core.entities import Entity, Lane
from estarsync_core.errors import InvalidRecord
from estarsync_runtime.metrics import Metrics
from loader.forgetting import Forgetting
from loader.ledger import Entry, Ledger
from loader.records import BARE, Outcome, Pending, filtered, refused
from loader.table import Table

_AT_ONCE = 500
_log = structlog.get_logger()


class Gate:
    """Looks after the orders that wait.

    Args:
        table: where they wait.
        ledger: where refused ones are written.
        metrics: where fates are counted.
        blocked: e-mails that were erased; nothing of theirs is sent.
        scope: which contacts may be created; where that is not every one, none is made for its orders' sake.
    """

    def __init__(
        self, table: Table, ledger: Ledger, metrics: Metrics, blocked: Blocked, scope: ContactScope
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._metrics = metrics
        self._blocked = blocked
        self._blocked_seen = 0
        self._scope = scope
        self._forgetting = Forgetting(table, ledger, blocked)

    def step(self) -> None:
        """Do what can be done for some of them; to be called when all contacts in Kafka have been read.

        Blocks for a Kafka transaction where orders are refused.
        """
        if self._blocked.additions != self._blocked_seen:
            self._blocked_seen = self._blocked.additions
            self._drop_blocked()
        self._forgetting.step()
        emails = self._table.unsure(_AT_ONCE)
        if not emails:
            return
        entries: list[Entry] = []
        counts: Counter[str] = Counter()
        with self._table.transaction():
            for email in emails:
                self._look_at(email, entries, counts)
            self._table.sure(emails)
            if entries:
                self._ledger.write(entries)
        if counts:
            self._metrics.delivered.labels(Entity.ORDERS, Outcome.DEAD_LETTER).inc(counts["orders_refused"])
            self._metrics.delivered.labels(Entity.ORDERS, Outcome.FILTERED).inc(counts["orders_filtered"])
            _log.info("guests", **counts)

    def _drop_blocked(self) -> None:
        """Forget what waits of a shopper who is to be forgotten, and was not yet when it came."""
        found = [each for each in self._table.people() if self._is_blocked(each.email)]
        with self._table.transaction():
            for each in found:
                self._table.drop(each.entity, each.key)
            for email in self._table.left_behind():
                self._erase_left(email)
        for each in found:
            if not each.bare:
                self._metrics.delivered.labels(each.entity, "blocked").inc()
        if found:
            _log.info("blocked", records=len(found))

    def _is_blocked(self, email: str) -> bool:
        return email in self._blocked or self._table.known_as(email) in self._blocked

    def _erase_left(self, email: str) -> None:
        """A contact that has stayed under an address which the shop changed: it is forgotten with its customer."""
        state = self._table.state(Entity.CONTACTS, email)
        left = (
            state.settled is not None and state.settled.outcome is Outcome.KEPT
        )  # perhaps: Dotdigital is asked
        if left and state.waiting is None and self._is_blocked(email):
            version = BARE if state.settled is None else state.settled.version
            self._table.put(Pending(Entity.CONTACTS, email, version, Lane.LIVE, None))

    def _look_at(self, email: str, entries: list[Entry], counts: Counter[str]) -> None:
        now_called = self._table.renamed_to(email)
        if now_called != email:
            # It was renamed since these orders were taken in.
            self._table.give_all(email, now_called)
            email = now_called
        state = self._table.state(Entity.CONTACTS, email)
        self._erase_left(email)
        if state.there:
            self._table.set_free(email)
            return
        orders = self._table.waiting_orders(email)
        if state.waiting is not None or not orders or self._table.has_successor(email):
            return  # the contact goes first, and its fate brings us here again
        if state.settled is not None and state.settled.outcome is Outcome.DEAD_LETTER:
            for key in orders:
                entries += self._refuse(key)
            counts["orders_refused"] += len(orders)
            return
        if self._scope is not ContactScope.ALL:
            for key in orders:
                entries += self._leave_out(key)
            counts["orders_filtered"] += len(orders)
            return
        first = self._table.get(Entity.ORDERS, orders[0])
        lane = Lane.BULK if first is None else first.lane
        self._table.put(Pending(Entity.CONTACTS, email, BARE, lane, None, bare=True))
        counts["bare_contacts"] += 1

    def _leave_out(self, key: str) -> list[Entry]:
        """An order of a contact that is out of scope: read again if that changes."""
        record = self._table.get(Entity.ORDERS, key)
        if record is None:
            return []
        state = filtered(record, self._table.state(Entity.ORDERS, key).settled)
        self._table.settle(Entity.ORDERS, key, state)
        self._table.drop(Entity.ORDERS, key)
        return [self._ledger.settled(Entity.ORDERS, key, state, None)]

    def _refuse(self, key: str) -> list[Entry]:
        """An order whose contact Dotdigital has refused can't be delivered either."""
        record = self._table.get(Entity.ORDERS, key)
        if record is None:
            return []
        state = refused(record, self._table.state(Entity.ORDERS, key).settled)
        self._table.settle(Entity.ORDERS, key, state)
        self._table.drop(Entity.ORDERS, key)
        return [
            self._ledger.dead_letter(record, InvalidRecord("email", "contact_refused")),
            self._ledger.settled(Entity.ORDERS, key, state, None),
        ]
