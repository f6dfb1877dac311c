"""What an import's report decides: every record of the batch gets its fate, written down in one transaction."""

from collections import Counter
from dataclasses import dataclass
from typing import assert_never

import structlog

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Fate, Verdict, contact_verdicts, insight_verdicts
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import record_key
from estarsync_runtime.metrics import Metrics
from loader.batches import Batch, Kind
from loader.ledger import Entry, Ledger
from loader.records import BARE, Fence, KeyState, Outcome, Settled, refused
from loader.settings import Settings
from loader.table import Table

_MOST_ATTEMPTS = 5
_PARK_SECONDS = 5.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Case:
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
        clock: for parking and retries.
        metrics: where fates are counted.
    """

    def __init__(
        self, settings: Settings, table: Table, ledger: Ledger, clock: Clock, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics

    def apply(self, batch: Batch, report: dict[str, object] | None, *, keep_fences: bool) -> None:
        """Settle every record of a finished batch. Blocks for one Kafka transaction.

        Args:
            batch: the batch.
            report: the import's report; None for a deletion, which has none.
            keep_fences: whether the keys stay fenced (a lost reply may have opened a second import).
        """
        keys = [fence.key for fence in batch.fences]
        if report is None:
            verdicts = [Verdict(Fate.DELIVERED)] * len(keys)
        elif batch.entity is Entity.CONTACTS:
            by_email = contact_verdicts(keys, report)
            verdicts = [by_email[key] for key in keys]
        else:
            record_keys = [record_key(key) for key in keys]
            by_key = insight_verdicts(record_keys, report)
            verdicts = [by_key[key] for key in record_keys]
        self._settle(batch, verdicts, keep_fences=keep_fences)

    def refuse(self, batch: Batch, code: str) -> None:
        """Settle a batch that Dotdigital refused as a whole: its records are dead letters."""
        self._settle(batch, [Verdict(Fate.DEAD_LETTER, code)] * len(batch.fences), keep_fences=False)

    def _settle(self, batch: Batch, verdicts: list[Verdict], *, keep_fences: bool) -> None:
        counts: Counter[str] = Counter()
        entries: list[Entry] = []
        with self._table.transaction():
            for fence, verdict in zip(batch.fences, verdicts, strict=True):
                state = self._table.state(batch.entity, fence.key)
                counts[self._one(_Case(batch, fence, verdict, state), entries)] += 1
            if not keep_fences:
                self._table.release(batch.id)
                entries.append(self._ledger.closed(batch, "finished"))
            self._ledger.write(entries)
        for outcome in ("delivered", "dead_letter", "removed", "superseded", "bare_contact"):
            self._metrics.delivered.labels(batch.entity, outcome).inc(counts[outcome])
        _log.info("settled", batch=batch.id, entity=batch.entity, import_id=batch.import_id, **counts)

    def _one(self, case: _Case, entries: list[Entry]) -> str:
        """Settle a record, or offer it again; says what has become of it."""
        fate = self._fate(case)
        code = case.verdict.code
        if fate is Fate.RETRY and case.batch.entity is not Entity.CONTACTS and not case.state.there:
            # It may be there: a removal must be sent, also by a loader that starts after a crash.
            known = BARE if case.state.settled is None else case.state.settled.version
            doubt = Settled(known, "", Outcome.UNSURE, case.fence.email, there=True)
            self._write_down(case, doubt, entries)
        match fate:
            case Fate.DELIVERED:
                outcome = self._deliver(case, entries)
            case _ if not case.latest:
                # A newer version goes next. One that was left by an earlier process may come again, too.
                outcome = "again" if case.batch.restored else "superseded"
            case Fate.PARK | Fate.RETRY:
                self._offer_again(case, fate)
                outcome = fate.value
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
        state = Settled(fence.version, content, outcome, fence.email, not removed).after(case.state.settled)
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
        if case.verdict.fate is Fate.RETRY and batch.entity is not Entity.CONTACTS:
            # Nobody knows whether it is there: its removal must be sent.
            state = Settled(state.version, "", state.outcome, fence.email, there=True)
        self._write_down(case, state, entries)
        self._table.drop(batch.entity, fence.key)
        if record.bare:
            return "bare_contact_refused"
        code = case.verdict.code or "refused"
        entries.append(self._ledger.dead_letter(record, InvalidRecord("record", code)))
        return Outcome.DEAD_LETTER.value

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
        if email is not None:
            # Dotdigital does not know the contact, whatever we thought: it goes there again first.
            self._table.hold(key)
            before = self._table.state(Entity.CONTACTS, email).settled
            version = BARE if before is None else before.version
            self._table.settle(
                Entity.CONTACTS, email, Settled(version, "", Outcome.MISSING, None, there=False)
            )
