"""Erasure, where no tombstone of the contact's tells the loader of it: who is known from orders only, and old rows.

The block-list says so: it holds hashes, so what is known is gone through, a part with every step.
"""

import structlog
from msgspec.structs import replace

from estarsync_core.control import Blocked
from estarsync_core.entities import Entity, Lane, Version
from loader.ledger import Entry, Ledger
from loader.records import BARE, KeyState, Outcome, Pending
from loader.table import Table

_AT_ONCE = 2000
_log = structlog.get_logger()


def forgotten(table: Table, ledger: Ledger, email: str) -> list[Entry]:
    """What takes an erased shopper's e-mail out of what is written down; the block-list keeps them from coming back.

    The orders' own rows stay, without it: their versions keep older ones from landing.
    """
    entries = [ledger.forgotten(Entity.CONTACTS, email)]
    for key, state in table.orders_of(email).items():
        nobody = replace(state, email=None)
        table.settle(Entity.ORDERS, key, nobody)
        entries.append(ledger.settled(Entity.ORDERS, key, nobody, None))
    return entries


class Forgetting:
    """Goes through the contacts whenever the block-list grows.

    The shop's contacts are deleted when their tombstones come. Those of which there is none are deleted here: bare
    contacts, and such as the shop gave up earlier. What is known of contacts that are not there is forgotten.

    Args:
        table: what is known.
        ledger: where it is written.
        blocked: e-mails that were erased.
    """

    def __init__(self, table: Table, ledger: Ledger, blocked: Blocked) -> None:
        self._table = table
        self._ledger = ledger
        self._blocked = blocked
        self._seen = 0
        self._place: str | None = None
        self._tried: set[str] = set()

    def step(self) -> None:
        """Look at some more; blocks for a Kafka transaction where something is forgotten."""
        if self._blocked.additions != self._seen:
            self._seen = self._blocked.additions
            self._place = ""
            self._look_at([email for email in self._table.bare_in_flight() if email in self._blocked])
        if self._place is None:
            return
        emails = self._table.contacts_after(self._place, _AT_ONCE)
        self._look_at([email for email in emails if email in self._blocked])
        self._place = emails[-1] if len(emails) == _AT_ONCE else None

    def _look_at(self, emails: list[str]) -> None:
        if not emails:
            return
        entries: list[Entry] = []
        deletions = 0
        with self._table.transaction():
            for email in emails:
                state = self._table.state(Entity.CONTACTS, email)
                if _ours_to_delete(state) and email not in self._tried:
                    self._tried.add(email)
                    self._delete(email, state)
                    deletions += 1
                elif _over(state) or self._has_gone(email, state):
                    entries += forgotten(self._table, self._ledger, email)
                    self._table.forget(Entity.CONTACTS, email)
            if entries:
                self._ledger.write(entries)
        if deletions or entries:
            _log.info("forgetting", contacts=deletions, rows=len(entries))

    def _has_gone(self, email: str, state: KeyState) -> bool:
        """Whether the contact has another e-mail now, and is forgotten under that one, too."""
        renamed = state.settled is not None and state.settled.outcome is Outcome.RENAMED
        busy = state.waiting is not None or state.held is not None
        return renamed and not busy and self._table.renamed_to(email) in self._blocked

    def _delete(self, email: str, state: KeyState) -> None:
        version = BARE if state.settled is None else state.settled.version
        if state.held is not None:  # after the batch that holds it
            version = Version(state.held.sequence, state.held.revision + 1)
        self._table.put(Pending(Entity.CONTACTS, email, version, Lane.LIVE, None))


def _ours_to_delete(state: KeyState) -> bool:
    """Whether the contact is, or may be, at Dotdigital, and the shop has nothing to take back."""
    if state.waiting is not None and not state.bare:
        return False
    settled = state.settled
    if settled is None:
        return state.held == BARE
    there = settled.there or state.held == BARE or settled.outcome in {Outcome.UNSURE, Outcome.KEPT}
    return there and (settled.version == BARE or settled.outcome is Outcome.KEPT)


def _over(state: KeyState) -> bool:
    """Whether nothing is there, and nothing on its way."""
    settled = state.settled
    busy = state.waiting is not None or state.held is not None
    return (
        settled is not None
        and not busy
        and not settled.there
        and settled.outcome not in {Outcome.UNSURE, Outcome.RENAMED}
    )
