"""The delivery engine: what goes when, and what becomes of it.

One thread owns all state. Calls run on a small pool and their answers come back through a queue, so that a slow
answer holds up nothing else. A batch goes through these states:

    to_send ──PUT──▶ sending ──202──▶ to_ask ──GET──▶ asking ──finished──▶ closed
       ▲                │                ▲               │        └──▶ settling ──▶ closed  (its reply was lost)
       └──try again─────┘                └──still running┘
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import assert_never
from uuid import UUID

import structlog

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Call, ImportState, Next, import_state, next_step
from estarsync_core.entities import Entity, Lane, Version
from estarsync_core.errors import Stop
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient, Operation
from estarsync_runtime.metrics import Metrics
from loader.batches import Batch, Kind, Spooler, State
from loader.ledger import Ledger
from loader.report import Settlement
from loader.settings import Settings
from loader.table import Pending, Table

_FIRST_POLL, _LAST_POLL = 0.25, 10.0
_LAST_BACKOFF = 60.0
_MOST_FAILURES = 5
_HOUR = 3600.0
_BARE = Version(0, 0)
_log = structlog.get_logger()


class Engine:
    """See the module. `step` is called over and over; it never blocks for long.

    Args:
        settings: limits and times.
        table: what waits.
        spooler: makes batches of it.
        ledger: where intents and fates are written.
        settlement: applies reports.
        client: Dotdigital.
        pool: runs the calls.
        clock: for every wait.
        metrics: what is shown.
        new_id: makes batch ids.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        spooler: Spooler,
        ledger: Ledger,
        settlement: Settlement,
        client: DotdigitalClient,
        pool: ThreadPoolExecutor,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], UUID],
    ) -> None:
        self._settings = settings
        self._table = table
        self._spooler = spooler
        self._ledger = ledger
        self._settlement = settlement
        self._client = client
        self._pool = pool
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._answers: SimpleQueue[tuple[Batch, Answer]] = SimpleQueue()
        self._batches: dict[str, Batch] = {}
        self._ready_since: dict[Entity, float] = {}
        self._longest_import = 0.0

    @property
    def idle(self) -> bool:
        """Whether no batch is open."""
        return not self._batches

    @property
    def calling(self) -> bool:
        """Whether a PUT or DELETE is out whose answer has not come."""
        return any(batch.state is State.SENDING for batch in self._batches.values())

    def adopt(self, batches: list[Batch]) -> None:
        """Take over the batches that the last loader left open: their keys stay fenced until they are over."""
        now = self._clock.monotonic()
        for batch in batches:
            known = batch.import_id is not None
            batch.state = State.TO_ASK if known else State.SETTLING
            batch.opened_at = now
            batch.due = now if known else now + self._settle_seconds()
            self._table.fence(batch.entity, batch.id, batch.fences)
            self._batches[batch.id] = batch
            _log.info(
                "adopted", batch=batch.id, entity=batch.entity, records=len(batch.fences), accepted=known
            )

    def step(self, *, contacts_read: bool) -> None:
        """Handle what came back, send what is due, make new batches.

        Args:
            contacts_read: whether all contacts in Kafka have been read, so that an order's missing contact is
                really one that only orders know.

        Raises:
            Stop: Dotdigital's answer is one that a person must look at.
        """
        self.handle_answers()
        now = self._clock.monotonic()
        for batch in list(self._batches.values()):
            if batch.due <= now:
                self._advance(batch, now)
        if contacts_read:
            self._add_bare_contacts()
        for entity in Entity:
            self._open_batch(entity, now)
        self._show()

    def handle_answers(self) -> None:
        """Handle the answers that have come."""
        while True:
            try:
                batch, answer = self._answers.get_nowait()
            except Empty:
                return
            if batch.state is State.SENDING:
                self._sent(batch, answer)
            else:
                self._asked(batch, answer)

    def _advance(self, batch: Batch, now: float) -> None:
        if batch.state is State.TO_SEND:
            operation = _operation(batch)
            if self._client.delay(operation) == 0:
                self._client.reserve(operation)
                batch.state = State.SENDING
                batch.sent_at = now
                self._pool.submit(self._send, batch, operation)
        elif batch.state is State.TO_ASK:
            operation = (
                "contact_import_status" if batch.entity is Entity.CONTACTS else "insight_import_status"
            )
            if self._client.delay(operation) == 0:
                self._client.reserve(operation)
                batch.state = State.ASKING
                self._pool.submit(self._ask, batch, operation)
        elif batch.state is State.SETTLING:
            self._close(batch, "settled")

    def _send(self, batch: Batch, operation: Operation) -> None:
        if batch.kind is Kind.IMPORT:
            answer = self._client.import_body(operation, batch.path, batch.chunks(), batch.size)
        elif batch.entity is Entity.PRODUCTS:
            body = b"".join(batch.chunks())
            headers = {"Content-Type": "application/json"}
            answer = self._client.call(operation, "DELETE", batch.path, content=body, headers=headers)
        else:
            answer = self._client.call(operation, "DELETE", batch.path)
        self._answers.put((batch, answer))

    def _ask(self, batch: Batch, operation: Operation) -> None:
        service = "contacts" if batch.entity is Entity.CONTACTS else "insightData"
        answer = self._client.call(operation, "GET", f"/{service}/v3/import/{batch.import_id}")
        self._answers.put((batch, answer))

    def _sent(self, batch: Batch, answer: Answer) -> None:
        call = Call.IMPORT if batch.kind is Kind.IMPORT else Call.DELETE
        step = next_step(call, answer.status, answer.code, sent=answer.sent)
        match step:
            case Next.DONE if batch.kind is Kind.DELETE:
                self._finish(batch, None)
            case Next.DONE:
                self._accepted(batch, answer)
            case Next.RETRY | Next.LOST:
                batch.lost = batch.lost or step is Next.LOST
                self._try_again(batch, self._backoff(batch))
                _log.warning("call_failed", batch=batch.id, status=answer.status, code=answer.code, step=step)
            case Next.WAIT_QUOTA:
                self._try_again(batch, 0.0)  # the client knows when the quota is back
            case Next.WAIT_HOUR:
                self._client.block_all(_HOUR)
                self._try_again(batch, 0.0)
                _log.warning("hour_used_up", until_seconds=_HOUR)
            case Next.WAIT_SLOT:
                self._try_again(batch, min(self._backoff(batch), 10.0))
            case Next.BISECT | Next.SPLIT:
                self._divide(batch, answer.code or step.value)
            case Next.STOP | Next.VANISHED:
                raise Stop(
                    f"Dotdigital answers {answer.status} {answer.code} to {_operation(batch)}, which nothing here"
                    " can mend: see what changed in the account or at Dotdigital, then start the loader again"
                )
            case _:
                assert_never(step)

    def _accepted(self, batch: Batch, answer: Answer) -> None:
        import_id = answer.body.get("importId") if isinstance(answer.body, dict) else None
        if not isinstance(import_id, str) or not import_id:
            raise Stop(
                "Dotdigital accepted an import without naming it: is this address really Dotdigital's API?"
            )
        batch.import_id = import_id
        batch.state = State.TO_ASK
        batch.polls = 0
        batch.due = self._clock.monotonic() + _FIRST_POLL
        self._ledger.write([self._ledger.accepted(batch)])

    def _asked(self, batch: Batch, answer: Answer) -> None:
        step = next_step(Call.STATUS, answer.status, answer.code, sent=answer.sent)
        now = self._clock.monotonic()
        if step is Next.STOP or step in {Next.BISECT, Next.SPLIT}:
            raise Stop(
                f"Dotdigital answers {answer.status} {answer.code} to an import's status: nothing here can mend it"
            )
        if step is Next.WAIT_HOUR:
            self._client.block_all(_HOUR)
        report = answer.body if isinstance(answer.body, dict) else {}
        state = import_state(str(report.get("status", ""))) if step is Next.DONE else ImportState.RUNNING
        overdue = now - batch.opened_at > self._settings.loader_import_deadline_seconds
        if state is ImportState.FINISHED:
            if batch.sent_at is not None:
                self._longest_import = max(self._longest_import, now - batch.sent_at)
            self._finish(batch, report)
        elif state is ImportState.REFUSED:
            raise Stop(
                f"Dotdigital refused an import as a whole ({report.get('status')}): ask Dotdigital's support what the"
                " account lacks, then start the loader again"
            )
        elif state is ImportState.FAILED or step is Next.VANISHED or overdue:
            self._failed(
                batch, str(report.get("status") or ("vanished" if step is Next.VANISHED else "overdue"))
            )
        else:
            batch.polls += 1
            batch.state = State.TO_ASK
            batch.due = now + min(_LAST_POLL, _FIRST_POLL * 1.5**batch.polls)

    def _failed(self, batch: Batch, why: str) -> None:
        """An import that came to nothing: its body is sent again, or its records are read again."""
        _log.warning("import_failed", batch=batch.id, entity=batch.entity, why=why)
        batch.attempts += 1
        if batch.restored:
            self._settle(batch)
        elif batch.attempts >= _MOST_FAILURES:
            raise Stop(
                f"an import of {batch.entity} failed {batch.attempts} times in a row ({why}): ask Dotdigital's support"
            )
        else:
            batch.import_id = None
            batch.lost = batch.lost or why in {"vanished", "overdue"}
            self._try_again(batch, self._backoff(batch))

    def _finish(self, batch: Batch, report: dict[str, object] | None) -> None:
        """The fate of a batch's records is known. After a lost reply the keys stay fenced for a while."""
        self._settlement.apply(batch, report, keep_fences=batch.lost)
        if batch.lost:
            self._settle(batch)
        else:
            self._forget(batch)

    def _settle(self, batch: Batch) -> None:
        batch.state = State.SETTLING
        batch.due = self._clock.monotonic() + self._settle_seconds()
        batch.discard()

    def _settle_seconds(self) -> float:
        """Long enough for an import that we know nothing of to be over: twice the longest seen."""
        least = self._settings.loader_settle_seconds
        return max(least, min(30 * 60.0, 2 * self._longest_import))

    def _close(self, batch: Batch, why: str) -> None:
        with self._table.transaction():
            self._table.release(batch.id)
            self._ledger.write([self._ledger.closed(batch, why)])
        self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        batch.discard()
        self._batches.pop(batch.id, None)

    def _divide(self, batch: Batch, code: str) -> None:
        """One record spoils the batch: halve it, down to the guilty record, which is a dead letter."""
        if len(batch.fences) == 1:
            self._settlement.refuse(batch, code)
            self._forget(batch)
            return
        middle = len(batch.fences) // 2
        halves = [batch.fences[:middle], batch.fences[middle:]]
        self._close(batch, f"divided: {code}")
        for half in halves:
            waiting = [self._table.get(batch.entity, fence.key) for fence in half]
            self._start(batch.entity, [record for record in waiting if record is not None])

    def _try_again(self, batch: Batch, wait: float) -> None:
        batch.state = State.TO_SEND
        batch.due = self._clock.monotonic() + wait

    def _backoff(self, batch: Batch) -> float:
        batch.polls += 1
        return float(min(_LAST_BACKOFF, 0.5 * 2 ** min(batch.polls, 10)))

    def _open_batch(self, entity: Entity, now: float) -> None:
        limit = self._settings.loader_batch_records
        count = self._table.count_ready(entity, now, limit)
        if not count:
            self._ready_since.pop(entity, None)
            return
        waited = now - self._ready_since.setdefault(entity, now)
        if count < limit and waited < self._settings.loader_linger_seconds:
            return
        operation: Operation = "contact_import" if entity is Entity.CONTACTS else "insight_import"
        if not self._slot_free(entity) or self._client.delay(operation) > 0:
            return  # the longer it waits, the more goes into one call
        self._ready_since.pop(entity, None)
        self._start(entity, list(self._table.ready(entity, now, limit)))

    def _slot_free(self, entity: Entity) -> bool:
        contacts = entity is Entity.CONTACTS
        taken = sum((batch.entity is Entity.CONTACTS) == contacts for batch in self._batches.values())
        return taken < (
            self._settings.loader_contact_slots if contacts else self._settings.loader_insight_slots
        )

    def _start(self, entity: Entity, records: list[Pending]) -> None:
        if not records:
            return
        batch, taken = self._spooler.build(f"{entity}-{self._new_id()}", entity, records)
        batch.opened_at = batch.due = self._clock.monotonic()
        with self._table.transaction():
            self._table.fence(entity, batch.id, batch.fences)
            # Before the PUT: a crash between the two must leave the fence standing.
            self._ledger.write([self._ledger.intent(batch)])
        self._batches[batch.id] = batch
        _log.info(
            "batch", batch=batch.id, entity=entity, kind=batch.kind, records=len(taken), bytes=batch.size
        )

    def _add_bare_contacts(self) -> None:
        unknown = self._table.unknown_contacts(self._settings.loader_batch_records)
        with self._table.transaction():
            for email, lane in unknown:
                self._table.put(Pending(Entity.CONTACTS, email, _BARE, lane, None, bare=True))
        for record in self._table.orders_refused(self._settings.loader_batch_records):
            self._settlement.refuse_order(record)

    def _show(self) -> None:
        counts = self._table.counts()
        for entity in Entity:
            for lane in Lane:
                self._metrics.pending.labels(entity, lane).set(counts.get((entity, lane), 0))
            held = sum(batch.entity is entity for batch in self._batches.values())
            self._metrics.open_imports.labels(entity).set(held)


def _operation(batch: Batch) -> Operation:
    if batch.kind is Kind.DELETE:
        return "delete_products" if batch.entity is Entity.PRODUCTS else "delete_order"
    return "contact_import" if batch.entity is Entity.CONTACTS else "insight_import"


def spool_folder(data_dir: Path) -> Path:
    """Where bodies are spooled; what an earlier loader left there is deleted."""
    folder = data_dir / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        file.unlink()
    return folder
