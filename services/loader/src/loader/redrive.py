"""Dead letters of the typed topics that a person wants tried again: they go the way of every other record."""

from collections.abc import Sequence
from typing import Protocol

import structlog
from confluent_kafka import Message

from estarsync_core.clock import Clock
from estarsync_core.control import Letter, Progress, Redrive, Words, progress_key
from estarsync_core.entities import Entity, Version
from loader.intake import Intake
from loader.ledger import Ledger
from loader.table import Table

_WRITE_SECONDS = 5.0
_log = structlog.get_logger()


class Letters(Protocol):
    """Where dead letters stand."""

    def fetch(self, letters: Sequence[Letter]) -> list[Message]:
        """These dead letters, as far as they are still there; blocks for a moment.

        Raises:
            RetryLater: Kafka does not give them out.
        """
        ...


class Redriver:
    """Obeys redrives, one after the other. It is over when each record's fate is settled anew.

    Args:
        words: what people ask.
        letters: where they stand.
        intake: puts records into the table.
        table: where they wait.
        ledger: where progress is written.
        clock: the time.
    """

    def __init__(
        self, words: Words, letters: Letters, intake: Intake, table: Table, ledger: Ledger, clock: Clock
    ) -> None:
        self._words = words
        self._letters = letters
        self._intake = intake
        self._table = table
        self._ledger = ledger
        self._clock = clock
        self._request: Redrive | None = None
        self._waiting: dict[tuple[Entity, str], Version] = {}
        self._changed = True
        self._ended: set[str] = set()  # what we wrote of these is read back only later
        self._write_due = 0.0

    def look(self) -> None:
        """Something new stands on the control topic."""
        self._changed = True

    def step(self) -> None:
        """Offer what was asked for, and see what has become of it.

        Raises:
            RetryLater: Kafka is in trouble.
        """
        if self._request is None and self._changed:
            requests = self._words.requests(Redrive)
            asked = [each for each in requests if each.by == "loader" and each.id not in self._ended]
            if asked:
                self._begin(asked[0])
            self._changed = False
        if self._request is None or self._clock.monotonic() < self._write_due:
            return
        for (entity, key), version in list(self._waiting.items()):
            if self._table.state(entity, key).waiting != version:
                del self._waiting[entity, key]
        self._write(self._request)

    def _begin(self, request: Redrive) -> None:
        found = self._letters.fetch(request.letters)
        self._waiting = {}
        for letter in found:
            record = self._intake.redrive(letter)
            if record is not None:
                self._waiting[record.entity, record.key] = record.version
        self._request = request
        _log.info(
            "redrive", id=request.id, asked=len(request.letters), found=len(found), offered=len(self._waiting)
        )

    def _write(self, request: Redrive) -> None:
        self._write_due = self._clock.monotonic() + _WRITE_SECONDS
        total = len(request.letters)
        over = not self._waiting
        progress = Progress(
            request.id,
            "done" if over else "running",
            done=total - len(self._waiting),
            total=total,
            at=self._clock.now(),
        )
        self._ledger.write([self._ledger.word(progress_key(request.id), progress)])
        if over:
            self._ended.add(request.id)
            self._request = None
            self._changed = True
            self._write_due = 0.0
            _log.info("redriven", id=request.id, letters=total)
