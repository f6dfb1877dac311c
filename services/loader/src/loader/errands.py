"""Calls for one record alone that come before its import, or in its place.

    a contact whose e-mail was changed   its old address is looked up; where the same customer stands there, it gets
                                         the new one, and its history goes with it
    an order that moved to another       it is deleted under the old contact: Dotdigital refuses a key that belongs
    contact                              to somebody else
    an erasure                           the contact is deleted, after its orders

All of them may be made again: a killed loader's successor finds the record unsettled, and asks what is there.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from uuid import UUID

import structlog
from msgspec.structs import replace

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Call, Next, next_step
from estarsync_core.dotdigital.payloads import renamed_entry
from estarsync_core.dotdigital.scope import ContactScope, in_scope
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord, Stop
from estarsync_core.keys import record_key
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient, Operation, path_value
from estarsync_runtime.metrics import Metrics
from loader.calls import Calls
from loader.forgetting import forgotten
from loader.lanes import Lanes
from loader.ledger import Entry, Ledger
from loader.records import BARE, Fence, Outcome, Pending, Settled, filtered, refused
from loader.table import Table

_AT_ONCE = 4
_LOOKED_AT = 100
_LEASE_SECONDS = 10.0
_EVERY = 0.2
_LAST_BACKOFF = 60.0
_UNAUTHORIZED = 401
_CUSTOMER = "CUSTOMER_ID"
_OTHER = "other_customer"
_log = structlog.get_logger()


class Step(StrEnum):
    """The call that is next."""

    FIND_OLD = "find_old"
    FIND_NEW = "find_new"
    RENAME = "rename"
    MOVE = "move"
    ERASE = "erase"


_MEANING = {
    Step.FIND_OLD: Call.FIND_CONTACT,
    Step.FIND_NEW: Call.FIND_CONTACT,
    Step.RENAME: Call.RENAME_CONTACT,
    Step.MOVE: Call.DELETE,
    Step.ERASE: Call.DELETE_CONTACT,
}
_OPERATION: dict[Step, Operation] = {
    Step.FIND_OLD: "find_contact",
    Step.FIND_NEW: "find_contact",
    Step.RENAME: "rename_contact",
    Step.MOVE: "delete_order",
    Step.ERASE: "delete_contact",
}


@dataclass(slots=True, eq=False)
class Errand:
    """One record's errand.

    Attributes:
        id: ours.
        record: as it was when the errand began; a newer version may wait by now.
        step: the call that is next, or out.
        due: when.
        tries: since something last went well.
        calling: whether the call is out.
        import_id: none; an errand is no import.
    """

    id: str
    record: Pending
    step: Step
    due: float
    tries: int = 0
    calling: bool = False
    import_id: str | None = None

    @property
    def entity(self) -> Entity:
        """Whose lane it belongs to."""
        return self.record.entity

    @property
    def fence(self) -> Fence:
        """The record's version, for what is written down."""
        return Fence(self.record.key, self.record.version, "", self.record.origin)


