"""The flood limit: where nearly everything becomes a dead letter, the fault is not the records'.

A wrong profile or a changed shop would send the whole history to the dead letters, and each would have to be
redriven. So a long run of dead letters, or a large share among the latest records, stops the process; the batch in
hand is rolled back and none of its dead letters is written.
"""

from collections import Counter
from dataclasses import dataclass

from estarsync_core.errors import Stop

_FEW = 1000  # records that say nothing about a share yet
_WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """When to stop.

    Attributes:
        run: so many dead letters one after the other; 0 is no limit.
        share: a larger part of the latest records (at least 1,000); 1 is no limit.
    """

    run: int
    share: float


class Flood:
    """Counts dead letters across batches."""

    def __init__(self, limits: FloodLimits) -> None:
        self.limits = limits
        self.run = 0
        self.seen = 0
        self.dead = 0

    def batch(self) -> "FloodBatch":
        """Begin a batch; what it counts is kept when it is finished, not before."""
        return FloodBatch(self)

    def keep(self, records: int, dead: int, run: int) -> None:
        """Add a batch that is committed; older records weigh less and less."""
        self.run = run
        self.seen += records
        self.dead += dead
        if self.seen > _WINDOW:
            self.seen //= 2
            self.dead //= 2


class FloodBatch:
    """The dead letters of one transaction."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._run = flood.run
        self._latest = 0
        self._reasons: Counter[tuple[str, str]] = Counter()

    def dead(self, number: int, topic: str, code: str) -> None:
        """Count a dead letter, the batch's record of this number (from 1).

        Raises:
            Stop: there are too many.
        """
        limits = self._flood.limits
        self._run = self._run + 1 if number == self._latest + 1 else 1
        self._latest = number
        self._reasons[topic, code] += 1
        if limits.run and self._run >= limits.run:
            raise Stop(
                f"{self._run} dead letters in a row, {self._most()}; {_REMEDY.format('TRANSFORMER_DEAD_LETTER_RUN')}"
            )
        seen, dead = self._flood.seen + number, self._flood.dead + self._reasons.total()
        if seen >= _FEW and dead > limits.share * seen:
            raise Stop(
                f"{dead} of the latest {seen} records are dead letters, {self._most()}; "
                f"{_REMEDY.format('TRANSFORMER_DEAD_LETTER_SHARE')}"
            )

    def finish(self, records: int) -> None:
        """Keep the counts: the batch, of so many records, is committed."""
        run = self._run if self._latest == records else 0
        self._flood.keep(records, self._reasons.total(), run)

    def _most(self) -> str:
        (topic, code), _ = self._reasons.most_common(1)[0]
        return f"most of them {code} in {topic}"


_REMEDY = "mend the profile or what the shop sends and start again, or raise {} (this batch was rolled back)"
