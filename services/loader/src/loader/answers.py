"""What an answer does to a batch: the second half of its way, from the call to the end."""

from collections.abc import Callable, Iterable
from typing import assert_never

import structlog

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Call, ImportState, Next, import_state, next_step
from estarsync_core.dotdigital.reports import EMPTY, Report
from estarsync_core.entities import Entity
from estarsync_core.errors import Stop
from estarsync_runtime.dotdigital.client import Answer, DotdigitalClient
from loader.batches import Batch, Kind, State
from loader.lanes import Lanes
from loader.ledger import Ledger
from loader.polls import Polls
from loader.records import Pending
from loader.report import Settlement
from loader.settings import Settings
from loader.slots import Slots
from loader.table import Table
from loader.traced import Traces

_LAST_BACKOFF = 60.0
_MOST_FAILURES = 5
_UNAUTHORIZED = 401
_LONGEST_SETTLING = 30 * 60.0
_OVER = object()
_log = structlog.get_logger()


class Answers:
    """Takes answers and moves batches on. See `engine` for the states.

    Args:
        settings: times.
        batches: all open batches; those that end are taken out.
        table: where their records are.
        ledger: where their fates are written.
        settlement: applies reports.
        slots: learns when they are full, and when one is free.
        client: learns when an hour's calls are used up.
        clock: for every wait.
        lanes: stopped by answers that nothing here can mend.
        begin: makes a new batch of records.
        traces: learns what became of a batch.
    """

    def __init__(
        self,
        settings: Settings,
        batches: dict[str, Batch],
        table: Table,
        ledger: Ledger,
        settlement: Settlement,
        slots: Slots,
        client: DotdigitalClient,
        clock: Clock,
        lanes: Lanes,
        begin: Callable[[Entity, Iterable[Pending]], None],
        traces: Traces,
    ) -> None:
        self._settings = settings
        self._batches = batches
        self._table = table
        self._ledger = ledger
        self._settlement = settlement
        self._slots = slots
        self._client = client
        self._clock = clock
        self._lanes = lanes
        self._begin = begin
        self._traces = traces
        self._polls = Polls(client, batches.values())
        self.longest_import = 0.0
        """Seconds that the longest import took."""

    def take(self, batch: Batch, answer: Answer) -> None:
        """Handle the answer to a batch's call. Blocks for a Kafka transaction or two.

        Raises:
            Stop: it is one that a person must look at.
        """
        if answer.status == _UNAUTHORIZED:
            # Every call is refused, and a new process says so at its start until the credentials are right.
            raise Stop("Dotdigital does not take the user name and password any more (401): set the new ones")
        if batch.state is State.SENDING:
            self._sent(batch, answer)
        else:
            self._asked(batch, answer)

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
                self._wait_an_hour(batch)
                self._try_again(batch, 0.0)
            case Next.WAIT_SLOT:
                self._slots.full(batch.entity)
                self._try_again(batch, 0.0)
            case Next.BISECT | Next.SPLIT:
                self._divide(batch, answer.code or ("too_large" if step is Next.SPLIT else "bad_request"))
            case Next.STOP | Next.VANISHED | Next.REFUSED:
                self._hold(batch, "unknown_answer", f"{answer.status} {answer.code} to {batch.operation}")
                self._try_again(batch, 0.0)
            case _:
                assert_never(step)

    def _accepted(self, batch: Batch, answer: Answer) -> None:
        import_id = answer.body.get("importId") if isinstance(answer.body, dict) else None
        if not isinstance(import_id, str) or not import_id:
            batch.lost = True
            self._hold(batch, "unknown_answer", f"{answer.status} to an import without naming it")
            self._try_again(batch, 0.0)
            return
        batch.import_id = import_id
        self._traces.accepted(batch)
        batch.state = State.TO_ASK
        batch.tries = 0
        batch.due = self._clock.monotonic() + self._polls.first(batch)
        self._ledger.write([self._ledger.accepted(batch)])

    def _asked(self, batch: Batch, answer: Answer) -> None:
        step = next_step(Call.STATUS, answer.status, answer.code, sent=answer.sent)
        if step is Next.STOP:
            self._hold(batch, "unknown_answer", f"{answer.status} {answer.code} to {batch.status_operation}")
            batch.state = State.TO_ASK
            return
        if step is Next.WAIT_HOUR:
            self._wait_an_hour(batch)
        if step is Next.VANISHED:
            self._failed(batch, "vanished")
            return
        report = answer.body if step is Next.DONE and isinstance(answer.body, Report) else EMPTY
        word = report.status
        match import_state(word):
            case ImportState.FINISHED:
                if batch.sent_at is not None:
                    batch.took = round(self._clock.monotonic() - batch.sent_at, 3)
                    self.longest_import = max(self.longest_import, batch.took)
                    self._polls.learn(batch, batch.took)
                self._finish(batch, report)
            case ImportState.FAILED:
                self._failed(batch, word)
            case ImportState.REFUSED:
                if not batch.restored:
                    self._hold(batch, "import_refused", f"{word} for a whole import")
                self._failed(batch, word)
            case ImportState.RUNNING:
                self._ask_again(batch)
            case state:
                assert_never(state)

    def _ask_again(self, batch: Batch) -> None:
        now = self._clock.monotonic()
        # A batch may have waited for hours before it was sent: for the quota, for a slot, for a person.
        elapsed = now - (batch.opened_at if batch.sent_at is None else batch.sent_at)
        if elapsed > self._settings.loader_import_deadline_seconds:
            self._failed(batch, "overdue")
            return
        batch.state = State.TO_ASK
        batch.due = now + self._polls.next(batch, elapsed)

    def _failed(self, batch: Batch, why: str) -> None:
        """An import that came to nothing: its body is sent again, or its records are read again."""
        _log.warning("import_failed", batch=batch.id, why=why)
        self._traces.failed(batch, why)
        open_still = why in {"vanished", "overdue"}  # perhaps
        batch.failures += 1
        if batch.failures >= _MOST_FAILURES:
            self._hold(batch, "imports_fail", f"{why} for an import, {batch.failures} times in a row")
            batch.failures = 0
        batch.lost = batch.lost or open_still
        if not batch.restored:
            batch.import_id = None
            batch.opened_at = self._clock.monotonic()
            self._ledger.write([self._ledger.renewed(batch)])
            self._try_again(batch, self._backoff(batch))
        elif batch.lost:
            self.settle(batch)
        else:
            self.close(batch, why)

    def _finish(self, batch: Batch, report: Report | None) -> None:
        """The fate of a batch's records is known, and their slot is free; they are settled step by step."""
        self._slots.freed(batch.entity)
        self._traces.ended(batch)
        batch.state = State.REPORTED
        batch.due = self._clock.monotonic()
        batch.settling = self._settlement.steps(batch, report, keep_fences=batch.lost)
        batch.discard()
        if len(batch.fences) <= batch.fences.chunk:
            self.go_on(batch)

    def go_on(self, batch: Batch) -> None:
        """Settle some more records of a reported batch. After a lost reply the keys stay fenced for a while."""
        if batch.settling is None:
            raise ValueError("the batch has no report")
        if next(batch.settling, _OVER) is not _OVER:
            return
        batch.settling = None
        if batch.closing:
            self._forget(batch)
            return
        batch.reported = True
        if batch.lost:
            self.settle(batch)
        else:
            self._forget(batch)

    def settle(self, batch: Batch) -> None:
        """Keep the keys fenced until an import that we know nothing of is over: twice the longest seen."""
        least = self._settings.loader_settle_seconds
        batch.state = State.SETTLING
        batch.due = self._clock.monotonic() + max(least, min(_LONGEST_SETTLING, 2 * self.longest_import))
        batch.discard()

    def close(self, batch: Batch, why: str, *, refused: bool = False) -> None:
        """A batch is over: its keys may go into others, those of a large one soon.

        Where no report has said what became of an import, some of its records may be there, unless Dotdigital has
        refused it.
        """
        known = batch.reported or (refused and not batch.failures)
        batch.settling = self._settlement.last_steps(batch, why, known=known)
        batch.closing = True
        batch.state, batch.due = State.REPORTED, self._clock.monotonic()
        batch.discard()
        if known or refused or len(batch.fences) <= batch.fences.chunk:
            while batch.settling is not None:
                self.go_on(batch)

    def _hold(self, batch: Batch, code: str, what: str) -> None:
        """Stop the lane: a person must look."""
        batch.held = True
        self._lanes.stop(
            batch.entity,
            code,
            f"Dotdigital answers {what}, which nothing here can mend: see what changed in the account, ask"
            " Dotdigital's support, then release the lane",
        )

    def _forget(self, batch: Batch) -> None:
        self._traces.ended(batch, "closed without a report")
        batch.close()
        del self._batches[batch.id]

    def _divide(self, batch: Batch, code: str) -> None:
        """One record spoils the batch: halve it, down to the guilty record, which is a dead letter."""
        if batch.lost:
            # Only the identical body may follow a lost one; in a while its records may go in others.
            self.settle(batch)
            return
        if len(batch.fences) == 1:
            self._settlement.refuse(batch, code)
            self._forget(batch)
            return
        _log.warning("divided", batch=batch.id, code=code, records=len(batch.fences))
        middle = len(batch.fences) // 2
        keys = [fence.key for fence in batch.fences]
        self.close(batch, f"divided: {code}", refused=True)
        for half in (keys[:middle], keys[middle:]):
            self._begin(batch.entity, self._table.ready_among(batch.entity, half))

    def _try_again(self, batch: Batch, wait: float) -> None:
        batch.state = State.TO_SEND
        batch.due = self._clock.monotonic() + wait

    def _backoff(self, batch: Batch) -> float:
        batch.tries += 1
        return float(min(_LAST_BACKOFF, 0.5 * 2 ** min(batch.tries, 10)))

    def _wait_an_hour(self, batch: Batch) -> None:
        seconds = round(self._client.delay(batch.operation))
        _log.warning("hour_used_up", next_call_in_seconds=seconds)
