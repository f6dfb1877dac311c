"""The loader's main loop: read, deliver, commit."""

from confluent_kafka import Consumer

from estarsync_core.clock import Clock
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.lifecycle import StopSignal
from estarsync_runtime.metrics import Metrics
from loader.engine import Engine
from loader.intake import Intake
from loader.ledger import Ledger
from loader.table import Table

_READ = 500
_IDLE_SECONDS = 0.05
_COMMIT_SECONDS = 1.0
_DRAIN_SECONDS = 10.0


class Loop:
    """Turns until told to stop. One thread owns the table, the engine and the consumer."""

    def __init__(
        self,
        consumer: Consumer,
        intake: Intake,
        engine: Engine,
        table: Table,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._consumer = consumer
        self._intake = intake
        self._engine = engine
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._committed: dict[tuple[str, int], int] = {}
        self._commit_due = 0.0
        with translated():
            self._partitions = consumer.assignment()

    def run(self, stop: StopSignal, health: Health) -> None:
        """Read and deliver until `stop`; then learn what became of open calls, as far as a few seconds tell."""
        while not stop.is_set():
            health.beat()
            self.turn()
        deadline = self._clock.monotonic() + _DRAIN_SECONDS
        while self._engine.calling and self._clock.monotonic() < deadline:
            self._clock.sleep(_IDLE_SECONDS)
            self._engine.handle_answers()
        self._commit()

    def turn(self) -> None:
        """One turn; blocks for a moment where there is nothing to read."""
        with translated():
            messages = self._consumer.consume(_READ, timeout=_IDLE_SECONDS)
        self._intake.take(messages)
        self._engine.step(contacts_read=self._intake.contacts_read(self._partitions))
        if self._clock.monotonic() >= self._commit_due:
            self._commit()
            self._commit_due = self._clock.monotonic() + _COMMIT_SECONDS

    def _commit(self) -> None:
        """Commit offsets up to the oldest record of each partition that is not settled, never past it."""
        oldest = self._table.oldest_places()
        finished = {
            place: min(position, oldest.get(place, position))
            for place, position in self._intake.positions.items()
        }
        changed = {
            place: offset for place, offset in finished.items() if self._committed.get(place) != offset
        }
        if not changed and not self._intake.outbox:
            return
        self._ledger.write(self._intake.outbox, changed)
        self._intake.outbox.clear()
        self._committed.update(changed)
        for (topic, partition), offset in finished.items():
            self._metrics.position.labels(topic, partition).set(offset)
