"""What people ask of the loader while it runs."""

from typing import Protocol

from estarsync_core.clock import Clock
from estarsync_core.control import Words
from loader.lanes import Lanes
from loader.report import Settlement

_EVERY = 1.0


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
        clock: the time.
    """

    def __init__(self, reader: Reader, lanes: Lanes, settlement: Settlement, clock: Clock) -> None:
        self._reader = reader
        self._lanes = lanes
        self._settlement = settlement
        self._clock = clock
        self._due = 0.0

    def step(self) -> None:
        """Do what was asked since; doesn't block for long."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        if self._reader.poll():
            for entity in self._lanes.refresh():
                self._settlement.release(entity)