class Errands:
    """Runs them, a few at once.

    Args:
        table: where the records wait.
        ledger: where fates are written.
        codec: to read a contact's customer id.
        client: Dotdigital.
        calls: runs the calls.
        lanes: what may be sent.
        orders: the name of the orders collection.
        scope: which contacts may be created.
        clock: for every wait.
        metrics: where fates are counted.
        new_id: names errands.
        blocked: e-mails that were erased: once such a contact is gone, nothing holds its e-mail any more.
    """

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        codec: AvroCodec,
        client: DotdigitalClient,
        calls: Calls,
        lanes: Lanes,
        orders: str,
        scope: ContactScope,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], UUID],
        blocked: Container[object] = (),
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._codec = codec
        self._client = client
        self._calls = calls
        self._lanes = lanes
        self._orders = orders
        self._scope = scope
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._blocked = blocked
        self._open: list[Errand] = []
        self._look_due = 0.0

    @property
    def idle(self) -> bool:
        """Whether none is under way."""
        return not self._open

    @property
    def calling(self) -> bool:
        """Whether a call is out that changes something."""
        return any(each.calling and each.step not in {Step.FIND_OLD, Step.FIND_NEW} for each in self._open)

    def step(self) -> None:
        """Begin what may begin, and make the calls that are due; to be called when all contacts were read."""
        now = self._clock.monotonic()
        if now >= self._look_due and len(self._open) < _AT_ONCE:
            self._look_due = now + _EVERY
            for record in self._table.errands(_LOOKED_AT):
                if len(self._open) == _AT_ONCE:
                    break
                if not self._lanes.stopped(record.entity):
                    self._begin(record, now)
        for errand in list(self._open):
            if not errand.calling and errand.due <= now and not self._lanes.stopped(errand.entity):
                self._call(errand)

    def take(self, errand: Errand, answer: Answer) -> None:
        """Handle the answer to an errand's call. Blocks for a Kafka transaction.

        Raises:
            Stop: the password was changed.
        """
        errand.calling = False
        if answer.status == _UNAUTHORIZED:
            raise Stop("Dotdigital does not take the user name and password any more (401): set the new ones")
        step = next_step(_MEANING[errand.step], answer.status, answer.code, sent=answer.sent)
        match step:
            case Next.DONE | Next.VANISHED | Next.REFUSED:
                errand.tries = 0
                errand.due = self._clock.monotonic()
                self._decided(errand, step, answer)
            case Next.WAIT_QUOTA | Next.WAIT_HOUR:
                errand.due = self._clock.monotonic()  # the client knows when the quota is back
            case Next.RETRY | Next.LOST | Next.WAIT_SLOT:
                errand.tries += 1
                wait = min(_LAST_BACKOFF, 0.5 * 2 ** min(errand.tries, 10))
                errand.due = self._clock.monotonic() + wait
                if errand.step is Step.RENAME:
                    errand.step = Step.FIND_OLD  # it may have been done
                _log.warning("call_failed", errand=errand.id, status=answer.status, code=answer.code)
            case _:
                what = f"{answer.status} {answer.code} to {_OPERATION[errand.step]}".replace("  ", " ")
                self._lanes.stop(
                    errand.entity,
                    "unknown_answer",
                    f"Dotdigital answers {what}, which nothing here can mend: see what changed in the account, ask"
                    " Dotdigital's support, then release the lane",
                )

    # Beginning

    def _begin(self, record: Pending, now: float) -> None:
        origin = record.origin or ""
        if self._table.fenced(record.entity, record.key):
            return  # by one that has begun just now
        held = record.version if record.tombstone else BARE  # else the record itself is still to be sent
        fences = {record.entity: [Fence(record.key, held, "", record.origin)]}
        if record.entity is Entity.ORDERS:
            if self._table.fenced(Entity.CONTACTS, origin):
                return  # it may be about to get another e-mail
            first = Step.MOVE
        elif record.tombstone:
            if not self._orders_are_gone(record):
                return
            first = Step.ERASE
        else:
            if self._table.fenced(Entity.CONTACTS, origin) or self._table.orders_in_flight(origin):
                return
            before = self._table.get(Entity.CONTACTS, origin)
            if before is not None and before.origin is not None and before.version < record.version:
                return  # one change of e-mail after the other
            if self._skipped(record):
                return  # begins with the next look
            fences[Entity.CONTACTS].append(Fence(origin, BARE, ""))
            first = Step.FIND_OLD
        errand = Errand(f"{record.entity}-{self._new_id()}", record, first, now)
        with self._table.transaction():
            for entity, each in fences.items():
                self._table.fence(entity, errand.id, each)
        self._open.append(errand)

    def _skipped(self, record: Pending) -> bool:
        """Whether the shop gave the contact another e-mail before Dotdigital heard of this one: an older one counts."""
        origin = record.origin or ""
        settled = self._table.state(Entity.CONTACTS, origin).settled
        elder = self._table.elder(origin)
        if elder in {None, record.key} or settled is None or settled.there or settled.email != record.key:
            return False
        with self._table.transaction():
            self._table.set_origin(record.key, elder or "")
            changed = self._table.pass_on(origin, record.key)
            left = Settled(settled.version, "", Outcome.RENAMED, record.key, there=False)
            self._ledger.outbox.append(self._write_down(origin, left))
            self._ledger.outbox += [
                self._ledger.settled(Entity.ORDERS, key, state, None) for key, state in changed.items()
            ]
        return True

    def _orders_are_gone(self, contact: Pending) -> bool:
        """Whether none of the erased contact's orders is there; else they are to be deleted first.

        Their own tombstones may be on their way; the erasure does not depend on them.
        """
        orders = self._table.orders_of(contact.key)
        there = {key: state for key, state in orders.items() if state.there}
        with self._table.transaction():
            for key, state in there.items():
                if self._table.get(Entity.ORDERS, key) is None:
                    gone = Pending(Entity.ORDERS, key, state.version, contact.lane, None, email=contact.key)
                    self._table.put(gone)
        return not there and not self._table.orders_in_flight(contact.key)

    # Calling

    def _call(self, errand: Errand) -> None:
        operation = _OPERATION[errand.step]
        if self._client.delay(operation) > 0:
            return
        if self._ledger.age > _LEASE_SECONDS:
            # We were held up: before anything is sent, Kafka must say that no newer loader has taken over.
            self._ledger.write([self._ledger.errand(errand, errand.step)])
        ticket = self._client.reserve(operation)
        if ticket is None:
            return
        record, origin = errand.record, errand.record.origin or ""
        errand.calling = True
        method, path, body = "GET", _contact(record.key), None
        match errand.step:
            case Step.FIND_OLD:
                path = _contact(origin)
            case Step.RENAME:
                method, path, body = "PATCH", _contact(origin), renamed_entry(record.key)
            case Step.MOVE:
                order = path_value(record_key(record.key))
                method = "DELETE"
                path = (
                    f"/insightData/v3/contacts/email/{path_value(origin)}/{path_value(self._orders)}/{order}"
                )
            case Step.ERASE:
                method = "DELETE"
            case Step.FIND_NEW:
                pass
        more = {} if body is None else {"json": body}
        self._calls.start(errand, partial(self._client.call, ticket, method, path, **more))

    # Deciding

    def _decided(self, errand: Errand, step: Next, answer: Answer) -> None:
        match errand.step:
            case Step.MOVE:
                self._moved(errand)
            case Step.ERASE:
                self._erased(errand, answer.code if step is Next.REFUSED else None)
            case Step.RENAME if step is Next.DONE:
                self._renamed(errand, "")
            case Step.FIND_OLD if step is Next.DONE:
                problem = self._differs(errand.record, answer)
                if problem:
                    self._not_renamed(errand, problem)
                else:
                    errand.step = Step.RENAME
            case Step.FIND_OLD if step is Next.VANISHED:
                errand.step = (
                    Step.FIND_NEW
                )  # it has left its old address: perhaps an earlier process has seen to that
            case Step.FIND_NEW if step is Next.DONE and not self._differs(errand.record, answer):
                self._renamed(errand, "already")
            case _:
                self._not_renamed(errand, answer.code or f"http_{answer.status}")

    def _differs(self, record: Pending, answer: Answer) -> str:
        """Why the contact that was found is not our customer; empty where it is."""
        if record.payload is None:
            return "no_customer_id"
        document = self._codec.decode(Entity.CONTACTS, record.payload)
        ours = document["data_fields"][_CUSTOMER]
        if not ours or _CUSTOMER in document["omitted"]:
            return "no_customer_id"
        fields = answer.body.get("dataFields") if isinstance(answer.body, dict) else None
        found = (
            {str(name).upper(): value for name, value in fields.items()} if isinstance(fields, dict) else {}
        )
        theirs = found.get(_CUSTOMER)
        if theirs is None:
            return "no_customer_id"
        return "" if str(theirs).strip() == ours else _OTHER

    def _renamed(self, errand: Errand, code: str) -> None:
        record, old = errand.record, errand.record.origin or ""
        now = self._table.state(Entity.CONTACTS, record.key).settled
        with self._table.transaction():
            entries = self._pass_on(old, record.key)
            known_as = None if now is None else now.email  # it may have gone on meanwhile
            here = Settled(BARE, "", Outcome.UNSURE, known_as, there=True).after(now)
            entries.append(self._write_down(record.key, here))
            self._close(errand, [*entries, self._ledger.attempt(errand, errand.fence, "renamed", code)])
            self._table.errand_done(record, waits=False)
        _log.info("renamed", errand=errand.id)

    def _pass_on(self, old: str, new: str) -> list[Entry]:
        """Nobody stands at the old address any more: its orders are the new one's."""
        before = self._table.state(Entity.CONTACTS, old)
        changed = self._table.pass_on(old, new)
        version = BARE if before.settled is None else before.settled.version
        # Unless somebody else is about to have it.
        left = Settled(version, "", Outcome.RENAMED, new, there=False)
        if before.waiting is not None and not before.bare:
            left = Settled(version, "", Outcome.MISSING, None, there=False)
        return [
            *(self._ledger.settled(Entity.ORDERS, key, state, None) for key, state in changed.items()),
            self._write_down(old, left),
        ]

    def _not_renamed(self, errand: Errand, code: str) -> None:
        """The new address is simply imported, if it may be created; the contact at the old one stays."""
        old = errand.record.origin or ""
        settled = self._table.state(Entity.CONTACTS, old).settled
        with self._table.transaction():
            entries = [self._ledger.attempt(errand, errand.fence, "not_renamed", code)]
            if errand.step is Step.FIND_NEW and settled is not None and settled.email == errand.record.key:
                entries += self._pass_on(old, errand.record.key)
            elif code == _OTHER and settled is not None and settled.email is not None:
                entries.append(self._write_down(old, replace(settled, email=None)))
            entries += self._left_out(errand)
            self._close(errand, entries)
            self._table.errand_done(errand.record, waits=False)
            self._table.doubt(old)
        _log.info("not_renamed", errand=errand.id, code=code)

    def _left_out(self, errand: Errand) -> list[Entry]:
        """What to write down where the latest version of a contact may not be created; it waits no more then."""
        key = errand.record.key
        waiting, state = self._table.get(Entity.CONTACTS, key), self._table.state(Entity.CONTACTS, key)
        if waiting is None or waiting.payload is None or state.there:
            return []
        if in_scope(self._scope, self._codec.decode(Entity.CONTACTS, waiting.payload)):
            return []
        self._table.drop(Entity.CONTACTS, key)
        self._metrics.delivered.labels(Entity.CONTACTS, Outcome.FILTERED).inc()
        return [self._write_down(key, filtered(waiting, state.settled))]

    def _moved(self, errand: Errand) -> None:
        record = errand.record
        settled = self._table.state(Entity.ORDERS, record.key).settled
        entries = [self._ledger.attempt(errand, errand.fence, "moved", "")]
        with self._table.transaction():
            if settled is not None:
                gone = Settled(settled.version, "", Outcome.MISSING, None, there=False)
                self._table.settle(Entity.ORDERS, record.key, gone)
                entries.append(self._ledger.settled(Entity.ORDERS, record.key, gone, None))
            self._close(errand, entries)
            waiting = self._table.get(Entity.ORDERS, record.key) or record
            there = self._table.state(Entity.CONTACTS, waiting.email or "").there
            self._table.errand_done(record, waits=not there)

    def _erased(self, errand: Errand, refusal: str | None) -> None:
        record = errand.record
        before = self._table.state(Entity.CONTACTS, record.key).settled
        entries: list[Entry] = []
        if refusal is None:
            outcome, code = Outcome.REMOVED, ""
            known_as = None if before is None else before.email  # others have stayed behind, perhaps
            state = Settled(record.version, "", outcome, known_as, there=False)
        else:
            outcome, code = Outcome.DEAD_LETTER, refusal or "refused"
            known = refused(record, before)
            state = Settled(known.version, "", outcome, known.email, there=True)
            if record.topic is not None:
                entries.append(self._ledger.dead_letter(record, InvalidRecord("record", code)))
            _log.warning("erasure_refused", errand=errand.id, code=code)
        with self._table.transaction():
            self._table.settle(Entity.CONTACTS, record.key, state)
            if refusal is None and record.key in self._blocked:
                entries += forgotten(self._table, self._ledger, record.key)
            else:
                entries.append(self._ledger.settled(Entity.CONTACTS, record.key, state, None))
            entries.append(self._ledger.attempt(errand, errand.fence, outcome, code))
            waiting = self._table.state(Entity.CONTACTS, record.key).waiting
            if waiting == record.version:
                self._table.drop(Entity.CONTACTS, record.key)
            self._close(errand, entries)
        self._metrics.delivered.labels(Entity.CONTACTS, outcome).inc()

    def _write_down(self, email: str, state: Settled) -> Entry:
        self._table.settle(Entity.CONTACTS, email, state)
        return self._ledger.settled(Entity.CONTACTS, email, state, None)

    def _close(self, errand: Errand, entries: list[Entry]) -> None:
        """Let go of the keys, and write down what has come of it."""
        self._table.release(errand.id)
        self._ledger.write(entries)
        self._open.remove(errand)


def _contact(email: str) -> str:
    return f"/contacts/v3/email/{path_value(email)}"
