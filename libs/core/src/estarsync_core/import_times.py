"""How long imports take, learned from those that are over: so that they are asked for when they are likely done."""

from collections import deque
from dataclasses import dataclass, field

_REMEMBERED = 20  # of about one size: live imports of a record or two do not push out what a large one took
_BITS = 3  # sizes within a factor of eight are about one
_BEYOND = 2  # times the largest import seen: further the line says nothing
FIRST, LAST = 0.25, 30.0
"""Seconds between two questions, at least and at most."""
_SHARE = 0.05  # of the expected time: so much too late is it noticed that an import is over
_BLIND = 0.2  # the same, of the time that has passed, where nothing is expected


@dataclass(slots=True)
class ImportTimes:
    """The last imports of one kind, as a line: a time for each import, and a time for each record.

    The line is not followed far beyond what was seen. Where twenty imports had one record or two, chance alone gives
    it a slope by which one of thousands would not be asked for in hours.
    """

    _sizes: dict[int, deque[tuple[int, float]]] = field(default_factory=dict)
    _largest: int = 0
    _base: float = 0.0
    _each: float = 0.0
    _quickest: float = 1.0  # how an import's time compares to the line, at best

    def learn(self, records: int, seconds: float) -> None:
        """An import of so many records took so long."""
        size = records.bit_length() // _BITS
        self._sizes.setdefault(size, deque(maxlen=_REMEMBERED)).append((records, seconds))
        seen = [each for some in self._sizes.values() for each in some]
        self._largest = max(each for each, _ in seen)
        mean_records = sum(each for each, _ in seen) / len(seen)
        mean_seconds = sum(each for _, each in seen) / len(seen)
        spread = sum((each - mean_records) ** 2 for each, _ in seen)
        slope = 0.0
        if spread:
            slope = sum((each - mean_records) * (took - mean_seconds) for each, took in seen) / spread
        self._each = min(max(0.0, slope), mean_seconds / max(1.0, mean_records))
        self._base = mean_seconds - self._each * mean_records
        self._quickest = min(took / max(FIRST, self._line(each)) for each, took in seen)

    def expected(self, records: int) -> float | None:
        """The seconds that an import of so many records is likely to take; None before one was seen."""
        return self._line(records) if self._sizes else None

    def first_look(self, records: int) -> float:
        """Seconds after which it is worth a call to ask for an import: the quickest one seen would be over."""
        return max(FIRST, self._line(records) * min(1.0, self._quickest)) if self._sizes else FIRST

    def next_look(self, records: int, elapsed: float) -> float:
        """Seconds until the next question, where an import is not over after `elapsed` seconds."""
        expected = self._line(records) if self._sizes else 0.0
        share = _SHARE * expected if elapsed < 2 * expected else _BLIND * elapsed
        return min(LAST, max(FIRST, share))

    def _line(self, records: int) -> float:
        return self._base + self._each * min(records, _BEYOND * self._largest)
