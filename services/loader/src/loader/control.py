"""What people ask of the loader while it runs."""

from typing import Protocol

import structlog

from estarsync_core.clock import Clock
from estarsync_core.control import Words
from estarsync_core.errors import RetryLater
from loader.lanes import Lanes
from loader.recall import Recall
from loader.redrive import Redriver
from loader.replay import Replay
from loader.report import Settlement

_EVERY = 1.0
_PAUSE = 5.0
_log = structlog.get_logger()


class Reader(Protocol):
    """Who follows the control topic: `ControlReader`, or a fake."""

    @property
    def words(self) -> Words:
        """What stands there, as far as it was read."""
        ...

    def poll(self) -> set[str]:
        """Read on without waiting; gives the keys that changed."""
        ...


class Control:
    """Obeys the control topic, a look a second.

    Args:
        reader: follows the topic.
        lanes: released by people.
        settlement: writes the dead letters that were held.
        replay: obeys resyncs.
        redriver: obeys redrives.
        recall: reads again what CONTACT_SCOPE left out, and may go by now.
        clock: the time.
    """

    def __init__(
        self,
        reader: Reader,
        lanes: Lanes,
        settlement: Settlement,
        replay: Replay,
        redriver: Redriver,
        recall: Recall,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._lanes = lanes
        self._settlement = settlement
        self._replay = replay
        self._redriver = redriver
        self._recall = recall
        self._clock = clock
        self._due = self._again_at = 0.0

    def step(self) -> None:
        """Do what was asked since; doesn't block for long."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _EVERY
            if self._reader.poll():
                for entity in self._lanes.refresh():
                    self._settlement.release(entity)
                self._replay.look()
                self._redriver.look()
        if now >= self._again_at:
            try:
                self._replay.step()
                self._redriver.step()
                self._recall.step()
            except RetryLater as error:
                _log.warning("kafka_error", reason=str(error))
                self._again_at = now + _PAUSE
