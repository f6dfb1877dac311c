"""What an import's report decides: every record of the batch gets its fate, written down in one transaction."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import assert_never

import msgspec
import structlog

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Fate, Verdict, contact_judge, insight_judge, is_of_the_account
from estarsync_core.dotdigital.reports import Report
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import record_key
from estarsync_runtime.metrics import Metrics
from loader.batches import Batch, Kind
from loader.lanes import Brake, Lanes
from loader.ledger import Entry, Ledger
from loader.records import BARE, Fence, KeyState, Outcome, Settled, refused
from loader.settings import Settings
from loader.table import Table

_MOST_ATTEMPTS = 5
_PARK_SECONDS = 5.0
_UNSAID = Verdict(Fate.RETRY)
_log = structlog.get_logger()


class _Case(msgspec.Struct, frozen=True, gc=False):
    """One record of a batch, its verdict, and what is known of its key."""

    batch: Batch
    fence: Fence
    verdict: Verdict
    state: KeyState

    @property
    def latest(self) -> bool:
        """Whether the batch holds the version that waits: no newer one has come, and it was read by us."""
        return self.state.waiting == self.fence.version


class Settlement:
    """Applies reports to the pending table and to Kafka.

    Args:
        settings: how long a record may stay parked.
        table: where the records are.
        ledger: where their fates are written.
        lanes: stopped by a flood of dead letters.
        clock: for parking and retries.
        metrics: where fates are counted.
    """

    def __init__(
        self, settings: Settings, table: Table, ledger: Ledger, lanes: Lanes, clock: Clock, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._table = table
        self._ledger = ledger
        self._lanes = lanes
        self._brake = Brake(settings.loader_dead_letter_run, settings.loader_dead_letter_share)
        self._clock = clock
        self._metrics = metrics

    def release(self, entity: Entity) -> None:
        """A person has looked: the dead letters that stopped this lane may be written."""
        self._brake.wave_through(entity)

    def steps(self, batch: Batch, report: Report | None, *, keep_fences: bool) -> Iterator[None]:
        """Settle every record of a finished batch, some with each step, each in a Kafka transaction.

        A step blocks for that transaction. After a crash between two of them the batch is still open: the next
        loader asks for its report again.

        Args:
            batch: the batch.
            report: the import's report; None for a deletion, which has none.
            keep_fences: whether the keys stay fenced (a lost reply may have opened a second import).
        """
        # Now, and not with the first step: a report is tens of megabytes, and several batches may wait for theirs.
        judge = self._judge(batch, report)
        if report is not None:
            report.close()
        return self._steps(batch, judge, keep_fences=keep_fences)

    def _steps(self, batch: Batch, judge: Callable[[str], Verdict], *, keep_fences: bool) -> Iterator[None]:
        counts: Counter[str] = Counter()
        left = len(batch.fences)
        for fences in batch.fences.chunks():
            left -= len(fences)
            verdicts = [judge(fence.key) for fence in fences]
            counts += self._settle(batch, fences, verdicts, last=not left, keep_fences=keep_fences)
            if left:
                yield
        _log.info("settled", batch=batch.id, entity=batch.entity, import_id=batch.import_id, **counts)

    def refuse(self, batch: Batch, code: str) -> None:
        """Settle a batch that Dotdigital refused as a whole, of few records: they are dead letters."""
        fences = list(batch.fences)
        verdicts = [Verdict(Fate.DEAD_LETTER, code)] * len(fences)
        self._settle(batch, fences, verdicts, last=True, keep_fences=False)

    def last_steps(self, batch: Batch, why: str, *, known: bool) -> Iterator[None]:
        """Let a batch end without a report, some records with each step, each in a Kafka transaction.

        Whatever an import held may be there: a removal must be sent, also by a loader that starts after a crash. After
        one between two steps the batch is still open, and is ended again by the next loader.

        Args:
            batch: the batch.
            why: it is over.
            known: whether there is nothing to doubt, since a report has settled it or Dotdigital has refused it.
        """
        doubtful = batch.kind is Kind.IMPORT and not known
        left = len(batch.fences)
        for fences in batch.fences.chunks() if doubtful else ():
            left -= len(fences)
            entries: list[Entry] = []
            with self._table.transaction():
                for fence in fences:
                    state = self._table.state(batch.entity, fence.key)
                    self._doubt(_Case(batch, fence, _UNSAID, state), entries)
                if left:
                    self._ledger.write(entries)
                else:
                    self._ledger.write([*entries, self._ledger.closed(batch, why)])
            if left:
                yield
        if not doubtful:
            self._ledger.write([self._ledger.closed(batch, why)])
        self._table.release(batch.id)

    @staticmethod
    def _judge(batch: Batch, report: Report | None) -> Callable[[str], Verdict]:
        if report is None:
            return lambda _: Verdict(Fate.DELIVERED)
        count = len(batch.fences)
        if batch.entity is Entity.CONTACTS:
            return contact_judge(count, report.summary, report.saved(), report.failed_contacts())
        judge = insight_judge(count, report.summary, report.failed_records())
        return lambda key: judge(record_key(key))

    def _settle(
        self, batch: Batch, fences: list[Fence], verdicts: list[Verdict], *, last: bool, keep_fences: bool
    ) -> Counter[str]:
        counts: Counter[str] = Counter()
        entries: list[Entry] = []
        state = partial(self._table.state, batch.entity)
        cases = [
            _Case(batch, fence, verdict, state(fence.key))
            for fence, verdict in zip(fences, verdicts, strict=True)
        ]
        flood = self._is_flood(batch, cases)
        with self._table.transaction():
            for case in cases:
                counts[self._one(case, entries, held=flood)] += 1
            if last and not keep_fences:
                entries.append(self._ledger.closed(batch, "finished"))
            self._ledger.write(entries)
        if last and not keep_fences:
            self._table.release(batch.id)
        for outcome in ("delivered", "dead_letter", "removed", "superseded", "bare_contact"):
            self._metrics.delivered.labels(batch.entity, outcome).inc(counts[outcome])
        return counts

    def _is_flood(self, batch: Batch, cases: Sequence[_Case]) -> bool:
        """Whether these dead letters are a flood: then the lane is stopped, and they are held instead."""
        codes = Counter(case.verdict.code for case in cases if self._fate(case) is Fate.DEAD_LETTER)
        dead, records = codes.total(), len(cases)
        missing = [code for code in codes if is_of_the_account(code)]
        if missing:
            self._lanes.stop(
                batch.entity,
                "account_changed",
                f"Dotdigital refuses records with {missing[0]}: our list is gone from the account; restart the loader, which"
                " creates it again, then release the lane; nothing is lost",
            )
            return True
        if not self._brake.holds(batch.entity, dead, records):
            self._brake.count(batch.entity, dead, records)
            return False
        code, times = codes.most_common(1)[0]
        self._lanes.stop(
            batch.entity,
            "dead_letters",
            f"{dead:,} of {records:,} records of one import would become dead letters, {times:,} with"
            f" {code or 'no code'}, and others before them: look at what they have in common; to release the lane"
            " makes dead letters of them",
        )
        return True

    def _one(self, case: _Case, entries: list[Entry], *, held: bool) -> str:
        """Settle a record, or offer it again; says what has become of it."""
        fate = self._fate(case)
        code = case.verdict.code
        if fate is Fate.RETRY:
            self._doubt(case, entries)
        match fate:
            case Fate.DELIVERED:
                outcome = self._deliver(case, entries)
            case _ if not case.latest:
                # A newer version goes next. One that was left by an earlier process may come again, too.
                outcome = "again" if case.batch.restored else "superseded"
            case Fate.PARK | Fate.RETRY:
                self._offer_again(case, fate)
                outcome = fate.value
            case Fate.DEAD_LETTER if held:
                outcome = "held"  # it waits with the lane
            case Fate.DEAD_LETTER:
                outcome = self._refuse(case, entries)
            case _:
                assert_never(fate)
        entries.append(self._ledger.attempt(case.batch, case.fence, outcome, code))
        return outcome

    def _fate(self, case: _Case) -> Fate:
        fate, state = case.verdict.fate, case.state
        if fate is Fate.PARK and state.parked_at is not None:
            too_long = self._clock.monotonic() - state.parked_at > self._settings.loader_park_seconds
            return Fate.DEAD_LETTER if too_long else fate
        if fate is Fate.RETRY and state.attempts + 1 >= _MOST_ATTEMPTS:
            return Fate.DEAD_LETTER
        return fate

    def _deliver(self, case: _Case, entries: list[Entry]) -> str:
        batch, fence = case.batch, case.fence
        removed = batch.kind is Kind.DELETE
        outcome = Outcome.REMOVED if removed else Outcome.DELIVERED
        content = "" if removed else fence.hash
        # The contact may have been renamed meanwhile, and its orders went with it.
        email = _link(case) if fence.email is None else self._table.renamed_to(fence.email)
        state = Settled(fence.version, content, outcome, email, not removed).after(case.state.settled)
        self._write_down(case, state, entries)
        if case.latest:
            self._table.drop(batch.entity, fence.key)
        elif batch.restored:
            return "again"  # it was counted by an earlier process, or will be
        return "bare_contact" if fence.version == BARE else outcome.value

    def _refuse(self, case: _Case, entries: list[Entry]) -> str:
        batch, fence = case.batch, case.fence
        record = self._table.get(batch.entity, fence.key)
        if record is None:
            return "superseded"
        state = refused(record, case.state.settled)
        if case.verdict.fate is Fate.RETRY:
            # Nobody knows whether it is there: its removal must be sent, or its unsubscribe.
            state = Settled(state.version, "", state.outcome, fence.email or _link(case), there=True)
        self._write_down(case, state, entries)
        self._table.drop(batch.entity, fence.key)
        if record.bare:
            return "bare_contact_refused"
        code = case.verdict.code or "refused"
        entries.append(self._ledger.dead_letter(record, InvalidRecord("record", code)))
        return Outcome.DEAD_LETTER.value

    def _doubt(self, case: _Case, entries: list[Entry]) -> None:
        """It may be there: a removal must be sent, and an unsubscribe. Orders don't rely on a contact in doubt."""
        kept = case.state.settled is not None and case.state.settled.outcome is Outcome.KEPT
        if not case.state.there and not kept:
            known = BARE if case.state.settled is None else case.state.settled.version
            there = case.batch.entity is not Entity.CONTACTS
            doubt = Settled(known, "", Outcome.UNSURE, case.fence.email or _link(case), there)
            self._write_down(case, doubt, entries)

    def _write_down(self, case: _Case, state: Settled, entries: list[Entry]) -> None:
        batch, key = case.batch, case.fence.key
        self._table.settle(batch.entity, key, state)
        entries.append(self._ledger.settled(batch.entity, key, state, batch.import_id))

    def _offer_again(self, case: _Case, fate: Fate) -> None:
        now, state = self._clock.monotonic(), case.state
        entity, key, email = case.batch.entity, case.fence.key, case.fence.email
        if fate is Fate.RETRY:
            self._table.postpone(entity, key, now + 2.0**state.attempts, state.attempts + 1, state.parked_at)
            return
        since = state.parked_at if state.parked_at is not None else now
        self._table.postpone(entity, key, now + _PARK_SECONDS, state.attempts, since)
        if email is not None and (now_called := self._table.renamed_to(email)) != email:
            self._table.give_to(key, now_called)
        elif email is not None:
            # Dotdigital does not know the contact, whatever we thought: it goes there again first.
            self._table.hold(key)
            before = self._table.state(Entity.CONTACTS, email).settled
            version, known_as = (BARE, None) if before is None else (before.version, before.email)
            missing = Settled(version, "", Outcome.MISSING, known_as, there=False)
            self._table.settle(Entity.CONTACTS, email, missing)


def _link(case: _Case) -> str | None:
    """A contact's other e-mail, which only the shop's next record takes away."""
    settled = case.state.settled
    return settled.email if settled is not None and case.batch.entity is Entity.CONTACTS else None
