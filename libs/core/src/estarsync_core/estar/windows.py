"""How time is cut when the shop is asked what changed: half-open windows behind a cursor that never skips.

A feed's place is its cursor: every instant before it has been read. A run starts a little behind the cursor (the
overlap: rows that the shop wrote late under an older time), and walks forward in windows to the horizon,
`now - lag`. The cursor follows the end of each *completed* window. A window that fails is tried again at half its
width, so that what can't be read ends up alone in a window of one second.

All times are aware; widths and bounds are whole seconds, the finest that the shop is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from estarsync_core.profile import Windows

SMALLEST = timedelta(seconds=1)
_FEW = 4  # a window is widened when it lists fewer than a quarter of what it may
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """The instants from `start` up to, and without, `end`."""

    start: datetime
    end: datetime

    @property
    def smallest(self) -> bool:
        """Whether it can't be halved any more."""
        return self.end - self.start <= SMALLEST


@dataclass(frozen=True, slots=True)
class Place:
    """Where a feed is: all before `cursor` has been read; `position` is where this run goes on."""

    cursor: datetime
    position: datetime
    width: timedelta

    @property
    def window_hours(self) -> float:
        """The width as a checkpoint keeps it."""
        return self.width.total_seconds() / 3600


def place_at(cursor: datetime, windows: Windows, window_hours: float | None = None) -> Place:
    """A feed's place from its checkpoint, or for a new feed (no `window_hours`) with the initial width."""
    hours = windows.initial_hours if window_hours is None else min(window_hours, windows.max_hours)
    cursor = cursor.replace(microsecond=0)
    return Place(cursor, cursor, _whole(timedelta(hours=hours)))


def horizon(now: datetime, windows: Windows) -> datetime:
    """How far a run that starts now may read: the shop may still be writing what is younger."""
    return (now - timedelta(seconds=windows.lag_seconds)).replace(microsecond=0)


def begin_run(place: Place, windows: Windows) -> Place:
    """The place at the start of a run: the overlap behind the cursor."""
    return replace(place, position=place.cursor - _whole(timedelta(minutes=windows.overlap_minutes)))


def next_window(place: Place, until: datetime) -> Window | None:
    """The window to read now, or None when the run has reached `until`."""
    if place.position >= until:
        return None
    return Window(place.position, min(place.position + place.width, until))


def completed(place: Place, window: Window, listed: int, windows: Windows) -> Place:
    """The place once everything in `window` has been read; `listed` is how many ids it held."""
    width = place.width
    if listed > windows.max_ids:
        width = _whole(width / 2)
    elif listed * _FEW < windows.max_ids and window.end - window.start == width:
        # A window cut short by the horizon is no evidence that a wider one is small enough.
        width = max(width, min(width * 2, _whole(timedelta(hours=windows.max_hours))))
    return Place(max(place.cursor, window.end), window.end, width)


def failed(place: Place, window: Window) -> Place:
    """The place after `window` could not be listed: the same, at half the width."""
    return replace(place, width=_whole((window.end - window.start) / 2))


def shop_bounds(window: Window, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The window as the shop's own clock shows it: naive local times that hold every instant of it.

    Where the clock is set back inside the window, some local times stand for two instants; the bounds are then
    wide enough for both. Whether the shop counts a row exactly at the start is not published: it is asked from
    one second earlier, so it doesn't matter; but not for the smallest window, which may stand beside a second that
    can't be listed.
    """
    margin = timedelta(0) if window.smallest else SMALLEST
    offsets = list(_offsets(window, zone))
    start = window.start.replace(tzinfo=None) - _utc_offset(window.start) + min(offsets) - margin
    end = window.end.replace(tzinfo=None) - _utc_offset(window.end) + max(offsets)
    return start, end


def _offsets(window: Window, zone: ZoneInfo) -> Iterator[timedelta]:
    # A zone keeps an offset for days at least, so that a look at each day finds them all.
    instant = window.start
    while instant < window.end:
        yield _utc_offset(instant.astimezone(zone))
        instant += _DAY
    yield _utc_offset(window.end.astimezone(zone))


def _utc_offset(instant: datetime) -> timedelta:
    return instant.utcoffset() or timedelta(0)


def _whole(width: timedelta) -> timedelta:
    return max(SMALLEST, timedelta(seconds=width // SMALLEST))
