"""The learned rate: how many calls may be made now, by what Dotdigital's headers say.

Pure arithmetic over times that are passed in. The account's quota is counted per tier and minute and is
shared with the retailer's other integrations (API facts, 2.1 to 2.3), so the truth is in the headers, not in
our own count. Until a tier's first header there is one call at a time and at most `FIRST_LIMIT` a minute.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_LIMIT = 35
"""Calls a minute before a header was seen: the smallest published quota (API facts, 2.2)."""
WINDOW = 60.0
_MARGIN = 0.25
_EPOCH_MILLISECONDS = 1e12
_EPOCH_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class QuotaHeaders:
    """What an answer says of its tier; None where it says nothing."""

    limit: int | None
    remaining: int | None
    reset_in: float | None
    scope: str | None


def read_headers(headers: Mapping[str, str], server_now: float) -> QuotaHeaders:
    """The quota headers of an answer; names in any case.

    Args:
        headers: the answer's headers, with lower-case names.
        server_now: the server's time in epoch seconds (its Date header, else our clock), against which an
            absolute Reset is read. Reset may be epoch milliseconds, epoch seconds or seconds to go.
    """
    reset = _number(headers.get("x-ratelimit-reset"))
    retry_after = _number(headers.get("retry-after"))
    if reset is not None and reset > _EPOCH_MILLISECONDS:
        reset = reset / 1000 - server_now
    elif reset is not None and reset > _EPOCH_SECONDS:
        reset -= server_now
    waits = [wait for wait in (reset, retry_after) if wait is not None]
    limit, remaining = (
        _number(headers.get("x-ratelimit-limit")),
        _number(headers.get("x-ratelimit-remaining")),
    )
    return QuotaHeaders(
        limit=None if limit is None else int(limit),
        remaining=None if remaining is None else int(remaining),
        reset_in=max(0.0, *waits) if waits else None,
        scope=headers.get("x-ratelimit-scope"),
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


@dataclass(slots=True)
class Tier:
    """One tier's state. `share` is the part of the quota that we may use."""

    share: float = 1.0
    limit: int | None = None
    remaining: int = 0
    resets_at: float = 0.0
    open_calls: int = 0
    blocked_until: float = 0.0
    _sent: deque[float] = field(default_factory=deque)

    def delay(self, now: float) -> float:
        """Seconds until a call may be made; 0 means now."""
        if now < self.blocked_until:
            return self.blocked_until - now
        if self.limit is None:
            return self._delay_without_headers(now)
        if now >= self.resets_at:
            # A new minute. Calls that are still open may be counted in it.
            return 0.0 if self.open_calls < self._usable(self.limit) else _MARGIN
        reserve = self.limit - self._usable(self.limit)
        return 0.0 if self.remaining - self.open_calls - reserve > 0 else self.resets_at - now

    def sent(self, now: float) -> None:
        """A call is about to be made."""
        self.open_calls += 1
        self._sent.append(now)
        if self.limit is not None and now >= self.resets_at:
            # Until an answer says more, the minute is taken to begin now and to be ours.
            self.remaining = self.limit
            self.resets_at = now + WINDOW + _MARGIN

    def answered(self, now: float, headers: QuotaHeaders | None, *, rejected: bool) -> None:
        """A call came back, or was given up.

        Args:
            now: the time.
            headers: what the answer said; None where no answer came.
            rejected: whether it was turned away because the quota is used up.
        """
        self.open_calls -= 1
        if headers is None:
            self.remaining -= 1  # it may have been counted there
        if headers is not None and headers.limit is not None and headers.remaining is not None:
            self.limit = headers.limit
            if headers.reset_in is not None:
                resets_at = now + headers.reset_in + _MARGIN
                same_window = abs(resets_at - self.resets_at) < WINDOW / 2
                self.remaining = min(self.remaining, headers.remaining) if same_window else headers.remaining
                self.resets_at = resets_at
            else:
                self.remaining = min(self.remaining, headers.remaining)
        if rejected:
            known = headers.reset_in if headers is not None else None
            self.blocked_until = max(self.blocked_until, now + (WINDOW if known is None else known + _MARGIN))

    def block(self, until: float) -> None:
        """Make no call before `until`."""
        self.blocked_until = max(self.blocked_until, until)

    def _usable(self, limit: int) -> int:
        return max(1, int(limit * self.share))

    def _delay_without_headers(self, now: float) -> float:
        while self._sent and now - self._sent[0] >= WINDOW:
            self._sent.popleft()
        if self.open_calls > 0:
            return _MARGIN
        return 0.0 if len(self._sent) < FIRST_LIMIT else self._sent[0] + WINDOW - now
