"""When to ask for an import's report: questions are calls, too."""

from collections.abc import Collection

from estarsync_core.entities import Entity
from estarsync_core.import_times import LAST, ImportTimes
from estarsync_runtime.dotdigital.client import DotdigitalClient
from loader.batches import Batch, State

_SHARE_OF_CALLS = 0.5  # of the quota that questions may use


class Polls:
    """Says when to ask, by how long imports have taken and by what the quota allows.

    Args:
        client: knows the quota.
        batches: all open batches, as they are at any time.
    """

    def __init__(self, client: DotdigitalClient, batches: Collection[Batch]) -> None:
        self._client = client
        self._batches = batches
        self._times = {entity: ImportTimes() for entity in Entity}

    def learn(self, batch: Batch, seconds: float) -> None:
        """A batch's import took so long."""
        self._times[batch.entity].learn(len(batch.fences), seconds)

    def first(self, batch: Batch) -> float:
        """Seconds until the first question, once an import was accepted."""
        return self._times[batch.entity].first_look(len(batch.fences))

    def next(self, batch: Batch, elapsed: float) -> float:
        """Seconds until the next question."""
        wait = self._times[batch.entity].next_look(len(batch.fences), elapsed)
        open_now = sum(each.state in {State.TO_ASK, State.ASKING} for each in self._batches)
        fair = open_now * self._client.interval(batch.status_operation) / _SHARE_OF_CALLS
        return max(wait, min(LAST, fair))
