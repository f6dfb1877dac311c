"""The first load's progress, for metrics, the log and the checkpoint."""

from dataclasses import dataclass

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.pace import Pace
from estarsync_runtime.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a first load has come.

    Attributes:
        records: read so far, by earlier processes too.
        ratio: how much of it is done, from 0 to 1: of the records where their number is known, else of the shop's history.
        left: within how many seconds it will be done, from and to; None where that can't be said.
    """

    records: int
    ratio: float
    left: tuple[float, float] | None


class FirstLoad:
    """Follows one entity's first load.

    Args:
        entity: whose.
        records: read by earlier processes.
        ratio: as far as they came.
        clock: the time.
        metrics: where it is shown.
    """

    def __init__(self, entity: Entity, records: int, ratio: float, clock: Clock, metrics: Metrics) -> None:
        self._entity = entity
        self._clock = clock
        self._metrics = metrics
        self._pace: Pace | None = None
        self.progress = Progress(records, ratio, None)

    def begin(self) -> None:
        """Its turn has come: time counts from now on."""
        if self._pace is None:
            self._pace = Pace(self._clock.monotonic(), self.progress.ratio)

    def knows(self, total: int) -> None:
        """The shop has so many records."""
        self._metrics.first_load_total.labels(self._entity).set(total)

    def came(self, read: int, ratio: float) -> Progress:
        """So many records more were read, and that is how much is done."""
        left = None
        if self._pace is not None:
            self._pace.saw(self._clock.monotonic(), ratio)
            left = self._pace.left(1.0 - ratio)
        self.progress = Progress(self.progress.records + read, ratio, left)
        self._metrics.first_load_records.labels(self._entity).set(self.progress.records)
        self._metrics.first_load_ratio.labels(self._entity).set(ratio)
        if self.progress.left is not None:
            for bound, seconds in zip(("low", "high"), self.progress.left, strict=True):
                self._metrics.first_load_left.labels(self._entity, bound).set(seconds)
        return self.progress

    def done(self) -> None:
        """All that there was has been read."""
        self.came(0, 1.0)
        for bound in ("low", "high"):
            self._metrics.first_load_left.labels(self._entity, bound).set(0.0)
