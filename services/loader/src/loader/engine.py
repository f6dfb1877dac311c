"""The delivery engine: what goes when, and what becomes of it.

One thread owns all state. Calls run beside it and their answers come back through a queue, so that a slow answer
holds up nothing else. A batch goes through these states:

    filling ──▶ to_send ──PUT──▶ sending ──202──▶ to_ask ──GET──▶ asking ──finished──▶ reported ──▶ closed
                   ▲                │                ▲               │                     └──▶ settling ──▶ closed
                   └──try again─────┘                └──still running┘                          (its reply was lost)
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from uuid import UUID

import structlog

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity, Lane
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient, Ticket
from estarsync_runtime.metrics import Metrics
from loader.answers import Answers
from loader.batches import Batch, Kind, Spooler, State
from loader.calls import Calls
from loader.errands import Errand, Errands
from loader.filler import Filler
from loader.gate import Gate
from loader.lanes import Lanes
from loader.ledger import Ledger
from loader.records import Pending
from loader.report import Settlement
from loader.settings import Settings
from loader.slots import Slots
from loader.table import Table
from loader.traced import Traces

_LEASE_SECONDS = 10.0
_SHOW_SECONDS = 1.0
_log = structlog.get_logger()


class Engine:
    """See the module. `step` is called over and over; it never blocks for long.

    Args:
        settings: limits and times.
        table: what waits.
        spooler: makes batches of it.
        ledger: where intents and fates are written.
        settlement: applies reports.
        gate: looks after orders that wait for their contact.
        errands: calls for one record alone.
        client: Dotdigital.
        calls: runs the calls.
        lanes: what may be sent.
        clock: for every wait.
        metrics: what is shown.
        new_id: makes batch ids.
        traces: follows batches.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        spooler: Spooler,
        ledger: Ledger,
        settlement: Settlement,
        gate: Gate,
        errands: Errands,
        client: DotdigitalClient,
        calls: Calls,
        lanes: Lanes,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], UUID],
        traces: Traces | None = None,
    ) -> None:
        self._settings = settings
        self._table = table
        self._spooler = spooler
        self._ledger = ledger
        self._gate = gate
        self._errands = errands
        self._client = client
        self._calls = calls
        self._lanes = lanes
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._traces = traces or Traces()
        self._batches: dict[str, Batch] = {}
        self._slots = Slots(settings, self._batches.values(), lanes, clock)
        self._filler = Filler(settings, table, spooler, self._slots, client, lanes, self._batches, new_id)
        self._settled_some = False
        self._answers = Answers(
            settings,
            self._batches,
            table,
            ledger,
            settlement,
            self._slots,
            client,
            clock,
            lanes,
            self._start,
            self._traces,
        )
        self._show_due = 0.0

    @property
    def idle(self) -> bool:
        """Whether no batch is open, and no errand under way."""
        return not self._batches and self._errands.idle

    @property
    def busy(self) -> bool:
        """Whether there is more to do at once."""
        return self._filler.busy or self._settled_some

    @property
    def bytes_used(self) -> int:
        """What the bodies take on disk."""
        return sum(batch.size for batch in self._batches.values() if batch.body is not None)

    @property
    def calling(self) -> bool:
        """Whether a call is out whose answer says what Dotdigital has accepted."""
        return self._errands.calling or any(batch.state is State.SENDING for batch in self._batches.values())

    def adopt(self, batches: Sequence[Batch], longest_import: float) -> None:
        """Take over the batches that the last loader left open: their keys stay fenced until they are over.

        Args:
            batches: as restored.
            longest_import: the seconds that the longest import took that is known.
        """
        now = self._clock.monotonic()
        self._answers.longest_import = longest_import
        with self._table.transaction():
            for batch in batches:
                self._table.fence(batch.entity, batch.id, batch.fences)
        for batch in batches:
            accepted = batch.import_id is not None
            batch.opened_at = now
            self._batches[batch.id] = batch
            if accepted:
                batch.state, batch.due = State.TO_ASK, now
            else:
                self._answers.settle(batch)  # nobody knows whether Dotdigital has it
            _log.info("adopted", batch=batch.id, records=len(batch.fences), accepted=accepted)

    def step(self, *, contacts_read: bool, coming: Collection[Entity] = ()) -> None:
        """Handle what came back, send what is due, settle and fill some more; a moment's work.

        Args:
            coming: entities of which more stands in Kafka.
            contacts_read: whether all contacts in Kafka have been read, so that an order's missing contact is
                really one that only orders know.

        Raises:
            Stop: Dotdigital's answer is one that a person must look at.
        """
        self.handle_answers()
        now = self._clock.monotonic()
        self._settled_some = False
        for batch in sorted(self._batches.values(), key=lambda each: each.lane is Lane.BULK):
            if batch.due <= now:
                self._advance(batch)
        if contacts_read:
            self._gate.step()
            self._errands.step()
        full = self._filler.step(now, self._coming(coming))
        if full is not None:
            self._announce(full)
        if now >= self._show_due:
            self._show_due = now + _SHOW_SECONDS
            self._show()

    def handle_answers(self) -> None:
        """Handle the answers that have come."""
        for job, answer in self._calls.answers():
            if isinstance(job, Errand):
                self._errands.take(job, answer)
            elif isinstance(job, Batch):
                with self._traces.logged(job):
                    self._answers.take(job, answer)

    def close(self) -> None:
        """Give the disk space of the bodies back; nothing may follow."""
        for batch in self._batches.values():
            self._traces.ended(batch, "the loader has ended")
            batch.close()

    def _start(self, entity: Entity, records: Iterable[Pending]) -> None:
        batch = self._spooler.build(f"{entity}-{self._new_id()}", records)
        if batch is None:
            return
        self._batches[batch.id] = batch
        with self._table.transaction():
            self._table.fence(entity, batch.id, batch.fences)
        self._announce(batch)

    def _announce(self, batch: Batch) -> None:
        """A batch is ready to be sent."""
        batch.opened_at = batch.due = self._clock.monotonic()
        # Before the PUT: a crash between the two must leave the fence standing.
        self._ledger.write(self._ledger.intent(batch))
        self._traces.ready(batch)
        with self._traces.logged(batch):
            _log.info(
                "batch",
                batch=batch.id,
                kind=batch.kind,
                lane=batch.lane,
                records=len(batch.fences),
                bytes=batch.size,
            )

    def _advance(self, batch: Batch) -> None:
        if self._lanes.stopped(batch.entity):
            if batch.held or batch.state is State.TO_SEND:
                return
        else:
            batch.held = False
        if batch.state is State.TO_SEND:
            self._send(batch)
        elif batch.state is State.TO_ASK:
            ticket = self._client.reserve(batch.status_operation)
            if ticket is not None:
                batch.state = State.ASKING
                folder = self._settings.data_dir
                self._calls.start(batch, partial(self._client.report, ticket, batch.status_path, folder))
        elif batch.state is State.REPORTED and not self._settled_some:
            self._settled_some = True
            self._answers.go_on(batch)
        elif batch.state is State.SETTLING:
            self._answers.close(batch, "settled")

    def _coming(self, coming: Collection[Entity]) -> Collection[Entity]:
        """Orders come as well, as long as contacts are on their way that they wait for."""
        contacts = any(batch.entity is Entity.CONTACTS for batch in self._batches.values())
        return {*coming, Entity.ORDERS} if contacts and self._table.any_waiting() else coming

    def _send(self, batch: Batch) -> None:
        spare = batch.lane is Lane.BULK
        if not self._slots.may_send(batch) or self._client.delay(batch.operation, spare=spare) > 0:
            return
        if self._ledger.age > _LEASE_SECONDS:
            # We were held up: before anything is sent, Kafka must say that no newer loader has taken over.
            self._ledger.write([self._ledger.renewed(batch)])
        ticket = self._client.reserve(batch.operation, spare=spare)
        if ticket is not None:
            batch.state = State.SENDING
            batch.sent_at = self._clock.monotonic()
            self._traces.sent(batch)
            self._calls.start(batch, partial(self._call, batch, ticket))

    def _call(self, batch: Batch, ticket: Ticket) -> Answer:
        if batch.kind is Kind.IMPORT:
            return self._client.import_body(ticket, batch.path, batch.chunks(), batch.size)
        if batch.entity is Entity.ORDERS:
            return self._client.call(ticket, "DELETE", batch.path)
        headers = {"Content-Type": "application/json"}
        return self._client.call(
            ticket, "DELETE", batch.path, content=b"".join(batch.chunks()), headers=headers
        )

    def _show(self) -> None:
        counts = self._table.counts()
        for entity in Entity:
            for lane in Lane:
                self._metrics.pending.labels(entity, lane).set(counts.get((entity, lane), 0))
            opened = [batch.opened_at for batch in self._batches.values() if batch.entity is entity]
            self._metrics.open_imports.labels(entity).set(len(opened))
            oldest = self._clock.monotonic() - min(opened) if opened else 0.0
            self._metrics.oldest_import.labels(entity).set(oldest)
