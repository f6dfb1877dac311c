"""What an import's report decides: every record of the batch gets its fate, written down in one transaction."""

import structlog

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import Fate, Verdict, contact_verdicts, insight_verdicts
from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import record_key
from estarsync_runtime.metrics import Metrics
from loader.batches import Batch, Kind
from loader.ledger import Entry, Ledger
from loader.settings import Settings
from loader.table import DEAD_LETTER, DELIVERED, REMOVED, Delivered, Fence, Pending, Table

_MOST_ATTEMPTS = 5
_PARK_RETRY = 5.0
_log = structlog.get_logger()


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
        if report is None:
            verdicts = {fence.key: Verdict(Fate.DELIVERED) for fence in batch.fences}
        elif batch.entity is Entity.CONTACTS:
            verdicts = contact_verdicts([fence.key for fence in batch.fences], report)
        else:
            by_key = insight_verdicts([record_key(fence.key) for fence in batch.fences], report)
            verdicts = {fence.key: by_key[record_key(fence.key)] for fence in batch.fences}
        self._settle(batch, verdicts, keep_fences=keep_fences)

    def refuse(self, batch: Batch, code: str) -> None:
        """Settle a batch that Dotdigital refused as a whole: its records are dead letters."""
        verdict = Verdict(Fate.DEAD_LETTER, code)
        self._settle(batch, {fence.key: verdict for fence in batch.fences}, keep_fences=False)

    def refuse_order(self, record: Pending) -> None:
        """An order whose contact Dotdigital has refused can't be delivered either."""
        with self._table.transaction():
            state = Delivered(record.version, "", DEAD_LETTER, record.email)
            self._table.settle(record.entity, record.key, state)
            self._table.drop(record.entity, record.key)
            self._ledger.write(
                [
                    self._ledger.dead_letter(record, InvalidRecord("email", "contact_refused")),
                    self._ledger.delivered(record.entity, record.key, state, None),
                ]
            )
        self._metrics.delivered.labels(record.entity, DEAD_LETTER).inc()

    def _settle(self, batch: Batch, verdicts: dict[str, Verdict], *, keep_fences: bool) -> None:
        counts: dict[str, int] = {}
        with self._table.transaction():
            entries: list[Entry] = []
            for fence in batch.fences:
                outcome, more = self._one(batch, fence, verdicts[fence.key])
                counts[outcome] = counts.get(outcome, 0) + 1
                entries += more
            if not keep_fences:
                self._table.release(batch.id)
                entries.append(self._ledger.closed(batch, "finished"))
            self._ledger.write(entries)
        for outcome, count in counts.items():
            self._metrics.delivered.labels(batch.entity, outcome).inc(count)
        _log.info("settled", batch=batch.id, entity=batch.entity, import_id=batch.import_id, **counts)

    def _one(self, batch: Batch, fence: Fence, verdict: Verdict) -> tuple[str, list[Entry]]:
        waiting = self._table.get(batch.entity, fence.key)
        mine = waiting if waiting is not None and waiting.version == fence.version else None
        fate = verdict.fate
        if fate is Fate.PARK and mine is not None and self._parked_too_long(mine):
            fate = Fate.DEAD_LETTER
        if fate is Fate.RETRY and mine is not None and mine.attempts + 1 >= _MOST_ATTEMPTS:
            fate = Fate.DEAD_LETTER
        if fate in {Fate.PARK, Fate.RETRY}:
            if mine is not None:
                self._offer_again(mine, fate)
            return fate.value, [self._ledger.attempt(batch, fence, fate.value, verdict.code)]
        outcome = (
            DEAD_LETTER if fate is Fate.DEAD_LETTER else REMOVED if batch.kind is Kind.DELETE else DELIVERED
        )
        state = Delivered(fence.version, fence.hash if outcome == DELIVERED else "", outcome, fence.email)
        entries = [
            self._ledger.attempt(batch, fence, outcome, verdict.code),
            self._ledger.delivered(batch.entity, fence.key, state, batch.import_id),
        ]
        self._table.settle(batch.entity, fence.key, state)
        if mine is not None:
            self._table.drop(batch.entity, fence.key)
            if outcome == DEAD_LETTER and mine.topic is not None:
                entries.append(self._ledger.dead_letter(mine, InvalidRecord("record", verdict.code)))
        return outcome, entries

    def _parked_too_long(self, record: Pending) -> bool:
        parked = record.parked_at
        return parked is not None and self._clock.monotonic() - parked > self._settings.loader_park_seconds

    def _offer_again(self, record: Pending, fate: Fate) -> None:
        now = self._clock.monotonic()
        if fate is Fate.RETRY:
            self._table.postpone(record, now + 2.0**record.attempts, record.attempts + 1)
            return
        parked_at = record.parked_at if record.parked_at is not None else now
        self._table.postpone(record, now + _PARK_RETRY, record.attempts, parked_at=parked_at)
        if record.email is not None:
            # Dotdigital does not know the contact, whatever we thought: it goes there again first.
            self._table.forget(Entity.CONTACTS, record.email)
            self._table.wait_for_contact(record)
