"""The learned rate: how many calls may be made now, by what Dotdigital's headers say.

Pure arithmetic over times that are passed in. The account's quota is counted per tier and minute and is
shared with the retailer's other integrations (API facts, 2.1 to 2.3), so the truth is in the headers; but they come
late, out of order, or not at all. So a call has to pass two tests:

* *Ours*: the calls that may be counted in the server's present minute are those that are open and those that came
  back since it began. With this one they are not more than the quota, so we alone never exceed it, however slow
  the answers are. Where it is not known when the minute began, it is taken to have begun a minute ago.
* *Theirs*: the least `Remaining` seen in this minute, less the calls that it can't know of, leaves one more.

And another call waits for the last one's answer, unless that takes longer than `PATIENCE`: another client may
eat what is left at any moment, and then one call is turned away, not several.

Where the answers have no such headers (the flat scheme, or a gateway that strips them), the quota is found by trial:
a little more after each full minute that went well, half as much after a refusal.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

FIRST_LIMIT = 35
"""Calls a minute before a header was seen: the smallest published quota (API facts, 2.2)."""
WINDOW = 60.0
STEP = 1.0
"""Calls a minute that are dared more after a minute without headers and without a refusal."""
PATIENCE = 5.0
"""Seconds for which a call that has no answer yet holds up the next one."""
_ROUNDING = 1.0  # Reset comes in whole seconds, rounded either way
_EARLIEST = 2.0  # an absolute Reset may be rounded up, and the Date that it is read against down
_STALE = 25.0  # an answer that took longer may speak of any of two minutes
_TURN = 0.05
_FULL = 0.9  # of the minute's calls: less says nothing of whether more would be allowed
_SCOPE = re.compile(r"[A-Za-z]{1,30}")  # it becomes a metric's label
_FEW = 8  # calls a minute: too few to leave one unused
_AT_ONCE = 10  # the part of a minute's calls that may be made at its beginning
_EPOCH_MILLISECONDS = 1e12
_EPOCH_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class QuotaHeaders:
    """What an answer says of its tier; None where it says nothing. Times are seconds to go."""

    limit: int | None = None
    remaining: int | None = None
    reset_in: float | None = None
    retry_after: float | None = None
    scope: str | None = None


def read_headers(headers: Mapping[str, str], server_now: float) -> QuotaHeaders:
    """The quota headers of an answer.

    Args:
        headers: the answer's headers, with lower-case names.
        server_now: the server's time in epoch seconds (its Date header, else our clock), against which an
            absolute Reset is read. Reset may be epoch milliseconds, epoch seconds or seconds to go.
    """
    reset = _number(headers.get("x-ratelimit-reset"))
    if reset is not None and reset > _EPOCH_MILLISECONDS:
        reset = reset / 1000 - server_now
    elif reset is not None and reset > _EPOCH_SECONDS:
        reset -= server_now
    limit, remaining = (_number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining"))
    scope = headers.get("x-ratelimit-scope")
    return QuotaHeaders(
        limit=None if limit is None else int(limit),
        remaining=None if remaining is None else int(remaining),
        reset_in=None if reset is None else max(0.0, reset),
        retry_after=_wait(headers.get("retry-after"), server_now),
        scope=scope if scope is not None and _SCOPE.fullmatch(scope) else None,
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def _wait(text: str | None, server_now: float) -> float | None:
    """Retry-After comes as seconds or as a date."""
    seconds = _number(text)
    if text is None or seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - server_now)
    except ValueError:
        return None


@dataclass(slots=True)
class Tier:
    """One tier's state. Every time is by the same monotonic clock, and never less than the one before.

    Attributes:
        share: the part of the quota that we may use; the rest is left to others.
        limit: calls a minute; None before the first header.
        guess: calls a minute where there are no headers.
        blocked_until: no call is made before.
    """

    share: float = 1.0
    limit: int | None = None
    blocked_until: float = 0.0
    guess: float = FIRST_LIMIT
    _headless: bool = False  # whether an answer came without headers
    _guessed_at: float | None = None
    _open: dict[int, float] = field(default_factory=dict)  # number of a call, and when it was made
    _back: list[float] = field(default_factory=list)  # when the calls of the last minutes came back
    _calls: int = 0
    _end: tuple[float, float] | None = None  # the present minute ends between these
    _remaining: int | None = (
        None  # calls that the present minute still allows at most, open ones not taken off
    )

    @property
    def usable(self) -> int:
        """Calls a minute that we may make."""
        return max(1, int((self.guess if self.limit is None else self.limit) * self.share))

    @property
    def interval(self) -> float:
        """Seconds for each call that we may make."""
        return WINDOW / self.usable

    def pace(self, now: float, *, spare: bool = False) -> float:
        """Seconds until a call fits into an even use of the minute, so that what is urgent never waits for the next one.

        Calls that were not made can be made later in the minute.

        Args:
            now: the time.
            spare: whether one call is to be left for what is urgent; without, some may be made at once.
        """
        self._roll(now)
        usable = self.usable
        if self._end is None:
            return 0.0
        begun = self._end[0] - WINDOW
        calls = self._ours(begun)  # that were made, and may be made before this one
        if spare:
            calls += usable > _FEW
        else:
            calls -= usable // _AT_ONCE
        due = begun + calls * WINDOW / usable
        return min(max(0.0, due - now), max(0.0, self._end[1] - now))

    def delay(self, now: float) -> float:
        """Seconds until a call may be made; 0 means now."""
        self._roll(now)
        if now < self.blocked_until:
            return self.blocked_until - now
        patient = self.limit is None and not self._headless
        if any(patient or now - made < PATIENCE for made in self._open.values()):
            return _TURN
        usable = self.usable
        ours = self._ours(now - WINDOW if self._end is None else self._end[0] - WINDOW)
        if ours >= usable:
            if self._end is not None:
                return self._end[1] - now
            leaving = len(self._back) - usable + len(self._open)
            return self._back[leaving] + WINDOW - now + _TURN if 0 <= leaving < len(self._back) else _TURN
        if self.limit is not None and self._remaining is not None and self._end is not None:
            others = max(0, self.limit - self._remaining - ours)
            left_to_them = max(0, self.limit - usable - others)
            if self._remaining - len(self._open) - left_to_them <= 0:
                return self._end[1] - now
        return 0.0

    def _ours(self, since: float) -> int:
        """Our calls that may be counted in a minute that began then."""
        return len(self._back) - bisect_left(self._back, since) + len(self._open)

    def made(self, now: float) -> int:
        """A call is about to be made; `answered` or `cancelled` must follow, with the number given here."""
        self._calls += 1
        self._open[self._calls] = now
        return self._calls

    def cancelled(self, call: int) -> None:
        """A call was not made, or was counted elsewhere."""
        del self._open[call]

    def answered(
        self, call: int, now: float, headers: QuotaHeaders | None = None, *, rejected: bool = False
    ) -> None:
        """A call came back, or was given up.

        Args:
            call: its number.
            now: the time.
            headers: what the answer said; None where no answer came.
            rejected: whether it was turned away because the quota is used up.
        """
        made = self._open.pop(call)
        self._roll(now)
        if self._back and self._back[0] < now - 3 * WINDOW:
            del self._back[: bisect_left(self._back, now - 2 * WINDOW)]
        self._back.append(now)
        known = headers is not None and self._learn(made, now, headers)
        if self.limit is None:
            self._try_more(now, rejected=rejected, answered=headers is not None)
        if not known and self._remaining is not None:
            self._remaining -= 1  # it may have been counted in this minute
        if rejected:
            waits = [] if headers is None else [headers.reset_in, headers.retry_after]
            wait = max((each for each in waits if each is not None), default=WINDOW)
            self.block(now + wait + _ROUNDING)

    def refused(self, now: float) -> None:
        """A call was refused, without headers, because too many were made: dare half as many from now on."""
        self.guess = max(1.0, self.guess / 2)
        self._guessed_at = now

    def _try_more(self, now: float, *, rejected: bool, answered: bool) -> None:
        self._headless = self._headless or answered
        if rejected:
            self.refused(now)
        elif self._guessed_at is None:
            self._guessed_at = now
        elif now - self._guessed_at >= WINDOW and self._ours(now - WINDOW) >= _FULL * self.usable:
            self.guess += STEP
            self._guessed_at = now

    def block(self, until: float) -> None:
        """Make no call before `until`."""
        self.blocked_until = max(self.blocked_until, until)

    def _learn(self, made: float, now: float, headers: QuotaHeaders) -> bool:
        """Take in what an answer says; false where it can't be placed in time."""
        if headers.limit is None or headers.remaining is None:
            return False
        if self.limit is None or headers.reset_in is None:
            self.limit = headers.limit
        if headers.reset_in is None:
            if headers.remaining == 0:
                self.block(now + WINDOW)
            return False
        if now - made > _STALE:
            return False
        low, high = made + headers.reset_in - _EARLIEST, now + headers.reset_in + _ROUNDING
        if self._end is None or low > self._end[1]:  # a newer minute
            self._end, self._remaining, self.limit = (low, high), headers.remaining, headers.limit
        elif high >= self._end[0]:
            least = headers.remaining if self._remaining is None else min(self._remaining, headers.remaining)
            self._end, self._remaining = (max(low, self._end[0]), min(high, self._end[1])), least
            self.limit = headers.limit
        return True  # an older minute's answer says nothing of this one, and was not counted in it

    def _roll(self, now: float) -> None:
        """Once the minute is over for certain, the next one ends a minute later."""
        if self._end is not None and now >= self._end[1]:
            past = WINDOW * (1 + (now - self._end[1]) // WINDOW)
            self._end, self._remaining = (self._end[0] + past, self._end[1] + past), None
