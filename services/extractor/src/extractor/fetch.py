"""Reading records by id from a shop where one record may spoil every call that it is part of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import Record
from estarsync_runtime.estar.soap import Refused, TooSlow

Retrieve = Callable[[Sequence[str]], Mapping[str, Record]]

NOT_RETURNED = "not_returned"
_CONFIRMATIONS = 3  # how often one id must fail, while another works, before it is given up
_PATIENCE = 20  # failures without one success, after which the shop is taken to be away


@dataclass(slots=True)
class Fetched:
    """Records by id, and the ids that can't be had with the code of the reason."""

    records: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Fetcher:
    """Reads the ids of one entity, and finds the ones that can't be read.

    A call that fails is made again for each half of its ids, so that a poison id ends up alone. An id is only
    given up while another one, the witness, can be read: when the shop as a whole is in trouble, none is to blame.

    Args:
        retrieve: reads records by id.
        next_witness: names an id that could be read once, another one than the id given; None where none is known.
    """

    def __init__(self, retrieve: Retrieve, next_witness: Callable[[str | None], str | None]) -> None:
        self._retrieve = retrieve
        self._next_witness = next_witness
        self._witness: str | None = None
        self._last_witness: str | None = None

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Read these ids; blocks.

        Raises:
            RetryLater: the shop is in trouble; nothing is known about the ids.
        """
        result = Fetched()
        self._bisect(ids, result)
        missing = [
            identity for identity in ids if identity not in result.records and identity not in result.failed
        ]
        if missing:  # read between two changes, or gone: a second look decides
            self._bisect(missing, result)
        result.failed.update(
            {i: NOT_RETURNED for i in missing if i not in result.records and i not in result.failed}
        )
        return result

    def guarded(self, identity: str, call: Callable[[], Mapping[str, Record]]) -> Fetched:
        """Make a call for a single id, and give the id up where only this call fails; blocks.

        Raises:
            RetryLater: the shop is in trouble; nothing is known about the id.
        """
        code = ""
        for _ in range(_CONFIRMATIONS):
            try:
                return Fetched(dict(call()))
            except RetryLater as error:
                if not self._answers():
                    raise
                code = _code(error)
        return Fetched(failed={identity: code})

    def _bisect(self, ids: Sequence[str], result: Fetched) -> None:
        waiting = [list(ids)]
        failures = 0
        suspects: list[tuple[str, RetryLater]] = []
        while waiting:
            part = waiting.pop()
            try:
                self._add(self._retrieve(part), result)
            except RetryLater as error:
                failures += 1
                if not self._answers() or (self._witness is None and failures >= _PATIENCE):
                    raise
                half = len(part) // 2
                if half:
                    waiting += [part[half:], part[:half]]
                else:
                    suspects.append((part[0], error))
        for identity, reason in suspects:
            if self._known_witness() is None:
                raise reason
            alone = self.guarded(identity, partial(self._retrieve, [identity]))
            self._add(alone.records, result)
            result.failed.update(alone.failed)

    def _add(self, found: Mapping[str, Record], result: Fetched) -> None:
        result.records.update(found)
        self._witness = next(iter(found), self._witness)

    def _known_witness(self) -> str | None:
        if self._witness is None:
            self._witness = self._next_witness(self._last_witness)
        return self._witness

    def _answers(self) -> bool:
        """Whether the shop can read the witness, or there is none to ask for."""
        witness = self._known_witness()
        if witness is None:
            return True
        try:
            self._retrieve([witness])
        except RetryLater:
            # It may be a bad witness: the next time it is another's turn.
            self._witness, self._last_witness = None, witness
            return False
        return True


def _code(error: RetryLater) -> str:
    if isinstance(error, TooSlow):
        return "too_slow"
    return "refused" if isinstance(error, Refused) else "unreadable"
