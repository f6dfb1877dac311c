"""How long imports take, learned from those that are over: so that they are asked for when they are likely done."""

from collections import deque
from dataclasses import dataclass, field

_REMEMBERED = 20
FIRST, LAST = 0.25, 30.0
"""Seconds between two questions, at least and at most."""
_SHARE = 0.05  # of the expected time: so much too late is it noticed that an import is over
_BLIND = 0.2  # the same, of the time that has passed, where nothing is expected


@dataclass(slots=True)
class ImportTimes:
    """The last imports of one kind, as a line: a time for each import, and a time for each record."""

    _seen: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _base: float = 0.0
    _each: float = 0.0
    _quickest: float = 1.0  # how an import's time compares to the line, at best

    def learn(self, records: int, seconds: float) -> None:
        """An import of so many records took so long."""
        self._seen.append((records, seconds))
        count = len(self._seen)
        mean_records = sum(each for each, _ in self._seen) / count
        mean_seconds = sum(each for _, each in self._seen) / count
        spread = sum((each - mean_records) ** 2 for each, _ in self._seen)
        slope = 0.0
        if spread:
            slope = sum((each - mean_records) * (took - mean_seconds) for each, took in self._seen) / spread
        self._each = min(max(0.0, slope), mean_seconds / max(1.0, mean_records))
        self._base = mean_seconds - self._each * mean_records
        self._quickest = min(took / max(FIRST, self._line(each)) for each, took in self._seen)

    def expected(self, records: int) -> float | None:
        """The seconds that an import of so many records is likely to take; None before one was seen."""
        return self._line(records) if self._seen else None

    def first_look(self, records: int) -> float:
        """Seconds after which it is worth a call to ask for an import: the quickest one seen would be over."""
        return max(FIRST, self._line(records) * min(1.0, self._quickest)) if self._seen else FIRST

    def next_look(self, records: int, elapsed: float) -> float:
        """Seconds until the next question, where an import is not over after `elapsed` seconds."""
        expected = self._line(records) if self._seen else 0.0
        share = _SHARE * expected if elapsed < 2 * expected else _BLIND * elapsed
        return min(LAST, max(FIRST, share))

    def _line(self, records: int) -> float:
        return self._base + self._each * records
