"""What people ask of the poller, as the control topic has it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from estarsync_core.canary import CANARY, CANARY_STATE, Canary, CanaryState
from estarsync_core.control import Backfill, Erasure, Progress, Redrive, Words, is_over, progress_key
from estarsync_core.errors import InvalidRecord, Stop

_ERASED = "erased/"
T = TypeVar("T", Backfill, Redrive)
S = TypeVar("S", bound=msgspec.Struct)


class Control(Protocol):
    """What the desk needs of `ControlReader`."""

    words: Words

    def poll(self, seconds: float = 0.0) -> set[str]:
        """Take in what is new; gives the keys that changed."""
        ...


class Desk:
    """Requests that are not over, and e-mails that were erased lately.

    Args:
        control: follows the topic.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._told: dict[str, Progress] = {}
        # At the start it is not known which of them an earlier poller has seen to.
        self._erased = {key.removeprefix(_ERASED) for key in self._all(_ERASED, Erasure)}

    @property
    def words(self) -> Words:
        """All that stands there."""
        return self._control.words

    def look(self) -> None:
        """Take in what is new; doesn't block."""
        for key in self._control.poll():
            if key.startswith(_ERASED) and self._get(key, Erasure) is not None:
                self._erased.add(key.removeprefix(_ERASED))

    @property
    def erased(self) -> frozenset[str]:
        """The hashes of e-mails whose events may still be there."""
        return frozenset(self._erased)

    def erasures_done(self, hashes: frozenset[str]) -> None:
        """Nothing is left of these."""
        self._erased -= hashes

    def canary(self) -> tuple[Canary | None, CanaryState | None]:
        """The canary that was asked for, and what was made of the last one, as far as it has come back."""
        return self._get(CANARY, Canary), self._get(CANARY_STATE, CanaryState)

    def redrive(self) -> tuple[Redrive, Progress | None] | None:
        """The oldest redrive that is the poller's and not over, and how far it has come."""
        return self._oldest([each for each in self.words.requests(Redrive) if each.by == "extractor"])

    def backfill(self) -> tuple[Backfill, Progress | None] | None:
        """The oldest backfill that is not over, and how far it has come."""
        return self._oldest(self.words.requests(Backfill))

    def told(self, progress: Progress) -> None:
        """This is written: it holds, though it may take a moment to come back."""
        self._told[progress.id] = progress

    def _oldest(self, requests: Sequence[T]) -> tuple[T, Progress | None] | None:
        for request in requests:
            come = self._told.get(request.id) or self._get(progress_key(request.id), Progress)
            if come is None or not is_over(request, come):
                return request, come
        return None

    def _all(self, prefix: str, kind: type[S]) -> dict[str, S]:
        try:
            return dict(self.words.all(prefix, kind))
        except InvalidRecord as error:
            raise Stop(_foreign(error)) from error

    def _get(self, key: str, kind: type[S]) -> S | None:
        try:
            return self.words.get(key, kind)
        except InvalidRecord as error:
            raise Stop(_foreign(error)) from error


def _foreign(error: InvalidRecord) -> str:
    return f"{error.field} holds what estarsync did not write: remove it"
