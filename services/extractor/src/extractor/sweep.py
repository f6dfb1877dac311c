"""The deep sweep: recent changes once more, long after they were read, for what the shop dated wrongly or late."""

from collections.abc import Callable
from datetime import timedelta

from typing_extensions import override

from estarsync_core.entities import Lane
from estarsync_core.estar.windows import Window, horizon, place_at
from extractor.feeds import Feed, Run, Surroundings, WindowFeed
from extractor.pages import PageReader


class SweepFeed(WindowFeed):
    """Walks over the last days again and again, in the bulk lane, behind everything else.

    Its mark says how far a sweep has come (`first_load_done` is false meanwhile, and a restart goes on from there)
    and when the last one ended.

    Args:
        name: as for every feed.
        list_ids: lists the ids of a window.
        reader: as for every feed.
        around: as for every feed.
        follows: the feed whose first load goes before.
        cadence: seconds between two sweeps.
    """

    def __init__(
        self,
        name: str,
        list_ids: Callable[[Window], list[str]],
        reader: PageReader,
        around: Surroundings,
        *,
        follows: Feed,
        cadence: float,
    ) -> None:
        super().__init__(name, list_ids, reader, around, follows=follows)
        self._cadence = cadence

    @property
    @override
    def loaded(self) -> bool:
        return False  # never live, and never before what is

    @property
    @override
    def lane(self) -> Lane:
        return Lane.BULK

    @property
    @override
    def rest(self) -> float:
        mark = self.mark
        if mark is None:
            return self._cadence
        if not mark.first_load_done:
            return 0.0
        return max(0.0, self._cadence - (self._clock.now() - mark.cursor).total_seconds())

    @override
    def _begin(self) -> Run:
        windows = self._profile.windows
        now = self._clock.now()
        mark = self.mark
        if mark is not None and not mark.first_load_done:
            place = place_at(mark.cursor, windows, mark.window_hours)
        else:
            place = place_at(now - timedelta(days=windows.deep_days), windows)
        return Run(horizon(now, windows), place)

    @override
    def _listed(self, ids: list[str]) -> None:
        """What it lists is no part of a first load."""
