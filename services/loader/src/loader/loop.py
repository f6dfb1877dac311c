"""The loader's main loop: read, deliver, commit."""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from confluent_kafka import Message

from estarsync_core.clock import Clock
from estarsync_core.errors import RetryLater
from estarsync_runtime.health import Health
from estarsync_runtime.kafka.errors import translated
from estarsync_runtime.kafka.positions import Positions
from estarsync_runtime.lifecycle import StopSignal
from loader.control import Control
from loader.disk import Disk
from loader.engine import Engine
from loader.intake import Intake
from loader.ledger import Ledger, Place
from loader.table import Table

_READ = 500
_IDLE_SECONDS = 0.05
_PAUSE_SECONDS = 5.0
_COMMIT_SECONDS = 1.0
_HEARTBEAT_SECONDS = 5.0
_DRAIN_SECONDS = 10.0
_MOST_LETTERS = 500  # dead letters in memory
_log = structlog.get_logger()


class Consumer(Protocol):
    """Where records come from: `Reader`, or a fake."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next records and events; blocks for at most `timeout` seconds."""
        ...

    def unread(self, place: Place) -> int | None:
        """Where a part of a partition begins that is not read yet, though later ones are; None where there is none."""
        ...


class Loop:
    """Turns until told to stop. One thread owns the table, the engine and the consumer.

    Args:
        consumer: with its partitions assigned.
        partitions: those.
        intake: takes records in.
        engine: delivers them.
        control: what people ask meanwhile.
        table: where they are in between.
        ledger: where progress is written.
        clock: the time.
        positions: shows how far it has come.
        disk: pauses reading while the disk is nearly full.
    """

    def __init__(
        self,
        consumer: Consumer,
        partitions: Sequence[Place],
        intake: Intake,
        engine: Engine,
        control: Control,
        table: Table,
        ledger: Ledger,
        clock: Clock,
        positions: Positions,
        disk: Disk,
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._intake = intake
        self._engine = engine
        self._control = control
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._positions = positions
        self._disk = disk
        self._committed: dict[Place, int] = {}
        self._commit_due = self._read_due = 0.0

    def run(self, stop: StopSignal, health: Health, check: Callable[[], None] = lambda: None) -> None:
        """Read and deliver until `stop`; then learn what became of open calls, as far as a few seconds tell.

        Args:
            stop: looked at between two turns.
            health: beats with every turn.
            check: called in every turn; raises where this loader may no longer be the active one.

        Raises:
            Fenced: a newer loader has taken over.
            Stop: a person must look.
        """
        while not stop.is_set():
            health.beat()
            check()
            self.turn()
        deadline = self._clock.monotonic() + _DRAIN_SECONDS
        while self._engine.calling and self._clock.monotonic() < deadline:
            health.beat()
            self._clock.sleep(_IDLE_SECONDS)
            self._engine.handle_answers()
        self.commit()
        _log.info("stopped", calls_open=self._engine.calling)

    def turn(self) -> None:
        """One turn; blocks for a moment where there is nothing to read."""
        self._disk.step()
        self._read()
        self._control.step()
        self._engine.step(
            contacts_read=self._intake.contacts_read(self._partitions),
            coming=self._intake.coming(self._partitions),
        )
        if self._clock.monotonic() >= self._commit_due or len(self._ledger.outbox) > _MOST_LETTERS:
            self.commit()
            self._commit_due = self._clock.monotonic() + _COMMIT_SECONDS
        self._positions.show()

    def _read(self) -> None:
        if self._clock.monotonic() < self._read_due:
            self._clock.sleep(_IDLE_SECONDS)
            return
        try:
            messages: list[Message] = []
            if not self._intake.stalled:
                with translated():
                    messages = self._consumer.consume(_READ, 0.0 if self._engine.busy else _IDLE_SECONDS)
            self._positions.read(messages)
            self._intake.take(messages)
        except RetryLater as error:
            # Kafka's brokers, or the schema registry: delivery goes on meanwhile.
            _log.warning("not_read", reason=str(error))
            pause = _PAUSE_SECONDS if self._intake.stalled else _IDLE_SECONDS
            self._read_due = self._clock.monotonic() + pause

    def commit(self) -> None:
        """Commit offsets up to the oldest record of each partition that is not settled, never past it. Blocks.

        Where there is nothing new, the same offsets are committed again every few seconds: a newer loader that has
        taken over is noticed that way.
        """
        finished = {
            place: min(
                each
                for each in (position, self._table.oldest(*place), self._consumer.unread(place))
                if each is not None
            )
            for place, position in self._intake.positions.items()
        }
        changed = {
            place: offset for place, offset in finished.items() if self._committed.get(place) != offset
        }
        if not changed and not self._ledger.outbox and self._ledger.age < _HEARTBEAT_SECONDS:
            return
        self._ledger.write([], changed or finished)
        self._committed.update(changed)
        for place, offset in finished.items():
            self._positions.finished(place, offset)
